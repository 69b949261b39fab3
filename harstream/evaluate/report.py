"""The evaluation report: one HTML page that needs nothing beside itself.

It holds labels, times and counts, never samples. Names of labels and subjects come from data and are escaped;
the page forbids itself scripts and everything from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np

from harstream import __version__
from harstream.bundle import UNKNOWN
from harstream.errors import ConfigError
from harstream.evaluate import charts
from harstream.evaluate.metrics import Evaluation, Metrics
from harstream.evaluate.sessions import Outcome, Streaming

FILE = "report.html"
#: Timelines drawn at most; of more sessions those where the labels were wrong most often.
MAX_SESSIONS = 60
_ROWS = 4  # of a timeline, for the longest session, where that gives at least
_ROW_S = 150  # seconds a row

_MANY_LABELS = 12  # in a confusion matrix with more columns, cells are small

_PLACES = {
    "inside": "wholly inside one activity the model knows",
    "partly_other": "up to half in a stretch of a label it does not know, such as a transition",
    "mostly_other": "half or more in such a stretch",
    "elsewhere": "else: partly or wholly unlabelled, or across two activities",
}


def write(evaluation: Evaluation, folder: Path) -> Path:
    """Write ``report.html`` into a folder, made where it is missing. Raises ConfigError where that fails."""
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(render(evaluation), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"report: {path}: {error}") from error
    return path


def render(evaluation: Evaluation) -> str:
    """The whole page."""
    metrics = evaluation.metrics
    title = f"{evaluation.model} on {evaluation.data.partition(':')[0]}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="about">{escape(evaluation.source)} · {escape(evaluation.data)} · backend '
        f"{escape(evaluation.backend)} · harstream {__version__}</p>",
        "".join(f'<p class="note">{escape(note)}.</p>' for note in evaluation.notes),
        _tiles(evaluation),
        "<h2>Activities</h2>",
        _per_class(metrics),
        "<h2>Confusion</h2>",
        "<p>Windows by true activity (rows) and label (columns), with the share of the row below.</p>",
        _confusion(metrics),
        "<h2>Reliability</h2>",
        _reliability(evaluation),
        "<h2>Subjects</h2>",
        charts.subjects(evaluation.by_subject)
        if evaluation.by_subject
        else "<p>The data do not say who wore the device.</p>",
    ]
    if evaluation.stream is not None:
        parts += _stream(evaluation.stream)
    return _PAGE.format(title=escape(title), style=_STYLE + _label_style(len(metrics.labels)), body="\n".join(parts))


def comparison(stream: Streaming) -> list[tuple[str, str, str, str]]:
    """(figure, truth, published, single windows) of whole sessions, as text."""

    def row(name: str, truth: str, outcomes: Iterable[str]) -> tuple[str, str, str, str]:
        published, single = outcomes
        return name, truth, published, single

    both = (stream.published, stream.single)
    true_events = sum(one.true for one in stream.published.events)

    def seconds(outcome: Outcome, percentile: float, less: float = 0.0) -> str:
        delay = outcome.delay_s(percentile)
        return "-" if delay is None else f"{delay - less:.1f} s"

    return [
        row("accuracy", "", (_percent(o.metrics.accuracy, 2) for o in both)),
        row("macro-F1", "", (_percent(o.metrics.macro_f1, 2) for o in both)),
        row(
            "label changes per minute",
            _rate(stream.true_changes, stream.minutes),
            (_rate(o.changes, stream.minutes) for o in both),
        ),
        row("flips per minute inside activities", "0", (_rate(o.flips, stream.minutes_inside) for o in both)),
        row("delay of a change, median", "", (seconds(o, 50) for o in both)),
        row("delay of a change, 95th percentile", "", (seconds(o, 95) for o in both)),
        row("of that beyond one window, median", "", (seconds(o, 50, stream.window_s) for o in both)),
        row("of that beyond one window, 95th percentile", "", (seconds(o, 95, stream.window_s) for o in both)),
        row("changes whose label never came", f"of {stream.true_changes}", (str(o.missed) for o in both)),
        *(
            row(f"events {name}", of, (str(getattr(o.all_events, kind)) for o in both))
            for kind, name, of in (
                ("correct", "correct", f"of {true_events}"),
                *((kind, name, "") for kind, name in charts.EVENT_KINDS.items() if kind != "correct"),
                ("undecided", "undecided", ""),
            )
        ),
    ]


def doubt(stream: Streaming) -> list[tuple[str, int, int, str]]:
    """(where windows lie, how many, UNKNOWN of them, as a share)."""
    return [
        (_PLACES[place], windows, unknown, _percent(unknown / windows) if windows else "-")
        for place, (windows, unknown) in stream.doubt.items()
    ]


def _tiles(evaluation: Evaluation) -> str:
    metrics, stream = evaluation.metrics, evaluation.stream
    tiles = [
        ("accuracy", _percent(metrics.accuracy, 2)),
        ("macro-F1", _percent(metrics.macro_f1, 2)),
        ("calibration error", _percent(evaluation.reliability.error, 2)),
        ("windows", f"{metrics.windows:,}"),
    ]
    if metrics.unknown is not None:
        tiles.append((UNKNOWN, _percent(int(metrics.unknown.sum()) / max(metrics.windows, 1), 2)))
    if stream is not None:
        delay = stream.published.delay_s(50)
        tiles.append(("flips per minute", _rate(stream.published.flips, stream.minutes_inside)))
        tiles.append(("median delay", "-" if delay is None else f"{delay:.1f} s"))
    return (
        '<div class="tiles">'
        + "".join(f"<div><b>{value}</b><span>{name}</span></div>" for name, value in tiles)
        + "</div>"
    )


def _per_class(metrics: Metrics) -> str:
    rows = [
        (escape(label), f"{windows:,}", *(_bar(value) for value in values))
        for label, windows, *values in zip(
            metrics.labels,
            metrics.of_label.tolist(),
            metrics.precision.tolist(),
            metrics.recall.tolist(),
            metrics.f1.tolist(),
            strict=True,
        )
    ]
    return _table(("activity", "windows", "precision", "recall", "F1"), rows)


def _confusion(metrics: Metrics) -> str:
    table, names = metrics.confusion, list(metrics.labels)
    if metrics.unknown is not None:
        table, names = np.column_stack([table, metrics.unknown]), [*names, UNKNOWN]
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    dense = len(names) > _MANY_LABELS
    head = "".join(f"<th><span>{escape(name)}</span></th>" for name in names)
    rows = []
    for i, label in enumerate(metrics.labels):
        cells = "".join(
            f'<td class="{"hit" if i == j else "miss"}" style="--share:{share:.3f}" '
            f'title="{escape(label)} labelled {escape(names[j])}">{count:,}'
            f"<small>{_percent(share, 0 if dense else 1) if count else ''}</small></td>"
            for j, (count, share) in enumerate(zip(table[i].tolist(), shares[i].tolist(), strict=True))
        )
        rows.append(f"<tr><th>{escape(label)}</th>{cells}</tr>")
    style = "confusion dense" if dense else "confusion"
    return f'<div class="wide"><table class="{style}"><tr><td></td>{head}</tr>{"".join(rows)}</table></div>'


def _reliability(evaluation: Evaluation) -> str:
    diagrams = [("single windows, the network's own probabilities, calibrated", evaluation.reliability)]
    if evaluation.stream is not None:
        published, single = evaluation.stream.published, evaluation.stream.single
        diagrams = [
            ("labels as published", published.reliability),
            ("single windows, the network's own probabilities, calibrated", single.reliability),
        ]
    figures = (
        f"<figure>{charts.reliability(bins)}<figcaption>{escape(name)}: expected calibration error "
        f"{_percent(bins.error, 2)}</figcaption></figure>"
        for name, bins in diagrams
    )
    return (
        f"<p>How often windows were right, by confidence, in {len(evaluation.reliability.windows)} equally wide bins; "
        "a line marks how often, orange is the distance to the confidence. Below, the share of the windows in each "
        "bin.</p>"
        f'<div class="figures">{"".join(figures)}</div>'
    )


def _stream(stream: Streaming) -> list[str]:
    per_label = [
        (
            escape(label),
            str(one.true),
            str(one.published),
            *(str(getattr(one, kind)) for kind in (*charts.EVENT_KINDS, "undecided")),
        )
        for label, one in zip(stream.labels, stream.published.events, strict=True)
    ]
    return [
        "<h2>Whole sessions</h2>",
        f"<p>{len(stream.sessions)} sessions, {stream.minutes:.0f} minutes, {stream.minutes_inside:.0f} of them inside "
        "activities the model knows. A label stands from the end of its window until the next one comes. A flip is a "
        "change of label inside one activity, beyond the one by which the right label arrives.</p>",
        _table(("", "truth", "published", "single windows"), [tuple(map(escape, row)) for row in comparison(stream)]),
        f"<h2>Doubt</h2><p>How often {UNKNOWN} is published, by where the window lies.</p>",
        _table(
            ("windows that lie", "windows", UNKNOWN, "share"),
            [(escape(place), f"{n:,}", f"{unknown:,}", share) for place, n, unknown, share in doubt(stream)],
        ),
        "<h2>Delay</h2>",
        *_delay(stream),
        "<h2>Events</h2>",
        "<p>Event analysis after Ward, Lukowicz and Gellersen (2011): each activity against all the rest. Left of and "
        "with <i>correct</i> are the events of the truth, with and right of it the published ones. Time whose truth is "
        "not known, or a label the model does not know, is cut out first; published events that are nowhere true, but "
        "all of whose windows reach into such time, are <i>undecided</i>.</p>",
        charts.key((f"e-{kind}", name) for kind, name in charts.EVENT_KINDS.items()),
        charts.events(stream.labels, stream.published.events),
        _table(("activity", "true", "published", *charts.EVENT_KINDS.values(), "undecided"), per_label, "events"),
        *_timelines(stream),
    ]


def _delay(stream: Streaming) -> list[str]:
    outcome = stream.published
    followed = [change.delay_s for change in outcome.delays if change.delay_s is not None]
    rows = []
    for index, label in enumerate(stream.labels):
        of_label = [change for change in outcome.delays if change.label == index]
        if of_label:
            delays = [outcome.delay_s(percentile, index) for percentile in (50, 95)]
            missed = sum(change.delay_s is None for change in of_label)
            rows.append(
                (escape(label), str(len(of_label)), *("-" if d is None else f"{d:.1f} s" for d in delays), str(missed))
            )
    if not rows:
        return ["<p>No change from one known activity to another.</p>"]
    return [
        "<p>From where the new activity's stretch begins until its label is published; 0 where it stood already. "
        f"One window is {stream.window_s:.2f} s.</p>",
        charts.delays(followed, stream.window_s) if followed else "",
        _table(("change to", "changes", "median", "95th percentile", "label never came"), rows),
    ]


def _timelines(stream: Streaming) -> list[str]:
    sessions = sorted(stream.sessions, key=lambda session: session.accuracy)[:MAX_SESSIONS]
    sessions.sort(key=lambda session: session.name)
    longest_s = max((session.duration_ns / 1e9 for session in sessions), default=1.0)
    row_s = max(longest_s / _ROWS, min(float(_ROW_S), longest_s))
    unknown = any((session.published.label < 0).any() for session in sessions)
    other = any((session.truth.label < 0).any() for session in sessions)
    left_out = len(stream.sessions) - len(sessions)
    parts = ["<h2>Timelines</h2>"]
    if left_out:
        parts.append(
            f"<p>The {len(sessions)} sessions with the lowest accuracy; {left_out} better ones are left out.</p>"
        )
    parts.append(charts.legend(stream.labels, unknown=unknown, other=other))
    for session in sessions:
        parts.append(
            f'<section class="session"><h3>{escape(session.name)}</h3><p>subject {escape(session.subject)} · '
            f"{_percent(session.accuracy)} of {len(session.label)} windows right</p>"
            f"{charts.timeline(session, stream.labels, row_s)}</section>"
        )
    return parts


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], style: str = "") -> str:
    """A table of cells that are HTML already."""
    first = "".join(f"<th>{name}</th>" for name in head)
    body = "".join(
        "<tr><th>" + row[0] + "</th>" + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table class="{style}"><tr>{first}</tr>{body}</table></div>'


def _bar(share: float) -> str:
    bar = f'<span class="share"><i style="width:{100 * share:.1f}%"></i></span>'
    return f'{bar}<span class="number">{_percent(share)}</span>'


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _rate(count: int, minutes: float) -> str:
    return f"{count / minutes:.2f}" if minutes else "-"


def _label_style(n_labels: int) -> str:
    return "".join(
        f".l{i}{{fill:{charts.colour(i)}}}.t-l{i}{{fill:{charts.ink(charts.colour(i))}!important}}"
        for i in range(n_labels)
    )


_STYLE = """
:root { color-scheme: light dark; --ink:#1d2733; --soft:#586675; --line:#d8dee6; --page:#fff; --panel:#f4f6f9;
  --blue:59,125,216; --bar:#4c78a8; --red:#d62f3a; --gap:#f5a35a; --other:#9aa5b1; --none:#f4f6f9 }
@media (prefers-color-scheme: dark) { :root { --ink:#e3e8ee; --soft:#9aa8b7; --line:#37424f; --page:#14191f;
  --panel:#1d242c; --bar:#6f9fd4; --red:#ff6b70; --other:#66727f; --none:#1d242c } }
@media print { :root { color-scheme: light; --ink:#000; --soft:#444; --line:#ccc; --page:#fff; --panel:#f4f6f9;
  --bar:#4c78a8; --red:#d62f3a; --other:#9aa5b1; --none:#f4f6f9 } * { print-color-adjust: exact }
  body { margin: 0 !important } }
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; max-width: 1060px; margin: 2rem auto 4rem;
  padding: 0 1.2rem; color: var(--ink); background: var(--page) }
h1 { font-size: 1.7rem; margin: 0 } h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; break-after: avoid }
h3 { font-size: 1rem; margin: 1.4rem 0 0; break-after: avoid; overflow-wrap: anywhere }
p { margin: .3rem 0 .8rem; max-width: 52rem } .about, .session p { color: var(--soft); overflow-wrap: anywhere }
.session p { margin-bottom: .4rem } .session, tr { break-inside: avoid }
.note { border-left: 4px solid #f58518; padding: .2rem .8rem; background: var(--panel) }
.tiles { display: flex; flex-wrap: wrap; gap: .7rem; margin: 1.2rem 0 } .tiles div { background: var(--panel);
  border: 1px solid var(--line); border-radius: 8px; padding: .6rem 1rem; min-width: 6.2rem }
.tiles b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; white-space: nowrap }
.tiles span { color: var(--soft); font-size: .85rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .4rem 0 }
th, td { padding: .28rem .9rem .28rem 0; border-bottom: 1px solid var(--line); text-align: right; font-weight: normal;
  white-space: nowrap } th { color: var(--soft) } td:first-child, th:first-child { text-align: left; color: var(--ink) }
.share { display: inline-block; width: 90px; height: 9px; background: var(--panel); margin-right: .6rem }
.number { display: inline-block; width: 4.1rem }
.share i { display: block; height: 100%; background: var(--bar) }
.confusion td, .confusion th { padding: .3rem .5rem } .confusion td { text-align: center; min-width: 3.6rem;
  border: 1px solid var(--line) } .confusion td:first-child { border: 0 } .confusion tr:first-child th {
  vertical-align: bottom; text-align: center } .confusion tr:first-child span { writing-mode: vertical-rl;
  transform: rotate(180deg); color: var(--ink) } .confusion small { display: block; color: inherit; opacity: .85 }
.dense td { min-width: 2.2rem; padding: .15rem .1rem; font-size: .8rem } .dense td:first-child { min-width: 0 }
.dense small { font-size: .68rem }
.hit { background: rgba(var(--blue), calc(var(--share) * .55)) }
.miss { background: rgba(214, 47, 58, min(.55, calc(var(--share) * 2))) }
.events tr:first-child th { white-space: normal; vertical-align: bottom; font-size: .8rem; line-height: 1.2 }
.events td, .events th { padding-right: .6rem } .figures { display: flex; flex-wrap: wrap; gap: 1rem 3rem }
figure { margin: 0; break-inside: avoid } figcaption { color: var(--soft); max-width: 23rem; font-size: .9rem }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; max-width: none } .key { white-space: nowrap }
.key svg { width: 14px; height: 14px; vertical-align: -2px; display: inline }
svg { display: block; width: 100%; max-width: 100%; height: auto } svg text { font-size: 12px; fill: var(--ink) }
svg .small { font-size: 10.5px; fill: var(--soft) } svg .in { font-size: 10px }
.grid { stroke: var(--line); fill: none } .axis { stroke: var(--soft); fill: none } .bar { fill: var(--bar) }
.gap { fill: var(--gap); stroke: #f58518 } .right { stroke: var(--ink); stroke-width: 2.5 }
.ideal { stroke: var(--ink); stroke-dasharray: 5 4; fill: none }
.stem { stroke: var(--line); stroke-width: 2 } .dot { fill: var(--bar) } .wrong { fill: var(--red) }
.nothing { fill: var(--none); stroke: var(--line) } .other { fill: var(--other) } .unknown { fill: url(#hatch) }
.t-other { fill: #fff } .hatch { stroke: var(--soft); stroke-width: 3 } .hatch-ground { fill: var(--none) }
.e-deleted { fill: #c53a42 } .e-fragmented { fill: #f2a33c } .e-fragmented_and_merged { fill: #b7791f }
.e-merged { fill: #8e6bb0 } .e-correct { fill: #4d9a4a } .e-merging { fill: #b79fd0 }
.e-fragmenting_and_merging { fill: #d9b36c } .e-fragmenting { fill: #f8cf97 } .e-inserted { fill: #ea8b90 }
svg .count { fill: #000; text-anchor: middle }
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title><style>{style}</style></head><body>
<svg width="0" height="0" style="position:absolute;width:0;height:0" aria-hidden="true"><defs><pattern id="hatch"
 width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="hatch-ground" width="6"
 height="6"/><path class="hatch" d="M0 0v6"/></pattern></defs></svg>
{body}
</body></html>
"""
