"""Recordings cut into labelled windows by the same Engine that serves live devices.

``cut_windows`` is the one function by which training and evaluation make windows. It feeds streams to the Engine and
keeps the due windows that lie wholly inside one segment with a known label, and on demand those that lie for the most
part in a state between labels, such as a postural transition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Float32, Int64, SampleBatch, WindowBatch
from harstream.core.engine import Engine
from harstream.core.label_table import simplify
from harstream.core.labels import UNKNOWN
from harstream.core.spec import GYRO, SignalSpec
from harstream.datasets.base import Recording
from harstream.errors import DatasetError
from harstream.progress import Progress, silent, track_progress

#: Samples in one message to the Engine. The windows do not depend on it, only the memory in use.
_MESSAGE_SAMPLES = 8192
#: Least share of a window of a state that lies inside the state's segment. A transition of HAPT lasts 1.5 to 7 s, and
#: a window 2.56 s: of the windows that lie there with half their length, a third lie wholly inside. With half, the
#: windows of a state last as long as the state, as the HMM expects. On 14 subjects, each half by a network trained on
#: the other for 6 epochs, 0.5 publishes 99.2 % of the windows inside activities right, 0.35 99.1 %, and 0.75 98.9 %.
STATE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class RecordingStream:
    """Part of a recording, fed to the Engine as a device whose first sample is the first of this part."""

    recording: Recording
    start: int  # index of the first sample
    stop: int  # index after the last sample

    @classmethod
    def whole(cls, recording: Recording) -> RecordingStream:
        """Return the stream of all samples of ``recording``."""
        return cls(recording, 0, len(recording.samples))


@dataclass(frozen=True, slots=True)
class LabelledWindows:
    """Windows with label, subject and origin; all arrays are aligned."""

    windows: Float32  # (n_windows, window_samples, n_channels) in g and rad/s, not normalised
    label: Int64  # (n_windows,) index into ``outputs``
    subject: npt.NDArray[np.str_]  # (n_windows,) name of the subject
    recording: npt.NDArray[np.str_]  # (n_windows,) name of the recording
    data_set: npt.NDArray[np.str_]  # (n_windows,) name of the data set
    start: Int64  # (n_windows,) index of the window's first sample in its recording
    labels: tuple[str, ...]
    states: tuple[str, ...] = ()  # further outputs of a network trained on these windows

    def __len__(self) -> int:
        return len(self.label)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs of a network trained on these windows: the labels, then the states."""
        return (*self.labels, *self.states)

    def of_subjects(self, subjects: Iterable[str]) -> LabelledWindows:
        """Return the windows of these subjects."""
        return self.select(np.flatnonzero(np.isin(self.subject, list(subjects))))

    def select(self, index: Int64) -> LabelledWindows:
        """Return the windows at ``index``, (n_selected,), in its order."""
        return LabelledWindows(
            self.windows[index],
            self.label[index],
            self.subject[index],
            self.recording[index],
            self.data_set[index],
            self.start[index],
            self.labels,
            self.states,
        )


def whole_streams(recordings: Iterable[Recording]) -> list[RecordingStream]:
    """Return each recording as one stream: its windows are those of a device that sends the recording live."""
    return [RecordingStream.whole(recording) for recording in recordings]


def restarted_streams(
    recordings: Sequence[Recording],
    spec: SignalSpec,
    seed: int,
    copies: int = 4,
    piece_s: tuple[float, float] = (30, 120),
) -> list[RecordingStream]:
    """Return streams for training: each recording whole, and ``copies - 1`` times more in pieces.

    The pieces of copy ``k`` start ``k/copies`` of a stride later, so its windows lie between those of the other copies.
    Each piece is fed as a device that has just started. So the network also learns from windows that follow a start,
    in which the gravity filter has not settled.

    Args:
        recordings: Recordings to stream.
        spec: Signal of the windows.
        seed: Seed of the durations of pieces.
        copies: Number of times that each recording is streamed.
        piece_s: Shortest and longest duration of a piece in seconds.

    """
    rng = np.random.default_rng(seed)
    streams = whole_streams(recordings)
    for recording in recordings:
        n_samples = len(recording.samples)
        low, high = (max(spec.window_samples / spec.sample_rate_hz, seconds) for seconds in piece_s)
        for copy in range(1, copies):
            start = round(copy * spec.stride_samples / copies * recording.rate_hz / spec.sample_rate_hz)
            while start < n_samples:
                stop = min(n_samples, start + round(rng.uniform(low, high) * recording.rate_hz))
                streams.append(RecordingStream(recording, start, stop))
                start = stop
    return streams


def cut_windows(
    streams: Sequence[RecordingStream],
    spec: SignalSpec,
    labels: Sequence[str],
    progress: Progress = silent,
    states: Sequence[str] = (),
) -> LabelledWindows:
    """Return the windows of ``streams`` that lie wholly inside one segment with one of ``labels``.

    Windows of which STATE_SHARE or more lies inside a segment with one of ``states`` are returned too.

    A window lies inside a segment by time, to half a sample. So the rule also holds for a recording whose rate differs
    from the spec's, which the Engine resamples. The result may have no window.

    Raises:
        DatasetError: A recording lacks the gyroscope that the spec needs.

    """
    require_gyro((stream.recording for stream in streams), spec)
    streams = [stream for stream in streams if stream.stop > stream.start]
    tracked = track_progress(streams, "cutting windows", progress)
    names = tuple(labels), tuple(states)
    parts = [part for part in (_cut_stream(stream, spec, *names) for stream in tracked) if len(part)]
    if not parts:
        empty = np.zeros(0, np.int64)
        windows = np.zeros((0, spec.window_samples, spec.n_channels), np.float32)
        texts = np.zeros(0, np.str_)
        return LabelledWindows(windows, empty, texts, texts, texts, empty, *names)
    return LabelledWindows(
        np.concatenate([part.windows for part in parts]),
        np.concatenate([part.label for part in parts]),
        np.concatenate([part.subject for part in parts]),
        np.concatenate([part.recording for part in parts]),
        np.concatenate([part.data_set for part in parts]),
        np.concatenate([part.start for part in parts]),
        *names,
    )


