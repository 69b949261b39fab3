"""Event time: which samples of a message are new, which are missing, and when each was taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from harstream.core import resampling
from harstream.core.batches import Bool, Float32, Float64, Int64, SampleBatch
from harstream.core.rows import RowArrays, rounds
from harstream.core.spec import SignalSpec

#: A clock off by more than this is another rate; by less, it drifts and is followed.
DRIFT = 0.03
#: Spacing overrides an announced rate up to this factor; beyond, a device sends in bursts. Where none is
#: announced, any rate that can be resampled may be found.
MAX_OVERRIDE = 3.0
#: Messages in a row, in step with each other, that prove a faster rate; a slower one looks like lost
#: messages, so it takes more. Over so many samples, stamps that jitter by a fifth of a period give the rate
#: to 1.3 %. A run ends after some thousand samples, so that it measures the present.
PROOF_FASTER, PROOF_SLOWER = 3, 6
MEASURE_MIN_SAMPLES, MEASURE_MAX_SAMPLES = 32, 1000
#: Arrival times wander by the network's whims, so the rate of a device without stamps is judged over some
#: seconds, and only a gross error is one.
ARRIVAL_RUN_S, ARRIVAL_TOLERANCE = 6.0, 0.2
#: A rate found from spacing is worth this much, and is taken for the simplest ratio within.
MEASURED_ACCURACY = 0.02

# The clock's Kalman filter, in sample periods: jitter of a stamped message, of arrival times (in
# seconds), the rate's uncertainty at the start, and its random walk per sample.
_JITTER = 0.15
_ARRIVAL_JITTER_S = 0.05
_RATE_UNCERTAINTY = 0.008
_RATE_WALK = 1e-6


@dataclass(slots=True)
class TimelineStats:
    """Totals since the start."""

    samples_late: int = 0
    samples_rate: int = 0  # of a rate that cannot be resampled
    gaps: int = 0  # bridged or not
    restarts: int = 0  # by a gap or a new rate
    rates_measured: int = 0  # restarts because spacing contradicted the rate


@dataclass(frozen=True, slots=True)
class Accepted:
    """What is taken of each message, in order of arrival; messages of which nothing is taken are left out."""

    message: Int64  # (n,) index into the SampleBatch
    row: Int64  # (n,)
    restart: Bool  # (n,) nothing before this belongs to the same stretch
    first: Int64  # (n,) its first sample's index in SampleBatch.samples
    count: Int64  # (n,) samples taken from there
    missing: Int64  # (n,) samples to interpolate before them
    bridge_from: Float32  # (n, 6) the sample before the missing ones
    t_ns: Int64  # (n,) event time of the first sample, the interpolated ones included
    period_ns: Float64  # (n,) between samples
    up: Int64  # (n,) grid samples per input sample: up / down
    down: Int64  # (n,)


class Timeline(RowArrays):
    """Every device's clock: time is int64 nanoseconds, samples are counted, messages are compared with the count.

    A message within half a period of its expected time is on time, whatever its exact stamp: its
    samples pass by count, and a Kalman filter over offset and period follows the device's clock.
    Earlier than that, its leading samples are late; later, samples are missing.
    """

    ROW_ARRAYS = (
        "started",
        "announced_hz",
        "announces",
        "ratio_up",
        "ratio_down",
        "nominal_ns",
        "period_ns",
        "next_ns",
        "next_fraction",
        "since_fix",
        "var_offset",
        "cov_offset_rate",
        "var_rate",
        "last_t_ns",
        "last_count",
        "run",
        "run_t_ns",
        "run_samples",
        "last_sample",
    )

    def __init__(self, spec: SignalSpec, capacity: int) -> None:
        self.stats = TimelineStats()
        self._spec = spec
        self._max_gap_ns = spec.max_gap_s * 1e9
        self.started = np.zeros(capacity, np.bool_)
        self.announced_hz = np.zeros(capacity)
        self.announces = np.zeros(capacity, np.bool_)  # False: announced_hz is only the spec's
        self.ratio_up = np.zeros(capacity, np.int64)  # grid samples per input sample: up / down
        self.ratio_down = np.zeros(capacity, np.int64)
        self.nominal_ns = np.zeros(capacity)  # the period the samples are counted by
        self.period_ns = np.zeros(capacity)  # the period the device's clock shows
        self.next_ns = np.zeros(capacity, np.int64)  # when the next sample is expected
        self.next_fraction = np.zeros(capacity)
        self.since_fix = np.zeros(capacity, np.int64)  # samples since the clock was last compared
        self.var_offset = np.zeros(capacity)  # in ns**2
        self.cov_offset_rate = np.zeros(capacity)
        self.var_rate = np.zeros(capacity)  # of the period, in ns**2
        self.last_t_ns = np.zeros(capacity, np.int64)  # the newest message's own stamp
        self.last_count = np.zeros(capacity, np.int64)
        self.run = np.zeros(capacity, np.int64)  # messages in step with each other, after the first
        self.run_t_ns = np.zeros(capacity, np.int64)  # the first one's stamp
        self.run_samples = np.zeros(capacity, np.int64)  # samples from it up to the newest message
        self.last_sample = np.zeros((capacity, 6), np.float32)

    def forget(self, rows: Int64) -> None:
        self.started[rows] = False

    def ratios(self, rows: Sequence[int]) -> set[Fraction]:
        """The ratios, grid samples per input sample, that ``rows`` are tuned to."""
        pairs = np.unique(np.stack([self.ratio_up[rows], self.ratio_down[rows]]), axis=1).T.tolist()
        return {Fraction(up, down) for up, down in pairs if down}

    def feed(self, rows: Int64, batch: SampleBatch) -> Accepted:
        """Place every message of the batch; ``rows`` gives each its device row, none negative."""
        n = len(batch)
        first = np.cumsum(batch.counts) - batch.counts
        restart = np.zeros(n, np.bool_)
        late = np.zeros(n, np.int64)
        missing = np.zeros(n, np.int64)
        bridge_from = np.zeros((n, 6), np.float32)
        t_ns = np.zeros(n, np.int64)
        period_ns = np.zeros(n)
        up = np.zeros(n, np.int64)
        down = np.zeros(n, np.int64)
        rate_hz = np.where(batch.rate_hz > 0, batch.rate_hz, self._spec.sample_rate_hz)
        for i in rounds(rows):
            refused, changed = self._listen(rows[i], batch.t_ns[i], batch.stamped[i], rate_hz[i])
            self.announces[rows[i]] = batch.rate_hz[i] > 0
            if refused.any():
                late[i[refused]] = batch.counts[i[refused]]
                self.stats.samples_rate += int(batch.counts[i[refused]].sum())
                i, changed = i[~refused], changed[~refused]
            row = rows[i]
            bridge_from[i] = self.last_sample[row]
            restart[i], late[i], missing[i], t_ns[i] = self._place(
                row, changed, batch.t_ns[i], batch.stamped[i], batch.counts[i], batch.arrival_s[i]
            )
            # As they are now: a later message of the same batch may change them.
            period_ns[i], up[i], down[i] = self.period_ns[row], self.ratio_up[row], self.ratio_down[row]
            taken = late[i] < batch.counts[i]
            self.last_sample[row[taken]] = batch.samples[(first + batch.counts - 1)[i[taken]]]
        message = np.flatnonzero(late < batch.counts)
        late = late[message]
        return Accepted(
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

    def _listen(self, row: Int64, t: Int64, stamped: Bool, rate_hz: Float64) -> tuple[Bool, Bool]:
        """Tune the rows to what one message each announces: which rates are refused, and which are a change.

        A rate that differs by no more than a drift is none, nor one in an old or repeated message.
        """
        fresh = ~self.started[row]
        old = stamped & (t <= self.last_t_ns[row])
        changed = ~fresh & ~old & (np.abs(rate_hz - self.announced_hz[row]) > DRIFT * self.announced_hz[row])
        refused = np.zeros(len(row), np.bool_)
        for k in np.flatnonzero(fresh | changed):
            rate, grid_hz = float(rate_hz[k]), self._spec.sample_rate_hz
            refused[k] = not resampling.accepts(rate, grid_hz)
            if not refused[k]:
                self.announced_hz[row[k]] = rate
                self._tune(row[k], resampling.ratio_of(rate, grid_hz), 1e9 / rate)
        return refused, changed

    def _place(
        self, row: Int64, changed: Bool, t: Int64, stamped: Bool, count: Int64, arrival_s: Float64
    ) -> tuple[Bool, Int64, Int64, Int64]:
        """One message each of different rows: restart, late samples, missing samples, time of the first."""
        fresh = changed | ~self.started[row]
        period = self.period_ns[row]
        arrival_ns = np.rint(arrival_s * 1e9).astype(np.int64)
        t = np.where(stamped, t, arrival_ns - np.rint(count * period).astype(np.int64))
        delta = np.where(fresh, 0.0, (t - self.next_ns[row]) - self.next_fraction[row])

        # Arrival times wander with the network: without a stamp nothing is late, and only a silence is a gap.
        half = 0.5 * period * (1 + 1e-6)
        missing = np.where(delta > np.where(stamped, half, np.maximum(half, self._max_gap_ns)), delta / period, 0)
        missing = np.rint(missing).astype(np.int64)
        late = np.where(stamped & (delta < -half), np.ceil(-delta / period - 0.5), 0)
        late = np.minimum(np.maximum(late, 0), count).astype(np.int64)
        gap = missing > 0

        spacing = self._measure(row, t, stamped, ~fresh, count, (late > 0) | gap)
        drifted = np.zeros(len(row), np.bool_)
        for k in np.flatnonzero(spacing > 0):
            late[k] = missing[k] = 0
            drifted[k] = abs(spacing[k] / self.nominal_ns[row[k]] - 1) <= DRIFT
            if drifted[k]:
                self.period_ns[row[k]] = spacing[k]
            else:
                self._retune(row[k], 1e9 / spacing[k])
                self.stats.rates_measured += 1
        # What is known of a drifting clock starts anew, but its samples go on.
        anew = fresh | (spacing > 0)
        restart = (anew & ~drifted) | (missing * self.nominal_ns[row] > self._max_gap_ns * (1 + 1e-9))
        missing[restart] = 0

        period = self.period_ns[row]
        jitter = np.where(stamped, _JITTER * period, _ARRIVAL_JITTER_S * 1e9)
        reset = restart | drifted
        t_first = self._fix(row, t, late, missing, count, reset, np.where(reset, 0.0, delta), jitter**2)

        self.started[row] = True
        self.stats.samples_late += int(late.sum())
        self.stats.gaps += int((gap & ~anew).sum())
        self.stats.restarts += int((restart & ~fresh).sum()) + int(changed.sum())
        return restart, late, missing, t_first

    def _fix(
        self,
        row: Int64,
        t: Int64,
        late: Int64,
        missing: Int64,
        count: Int64,
        reset: Bool,
        delta: np.ndarray,
        jitter: np.ndarray,
    ) -> Int64:
        """Compare the clock with a message's stamp, and advance it past the message.

        A Kalman filter with two states, offset and period (Galleani & Tavella 2010, clock model without
        the white frequency term). ``jitter`` is the stamp's variance. Returns the first sample's time.
        """
        period = self.period_ns[row]
        since = self.since_fix[row] + missing
        a = self.var_offset[row] + since * (2 * self.cov_offset_rate[row] + since * self.var_rate[row])
        b = self.cov_offset_rate[row] + since * self.var_rate[row]
        c = self.var_rate[row] + since * (_RATE_WALK * period) ** 2
        gain_offset, gain_rate = a / (a + jitter), b / (a + jitter)
        half = 0.5 * period
        error = _clip(delta + (late - missing) * period, -half * count, half * count)
        offset = _clip(gain_offset * error, -half, half)
        new_period = _clip(
            period + gain_rate * error, self.nominal_ns[row] / MAX_OVERRIDE, self.nominal_ns[row] * MAX_OVERRIDE
        )

        lost = late == count  # nothing of it is taken: it says nothing about the clock either
        keep = ~lost
        base = np.where(reset, t, self.next_ns[row])
        ahead = np.where(reset, 0.0, self.next_fraction[row] + offset)  # of the first sample, bridged ones included
        new_period = np.where(reset, period, new_period)
        t_first = base + np.rint(ahead).astype(np.int64)
        ahead = ahead + missing * period + (count - late) * new_period
        whole = np.floor(ahead)
        r = row[keep]
        self.next_ns[r] = (base + whole.astype(np.int64))[keep]
        self.next_fraction[r] = (ahead - whole)[keep]
        self.period_ns[r] = new_period[keep]
        self.since_fix[r] = (count - late)[keep]
        self.var_offset[r] = np.where(reset, jitter, (1 - gain_offset) * a)[keep]
        self.cov_offset_rate[r] = np.where(reset, 0.0, (1 - gain_offset) * b)[keep]
        self.var_rate[r] = np.where(reset, (_RATE_UNCERTAINTY * period) ** 2, c - gain_rate * b)[keep]
        return t_first

    def _measure(self, row: Int64, t: Int64, stamped: Bool, known: Bool, count: Int64, off: Bool) -> Float64:
        """The period that the spacing of messages proves, in ns, where it contradicts the clock; else 0.

        Messages in step with each other make a run. The clock is wrong where a long enough run shows
        another rate, by more than drift and jitter explain, or where a message is off its time and in step.
        Without stamps all messages make a run between which there is no silence, and only a long one tells.
        """
        nominal = self.nominal_ns[row]
        dt = (t - self.last_t_ns[row]).astype(np.float64)
        forward = known & ((dt > 0) | ~stamped)  # a repeated or an old message measures nothing
        run_ns = (self.last_t_ns[row] - self.run_t_ns[row]).astype(np.float64)
        period = run_ns / np.maximum(self.run_samples[row], 1)
        step = self.last_count[row] * period
        in_step = np.where(
            stamped,
            (self.run_samples[row] < MEASURE_MAX_SAMPLES) & (np.abs(dt - step) <= 0.5 * period),
            (run_ns < ARRIVAL_RUN_S * 1e9) & (dt <= 2 * step + self._max_gap_ns),
        )
        # A spacing out of step, as over a gap, belongs to no run: the next begins behind it.
        in_step = forward & (in_step | (self.run[row] == 0))
        run = np.where(in_step, self.run[row] + 1, 0)
        since_n = np.where(in_step, self.run_samples[row] + self.last_count[row], 0)
        measured = np.where(in_step, t - self.run_t_ns[row], 0) / np.maximum(since_n, 1)

        enough = (run >= np.where(measured > nominal, PROOF_SLOWER, PROOF_FASTER)) & (since_n >= MEASURE_MIN_SAMPLES)
        slowest = self._spec.period_ns / float(resampling.MIN_RATE_RATIO)
        fastest = self._spec.period_ns / float(resampling.MAX_RATE_RATIO)
        least = np.where(self.announces[row], nominal / MAX_OVERRIDE, fastest)
        most = np.where(self.announces[row], nominal * MAX_OVERRIDE, slowest)
        plausible = (measured >= least) & (measured <= most)
        wrong = off | (np.abs(measured / nominal - 1) > DRIFT + 0.5 / np.maximum(since_n, 1))
        over = (measured * since_n >= ARRIVAL_RUN_S * 1e9) & (np.abs(measured / nominal - 1) > ARRIVAL_TOLERANCE)
        spacing = np.where(enough & plausible & np.where(stamped, wrong, over), measured, 0.0)

        newest = forward | ~known
        anew = newest & (~in_step | (spacing > 0))
        self.run[row] = np.where(anew, 0, np.where(newest, run, self.run[row]))
        self.run_t_ns[row] = np.where(anew, t, self.run_t_ns[row])
        self.run_samples[row] = np.where(anew, 0, np.where(newest, since_n, self.run_samples[row]))
        self.last_t_ns[row] = np.where(newest, t, self.last_t_ns[row])
        self.last_count[row] = np.where(newest, count, self.last_count[row])
        return spacing

    def _retune(self, row: int, measured_hz: float) -> None:
        """Count by a measured rate: the announced one or the grid's where it fits them."""
        grid_hz = self._spec.sample_rate_hz
        for known_hz in (float(self.announced_hz[row]), grid_hz):
            if abs(measured_hz / known_hz - 1) <= DRIFT:
                return self._tune(row, resampling.ratio_of(known_hz, grid_hz), 1e9 / known_hz)
        ratio = resampling.simplest_ratio(measured_hz, grid_hz, MEASURED_ACCURACY)
        ratio = min(max(ratio, 1 / resampling.MAX_RATE_RATIO), 1 / resampling.MIN_RATE_RATIO)
        return self._tune(row, ratio, 1e9 * float(ratio) / grid_hz)

    def _tune(self, row: int, ratio: Fraction, period_ns: float) -> None:
        self.ratio_up[row], self.ratio_down[row] = ratio.numerator, ratio.denominator
        self.nominal_ns[row] = self.period_ns[row] = period_ns


def _clip(values: Float64, least: Float64, most: Float64) -> Float64:
    """``np.clip``, which for a few numbers spends most of its time finding out what it was given."""
    return np.minimum(np.maximum(values, least), most)
