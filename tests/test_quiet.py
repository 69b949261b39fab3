"""Imports of libraries that write to standard error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), *sys.path])}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("closed", ["", "import os; os.close(2); "])
def test_what_a_library_writes_while_it_is_imported_is_not_shown(tmp_path: Path, closed: str) -> None:
    (tmp_path / "chatty.py").write_text(
        "import os\ntry:\n    os.write(2, b'hello')\nexcept OSError:\n    pass\nanswer = 42\n"
    )
    code = f"{closed}from harstream.quiet import import_quietly; print(import_quietly('chatty').answer)"
    done = run(code, tmp_path)
    assert (done.stdout, done.stderr) == ("42\n", "")


def test_it_is_shown_if_the_import_fails(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import os\nos.write(2, b'no driver')\nraise ImportError('broken')\n")
    done = run("from harstream.quiet import import_quietly; import_quietly('broken')", tmp_path)
    assert done.stderr.startswith("no driver")
    assert "ImportError: broken" in done.stderr


def test_tensorflow_says_nothing_of_the_machine(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    code = "from harstream.quiet import import_tensorflow; tf = import_tensorflow(); print(float(tf.constant(1.0)))"
    done = run(code, tmp_path)
    assert (done.stdout, done.stderr) == ("1.0\n", "")
