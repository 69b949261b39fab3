"""Model card: the README.md of a bundle (after Mitchell et al. 2019)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harstream.bundle import INT8
from harstream.core.batches import Int64
from harstream.core.labels import UNKNOWN
from harstream.core.smoothing_section import Smoothing
from harstream.core.spec import SignalSpec
from harstream.evaluate.metrics import Scores
from harstream.tables import markdown
from harstream.train.fitting.prepare import about_kind, data_names, each_of
from harstream.train.validation.cross_validation import BY_DATA, CrossValidation

_TEMPLATE = """\
# {name} {version}

Recognises {labels} in windows of the raw signals of a wearable.

## Intended use

Live activity labels of devices worn as in the training data below, for the activities named there. The model was not
made for medical or safety decisions or for judging a person, and it was not tested for them.

## Signal

{rate:g} Hz; windows of {window} samples ({window_s:g} s), one every {stride} samples ({stride_s:g} s).
Channels, in order: {channels}.
Accelerations are in g, and `total_acc` includes gravity; angular velocities are in rad/s.

Sensors: {sensors}. Placement: {placement}. Orientation of the device: {orientation}.
{states}
## Training data

{subjects} subjects, from `{data}`; {windows} windows one stride apart were held out once per seed.{left_out}

{about}

## Accuracy

Measured by cross-validation: {method}.
{held_out} is held out once per seed.{train_only}
Within a cross-validation nothing is chosen on the subjects held out; {epochs}.
The network of this bundle was trained in the same way on all subjects. The figures below are of the networks of the
cross-validation, which were trained without the subjects they are scored on.{note}

{accuracy}

{by_data}{by_label}

Confusion matrix, all seeds together (row: true activity, column: predicted activity):

{confusion}

One temperature ({temperature:g}), fitted on the held-out subjects, calibrates the probabilities. The expected
calibration error of a fold, with the temperature of the other folds, is {calibration_error:.4f}.

A window unlike everything that the network was trained on is unfamiliar, and published as `{unknown}`. Of the windows
of the held-out subjects, {unfamiliar} are found unfamiliar, with the limits of the other folds.
{streaming}
## Limits

- The figures are of single windows that lie inside one activity. Windows across a change of activity are left out.
- {subjects} subjects are few. The accuracy of a single subject, averaged over the seeds, is {worst} to {best}.
- Other placements, people and sensors may give worse figures{or_orientation}. Measure the model on recordings of yours
  with `harstream evaluate` before you rely on it.
- A movement that is none of the activities may still get one of their labels, with high confidence: not every
  unfamiliar window is found.
"""
_STATES = """
## States between activities

Besides the activities, the network recognises {states}. They are states of the HMM, published as events; the label is
`{unknown}` meanwhile. A window that lies wholly inside an activity and is taken for such a state counts as wrong.
"""
_STREAMING = """
## As published

The smoothing `{smoothing}` (`smoothing` in `bundle.json`) makes labels steady.{figures}
"""
_FIGURES = """
Over {sessions} whole recordings, {minutes:.0f} minutes{method}:

{table}

The true activity changes {truth:.2f} times per minute.

{abstained}"""
_BY_DATA = """\
By data set, in percent, mean ± standard deviation over the seeds. Macro recall is the mean over the labels that the set
has:

