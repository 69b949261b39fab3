"""Jumps of a device's clock: messages that agree with each other, but not with the clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Int64, SampleBatch
from harstream.core.rows import RowArrays

#: Messages that must agree with each other on a new clock: outside of the time that the present clock has covered, and
#: inside of it, where they could also be messages that were delivered late.
NEW_CLOCK_MESSAGES, NEW_CLOCK_MESSAGES_INSIDE = 3, 5
#: A clock set back by less than this is waited for: a restart would cost more.
WAIT_NS = 1_000_000_000
#: A message that is this far ahead waits for the next one, which tells a jump from a single wrong stamp.
HOLD_NS = 10 * 1_000_000_000
#: Limit of the samples that wait, over all devices.
MAX_HELD_SAMPLES = 1_000_000
#: Messages in a row that agree neither with the clock nor with each other, after which stamps are not used.
LOST_MESSAGES = 10
#: Messages of another clock, each counted twice, minus messages of the present one, that show two devices.
MAX_STRAYS = 20
#: Event time for which a jump stays a problem of the device.
RECENT_NS = 60 * 1_000_000_000


class ClockJumps(RowArrays):
    """Candidates for a new clock, by row, and the messages that wait for the next one of their device."""

    ROW_ARRAYS = ("start_ns", "messages", "last_ns", "last_span_ns", "lost", "strays", "recent_until_ns")

    def __init__(self, max_gap_ns: float, capacity: int) -> None:
        self._max_gap_ns = max_gap_ns
        self.start_ns = np.zeros(capacity, np.int64)  # first stamp of the present clock
        self.messages = np.zeros(capacity, np.int64)  # in a row that agree on another clock
        self.last_ns = np.zeros(capacity, np.int64)  # stamp of the last of them
        self.last_span_ns = np.zeros(capacity)  # and the span of its samples
        self.lost = np.zeros(capacity, np.int64)  # messages in a row that do not agree with the clock
        self.strays = np.zeros(capacity, np.int64)  # grows with messages of another clock, shrinks with others
        self.recent_until_ns = np.zeros(capacity, np.int64)  # event time until which the last jump is a problem
        self.held: dict[int, SampleBatch] = {}  # row to the message that waits
        self._held_samples = 0

    def reset(self, rows: Int64) -> None:
        """Forget the devices of ``rows``."""
        for name in self.ROW_ARRAYS:
            getattr(self, name)[rows] = 0
        for row in rows.tolist() if self.held else ():
            self._remove(row)

    def start(self, rows: Int64, t: Int64) -> None:
        """Note that the clocks of ``rows`` start at ``t``."""
        self.start_ns[rows] = t
        self.messages[rows] = self.lost[rows] = self.strays[rows] = 0

    def agree(self, rows: Int64) -> None:
        """Note that a message of each row agrees with its clock."""
        if self.strays[rows].any():  # not in the usual case
            self.messages[rows] = self.lost[rows] = 0
            self.strays[rows] = np.maximum(self.strays[rows] - 1, 0)

    def is_stray(self, row: int) -> bool:
        """Note a dropped message of another clock. Return whether there are so many that two devices must send them."""
        self.strays[row] = min(self.strays[row] + 2, MAX_STRAYS)
        return bool(self.strays[row] >= MAX_STRAYS)

    def is_new_clock(self, row: int, t: int, span_ns: float, next_ns: int) -> bool:
        """Note a message before the present time of its row, and return whether it belongs to a new clock.

        Args:
            row: Row of the message.
            t: Its stamp.
            span_ns: Span of its samples.
            next_ns: Present time of the row.

        """
        dt = t - int(self.last_ns[row])
        agrees = self.messages[row] > 0 and 0 < dt <= 2 * self.last_span_ns[row] + self._max_gap_ns
        self.messages[row] = self.messages[row] + 1 if agrees else 1
        self.last_ns[row], self.last_span_ns[row] = t, span_ns
        self.lost[row] += 1
        inside = self.start_ns[row] <= t
        if inside and next_ns - t < WAIT_NS:
            return False
        return bool(self.messages[row] >= (NEW_CLOCK_MESSAGES_INSIDE if inside else NEW_CLOCK_MESSAGES))

    # --- messages that wait -------------------------------------------------------------------

    def can_hold(self, count: int) -> bool:
        """Return whether a message of ``count`` samples may wait."""
        return self._held_samples + count <= MAX_HELD_SAMPLES

    def hold(self, row: int, message: SampleBatch) -> None:
        """Let a message (a batch of one) wait for the next one of its row."""
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
                self.hold(int(rows[at]), SampleBatch([""], samples=samples, **fields))
            first += count


#: Fields of a SampleBatch that are saved of the messages that wait. Their devices follow from their rows.
_HELD_FIELDS = ("t_ns", "stamped", "rate_hz", "counts", "arrival_s", "acc_unit_auto", "samples")
