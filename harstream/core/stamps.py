"""Stamps of each device: which are repeated, too coarse, or unusable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Bool, Float64, Int64, SampleBatch
from harstream.core.health import HealthTable
from harstream.core.problems import Problem
from harstream.core.rows import RowArrays, all_true, any_true

#: How the stamps of a row are used.
EXACT, COARSE, UNUSABLE = 0, 1, 2
#: Messages that are remembered to recognise repeated ones. A broker has at most some tens of messages of one device in
#: flight.
REMEMBERED = 64
#: Coarsest resolution of stamps that say more than the arrival of the message does.
MAX_RESOLUTION_NS = 2_000_000_000
#: Stamps that advance this many times faster than the samples, in this many messages in a row, are in another unit, or
#: do not mean the time of the samples. Slow ones: the two limits with and without an announced rate.
FAST, SLOW_ANNOUNCED, SLOW, SPEED_MESSAGES = 300.0, 1 / 10, 1 / 100, 3
#: Messages in a row whose stamps advance as their samples do, after which stamps are believed again.
BELIEVE_UNUSABLE, BELIEVE_COARSE = 20, 500
#: Stamps at whole seconds that do not fit the samples, after which they count as rounded.
_WHOLE_SECONDS = 2
_SECOND_NS = 1_000_000_000
#: A time in ns between these is one of today, if it was multiplied by the right factor.
_EARLIEST_NS, _LATEST_NS = 10**18, 5 * 10**18
_TOO_COARSE_UNIT = "the field seems to hold a time {:g} times coarser than its name says, such as s in t_ms"
_MIX = np.array([2654435761, 2246822519, 3266489917, 668265263, 374761393, 2654435789], np.uint32)
Int32 = npt.NDArray[np.int32]


def fingerprints(batch: SampleBatch, first: Int64) -> tuple[Int32, Int64]:
    """Return two numbers for each message, (n_messages,) each, that hardly any other message has.

    The first is made of the stamp, the number of samples and the sum of their bits: a repeated message has the same.
    The second is made of the first sample only.
    """
    bits = batch.samples.view(np.uint32)
    begin = np.bitwise_xor.reduce(bits[first] * _MIX, axis=1).astype(np.int64)
    total = np.bitwise_xor.reduce(np.add.reduceat(bits, first, axis=0) * _MIX, axis=1).astype(np.int64)
    whole = ((total + batch.counts) << 31) ^ batch.t_ns
    return (whole ^ (whole >> 32)).astype(np.int32), begin


@dataclass(frozen=True, slots=True)
class StampedMessages:
    """Stamps and fingerprints of one message of each of several rows, to be judged. The arrays are (n_rows,)."""

    row: Int64  # each row once
    t: Int64  # stamps
    stamped: Bool  # whether the message has one
    span_ns: Float64  # of its samples, by the rate by which they are counted
    announced: Bool  # whether the message announces its rate
    fingerprint: Int32  # of the message
    begin: Int64  # fingerprint of its first sample


@dataclass(frozen=True, slots=True)
class StampVerdict:
    """Use of the stamps of a round of messages. The arrays are (n_messages,)."""

    usable: Bool  # False: the arrival time stands in
    resolution_ns: Float64  # of coarse stamps; 0 for exact ones
    repeated: Bool  # the message was received before
    restart: Bool  # the meaning of the stamps changed, so the row restarts with the message
    trusted: bool  # whether all stamps are usable and exact, and no message is repeated: the usual case


class Stamps(RowArrays):
    """Judgement on the stamps of each row.

    Two messages with the same stamp and different first samples prove that stamps are coarse, such as whole seconds.
    Coarse stamps do not place the samples, which are counted instead; they only show long gaps. Stamps that are even
    coarser, or advance at a speed that has nothing to do with the samples (milliseconds sent as seconds), are not used
    at all: the arrival time stands in. In both cases the device has the problem STAMPS.
    """

    ROW_ARRAYS = (
        "mode",
        "resolution_ns",
        "last_t_ns",
        "last_span_ns",
        "last_begin",
        "same_ns",
        "slow",
        "fast",
        "good",
        "whole",
        "seen",
        "n_seen",
        "jumped",
    )

    def __init__(self, capacity: int, health: HealthTable) -> None:
        self._health = health
        self.mode = np.zeros(capacity, np.int8)  # EXACT, COARSE or UNUSABLE
        self.resolution_ns = np.zeros(capacity)  # of coarse stamps; 0 for exact ones
        self.last_t_ns = np.zeros(capacity, np.int64)  # newest stamp
        self.last_span_ns = np.zeros(capacity)  # of the samples in that message
        self.last_begin = np.zeros(capacity, np.int64)  # fingerprint of its first sample
        self.same_ns = np.zeros(capacity)  # span of all samples of the messages with that stamp; 0: older ones came
        self.slow = np.zeros(capacity, np.int16)  # messages in a row whose stamps advance too slowly
        self.fast = np.zeros(capacity, np.int16)  # and too fast
        # Messages in a row whose stamps advance as the samples do; counted while they are not used as they are.
        self.good = np.zeros(capacity, np.int32)
        self.whole = np.zeros(capacity, np.int16)  # stamps at whole seconds that do not fit the samples
        self.seen = np.zeros((capacity, REMEMBERED), np.int32)  # fingerprints of the newest messages
        self.n_seen = np.zeros(capacity, np.int64)  # messages remembered since the start
        self.jumped = np.zeros(capacity, np.int64)  # n_seen at which none is from before the last jump of the clock

    def is_repeated(self, row: Int64, fingerprint: Int32) -> Bool:
        """Return which messages are among the newest ones of their row, (n_messages,)."""
        return np.asarray((self.seen[row] == fingerprint[:, None]).any(axis=1))

    def remember(self, row: Int64, fingerprint: Int32) -> None:
        """Remember messages, one of each row."""
        self.seen[row, self.n_seen[row] % REMEMBERED] = fingerprint
        self.n_seen[row] += 1

    def start_at(self, row: int, t: int, span_ns: float) -> None:
        """Compare the next stamps of ``row`` with ``t``, the stamp of a new clock, which was set back.

        Until all messages that are remembered are newer, one that is repeated looks like one after a gap.
        """
        self.last_t_ns[row], self.last_span_ns[row], self.same_ns[row] = t, span_ns, span_ns
        self.jumped[row] = self.n_seen[row] + REMEMBERED

    def check(self, messages: StampedMessages) -> StampVerdict:
        """Judge the stamps of messages, and remember the messages."""
        row, t, stamped, span_ns = messages.row, messages.t, messages.stamped, messages.span_ns
        fingerprint, begin = messages.fingerprint, messages.begin
        last_span = self.last_span_ns[row]
        dt = (t - self.last_t_ns[row]).astype(np.float64)
        judged = stamped & (self.n_seen[row] > 0)
        # The usual case: no stamps, or exact ones that advance roughly as the samples do.
        usual = ~judged | ((dt > last_span * SLOW_ANNOUNCED) & (dt < last_span * FAST))
        usual &= self.n_seen[row] >= self.jumped[row]
        if not all_true(usual) or any_true(self.mode[row]) or any_true(self.slow[row]) or any_true(self.fast[row]):
            return self._check_unusual(messages, dt, judged)
        if not all_true(stamped):
            t, span_ns, fingerprint, begin = t[stamped], span_ns[stamped], fingerprint[stamped], begin[stamped]
        rows = row if all_true(stamped) else row[stamped]
        self.last_t_ns[rows], self.last_span_ns[rows], self.same_ns[rows] = t, span_ns, span_ns
        self.last_begin[rows] = begin
        self.remember(rows, fingerprint)
        no = np.zeros(len(row), np.bool_)
        return StampVerdict(stamped, np.zeros(len(row)), no, no, trusted=True)

    def _check_unusual(self, messages: StampedMessages, dt: Float64, judged: Bool) -> StampVerdict:
        row, t, stamped, span_ns = messages.row, messages.t, messages.stamped, messages.span_ns
        fingerprint, begin = messages.fingerprint, messages.begin
        last_span = self.last_span_ns[row]
        repeated = judged & self.is_repeated(row, fingerprint)
        fresh = judged & ~repeated
        forward = fresh & (dt > 0)
        # A clock that was set back a little may hit the newest stamp again: then older messages come before.
        self.same_ns[row] = np.where(fresh & (dt < 0), 0.0, self.same_ns[row])
        same = fresh & (dt == 0) & (begin != self.last_begin[row]) & (self.same_ns[row] > 0)
        slow = forward & (dt < last_span * np.where(messages.announced, SLOW_ANNOUNCED, SLOW))
        fast = forward & (dt > last_span * FAST)
        good = forward & (dt > last_span / 2) & (dt < last_span * 2)
        # A message with the stamp of the last one says nothing about the speed.
        self.slow[row] = np.where(slow, self.slow[row] + 1, np.where(same | ~fresh, self.slow[row], 0))
        self.fast[row] = np.where(fast, self.fast[row] + 1, np.where(fresh, 0, self.fast[row]))
        mode = self.mode[row]
        counted = np.where(good, self.good[row] + 1, np.where(fresh, 0, self.good[row]))
        self.good[row] = np.where(mode == EXACT, 0, counted)
        self.same_ns[row] = np.where(same, self.same_ns[row] + span_ns, self.same_ns[row])

        restart = np.zeros(len(row), np.bool_)
        wrong_speed = (self.slow[row] >= SPEED_MESSAGES) | (self.fast[row] >= SPEED_MESSAGES)
        believed = self.good[row] >= np.where(mode == UNUSABLE, BELIEVE_UNUSABLE, BELIEVE_COARSE)
        for k in np.flatnonzero(same | (wrong_speed & (mode != UNUSABLE)) | (believed & (mode != EXACT))).tolist():
            restart[k] = self._change_mode(int(row[k]), int(t[k]), float(dt[k] / max(last_span[k], 1.0)), bool(same[k]))

        newest = stamped & ~repeated & ((dt > 0) | same | ~judged)
        moved = row[newest & ~same]
        self.last_t_ns[row[newest]], self.last_span_ns[row[newest]] = t[newest], span_ns[newest]
        self.last_begin[row[newest]] = begin[newest]
        self.same_ns[moved] = span_ns[newest & ~same]
        keep = stamped & ~repeated
        self.remember(row[keep], fingerprint[keep])
        mode = self.mode[row]
        return StampVerdict(
            stamped & (mode != UNUSABLE),
            np.where(mode == COARSE, self.resolution_ns[row], 0.0),
            repeated,
            restart,
            trusted=False,
        )

    def _change_mode(self, row: int, t: int, speed: float, same: bool) -> bool:
        """Change how the stamps of ``row`` are used, and return whether the row restarts."""
        mode = int(self.mode[row])
        if mode == UNUSABLE and (same or self.good[row] < BELIEVE_UNUSABLE):
            return False
        if same:
            self.resolution_ns[row] = max(float(self.resolution_ns[row]), float(self.same_ns[row]))
            if self.resolution_ns[row] > MAX_RESOLUTION_NS:
                return self._set_mode(row, UNUSABLE, _too_coarse(t, float(self.same_ns[row])), restart=False)
            return mode != COARSE and self.set_coarse(row, t)
        if self.fast[row] >= SPEED_MESSAGES or self.slow[row] >= SPEED_MESSAGES:
            return self._set_mode(row, UNUSABLE, _wrong_speed(t, speed), restart=True)
        # The stamps have been good for a while.
        self.mode[row], self.resolution_ns[row], self.whole[row] = EXACT, 0.0, 0
        self._health.end(np.array([row]), Problem.STAMPS)
        return mode == UNUSABLE

    def set_coarse(self, row: int, t: int) -> bool:
        """Count the samples of ``row`` from now on, and return whether it restarts."""
        return self._set_mode(row, COARSE, _rounded(t), restart=True)

    def set_unusable(self, row: int, detail: str) -> None:
        """Use the arrival times of ``row`` from now on."""
        self._set_mode(row, UNUSABLE, detail, restart=True)

    def note_whole_seconds(self, row: Int64, t: Int64, dt: Float64, last_span: Float64) -> Int64:
        """Return the indices of the rows whose stamps turn out to be rounded to seconds.

        Call it with messages that do not fit the clock. A lost message also shifts the stamp, but by its whole span.
        """
        spans = dt / np.maximum(last_span, 1.0)
        whole = (t % _SECOND_NS == 0) & (dt % _SECOND_NS == 0) & (dt > 0) & (np.abs(spans - np.rint(spans)) > 0.2)
        self.whole[row] += whole
        found = np.flatnonzero(whole & (self.whole[row] >= _WHOLE_SECONDS) & (self.mode[row] == EXACT))
        for k in found.tolist():
            self.resolution_ns[row[k]] = _SECOND_NS
            self.set_coarse(int(row[k]), int(t[k]))
        return found

    def _set_mode(self, row: int, mode: int, detail: str, *, restart: bool) -> bool:
        self.mode[row] = mode
        self.slow[row] = self.fast[row] = self.good[row] = 0
        self._health.note(row, Problem.STAMPS, detail)
        return restart


def _rounded(t: int) -> str:
    mend = "send finer stamps"
    for factor in (10**3, 10**6, 10**9):
        if _EARLIEST_NS <= t * factor < _LATEST_NS:
            mend = _TOO_COARSE_UNIT.format(factor)
    return f"its stamps are rounded, such as {t / 1e9:.3f} s; its samples are counted instead: {mend}"


def _too_coarse(t: int, same_ns: float) -> str:
    return (
        f"its stamps stay at {t / 1e9:.3f} s for {same_ns / 1e9:.1f} s of samples (a 32-bit float holds no such time); "
        "the arrival times are used, send t as a 64-bit number or t_ms as an integer"
    )


def _wrong_speed(t: int, speed: float) -> str:
    """Describe stamps that advance ``speed`` times as fast as the samples; the speed tells the unit."""
    for unit, factor in (("ms", 1e3), ("us", 1e6), ("ns", 1e9)):
        if 1 / 4 < speed / factor < 4:
            advice = f"t seems to be in {unit}: send it as t_{unit}"
            break
        if 1 / 4 < speed * factor < 4:
            advice = _TOO_COARSE_UNIT.format(factor)
            break
    else:
        advice = "stamp the first sample of each message with the time when it was measured"
    return (
        f"its stamps advance {speed:.3g} times as fast as its samples (the last one is {t / 1e9:.3f} s); "
        f"the arrival times are used, {advice}"
    )
