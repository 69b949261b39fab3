"""The model card: a bundle's README.md (after Mitchell et al. 2019)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from harstream.bundle import INT8
from harstream.core.smoothing import Smoothing
from harstream.core.spec import SignalSpec
from harstream.evaluate.metrics import Scores
from harstream.train.validation.cross_validation import CrossValidation

_TEMPLATE = """\
# {name} {version}

{labels} from the raw signals of a wearable, window by window.

## Intended use

Live activity labels from devices worn as in the training data below, and of nothing but the activities named
there. Not for medical or safety decisions, nor for judging a person: it was not made for that, nor tested for it.

## Signal

{rate:g} Hz; windows of {window} samples ({window_s:g} s), a new one every {stride} samples ({stride_s:g} s).
Channels, in order: {channels}. Accelerations in g, gravity included in `total_acc`; angular velocity in rad/s.

## Training data

{subjects} subjects, {windows} windows one stride apart, from `{data}`.

{about}

## How good it is

Measured on subjects the network had not seen ({method}): each subject held out once per seed,
nothing chosen on those held out, {epochs}. The network here is trained the same way
without holding anybody out for that, so no figure below is of its own weights.{note}

| | accuracy | macro F1 |
| --- | --- | --- |
| float32 | {accuracy} | {macro_f1} |
{int8}
| activity | precision | recall | F1 |
| --- | --- | --- | --- |
{per_class}

Confusion, rows the truth, all seeds together:

{confusion}

The probabilities are calibrated by one temperature ({temperature:g}), fitted on those held-out subjects. The expected
calibration error of a fold's subjects, by the temperature of the other folds, is {calibration_error:.4f}.
{streaming}
## Limits

- Figures are of single windows inside one activity; a window across a change of activity belongs to neither.
- {subjects} subjects are few. The accuracy of a single subject, averaged over the seeds, lay between {worst} and
  {best}.
- Another placement or orientation of the device, another population or another sensor is another question. Measure
  it with `harstream evaluate` before relying on it.
- What is none of the activities may still be given one of their labels, with a confidence that may be high.
"""
#: Lines about files, at the end of a card.
_OF_FILES = re.compile(r"^- (There is no `model|`model\.int8\.tflite` was made again).*\n", re.MULTILINE)


_STREAMING = """
## As published

Labels are made steady by `smoothing` in `bundle.json` (`{smoothing}`). {figures}
"""
_FIGURES = """Over {sessions} whole recordings, {minutes:.0f} minutes{method}:

| | accuracy | macro F1 | changes per minute | delay, median | delay, 95 % | calibration error |
| --- | --- | --- | --- | --- | --- | --- |
{rows}