def require_gyro(recordings: Iterable[Recording], spec: SignalSpec) -> None:
    """Raise DatasetError if the spec uses the gyroscope and a recording was made without one."""
    for recording in recordings:
        if spec.uses_gyro and not recording.has_gyro:
            raise DatasetError(
                f"{recording.name}: recorded without a gyroscope, but {gyro_needed_for(spec)} need one: "
                "choose a model or channels without gyroscope"
            )


def gyro_needed_for(spec: SignalSpec) -> str:
    """Return the part of a signal that needs the gyroscope, for messages."""
    channels = ", ".join(name for name in spec.channels if name in GYRO)
    return f"the channels {channels}" if channels else f"the {spec.gravity_filter.type} gravity filters"


def _cut_stream(
    stream: RecordingStream, spec: SignalSpec, labels: tuple[str, ...], states: tuple[str, ...]
) -> LabelledWindows:
    recording = stream.recording
    windows = due_windows(stream, spec)
    # In samples of the recording, whose rate may differ from the spec's: then they are not whole numbers.
    period_ns = 1e9 / recording.rate_hz
    start, end = windows.start_ns / period_ns, windows.end_ns / period_ns
    segments = [(one.start, one.stop, labels.index(one.label)) for one in recording.segments if one.label in labels]
    label = labels_of_windows(segments, start, end, 0.5)
    for one in recording.segments:
        if one.label in states:
            inside = np.minimum(end, one.stop) - np.maximum(start, one.start)
            label[inside >= STATE_SHARE * (end - start)] = len(labels) + states.index(one.label)
    index = np.flatnonzero(label >= 0)
    return LabelledWindows(
        windows.windows[index],
        label[index],
        np.full(len(index), recording.subject),
        np.full(len(index), recording.name),
        np.full(len(index), recording.data_set),
        np.rint(start[index]).astype(np.int64),
        labels,
        states,
    )


def due_windows(stream: RecordingStream, spec: SignalSpec, start_ns: int = 0) -> WindowBatch:
    """Return all windows of ``stream`` that fall due, labelled or not.

    Args:
        stream: Samples to feed to a new Engine.
        spec: Signal of the windows.
        start_ns: Event time of the first sample of the recording, which need not be the first of the stream.

    """
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


def labels_of_windows(
    segments: Iterable[tuple[float, float, int]], start: npt.NDArray[Any], end: npt.NDArray[Any], tolerance: float
) -> Int64:
    """Return the label of the segment that each window lies wholly inside, (n_windows,); -1 if there is none.

    Args:
        segments: (start, stop, label index) of each segment.
        start: Start of each window, (n_windows,), in the unit of the segments.
        end: End of each window, (n_windows,), in the unit of the segments.
        tolerance: How far a window may reach out of the segment; half a sample allows for rounding.

    """
    label = np.full(len(start), -1, np.int64)
    for first, stop, one in segments:
        label[(start >= first - tolerance) & (end <= stop + tolerance)] = one
    return label


def known_labels(recordings: Iterable[Recording], states: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the labels that occur, in alphabetical order, without UNKNOWN and ``states``.

    Raises:
        DatasetError: There are fewer than two.

    """
    labels = tuple(label for label in labels_in(recordings) if label not in states)
    require_two(labels)
    return labels


def require_two(labels: Sequence[str]) -> None:
    """Raise DatasetError if there are fewer than two labels, so that a model has nothing to distinguish."""
    if len(labels) < 2:
        names = f" ({', '.join(labels)})" if labels else ""
        raise DatasetError(f"the recordings have {len(labels)} known labels{names}, but at least 2 are needed")


def labels_in(recordings: Iterable[Recording]) -> tuple[str, ...]:
    """Return the labels that occur, in alphabetical order, without UNKNOWN.

    Of names that differ only by case, spaces, ``-`` and ``_`` the one with most samples stands for all.
    """
    samples: Counter[str] = Counter()
    for recording in recordings:
        for segment in recording.segments:
            samples[segment.label] += segment.stop - segment.start
    names = {simplify(label): label for label, _ in reversed(samples.most_common())}
    return tuple(sorted(set(names.values()) - {UNKNOWN}))


def common_rate(recordings: Iterable[Recording]) -> float:
    """Return the sample rate of all recordings in Hz.

    Raises:
        DatasetError: The rates differ; the message names a recording for each rate.

    """
    by_rate = {recording.rate_hz: recording.name for recording in recordings}
    if len(by_rate) != 1:
        rates = ", ".join(f"{name} has {rate:g} Hz" for rate, name in sorted(by_rate.items()))
        raise DatasetError(
            f"the recordings differ in sample rate ({rates}): "
            f"choose the rate to train for, such as --set sample_rate_hz={min(by_rate):g}"
        )
    return next(iter(by_rate))
