"""Samples with a time stamp each, placed on a grid of constant rate by the clock and the resamplers of core.

The result is what the Engine would see of a device that sends the same samples at the same times: jitter is followed,
short gaps are bridged, longer gaps and changes of rate split the recording, and another rate is resampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from harstream.core.batches import Bool, Float32, Float64, Int64, SampleBatch
from harstream.core.grid import Grid
from harstream.core.matching import values_at
from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording, Segment

#: Stamps that are never further than so many periods from those of an even clock, whose rate differs by no more than
#: this (relative), need no grid: it would take time to follow a clock that drifts by more.
_EVEN, _EVEN_RATE = 0.25, 0.006
#: Samples in a message while the stamps are regular.
_MESSAGE_SAMPLES = 16
#: Samples sent one by one after an irregular stamp. The clock of core needs so many stamps to notice another rate
#: (timeline.MEASURE_MIN_SAMPLES).
_SINGLE_SAMPLES = 64
#: Messages of each source fed at once. The number limits the memory in use.
_BATCH_MESSAGES = 512


@dataclass(frozen=True, slots=True)
class StampedSamples:
    """Samples of one source in order of arrival. They may have jitter, and may be repeated, late or missing."""

    t_ns: Int64  # (n_samples,) time stamps
    samples: Float32  # (n_samples, n_signals); n_signals is at most 6


@dataclass(frozen=True, slots=True)
class Piece:
    """Samples on the grid, without interruption."""

    t_ns: Int64  # (n_samples,) times by the source's clock: one period apart, except for the clock's drift
    samples: Float32  # (n_samples, n_signals)

    def __len__(self) -> int:
        return len(self.t_ns)


def resample_to_grid(sources: Sequence[StampedSamples], rate_hz: float) -> list[list[Piece]]:
    """Return the uninterrupted pieces of each source at ``rate_hz``, in order of time.

    A sample that is not newer than the one before it is dropped, as in the Engine.
    """
    spec = SignalSpec(sample_rate_hz=rate_hz)
    even = [_even(source, spec.period_ns) for source in sources]
    uneven = [source for source, piece in zip(sources, even, strict=True) if piece is None]
    pieces = iter(_feed(uneven, spec))
    return [next(pieces) if piece is None else [piece] for piece in even]


def _even(source: StampedSamples, period_ns: float) -> Piece | None:
    """Return the samples as they are if their stamps are near those of an even clock throughout, else None.

    The Engine would return the same: each such sample is the next one on the grid of a clock that it follows.
    """
    steps = len(source.t_ns) - 1
    if steps < 1:
        return None
    period = float(source.t_ns[-1] - source.t_ns[0]) / steps
    if abs(period / period_ns - 1) > _EVEN_RATE:
        return None
    t_ns = source.t_ns[0] + np.rint(np.arange(steps + 1) * period).astype(np.int64)
    if np.abs(source.t_ns - t_ns).max() > _EVEN * period_ns:
        return None
    return Piece(t_ns, source.samples.astype(np.float32, copy=False))


def _feed(sources: Sequence[StampedSamples], spec: SignalSpec) -> list[list[Piece]]:
    """Return the pieces of each source as a Grid makes them of its messages."""
    # Each source has a row, and all rows are fed at once: a thousand rows cost hardly more time than one.
    grid = Grid(spec, len(sources))
    begins = [_message_starts(source.t_ns, spec.period_ns) for source in sources]
    parts: list[list[list[Piece]]] = [[] for _ in sources]  # by source, piece and batch
    for batch, rows in _batches(sources, begins):
        for grid_samples, restarts in grid.place(grid.accept(rows, batch)):
            for row in restarts.rows.tolist():
                parts[row].append([])
            first = grid_samples.first.tolist()
            for row, start, count in zip(grid_samples.rows.tolist(), first, grid_samples.counts.tolist(), strict=True):
                where = slice(start, start + count)
                n_signals = sources[row].samples.shape[1]
                parts[row][-1].append(Piece(grid_samples.t_ns[where], grid_samples.samples[where, :n_signals]))
    return [[_concatenate(piece) for piece in pieces if piece] for pieces in parts]


def even_stamps(t_ns: Int64, rate_hz: float) -> Int64:
    """Return stamps without the lateness of samples that were handed over in bursts, (n_samples,).

    Samples are measured at a constant rate, and a stamp taken at the handover can only be late. So no sample was
    measured later than counting back from any sample of the next second tells. A burst ends with a sample in time,
    which sets the time of those before it. Lost samples remain a gap, because no later sample makes up for them.

    Args:
        t_ns: Time stamps, (n_samples,).
        rate_hz: Nominal sample rate. If the stamps show a faster one, that is used; a slower one may be due to losses.

    """
    second = round(rate_hz)
    spans = t_ns[second:] - t_ns[:-second]
    period_ns = min(1e9 / rate_hz, float(np.median(spans)) / second if len(spans) else np.inf)
    count = np.arange(len(t_ns)) * period_ns
    late = np.append(t_ns - t_ns[:1] - count, np.full(second, np.inf))
    earliest = sliding_window_view(late, second).min(axis=1)[: len(t_ns)]
    even: Int64 = t_ns[:1] + np.rint(count + earliest).astype(np.int64)
    return even


def held(samples: Float32 | Float64, t_s: Float64) -> Bool:
    """Return which samples repeat a value for longer than the longest gap that the Engine bridges, (n_samples,).

    A sensor in use never measures the same to the last digit for so long: its value was held because nothing arrived.

    Args:
        samples: Samples of one sensor, (n_samples, n_signals).
        t_s: Their times in seconds, (n_samples,).

    """
    return lasting(np.append(False, (samples[1:] == samples[:-1]).all(axis=1))[: len(samples)], t_s)


def lasting(mask: Bool, t_s: Float64) -> Bool:
    """Return where ``mask`` stays true for longer than the longest gap that the Engine bridges, (n_samples,)."""
    runs = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    result = np.zeros_like(mask)
    for start, stop in runs.tolist():
        result[start:stop] = t_s[min(stop, len(t_s) - 1)] - t_s[start] > SignalSpec().max_gap_s
    return result


def _message_starts(t_ns: Int64, period_ns: float) -> Int64:
    """Return the index of each message's first sample, (n_messages,).

    A message holds _MESSAGE_SAMPLES samples while the stamps are regular, which means within half a period of the
    time that counting gives. After an irregular stamp each sample is a message of its own for a while, so that the
    clock gets enough stamps to measure another rate.
    """
    begins, begin, single = [], 0, 0
    count = np.arange(_MESSAGE_SAMPLES) * period_ns
    while begin < len(t_ns):
        begins.append(begin)
        ahead = t_ns[begin : begin + _MESSAGE_SAMPLES] - t_ns[begin]
        if (np.abs(ahead - count[: len(ahead)]) > 0.5 * period_ns).any():
            single = _SINGLE_SAMPLES
        begin += 1 if single else len(ahead)
        single = max(single - 1, 0)
    return np.array(begins, np.int64)


def _batches(sources: Sequence[StampedSamples], begins: Sequence[Int64]) -> Iterator[tuple[SampleBatch, Int64]]:
    """Yield batches of up to _BATCH_MESSAGES messages of each source, in order, and the row of each message."""
    for first in range(0, max(map(len, begins), default=0), _BATCH_MESSAGES):
        rows, t_ns, counts, samples = [], [], [], []
        for row, (source, begin) in enumerate(zip(sources, begins, strict=True)):
            bounds = np.append(begin, len(source.t_ns))[first : first + _BATCH_MESSAGES + 1]
            if len(bounds) < 2:
                continue
            rows.append(np.full(len(bounds) - 1, row))
            t_ns.append(source.t_ns[bounds[:-1]])
            counts.append(np.diff(bounds))
            part = source.samples[bounds[0] : bounds[-1]]
            samples.append(np.pad(part, ((0, 0), (0, 6 - part.shape[1]))))
        stamps = np.concatenate(t_ns)
        n = len(stamps)
        yield (
            SampleBatch(
                [""] * n,
                stamps,
                np.ones(n, np.bool_),
                np.zeros(n),  # no rate is announced, so the clock measures it
                np.concatenate(counts),
                stamps / 1e9,
                np.zeros(n, np.bool_),
                np.concatenate(samples),
            ),
            np.concatenate(rows),
        )


def _concatenate(parts: Sequence[Piece]) -> Piece:
    return Piece(np.concatenate([part.t_ns for part in parts]), np.concatenate([part.samples for part in parts]))


def merge_sources(one: Sequence[Piece], other: Sequence[Piece], rate_hz: float) -> list[Piece]:
    """Return the signals of two sources of one device side by side, on the grid of ``one``, while both have samples.

    The Engine pairs the accelerometer and the gyroscope of a live device by the same function.
    """
    merged = []
    for piece in one:
        for second in other:
            t_ns = np.maximum.accumulate(second.t_ns)
            values, known = values_at(piece.t_ns, t_ns, second.samples, 1e9 / rate_hz)
            both = np.flatnonzero(known)
            if len(both):
                where = slice(both[0], both[-1] + 1)
                side = values[where].astype(np.float32)
                merged.append(Piece(piece.t_ns[where], np.hstack([piece.samples[where], side])))
    return merged


def split_sessions(t_ns: Int64, *labels: npt.NDArray[Any]) -> list[slice]:
    """Return slices of consecutive samples in which each array of ``labels`` is constant and time does not jump back.

    A time stamp that is older than the one before it by more than the longest gap that the Engine bridges does not
    belong to a late sample. It starts a new session.

    Args:
        t_ns: Time stamps, (n_samples,).
        *labels: Arrays of any type, (n_samples,) each.

    """
    starts = np.diff(t_ns) < -SignalSpec().max_gap_s * 1e9
    for label in labels:
        starts |= label[1:] != label[:-1]
    bounds = [0, *(np.flatnonzero(starts) + 1).tolist(), len(t_ns)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


@dataclass(frozen=True, slots=True)
class StampedLabels:
    """Labels of one source's samples, in order of time."""

    t_ns: Int64  # (n_samples,) time stamps
    labels: npt.NDArray[np.str_]  # (n_samples,) empty if not known

    def segments_of(self, piece: Piece) -> tuple[Segment, ...]:
        """Return the segments of a piece. Each of its samples gets the label of the sample that is nearest in time."""
        between = (self.t_ns[1:] + self.t_ns[:-1]) / 2
        labels = self.labels[np.searchsorted(between, piece.t_ns)]
        parts = split_sessions(piece.t_ns, labels)
        return tuple(Segment(part.start, part.stop, str(labels[part.start])) for part in parts if labels[part.start])


def make_recordings(
    name: str,
    subject: str,
    rate_hz: float,
    label: str | StampedLabels,
    pieces: Sequence[Piece],
    *,
    has_gyro: bool,
    placement: str,
) -> list[Recording]:
    """Return each piece of a subject's session as a recording.

    Args:
        name: Name of the first recording. The next ones are ``name_2``, ``name_3`` and so on.
        subject: Name of the subject.
        rate_hz: Sample rate of the pieces.
        label: Label of all samples, or labels by time.
        pieces: Pieces with acc in g and, if ``has_gyro``, gyro in rad/s.
        has_gyro: True if the pieces have six signals, False if they have three.
        placement: Where the device was worn, one of PLACEMENTS.

    """
    result = []
    for number, piece in enumerate(pieces, 1):
        samples = np.zeros((len(piece), 6), np.float32)
        samples[:, : piece.samples.shape[1]] = piece.samples
        unique = name if number == 1 else f"{name}_{number}"
        segments = (Segment(0, len(piece), label),) if isinstance(label, str) else label.segments_of(piece)
        result.append(Recording(unique, subject, rate_hz, samples, segments, has_gyro, placement))
    return result
