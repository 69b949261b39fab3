"""Table of the devices for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harstream.core.problems import Problem
from harstream.watch.devices import STRIP_S, Overview, Row
from harstream.watch.view import SORTS, View
from harstream.wire.topics import escape_unprintable

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

#: Colours that people with each kind of colour blindness can tell apart, as on the live page (Okabe and Ito).
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#56b4e9", "#d55e00", "#cc79a7", "#f0e442")
_UNKNOWN = "UNKNOWN"
#: Public name of each problem to what the table shows.
_PROBLEMS = {problem.public_name: problem.in_words for problem in Problem}
#: Lines beside the rows, and width of the terminal from which on there are strips, and their width.
LINES_BESIDE_ROWS = 10
_WIDTH_WITH_STRIP, _STRIP_CELLS = 104, 24
#: In a strip: UNKNOWN, and no label yet.
_UNKNOWN_CELL, _NO_LABEL = "[dim]░[/]", "·"
_HEADINGS = {"confidence": "conf."}
_RIGHT = ("confidence", "since", "rate", "latency")


def render(overview: Overview, view: View, width: int, footer: str = "") -> Group:
    """Return totals, table and footer.

    Args:
        overview: What is shown.
        view: Order and filters.
        width: Of the terminal, in characters.
        footer: Last line.

    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    # Narrow columns: a row with the longest label and a problem fits a terminal of 80 characters.
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    with_strip = width >= _WIDTH_WITH_STRIP
    labels = overview.labels
    for name in SORTS:
        heading = _HEADINGS.get(name, name) + (("v" if view.descending else "^") if name == view.sort else "")
        table.add_column(heading, justify="right" if name in _RIGHT else "left", no_wrap=name != "problem")
        if name == "since" and with_strip:
            table.add_column(f"last {STRIP_S / 60:.0f} minutes", no_wrap=True)
    for row in overview.rows:
        cells = _cells(row)
        if with_strip:
            cells.insert(SORTS.index("since") + 1, _strip(row, labels))
        table.add_row(*cells)
    n_hidden = overview.n_matching - len(overview.rows)
    lines: list[RenderableType] = [
        Text.from_markup(_totals(overview)),
        Text.from_markup(_activities(overview, labels)),
        table,
    ]
    if _UNKNOWN in overview.by_activity or with_strip:
        meaning = f"  {_UNKNOWN_CELL} UNKNOWN: no activity can be told"
        lines.append(Text.from_markup(meaning + (f"   {_NO_LABEL} no label then" if with_strip else ""), style="dim"))
    if n_hidden > 0:
        above = min(view.offset, n_hidden)
        more = f"  {above} more above, {n_hidden - above} more below" if above else f"  and {n_hidden} more"
        lines.append(Text(more))
    if view.text:
        is_part = overview.n_matching < overview.n_devices
        count = f": {overview.n_matching} of {overview.n_devices} devices" if is_part else ""
        lines.append(Text(f"  {escape_unprintable(view.text)}{count}"))
    if footer:
        lines.append(Text(f"  {footer}", style="dim"))
    return Group(*lines)


def _cells(row: Row) -> list[str]:
    """Return the cells of a row in the order of SORTS, as markup."""
    waiting = "[dim]none[/]" if row.problem else "[dim]none yet[/]"
    return [
        _safe(row.device),
        f"[bold]{_safe(row.label)}[/]" if row.label else waiting,
        f"{row.confidence:.2f}" if row.label not in ("", _UNKNOWN) else "",  # of UNKNOWN nothing is to be sure of
        _duration(row.lasts_s) if row.label else "",
        f"{row.rate_hz:.0f} Hz",
        f"{1000 * row.latency_s:.1f} ms" if row.latency_s else "",
        f"[red]{_safe(_PROBLEMS.get(row.problem, row.problem))}[/]" if row.problem else "",
    ]


def _strip(row: Row, labels: Sequence[str]) -> str:
    """Return the labels of the last minutes as markup, the newest on the right."""
    cells = []
    for cell in range(_STRIP_CELLS):
        ago_s = STRIP_S * (1 - (cell + 0.5) / _STRIP_CELLS)
        began = [label for began_s, label in row.strip if began_s >= ago_s]
        cells.append(_colour(began[-1], labels) if began else f"[dim]{_NO_LABEL}[/]")
    return "".join(cells)


def _colour(label: str, labels: Sequence[str]) -> str:
    """Return one character in the colour of a label; a shade of it tells the eighth label from the first."""
    if label == _UNKNOWN or label not in labels:
        return _UNKNOWN_CELL
    place = [name for name in labels if name != _UNKNOWN].index(label)
    return f"[{COLOURS[place % len(COLOURS)]}]{'█▓▒'[place // len(COLOURS) % 3]}[/]"


def _totals(overview: Overview) -> str:
    problems = f"[red]{overview.n_problems} with a problem[/]" if overview.n_problems else "none with a problem"
    parts = [
        f"[bold]harstream[/]  {overview.n_devices:,} {'device' if overview.n_devices == 1 else 'devices'}",
        problems,
        f"{overview.labels_per_s:,.1f} labels/s",
        f"{overview.samples_per_s:,.0f} samples/s",
    ]
    if len(overview.latencies_s) >= 2:
        median_ms, high_ms = (1000 * _percentile(overview.latencies_s, q) for q in (0.5, 0.95))
        parts.append(f"latency {median_ms:.1f} ms, 95 %: {high_ms:.1f} ms")
    return "  " + "   ".join(parts)


def _activities(overview: Overview, labels: Sequence[str]) -> str:
    return "  " + "   ".join(
        f"{_colour(label, labels)} {_safe(label)} {number:,}" for label, number in overview.by_activity.items()
    )


def _percentile(values: Sequence[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[round(q * (len(ordered) - 1))]


def _safe(text: str) -> str:
    """Return a text from a device as markup that shows it and does nothing else."""
    from rich.markup import escape

    return escape(escape_unprintable(text))


def _duration(seconds: float) -> str:
    """Return a duration as minutes:seconds, as hours:minutes:seconds, or in days: clocks of devices can be far off."""
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    if minutes >= 24 * 60:
        return f"{min(minutes // (24 * 60), 99_999)} d"
    return f"{minutes}:{seconds:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
