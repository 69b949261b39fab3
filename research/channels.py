"""How the values of each channel are distributed, label by label: counts, never samples."""

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
from harstream.train.sweep.results import read_json

FORMAT = "harstream channels 1"
_BINS = 60
#: The share of a channel's values, at either end, that lies beyond the bins.
_TAIL = 0.002


def histograms(windows: LabelledWindows, spec: SignalSpec, data: str) -> dict[str, Any]:
    """Counts per channel and label in equally wide bins, as JSON.

    Only the last stride of each window is counted, so that no sample is twice. ``data`` is KIND:NAME. ``beyond``
    is how many values of each label no bin holds. Raises DatasetError where there is no window.
    """
    if not len(windows):
        raise DatasetError(f"{data}: there is no window to count the values of")
    recent = windows.windows[:, -spec.stride_samples :]
    found = {}
    for index, channel in enumerate(spec.channels):
        values = recent[:, :, index]
        low, high = np.quantile(values, (_TAIL, 1 - _TAIL))
        edges = np.linspace(low, max(high, low + 1e-6), _BINS + 1)
        of = {label: values[windows.label == number].ravel() for number, label in enumerate(windows.labels)}
        counts = {label: np.histogram(mine, edges)[0].tolist() for label, mine in of.items()}
        found[channel] = {
            "low": round(float(edges[0]), 6),
            "high": round(float(edges[-1]), 6),
            "beyond": {label: len(mine) - sum(counts[label]) for label, mine in of.items()},
            "counts": counts,
        }
    return {
        "format": FORMAT,
        "data": data,
        "wearers": sorted(set(windows.subject.tolist())),
        "sample_rate_hz": spec.sample_rate_hz,
        "noise_filter": spec.noise_filter.to_dict(),
        "gravity_filter": spec.gravity_filter.to_dict(),
        "channels": found,
    }


def count(recordings: Sequence[Recording], data: str) -> dict[str, Any]:
    """``histograms`` of all nine channels of ``recordings``, which came from ``data``."""
    from harstream.train.fitting.prepare import data_name, labels_of_kind, prepare

    prepared = prepare(recordings, labels=labels_of_kind(data))
    return histograms(prepared.counted, prepared.spec, data_name(data))


def to_text(found: dict[str, Any]) -> str:
    """JSON with one line for each channel and label."""
    channels = ",\n".join(
        f'  {json.dumps(name)}: {{"low": {entry["low"]}, "high": {entry["high"]}, '
        f'"beyond": {json.dumps(entry["beyond"])}, "counts": {{\n'
        + ",\n".join(f"   {json.dumps(label)}: {json.dumps(row)}" for label, row in entry["counts"].items())
        + "\n  }}"
        for name, entry in found["channels"].items()
    )
    head = "".join(f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in found.items() if key != "channels")
    return f'{{\n{head} "channels": {{\n{channels}\n }}\n}}\n'


def read(path: Path) -> dict[str, Any]:
    """What ``to_text`` wrote. Raises DatasetError."""
    found = read_json(path)
    if found.get("format") != FORMAT or not found.get("channels"):
        raise DatasetError(f"{path}: format is {found.get('format')!r}, this harstream reads {FORMAT!r}")
    return found
