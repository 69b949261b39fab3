"""Import of a library that writes to standard error whatever it is asked for."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import Any


def import_tensorflow() -> Any:
    """Import TensorFlow without what it writes about the machine; its errors are raised as exceptions as well."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tensorflow = import_quietly("tensorflow")
    tensorflow.get_logger().setLevel("ERROR")  # not that a network is traced again for other windows
    return tensorflow


def import_quietly(name: str) -> ModuleType:
    """Import a module; what it writes to standard error meanwhile is shown only if the import fails.

    TensorFlow writes six lines about the machine's processor and the graphics card that it does not find, before its
    log level counts. File descriptor 2 is redirected, since the lines come from C++.
    """
    if sys.modules.get(name) is not None:
        return sys.modules[name]
    with suppress(OSError, ValueError):  # no standard error
        sys.stderr.flush()
    with tempfile.TemporaryFile() as lines:
        try:
            before = os.dup(2)
        except OSError:  # it is closed
            return import_module(name)
        os.dup2(lines.fileno(), 2)
        try:
            return import_module(name)
        except BaseException:
            lines.seek(0)
            os.write(before, lines.read())
            raise
        finally:
            os.dup2(before, 2)
            os.close(before)
