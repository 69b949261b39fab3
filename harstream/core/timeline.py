"""Event time: which samples of a message are new, which are missing before it, and when each was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from harstream.core import resampling
from harstream.core.batches import Bool, Float32, Float64, Int64, SampleBatch
from harstream.core.health import HealthTable
from harstream.core.problems import Problem
from harstream.core.rows import RowArrays, split_into_rounds
from harstream.core.spec import SignalSpec

#: A clock that differs from the nominal rate by more than this (relative) has another rate. One that differs by less
#: drifts, and is followed.
DRIFT = 0.03
#: A measured rate replaces an announced one if they differ by at most this factor. Beyond it, the device more likely
#: sends in bursts. Where no rate is announced, any rate that can be resampled may be measured.
MAX_OVERRIDE = 3.0
#: Number of evenly spaced messages needed to measure a faster or a slower rate. A slower rate needs more, because lost
#: messages look like a slower rate.
MEASURE_MESSAGES_FASTER, MEASURE_MESSAGES_SLOWER = 3, 6
#: Number of samples needed to measure a rate. With 32 samples, stamps with a jitter of a fifth of a period give the
#: rate to 1.3 %. A series of messages ends at the maximum, so that it measures the present rate.
MEASURE_MIN_SAMPLES, MEASURE_MAX_SAMPLES = 32, 1000
#: Arrival times jitter with the network. The rate of a device without stamps is therefore measured over this many
#: seconds, and changed only if it is wrong by more than this (relative).
ARRIVAL_MEASURE_S, ARRIVAL_TOLERANCE = 6.0, 0.2
#: Accuracy (relative) of a measured rate. Of the ratios within it, the simplest is used.
MEASURED_ACCURACY = 0.02

# Standard deviations of the clock's Kalman filter.
_STAMP_JITTER = 0.15  # of the stamp of a message, in sample periods
_ARRIVAL_JITTER_S = 0.05  # of an arrival time, in seconds
_RATE_UNCERTAINTY = 0.008  # of the period after a reset, relative to the period
_RATE_WALK = 1e-6  # of the random walk of the period in one sample, relative to the period


@dataclass(slots=True)
class TimelineStats:
    """Totals since the start of the process, over all devices."""

    samples_late: int = 0
    samples_rate: int = 0  # of messages whose rate cannot be resampled
    gaps: int = 0  # interpolated or not
    restarts: int = 0  # after a gap or with a new rate
    rates_measured: int = 0  # restarts because the spacing of the messages contradicted the rate


@dataclass(frozen=True, slots=True)
class AcceptedSamples:
    """Accepted samples of each message, in order of arrival. Messages without accepted samples are left out."""

    message: Int64  # (n,) index into the SampleBatch
    row: Int64  # (n,)
    restart: Bool  # (n,) True: the samples do not continue the earlier ones of the row
    first: Int64  # (n,) index into SampleBatch.samples of the first accepted sample
    count: Int64  # (n,) accepted samples, which follow each other
    missing: Int64  # (n,) samples to interpolate before them
    bridge_from: Float32  # (n, 6) the sample before the missing ones
    t_ns: Int64  # (n,) event time of the first sample, including the missing ones
    period_ns: Float64  # (n,) between samples, by the clock of the device
    up: Int64  # (n,) grid samples per input sample: up / down
    down: Int64  # (n,)


class Timeline(RowArrays):
    """Clocks of all devices. Each predicts the time of the next sample, and the stamp of the next message corrects it.

    A message has one stamp, the time of its first sample. Stamps jitter, the clock of a device runs a little fast or
    slow, messages are lost, repeated or reordered, and the announced rate may be wrong. So samples are *counted*: each
    lies one period after the one before, and a stamp only corrects the count. The samples of a window therefore do not
    depend on the jitter. ``feed`` does four things with each message:

    1. ``_apply_announced_rate`` restarts the device if the message announces another rate.
    2. ``_align`` compares the stamp with the predicted time. A message within half a period of it is on time. If it is
       later, samples are missing before it: they are interpolated, or after a long gap the device restarts. If it is
       earlier, its leading samples are late.
    3. ``_measure_rate`` looks at the spacing of the messages. If they are in step with each other, but not with the
       rate by which the samples are counted, the clock is reset to the measured rate.
    4. ``_update_clock`` corrects the clock by the stamp and advances it past the message.

    For example, a message of 10 samples at 50 Hz is stamped 0 ms, so the next one is expected at 200 ms. If its stamp
    is 207 ms, it is on time and the clock is corrected a little. If it is 265 ms, three samples are missing. If it is
    140 ms, its first three samples are late.

    A message without stamp takes its arrival time in place of the stamp, with a larger variance. Its samples are never
    late, and only a gap longer than ``max_gap_s`` counts as one.

    The clock is a Kalman filter with the two-state clock model of Galleani and Tavella 2010 ("Time and the Kalman
    Filter", IEEE Control Systems Magazine), and the number of samples as its time axis:

    - The state is the time of the next sample, ``next_ns + next_fraction``, and the rate of the clock, ``period_ns``
      (ns per sample). The integer part of the time has an array of its own, because float64 is too coarse for ns.
    - The covariance P of the errors of the two is symmetric: ``cov_offset`` (variance of the time, ns^2),
      ``cov_offset_rate`` (covariance, ns^2 per sample) and ``cov_rate`` (variance of the period, ns^2 per sample^2).
    - Over ``n`` samples, the transition is F = [[1, n], [0, 1]]. The process noise is a random walk of the rate, and
      only its term in the rate is kept: Q = [[0, 0], [0, n (_RATE_WALK period)^2]]. The white frequency noise of the
      model is left out.
    - The measurement is the stamp: H = [1, 0], and its variance is the square of its jitter.
    """

    ROW_ARRAYS = (
        "started",
        "announced_hz",
        "rate_announced",
        "ratio_up",
        "ratio_down",
        "nominal_ns",
        "period_ns",
        "next_ns",
        "next_fraction",
        "since_update",
        "cov_offset",
        "cov_offset_rate",
        "cov_rate",
        "last_t_ns",
        "last_count",
        "last_sample",
        "series_messages",
        "series_t_ns",
        "series_samples",
    )

    def __init__(self, spec: SignalSpec, capacity: int, health: HealthTable | None = None) -> None:
        self._health = health or HealthTable(capacity)
        self.stats = TimelineStats()
        self._spec = spec
        self._max_gap_ns = spec.max_gap_s * 1e9
        self.started = np.zeros(capacity, np.bool_)  # False: the next message starts the clock
        # The rate by which the samples are counted.
        self.announced_hz = np.zeros(capacity)  # by the last message that set it, or the rate of the spec
        self.rate_announced = np.zeros(capacity, np.bool_)  # whether the newest message announced a rate
        self.ratio_up = np.zeros(capacity, np.int64)  # grid samples per input sample: up / down
        self.ratio_down = np.zeros(capacity, np.int64)
        self.nominal_ns = np.zeros(capacity)  # period of that rate
        # The clock: state and covariance, see the docstring.
        self.next_ns = np.zeros(capacity, np.int64)
        self.next_fraction = np.zeros(capacity)
        self.period_ns = np.zeros(capacity)
        self.cov_offset = np.zeros(capacity)
        self.cov_offset_rate = np.zeros(capacity)
        self.cov_rate = np.zeros(capacity)
        self.since_update = np.zeros(capacity, np.int64)  # samples since the clock was last corrected
        # The newest message, and the series of evenly spaced messages that it belongs to.
        self.last_t_ns = np.zeros(capacity, np.int64)  # its stamp
        self.last_count = np.zeros(capacity, np.int64)  # its number of samples
        self.last_sample = np.zeros((capacity, 6), np.float32)  # the newest accepted sample
        self.series_messages = np.zeros(capacity, np.int64)  # messages after the first
        self.series_t_ns = np.zeros(capacity, np.int64)  # stamp of the first message
        self.series_samples = np.zeros(capacity, np.int64)  # from the first message up to the newest, without it

    def reset(self, rows: Int64) -> None:
        """Forget the devices of ``rows``. Their next message starts the clock."""
        self.started[rows] = False

    def rate_hz(self, rows: Int64) -> Float64:
        """Return the rate by which the samples of ``rows`` are counted; 0 for rows whose clock has not started."""
        nominal = self.nominal_ns[rows]
        return np.where(nominal > 0, 1e9 / np.maximum(nominal, 1), 0.0)

    def ratios(self, rows: Sequence[int]) -> set[Fraction]:
        """Return the ratios (grid samples per input sample) by which ``rows`` are resampled."""
        pairs = np.unique(np.stack([self.ratio_up[rows], self.ratio_down[rows]]), axis=1).T.tolist()
        return {Fraction(up, down) for up, down in pairs if down}

    def feed(self, rows: Int64, batch: SampleBatch) -> AcceptedSamples:
        """Return the samples that are accepted of a batch, and advance the clocks.

        Args:
            rows: (n_messages,) row of the device of each message, not negative.
            batch: Messages of raw samples.

        """
        n = len(batch)
        first = np.cumsum(batch.counts) - batch.counts
        late, missing, t_ns, up, down = (np.zeros(n, np.int64) for _ in range(5))
        restart = np.zeros(n, np.bool_)
        bridge_from = np.zeros((n, 6), np.float32)
        period_ns = np.zeros(n)
        rate_hz = np.where(batch.rate_hz > 0, batch.rate_hz, self._spec.sample_rate_hz)
        for i in split_into_rounds(rows):
            rejected, changed = self._apply_announced_rate(rows[i], batch.t_ns[i], batch.stamped[i], rate_hz[i])
            self.rate_announced[rows[i]] = batch.rate_hz[i] > 0
            if rejected.any():
                late[i[rejected]] = batch.counts[i[rejected]]
                self.stats.samples_rate += int(batch.counts[i[rejected]].sum())
                self._report_rates(rows[i[rejected]], rate_hz[i[rejected]])
                i, changed = i[~rejected], changed[~rejected]
            row = rows[i]
            bridge_from[i] = self.last_sample[row]
            restart[i], late[i], missing[i], t_ns[i] = self._align(
                row, changed, batch.t_ns[i], batch.stamped[i], batch.counts[i], batch.arrival_s[i]
            )
            # Copied now, because a later message of the same batch may change them.
            period_ns[i], up[i], down[i] = self.period_ns[row], self.ratio_up[row], self.ratio_down[row]
            accepted = late[i] < batch.counts[i]
            self.last_sample[row[accepted]] = batch.samples[(first + batch.counts - 1)[i[accepted]]]
        message = np.flatnonzero(late < batch.counts)
        late = late[message]
        return AcceptedSamples(
            message,
            rows[message],
            restart[message],
            first[message] + late,
            batch.counts[message] - late,
            missing[message],
            bridge_from[message],
            t_ns[message],
            period_ns[message],
            up[message],
            down[message],
        )

    def _apply_announced_rate(self, row: Int64, t: Int64, stamped: Bool, rate_hz: Float64) -> tuple[Bool, Bool]:
        """Set the rate of each row to what its message announces; return whether it is rejected and whether it changes.

        A rate that cannot be resampled is rejected. A difference within DRIFT is no change, and an old or repeated
        message changes nothing.
        """
        starting = ~self.started[row]
        old = stamped & (t <= self.last_t_ns[row])
        changed = ~starting & ~old & (np.abs(rate_hz - self.announced_hz[row]) > DRIFT * self.announced_hz[row])
        rejected = np.zeros(len(row), np.bool_)
        for k in np.flatnonzero(starting | changed):
            rate, grid_hz = float(rate_hz[k]), self._spec.sample_rate_hz
            rejected[k] = not resampling.accepts(rate, grid_hz)
            if not rejected[k]:
                self.announced_hz[row[k]] = rate
                self._set_rate(row[k], resampling.ratio_of(rate, grid_hz), 1e9 / rate)
        return rejected, changed

    def _report_rates(self, row: Int64, rate_hz: Float64) -> None:
        """Report announced rates that cannot be resampled."""
        grid_hz = self._spec.sample_rate_hz
        least, most = (grid_hz * float(ratio) for ratio in (resampling.MIN_RATE_RATIO, resampling.MAX_RATE_RATIO))
        for k, rate in zip(row.tolist(), rate_hz.tolist(), strict=True):
            detail = f"announces {rate:g} Hz, but the model takes {least:g} to {most:g} Hz; its samples are dropped"
            self._health.begin(k, Problem.RATE, detail)

    def _align(
        self, row: Int64, changed: Bool, t: Int64, stamped: Bool, count: Int64, arrival_s: Float64
    ) -> tuple[Bool, Int64, Int64, Int64]:
        """Compare one message of each row with the time that its clock predicts, and advance the clock.

        Returns:
            Whether the row restarts with the message, its number of late samples, the number of samples missing before
            it, and the event time of its first sample (n_rows,) each.

        """
        starting = changed | ~self.started[row]
        period = self.period_ns[row]
        arrival_ns = np.rint(arrival_s * 1e9).astype(np.int64)
        t = np.where(stamped, t, arrival_ns - np.rint(count * period).astype(np.int64))
        delta = np.where(starting, 0.0, (t - self.next_ns[row]) - self.next_fraction[row])

        # Arrival times jitter with the network: without a stamp no sample is late, and only a long gap is one.
        half = 0.5 * period * (1 + 1e-6)
        missing = np.where(delta > np.where(stamped, half, np.maximum(half, self._max_gap_ns)), delta / period, 0)
        missing = np.rint(missing).astype(np.int64)
        late = np.where(stamped & (delta < -half), np.ceil(-delta / period - 0.5), 0)
        late = np.minimum(np.maximum(late, 0), count).astype(np.int64)
        gap = missing > 0
        misaligned = (late > 0) | gap

        measured_ns = self._measure_rate(row, t, stamped, ~starting, count, misaligned)
        drifted = np.zeros(len(row), np.bool_)
        for k in np.flatnonzero(measured_ns > 0):
            late[k] = missing[k] = 0
            drifted[k] = abs(measured_ns[k] / self.nominal_ns[row[k]] - 1) <= DRIFT
            if drifted[k]:
                self.period_ns[row[k]] = measured_ns[k]
            else:
                self._set_measured_rate(row[k], 1e9 / measured_ns[k])
                self.stats.rates_measured += 1
        # If the clock only drifted, it is reset, but the samples go on without a restart.
        new_clock = starting | (measured_ns > 0)
        restart = (new_clock & ~drifted) | (missing * self.nominal_ns[row] > self._max_gap_ns * (1 + 1e-9))
        missing[restart] = 0

        period = self.period_ns[row]
        jitter = np.where(stamped, _STAMP_JITTER * period, _ARRIVAL_JITTER_S * 1e9)
        reset = restart | drifted
        t_first = self._update_clock(row, t, late, missing, count, reset, np.where(reset, 0.0, delta), jitter**2)

        self.started[row] = True
        self.stats.samples_late += int(late.sum())
        self.stats.gaps += int((gap & ~new_clock).sum())
        restarted = (restart & ~starting) | changed
        self.stats.restarts += int(restarted.sum())
        if (misaligned | restarted).any():  # never the usual case
            self._health.late[row] += late
            self._health.gaps[row] += gap & ~new_clock
            self._health.restarts[row] += restarted
        return restart, late, missing, t_first

    def _update_clock(
        self,
        row: Int64,
        t: Int64,
        late: Int64,
        missing: Int64,
        count: Int64,
        reset: Bool,
        delta: Float64,
        variance: Float64,
    ) -> Int64:
        """Correct the clock of each row by the stamp of one message, and advance it past the message.

        This is one step of the Kalman filter: predict, over the samples since the last correction, and update. The
        correction is limited, so that one wrong stamp cannot shift the predicted time by more than half a period.

        ``t`` is the stamp, ``variance`` its variance in ns^2, and ``delta`` the stamp minus the predicted time in ns.
        Where ``reset`` is true, the clock starts at ``t`` with the present ``period_ns``. Return the event time of the
        first sample that is not late, including the missing ones (n_rows,).
        """
        period = self.period_ns[row]
        n = self.since_update[row] + missing
        # Predict: F P F' + Q.
        offset_var = self.cov_offset[row] + n * (2 * self.cov_offset_rate[row] + n * self.cov_rate[row])
        offset_rate_cov = self.cov_offset_rate[row] + n * self.cov_rate[row]
        rate_var = self.cov_rate[row] + n * (_RATE_WALK * period) ** 2
        # Update: the gain is P H' / (H P H' + variance), then P becomes (1 - gain H) P.
        gain_offset, gain_rate = offset_var / (offset_var + variance), offset_rate_cov / (offset_var + variance)
        half = 0.5 * period
        error = _clip(delta + (late - missing) * period, -half * count, half * count)
        offset = _clip(gain_offset * error, -half, half)
        new_period = _clip(
            period + gain_rate * error, self.nominal_ns[row] / MAX_OVERRIDE, self.nominal_ns[row] * MAX_OVERRIDE
        )

        keep = late < count  # a message without accepted samples does not correct the clock either
        base = np.where(reset, t, self.next_ns[row])
        ahead = np.where(reset, 0.0, self.next_fraction[row] + offset)  # of the first sample, or first missing one
        new_period = np.where(reset, period, new_period)
        t_first = base + np.rint(ahead).astype(np.int64)
        ahead = ahead + missing * period + (count - late) * new_period
        whole = np.floor(ahead)
        r = row[keep]
        self.next_ns[r] = (base + whole.astype(np.int64))[keep]
        self.next_fraction[r] = (ahead - whole)[keep]
        self.period_ns[r] = new_period[keep]
        self.since_update[r] = (count - late)[keep]
        self.cov_offset[r] = np.where(reset, variance, (1 - gain_offset) * offset_var)[keep]
        self.cov_offset_rate[r] = np.where(reset, 0.0, (1 - gain_offset) * offset_rate_cov)[keep]
        rate_var = np.where(reset, (_RATE_UNCERTAINTY * period) ** 2, rate_var - gain_rate * offset_rate_cov)
        self.cov_rate[r] = rate_var[keep]
        return t_first

    def _measure_rate(
        self, row: Int64, t: Int64, stamped: Bool, running: Bool, count: Int64, misaligned: Bool
    ) -> Float64:
        """Return the period in ns that the spacing of messages shows, or 0 where the clock agrees with it (n_rows,).

        Messages that are in step with each other form a series. A series that is long enough measures the rate. The
        clock is wrong if the measured rate differs from it by more than drift and jitter explain, or if a message is
        ``misaligned`` (has late or missing samples) although it is in step with the series. Messages without stamps are
        in step as long as no silence is between them, and their rate is measured over ARRIVAL_MEASURE_S.

        ``running`` is false for rows whose clock starts with this message. They begin a series.
        """
        nominal = self.nominal_ns[row]
        dt = (t - self.last_t_ns[row]).astype(np.float64)
        forward = running & ((dt > 0) | ~stamped)  # a repeated or old message measures nothing
        series_ns = (self.last_t_ns[row] - self.series_t_ns[row]).astype(np.float64)
        period = series_ns / np.maximum(self.series_samples[row], 1)
        step = self.last_count[row] * period
        in_step = np.where(
            stamped,
            (self.series_samples[row] < MEASURE_MAX_SAMPLES) & (np.abs(dt - step) <= 0.5 * period),
            (series_ns < ARRIVAL_MEASURE_S * 1e9) & (dt <= 2 * step + self._max_gap_ns),
        )
        # A message out of step, such as the first after a gap, starts the next series.
        in_step = forward & (in_step | (self.series_messages[row] == 0))
        # The period that the series shows, this message included.
        messages = np.where(in_step, self.series_messages[row] + 1, 0)
        samples = np.where(in_step, self.series_samples[row] + self.last_count[row], 0)
        measured = np.where(in_step, t - self.series_t_ns[row], 0) / np.maximum(samples, 1)

        # Is it enough, plausible, and different from the clock?
        least_messages = np.where(measured > nominal, MEASURE_MESSAGES_SLOWER, MEASURE_MESSAGES_FASTER)
        enough = (messages >= least_messages) & (samples >= MEASURE_MIN_SAMPLES)
        announced, grid_ns = self.rate_announced[row], self._spec.period_ns
        longest = np.where(announced, nominal * MAX_OVERRIDE, grid_ns / float(resampling.MIN_RATE_RATIO))
        shortest = np.where(announced, nominal / MAX_OVERRIDE, grid_ns / float(resampling.MAX_RATE_RATIO))
        plausible = (measured >= shortest) & (measured <= longest)
        wrong = misaligned | (np.abs(measured / nominal - 1) > DRIFT + 0.5 / np.maximum(samples, 1))
        long_enough = measured * samples >= ARRIVAL_MEASURE_S * 1e9
        wrong_unstamped = long_enough & (np.abs(measured / nominal - 1) > ARRIVAL_TOLERANCE)
        measured_ns = np.where(enough & plausible & np.where(stamped, wrong, wrong_unstamped), measured, 0.0)

        # Add the message to the series, or begin the next series with it.
        newest = forward | ~running
        new_series = newest & (~in_step | (measured_ns > 0))
        self.series_messages[row] = np.where(new_series, 0, np.where(newest, messages, self.series_messages[row]))
        self.series_t_ns[row] = np.where(new_series, t, self.series_t_ns[row])
        self.series_samples[row] = np.where(new_series, 0, np.where(newest, samples, self.series_samples[row]))
        self.last_t_ns[row] = np.where(newest, t, self.last_t_ns[row])
        self.last_count[row] = np.where(newest, count, self.last_count[row])
        return measured_ns

    def _set_measured_rate(self, row: int, measured_hz: float) -> None:
        """Count the samples of ``row`` by the announced or the grid's rate if one fits, else by the simplest ratio."""
        grid_hz = self._spec.sample_rate_hz
        for likely_hz in (float(self.announced_hz[row]), grid_hz):
            if abs(measured_hz / likely_hz - 1) <= DRIFT:
                return self._set_rate(row, resampling.ratio_of(likely_hz, grid_hz), 1e9 / likely_hz)
        ratio = resampling.simplest_ratio(measured_hz, grid_hz, MEASURED_ACCURACY)
        ratio = min(max(ratio, 1 / resampling.MAX_RATE_RATIO), 1 / resampling.MIN_RATE_RATIO)
        return self._set_rate(row, ratio, 1e9 * float(ratio) / grid_hz)

    def _set_rate(self, row: int, ratio: Fraction, period_ns: float) -> None:
        self.ratio_up[row], self.ratio_down[row] = ratio.numerator, ratio.denominator
        self.nominal_ns[row] = self.period_ns[row] = period_ns


def _clip(values: Float64, least: Float64, most: Float64) -> Float64:
    """Limit ``values`` like ``np.clip``, which is slower for few numbers, because it checks its arguments."""
    return np.minimum(np.maximum(values, least), most)
