"""What the text files of data sets have in common: rows of numbers, and numbers with names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harstream.core.batches import Float64
from harstream.errors import DatasetError

#: A regular expression for a decimal number.
NUMBER = rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


def numbers(rows: Sequence[Sequence[str | bytes]]) -> tuple[Float64, int | None]:
    """Rows of equally many words to (n_rows, n_columns), and the first row in which not all are finite numbers."""
    try:
        values = np.array(rows).astype(np.float64)
    except ValueError:
        return np.zeros((0, 0)), next(at for at, row in enumerate(rows) if not all(map(_is_number, row)))
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    return values, int(bad[0]) if len(bad) else None


def _is_number(word: str | bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def named(text: bytes, where: str) -> dict[int, str]:
    """Lines of a number and its name, such as ``1 WALKING``. Raises DatasetError naming ``where`` and the line."""
    names = {}
    for number, line in enumerate(text.decode(errors="replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or not words[0].isdigit():
            raise DatasetError(f"{where}, line {number}: expected a number and a name, got {line.strip()!r}")
        names[int(words[0])] = words[1]
    return names