{table}
{alone}
"""
#: The last line of a card that harstream writes. What follows is kept when the bundle is trained or exported again.
NOTES = "<!-- Your notes: harstream keeps what you write below this line. -->"
#: Lines about the files of the bundle, at the end of a card.
_FILE_LINES = re.compile(r"^- (There is no `model|`model\.int8\.tflite` was made again).*\n", re.MULTILINE)


def card(
    *,
    name: str,
    version: str,
    data: str | Sequence[str],
    spec: SignalSpec,
    n_subjects: int,
    n_windows: int,
    temperature: float,
    validation: CrossValidation,
    smoothing: Smoothing,
    left_out: Sequence[str] = (),
    train_only: Sequence[str] = (),
    note: str = "",
    states: Sequence[str] = (),
    placement: str = "",
    orientation: str = "fixed",
) -> str:
    """Return the text of a bundle's README.md.

    Args:
        name: Name of the bundle.
        version: Version of the bundle.
        data: KIND:PATH of each data set.
        spec: The signal.
        n_subjects: Number of subjects trained on.
        n_windows: Number of windows, one stride apart, that were held out.
        temperature: The temperature of the bundle.
        validation: The cross-validation of the bundle's config.
        smoothing: The smoothing of the bundle.
        left_out: Sentences about what was left out of the data.
        train_only: Names of data sets that were never held out.
        note: A sentence for the readers of the figures.
        states: The states between labels that the network recognises.
        placement: Where the devices were worn, in one line; empty: not known.
        orientation: ``fixed`` or ``any``.

    """
    scores, summary, config = validation.scores, validation.to_dict(), validation.config
    by_subject = validation.accuracy_by_subject()
    networks = [(network, summary[network]) for network in ("float32", "int8") if summary[network]]
    return _TEMPLATE.format(
        name=name,
        version=version,
        labels=", ".join(scores.labels),
        rate=spec.sample_rate_hz,
        window=spec.window_samples,
        window_s=spec.window_samples / spec.sample_rate_hz,
        stride=spec.stride_samples,
        stride_s=spec.stride_samples / spec.sample_rate_hz,
        channels=", ".join(f"`{channel}`" for channel in spec.channels),
        sensors="accelerometer and gyroscope" if spec.uses_gyro else "accelerometer",
        placement=placement or "not stated",
        orientation="any" if orientation == "any" else "fixed, as in the training data",
        or_orientation="" if orientation == "any" else ", and so may another orientation of the device",
        states=_STATES.format(states=", ".join(f"`{state}`" for state in states), unknown=UNKNOWN) if states else "",
        subjects=n_subjects,
        windows=n_windows,
        data=data_names(data),
        left_out="\n".join(["\n", *(f"- {sentence}." for sentence in left_out)]) if left_out else "",
        about="\n\n".join(dict.fromkeys(about_kind(one) for one in each_of(data))),
        held_out="Each data set, with all its subjects," if validation.folds == BY_DATA else "Each subject",
        train_only=f" Not {' and '.join(train_only)}: every network was trained on it." if train_only else "",
        method=summary["method"],
        epochs=f"training takes at most {config.epochs} epochs, with early stopping on some of the subjects trained on"
        if config.patience
        else f"the number of epochs is fixed ({config.epochs})",
        note=f"\n{note}" if note else "",
        accuracy=markdown(
            ("", "accuracy", "macro F1", "macro recall"),
            [
                (network, *(_figure(spread[name]) for name in ("accuracy", "macro_f1", "macro_recall")))
                for network, spread in networks
            ],
        ),
        by_data=_by_data(validation),
        by_label=_by_label(scores),
        confusion=markdown(
            ("", *scores.labels) if scores.unknown is None else ("", *scores.labels, UNKNOWN),
            [
                (label, *map(str, counts))
                for label, counts in zip(scores.labels, _confusion(scores).tolist(), strict=True)
            ],
        ),
        temperature=temperature,
        calibration_error=summary["calibration_error"],
        unknown=UNKNOWN,
        unfamiliar=f"{100 * summary['unfamiliar']:.2f} %",
        streaming=as_published(smoothing, None),
        worst=f"{100 * min(by_subject.values()):.1f} %",
        best=f"{100 * max(by_subject.values()):.1f} %",
    )


def with_files(text: str, missing: Mapping[str, str], *, exported_again: bool = False) -> str:
    """Return a card with new lines about the files of the bundle at its end, in place of the old ones.

    Args:
        text: The card.
        missing: The reason for each missing file, by file name.
        exported_again: The int8 file was calibrated without recordings.

    """
    lines = [f"- There is no `{name}`: {reason}.\n" for name, reason in missing.items()]
    if exported_again and INT8 not in missing:
        lines.append(
            f"- `{INT8}` was made again by `harstream export` and calibrated on synthetic signals; the figures above "
            "were not measured with it.\n"
        )
    return _FILE_LINES.sub("", text) + "".join(lines)


def with_notes(text: str, before: str) -> str:
    """Return a card with a place for notes at its end, and the notes that stand there in the card ``before`` it."""
    return f"{text.rstrip()}\n\n{NOTES}\n{before.partition(NOTES)[2].lstrip()}"


def as_published(smoothing: Smoothing, stream: Mapping[str, Any] | None) -> str:
    """Return the section "As published" of a model card.

    Args:
        smoothing: Smoothing of the bundle.
        stream: Scores of whole sessions (``stream`` of ``harstream evaluate --stream --json``) of held-out subjects;
            ``python -m research.smoothing.card`` makes them from a study. Without them the section has no figures, and
            it is empty if there is no smoothing.

    """
    if stream is None:
        return _STREAMING.format(smoothing=smoothing.type, figures="") if smoothing.type != "none" else ""
    unknown, unfamiliar = stream["unknown"], stream.get("strangers", {})
    shares = [
        ("wholly inside an activity", f"{100 * unknown['inside']['share']:.1f} %"),
        ("mostly outside the activities", f"{100 * unknown['mostly_other']['share']:.0f} %"),
        *((f"unfamiliar: the same recordings, {kind}", f"{100 * share:.0f} %") for kind, share in unfamiliar.items()),
    ]
    head = ("", "accuracy", "macro F1", "changes per minute", "delay, median", "delay, 95 %", "calibration error")
    rows = [
        _streaming_row("published", stream["published"]),
        _streaming_row("single windows", stream["single_windows"]),
    ]
    figures = _FIGURES.format(
        sessions=stream["sessions"],
        minutes=stream["minutes"],
        method=f", {stream['method']}" if "method" in stream else "",
        table=markdown(head, rows),
        truth=stream["true_changes_per_minute"],
        abstained=markdown(("windows", f"published as `{UNKNOWN}`"), shares, right=[1]),
    )
    return _STREAMING.format(smoothing=smoothing.type, figures=figures)


def _streaming_row(name: str, figures: Mapping[str, Any]) -> list[str]:
    delays = [figures["delay_s"][key] for key in ("median", "p95")]
    return [
        name,
        f"{100 * figures['accuracy']:.2f} %",
        f"{100 * figures['macro_f1']:.2f} %",
        f"{figures['changes_per_minute']:.2f}",
        *("-" if delay is None else f"{delay:.1f} s" for delay in delays),
        f"{figures['calibration_error']:.4f}" if "calibration_error" in figures else "",
    ]


def _figure(spread: Mapping[str, float | None]) -> str:
    """Return a share in percent, with its deviation over the seeds if there are several."""
    mean, sd = spread["mean"], spread["sd"]
    assert mean is not None
    return f"{100 * mean:.2f} %" + (f" (sd over seeds {100 * sd:.2f})" if sd is not None else "")


def _confusion(scores: Scores) -> Int64:
    """Return the confusion matrix, with a last column for windows taken for states if the network knows any."""
    return scores.confusion if scores.unknown is None else np.column_stack([scores.confusion, scores.unknown])


def _by_data(validation: CrossValidation) -> str:
    """Return the table of data sets with its heading; nothing if there is only one."""
    if not validation.scores_by_data():
        return ""
    head, rows = validation.data_table()
    alone = "".join(f"\n- {sentence}." for sentence in validation.unlearnt())
    return _BY_DATA.format(table=markdown(head, rows, right=range(1, len(head))), alone=f"{alone}\n" if alone else "")


def _by_label(scores: Scores) -> str:
    columns = zip(scores.labels, scores.windows_by_label, scores.precision, scores.recall, scores.f1, strict=True)
    # A label that only data sets have that are never held out was not scored.
    rows = [(label, *(f"{value:.3f}" if n else "-" for value in values)) for label, n, *values in columns]
    return markdown(("activity", "precision", "recall", "F1"), rows)
