"""Rate of each device: the one it announces, and the one that the spacing of its messages shows."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from harstream.core import resampling
from harstream.core.batches import Bool, Float64, Int64
from harstream.core.clock import Clock
from harstream.core.health import HealthTable, RateCause
from harstream.core.rows import RowArrays, any_true
from harstream.core.spec import SignalSpec

#: A clock that differs from the nominal rate by more than this (relative) has another rate. One that differs by less
#: drifts, and is followed. Drift of up to 5 % must be, and a measurement from 75 samples errs by up to 0.5 %.
DRIFT = 0.06
#: A measured rate replaces an announced one if they differ by at most this factor. Beyond it, the device more likely
#: sends in bursts. Where no rate is announced, any rate that can be resampled may be measured.
MAX_OVERRIDE = 3.0
#: Number of evenly spaced messages needed to measure a faster or a slower rate. A slower rate needs more, because lost
#: messages look like a slower rate.
MEASURE_MESSAGES_FASTER, MEASURE_MESSAGES_SLOWER = 3, 6
#: Number of samples needed to measure a rate. With 32 samples, stamps with a jitter of a fifth of a period give the
#: rate to 1.3 %. A series of messages ends at the maximum, so that it measures the present rate.
MEASURE_MIN_SAMPLES, MEASURE_MAX_SAMPLES = 32, 1000
#: Arrival times jitter with the network, and coarse stamps with their resolution. The rate of a device without exact
#: stamps is therefore measured over this many seconds, and changed only if it is wrong by more than this (relative).
LOOSE_MEASURE_S, LOOSE_TOLERANCE = 6.0, 0.2
#: Standard errors, by the spread of the intervals, by which a measured rate must differ from a drifted one. Without
#: this, a software loop with uneven intervals would get another rate every few seconds.
STANDARD_ERRORS = 3.0

#: Accuracy (relative) of a measured rate. Of the ratios within it, the simplest is used.
MEASURED_ACCURACY = 0.02


def drifted(measured_ns: float, nominal_ns: float) -> bool:
    """Return whether a clock with the measured period only drifts from the nominal one. This is the only test of it."""
    return abs(measured_ns / nominal_ns - 1) <= DRIFT


class SampleRates(RowArrays):
    """Rate by row by which the samples are counted. It sets the period of the clock.

    Args:
        grid_hz: Rate of the grid.
        clock: Clock of the rows.
        health: Where unusable and wrong rates are reported.

    """

    ROW_ARRAYS = ("announced_hz", "up", "down")

    def __init__(self, grid_hz: float, clock: Clock, health: HealthTable) -> None:
        self.grid_hz, self._clock, self._health = grid_hz, clock, health
        self.announced_hz = np.zeros(clock.capacity)  # by the last message that set it, or the rate of the grid
        self.up = np.zeros(clock.capacity, np.int64)  # grid samples per input sample: up / down
        self.down = np.zeros(clock.capacity, np.int64)

    def rate_hz(self, rows: Int64) -> Float64:
        """Return the rate of ``rows``; 0 for rows without a usable one."""
        return np.where(self.up[rows] > 0, 1e9 / np.maximum(self._clock.nominal_ns[rows], 1), 0.0)

    def rows_by_ratio(self, rows: Int64) -> dict[Fraction, Int64]:
        """Return the rows that are resampled by each ratio (grid samples per input sample)."""
        rows = rows[self.down[rows] > 0]
        pairs, group = np.unique(self.up[rows] << 32 | self.down[rows], return_inverse=True)
        order = np.argsort(group, kind="stable")
        parts = np.split(rows[order], np.cumsum(np.bincount(group, minlength=len(pairs)))[:-1])
        return {
            Fraction(pair >> 32, pair & 0xFFFF_FFFF): part for pair, part in zip(pairs.tolist(), parts, strict=False)
        }

    def accepts(self, rate_hz: float) -> bool:
        """Return whether a rate can be resampled."""
        return resampling.accepts(rate_hz, self.grid_hz)

    def set_announced(self, row: int, rate_hz: float) -> None:
        """Count the samples of ``row`` by an announced rate, which can be resampled."""
        self.announced_hz[row] = rate_hz
        self._set(row, resampling.ratio_of(rate_hz, self.grid_hz), 1e9 / rate_hz)
        self._health.end_rate(np.array([row]), RateCause.WRONG)

    def report_unusable(self, row: Int64, rate_hz: Float64) -> None:
        """Report announced rates that cannot be resampled."""
        ratios = (resampling.MIN_RATE_RATIO, resampling.MAX_RATE_RATIO)
        least, most = (self.grid_hz * float(ratio) for ratio in ratios)
        for k, rate in zip(row.tolist(), rate_hz.tolist(), strict=True):
            detail = f"it announces {rate:g} Hz, but the model takes {least:g} to {most:g} Hz; its samples are dropped"
            self._health.begin_rate(k, RateCause.UNUSABLE, detail)

    def note_usable(self, row: Int64) -> None:
        """Note that a message of each row announces no unusable rate."""
        if any_true(self._health.rate_causes[row]):  # not in the usual case
            self._health.end_rate(row, RateCause.UNUSABLE)

    def set_measured(self, row: int, measured_ns: float, *, announced: bool) -> None:
        """Count the samples of ``row`` by the announced or the grid's rate if one fits, else by the simplest ratio.

        Args:
            row: Row that restarts.
            measured_ns: Period that the spacing of its messages shows.
            announced: Whether its messages announce a rate.

        """
        grid_hz, announced_hz = self.grid_hz, float(self.announced_hz[row])
        if announced and not drifted(measured_ns, 1e9 / announced_hz):
            self._health.begin_rate(
                row,
                RateCause.WRONG,
                f"it announces {announced_hz:g} Hz, but its messages show {1e9 / measured_ns:.3g} Hz, which is used; "
                "correct rate_hz",
            )
        else:
            self._health.end_rate(np.array([row]), RateCause.WRONG)
        for likely_hz in (announced_hz, grid_hz):
            if drifted(measured_ns, 1e9 / likely_hz):
                return self._set(row, resampling.ratio_of(likely_hz, grid_hz), 1e9 / likely_hz)
        ratio = resampling.simplest_ratio(1e9 / measured_ns, grid_hz, MEASURED_ACCURACY)
        ratio = min(max(ratio, 1 / resampling.MAX_RATE_RATIO), 1 / resampling.MIN_RATE_RATIO)
        return self._set(row, ratio, 1e9 * float(ratio) / grid_hz)

    def _set(self, row: int, ratio: Fraction, period_ns: float) -> None:
        self.up[row], self.down[row] = ratio.numerator, ratio.denominator
        self._clock.set_period(row, period_ns)


class RateMeter(RowArrays):
    """Series of evenly spaced messages by row, which measure the rate.

    Messages that are in step with each other form a series. A series that is long enough measures the rate.
    """

    ROW_ARRAYS = ("last_t_ns", "last_count", "series_messages", "series_t_ns", "series_samples", "series_squares")

    def __init__(self, spec: SignalSpec, capacity: int) -> None:
        self._grid_ns = spec.period_ns
        self._max_gap_ns = spec.max_gap_s * 1e9
        # The newest message, and the series that it belongs to.
        self.last_t_ns = np.zeros(capacity, np.int64)  # its time
        self.last_count = np.zeros(capacity, np.int64)  # its number of samples
        self.series_messages = np.zeros(capacity, np.int64)  # messages after the first
        self.series_t_ns = np.zeros(capacity, np.int64)  # time of the first message
        self.series_samples = np.zeros(capacity, np.int64)  # from the first message up to the newest, without it
        self.series_squares = np.zeros(capacity)  # sum of the squared deviations of its intervals, ns^2

    def shows_another_rate(self, row: Int64, nominal_ns: Float64) -> Bool:
        """Return whether the series of each row shows another rate than the nominal one, (n_rows,)."""
        series_ns = (self.last_t_ns[row] - self.series_t_ns[row]).astype(np.float64)
        messages = self.series_messages[row]
        off = np.abs(series_ns / np.maximum(self.series_samples[row], 1) / nominal_ns - 1)
        error = _relative_error(series_ns, messages, self.series_squares[row])
        return (messages >= MEASURE_MESSAGES_FASTER) & (off > DRIFT + STANDARD_ERRORS * error)

    def measure(
        self,
        row: Int64,
        t: Int64,
        *,
        exact: Bool,
        resolution_ns: Float64,
        running: Bool,
        count: Int64,
        misaligned: Bool,
        nominal_ns: Float64,
        announced: Bool,
    ) -> Float64:
        """Return the period in ns that the spacing of messages shows, or 0 where the clock agrees with it (n_rows,).

        The clock is wrong if the measured rate differs from it by more than drift and jitter explain, or if a message
        is misaligned although it is in step with the series. Messages without exact stamps are in step as long as no
        silence is between them, and their rate is measured over LOOSE_MEASURE_S.

        Args:
            row: (n_rows,) each row once.
            t: (n_rows,) time of the message: its stamp, or from its arrival.
            exact: (n_rows,) False: the time is that of the arrival, or a coarse stamp.
            resolution_ns: (n_rows,) of coarse stamps; 0 for others.
            running: (n_rows,) False: the clock starts with this message, which begins a series.
            count: (n_rows,) samples in the message.
            misaligned: (n_rows,) whether the message has late or missing samples.
            nominal_ns: (n_rows,) period by which the samples are counted.
            announced: (n_rows,) whether the message announces a rate.

        """
        last_t, last_count = self.last_t_ns[row], self.last_count[row]
        dt = (t - last_t).astype(np.float64)
        forward = running & ((dt > 0) | ~exact)  # a repeated or old message measures nothing
        series_ns = (last_t - self.series_t_ns[row]).astype(np.float64)
        series_samples, series_messages = self.series_samples[row], self.series_messages[row]
        period = series_ns / np.maximum(series_samples, 1)
        step = last_count * period
        in_step = np.where(
            exact,
            (series_samples < MEASURE_MAX_SAMPLES) & (np.abs(dt - step) <= 0.5 * period),
            (series_ns < LOOSE_MEASURE_S * 1e9) & (dt <= 2 * step + self._max_gap_ns + resolution_ns),
        )
        # A message out of step, such as the first after a gap, starts the next series.
        in_step = forward & (in_step | (series_messages == 0))
        # The period that the series shows, this message included.
        messages = np.where(in_step, series_messages + 1, 0)
        samples = np.where(in_step, series_samples + last_count, 0)
        total_ns = np.where(in_step, t - self.series_t_ns[row], 0).astype(np.float64)
        measured = total_ns / np.maximum(samples, 1)
        # Squared deviations from the mean are summed as by Welford 1962.
        squares = np.where(in_step, self.series_squares[row] + (dt - step) * (dt - last_count * measured), 0.0)

        # Is it enough, plausible, and different from the clock?
        least_messages = np.where(measured > nominal_ns, MEASURE_MESSAGES_SLOWER, MEASURE_MESSAGES_FASTER)
        enough = (messages >= least_messages) & (samples >= MEASURE_MIN_SAMPLES)
        longest = np.where(announced, nominal_ns * MAX_OVERRIDE, self._grid_ns / float(resampling.MIN_RATE_RATIO))
        shortest = np.where(announced, nominal_ns / MAX_OVERRIDE, self._grid_ns / float(resampling.MAX_RATE_RATIO))
        plausible = (measured >= shortest) & (measured <= longest)
        off = np.abs(measured / nominal_ns - 1)
        error = STANDARD_ERRORS * _relative_error(total_ns, messages, squares)
        other_rate = off > DRIFT + error + np.where(misaligned, 0.0, 0.5 / np.maximum(samples, 1))
        wrong = other_rate | (misaligned & (off <= DRIFT))
        wrong_loose = (measured * samples >= LOOSE_MEASURE_S * 1e9) & (off > LOOSE_TOLERANCE)
        measured_ns = np.where(enough & plausible & np.where(exact, wrong, wrong_loose), measured, 0.0)

        # Add the message to the series, or begin the next series with it.
        newest = forward | ~running
        new_series = newest & (~in_step | (measured_ns > 0))
        self.series_messages[row] = np.where(new_series, 0, np.where(newest, messages, series_messages))
        self.series_t_ns[row] = np.where(new_series, t, self.series_t_ns[row])
        self.series_samples[row] = np.where(new_series, 0, np.where(newest, samples, series_samples))
        self.series_squares[row] = np.where(new_series, 0.0, np.where(newest, squares, self.series_squares[row]))
        self.last_t_ns[row] = np.where(newest, t, last_t)
        self.last_count[row] = np.where(newest, count, last_count)
        return measured_ns


def _relative_error(total_ns: Float64, messages: Int64, squares: Float64) -> Float64:
    """Return the standard error, relative to the mean, of intervals with this sum and these squared deviations."""
    variance = np.maximum(squares, 0.0) / np.maximum(messages - 1, 1)
    return np.asarray(np.sqrt(variance * messages) / np.maximum(total_ns, 1.0))
