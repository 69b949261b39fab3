"""Enter and exit events, made from the sequence of a device's smoothed labels and states between labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harstream.core.batches import Float64, Int64
from harstream.core.labels import UNKNOWN_INDEX
from harstream.core.rows import RowArrays, indices

ENTER, EXIT = "enter", "exit"


@dataclass(frozen=True, slots=True)
class ActivityEvent:
    """Start or end of an activity of a device."""

    device: str
    kind: str  # ENTER or EXIT
    label: int  # index into the bundle's outputs: a label or a state between labels, never UNKNOWN_INDEX
    t_ns: int  # estimated event time of the change
    confidence: float  # ENTER: of the first window of the activity; EXIT: mean over the windows of the activity
    duration_ns: int = 0  # EXIT: of the activity; ENTER: 0

    @property
    def duration_s(self) -> float:
        """Duration in seconds."""
        return self.duration_ns / 1e9


class ActivityTracker(RowArrays):
    """Current activity of each row, with its start and mean confidence.

    If two windows in a row have different labels, the time of the change is estimated as half-way between their
    centres. A window mostly has the label of its longer part, so this estimate is right on average. UNKNOWN is not an
    activity: it causes no event of its own.
    """

    ROW_ARRAYS = ("n_windows", "label", "entered_ns", "centre_ns", "end_ns", "confidence")

    def __init__(self, capacity: int) -> None:
        self.n_windows = np.zeros(capacity, np.int64)  # since the label began; 0: the row had no window since its reset
        self.label = np.zeros(capacity, np.int64)  # of these windows; may be UNKNOWN_INDEX
        self.entered_ns = np.zeros(capacity, np.int64)  # when the label began
        self.centre_ns = np.zeros(capacity, np.int64)  # centre of the last window
        self.end_ns = np.zeros(capacity, np.int64)  # end of the last window
        self.confidence = np.zeros(capacity)  # sum over the windows

    def feed(
        self,
        rows: Int64,
        label: Int64,
        confidence: Float64,
        start_ns: Int64,
        end_ns: Int64,
        device: Callable[[int], str],
    ) -> dict[int, list[ActivityEvent]]:
        """Return the events, by row, that the next window of each row causes.

        Args:
            rows: (n_rows,) each row once.
            label: (n_rows,) output that the window is labelled with, or UNKNOWN_INDEX.
            confidence: (n_rows,) confidence in it.
            start_ns: (n_rows,) start of the window.
            end_ns: (n_rows,) end of the window.
            device: Gives the device id of a row.

        """
        centre_ns = start_ns + (end_ns - start_ns) // 2
        first = self.n_windows[rows] == 0
        # If the clock of the device was corrected, windows get longer, and the centre of the later of two windows that
        # are close may lie before that of the earlier.
        centre_ns = np.where(first, centre_ns, np.maximum(centre_ns, self.centre_ns[rows]))
        changes = indices(first | (self.label[rows] != label))
        events: dict[int, list[ActivityEvent]] = {}
        if len(changes):
            half_way_ns = self.centre_ns[rows] + (centre_ns - self.centre_ns[rows]) // 2
            t_ns = np.where(first, start_ns, half_way_ns)
            for i in changes.tolist():
                row = int(rows[i])
                events[row] = self._exit(row, int(t_ns[i]), device)
                if label[i] != UNKNOWN_INDEX:
                    events[row].append(
                        ActivityEvent(device(row), ENTER, int(label[i]), int(t_ns[i]), float(confidence[i]))
                    )
            changed = rows[changes]
            self.label[changed] = label[changes]
            self.entered_ns[changed] = t_ns[changes]
            self.n_windows[changed] = 0
            self.confidence[changed] = 0.0
        self.centre_ns[rows], self.end_ns[rows] = centre_ns, end_ns
        self.n_windows[rows] += 1
        self.confidence[rows] += confidence
        return events

    def feed_row(
        self, row: int, label: int, confidence: float, start_ns: int, end_ns: int, device: Callable[[int], str]
    ) -> list[ActivityEvent]:
        """Return the events that the next window of one row causes, see ``feed``."""
        n_windows = self.n_windows.item(row)
        if not n_windows or label != self.label.item(row):
            rows, labels, start, end = np.array([[row], [label], [start_ns], [end_ns]])
            return self.feed(rows, labels, np.array([confidence]), start, end, device).get(row, [])
        self.centre_ns[row] = max(start_ns + (end_ns - start_ns) // 2, self.centre_ns.item(row))
        self.end_ns[row] = end_ns
        self.n_windows[row] = n_windows + 1
        self.confidence[row] += confidence
        return []

    def end(self, rows: Int64, device: Callable[[int], str]) -> dict[int, list[ActivityEvent]]:
        """Reset ``rows`` and return the exits, by row, at the ends of their last windows."""
        events = {row: self._exit(row, int(self.end_ns[row]), device) for row in rows.tolist()}
        self.n_windows[rows] = 0
        return events

    def _exit(self, row: int, t_ns: int, device: Callable[[int], str]) -> list[ActivityEvent]:
        label, n_windows = int(self.label[row]), int(self.n_windows[row])
        if n_windows == 0 or label == UNKNOWN_INDEX:
            return []
        confidence = float(self.confidence[row]) / n_windows
        return [ActivityEvent(device(row), EXIT, label, t_ns, confidence, t_ns - int(self.entered_ns[row]))]
