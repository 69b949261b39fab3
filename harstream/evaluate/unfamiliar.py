"""Stretches of a recording whose windows the model found unfamiliar: unlike everything that it was trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from harstream.core.batches import Bool, Float64

#: Windows whose starts are further apart, in strides, are not in a row.
_MAX_STEP = 1.5


@dataclass(frozen=True, slots=True)
class UnfamiliarStretch:
    """Unfamiliar windows in a row, of one recording and one true label."""

    recording: str
    start_s: float  # start of the first window, from the start of the recording
    stop_s: float  # end of the last window
    label: str  # the activity that all windows lie wholly inside; empty: none that the model knows
    predicted: str  # the output of the network in most of the windows: a label, or a state between labels
    windows: int

    @property
    def duration_s(self) -> float:
        """Duration in seconds."""
        return self.stop_s - self.start_s

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of ``unfamiliar_stretches`` in ``harstream evaluate --json``."""
        return asdict(self)


def find_stretches(
    recording: Sequence[str],
    start_s: Float64,
    stop_s: Float64,
    label: Sequence[str],
    predicted: Sequence[str],
    unfamiliar: Bool,
    stride_s: float,
) -> list[UnfamiliarStretch]:
    """Return the stretches of unfamiliar windows, in the order of the windows.

    Args:
        recording: (n_windows,) name of the recording; the windows of each are together, in order of time.
        start_s: (n_windows,) start of the window.
        stop_s: (n_windows,) end of the window.
        label: (n_windows,) name of the true label; empty: none.
        predicted: (n_windows,) name of the output with the highest probability.
        unfamiliar: (n_windows,)
        stride_s: Time from one window to the next.

    """
    index = np.flatnonzero(unfamiliar).tolist()
    breaks = [
        position
        for position, (one, after) in enumerate(pairwise(index), 1)
        if (recording[one], label[one]) != (recording[after], label[after])
        or start_s[after] - start_s[one] > _MAX_STEP * stride_s
    ]
    stretches = []
    for first, last in pairwise([0, *breaks, len(index)]):
        windows = index[first:last]
        if windows:
            [(most, _)] = Counter(predicted[one] for one in windows).most_common(1)
            begin, end = windows[0], windows[-1]
            times = round(float(start_s[begin]), 3), round(float(stop_s[end]), 3)
            stretches.append(UnfamiliarStretch(recording[begin], *times, label[begin], most, len(windows)))
    return stretches


def longest_first(stretches: Sequence[UnfamiliarStretch]) -> list[UnfamiliarStretch]:
    """Return the stretches by duration, the longest first, and those of one duration by recording and time."""
    return sorted(stretches, key=lambda one: (-one.duration_s, one.recording, one.start_s))
