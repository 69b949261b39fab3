"""Tables for documents and terminals, and the form in which a mean and its spread are written."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Return a Markdown table without a final line break; ``right`` are the columns aligned to the right.

    A ``|`` in a cell is escaped.
    """
    rule = ["---:" if column in right else "---" for column in range(len(head))]
    lines = [[re.sub(r"(?<!\\)\|", r"\|", cell) for cell in cells] for cells in (head, rule, *rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def plain(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Return a table for a terminal: columns padded with spaces, a rule below the head."""
    widths = [max(len(cells[column]) for cells in (head, *rows)) for column in range(len(head))]
    lines = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in (head, *rows)
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation; the latter is None for a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def spread(values: Sequence[float], decimals: int = 2) -> str:
    """Return ``97.12 ± 0.10``: mean and sample standard deviation; a single value has no deviation."""
    mean, deviation = mean_and_deviation(values)
    return f"{mean:.{decimals}f}" + ("" if deviation is None else f" ± {deviation:.{decimals}f}")
