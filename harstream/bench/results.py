"""Figures with their ceilings, as a table and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harstream import tables


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity, round by round, with the ceiling measured in the same rounds.

    A ceiling is what harstream cannot exceed by much, or what it is compared with.
    """

    mode: str  # of harstream bench
    name: str
    unit: str
    values: Sequence[float]  # one per round
    ceiling_name: str = ""
    ceiling: Sequence[float] = ()  # one per round; empty without ceiling
    details: dict[str, Any] = field(default_factory=dict)  # further values for the JSON file

    @property
    def median(self) -> float:
        """Median of the rounds."""
        return statistics.median(self.values)

    @property
    def ceiling_median(self) -> float | None:
        """Median of the ceiling's rounds; None without ceiling."""
        return statistics.median(self.ceiling) if self.ceiling else None

    @property
    def ratio(self) -> float | None:
        """Median of the rounds' own ratios of value to ceiling; None without ceiling."""
        if not self.ceiling:
            return None
        return statistics.median(v / c for v, c in zip(self.values, self.ceiling, strict=True))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Figure:
        """Return the figure that ``to_dict`` wrote."""
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
        """Return the figure as JSON values."""
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
    """Return a positive number with three significant digits, or all digits of its integer part."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


HEAD = ("figure", "ratio", "harstream", "ceiling", "what the ceiling is")


#: Columns aligned to the right.
_RIGHT = (1, 2, 3)


def row(figure: Figure) -> tuple[str, str, str, str, str]:
    """Return the cells of a figure in the table."""
    ceiling = figure.ceiling_median
    return (
        f"{figure.name}, {figure.unit}",
        "" if figure.ratio is None else number(figure.ratio),
        number(figure.median),
        "" if ceiling is None else number(ceiling),
        figure.ceiling_name,
    )


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as a table for a terminal."""
    return tables.plain(HEAD, [row(figure) for figure in figures], _RIGHT)


def markdown(figures: Sequence[Figure]) -> str:
    """Return the figures as a Markdown table."""
    return tables.markdown(HEAD, [row(figure) for figure in figures], _RIGHT)
