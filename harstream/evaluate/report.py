"""Evaluation report: one HTML page that needs no other file.

The page holds labels, times and counts, and no samples. Names of labels and subjects come from data sets, so they are
escaped. A content security policy in the page forbids scripts and requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np

from harstream import __version__
from harstream.core.labels import UNKNOWN
from harstream.datasets.sets import kind_of
from harstream.errors import ConfigError
from harstream.evaluate import charts
from harstream.evaluate.evaluation import Evaluation
from harstream.evaluate.metrics import Scores
from harstream.evaluate.sessions import SessionScores, TrackScores
from harstream.evaluate.unfamiliar import longest_first

FILE = "report.html"
#: Largest number of timelines. If there are more sessions, those with the lowest accuracy are drawn.
MAX_SESSIONS = 60
_MAX_ROWS = 4  # rows of the timeline of the longest session
_MIN_ROW_S = 150.0  # duration of a row in seconds, if a session is that long
_MANY_LABELS = 12  # a confusion matrix with more columns gets small cells
#: Largest number of unfamiliar stretches in the table. If there are more, the longest are listed.
MAX_STRETCHES = 50

#: Description of each place where a window can lie.
_PLACES = {
    "inside": "wholly inside one activity that the model knows",
    "partly_other": "less than half in an activity that it does not know, such as a transition",
    "mostly_other": "half or more in such an activity",
    "elsewhere": "elsewhere: in unlabelled time, in part or wholly, or across two activities",
}


def write(evaluation: Evaluation, folder: Path) -> Path:
    """Write the report into a folder, which is created if it is missing, and return the path of the file.

    Raises:
        ConfigError: The file cannot be written.

    """
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(render(evaluation), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"report: {path}: {error}") from error
    return path


def render(evaluation: Evaluation) -> str:
    """Return the page."""
    scores = evaluation.scores
    return _fill(
        "report.html",
        title=escape(f"{evaluation.model} on {evaluation.name or kind_of(evaluation.data)}"),
        style=_read("report.css") + _label_style(len(scores.labels)),
        source=escape(evaluation.source),
        data=escape(evaluation.data),
        backend=escape(evaluation.backend),
        version=__version__,
        notes="".join(f'<p class="note">{escape(note)}.</p>' for note in evaluation.notes),
        tiles="".join(f"<div><b>{value}</b><span>{name}</span></div>" for name, value in _tiles(evaluation)),
        activities=_activities(scores),
        data_sets=_data_sets(evaluation),
        confusion=_confusion(scores),
        n_bins=str(len(evaluation.reliability.windows)),
        reliability=_reliability(evaluation),
        subjects=charts.subject_chart(evaluation.by_subject)
        if evaluation.by_subject
        else "<p>The data set does not name the subjects.</p>",
        unfamiliar=_unfamiliar(evaluation),
        sessions="" if evaluation.stream is None else _sessions(evaluation.stream),
    )


def comparison_rows(stream: SessionScores) -> list[tuple[str, str, str, str]]:
    """Return (name, of the truth, of published labels, of single windows) of each score of whole sessions, as text."""
    tracks = (stream.published, stream.single)
    true_events = sum(one.true for one in stream.published.events)

    def row(name: str, truth: str, values: Iterable[str]) -> tuple[str, str, str, str]:
        published, single = values
        return name, truth, published, single

    def delay(track: TrackScores, percentile: float, minus_s: float = 0.0) -> str:
        delay_s = track.delay_s(percentile)
        return "-" if delay_s is None else f"{delay_s - minus_s:.1f} s"

    return [
        row("accuracy", "", (_percent(t.scores.accuracy, 2) for t in tracks)),
        row("macro-F1", "", (_percent(t.scores.macro_f1, 2) for t in tracks)),
        row("macro recall", "", (_percent(t.scores.macro_recall, 2) for t in tracks)),
        row(
            "label changes per minute",
            _rate(stream.true_changes, stream.minutes),
            (_rate(t.label_changes, stream.minutes) for t in tracks),
        ),
        row("flips per minute inside activities", "0", (_rate(t.flips, stream.minutes_inside) for t in tracks)),
        row("delay of a change, median", "", (delay(t, 50) for t in tracks)),
        row("delay of a change, 95th percentile", "", (delay(t, 95) for t in tracks)),
        row("delay minus one window, median", "", (delay(t, 50, stream.window_s) for t in tracks)),
        row("delay minus one window, 95th percentile", "", (delay(t, 95, stream.window_s) for t in tracks)),
        row("missed changes", f"of {stream.true_changes}", (str(t.missed) for t in tracks)),
        *(
            row(f"events {name}", of, (str(getattr(t.all_events, kind)) for t in tracks))
            for kind, name, of in (
                ("correct", "correct", f"of {true_events}"),
                *((kind, name, "") for kind, name in charts.EVENT_KINDS.items() if kind != "correct"),
                ("undecided", "undecided", ""),
            )
        ),
    ]


def abstained_rows(stream: SessionScores) -> list[tuple[str, int, int, str]]:
    """Return (where windows lie, number of windows, number of UNKNOWN, share as text) of each place."""
    return [
        (_PLACES[place], windows, unknown, _percent(unknown / windows) if windows else "-")
        for place, (windows, unknown) in stream.abstained.items()
    ]


def _tiles(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return (name, value) of the most important scores."""
    scores, stream = evaluation.scores, evaluation.stream
    tiles = [
        ("accuracy", _percent(scores.accuracy, 2)),
        ("macro-F1", _percent(scores.macro_f1, 2)),
        ("macro recall", _percent(scores.macro_recall, 2)),
        ("calibration error", _percent(evaluation.reliability.error, 2)),
        ("windows", f"{scores.windows:,}"),
    ]
    for name, counts in ((UNKNOWN, scores.unknown), ("unfamiliar", scores.unfamiliar)):
        if counts is not None:
            tiles.append((name, _percent(int(counts.sum()) / max(scores.windows, 1), 2)))
    if stream is not None:
        delay_s = stream.published.delay_s(50)
        tiles.append(("flips per minute", _rate(stream.published.flips, stream.minutes_inside)))
        tiles.append(("median delay", "-" if delay_s is None else f"{delay_s:.1f} s"))
    return tiles


