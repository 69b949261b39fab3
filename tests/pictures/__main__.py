"""Make the pictures in docs/images again, from the running program: ``python -m tests.pictures [NAME]...``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from . import dashboards, live, report

#: What makes pictures, by name. Each gets the folder for the pictures and one for its own files.
MAKERS: dict[str, Callable[[Path, Path], list[Path]]] = {
    "live": live.draw,
    "crowd": live.draw_crowd,
    "report": report.draw,
    "dashboards": dashboards.draw,
}
IMAGES = Path(__file__).parents[2] / "docs" / "images"


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the pictures of the documents again.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"a part of them: {', '.join(MAKERS)}")
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder for the pictures")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in MAKERS]:
        parser.error(f"{unknown[0]!r} is none of {', '.join(MAKERS)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or MAKERS:
        print(f"{name} ...", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="harstream-pictures-") as folder:
            for path in MAKERS[name](arguments.out, Path(folder)):
                print(path)


if __name__ == "__main__":
    main()
