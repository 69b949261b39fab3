"""Jumps of a device's clock: messages that agree with each other, but not with the clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Bool, Int64, SampleBatch
from harstream.core.clock import Clock
from harstream.core.health import HealthTable, RateCause
from harstream.core.messages import BatchOutcome
from harstream.core.problems import Problem
from harstream.core.rows import RowArrays, any_true
from harstream.core.stamps import UNUSABLE, Stamps

#: Messages that must agree with each other on a new clock: outside of the time that the present clock has covered, and
#: inside of it, where they could also be messages that were delivered late.
NEW_CLOCK_MESSAGES, NEW_CLOCK_MESSAGES_INSIDE = 3, 5
#: A clock set back by less than this is waited for: a restart would cost more.
WAIT_NS = 1_000_000_000
#: A message that is ahead by more than this and the silence before it waits for the next one, which tells a single
#: wrong stamp from a jump or lost messages.
HOLD_NS = 1_000_000_000
#: A clock that is set forward by at most this looks like lost messages, and is not reported as a jump.
REPORT_NS = 10 * 1_000_000_000
#: A message up to this much older than a message that waits still confirms its time.
_CONFIRM_NS = 1_000_000_000
#: Limit of the samples that wait, over all devices.
MAX_HELD_SAMPLES = 1_000_000
#: Messages in a row that agree neither with the clock nor with each other, after which stamps are not used.
LOST_MESSAGES = 10
#: Messages of another clock, each counted twice, minus messages of the present one, that show two devices.
MAX_STRAYS = 20
#: Event time for which a jump stays a problem of the device.
RECENT_NS = 60 * 1_000_000_000


class ClockJumps(RowArrays):
    """Candidates for a new clock, by row, and the messages that wait for the next one of their device.

    A message far ahead of its clock waits for the next message of its row: if that is back at the old time, only the
    stamp was wrong. Messages before the present time are dropped, until enough of them agree with each other.
    """

    ROW_ARRAYS = (
        "start_ns",
        "messages",
        "last_ns",
        "last_span_ns",
        "lost",
        "strays",
        "last_arrival_s",
        "recent_until_ns",
    )

    def __init__(self, clock: Clock, stamps: Stamps, health: HealthTable, max_gap_ns: float) -> None:
        self._clock, self._stamps, self._health = clock, stamps, health
        self._max_gap_ns = max_gap_ns
        capacity = clock.capacity
        self.start_ns = np.zeros(capacity, np.int64)  # first stamp of the present clock
        self.messages = np.zeros(capacity, np.int64)  # in a row that agree on another clock
        self.last_ns = np.zeros(capacity, np.int64)  # stamp of the last of them
        self.last_span_ns = np.zeros(capacity)  # and the span of its samples
        self.lost = np.zeros(capacity, np.int64)  # messages in a row that do not agree with the clock
        self.strays = np.zeros(capacity, np.int64)  # grows with messages of another clock, shrinks with others
        self.last_arrival_s = np.zeros(capacity)  # of the newest message
        self.recent_until_ns = np.zeros(capacity, np.int64)  # event time until which the last jump is a problem
        self.held: dict[int, SampleBatch] = {}  # row to the message that waits, a batch of one
        self._held_samples = 0

    def reset(self, rows: Int64) -> None:
        """Forget the devices of ``rows``."""
        super().reset(rows)
        for row in rows.tolist() if self.held else ():
            self._remove(row)

    def keep(self, rows: Int64, capacity: int) -> None:
        """Make the state of ``rows`` that of the first rows, forget all others, and have room for ``capacity`` rows."""
        super().keep(rows, capacity)
        new_rows = {row: new_row for new_row, row in enumerate(rows.tolist())}
        self.held = {new_rows[row]: message for row, message in self.held.items()}

    def start(self, rows: Int64, t: Int64) -> None:
        """Note that the clocks of ``rows`` start at ``t``."""
        self.start_ns[rows] = t
        self.recent_until_ns[rows] = np.minimum(self.recent_until_ns[rows], t + RECENT_NS)  # of an earlier clock
        self.messages[rows] = self.lost[rows] = self.strays[rows] = 0

    def end_recent(self, rows: Int64) -> Int64:
        """End the problem CLOCK of ``rows`` whose last jump is long ago, and return all problems of them (n_rows,)."""
        self._health.end(rows[self._clock.next_ns[rows] >= self.recent_until_ns[rows]], Problem.CLOCK)
        return self._health.problems[rows]

    # --- messages before the present time -----------------------------------------------------

    def agree(self, rows: Int64) -> None:
        """Note that a message of each row agrees with its clock."""
        if any_true(self.strays[rows]):  # not in the usual case
            self.messages[rows] = self.lost[rows] = 0
            self.strays[rows] = np.maximum(self.strays[rows] - 1, 0)

    def starts_new_clock(self, row: int, t: int, count: int) -> bool:
        """Note a message before the present time of its row, and return whether it starts a new clock.

        If too many such messages disagree with each other, the stamps of the row are not used any more.

        Args:
            row: Row of the message.
            t: Its stamp.
            count: Samples in it.

        """
        span_ns = count * float(self._clock.period_ns[row])
        if self._agree_on_another(row, t, span_ns):
            self._note_jump(row, t)
            self._stamps.start_at(row, t, span_ns)
            return True
        if self.messages[row] > 1 and self._clock.next_ns[row] - t < WAIT_NS:
            return False  # a clock that was set back a little soon is at the present time again
        self.lost[row] += 1
        if self.lost[row] >= LOST_MESSAGES:
            self._stamps.set_unusable(
                row,
                f"the last {LOST_MESSAGES} stamps agree neither with earlier ones nor with each other (the newest is "
                f"{t / 1e9:.3f} s); the arrival times are used, stamp each message with the time of its first sample",
            )
        self._note_stray(row, t)
        return False

    def _agree_on_another(self, row: int, t: int, span_ns: float) -> bool:
        dt = t - int(self.last_ns[row])
        agrees = self.messages[row] > 0 and 0 < dt <= 2 * self.last_span_ns[row] + self._max_gap_ns
        self.messages[row] = self.messages[row] + 1 if agrees else 1
        self.last_ns[row], self.last_span_ns[row] = t, span_ns
        if self._clock.next_ns[row] - t < WAIT_NS:
            return False
        inside = self.start_ns[row] <= t
        return bool(self.messages[row] >= (NEW_CLOCK_MESSAGES_INSIDE if inside else NEW_CLOCK_MESSAGES))

    def _note_jump(self, row: int, t: int) -> None:
        """Report that the clock of ``row`` jumps to ``t``."""
        now_ns = int(self._clock.next_ns[row])
        jump_s = (t - now_ns) / 1e9
        self.recent_until_ns[row] = t + RECENT_NS
        self._health.note(
            row,
            Problem.CLOCK,
            f"its clock jumped by {jump_s:+.1f} s, from {now_ns / 1e9:.3f} s to {t / 1e9:.3f} s; its windows begin "
            "again",
        )

    def _note_stray(self, row: int, t: int) -> None:
        """Note a message of ``row`` that is dropped because its clock is another one."""
        self.strays[row] = min(self.strays[row] + 2, MAX_STRAYS)
        if self.strays[row] < MAX_STRAYS:
            return
        now_ns = int(self._clock.next_ns[row])
        self.recent_until_ns[row] = now_ns + RECENT_NS
        self._health.begin(
            row,
            Problem.CLOCK,
            f"many of its messages are stamped {(t - now_ns) / 1e9:+.1f} s apart from the others, and are dropped: two "
            "devices publish under this name, or it sends old messages between new ones",
        )

    # --- messages far ahead -------------------------------------------------------------------

    def hold_back(self, row: Int64, index: Int64, started: Bool, out: BatchOutcome) -> tuple[Int64, Int64]:
        """Let messages far ahead of their clock wait for the next message. Return row and index of the others.

        A message after a pause of the device is as far ahead as the pause was long, and does not wait.
        """
        batch = out.batch
        ahead = batch.t_ns[index] - self._clock.next_ns[row]
        silence_s = np.maximum(batch.arrival_s[index] - self.last_arrival_s[row], 0.0)
        self.last_arrival_s[row] = batch.arrival_s[index]
        far = (ahead > HOLD_NS + silence_s * 1e9) & started & batch.stamped[index]
        if not any_true(far):  # the usual case
            return row, index
        far &= self._stamps.mode[row] != UNUSABLE
        far &= self._health.rate_causes[row] & int(RateCause.UNUSABLE) == 0  # its dropped samples moved no clock
        repeated = far & self._stamps.is_repeated(row, out.fingerprint[index])
        out.drop(index[repeated])
        room = MAX_HELD_SAMPLES - self._held_samples - sum(int(batch.counts[k]) for k in out.waiting.values())
        for k in np.flatnonzero(far & ~repeated).tolist():
            count = int(batch.counts[index[k]])
            if count <= room:
                room -= count
                out.waiting[int(row[k])] = int(index[k])
            else:
                far[k] = False
        return row[~far], index[~far]

    def settle(self, row: Int64, index: Int64, out: BatchOutcome) -> tuple[Int64, Int64, Int64]:
        """Confirm or drop the messages that wait, where a message of their row follows.

        Returns:
            Row and index of the messages that follow, without repeated ones, and the index of the confirmed messages.

        """
        batch, keep = out.batch, np.ones(len(row), np.bool_)
        confirmed: list[int] = []
        followed = np.flatnonzero(np.isin(row, list(out.waiting)))
        repeated = batch.stamped[index[followed]] & self._stamps.is_repeated(
            row[followed], out.fingerprint[index[followed]]
        )
        for k, is_repeated in zip(followed.tolist(), repeated.tolist(), strict=True):
            row_number, following = int(row[k]), int(index[k])
            waiting = out.waiting[row_number]
            if is_repeated or out.fingerprint[following] == out.fingerprint[waiting]:
                keep[k] = False
                out.drop(index[k : k + 1])
                continue
            del out.waiting[row_number]
            t, next_t = int(batch.t_ns[waiting]), int(batch.t_ns[following])
            if batch.stamped[following] and next_t < t - _CONFIRM_NS:
                out.drop(np.array([waiting]))
                self._note_stray(row_number, t)
                continue
            confirmed.append(waiting)
            out.order[waiting] = out.order[following]
            # If the next one is far ahead too, the stamps are wrong, and not the clock.
            if next_t - t <= REPORT_NS and t - int(self._clock.next_ns[row_number]) > REPORT_NS:
                self._note_jump(row_number, t)
        return row[keep], index[keep], np.array(confirmed, np.int64)

    def hold(self, out: BatchOutcome) -> None:
        """Keep the messages of a batch that still wait."""
        for row, waiting in out.waiting.items():
            self._hold(row, out.batch.select(np.arange(len(out.batch)) == waiting))

    def _hold(self, row: int, message: SampleBatch) -> None:
        self.held[row] = message
        self._held_samples += len(message.samples)

    def _remove(self, row: int) -> SampleBatch | None:
        message = self.held.pop(row, None)
        if message is not None:
            self._held_samples -= len(message.samples)
        return message

    def release(self, rows: Int64, batch: SampleBatch) -> tuple[Int64, SampleBatch]:
        """Put the messages that wait for one of ``rows`` before the batch. They are then no longer held here."""
        waiting = [row for row in dict.fromkeys(rows.tolist()) if row in self.held]
        if not waiting:
            return rows, batch
        messages = [self._remove(row) for row in waiting]
        batches = [message for message in messages if message is not None]
        return np.concatenate([np.array(waiting, np.int64), rows]), SampleBatch.concatenate([*batches, batch])

    # --- state --------------------------------------------------------------------------------

    def snapshot(self, rows: Int64) -> dict[str, npt.NDArray[Any]]:
        """Return a copy of the state of ``rows``, by the names in ROW_ARRAYS, and the messages that wait."""
        state = super().snapshot(rows)
        position = {row: k for k, row in enumerate(rows.tolist())}
        held = [(position[row], message) for row, message in self.held.items() if row in position]
        batch = SampleBatch.concatenate([message for _, message in held]) if held else None
        state["held_at"] = np.array([at for at, _ in held], np.int64)  # index into rows
        for name in _HELD_FIELDS:
            state[f"held_{name}"] = np.zeros(0) if batch is None else np.array(getattr(batch, name))
        return state

    def restore(self, rows: Int64, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write the first entries of the state that ``snapshot`` returned into ``rows``."""
        super().restore(rows, state)
        first = 0
        for k, at in enumerate(state["held_at"].tolist()):
            count = int(state["held_counts"][k])
            if at < len(rows):
                fields = {name: state[f"held_{name}"][k : k + 1] for name in _HELD_FIELDS if name != "samples"}
                samples = state["held_samples"][first : first + count]
                self._hold(int(rows[at]), SampleBatch([""], samples=samples, **fields))
            first += count


#: Fields of a SampleBatch that are saved of the messages that wait. Their devices follow from their rows.
_HELD_FIELDS = ("t_ns", "stamped", "rate_hz", "counts", "arrival_s", "acc_unit_auto", "samples")