def _activities(scores: Scores) -> str:
    """Return the table of precision, recall and F1 of each label, and of its unfamiliar windows if they can be told.

    A label without windows has no figures.
    """
    columns = (scores.windows_by_label, scores.precision, scores.recall, scores.f1)
    rows = [
        (escape(label), f"{windows:,}", *(_bar(value) if windows else "-" for value in values))
        for label, windows, *values in zip(scores.labels, *(column.tolist() for column in columns), strict=True)
    ]
    head = ("activity", "windows", "precision", "recall", "F1")
    if scores.unfamiliar is None:
        return _table(head, rows)
    found = zip(scores.unfamiliar.tolist(), scores.windows_by_label.tolist(), strict=True)
    cells = [f"{n:,} <small>{_percent(n / windows) if windows else ''}</small>" for n, windows in found]
    return _table((*head, "unfamiliar"), [(*row, cell) for row, cell in zip(rows, cells, strict=True)])


def _unfamiliar(evaluation: Evaluation) -> str:
    """Return the section about unfamiliar windows; nothing if the model cannot tell them, or they have no times."""
    if evaluation.stretches is None:
        return ""
    stretches = longest_first(evaluation.stretches)
    rows = [
        (
            escape(one.recording),
            f"{one.start_s:.1f} to {one.stop_s:.1f} s",
            escape(one.label) or "-",
            escape(one.predicted),
            str(one.windows),
        )
        for one in stretches[:MAX_STRETCHES]
    ]
    left_out = len(stretches) - len(rows)
    others = "" if evaluation.stream is None else " So are the others of a device that mostly has such windows."
    parts = [
        "<h2>Unfamiliar windows</h2>",
        f"<p>Windows unlike everything that the model was trained on are published as {UNKNOWN}, whatever the network "
        f"takes them for.{others} The longest stretches come first.</p>",
        _table(("recording", "time", "true activity", "the network says", "windows"), rows)
        if rows
        else "<p>There is none.</p>",
        f"<p>{left_out} shorter stretches are left out.</p>" if left_out else "",
    ]
    return "\n".join(parts)


