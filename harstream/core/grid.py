"""First half of the Engine: messages to samples on the grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from fractions import Fraction

import numpy as np

from harstream.core import resampling
from harstream.core.accepted import AcceptedSamples
from harstream.core.batches import Bool, Float32, Float64, Int64, SampleBatch
from harstream.core.health import HealthTable
from harstream.core.resampling import Resampler
from harstream.core.rows import RowArrays, all_true, any_true, indices
from harstream.core.spec import SignalSpec
from harstream.core.timeline import Timeline, TimelineStats

_RESAMPLER = "resampler "
_SAME_RATE = Fraction(1)


@dataclass(frozen=True, slots=True)
class GridSamples:
    """Consecutive samples of several rows: all those of the first row, then all those of the second, and so on.

    They are at the rate of their device until they are resampled, and at that of the grid afterwards.
    """

    rows: Int64  # (n_rows,) each row once
    counts: Int64  # (n_rows,) number of samples of the row
    samples: Float32  # (n_samples, 6) acc in g, gyro in rad/s
    t_ns: Int64  # (n_samples,) event time
    period_ns: Float64  # (n_samples,) to the next sample, by the clock of the device
    message: Int64  # (n_samples,) index into the AcceptedSamples of the message with the (newest input of the) sample
    up: Int64  # (n_rows,) grid samples per input sample: up / down
    down: Int64  # (n_rows,)

    @property
    def first(self) -> Int64:
        """Index of the first sample of each row (n_rows,)."""
        return np.cumsum(self.counts) - self.counts


@dataclass(frozen=True, slots=True)
class Restarts:
    """Rows that restart before their first sample."""

    rows: Int64  # (n_rows,) each row once
    message: Int64  # (n_rows,) index into the AcceptedSamples of the message with which the row restarts
    acc_unit_auto: Bool  # (n_rows,) whether acc is in an unknown unit from now on


class Grid:
    """Clocks and resamplers of all rows.

    The Engine filters what comes from here, and the dataset loaders bring recordings into order with it.
    """

    def __init__(self, spec: SignalSpec, capacity: int, health: HealthTable | None = None) -> None:
        self.timeline = Timeline(spec, capacity, health)
        self.resamplers: dict[Fraction, Resampler] = {}
        self.samples_without_resampler = 0  # dropped, because there were already MAX_RATIOS other ratios

    def parts(self) -> dict[str, RowArrays]:
        """Return the objects with state by row, by their name in a snapshot."""
        resamplers = {f"{_RESAMPLER}{ratio.numerator}/{ratio.denominator}": r for ratio, r in self.resamplers.items()}
        return {**self.timeline.parts(), **resamplers}

    def make_parts(self, names: Iterable[str]) -> None:
        """Make the resamplers among the names of parts."""
        for name in names:
            if name.startswith(_RESAMPLER):
                numerator, _, denominator = name.removeprefix(_RESAMPLER).partition("/")
                self.find_or_add_resampler(Fraction(int(numerator), int(denominator)))

    @property
    def stats(self) -> TimelineStats:
        """Totals since the start."""
        stats = self.timeline.stats
        return replace(stats, samples_rate=stats.samples_rate + self.samples_without_resampler)

    def last_arrival_s(self, rows: Int64) -> Float64:
        """Return when the newest message of each row arrived (n_rows,)."""
        return self.timeline.jumps.last_arrival_s[rows]

    def arrivals(self, accepted: AcceptedSamples) -> tuple[Float64, Bool]:
        """Return arrival time, and whether two devices send, by the index of a message that ``place`` yields."""
        return accepted.arrival_s, accepted.overlapping

    def evict(self, rows: Int64, remaining: Int64, pending: AcceptedSamples | None) -> None:
        """Reset the clocks of ``rows``, and forget what the resamplers keep of rows that use them no more.

        Args:
            rows: Rows to reset.
            remaining: (n_rows,) the other rows in use.
            pending: Accepted samples that are still to be placed, possibly by an earlier rate of their row.

        """
        self.timeline.reset(rows)
        users = self.timeline.rates.rows_by_ratio(remaining)
        for ratio, also in ({} if pending is None else pending.rows_by_ratio()).items():
            users[ratio] = np.union1d(users.get(ratio, also), also)
        self.resamplers = {ratio: resampler for ratio, resampler in self.resamplers.items() if ratio in users}
        for ratio, resampler in self.resamplers.items():
            if resampler.n_fed > len(users[ratio]):
                resampler.forget_all_but(users[ratio])

    def accept(self, rows: Int64, batch: SampleBatch) -> AcceptedSamples:
        """Return the samples that are accepted of each message.

        Args:
            rows: (n_messages,) row of the device of each message.
            batch: Messages of raw samples.

        """
        return self.timeline.feed(rows, batch)

    def place(self, accepted: AcceptedSamples) -> Iterator[tuple[GridSamples, Restarts]]:
        """Bring accepted samples onto the grid.

        Those of one row must come in the order in which they were accepted. What is made of them does not depend on
        the number of calls.

        Yields:
            Samples on the grid, and the rows that restart before their first of these samples. No restart lies inside
            of such samples: a row that restarts within ``accepted`` occurs in several of them, in order of time.

        """
        for samples, rows, messages in self._split_at_restarts(accepted):
            yield self._resample(samples, rows), Restarts(rows, messages, accepted.acc_unit_auto[messages])

    def _split_at_restarts(self, accepted: AcceptedSamples) -> list[tuple[GridSamples, Int64, Int64]]:
        """Return the accepted samples in parts without a restart inside, each with the restarts before it.

        Part ``k`` has the samples of every row after its ``k``-th restart in the batch. Usually there is only one part.
        """
        if not len(accepted.row):
            return []
        if len(set(accepted.row.tolist())) == len(accepted.row):  # the usual case
            return [self._join(accepted, np.arange(len(accepted.row)))]
        order = np.argsort(accepted.row, kind="stable")
        row = accepted.row[order]
        new_row = np.concatenate([[True], row[1:] != row[:-1]])
        # Restarts of the row before each message. One at the row's first message in the batch does not count.
        restarts = np.cumsum(accepted.restart[order] & ~new_row)
        restarts -= np.maximum.accumulate(np.where(new_row, restarts, 0))
        return [self._join(accepted, order[restarts == k]) for k in range(int(restarts.max()) + 1)]

    def _join(self, accepted: AcceptedSamples, index: Int64) -> tuple[GridSamples, Int64, Int64]:
        """Join the messages at ``index`` and interpolate the samples missing between them, linearly.

        The messages of each row follow each other in ``index``.
        """
        row, missing, samples = accepted.row[index], accepted.missing[index], accepted.samples
        begin, total = accepted.begin[index], accepted.end[index] - accepted.begin[index]
        if not any_true(missing) and not any_true(begin) and all_true(total == total[0]):  # the usual case
            n = int(total[0])
            first, steps = accepted.first[index], np.arange(n)
            joined = samples[(first[:, None] + steps).reshape(-1)]
            period = accepted.period_ns[index]
            t_ns = accepted.t_ns[index][:, None] + np.rint(steps * period[:, None]).astype(np.int64)
            t_ns, period, message = t_ns.reshape(-1), np.repeat(period, n), np.repeat(index, n)
        else:
            joined, t_ns, period, message = self._join_unequal(accepted, index, total)
        begins = np.ones(len(row), np.bool_)
        begins[1:] = row[1:] != row[:-1]
        start = indices(begins)
        restart = start[accepted.restart[index][start]]
        joined_samples = GridSamples(
            row[start],
            np.add.reduceat(total, start),
            joined,
            t_ns,
            period,
            message,
            accepted.up[index][start],
            accepted.down[index][start],
        )
        return joined_samples, row[restart], index[restart]

    @staticmethod
    def _join_unequal(accepted: AcceptedSamples, index: Int64, total: Int64) -> tuple[Float32, Int64, Float64, Int64]:
        """Join messages with different numbers of samples, or with missing ones; ``total`` (n,) counts both.

        Returns:
            The samples, and of each the event time, the period and the message.

        """
        missing, begin, samples = accepted.missing[index], accepted.begin[index], accepted.samples
        within = np.arange(total.sum()) + np.repeat(begin - (np.cumsum(total) - total), total)
        source = np.repeat(accepted.first[index] - missing, total) + within
        if not any_true(missing):  # the usual case
            joined = samples[source]
        else:
            bridged = within < np.repeat(missing, total)
            joined = samples[np.where(bridged, 0, source)]
            after = samples[np.repeat(accepted.first[index], total)[bridged]].astype(np.float64)
            before = np.repeat(accepted.bridge_from[index], total, axis=0)[bridged].astype(np.float64)
            part = (within[bridged] + 1) / np.repeat(missing + 1, total)[bridged]
            joined[bridged] = before + (after - before) * part[:, None]
        period = np.repeat(accepted.period_ns[index], total)
        t_ns = np.repeat(accepted.t_ns[index], total) + np.rint(within * period).astype(np.int64)
        return joined, t_ns, period, np.repeat(index, total)

    def _resample(self, samples: GridSamples, restarting: Int64) -> GridSamples:
        """Return the samples at the rate of the grid. Rows that already have this rate pass unchanged."""
        up, down = samples.up, samples.down
        if all_true(up == down):
            return samples
        restarts = np.isin(samples.rows, restarting)
        parts = []
        for numerator, denominator in sorted(set(zip(up.tolist(), down.tolist(), strict=True))):
            group = indices((up == numerator) & (down == denominator))
            part = _select(samples, group)
            ratio = Fraction(numerator, denominator)
            if ratio != _SAME_RATE:
                resampler = self.find_or_add_resampler(ratio)
                if resampler is None:
                    self.samples_without_resampler += len(part.samples)
                    continue
                resampler.reset(part.rows[restarts[group]])
                n_out, values, newest, before = resampler.feed(part.rows, part.counts, part.samples)
                period = part.period_ns[newest]
                has_output = n_out > 0
                part = GridSamples(
                    part.rows[has_output],
                    n_out[has_output],
                    values,
                    part.t_ns[newest] - np.rint(before * period).astype(np.int64),
                    period * (denominator / numerator),
                    part.message[newest],
                    part.up[has_output],
                    part.down[has_output],
                )
            parts.append(part)
        return _concatenate(parts) if parts else _select(samples, np.zeros(0, np.int64))

    def find_or_add_resampler(self, ratio: Fraction) -> Resampler | None:
        """Return the resampler of ``ratio``; None if it does not exist and there are already MAX_RATIOS."""
        if ratio not in self.resamplers and len(self.resamplers) < resampling.MAX_RATIOS:
            self.resamplers[ratio] = Resampler(ratio, 6, self.timeline.capacity)
        return self.resamplers.get(ratio)


def _select(samples: GridSamples, group: Int64) -> GridSamples:
    """Return the samples of the rows at ``group`` (indices into ``samples.rows``)."""
    counts = samples.counts[group]
    index = np.repeat(samples.first[group] - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    return GridSamples(
        samples.rows[group],
        counts,
        samples.samples[index],
        samples.t_ns[index],
        samples.period_ns[index],
        samples.message[index],
        samples.up[group],
        samples.down[group],
    )


def _concatenate(parts: list[GridSamples]) -> GridSamples:
    """Return the samples of different rows as one."""
    return GridSamples(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(GridSamples)))
