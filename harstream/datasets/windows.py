"""Recordings to labelled windows, through the same Engine that serves live devices.

``cut`` is the one function that training and evaluation make windows with. It feeds streams to the
Engine and keeps the due windows that lie wholly inside one segment whose label is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harstream.bundle import UNKNOWN
from harstream.core.batches import Float32, Int64, SampleBatch, WindowBatch
from harstream.core.engine import Engine
from harstream.core.spec import GYRO, SignalSpec
from harstream.datasets.base import Recording
from harstream.errors import DatasetError

#: Samples in one message to the Engine; how a stream is cut changes no window, only memory.
_MESSAGE_SAMPLES = 8192


@dataclass(frozen=True, slots=True)
class Stream:
    """A stretch of a recording, fed as a device that starts with its first sample."""

    recording: Recording
    start: int  # first sample
    stop: int  # one after the last


@dataclass(frozen=True, slots=True)
class LabelledWindows:
    """Windows and what is known of each; all arrays are aligned."""

    windows: Float32  # (n_windows, window_samples, n_channels) in g and rad/s, not normalised
    label: Int64  # (n_windows,) index into ``labels``
    subject: npt.NDArray[np.str_]  # (n_windows,)
    recording: npt.NDArray[np.str_]  # (n_windows,)
    start: Int64  # (n_windows,) the window's first sample in its recording
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.label)

    def of(self, subjects: Iterable[str]) -> LabelledWindows:
        """Only the windows of these subjects."""
        return self.take(np.flatnonzero(np.isin(self.subject, list(subjects))))

    def take(self, index: Int64) -> LabelledWindows:
        """The windows at ``index``, in its order."""
        return LabelledWindows(
            self.windows[index],
            self.label[index],
            self.subject[index],
            self.recording[index],
            self.start[index],
            self.labels,
        )


def whole(recordings: Sequence[Recording]) -> list[Stream]:
    """Each recording as one stream: the windows a device wearing it live would be classified by."""
    return [Stream(recording, 0, len(recording.samples)) for recording in recordings]


def restarted(
    recordings: Sequence[Recording],
    spec: SignalSpec,
    seed: int,
    copies: int = 4,
    piece_s: tuple[float, float] = (30, 120),
) -> list[Stream]:
    """Streams for training: each recording whole, and ``copies - 1`` times more in pieces.

    Copy ``k`` begins ``k/copies`` of a stride later, so its windows lie between those of the others,
    and it restarts after a random ``piece_s`` seconds, so that the windows that follow a start, when
    the gravity filter has not settled, are no strangers to the network.
    """
    rng = np.random.default_rng(seed)
    streams = whole(recordings)
    for recording in recordings:
        n_samples = len(recording.samples)
        low, high = (max(spec.window_samples / spec.sample_rate_hz, seconds) for seconds in piece_s)
        for copy in range(1, copies):
            start = round(copy * spec.stride_samples / copies * recording.rate_hz / spec.sample_rate_hz)
            while start < n_samples:
                stop = min(n_samples, start + round(rng.uniform(low, high) * recording.rate_hz))
                streams.append(Stream(recording, start, stop))
                start = stop
    return streams


def cut(streams: Sequence[Stream], spec: SignalSpec, labels: Sequence[str]) -> LabelledWindows:
    """The windows of ``streams`` that lie wholly inside one segment labelled with one of ``labels``.

    A window lies inside a segment by time, to half a sample, so that a recording at another rate than
    the spec's, which the Engine resamples, is cut by the same rule. No window at all is no error. Raises
    DatasetError as ``check_gyro`` does.
    """
    check_gyro((stream.recording for stream in streams), spec)
    parts = [_cut(stream, spec, tuple(labels)) for stream in streams if stream.stop > stream.start]
    parts = [part for part in parts if len(part)]
    if not parts:
        empty = np.zeros(0, np.int64)
        windows = np.zeros((0, spec.window_samples, spec.n_channels), np.float32)
        names = np.zeros(0, np.str_)
        return LabelledWindows(windows, empty, names, names, empty, tuple(labels))
    return LabelledWindows(
        np.concatenate([part.windows for part in parts]),
        np.concatenate([part.label for part in parts]),
        np.concatenate([part.subject for part in parts]),
        np.concatenate([part.recording for part in parts]),
        np.concatenate([part.start for part in parts]),
        tuple(labels),
    )


def check_gyro(recordings: Iterable[Recording], spec: SignalSpec) -> None:
    """Raises DatasetError where a recording without gyroscope meets a spec that uses one."""
    for recording in recordings:
        if spec.uses_gyro and not recording.has_gyro:
            channels = ", ".join(name for name in spec.channels if name in GYRO)
            needed = f"the channels {channels}" if channels else f"the {spec.gravity_filter.type} gravity filter"
            raise DatasetError(f"{recording.name}: recorded without a gyroscope, which {needed} must have")


def _cut(stream: Stream, spec: SignalSpec, labels: tuple[str, ...]) -> LabelledWindows:
    recording = stream.recording
    windows = due(stream, spec)
    # In samples of the recording, which need not be on the spec's grid.
    period_ns = 1e9 / recording.rate_hz
    start, end = windows.start_ns / period_ns, windows.end_ns / period_ns
    known = [(one.start, one.stop, labels.index(one.label)) for one in recording.segments if one.label in labels]
    label = inside(known, start, end, 0.5)
    index = np.flatnonzero(label >= 0)
    return LabelledWindows(
        windows.windows[index],
        label[index],
        np.full(len(index), recording.subject),
        np.full(len(index), recording.name),
        np.rint(start[index]).astype(np.int64),
        labels,
    )


def due(stream: Stream, spec: SignalSpec, start_ns: int = 0) -> WindowBatch:
    """Every window of ``stream`` that falls due, where the recording's first sample is at event time ``start_ns``."""
    recording, period_ns = stream.recording, 1e9 / stream.recording.rate_hz
    engine = Engine(spec)
    batches = [WindowBatch.empty(spec.window_samples, spec.n_channels)]
    for first in range(stream.start, stream.stop, _MESSAGE_SAMPLES):
        samples = recording.samples[first : min(first + _MESSAGE_SAMPLES, stream.stop)]
        t_ns = start_ns + round(first * period_ns)
        batches.append(
            engine.feed(SampleBatch.from_message(recording.name, samples, t_ns=t_ns, rate_hz=recording.rate_hz))
        )
    return WindowBatch.concatenate(batches)