def _data_sets(evaluation: Evaluation) -> str:
    """Return the section about data sets and placements; nothing if there is one of each."""
    head, rows = evaluation.breakdown()
    if not rows:
        return ""
    table = _table([escape(name) for name in head], [[escape(cell) for cell in row] for row in rows])
    return f"<h2>Data sets and placements</h2>\n<p>The columns of the activities are recall.</p>\n{table}"


def _confusion(scores: Scores) -> str:
    """Return the confusion matrix, with a last column for UNKNOWN if the model can abstain."""
    counts, names = scores.confusion, list(scores.labels)
    if scores.unknown is not None:
        counts, names = np.column_stack([counts, scores.unknown]), [*names, UNKNOWN]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    dense = len(names) > _MANY_LABELS
    head = "".join(f"<th><span>{escape(name)}</span></th>" for name in names)
    rows = []
    for i, label in enumerate(scores.labels):
        cells = "".join(
            f'<td class="{"hit" if i == j else "miss"}" style="--share:{share:.3f}" '
            f'title="{escape(label)} labelled {escape(names[j])}">{count:,}'
            f"<small>{_percent(share, 0 if dense else 1) if count else ''}</small></td>"
            for j, (count, share) in enumerate(zip(counts[i].tolist(), shares[i].tolist(), strict=True))
        )
        rows.append(f"<tr><th>{escape(label)}</th>{cells}</tr>")
    style = "confusion dense" if dense else "confusion"
    return f'<div class="wide"><table class="{style}"><tr><td></td>{head}</tr>{"".join(rows)}</table></div>'


def _reliability(evaluation: Evaluation) -> str:
    """Return the reliability diagrams: of single windows, and of published labels if these were scored."""
    diagrams = [("single windows, calibrated probabilities of the network", evaluation.reliability)]
    if evaluation.stream is not None:
        published, single = evaluation.stream.published, evaluation.stream.single
        diagrams = [
            ("published labels", published.reliability),
            ("single windows, calibrated probabilities of the network", single.reliability),
        ]
    return "".join(
        f"<figure>{charts.reliability_diagram(bins)}<figcaption>{escape(name)}: expected calibration error "
        f"{_percent(bins.error, 2)}</figcaption></figure>"
        for name, bins in diagrams
    )


def _sessions(stream: SessionScores) -> str:
    """Return the part of the page about whole sessions."""
    drawn = sorted(stream.sessions, key=lambda session: session.accuracy)[:MAX_SESSIONS]
    drawn.sort(key=lambda session: session.name)
    left_out = len(stream.sessions) - len(drawn)
    longest_s = max((session.duration_ns / 1e9 for session in drawn), default=1.0)
    row_s = max(longest_s / _MAX_ROWS, min(_MIN_ROW_S, longest_s))
    return _fill(
        "report_sessions.html",
        n_sessions=str(len(stream.sessions)),
        minutes=f"{stream.minutes:.0f}",
        minutes_inside=f"{stream.minutes_inside:.0f}",
        comparison=_table(
            ("", "truth", "published", "single windows"), [tuple(map(escape, row)) for row in comparison_rows(stream)]
        ),
        abstained=_table(
            ("windows that lie", "windows", UNKNOWN, "share"),
            [(escape(place), f"{n:,}", f"{unknown:,}", share) for place, n, unknown, share in abstained_rows(stream)],
        ),
        delays=_delays(stream),
        event_legend=charts.legend((f"e-{kind}", name) for kind, name in charts.EVENT_KINDS.items()),
        event_diagram=charts.event_diagram(stream.labels, stream.published.events),
        events=_events(stream),
        left_out=f"<p>Only the {len(drawn)} sessions with the lowest accuracy are shown; "
        f"{left_out} others are left out.</p>"
        if left_out
        else "",
        timeline_legend=charts.timeline_legend(
            stream.labels,
            unknown=any((session.published.label < 0).any() for session in drawn),
            other=any((session.truth.label < 0).any() for session in drawn),
        ),
        timelines="\n".join(
            f'<section class="session"><h3>{escape(session.name)}</h3><p>subject {escape(session.subject)} · '
            f"accuracy {_percent(session.accuracy)} of {len(session.true_label)} windows</p>"
            f"{charts.timeline(session, stream.labels, row_s)}</section>"
            for session in drawn
        ),
    )


