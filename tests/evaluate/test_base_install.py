"""`harstream evaluate` needs nothing but the base dependencies: no TensorFlow, no matplotlib."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harstream.datasets.csv import CsvWriter

#: Makes the packages of the extras impossible to import, then runs the command line.
RUN = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "keras", "matplotlib", "rich", "iotcore"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
from harstream.cli import main
main()
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Half a minute of two made-up subjects who stand."""
    folder = tmp_path_factory.mktemp("recordings")
    for number, name in enumerate(("anna", "ben")):
        rng = np.random.default_rng(number)
        samples = rng.normal(scale=0.02, size=(1500, 6)).astype(np.float32)
        samples[:, 0] += 1
        with CsvWriter(folder / f"{name}_1.csv") as writer:
            writer.write(np.arange(1500) / 50, samples, "STANDING")
    return f"csv:{folder}"


@pytest.mark.parametrize("stream", [[], ["--stream"]], ids=["recordings", "stream"])
def test_recordings_are_scored_without_the_extras(data: str, stream: list[str], tmp_path: Path) -> None:
    options = ["--data", data, "--model", "waist", "--backend", "litert"]
    outputs = ["--json", str(tmp_path / "scores.json"), "--report", str(tmp_path / "page")]
    if stream:
        outputs += ["--labels", str(tmp_path / "labels")]
    command = [sys.executable, "-c", RUN, "evaluate", *options, *stream, *outputs]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["windows"] > 30
    assert ("stream" in scores) == bool(stream)
    assert "</html>" in (tmp_path / "page" / "report.html").read_text()


def test_the_blocked_packages_cannot_be_imported() -> None:
    code = RUN.replace("from harstream.cli import main\nmain()", "import matplotlib")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "matplotlib is blocked" in done.stderr
