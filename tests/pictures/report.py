"""Picture of the report of `harstream evaluate`, on recordings in the folder HARSTREAM_DATA."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ..browser.chromium import Chromium


def draw(out: Path, folder: Path) -> list[Path]:
    """Evaluate `waist` on a few subjects of hapt, on which it was trained, and draw the top of the report."""
    archive = Path(os.environ.get("HARSTREAM_DATA", "")) / "hapt.zip"
    if not archive.is_file():
        print("report: HARSTREAM_DATA names no folder with hapt.zip; its picture stays as it is", file=sys.stderr)
        return []
    command = [
        sys.executable,
        "-m",
        "harstream",
        "evaluate",
        "--model",
        "waist",
        "--stream",
        "--subjects",
        "01,03,05,06",
    ]
    command += ["--data", f"hapt:{archive.name}", "--report", str(folder)]  # the report shows the path
    subprocess.run(command, cwd=archive.parent, check=True, capture_output=True)
    with Chromium() as browser:
        page = browser.page(1280, 1500)
        page.open((folder / "report.html").as_uri())
        page.screenshot(out / "report.png")
    return [out / "report.png"]