def _events(stream: SessionScores) -> str:
    """Return the table of event counts by label."""
    rows = [
        (
            escape(label),
            str(one.true),
            str(one.published),
            *(str(getattr(one, kind)) for kind in (*charts.EVENT_KINDS, "undecided")),
        )
        for label, one in zip(stream.labels, stream.published.events, strict=True)
    ]
    return _table(("activity", "true", "published", *charts.EVENT_KINDS.values(), "undecided"), rows, "events")


def _delays(stream: SessionScores) -> str:
    """Return the histogram and the table of delays, or a sentence if there was no change of activity."""
    track = stream.published
    delays_s = [change.delay_s for change in track.activity_changes if change.delay_s is not None]
    rows = []
    for index, label in enumerate(stream.labels):
        changes = [change for change in track.activity_changes if change.label == index]
        if changes:
            percentiles = [track.delay_s(percentile, index) for percentile in (50, 95)]
            missed = sum(change.delay_s is None for change in changes)
            texts = ("-" if value is None else f"{value:.1f} s" for value in percentiles)
            rows.append((escape(label), str(len(changes)), *texts, str(missed)))
    if not rows:
        return "<p>There is no change from one known activity to another.</p>"
    return "\n".join(
        [
            "<p>Time from the start of the new activity until its label is published; 0 if it was published before. "
            f"One window lasts {stream.window_s:.2f} s. A change is missed if its label is not published before the "
            "new activity ends.</p>",
            charts.delay_histogram(delays_s, stream.window_s) if delays_s else "",
            _table(("change to", "changes", "median", "95th percentile", "missed"), rows),
        ]
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], style: str = "") -> str:
    """Return a table of cells that are HTML already."""
    first = "".join(f"<th>{name}</th>" for name in head)
    body = "".join(
        "<tr><th>" + row[0] + "</th>" + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table class="{style}"><tr>{first}</tr>{body}</table></div>'


def _bar(share: float) -> str:
    """Return a bar as long as ``share``, which is at most 1, with the percentage beside it."""
    bar = f'<span class="share"><i style="width:{100 * share:.1f}%"></i></span>'
    return f'{bar}<span class="number">{_percent(share)}</span>'


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _rate(count: int, minutes: float) -> str:
    return f"{count / minutes:.2f}" if minutes else "-"


def _label_style(n_labels: int) -> str:
    """Return the style rules of each label's colour and of the text on it."""
    colours = [charts.label_colour(index) for index in range(n_labels)]
    return "".join(
        f".l{i}{{fill:{colour}}}.t-l{i}{{fill:{charts.text_colour(colour)}!important}}\n"
        for i, colour in enumerate(colours)
    )


def _read(name: str) -> str:
    """Return the text of a file of this package."""
    return files("harstream.evaluate").joinpath(name).read_text(encoding="utf-8")


def _fill(name: str, **values: str) -> str:
    """Return a template of this package with its placeholders replaced by ``values``, which are HTML already."""
    return Template(_read(name)).substitute(values)
