"""Two sources under one device name: messages that overlap in time and do not continue each other."""

from __future__ import annotations

import numpy as np

from harstream.core.batches import Bool, Float32, Float64, Int64
from harstream.core.rows import RowArrays, any_true

#: A message overlaps the one before it if it begins within this part of its span. A drifting clock is at most 5 % off.
OVERLAPPING = 0.85
#: Samples that do not overlap, which count as much as one that does. Of two sources that send at nearly the same
#: moment, only every second message overlaps.
_RECOVERY = 3
#: Overlapping samples, and comparisons of the signal, before two sources are assumed; the limit of the former.
SAMPLES, COMPARISONS, MAX_SAMPLES = 75, 2, 150
#: Two sources take turns: the step from a message to the next is larger, by this factor in the mean square, than the
#: step from the message before it. The signal of one source that announces half of its rate is continuous instead.
STEP_RATIO = 2.0
_DECAY = 0.9


class Overlaps(RowArrays):
    """Search for two sources in the messages of each row that announce a rate."""

    ROW_ARRAYS = ("ends", "ends_known", "samples", "comparisons", "step_ms", "turn_ms", "found")

    def __init__(self, capacity: int) -> None:
        self.ends = np.zeros((capacity, 2, 3), np.float32)  # last acceleration of the newest two messages
        self.ends_known = np.zeros(capacity, np.int64)  # how many of them there are, at most 2
        self.samples = np.zeros(capacity, np.int64)  # _RECOVERY times those that overlap, minus those that do not
        self.comparisons = np.zeros(capacity, np.int64)
        self.step_ms = np.zeros(capacity)  # mean square of the steps from the last message
        self.turn_ms = np.zeros(capacity)  # and of those from the message before it
        self.found = np.zeros(capacity, np.bool_)

    def concerns(self, row: Int64, overlapping: Bool) -> bool:
        """Return whether ``feed`` has anything to do, which is not the usual case."""
        return any_true(overlapping) or any_true(self.samples[row])

    def feed(
        self, row: Int64, overlapping: Bool, count: Int64, acc: tuple[Float32, Float32], before: Float32
    ) -> tuple[Int64, Int64]:
        """Compare one message of each row with the two before it.

        Args:
            row: (n_rows,) each row once.
            overlapping: (n_rows,) whether the message begins before the last one ends, by its announced rate.
            count: (n_rows,) samples in the message.
            acc: Its first and its last acceleration, (n_rows, 3) each.
            before: (n_rows, 3) last acceleration before the message. Only the first overlapping message needs it.

        Returns:
            Indices of the rows where two sources are found, and of those where they have ended.

        """
        first_acc, last_acc = acc
        fresh = overlapping & (self.samples[row] == 0)
        self.ends[row[fresh], 0] = before[fresh]
        self.ends_known[row[fresh]] = 1
        compared = overlapping & (self.ends_known[row] == 2)
        step = _mean_square(first_acc, self.ends[row, 0])
        turn = _mean_square(first_acc, self.ends[row, 1])
        self.step_ms[row] = np.where(compared, _DECAY * self.step_ms[row] + step, self.step_ms[row])
        self.turn_ms[row] = np.where(compared, _DECAY * self.turn_ms[row] + turn, self.turn_ms[row])
        comparisons = self.comparisons[row] + compared
        samples = self.samples[row] + np.where(overlapping, _RECOVERY * count, -count)
        samples = np.minimum(np.maximum(samples, 0), _RECOVERY * MAX_SAMPLES)
        take_turns = self.step_ms[row] > STEP_RATIO * self.turn_ms[row]
        found = self.found[row]
        enough = (samples >= _RECOVERY * SAMPLES) & (comparisons >= COMPARISONS)
        begun = np.flatnonzero(~found & enough & take_turns)
        ended = np.flatnonzero(found & (samples == 0))
        self.found[row[begun]], self.found[row[ended]] = True, False
        self.samples[row] = samples
        self.comparisons[row] = np.where(samples > 0, comparisons, 0)
        over = row[samples == 0]
        self.step_ms[over] = self.turn_ms[over] = 0.0
        self.ends[row, 1] = self.ends[row, 0]
        self.ends[row, 0] = last_acc
        self.ends_known[row] = np.minimum(self.ends_known[row] + 1, 2)
        return begun, ended


def _mean_square(one: Float32, other: Float32) -> Float64:
    difference = one.astype(np.float64) - other
    square = difference * difference
    return np.asarray(square[:, 0] + square[:, 1] + square[:, 2])