The truth changes {truth:.2f} times a minute. Of the windows mostly inside something that is none of the activities
{unknown:.0f} % are published as `UNKNOWN`, of those wholly inside an activity {abstained:.1f} %.{strangers}"""


def card(
    *,
    name: str,
    version: str,
    data: str,
    about: str,
    spec: SignalSpec,
    n_subjects: int,
    n_windows: int,
    temperature: float,
    validation: CrossValidation,
    smoothing: Smoothing | None = None,
    stream: Mapping[str, Any] | None = None,
    note: str = "",
) -> str:
    """The text of a bundle's README.md.

    ``data`` is KIND:NAME, ``about`` says what it is and whose, ``note`` what else a reader of the figures must
    know. ``stream`` is the section of that name of ``harstream evaluate --stream --json``, of held-out subjects.
    """
    metrics, int8 = validation.metrics, validation.int8
    summary, config = validation.to_dict(), validation.config
    by_subject = validation.accuracy_by_subject()
    worst, best = min(by_subject.values()), max(by_subject.values())
    row = "| int8 | {accuracy} | {macro_f1} |\n"
    return _TEMPLATE.format(
        name=name,
        version=version,
        labels=", ".join(metrics.labels),
        rate=spec.sample_rate_hz,
        window=spec.window_samples,
        window_s=spec.window_samples / spec.sample_rate_hz,
        stride=spec.stride_samples,
        stride_s=spec.stride_samples / spec.sample_rate_hz,
        channels=", ".join(f"`{channel}`" for channel in spec.channels),
        subjects=n_subjects,
        windows=n_windows,
        data=data,
        about=about,
        method=summary["method"],
        epochs=f"training for at most {config.epochs} epochs, stopped early by some of the subjects trained on"
        if config.patience
        else f"training for a fixed number of epochs ({config.epochs})",
        note=f" {note}" if note else "",
        calibration_error=summary["calibration_error"],
        streaming=as_published(smoothing or Smoothing(), stream),
        accuracy=_figure(summary["float32"]["accuracy"]),
        macro_f1=_figure(summary["float32"]["macro_f1"]),
        int8=row.format(**{key: _figure(value) for key, value in summary["int8"].items()}) if int8 else "",
        per_class=_per_class(metrics),
        confusion=_confusion(metrics),
        temperature=temperature,
        worst=f"{100 * worst:.1f} %",
        best=f"{100 * best:.1f} %",
    )


def with_files(text: str, missing: Mapping[str, str], *, exported_again: bool = False) -> str:
    """A card with what is to be said of the bundle's files at its end, and nothing else that was said of them.

    ``missing`` is why there is no file of a name; ``exported_again`` that int8 was calibrated without recordings.
    """
    lines = [f"- There is no `{name}`: {reason}.\n" for name, reason in missing.items()]
    if exported_again and INT8 not in missing:
        made = f"- `{INT8}` was made again by `harstream export` and calibrated on made-up signals"
        lines.append(f"{made}: no figure above is of it.\n")
    return _OF_FILES.sub("", text) + "".join(lines)


def as_published(smoothing: Smoothing, stream: Mapping[str, Any] | None) -> str:
    """Return the section "As published" of a model card.

    Args:
        smoothing: Smoothing of the bundle.
        stream: Scores of whole sessions (``stream`` of ``harstream evaluate --stream --json``) of held-out subjects;
            ``python -m research.smoothing.card`` makes them from a study. Without them the section has no figures, and
            it is empty if there is no smoothing.

    """
    if stream is None:
        return (
            _STREAMING.format(smoothing=smoothing.type, figures="").replace(" \n", "\n")
            if smoothing.type != "none"
            else ""
        )

    def row(name: str, figures: Mapping[str, Any]) -> str:
        delays = [figures["delay_s"][key] for key in ("median", "p95")]
        cells = [
            name,
            f"{100 * figures['accuracy']:.2f} %",
            f"{100 * figures['macro_f1']:.2f} %",
            f"{figures['changes_per_minute']:.2f}",
            *("-" if delay is None else f"{delay:.1f} s" for delay in delays),
            f"{figures['calibration_error']:.4f}" if "calibration_error" in figures else "",
        ]
        return f"| {' | '.join(cells)} |"

    unknown, strangers = stream["unknown"], stream.get("strangers", {})
    shares = ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in strangers.items())
    figures = _FIGURES.format(
        sessions=stream["sessions"],
        minutes=stream["minutes"],
        method=f", {stream['method']}" if "method" in stream else "",
        rows="\n".join([row("published", stream["published"]), row("single windows", stream["single_windows"])]),
        truth=stream["true_changes_per_minute"],
        unknown=100 * unknown["mostly_other"]["share"],
        abstained=100 * unknown["inside"]["share"],
        strangers=f" Of the same recordings made strange: {shares}." if strangers else "",
    )
    return _STREAMING.format(smoothing=smoothing.type, figures=figures)


def _figure(spread: dict[str, float | None]) -> str:
    mean, sd = spread["mean"], spread["sd"]
    assert mean is not None
    return f"{100 * mean:.2f} %" + (f" (sd over seeds {100 * sd:.2f})" if sd is not None else "")


def _per_class(metrics: Scores) -> str:
    columns = zip(metrics.labels, metrics.precision, metrics.recall, metrics.f1, strict=True)
    return "\n".join(f"| {label} | {p:.3f} | {r:.3f} | {f:.3f} |" for label, p, r, f in columns)


def _confusion(metrics: Scores) -> str:
    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(str(cell) for cell in cells) + " |"

    rows = [line([label, *counts]) for label, counts in zip(metrics.labels, metrics.confusion.tolist(), strict=True)]
    return "\n".join([line(["", *metrics.labels]), line(["---"] * (len(metrics.labels) + 1)), *rows])
