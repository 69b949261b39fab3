"""Samples that each carry a time of their own, onto a grid of constant rate: by the clock and the resamplers of core.

What a recording becomes here is what a live device that sent the same samples at the same times would
have been to the Engine: jitter is followed, short gaps are bridged, longer ones and changes of rate
split it, another rate is resampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Float32, Int64, SampleBatch
from harstream.core.grid import Grid
from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording, Segment

#: Samples in a message where times are regular; and how many come alone from where they are not, by which the
#: clock has noticed another rate (timeline.MEASURE_MIN_SAMPLES).
_MESSAGE_SAMPLES = 16
_ALONE_SAMPLES = 64
#: Messages of each source fed at once: bounds the memory.
_BATCH_MESSAGES = 512


@dataclass(frozen=True, slots=True)
class Stamped:
    """Samples of one source, which may be jittered, repeated, late, or missing."""

    t_ns: Int64  # (n_samples,)
    samples: Float32  # (n_samples, n_signals), at most six


@dataclass(frozen=True, slots=True)
class Piece:
    """Uninterrupted samples on the grid."""

    t_ns: Int64  # (n_samples,) by the source's clock; a period apart, but for its drift
    samples: Float32  # (n_samples, n_signals)

    def __len__(self) -> int:
        return len(self.t_ns)


def on_grid(sources: Sequence[Stamped], rate_hz: float) -> list[list[Piece]]:
    """The uninterrupted pieces of every source, in order of time, at ``rate_hz``.

    Samples not newer than the one before are dropped, as the Engine does.
    """
    spec = SignalSpec(sample_rate_hz=rate_hz)
    # In one row each, all at once: a step of the clock costs nearly the same for a thousand sources as for one.
    grid = Grid(spec, len(sources))
    begins = [_messages(source.t_ns, spec.period_ns) for source in sources]
    parts: list[list[list[Piece]]] = [[] for _ in sources]
    for batch, rows in _batches(sources, begins):
        for stretch, restart in grid.feed(rows, batch)[1]:
            for row in restart.tolist():
                parts[row].append([])
            first = stretch.first.tolist()
            for row, start, count in zip(stretch.rows.tolist(), first, stretch.counts.tolist(), strict=True):
                where = slice(start, start + count)
                n_signals = sources[row].samples.shape[1]
                parts[row][-1].append(Piece(stretch.t_ns[where], stretch.samples[where, :n_signals]))
    return [[_joined(piece) for piece in pieces if piece] for pieces in parts]


def _messages(t_ns: Int64, period_ns: float) -> Int64:
    """Where messages begin: every ``_MESSAGE_SAMPLES``, or with each sample where times are not regular.

    Regular is what lies within half a period of where counting puts it. A clock that was wrong about the
    rate is right again after some tens of samples, if they come one by one.
    """
    begins, begin, alone = [], 0, 0
    count = np.arange(_MESSAGE_SAMPLES) * period_ns
    while begin < len(t_ns):
        begins.append(begin)
        ahead = t_ns[begin : begin + _MESSAGE_SAMPLES] - t_ns[begin]
        if (np.abs(ahead - count[: len(ahead)]) > 0.5 * period_ns).any():
            alone = _ALONE_SAMPLES
        begin += 1 if alone else len(ahead)
        alone = max(alone - 1, 0)
    return np.array(begins, np.int64)


def _batches(sources: Sequence[Stamped], begins: Sequence[Int64]) -> Iterator[tuple[SampleBatch, Int64]]:
    """Every source's messages in order, ``_BATCH_MESSAGES`` at a time, with the source of each."""
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
                np.zeros(n),  # a rate that is not announced is measured, whatever it is
                np.concatenate(counts),
                stamps / 1e9,
                np.concatenate(samples),
            ),
            np.concatenate(rows),
        )


def _joined(parts: Sequence[Piece]) -> Piece:
    return Piece(np.concatenate([part.t_ns for part in parts]), np.concatenate([part.samples for part in parts]))


def merged(one: Sequence[Piece], other: Sequence[Piece], rate_hz: float) -> list[Piece]:
    """Two sources of one device side by side, on the grid of ``one``, over where both exist.

    Each has its own clock, so the grid of ``other`` lies up to half a period off: it is interpolated
    linearly, which keeps its time exact; where the two grids coincide, nothing changes. Half a period
    before its first and after its last sample, ``other`` counts as existing.
    """
    half_ns = 0.5e9 / rate_hz
    found = []
    for piece in one:
        for beside in other:
            t_ns, at_ns = np.maximum.accumulate(beside.t_ns - piece.t_ns[0]), piece.t_ns - piece.t_ns[0]
            both = np.flatnonzero((at_ns >= t_ns[0] - half_ns) & (at_ns <= t_ns[-1] + half_ns))
            if len(both):
                where = slice(both[0], both[-1] + 1)
                values = [np.interp(at_ns[where], t_ns, signal) for signal in beside.samples.T]
                side = np.stack(values, axis=1).astype(np.float32)
                found.append(Piece(piece.t_ns[where], np.hstack([piece.samples[where], side])))
    return found


def sessions(t_ns: Int64, *labels: npt.NDArray[Any]) -> list[slice]:
    """Where consecutive samples belong together: every array of ``labels`` is constant, and time does not jump back.

    A stamp that lies before the one above it by more than the Engine bridges is no late sample: the
    recording was begun anew.
    """
    anew = np.diff(t_ns) < -SignalSpec().max_gap_s * 1e9
    for label in labels:
        anew |= label[1:] != label[:-1]
    bounds = [0, *(np.flatnonzero(anew) + 1).tolist(), len(t_ns)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


def recordings(
    name: str, subject: str, rate_hz: float, label: str, pieces: Sequence[Piece], *, has_gyro: bool
) -> list[Recording]:
    """Every piece of somebody's one activity as a recording: ``name``, and from the second on ``name_2``."""
    made = []
    for number, piece in enumerate(pieces, 1):
        samples = np.zeros((len(piece), 6), np.float32)
        samples[:, : piece.samples.shape[1]] = piece.samples
        unique = name if number == 1 else f"{name}_{number}"
        segments = (Segment(0, len(piece), label),)
        made.append(Recording(unique, subject, rate_hz, samples, segments, has_gyro))
    return made
