"""Segments of gait without movement: a label of a whole file or trial covers the time in which its subject stands.

A network that learns them as walking is wrong about everybody who stands, and one that is right about them counts as
wrong.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Bool, Float32
from harstream.datasets.base import Recording, Segment

#: Activities of which every second has steps.
ACTIVITIES = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "JOGGING", "HOPPING")
#: Least standard deviation in g of |acc| over a second of gait. Slow walkers have 0.06 to 0.2, standing subjects
#: 0.03 at most.
MOVING_G = 0.05


def moving(acc: Float32, rate_hz: float) -> Bool:
    """Return where |acc| of samples (n_samples, 3) in g varies like that of gait, in the second around each."""
    if not len(acc):
        return np.zeros(0, np.bool_)
    norm: npt.NDArray[np.float64] = np.linalg.norm(acc.astype(np.float64), axis=1)
    second = min(round(rate_hz), len(norm))
    windows = np.lib.stride_tricks.sliding_window_view(norm, second)
    before = (second - 1) // 2
    return np.pad(windows.std(axis=1) >= MOVING_G, (before, second - 1 - before), "edge")


def leave_out_still(recording: Recording) -> Recording:
    """Return the recording without label where a segment of gait does not move."""
    if not any(segment.label in ACTIVITIES for segment in recording.segments):
        return recording
    moves = moving(recording.samples[:, :3], recording.rate_hz)
    kept: list[Segment] = []
    for segment in recording.segments:
        if segment.label not in ACTIVITIES:
            kept.append(segment)
            continue
        edges = np.flatnonzero(np.diff(moves[segment.start : segment.stop].astype(np.int8), prepend=0, append=0))
        kept += [
            Segment(segment.start + start, segment.start + stop, segment.label)
            for start, stop in edges.reshape(-1, 2).tolist()
        ]
    return replace(recording, segments=tuple(kept))
