"""Timeline for few devices: the same arithmetic as in `Timeline`, message by message with Python's numbers.

An operation of NumPy takes about a microsecond however few numbers it has, and the timeline needs some two hundred.
With a handful of messages that is most of the cost of a batch, so a message that only confirms its clock is handled
here. Everything else (a start, a gap, a new rate, stamps that are not exact, anything that a device may do wrong) is
left to the timeline, and nothing of it is decided here.

Every result equals that of the timeline to the bit: both compute with float64 and in the same order, and a square is a
product in both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from harstream.core.accepted import AcceptedSamples
from harstream.core.batches import Bool, Float32, Int64, SampleBatch
from harstream.core.clock import MAX_STRETCH, RATE_WALK, Clock
from harstream.core.health import HealthTable, RateCause
from harstream.core.irregular import IrregularSampling
from harstream.core.jumps import HOLD_NS, ClockJumps
from harstream.core.overlaps import OVERLAPPING, Overlaps
from harstream.core.rates import (
    DRIFT,
    MEASURE_MAX_SAMPLES,
    MEASURE_MESSAGES_FASTER,
    MEASURE_MESSAGES_SLOWER,
    MEASURE_MIN_SAMPLES,
    STANDARD_ERRORS,
    RateMeter,
    SampleRates,
)
from harstream.core.stamps import FAST, REMEMBERED, SLOW_ANNOUNCED, Stamps, fingerprints

#: Number of devices in a batch up to which this path takes less time than the arrays of the timeline, which handle one
#: message of each device at a time.
FEW_DEVICES = 16
#: Largest time of a message that is handled here: Python's numbers have no limit, but those of the arrays do.
_MAX_T_NS = 2**62


class TimelineState(Protocol):
    """State of a `Timeline` by row."""

    started: Bool
    acc_unit_auto: Bool
    last_sample: Float32
    clock: Clock
    stamps: Stamps
    rates: SampleRates
    meter: RateMeter
    jumps: ClockJumps
    overlaps: Overlaps
    irregular: IrregularSampling
    health: HealthTable


@dataclass(slots=True)
class _Advance:
    """What one message changes: the state of its row after it."""

    t: int
    count: int
    span_ns: float
    arrival_s: float
    first_ns: int  # event time of its first sample
    # Clock.
    next_ns: int
    next_fraction: float
    period_ns: float
    cov_offset: float
    cov_offset_rate: float
    cov_rate: float
    # RateMeter.
    series_messages: int
    series_t_ns: int
    series_samples: int
    series_squares: float


class SteadyMessages:
    """Messages that only confirm the clocks of their rows, in small batches.

    Args:
        timeline: Timeline whose state is read and advanced.
        stamp_jitter: Standard deviation of a stamp, in sample periods.

    """

    def __init__(self, timeline: TimelineState, stamp_jitter: float) -> None:
        self._timeline, self._stamp_jitter = timeline, stamp_jitter

    def feed(self, rows: Int64, batch: SampleBatch) -> tuple[AcceptedSamples | None, list[int]]:
        """Accept the messages that are steady, and return their samples and the indices of all other messages.

        Args:
            rows: (n_messages,) row of each message.
            batch: Messages of raw samples.

        Returns:
            The accepted samples, None if there are none, and the indices of the messages that the timeline must handle:
            of a row, all from the first one on that is not steady.

        """
        advances: list[_Advance] = []
        steady: list[int] = []
        others: list[int] = []
        left: set[int] = set()
        first = np.cumsum(batch.counts) - batch.counts
        whole, begin = fingerprints(batch, first)
        columns = (
            batch.t_ns.tolist(),
            batch.stamped.tolist(),
            batch.rate_hz.tolist(),
            batch.counts.tolist(),
            batch.arrival_s.tolist(),
            batch.acc_unit_auto.tolist(),
        )
        prints = list(zip(whole.tolist(), begin.tolist(), strict=True))
        for index, (row, *message) in enumerate(zip(rows.tolist(), *columns, strict=True)):
            advance = self._advance(row, *message) if row not in left else None
            if advance is None:
                left.add(row)
                others.append(index)
            else:
                self._apply(row, *prints[index], advance)
                steady.append(index)
                advances.append(advance)
        if not steady:
            return None, others
        if others:
            kept = np.array(steady)
            rows, first = rows[kept], first[kept]
        return self._accept(rows, batch, first, steady, advances), others

    def _advance(
        self, row: int, t: int, stamped: bool, rate_hz: float, count: int, arrival_s: float, acc_unit_auto: bool
    ) -> _Advance | None:
        """Return what a message changes; None if the timeline must handle it. Nothing is changed yet.

        The conditions and the arithmetic are those of the steps of `Timeline._feed_round`, in their order.
        """
        timeline = self._timeline
        clock, stamps, rates, meter, jumps = (
            timeline.clock,
            timeline.stamps,
            timeline.rates,
            timeline.meter,
            timeline.jumps,
        )
        if not (stamped and timeline.started.item(row)) or row in jumps.held or abs(t) > _MAX_T_NS:
            return None
        # The message is not far ahead, and announces what those before it did.
        next_ns, next_fraction = clock.next_ns.item(row), clock.next_fraction.item(row)
        silence_s = max(arrival_s - jumps.last_arrival_s.item(row), 0.0)
        announced_hz = rates.announced_hz.item(row)
        announced = rate_hz > 0
        if (
            t - next_ns > HOLD_NS + silence_s * 1e9
            or abs((rate_hz if announced else rates.grid_hz) - announced_hz) > DRIFT * announced_hz
            or acc_unit_auto != timeline.acc_unit_auto.item(row)
            or timeline.health.rate_causes.item(row) & RateCause.UNUSABLE
        ):
            return None
        # Its stamp is exact and advances as the samples do.
        period = clock.period_ns.item(row)
        span_ns = count * period
        dt = float(t - stamps.last_t_ns.item(row))
        last_span_ns = stamps.last_span_ns.item(row)
        n_seen = stamps.n_seen.item(row)
        if (
            not last_span_ns * SLOW_ANNOUNCED < dt < last_span_ns * FAST
            or dt <= 0
            or not n_seen
            or n_seen < stamps.jumped.item(row)
            or stamps.mode.item(row)
            or stamps.slow.item(row)
            or stamps.fast.item(row)
        ):
            return None
        # One device sends under the name, its clock does not jump, and its samples are counted.
        last_count = meter.last_count.item(row)
        if (
            (announced and dt < OVERLAPPING * (last_count * (1e9 / max(announced_hz, 1e-9))))
            or timeline.overlaps.samples.item(row)
            or jumps.strays.item(row)
            or timeline.irregular.active.item(row)
            or timeline.irregular.slips.item(row)
        ):
            return None
        # It is on time.
        delta = (t - next_ns) - next_fraction
        half = 0.5 * period * (1 + 1e-6)
        if not -half <= delta <= half:
            return None
        nominal = clock.nominal_ns.item(row)
        series = self._measure(row, t, last_count, nominal, announced=announced)
        if series is None:
            return None

        # Clock.update.
        jitter_ns = self._stamp_jitter * period
        variance = jitter_ns * jitter_ns
        n = clock.since_update.item(row)
        cov_offset_rate, cov_rate = clock.cov_offset_rate.item(row), clock.cov_rate.item(row)
        offset_var = clock.cov_offset.item(row) + n * (2 * cov_offset_rate + n * cov_rate)
        offset_rate_cov = cov_offset_rate + n * cov_rate
        walk_ns = RATE_WALK * period
        rate_var = cov_rate + n * (walk_ns * walk_ns)
        gain_offset, gain_rate = offset_var / (offset_var + variance), offset_rate_cov / (offset_var + variance)
        half = 0.5 * period
        error = min(max(delta, -half * count), half * count)
        offset = min(max(gain_offset * error, -half), half)
        new_period = min(max(period + gain_rate * error, nominal / MAX_STRETCH), nominal * MAX_STRETCH)
        ahead = next_fraction + offset
        first_ns = next_ns + round(ahead)
        ahead += count * new_period
        whole = math.floor(ahead)
        return _Advance(
            t,
            count,
            span_ns,
            arrival_s,
            first_ns,
            next_ns + whole,
            ahead - whole,
            new_period,
            (1 - gain_offset) * offset_var,
            (1 - gain_offset) * offset_rate_cov,
            rate_var - gain_rate * offset_rate_cov,
            *series,
        )

    def _measure(
        self, row: int, t: int, last_count: int, nominal_ns: float, *, announced: bool
    ) -> tuple[int, int, int, float] | None:
        """Return the series of `RateMeter` after a message on time; None if the clock may be wrong.

        Returns:
            Messages, first time in ns, samples and squared deviations of the series.

        """
        meter = self._timeline.meter
        last_t, series_t = meter.last_t_ns.item(row), meter.series_t_ns.item(row)
        dt = float(t - last_t)
        if dt <= 0:
            return None
        samples, messages = meter.series_samples.item(row), meter.series_messages.item(row)
        period = float(last_t - series_t) / max(samples, 1)
        step = last_count * period
        if messages and not (samples < MEASURE_MAX_SAMPLES and abs(dt - step) <= 0.5 * period):
            return 0, t, 0, 0.0
        messages, samples = messages + 1, samples + last_count
        total_ns = float(t - series_t)
        measured = total_ns / max(samples, 1)
        squares = meter.series_squares.item(row) + (dt - step) * (dt - last_count * measured)
        least = MEASURE_MESSAGES_SLOWER if measured > nominal_ns else MEASURE_MESSAGES_FASTER
        if messages >= least and samples >= MEASURE_MIN_SAMPLES:
            variance = max(squares, 0.0) / max(messages - 1, 1)
            error = STANDARD_ERRORS * (math.sqrt(variance * messages) / max(total_ns, 1.0))
            if abs(measured / nominal_ns - 1) > DRIFT + error + 0.5 / max(samples, 1):
                return None  # the timeline decides whether that is another rate
        return messages, series_t, samples, squares

    def _apply(self, row: int, fingerprint: int, begin: int, new: _Advance) -> None:
        """Advance ``row`` past a message with these fingerprints."""
        timeline = self._timeline
        clock, stamps, meter = timeline.clock, timeline.stamps, timeline.meter
        timeline.jumps.last_arrival_s[row] = new.arrival_s
        stamps.last_t_ns[row] = meter.last_t_ns[row] = new.t
        stamps.last_span_ns[row] = stamps.same_ns[row] = new.span_ns
        stamps.last_begin[row] = begin
        n_seen = stamps.n_seen.item(row)
        stamps.seen[row, n_seen % REMEMBERED] = fingerprint
        stamps.n_seen[row] = n_seen + 1
        meter.last_count[row] = clock.since_update[row] = new.count
        meter.series_messages[row], meter.series_t_ns[row] = new.series_messages, new.series_t_ns
        meter.series_samples[row], meter.series_squares[row] = new.series_samples, new.series_squares
        clock.next_ns[row], clock.next_fraction[row], clock.period_ns[row] = (
            new.next_ns,
            new.next_fraction,
            new.period_ns,
        )
        clock.cov_offset[row], clock.cov_offset_rate[row], clock.cov_rate[row] = (
            new.cov_offset,
            new.cov_offset_rate,
            new.cov_rate,
        )

    def _accept(
        self, rows: Int64, batch: SampleBatch, first: Int64, steady: list[int], advances: list[_Advance]
    ) -> AcceptedSamples:
        """Return the samples of the steady messages, whose rows have been advanced."""
        timeline, rates, n = self._timeline, self._timeline.rates, len(steady)
        counts = np.array([new.count for new in advances])
        timeline.last_sample[rows] = batch.samples[first + counts - 1]  # of a row that occurs again, the last one
        none, no = np.zeros(n, np.int64), np.zeros(n, np.bool_)
        return AcceptedSamples(
            batch.samples,
            rows,
            no,
            first,
            counts,
            none,
            none,
            counts,
            np.zeros((n, 6), np.float32),
            np.array([new.first_ns for new in advances]),
            np.array([new.period_ns for new in advances]),
            rates.up[rows],
            rates.down[rows],
            np.array([new.arrival_s for new in advances]),
            timeline.acc_unit_auto[rows],
            no,
            np.array(steady),
            no,
        )
