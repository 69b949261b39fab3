"""Irregular sampling: samples with right stamps at uneven intervals, interpolated by their stamps."""

from __future__ import annotations

import numpy as np

from harstream.core.batches import Bool, Float32, Float64, Int64
from harstream.core.clock import MAX_STRETCH, Clock, clip
from harstream.core.messages import BatchOutcome, RoundMessages
from harstream.core.rows import RowArrays, any_true

#: Messages that came earlier than counting allows, after which a device counts as irregular. The intervals of a regular
#: device never do that, except a few times while its rate is measured.
SLIPS = 6
#: Messages without a slip after which earlier slips no longer count.
FORGET_MESSAGES = 128
#: Weight of the newest interval in the mean spacing of the samples.
_MEAN_WEIGHT = 1 / 32


class IrregularSampling(RowArrays):
    """Linear interpolation of irregular samples at evenly spaced times, by row.

    A software loop samples when it comes round: its stamps are right, but its intervals vary, so that their sum walks
    away from any count. Where that shows, the samples are no longer counted. They keep the times of their stamps, and
    are interpolated at the times at which the clock of the row expects samples. Each interpolated sample depends on its
    two neighbours only, so batches cannot change it.
    """

    ROW_ARRAYS = ("active", "slips", "since_slip", "last_ns", "mean_ns")

    def __init__(self, clock: Clock, max_gap_ns: float) -> None:
        self._clock, self._max_gap_ns = clock, max_gap_ns
        capacity = clock.capacity
        self.active = np.zeros(capacity, np.bool_)
        self.slips = np.zeros(capacity, np.int64)
        self.since_slip = np.zeros(capacity, np.int64)  # messages
        self.last_ns = np.zeros(capacity, np.int64)  # time of the last sample
        self.mean_ns = np.zeros(capacity)  # mean spacing of the samples

    def reset(self, rows: Int64) -> None:
        """Count the samples of ``rows`` again."""
        self.active[rows] = False
        self.slips[rows] = self.since_slip[rows] = 0

    def note_slips(self, row: Int64, slipped: Bool) -> Int64:
        """Note which messages came too early for counting. Return the indices of those whose row becomes irregular."""
        if not (any_true(slipped) or any_true(self.slips[row])):  # the usual case
            return np.zeros(0, np.int64)
        old = self.since_slip[row] >= FORGET_MESSAGES
        slips = np.where(old, 0, self.slips[row]) + slipped
        self.slips[row] = slips
        self.since_slip[row] = np.where(slipped | (slips == 0), 0, self.since_slip[row] + 1)
        return np.flatnonzero(slipped & (slips >= SLIPS))

    def begin(self, row: Int64, next_ns: Int64, period_ns: Float64) -> None:
        """Interpolate the samples of ``row`` from now on. ``next_ns`` is the time of the next sample by counting."""
        self.active[row] = True
        self.last_ns[row] = next_ns - np.rint(period_ns).astype(np.int64)
        self.mean_ns[row] = period_ns

    def follow_spacing(self, row: Int64, dt_ns: Float64, last_count: Int64) -> None:
        """Correct the mean spacing by the time between two messages, the first of which had ``last_count`` samples."""
        mean = self.mean_ns[row]
        spacing = dt_ns / np.maximum(last_count, 1)
        usable = (spacing > mean / 4) & (spacing < mean * 4)
        nominal = self._clock.nominal_ns[row]  # its bounds also bound the number of interpolated samples
        followed = clip(mean + _MEAN_WEIGHT * (spacing - mean), nominal / MAX_STRETCH, nominal * MAX_STRETCH)
        self.mean_ns[row] = np.where(usable, followed, mean)

    def place(self, messages: RoundMessages, last_sample: Float32, out: BatchOutcome) -> tuple[RoundMessages, Bool]:
        """Interpolate the samples of messages, and advance the clocks.

        Args:
            messages: Messages of irregular rows.
            last_sample: (capacity, 6) newest sample of each row, which is updated.
            out: Receives the outputs, and the messages that are not newer than the last sample.

        Returns:
            The messages with new samples, and whether each restarts its row after a long gap (n_messages,).

        """
        times, late = self._times(messages)
        if (late == messages.count).any():
            out.drop(messages.index[late == messages.count])
            messages = messages.select(late < messages.count)
            if not len(messages):
                return messages, np.zeros(0, np.bool_)
            times, late = self._times(messages)
        row, index, count, clock = messages.row, messages.index, messages.count, self._clock
        within = _within(count)
        keep = within >= np.repeat(late, count)
        samples = out.batch.samples[(np.repeat(out.first[index], count) + within)[keep]]
        times, kept = times[keep], count - late
        begin, end = np.cumsum(kept) - kept, np.cumsum(kept) - 1
        period = clock.nominal_ns[row]
        restart = messages.t - self.last_ns[row] > self._max_gap_ns + self.mean_ns[row]
        # After a long gap the first output is the first sample.
        next_ns = np.where(restart, messages.t, clock.next_ns[row])
        next_fraction = np.where(restart, 0.0, clock.next_fraction[row])
        before_ns = np.where(restart, messages.t - np.rint(period).astype(np.int64), self.last_ns[row])
        before = np.where(restart[:, None], samples[begin], last_sample[row])
        outputs, number = self.interpolate(times, samples, kept, before_ns, before, next_ns, next_fraction, period)
        out.first[index] = out.n_samples + np.cumsum(number) - number
        out.add_interpolated(outputs)
        out.count[index], out.late[index], out.restart[index], out.period_ns[index] = number, late, restart, period
        out.t_ns[index] = next_ns + np.rint(next_fraction).astype(np.int64)
        ahead = next_fraction + number * period
        whole = np.floor(ahead)
        clock.next_ns[row], clock.next_fraction[row] = next_ns + whole.astype(np.int64), ahead - whole
        self.last_ns[row], last_sample[row] = times[end], samples[end]
        return messages, restart

    def _times(self, messages: RoundMessages) -> tuple[Int64, Int64]:
        """Return the time of every sample (n_samples,), and how many samples of each message are late (n_messages,).

        A sample is late if it is not newer than the last one.
        """
        row, count = messages.row, messages.count
        ahead = np.rint(_within(count) * np.repeat(self.mean_ns[row], count)).astype(np.int64)
        times = np.repeat(messages.t, count) + ahead
        newer = times > np.repeat(self.last_ns[row], count)
        return times, count - np.add.reduceat(newer.astype(np.int64), np.cumsum(count) - count)

    @staticmethod
    def interpolate(
        times: Int64,
        samples: Float32,
        count: Int64,
        before_ns: Int64,
        before: Float32,
        next_ns: Int64,
        next_fraction: Float64,
        period_ns: Float64,
    ) -> tuple[Float32, Int64]:
        """Interpolate the samples of several rows at the times ``next_ns + next_fraction + k period_ns``.

        Args:
            times: (n_samples,) times of the samples of all rows, row after row; increasing within a row.
            samples: (n_samples, n_signals).
            count: (n_rows,) samples of each row, at least 1.
            before_ns: (n_rows,) time of the sample before them.
            before: (n_rows, n_signals) that sample.
            next_ns: (n_rows,) integer part of the time of the first output.
            next_fraction: (n_rows,) fractional part of it.
            period_ns: (n_rows,) between outputs.

        Returns:
            The outputs (n_outputs, n_signals), row after row, and their number by row (n_rows,), which may be 0.

        """
        first = np.cumsum(count) - count
        left_ns, left = np.empty_like(times), np.empty_like(samples)
        left_ns[1:], left[1:] = times[:-1], samples[:-1]
        left_ns[first], left[first] = before_ns, before
        start, fraction = np.repeat(next_ns, count), np.repeat(next_fraction, count)
        period = np.repeat(period_ns, count)
        # Outputs up to each sample, and up to the one before it.
        until = _outputs(times - start - fraction, period)
        after = _outputs(left_ns - start - fraction, period)
        after[first] = 0  # nothing before the first output counts
        number = np.maximum(until - after, 0)
        segment = np.repeat(np.arange(len(times)), number)
        k = after[segment] + np.arange(len(segment)) - np.repeat(np.cumsum(number) - number, number)
        at = (left_ns[segment] - start[segment]) - fraction[segment]  # of the left sample, relative to output 0
        part = (k * period[segment] - at) / (times[segment] - left_ns[segment])
        a, b = left[segment].astype(np.float64), samples[segment].astype(np.float64)
        return (a + (b - a) * part[:, None]).astype(np.float32), np.add.reduceat(number, first)


def _within(count: Int64) -> Int64:
    """Return the position of every sample in its message (n_samples,)."""
    return np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)


def _outputs(ahead_ns: Float64, period_ns: Float64) -> Int64:
    """Return how many outputs are not later than ``ahead_ns`` after output 0, itself included."""
    return np.maximum(np.floor(ahead_ns / period_ns).astype(np.int64) + 1, 0)
