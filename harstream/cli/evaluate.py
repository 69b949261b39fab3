"""`harstream evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harstream.bundle import BACKEND_FILES, DEFAULT_MODEL, UNKNOWN
from harstream.cli.train import _DATA, _PATH, _SUBJECTS, make_room, recordings_of
from harstream.errors import ConfigError

if TYPE_CHECKING:
    from harstream.evaluate.metrics import Evaluation
    from harstream.evaluate.sessions import Streaming


@click.command()
@_DATA
@_SUBJECTS
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Name or folder.", metavar="NAME|DIR")
@click.option("--backend", type=click.Choice(["auto", *BACKEND_FILES]), default="auto", show_default=True)
@click.option("--stream", is_flag=True, help="Score whole sessions, labelled exactly as they would be published.")
@click.option("--json", "json_path", type=_PATH, help="Write the figures here.")
@click.option("--report", type=_PATH, help="Write report.html, a page to look at, into this folder.", metavar="DIR")
@click.option(
    "--labels", "labels_path", type=_PATH, help="With --stream: write every label here, as published, one a line."
)
def evaluate(
    data: str,
    subjects: str | None,
    model: str,
    backend: str,
    stream: bool,
    json_path: Path | None,
    report: Path | None,
    labels_path: Path | None,
) -> None:
    """Score a model on recordings: windows that lie wholly inside one label it knows.

    Recordings are streamed through the engine. Of published windows (uci-har) only the network is applied.
    """
    from harstream import datasets
    from harstream.classifier import load_classifier
    from harstream.evaluate import published, scoring

    if labels_path is not None and not stream:
        raise ConfigError("--labels goes with --stream")
    of_windows = data.partition(":")[0] in datasets.WINDOW_KINDS
    if of_windows and stream:
        raise ConfigError(f"--stream needs whole sessions, and {data} holds windows cut by its publisher")
    if of_windows and subjects is not None:
        raise ConfigError(f"--wearers needs recordings, and {data} holds windows cut by its publisher")
    make_room("--json", json_path)
    make_room("--labels", labels_path)
    make_room("--report", report, folder=True)
    classifier = load_classifier(model, backend)
    if of_windows:
        evaluation = scoring.of_windows(datasets.load_windows(data), classifier, data)
    else:
        recordings = recordings_of(data, subjects)
        evaluation = (scoring.of_sessions if stream else scoring.of_recordings)(recordings, classifier, data)
        if labels_path is not None:
            with labels_path.open("w", encoding="utf-8") as file:
                for device, payload in published.messages(recordings, classifier):
                    file.write(json.dumps({"device": device, **json.loads(payload)}) + "\n")
    _echo(evaluation)
    if evaluation.stream is not None:
        _echo_stream(evaluation.stream)
    if json_path is not None:
        json_path.write_text(json.dumps(evaluation.to_dict(), indent=2) + "\n", encoding="utf-8")
    if report is not None:
        from harstream.evaluate.report import write

        click.echo(f"wrote {write(evaluation, report)}")


def _echo(evaluation: Evaluation) -> None:
    metrics = evaluation.metrics
    click.echo(f"{evaluation.model} ({evaluation.backend}) on {evaluation.source}")
    for note in evaluation.notes:
        click.echo(f"note: {note}")
    click.echo(
        f"windows {metrics.windows}, accuracy {metrics.accuracy:.4f}, macro-F1 {metrics.macro_f1:.4f}, "
        f"calibration error {evaluation.reliability.error:.4f}"
    )
    table = metrics.confusion.tolist()
    if metrics.unknown is not None:
        table = [[*row, unknown] for row, unknown in zip(table, metrics.unknown.tolist(), strict=True)]
    width = max(map(len, metrics.labels))
    last = "" if metrics.unknown is None else f" (in this order, then {UNKNOWN})"
    click.echo(f"{'truth':<{width}}  precision  recall   predicted as{last}")
    for label, precision, recall, row in zip(metrics.labels, metrics.precision, metrics.recall, table, strict=True):
        click.echo(f"{label:<{width}}  {precision:9.4f}  {recall:6.4f}   {' '.join(f'{count:6d}' for count in row)}")


def _echo_stream(stream: Streaming) -> None:
    from harstream.evaluate.report import comparison, doubt

    click.echo(f"{len(stream.sessions)} whole sessions, {stream.minutes:.0f} minutes")
    click.echo(f"{'':<42}  {'truth':>8}  {'published':>9}  single windows")
    for name, truth, published, single in comparison(stream):
        click.echo(f"{name:<42}  {truth:>8}  {published:>9}  {single:>14}")
    click.echo(f"{UNKNOWN} is published on")
    for place, windows, unknown, share in doubt(stream):
        click.echo(f"  {share:>7}  ({unknown} of {windows}) of the windows that lie {place}")
