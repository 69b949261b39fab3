"""The script of a day: a semi-Markov chain over the activities.

Which activity follows which is only what a body can do: nobody walks off from lying without
standing up, stairs begin and end with walking. Chances and durations are plausible, not fitted:
the recordings follow a protocol, not a day.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from harstream.simulate.parameters import GAITS, POSTURES, Float

#: From an activity to those that may follow it, with their chances.
NEXT: Mapping[str, Mapping[str, float]] = {
    "WALKING": {"STANDING": 0.5, "WALKING_UPSTAIRS": 0.25, "WALKING_DOWNSTAIRS": 0.25},
    "WALKING_UPSTAIRS": {"WALKING": 0.8, "STANDING": 0.2},
    "WALKING_DOWNSTAIRS": {"WALKING": 0.8, "STANDING": 0.2},
    "SITTING": {"STANDING": 0.75, "LAYING": 0.25},
    "STANDING": {"WALKING": 0.5, "SITTING": 0.35, "LAYING": 0.15},
    "LAYING": {"SITTING": 0.6, "STANDING": 0.4},
}
#: Median time in an activity at pace 1, s; log-normal with ``DWELL_SPREAD``.
DWELL_S: Mapping[str, float] = {
    "WALKING": 60.0,
    "WALKING_UPSTAIRS": 20.0,
    "WALKING_DOWNSTAIRS": 18.0,
    "SITTING": 120.0,
    "STANDING": 40.0,
    "LAYING": 180.0,
}
DWELL_SPREAD = 0.4
#: No activity is held for less, whatever the pace: two windows of the usual 2.56 s.
SHORTEST_S = 6.0
#: Setting off, stopping, and passing between gaits take about a stride: median and log spread.
GAIT_CHANGE_S = (1.2, 0.2)


@dataclass(frozen=True, slots=True)
class Bout:
    """One activity, with the transition that leads into it: ``start_s`` <= ``steady_s`` < ``stop_s``."""

    activity: str
    stance: str  # where gravity rests: one of parameters.STANCES
    start_s: float  # the transition begins
    steady_s: float  # the activity proper begins
    stop_s: float  # the next bout's start


def stance_of(activity: str, before: str | None, rng: np.random.Generator) -> str:
    """Which of an activity's stances is taken after another activity."""
    if activity in GAITS:
        return activity
    first = {"SITTING": "STANDING", "LAYING": "STANDING", "STANDING": None}[activity]
    again = {"SITTING": "LAYING", "LAYING": "SITTING", "STANDING": "SITTING"}[activity]
    stem = {"SITTING": "sit", "LAYING": "lay", "STANDING": "stand"}[activity]
    if before == first and before is not None:
        return f"{stem}1"
    if before == again:
        return f"{stem}2"
    return f"{stem}{rng.integers(1, 3)}"


def shares() -> dict[str, float]:
    """The long-run share of time of each activity: visits of the embedded chain times dwell."""
    names = list(NEXT)
    step = np.array([[NEXT[a].get(b, 0.0) for b in names] for a in names])
    visits = np.linalg.matrix_power(step, 512)[0] + np.linalg.matrix_power(step, 513)[0]
    time = visits * [DWELL_S[a] for a in names]
    return dict(zip(names, (time / time.sum()).tolist(), strict=True))


_SHARES = shares()


def day(
    rng: np.random.Generator,
    transition_s: Mapping[str, Float],
    *,
    pace: float = 1.0,
    first: str | None = None,
) -> Iterator[Bout]:
    """Bouts without end, the first one in progress at time 0.

    ``transition_s``: "SITTING>STANDING" -> median and log spread of a change of posture, s. ``pace``
    divides every dwell. ``first`` names the first activity; by default as likely as its share of time.
    Raises ValueError for a pace that is not a positive number or an unknown activity.
    """
    if not (math.isfinite(pace) and pace > 0):
        raise ValueError(f"pace: {pace!r} is not a positive number")
    if first is not None and first not in NEXT:
        raise ValueError(f"first: {first!r} is not one of {', '.join(NEXT)}")
    return _bouts(rng, transition_s, pace, first)


def _bouts(
    rng: np.random.Generator, transition_s: Mapping[str, Float], pace: float, first: str | None
) -> Iterator[Bout]:
    activity = first or str(rng.choice(list(_SHARES), p=list(_SHARES.values())))
    before: str | None = None
    start = 0.0
    while True:
        change = 0.0
        if before is not None:
            median, spread = _change(before, activity, transition_s)
            change = median * float(np.exp(spread * rng.standard_normal()))
        dwell = DWELL_S[activity] / pace * float(np.exp(DWELL_SPREAD * rng.standard_normal()))
        if before is None:
            dwell *= rng.random()
        stop = start + change + max(dwell, SHORTEST_S)
        yield Bout(activity, stance_of(activity, before, rng), start, start + change, stop)
        start, before = stop, activity
        activity = str(rng.choice(list(NEXT[before]), p=list(NEXT[before].values())))


def _change(before: str, after: str, transition_s: Mapping[str, Float]) -> tuple[float, float]:
    if before in POSTURES and after in POSTURES:
        # Lying down and getting up straight to the feet: the same movement either way.
        found = transition_s.get(f"{before}>{after}", transition_s.get(f"{after}>{before}"))
        if found is not None:
            return float(found[0]), float(found[1])
    return GAIT_CHANGE_S
