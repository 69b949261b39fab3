"""The model card: a bundle's README.md (after Mitchell et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

from harstream.core.spec import SignalSpec
from harstream.train.evaluate import Metrics
from harstream.train.validate import CrossValidation

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

{wearers} wearers, {windows} windows one stride apart, from `{data}`.

{about}

## How good it is

Measured on wearers the network had not seen ({method}): each wearer held out once per seed, training for a
fixed number of epochs, nothing chosen on those held out. The shipped network is trained the same way on all
wearers, so no figure below is of its own weights. harstream's recipe (network, augmentation, epochs) was chosen by
cross-validation among 14 wearers of HAPT: of those, the figures are a little too good.

| | accuracy | macro F1 |
| --- | --- | --- |
| float32 | {accuracy} | {macro_f1} |
{int8}
| activity | precision | recall | F1 |
| --- | --- | --- | --- |
{per_class}

Confusion, rows the truth, all seeds together:

{confusion}

The probabilities are calibrated by one temperature ({temperature:g}), fitted on those held-out wearers.

## Limits

- Figures are of single windows inside one activity; a window across a change of activity belongs to neither.
- {wearers} wearers are few. The accuracy of a single wearer, averaged over the seeds, lay between {worst} and {best}.
- Another placement or orientation of the device, another population or another sensor is another question. Measure
  it with `harstream evaluate` before relying on it.
- What is none of the activities is still given one of their labels, with a confidence that may be high.
"""


def card(
    *,
    name: str,
    version: str,
    data: str,
    about: str,
    spec: SignalSpec,
    n_wearers: int,
    n_windows: int,
    temperature: float,
    validation: CrossValidation,
) -> str:
    """The text of a bundle's README.md. ``data`` is KIND:PATH, ``about`` says what it is and whose."""
    metrics, int8 = validation.metrics, validation.int8
    summary = validation.to_dict()
    by_wearer = validation.accuracy_by_wearer()
    worst, best = min(by_wearer.values()), max(by_wearer.values())
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
        wearers=n_wearers,
        windows=n_windows,
        data=data,
        about=about,
        method=summary["method"],
        accuracy=_figure(summary["float32"]["accuracy"]),
        macro_f1=_figure(summary["float32"]["macro_f1"]),
        int8=row.format(**{key: _figure(value) for key, value in summary["int8"].items()}) if int8 else "",
        per_class=_per_class(metrics),
        confusion=_confusion(metrics),
        temperature=temperature,
        worst=f"{100 * worst:.1f} %",
        best=f"{100 * best:.1f} %",
    )


def _figure(spread: dict[str, float | None]) -> str:
    mean, sd = spread["mean"], spread["sd"]
    assert mean is not None
    return f"{100 * mean:.2f} %" + (f" (sd over seeds {100 * sd:.2f})" if sd is not None else "")


def _per_class(metrics: Metrics) -> str:
    columns = zip(metrics.labels, metrics.precision, metrics.recall, metrics.f1, strict=True)
    return "\n".join(f"| {label} | {p:.3f} | {r:.3f} | {f:.3f} |" for label, p, r, f in columns)


def _confusion(metrics: Metrics) -> str:
    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(str(cell) for cell in cells) + " |"

    rows = [line([label, *counts]) for label, counts in zip(metrics.labels, metrics.confusion.tolist(), strict=True)]
    return "\n".join([line(["", *metrics.labels]), line(["---"] * (len(metrics.labels) + 1)), *rows])