def inside(
    stretches: Iterable[tuple[float, float, int]], start: npt.NDArray[Any], end: npt.NDArray[Any], slack: float
) -> Int64:
    """(n_windows,) the label of the stretch (start, stop, label) that each window lies wholly inside of; -1: of none.

    ``start`` and ``end`` are (n_windows,), in the unit of the stretches, to ``slack``: half a sample.
    """
    label = np.full(len(start), -1, np.int64)
    for first, stop, one in stretches:
        label[(start >= first - slack) & (end <= stop + slack)] = one
    return label


def labels_of(recordings: Sequence[Recording]) -> tuple[str, ...]:
    """The labels that occur, in alphabetical order, but for the one that says that nothing is known.

    Raises DatasetError where there are fewer than two: there is nothing to tell apart.
    """
    found = {segment.label for recording in recordings for segment in recording.segments} - {UNKNOWN}
    if len(found) < 2:
        raise DatasetError(f"the recordings have {len(found)} known labels ({', '.join(found)}): two are needed")
    return tuple(sorted(found))


def rate_of(recordings: Sequence[Recording]) -> float:
    """The one sample rate of all recordings. Raises DatasetError where they differ, naming one of each."""
    by_rate = {recording.rate_hz: recording.name for recording in recordings}
    if len(by_rate) != 1:
        found = ", ".join(f"{name} has {rate:g} Hz" for rate, name in sorted(by_rate.items()))
        one = f"--set sample_rate_hz={min(by_rate):g}"
        raise DatasetError(f"the recordings differ in sample rate ({found}): say which to train for, such as {one}")
    return next(iter(by_rate))
