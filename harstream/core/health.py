"""Health of each device: counts of its mishaps, and its present problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harstream.core.batches import Bool, Float64, Int64
from harstream.core.problems import Problem
from harstream.core.rows import RowArrays


@dataclass(frozen=True, slots=True)
class DeviceHealth:
    """State of every device at one moment. The entries of all fields are aligned."""

    devices: Sequence[str]  # (n_devices,)
    last_seen_s: Float64  # (n_devices,) arrival of the last accepted sample, seconds since the epoch
    rate_hz: Float64  # (n_devices,) rate by which the samples are counted
    late: Int64  # (n_devices,) samples dropped as late
    gaps: Int64  # (n_devices,) interpolated or not
    restarts: Int64  # (n_devices,) after a long gap, with a new rate, or with a new clock
    acc_unit: Sequence[str | None]  # (n_devices,) unit of the accelerations as sent; None: not decided yet
    problems: Int64  # (n_devices,) mask of Problem


class HealthTable(RowArrays):
    """Counts and problems by row.

    The parts of the engine report here. An incident is noted when a problem begins, so that somebody can be told once.
    """

    ROW_ARRAYS = ("late", "gaps", "restarts", "problems", "good")

    def __init__(self, capacity: int) -> None:
        self.late = np.zeros(capacity, np.int64)
        self.gaps = np.zeros(capacity, np.int64)
        self.restarts = np.zeros(capacity, np.int64)
        self.problems = np.zeros(capacity, np.int64)
        self.good = np.zeros(capacity, np.int64)  # mask of problems that the last window did not show
        self.incidents: list[tuple[int, Problem, str]] = []  # (row, problem, detail) since the engine took them

    def reset(self, rows: Int64) -> None:
        """Forget the devices of ``rows``."""
        for name in self.ROW_ARRAYS:
            getattr(self, name)[rows] = 0

    def begin(self, row: int, problem: Problem, detail: str) -> None:
        """Set a problem of ``row``. Note an incident with ``detail`` if it is new."""
        if not self.problems[row] & problem:
            self.note(row, problem, detail)

    def judge(self, rows: Int64, problem: Problem, bad: Bool) -> Int64:
        """Note which windows show a problem. Return the indices of those that count.

        A device whose last window was good may show a problem in a single window: a phone that is turned over does.
        """
        counts = np.flatnonzero(bad & (self.good[rows] & problem == 0))
        self.good[rows] = np.where(bad, self.good[rows] & ~int(problem), self.good[rows] | problem)
        self.end(rows[~bad], problem)
        return counts

    def note(self, row: int, problem: Problem, detail: str) -> None:
        """Set a problem of ``row``, and note an incident, even if the row has the problem already."""
        self.problems[row] |= problem
        self.incidents.append((row, problem, detail))

    def end(self, rows: Int64, problem: Problem) -> None:
        """Clear a problem of ``rows``."""
        self.problems[rows] &= ~int(problem)
