"""Exit codes of the commands in this folder."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence

from harstream.errors import HarstreamError


def command(main: Callable[[Sequence[str] | None], None]) -> Callable[..., int]:
    """Return a function that runs ``main`` and returns 0, or 2 after an error in one line on standard error.

    Its argument is the command line without the program; by default that of the process.
    """

    @functools.wraps(main)
    def run(arguments: Sequence[str] | None = None) -> int:
        try:
            main(arguments)
        except HarstreamError as error:
            print(f"harstream: {error}", file=sys.stderr)
            return 2
        return 0

    return run
