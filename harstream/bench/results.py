"""Figures, each with its ceiling; as a table and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity, run by run, beside the ceiling of the same run.

    ``ceiling`` is what no harstream could pass by much, or what it is compared with; () where there is none.
    """

    mode: str
    name: str
    unit: str
    values: Sequence[float]
    ceiling_name: str = ""
    ceiling: Sequence[float] = ()
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def ceiling_median(self) -> float | None:
        return statistics.median(self.ceiling) if self.ceiling else None

    @property
    def ratio(self) -> float | None:
        """The median of the runs' own ratios; None without ceiling."""
        if not self.ceiling:
            return None
        return statistics.median(v / c for v, c in zip(self.values, self.ceiling, strict=True))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Figure:
        """What ``to_dict`` gave."""
        ceiling = data["ceiling"] or {"name": "", "runs": ()}
        return cls(
            data["mode"],
            data["name"],
            data["unit"],
            data["runs"],
            ceiling["name"],
            ceiling["runs"],
            data.get("details", {}),
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "mode": self.mode,
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "runs": list(self.values),
            "ceiling": {"name": self.ceiling_name, "median": self.ceiling_median, "runs": list(self.ceiling)}
            if self.ceiling
            else None,
            "ratio": self.ratio,
            **({"details": self.details} if self.details else {}),
        }


def number(value: float) -> str:
    """Three digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


HEADER = ("figure", "ratio", "harstream", "ceiling", "what the ceiling is")


def row(figure: Figure) -> tuple[str, str, str, str, str]:
    ceiling = figure.ceiling_median
    return (
        f"{figure.name}, {figure.unit}",
        "" if figure.ratio is None else number(figure.ratio),
        number(figure.median),
        "" if ceiling is None else number(ceiling),
        figure.ceiling_name,
    )


def table(figures: Sequence[Figure]) -> str:
    """For a terminal."""
    rows = [HEADER, *map(row, figures)]
    widths = [max(len(cells[i]) for cells in rows) for i in range(len(HEADER))]
    lines = []
    for cells in rows:
        aligned = [
            cell.rjust(width) if i in (1, 2, 3) else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join(aligned).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def markdown(figures: Sequence[Figure]) -> str:
    """For a README."""
    rows = [HEADER, ("---", "---:", "---:", "---:", "---"), *map(row, figures)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)
