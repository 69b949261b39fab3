"""Distribution of the values of each channel by label, as counts in bins."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording
from harstream.datasets.windows import LabelledWindows
from harstream.errors import DatasetError
from harstream.train.sweep.results import read_format

FORMAT = "harstream channels 1"
_BINS = 60
#: Share of a channel's values beyond the bins, at either end.
_TAIL = 0.002


def histograms(windows: LabelledWindows, spec: SignalSpec, data: str) -> dict[str, Any]:
    """Count the values of each channel by label in bins of equal width; return JSON values.

    Only the last stride of each window is counted, so that no sample is counted twice. ``beyond`` is the number of
    values outside the bins.

    Args:
        windows: Windows whose values are counted.
        spec: Their signal.
        data: KIND:NAME of the recordings.

    Raises:
        DatasetError: There is no window.

    """
    if not len(windows):
        raise DatasetError(f"{data}: no window lies inside an activity, so there is nothing to count")
    recent = windows.windows[:, -spec.stride_samples :]
    histogram_of = {}
    for index, channel in enumerate(spec.channels):
        values = recent[:, :, index]
        low, high = np.quantile(values, (_TAIL, 1 - _TAIL))
        edges = np.linspace(low, max(high, low + 1e-6), _BINS + 1)
        values_of = {label: values[windows.label == number].ravel() for number, label in enumerate(windows.labels)}
        counts = {label: np.histogram(own, edges)[0].tolist() for label, own in values_of.items()}
        histogram_of[channel] = {
            "low": round(float(edges[0]), 6),
            "high": round(float(edges[-1]), 6),
            "beyond": {label: len(own) - sum(counts[label]) for label, own in values_of.items()},
            "counts": counts,
        }
    return {
        "format": FORMAT,
        "data": data,
        "wearers": sorted(set(windows.subject.tolist())),
        "sample_rate_hz": spec.sample_rate_hz,
        "noise_filter": spec.noise_filter.to_dict(),
        "gravity_filter": spec.gravity_filter.to_dict(),
        "channels": histogram_of,
    }


def count(recordings: Sequence[Recording], data: str) -> dict[str, Any]:
    """Return the ``histograms`` of all nine channels of ``recordings``, which were loaded from ``data``."""
    from harstream.train.fitting.prepare import data_name, labels_of_kind, prepare

    prepared = prepare(recordings, labels=labels_of_kind(data))
    return histograms(prepared.scored, prepared.spec, data_name(data))


def to_text(counts: dict[str, Any]) -> str:
    """Return the result of ``histograms`` as JSON with one line for each channel and label."""
    channels = ",\n".join(
        f'  {json.dumps(name)}: {{"low": {entry["low"]}, "high": {entry["high"]}, '
        f'"beyond": {json.dumps(entry["beyond"])}, "counts": {{\n'
        + ",\n".join(f"   {json.dumps(label)}: {json.dumps(row)}" for label, row in entry["counts"].items())
        + "\n  }}"
        for name, entry in counts["channels"].items()
    )
    head = "".join(f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in counts.items() if key != "channels")
    return f'{{\n{head} "channels": {{\n{channels}\n }}\n}}\n'


def read(path: Path) -> dict[str, Any]:
    """Return the counts in a file that ``to_text`` made.

    Raises:
        DatasetError: The file cannot be read, or is not such a file.

    """
    return read_format(path, FORMAT, "channels", "the counts of at least one channel")
