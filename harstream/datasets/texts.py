"""Parsers that several loaders share: lines of one form, rows of numbers, and lists of numbers with names."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from harstream.core.batches import Float64
from harstream.errors import DatasetError

log = logging.getLogger("harstream.datasets")

#: Regular expression of a decimal number.
NUMBER = rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


_TEXT = re.compile(rb"^.*\S.*$", re.MULTILINE)


def find_lines(line: re.Pattern[bytes], text: bytes, where: str, form: str) -> list[Any]:
    """Return what ``findall`` finds, and log how many lines of another form are skipped. Empty lines do not count.

    Args:
        line: Matches one whole line.
        text: Content of the file, without header.
        where: Path of the file, for messages.
        form: Form of a line, for messages.

    Raises:
        DatasetError: No line matches.

    """
    rows = line.findall(text)
    malformed = len(_TEXT.findall(text)) - len(rows)
    if not rows:
        raise DatasetError(f"{where}: expected lines '{form}', got {malformed} other lines")
    if malformed:
        log.warning("%s: skipped %d malformed lines of %d", where, malformed, malformed + len(rows))
    return rows


def parse_numbers(rows: Sequence[Sequence[str | bytes]]) -> tuple[Float64, int | None]:
    """Parse rows of words, each with the same number of words.

    Returns:
        The numbers, (n_rows, n_columns), and the index of the first row with a word that is not a finite number, or
        None if there is no such row.

    """
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


def parse_names(text: bytes, where: str) -> dict[int, str]:
    """Parse lines with a number and its name, such as ``1 WALKING``, into names by number.

    Args:
        text: Content of the file.
        where: Path of the file, for messages.

    Raises:
        DatasetError: A line is malformed; the message names file and line.

    """
    names = {}
    for number, line in enumerate(text.decode(errors="replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or not words[0].isdigit():
            raise DatasetError(
                f"{where}, line {number}: expected a number and a name such as '1 WALKING', got {line.strip()!r}"
            )
        names[int(words[0])] = words[1]
    return names
