"""Section "As published" of a model card, from the results of a smoothing study.

    python -m research.smoothing.card docs/results/streaming.json --model waist

prints the section for the README of the bundle. It fits only a bundle with the recipe and the smoothing of the study.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harstream import bundle as bundles
from harstream import shipped
from harstream.train.card import as_published
from research.command import command
from research.smoothing import results


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m research.smoothing.card",
        description='Print the section "As published" of a model card from the results of a smoothing study.',
    )
    parser.add_argument("results", type=Path, help="file that research.smoothing.study wrote")
    parser.add_argument("--model", required=True, metavar="NAME|DIR", help="bundle with the smoothing of the study")
    chosen = parser.parse_args(arguments)
    smoothing = bundles.load(shipped.find(chosen.model)).smoothing
    print(as_published(smoothing, results.card_scores(results.read(chosen.results), smoothing)).strip())


if __name__ == "__main__":
    sys.exit(main())
