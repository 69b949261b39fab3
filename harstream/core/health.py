"""Health of each device: counts of its mishaps, and its present problems."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harstream.core.batches import Bool, Float32, Float64, Int64
from harstream.core.plausibility import describe_acc, describe_gyro, gyro_plausible, has_gravity
from harstream.core.problems import Problem
from harstream.core.rows import RowArrays, all_true, any_true

#: Starts in a row without any window, after which a device has a problem.
FRUITLESS_STARTS = 10
_FRUITLESS = (
    "it began {} times without filling a window, since its samples come too seldom or with long gaps; send them "
    "without gaps longer than the model's max_gap_s"
)

_COUNTS = ("late", "gaps", "restarts")


class RateCause(enum.IntFlag):
    """Causes of the problem RATE."""

    UNUSABLE = enum.auto()  # it announces a rate that cannot be resampled
    WRONG = enum.auto()  # its messages show another rate than it announces
    FRUITLESS = enum.auto()  # it starts again and again without filling a window


@dataclass(frozen=True, slots=True)
class DeviceHealth:
    """State of every device at one moment. The entries of all fields are aligned."""

    devices: Sequence[str]  # (n_devices,)
    last_seen_s: Float64  # (n_devices,) arrival of the newest message, seconds since the epoch
    rate_hz: Float64  # (n_devices,) rate by which the samples are counted
    late: Int64  # (n_devices,) samples dropped as late
    gaps: Int64  # (n_devices,) interpolated or not
    restarts: Int64  # (n_devices,) after a long gap, with a new rate, or with a new clock
    acc_unit: Sequence[str | None]  # (n_devices,) unit told from the signal; None: stated, or not decided yet
    problems: Int64  # (n_devices,) mask of Problem


class HealthTable(RowArrays):
    """Counts and problems by row.

    The parts of the engine report here. An incident is noted when a problem begins, so that somebody can be told once.
    """

    ROW_ARRAYS = ("late", "gaps", "restarts", "fruitless", "problems", "rate_causes", "good")

    def __init__(self, capacity: int) -> None:
        self.late = np.zeros(capacity, np.int64)
        self.gaps = np.zeros(capacity, np.int64)
        self.restarts = np.zeros(capacity, np.int64)
        self.fruitless = np.zeros(capacity, np.int64)  # starts since the last window
        self.problems = np.zeros(capacity, np.int64)
        self.rate_causes = np.zeros(capacity, np.int8)  # mask of RateCause
        self.good = np.zeros(capacity, np.int64)  # mask of problems that the last window did not show
        self.incidents: list[tuple[int, Problem, str]] = []  # (row, problem, detail) since the engine took them
        #: Of the gyroscope, where it comes in messages of its own. What is true of one sensor must not change what
        #: happens to the other, so each has a table.
        self.gyro: HealthTable | None = None

    def all_problems(self, rows: Int64 | slice = slice(None)) -> Int64:
        """Return the masks of the problems of ``rows``, those of a gyroscope with messages of its own too (n_rows,)."""
        problems = self.problems[rows]
        return problems if self.gyro is None else problems | self.gyro.problems[rows]

    def of_devices(
        self,
        devices: Sequence[str],
        rows: Int64,
        last_seen_s: Float64,
        rate_hz: Float64,
        acc_unit: Sequence[str | None],
    ) -> DeviceHealth:
        """Return the state of devices, with counts and problems from here. The arguments are aligned."""
        counts = [getattr(self, name)[rows] for name in _COUNTS]
        if self.gyro is not None:
            gyro = [getattr(self.gyro, name)[rows] for name in _COUNTS]
            counts = [own + other for own, other in zip(counts, gyro, strict=True)]
        late, gaps, restarts = counts
        problems = self.all_problems(rows)
        return DeviceHealth(devices, last_seen_s, rate_hz, late, gaps, restarts, acc_unit, problems)

    def take_incidents(self) -> list[tuple[int, Problem, str]]:
        """Return (row, problem, detail) of the incidents since the last call."""
        if self.gyro is not None and self.gyro.incidents:
            self.incidents += [(row, problem, f"gyroscope: {detail}") for row, problem, detail in self.gyro.incidents]
            self.gyro.incidents.clear()
        if not self.incidents:  # the usual case
            return []
        taken, self.incidents = self.incidents, []
        return taken

    def begin(self, row: int, problem: Problem, detail: str) -> None:
        """Set a problem of ``row``. Note an incident with ``detail`` if it is new."""
        if not self.problems[row] & problem:
            self.note(row, problem, detail)

    def note_starts(self, rows: Int64) -> None:
        """Count starts of ``rows``, each once. Report rows that start again and again without a window."""
        if not len(rows):  # the usual case
            return
        self.fruitless[rows] += 1
        for row in rows[self.fruitless[rows] >= FRUITLESS_STARTS].tolist():
            self.begin_rate(row, RateCause.FRUITLESS, _FRUITLESS.format(int(self.fruitless[row])))

    def judge_windows(self, rows: Int64, total_acc: Float32, gyro: Float32 | None, sample_rate_hz: float) -> Int64:
        """Look for problems in due windows, and return the problems of their rows (n_windows,).

        Args:
            rows: (n_windows,) each row once.
            total_acc: (n_windows, window, 3) in g.
            gyro: (n_windows, window, 3) in rad/s; None: not used by the model.
            sample_rate_hz: Of the windows.

        """
        if any_true(self.fruitless[rows]):  # not in the usual case
            self.end_rate(rows, RateCause.FRUITLESS)
            self.fruitless[rows] = 0
        gravity = has_gravity(total_acc)
        plausible = np.ones(len(rows), np.bool_)
        if gyro is not None:
            plausible = gyro_plausible(total_acc, gyro, sample_rate_hz) | ~gravity  # without gravity nobody can tell
        problems = self.problems[rows]
        if all_true(gravity) and all_true(plausible) and not any_true(problems):  # the usual case
            self.good[rows] = Problem.GRAVITY | Problem.GYROSCOPE
            return problems
        for k in self._judge(rows, Problem.GRAVITY, ~gravity).tolist():
            self.begin(int(rows[k]), Problem.GRAVITY, describe_acc(total_acc[k]))
        for k in self._judge(rows, Problem.GYROSCOPE, ~plausible).tolist():
            assert gyro is not None
            self.begin(int(rows[k]), Problem.GYROSCOPE, describe_gyro(gyro[k]))
        return self.problems[rows]

    def _judge(self, rows: Int64, problem: Problem, bad: Bool) -> Int64:
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

    def begin_rate(self, row: int, cause: RateCause, detail: str) -> None:
        """Add a cause of the problem RATE of ``row``. Note an incident with ``detail`` if it is new."""
        if not self.rate_causes[row] & cause:
            self.rate_causes[row] |= cause
            self.note(row, Problem.RATE, detail)

    def end_rate(self, rows: Int64, cause: RateCause) -> None:
        """Take away a cause of the problem RATE of ``rows``, which ends with the last cause."""
        self.rate_causes[rows] &= ~int(cause)
        self.end(rows[self.rate_causes[rows] == 0], Problem.RATE)

    def end(self, rows: Int64, problem: Problem) -> None:
        """Clear a problem of ``rows``."""
        if len(rows):
            self.problems[rows] &= ~int(problem)
