"""Problems of a device that make its labels wrong or missing, as bits of a mask.

The core only finds problems; logging, metrics and HTTP belong to ``serve``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Problem(enum.IntFlag):
    """Kinds of problems, the most severe first. Masks of them are kept in integer arrays."""

    GRAVITY = enum.auto()  # acceleration has no plausible gravity: unknown unit, or gravity was removed
    OVERLAP = enum.auto()  # two sources publish under one device name
    GYROSCOPE = enum.auto()  # it contradicts the acceleration, so its unit is wrong; or a sensor is missing or late
    UNFAMILIAR = enum.auto()  # most windows are unlike everything that the model was trained on
    RATE = enum.auto()  # the sample rate cannot be used, is not the announced one, or gaps never let a window fill
    STAMPS = enum.auto()  # stamps are in another unit or too coarse, and are replaced by counting or by arrival times
    CLOCK = enum.auto()  # the clock of the device jumped

    @property
    def public_name(self) -> str:
        """Name in the API, in metrics and in messages."""
        assert self.name is not None, "only a single problem has a name"
        return self.name.lower()

    @property
    def in_words(self) -> str:
        """What is wrong, in a few words for people who do not know the name."""
        return _WORDS[self]


_WORDS = {
    Problem.GRAVITY: "no gravity found",
    Problem.OVERLAP: "two senders",
    Problem.GYROSCOPE: "bad gyroscope",
    Problem.UNFAMILIAR: "unlike training",
    Problem.RATE: "bad sample rate",
    Problem.STAMPS: "unusable times",
    Problem.CLOCK: "clock jumped",
}


#: Problems under which a label would be wrong. Windows with one of them are published as UNKNOWN.
UNTRUSTED = Problem.GRAVITY | Problem.OVERLAP | Problem.GYROSCOPE | Problem.UNFAMILIAR


@dataclass(frozen=True, slots=True)
class Incident:
    """Beginning of a problem of a device, or a further jump of its clock."""

    device: str
    problem: Problem
    detail: str  # one line for people, with the values that were found


def first_problem(mask: int) -> Problem | None:
    """Return the most severe problem in a mask, or None if it is empty."""
    return Problem(mask & -mask) if mask else None


def problems_in(mask: int) -> list[Problem]:
    """Return the problems in a mask, the most severe first."""
    return [problem for problem in Problem if problem & mask]
