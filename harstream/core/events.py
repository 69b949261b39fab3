"""ActivityTracker: when a device enters and exits an activity, from what is believed of its windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harstream.core.batches import Float64, Int64
from harstream.core.rows import RowArrays

ENTER, EXIT = "enter", "exit"


@dataclass(frozen=True, slots=True)
class ActivityEvent:
    """A device enters or exits an activity."""

    device: str
    kind: str  # ENTER or EXIT
    label: int  # index into the bundle's labels
    t_ns: int  # event time of the change, as estimated
    confidence: float  # at ENTER of the window it began with, at EXIT the mean of the activity's windows
    duration_ns: int = 0  # of the activity, at EXIT

    @property
    def duration_s(self) -> float:
        return self.duration_ns / 1e9


class ActivityTracker(RowArrays):
    """The activity that each row is in, and since when.

    Between two windows of different states, the change is taken to have happened half-way between their
    centres: of windows that are labelled by the longer part of them, that is right in the mean. UNKNOWN
    (the state behind the last label) is no activity: it is neither entered nor exited.
    """

    ROW_ARRAYS = ("activity", "entered_ns", "centre_ns", "end_ns", "n_windows", "confidence")

    def __init__(self, n_labels: int, capacity: int) -> None:
        self._n_labels = n_labels
        self.activity = np.zeros(capacity, np.int64)  # state + 1; 0: none yet
        self.entered_ns = np.zeros(capacity, np.int64)
        self.centre_ns = np.zeros(capacity, np.int64)  # of the last window
        self.end_ns = np.zeros(capacity, np.int64)  # of the last window
        self.n_windows = np.zeros(capacity, np.int64)  # since entered
        self.confidence = np.zeros(capacity)  # summed over them

    def feed(
        self,
        rows: Int64,
        state: Int64,
        confidence: Float64,
        start_ns: Int64,
        end_ns: Int64,
        device: Callable[[int], str],
    ) -> dict[int, list[ActivityEvent]]:
        """The next window of each of ``rows`` (each once) to the events it brings, by row."""
        centre_ns = start_ns + (end_ns - start_ns) // 2
        before = self.activity[rows]
        # A clock put right makes windows longer: of two close ones, the later may then be centred on an earlier time.
        centre_ns = np.where(before == 0, centre_ns, np.maximum(centre_ns, self.centre_ns[rows]))
        new = np.flatnonzero(before != state + 1)
        events: dict[int, list[ActivityEvent]] = {}
        if len(new):
            changed_ns = self.centre_ns[rows] + (centre_ns - self.centre_ns[rows]) // 2
            t_ns = np.where(before == 0, start_ns, changed_ns)
            for i in new.tolist():
                row = int(rows[i])
                events[row] = self._exit(row, int(t_ns[i]), device)
                if state[i] < self._n_labels:
                    events[row].append(
                        ActivityEvent(device(row), ENTER, int(state[i]), int(t_ns[i]), float(confidence[i]))
                    )
            changed = rows[new]
            self.activity[changed] = state[new] + 1
            self.entered_ns[changed] = t_ns[new]
            self.n_windows[changed] = 0
            self.confidence[changed] = 0.0
        self.centre_ns[rows], self.end_ns[rows] = centre_ns, end_ns
        self.n_windows[rows] += 1
        self.confidence[rows] += confidence
        return events

    def end(self, rows: Int64, device: Callable[[int], str]) -> dict[int, list[ActivityEvent]]:
        """Nothing follows the last windows of ``rows``: the exits at their ends, by row."""
        events = {row: self._exit(row, int(self.end_ns[row]), device) for row in rows.tolist()}
        self.activity[rows] = 0
        return events

    def _exit(self, row: int, t_ns: int, device: Callable[[int], str]) -> list[ActivityEvent]:
        state = int(self.activity[row]) - 1
        if not 0 <= state < self._n_labels:
            return []
        confidence = float(self.confidence[row]) / int(self.n_windows[row])
        return [ActivityEvent(device(row), EXIT, state, t_ns, confidence, t_ns - int(self.entered_ns[row]))]
