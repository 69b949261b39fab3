"""Event time: which samples of a message are new, which are missing before it, and when each was measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from harstream.core.accepted import AcceptedSamples
from harstream.core.batches import Bool, Float64, Int64, SampleBatch
from harstream.core.clock import Clock
from harstream.core.health import HealthTable, RateCause
from harstream.core.irregular import IrregularSampling
from harstream.core.jumps import ClockJumps
from harstream.core.messages import BatchOutcome, RoundMessages
from harstream.core.overlaps import OVERLAPPING, Overlaps
from harstream.core.problems import Problem
from harstream.core.rates import DRIFT, RateMeter, SampleRates, drifted
from harstream.core.rows import RowArrays, all_true, any_true, split_into_rounds
from harstream.core.spec import SignalSpec
from harstream.core.stamps import COARSE, UNUSABLE, StampedMessages, Stamps
from harstream.core.steady import FEW_DEVICES, SteadyMessages

#: A system clock that is set back by more than this changes the arrival times of all messages.
_STEP_NS = 1_000_000_000

# Standard deviations of the time of a message.
_STAMP_JITTER = 0.15  # of a stamp, in sample periods
_ARRIVAL_JITTER_S = 0.05  # of an arrival time, in seconds
_COARSE_JITTER = 0.3  # of a coarse stamp, in units of its resolution


@dataclass(slots=True)
class TimelineStats:
    """Totals since the start of the process, over all devices."""

    samples_late: int = 0
    samples_rate: int = 0  # of messages whose rate cannot be resampled
    gaps: int = 0  # interpolated or not
    restarts: int = 0  # after a gap, with a new rate, or with a new clock
    rates_measured: int = 0  # restarts because the spacing of the messages contradicted the rate


class Timeline(RowArrays):
    """Event time of all devices. Each clock predicts the next sample, and the stamp of the next message corrects it.

    A message has one stamp, the time of its first sample. Stamps jitter, the clock of a device runs a little fast or
    slow, messages are lost, repeated or reordered, and the announced rate may be wrong. So samples are *counted*: each
    lies one period after the one before, and a stamp only corrects the count. The samples of a window therefore do not
    depend on the jitter. ``feed`` does this with each message:

    1. ``_apply_announced_rate`` restarts the device if the message announces another rate.
    2. `Stamps` finds repeated messages, and stamps that cannot be used as they are.
    3. `Overlaps` finds two devices under one name.
    4. ``_find_jumps`` compares the stamp with the predicted time. Messages that disagree with the clock are late. If
       they agree with each other, the clock jumped, and the device restarts (`ClockJumps`). A message far ahead waits
       for the next one.
    5. ``_align`` handles the others. A message within half a period of the predicted time is on time. If it is later,
       samples are missing before it: they are interpolated, or after a long gap the device restarts. If it is earlier,
       its leading samples are late.
    6. `RateMeter` looks at the spacing of the messages. If they are in step with each other, but not with the rate by
       which the samples are counted, the clock is reset to the measured rate.
    7. `Clock` is corrected by the stamp and advances past the message.

    For example, a message of 10 samples at 50 Hz is stamped 0 ms, so the next one is expected at 200 ms. If its stamp
    is 207 ms, it is on time and the clock is corrected a little. If it is 265 ms, three samples are missing. If it is
    140 ms, its first three samples are late.

    A message without stamp takes its arrival time in place of the stamp, with a larger variance. Its samples are never
    late, and only a gap longer than ``max_gap_s`` counts as one. Coarse stamps are treated alike within their
    resolution. If the intervals of a device vary too much for counting, `IrregularSampling` takes over step 5.
    """

    ROW_ARRAYS = (
        "started",
        "acc_unit_auto",
        "last_sample",
    )

    def __init__(self, spec: SignalSpec, capacity: int, health: HealthTable | None = None) -> None:
        self.stats = TimelineStats()
        self.health = health or HealthTable(capacity)
        self._spec = spec
        self._max_gap_ns = spec.max_gap_s * 1e9
        self.started = np.zeros(capacity, np.bool_)  # False: the next message starts the clock
        self.acc_unit_auto = np.zeros(capacity, np.bool_)  # whether the unit of its acceleration was unknown
        self.last_sample = np.zeros((capacity, 6), np.float32)  # the newest accepted sample
        self.clock = Clock(capacity)
        self.stamps = Stamps(capacity, self.health)
        self.rates = SampleRates(spec.sample_rate_hz, self.clock, self.health)
        self.meter = RateMeter(spec, capacity)
        self.jumps = ClockJumps(self.clock, self.stamps, self.health, self._max_gap_ns)
        self.overlaps = Overlaps(capacity)
        self.irregular = IrregularSampling(self.clock, self._max_gap_ns)
        self._steady = SteadyMessages(self, _STAMP_JITTER)

    def parts(self) -> dict[str, RowArrays]:
        """Return the objects with state by row, by their name in a snapshot."""
        return {
            "timeline": self,
            "clock": self.clock,
            "stamps": self.stamps,
            "rates": self.rates,
            "meter": self.meter,
            "jumps": self.jumps,
            "overlaps": self.overlaps,
            "irregular": self.irregular,
        }

    def reset(self, rows: Int64) -> None:
        """Forget the devices of ``rows``. Their next message starts the clock."""
        self.started[rows] = False
        for part in (self.stamps, self.rates, self.jumps, self.overlaps, self.irregular):
            part.reset(rows)

    def feed(self, rows: Int64, batch: SampleBatch) -> AcceptedSamples:
        """Return the samples that are accepted of a batch, and advance the clocks.

        Args:
            rows: (n_messages,) row of the device of each message, not negative.
            batch: Messages of raw samples.

        """
        n_messages = len(batch)
        if len(set(rows.tolist())) <= FEW_DEVICES:
            steady, others = self._steady.feed(rows, batch)
            if not others and steady is not None:  # the usual case
                return steady
            if steady is not None:
                index = np.array(others)
                accepted = self._feed_any(rows[index], batch.select(np.isin(np.arange(n_messages), index)))
                return steady.followed_by(
                    replace(accepted, order=np.where(accepted.order < 0, accepted.order, index[accepted.order]))
                )
        return self._feed_any(rows, batch)

    def _feed_any(self, rows: Int64, batch: SampleBatch) -> AcceptedSamples:
        """Return the samples that are accepted of any messages, and advance the clocks."""
        n_messages = len(batch)
        if self.jumps.held:
            rows, batch = self.jumps.release(rows, batch)
        out = BatchOutcome(batch, rows, len(batch) - n_messages)
        for index in split_into_rounds(rows):
            row = rows[index]
            if out.waiting:
                row, index, confirmed = self.jumps.settle(row, index, out)
                if len(confirmed):
                    self._count(rows[confirmed], np.ones(len(confirmed), np.bool_), np.zeros(len(confirmed), np.bool_))
                    self._feed_round(rows[confirmed], confirmed, out, new_clock=True)
            row, index = self.jumps.hold_back(row, index, self.started[row], out)
            if len(row):
                self._feed_round(row, index, out)
        self.jumps.hold(out)
        if any_true(out.late):  # not in the usual case
            self.stats.samples_late += int(out.late.sum())
            np.add.at(self.health.late, rows, out.late)
        return out.accepted()

    def _feed_round(self, row: Int64, index: Int64, out: BatchOutcome, *, new_clock: bool = False) -> None:
        """Handle one message of each row, those at ``index`` of the batch; with ``new_clock`` each restarts its row."""
        batch = out.batch
        announced = batch.rate_hz[index] > 0
        rate_hz = np.where(announced, batch.rate_hz[index], self._spec.sample_rate_hz)
        rejected, changed = self._apply_announced_rate(
            row, batch.t_ns[index], batch.stamped[index], rate_hz, batch.acc_unit_auto[index]
        )
        if any_true(rejected):
            self.stats.samples_rate += int(batch.counts[index[rejected]].sum())
            self.rates.report_unusable(row[rejected], rate_hz[rejected])
            row, index, changed = row[~rejected], index[~rejected], changed[~rejected]
            if not len(row):
                return
        self.rates.note_usable(row)
        messages = self._judge_stamps(row, index, changed | new_clock, out)
        messages = self._find_overlaps(messages, out)
        messages = self._find_jumps(messages, out)
        messages = self._find_irregular(messages)
        messages = self._place_irregular(messages, out)
        if len(messages):
            self._align(messages, out)

    # --- steps of a round, in order -----------------------------------------------------------

    def _apply_announced_rate(
        self, row: Int64, t: Int64, stamped: Bool, rate_hz: Float64, acc_unit_auto: Bool
    ) -> tuple[Bool, Bool]:
        """Set the rate of each row to what its message announces; return whether it is rejected and whether it changes.

        A rate that cannot be resampled is rejected. A difference within DRIFT is no change, and an old or repeated
        message changes nothing. A message whose unit is unknown, after one whose unit is known, is a change too.
        """
        starting = ~self.started[row]
        old = stamped & (self.stamps.mode[row] != UNUSABLE) & (t <= self.meter.last_t_ns[row])
        running = ~starting & ~old
        announced_hz = self.rates.announced_hz[row]
        another = starting | (np.abs(rate_hz - announced_hz) > DRIFT * announced_hz)
        changed = running & another
        rejected = np.zeros(len(row), np.bool_)
        for k in np.flatnonzero(another).tolist():
            rejected[k] = not self.rates.accepts(float(rate_hz[k]))
            if not (rejected[k] or (old[k] and not starting[k])):
                self.rates.set_announced(int(row[k]), float(rate_hz[k]))
        unit_changed = running & (acc_unit_auto != self.acc_unit_auto[row])
        if any_true(unit_changed):
            changed = changed | (unit_changed & ~rejected)
        self.acc_unit_auto[row] = np.where((starting | changed) & ~rejected, acc_unit_auto, self.acc_unit_auto[row])
        return rejected, changed

    def _judge_stamps(self, row: Int64, index: Int64, changed: Bool, out: BatchOutcome) -> RoundMessages:
        """Return the messages that are not repeated, with the time that counts for each."""
        batch = out.batch
        count, announced = batch.counts[index], out.batch.rate_hz[index] > 0
        span_ns = count * self.clock.period_ns[row]
        t = batch.t_ns[index]
        dt_ns = (t - self.stamps.last_t_ns[row]).astype(np.float64)
        verdict = self.stamps.check(
            StampedMessages(row, t, batch.stamped[index], span_ns, announced, out.fingerprint[index], out.begin[index])
        )
        if not all_true(verdict.usable):
            arrival_ns = np.rint(batch.arrival_s[index] * 1e9).astype(np.int64) - np.rint(span_ns).astype(np.int64)
            t = np.where(verdict.usable, t, arrival_ns)
        starting = changed | verdict.restart | ~self.started[row]
        ahead_ns = np.where(starting, 0.0, self.clock.ahead_ns(row, t))
        messages = RoundMessages(
            index, row, t, verdict.usable, verdict.resolution_ns, count, announced, starting, ahead_ns, dt_ns
        )
        if verdict.trusted or not any_true(verdict.repeated):
            return messages
        out.drop(index[verdict.repeated])
        return messages.select(~verdict.repeated)

    def _find_overlaps(self, messages: RoundMessages, out: BatchOutcome) -> RoundMessages:
        """Look for two devices under one name. When there is only one again, its row restarts."""
        row = messages.row
        span_ns = self.meter.last_count[row] * (1e9 / np.maximum(self.rates.announced_hz[row], 1e-9))
        judged = messages.announced & messages.exact & self.started[row]
        overlapping = judged & (messages.dt_ns > 0) & (messages.dt_ns < OVERLAPPING * span_ns)
        if not self.overlaps.concerns(row, overlapping):  # the usual case
            return messages
        first = out.first[messages.index]
        acc = out.batch.samples[first, :3], out.batch.samples[first + messages.count - 1, :3]
        begun, ended = self.overlaps.feed(row, overlapping, messages.count, acc, self.last_sample[row, :3])
        for k in begun.tolist():
            self.health.begin(
                int(row[k]),
                Problem.OVERLAP,
                f"its messages overlap by {(span_ns[k] - messages.dt_ns[k]) / 1e9:.2f} s, by the rate of "
                f"{self.rates.announced_hz[row[k]]:g} Hz that they announce, and do not continue each other: two "
                "devices publish under this name, or one sends samples twice; give each device its own name",
            )
        out.overlapping[messages.index] = self.overlaps.found[row]
        self.health.end_rate(row[begun], RateCause.WRONG)  # the spacing of the messages of two devices measures no rate
        if len(ended):
            self.health.end(row[ended], Problem.OVERLAP)
            messages = messages.restart(ended)
        return messages

    def _find_jumps(self, messages: RoundMessages, out: BatchOutcome) -> RoundMessages:
        """Take out the messages before the present time of their row, except those that start a new clock."""
        row, count = messages.row, messages.count
        latest = -(count - 0.5) * self.clock.period_ns[row]
        if any_true(messages.resolution_ns):
            coarse = messages.resolution_ns > 0
            latest = np.where(coarse, -messages.resolution_ns - self._max_gap_ns, latest)
        old = messages.ahead_ns < latest
        if any_true(self.irregular.active[row]):
            newest = messages.t + np.rint((count - 1) * self.irregular.mean_ns[row]).astype(np.int64)
            old = np.where(self.irregular.active[row], newest <= self.irregular.last_ns[row], old)
        # A message that is newer than all before it does not show another clock, but another rate.
        old &= messages.stamped & ~messages.starting & (messages.dt_ns <= 0)
        if not any_true(old):  # the usual case
            self.jumps.agree(row)
            return messages
        self.jumps.agree(row[~old])
        new_clock = np.zeros(len(row), np.bool_)
        for k in np.flatnonzero(old).tolist():
            new_clock[k] = self.jumps.starts_new_clock(int(row[k]), int(messages.t[k]), int(count[k]))
            if new_clock[k]:
                self._apply_announced_rate_of(int(row[k]), int(messages.index[k]), out.batch)
            if self.stamps.mode[row[k]] == UNUSABLE:  # only now: the next message starts by its arrival
                self.started[row[k]] = False
        dropped = old & ~new_clock
        out.drop(messages.index[dropped])
        return messages.restart(new_clock).select(~dropped)

    def _apply_announced_rate_of(self, row: int, at: int, batch: SampleBatch) -> None:
        """Set rate and unit of ``row``, which restarts, to those of the message ``at``, which seemed to be old."""
        rate_hz = float(batch.rate_hz[at]) if batch.rate_hz[at] > 0 else self._spec.sample_rate_hz
        announced_hz = float(self.rates.announced_hz[row])
        if abs(rate_hz - announced_hz) > DRIFT * announced_hz:
            self.rates.set_announced(row, rate_hz)
        self.acc_unit_auto[row] = batch.acc_unit_auto[at]

    def _find_irregular(self, messages: RoundMessages) -> RoundMessages:
        """Find rows whose stamps cannot be counted: rounded to seconds, or right at uneven intervals."""
        row = messages.row
        half = 0.5 * self.clock.period_ns[row] * (1 + 1e-6)
        misaligned = messages.exact & (np.abs(messages.ahead_ns) > half)
        if not any_true(misaligned):  # the usual case
            self.irregular.note_slips(row, misaligned)
            return messages
        slipped = misaligned & (messages.ahead_ns < 0) & (messages.dt_ns > 0) & ~self.irregular.active[row]
        slipped &= ~self.meter.shows_another_rate(row, self.clock.nominal_ns[row])
        k = np.flatnonzero(misaligned)
        last_span_ns = self.meter.last_count[row[k]] * self.clock.period_ns[row[k]]
        rounded = k[self.stamps.note_whole_seconds(row[k], messages.t[k], messages.dt_ns[k], last_span_ns)]
        begun = np.setdiff1d(self.irregular.note_slips(row, slipped), rounded)
        self.irregular.begin(row[begun], self.clock.next_ns[row[begun]], self.clock.period_ns[row[begun]])
        if len(rounded):
            self.irregular.active[row[rounded]] = False
            messages = replace(
                messages, resolution_ns=self.stamps.resolution_ns[row] * (self.stamps.mode[row] == COARSE)
            ).restart(rounded)
        return messages

    def _place_irregular(self, messages: RoundMessages, out: BatchOutcome) -> RoundMessages:
        """Interpolate the samples of irregular rows by their stamps. Return the messages of the other rows."""
        row = messages.row
        irregular = self.irregular.active[row]
        if not any_true(irregular):  # the usual case
            return messages
        by_stamp = irregular & messages.exact & ~messages.starting
        self.irregular.reset(row[irregular & ~by_stamp])
        others, messages = messages.select(~by_stamp), messages.select(by_stamp)
        if not len(messages):
            return others
        self.irregular.follow_spacing(messages.row, messages.dt_ns, self.meter.last_count[messages.row])
        messages, restart = self.irregular.place(messages, self.last_sample, out)
        row, index = messages.row, messages.index
        out.up[index], out.down[index] = self.rates.up[row], self.rates.down[row]
        self.meter.last_t_ns[row], self.meter.last_count[row] = messages.t, messages.count
        self.jumps.start(row[restart], messages.t[restart])
        self._count(row, restart, restart)
        return others

    def _align(self, messages: RoundMessages, out: BatchOutcome) -> None:
        """Compare messages with the time that their clocks predict, and advance the clocks."""
        row, t, count, starting, delta = messages.row, messages.t, messages.count, messages.starting, messages.ahead_ns
        index, exact = messages.index, messages.exact
        period = self.clock.period_ns[row]
        half = 0.5 * period * (1 + 1e-6)
        gap_after, variance = half, (_STAMP_JITTER * period) ** 2
        late = np.where(delta < -half, np.ceil(-delta / period - 0.5), 0)
        stepped = np.zeros(len(row), np.bool_)
        if not all_true(exact):
            # Arrival times jitter with the network: no sample is late, and only a long gap is one. Within their
            # resolution, coarse stamps say nothing.
            stamped, resolution_ns = messages.stamped, messages.resolution_ns
            loose_gap = np.where(stamped, resolution_ns + self._max_gap_ns, np.maximum(half, self._max_gap_ns))
            gap_after, late = np.where(exact, half, loose_gap), np.where(exact, late, 0)
            jitter_ns = np.where(stamped, _COARSE_JITTER * resolution_ns, _ARRIVAL_JITTER_S * 1e9)
            variance = np.where(exact, variance, jitter_ns**2)
            # The system clock was set back: the event time follows, the samples go on.
            span_ns = np.maximum(count, self.meter.last_count[row]) * period
            stepped = ~stamped & ~starting & (t - self.meter.last_t_ns[row] < -span_ns - _STEP_NS)
        missing = np.rint(np.where(delta > gap_after, delta / period, 0)).astype(np.int64)
        late = np.minimum(np.maximum(late, 0), count).astype(np.int64)
        gap = missing > 0

        measured_ns = self.meter.measure(
            row,
            t,
            exact=exact,
            resolution_ns=messages.resolution_ns,
            running=~starting,
            count=count,
            misaligned=(late > 0) | gap,
            nominal_ns=self.clock.nominal_ns[row],
            announced=messages.announced,
        )
        only_drifted = stepped
        for k in np.flatnonzero(measured_ns > 0).tolist():
            if self.overlaps.found[row[k]]:  # their spacing measures nothing
                measured_ns[k] = 0.0
                continue
            late[k] = missing[k] = 0
            only_drifted[k] = drifted(float(measured_ns[k]), float(self.clock.nominal_ns[row[k]]))
            if only_drifted[k]:
                self.clock.period_ns[row[k]] = measured_ns[k]
            else:
                self.rates.set_measured(int(row[k]), float(measured_ns[k]), announced=bool(messages.announced[k]))
                self.stats.rates_measured += 1
        # If the clock only drifted, it is reset, but the samples go on without a restart.
        new_clock = starting | (measured_ns > 0)
        nominal = self.clock.nominal_ns[row]
        restart = (new_clock & ~only_drifted) | (missing * nominal > self._max_gap_ns * (1 + 1e-9))
        missing[restart] = 0
        reset = restart | only_drifted

        out.bridge_from[index] = self.last_sample[row]
        out.t_ns[index] = self.clock.update(row, t, late, missing, count, reset, np.where(reset, 0.0, delta), variance)
        # Copied now, because a later message of the same batch may change them.
        out.period_ns[index] = self.clock.period_ns[row]
        out.up[index], out.down[index] = self.rates.up[row], self.rates.down[row]
        out.first[index] += late
        out.count[index], out.missing[index], out.restart[index] = count - late, missing, restart
        accepted = late < count
        self.last_sample[row[accepted]] = out.batch.samples[(out.first + out.count - 1)[index[accepted]]]
        if any_true(restart):
            self.jumps.start(row[restart], t[restart])
            self.irregular.reset(row[restart])
        out.late[index] = late
        self._count(row, gap & ~new_clock, restart & self.started[row])
        self.started[row] = True

    def _count(self, row: Int64, gap: Bool, restart: Bool) -> None:
        """Count gaps and restarts."""
        if any_true(gap) or any_true(restart):  # not in the usual case
            self.stats.gaps += int(gap.sum())
            self.stats.restarts += int(restart.sum())
            self.health.gaps[row] += gap
            self.health.restarts[row] += restart
