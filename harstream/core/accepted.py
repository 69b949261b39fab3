"""Accepted samples of messages, on their way from the timeline to the grid."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from fractions import Fraction

import numpy as np

from harstream.core.batches import Bool, Float32, Float64, Int64
from harstream.core.rows import all_true, any_true
from harstream.core.shares import equal_share


@dataclass(frozen=True, slots=True)
class AcceptedSamples:
    """Accepted samples of messages, in order of arrival. Messages without accepted samples are left out.

    Of each message, samples are interpolated before the accepted ones where some are missing. ``begin`` and ``end``
    count both: a message of which a part has been taken already begins later, and one of which only a part is taken
    ends earlier.
    """

    samples: Float32  # (n_samples, 6) of all messages, and those interpolated from irregular ones
    row: Int64  # (n,)
    restart: Bool  # (n,) True: the samples do not continue the earlier ones of the row
    first: Int64  # (n,) index into ``samples`` of the first accepted sample
    count: Int64  # (n,) accepted samples, which follow each other
    missing: Int64  # (n,) samples to interpolate before them
    begin: Int64  # (n,) the first of the missing + count samples that is not taken yet
    end: Int64  # (n,) the one after the last that is to be taken
    bridge_from: Float32  # (n, 6) the sample before the missing ones
    t_ns: Int64  # (n,) event time of the first sample, including the missing ones
    period_ns: Float64  # (n,) between samples, by the clock of the device
    up: Int64  # (n,) grid samples per input sample: up / down
    down: Int64  # (n,)
    arrival_s: Float64  # (n,) arrival time of the message
    acc_unit_auto: Bool  # (n,) whether acc is in an unknown unit
    overlapping: Bool  # (n,) whether two devices seem to send the messages of the row
    order: Int64  # (n,) index into the batch of the message with which it was accepted: a later one, if it waited
    gyro: Bool  # (n,) whether it is of the gyroscope, in a paired engine

    def __len__(self) -> int:
        """Return the number of messages."""
        return len(self.row)

    @property
    def n_samples(self) -> int:
        """Number of samples to be taken, with those to be interpolated."""
        return int((self.end - self.begin).sum())

    @property
    def _weight(self) -> Float64:
        """Work that one sample is, in samples of the grid: at least 1, and more where the grid has more samples."""
        return np.maximum(self.up / self.down, 1.0)

    def rows_by_ratio(self) -> dict[Fraction, Int64]:
        """Return the rows whose samples are to be resampled by each ratio (grid samples per input sample)."""
        rows: dict[Fraction, set[int]] = {}
        for up, down, row in zip(self.up.tolist(), self.down.tolist(), self.row.tolist(), strict=True):
            rows.setdefault(Fraction(up, down), set()).add(row)
        return {ratio: np.array(sorted(some), np.int64) for ratio, some in rows.items()}

    def split(self, budget: int, least: int) -> tuple[AcceptedSamples, AcceptedSamples | None]:
        """Return samples that make about ``budget`` samples on the grid, and a copy of the rest; None: there is none.

        If there are more, every row gets an equal share, at least ``least``, or all that it has if that is less.
        """
        work = (self.end - self.begin) * self._weight
        if work.sum() <= budget:  # the usual case
            return self, None
        order = np.argsort(self.row, kind="stable")
        row, work = self.row[order], work[order]
        start = np.flatnonzero(np.concatenate([[True], row[1:] != row[:-1]]))
        by_row = np.add.reduceat(work, start)
        before = np.cumsum(work) - work  # work of earlier messages, at first of all rows, then of the same row
        before -= np.repeat(before[start], np.diff(np.append(start, len(row))))
        share = np.empty(len(order))
        share[order] = np.clip(max(equal_share(by_row, budget), least) - before, 0, work)
        # At least a part of a sample becomes a whole one, so that every row moves on.
        until = np.minimum(self.begin + np.ceil(share / self._weight).astype(np.int64), self.end)
        part = replace(self, end=until)._select(until > self.begin)
        return part, self._rest(until)

    def _rest(self, taken: Int64) -> AcceptedSamples | None:
        """Return what remains if the samples before ``taken`` (n,) are taken, with a copy of these samples only."""
        remains = taken < self.end
        if not any_true(remains):
            return None
        left, begin = self._select(remains), taken[remains]
        gone = np.maximum(begin - left.missing, 0)  # of the accepted ones
        kept = left.count - gone
        starts = left.first + gone
        pieces = [self.samples[at : at + n] for at, n in zip(starts.tolist(), kept.tolist(), strict=True)]
        return replace(
            left,
            samples=np.concatenate([np.zeros((0, 6), np.float32), *pieces]),
            first=np.cumsum(kept) - kept - gone,
            begin=begin,
            restart=left.restart & (begin == 0),
        )

    def _select(self, keep: Bool) -> AcceptedSamples:
        """Return the messages where ``keep`` is true."""
        return self if all_true(keep) else self._at(keep)

    def _at(self, index: Bool | Int64) -> AcceptedSamples:
        """Return the messages at ``index``, in its order."""
        names = (f.name for f in fields(self) if f.name != "samples")
        return replace(self, **{name: getattr(self, name)[index] for name in names})

    def merged_with(self, gyro: AcceptedSamples) -> AcceptedSamples:
        """Return these messages of the accelerometer and those of the gyroscope of one batch, in order of arrival."""
        joined = self.followed_by(replace(gyro, gyro=np.ones(len(gyro), np.bool_)))
        return joined._at(np.argsort(joined.order, kind="stable"))

    def of_sensor(self, gyro: bool) -> tuple[AcceptedSamples, Int64]:
        """Return the messages of one sensor, and their indices among all (n_messages,)."""
        index = np.flatnonzero(self.gyro == gyro)
        return self._at(index), index

    def in_rows(self, rows: Int64) -> AcceptedSamples:
        """Return the same samples for rows that have been moved: ``rows`` (n_rows,) has the earlier row of each."""
        new = np.zeros(int(self.row.max(initial=0)) + 1, np.int64)
        moved = rows[rows < len(new)]
        new[moved] = np.flatnonzero(rows < len(new))
        return replace(self, row=new[self.row])

    def followed_by(self, other: AcceptedSamples) -> AcceptedSamples:
        """Return the messages of both, those of ``other`` last."""
        if not len(self) or not len(other):
            return other if len(other) else self
        names = (f.name for f in fields(self) if f.name not in ("samples", "first"))
        joined = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in names}
        return AcceptedSamples(
            samples=np.concatenate([self.samples, other.samples]),
            first=np.concatenate([self.first, other.first + len(self.samples)]),
            **joined,
        )
