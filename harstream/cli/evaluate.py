"""`harstream evaluate`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harstream import tables
from harstream.cli import options
from harstream.cli.progress import ProgressBar
from harstream.core.batches import Bool, Float64
from harstream.core.labels import UNKNOWN
from harstream.errors import ConfigError

if TYPE_CHECKING:
    from harstream.datasets.sets import DataSet
    from harstream.evaluate.evaluation import Evaluation
    from harstream.evaluate.sessions import SessionScores


@click.command()
@options.several_data
@options.subjects
@options.placements
@options.model
@options.backend
@click.option("--stream", is_flag=True, help="Score whole sessions with the labels that would be published.")
@options.json_file
@click.option("--report", type=options.PATH, help="Write the page report.html into this folder.", metavar="DIR")
@click.option(
    "--labels",
    "labels_path",
    type=options.PATH,
    help="With --stream: write every label, as it would be published, to a line of this file.",
    metavar="FILE",
)
def evaluate(
    data: tuple[str, ...],
    subjects: str | None,
    placements: tuple[str, ...],
    model: str,
    backend: str,
    stream: bool,
    json_path: Path | None,
    report: Path | None,
    labels_path: Path | None,
) -> None:
    """Score a model on recordings: on the windows that lie completely inside one label that it knows.

    Recordings are streamed through the engine. A data set of windows (uci-har) goes to the network directly. Several
    data sets are scored one by one and together.
    """
    from harstream import datasets, trial
    from harstream.datasets.sets import kind_of, leave_out_without_gyro, recordings_of
    from harstream.evaluate import published, scoring

    if labels_path is not None and not stream:
        raise ConfigError("--labels: it needs --stream; add it")
    for one in data:
        for option, given, needed in (
            ("--stream", stream, "whole sessions"),
            ("--subjects", subjects is not None, "recordings"),
            ("--placement", bool(placements), "recordings"),
        ):
            if given and kind_of(one) in datasets.WINDOW_KINDS:
                raise ConfigError(f"{option}: it needs {needed}, but {one} holds windows that its publisher cut")
    options.check_writable("--json", json_path)
    options.check_writable("--labels", labels_path)
    options.check_writable("--report", report, folder=True)
    classifier = trial.load(model, backend)
    sets = options.load_sets(data, subjects, placements, windows=True)
    _print_doubts(sets, classifier.bundle.spec.window_samples / classifier.bundle.spec.sample_rate_hz)
    with ProgressBar() as bar:
        evaluation = scoring.score_sets(sets, classifier, stream=stream, progress=bar.update)
    if labels_path is not None:
        recordings = recordings_of(leave_out_without_gyro(sets, classifier.bundle.spec))
        with labels_path.open("w", encoding="utf-8") as file:
            for device, payload in published.label_messages(recordings, classifier):
                file.write(json.dumps({"device": device, **json.loads(payload)}) + "\n")
    printed: set[str] = set()
    for part in (*evaluation.parts, evaluation):
        _print_scores(part, [note for note in part.notes if note not in printed])
        printed |= {*part.notes, *(f"{part.name}: {note}" for note in part.notes)}
        if part.stream is not None:
            _print_sessions(part.stream)
    head, rows = evaluation.breakdown()
    if rows:
        click.echo("by data set and placement, with the recall of each label:")
        click.echo(tables.plain(head, rows, right=range(1, len(head))))
    if json_path is not None:
        json_path.write_text(json.dumps(evaluation.to_dict(), indent=2) + "\n", encoding="utf-8")
    if report is not None:
        from harstream.evaluate.report import write

        click.echo(f"wrote {write(evaluation, report)}")


def _print_doubts(sets: Sequence[DataSet], window_s: float) -> None:
    """Print what is doubtful about recordings before they are scored in windows of ``window_s`` seconds."""
    from harstream.datasets.inspection import inspect

    for data_set in sets:
        if data_set.recordings:
            for doubt in inspect(data_set.data, data_set.recordings, window_s, for_training=False).warnings:
                click.echo(f"doubt: {data_set.name}: {doubt}")


def _print_scores(evaluation: Evaluation, notes: Sequence[str]) -> None:
    scores = evaluation.scores
    name = f"{evaluation.data}: " if not evaluation.parts else ""
    click.echo(f"{evaluation.model} ({evaluation.backend}) on {name}{evaluation.source}")
    for note in notes:
        click.echo(f"note: {note}")
    there = scores.windows_by_label > 0
    occur = there | (scores.confusion.sum(axis=0) > 0)
    of_true = "" if there.all() else f" ({int(there.sum())} labels with windows)"
    of_both = "" if occur.all() and there.all() else f" ({int(occur.sum())} labels with windows or predictions)"
    click.echo(
        f"windows {scores.windows}, accuracy {scores.accuracy:.4f}, macro-F1 {scores.macro_f1:.4f}{of_both}, "
        f"macro recall {scores.macro_recall:.4f}{of_true}, calibration error {evaluation.reliability.error:.4f}"
    )
    if scores.unfamiliar is not None:
        n = int(scores.unfamiliar.sum())
        click.echo(f"found unfamiliar, and so {UNKNOWN}: {n} windows ({100 * n / max(scores.windows, 1):.1f} %)")
    counts = scores.confusion.tolist()
    if scores.unknown is not None:
        counts = [[*row, unknown] for row, unknown in zip(counts, scores.unknown.tolist(), strict=True)]
    order = "" if scores.unknown is None else f" (in this order, then {UNKNOWN})"
    unfamiliar = [[]] * len(counts) if scores.unfamiliar is None else [[str(n)] for n in scores.unfamiliar.tolist()]
    rows = [
        (label, precision, recall, *cell, " ".join(f"{count:6d}" for count in row))
        for label, precision, recall, cell, row in zip(
            scores.labels,
            _figures(scores.precision, there),
            _figures(scores.recall, there),
            unfamiliar,
            counts,
            strict=True,
        )
    ]
    column = () if scores.unfamiliar is None else ("unfamiliar",)
    head = ("truth", "precision", "recall", *column, f"predicted as{order}")
    click.echo(tables.plain(head, rows, right=range(1, len(head) - 1)))


def _figures(values: Float64, known: Bool) -> list[str]:
    """Return the values as text, ``-`` for a label without windows."""
    return [f"{value:.4f}" if one else "-" for value, one in zip(values, known, strict=True)]


def _print_sessions(stream: SessionScores) -> None:
    from harstream.evaluate.report import abstained_rows, comparison_rows

    click.echo(f"{len(stream.sessions)} whole sessions, {stream.minutes:.0f} minutes")
    click.echo(tables.plain(("", "truth", "published", "single windows"), comparison_rows(stream), right=(1, 2, 3)))
    rows = [(place, str(windows), str(unknown), share) for place, windows, unknown, share in abstained_rows(stream)]
    click.echo(tables.plain(("windows that lie", "windows", UNKNOWN, "share"), rows, right=(1, 2, 3)))
