"""Script of a simulated day: a semi-Markov chain over the activities.

The chain allows only changes that a body can make: nobody walks off from lying without standing up, and stairs begin
and end with walking. Probabilities and durations are plausible assumptions. They are not fitted, because the recordings
follow a protocol, not a day.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from harstream.simulate.parameters import GAITS, POSTURES, Float

#: Activity -> the activities that may follow it, with their probabilities.
NEXT: Mapping[str, Mapping[str, float]] = {
    "WALKING": {"STANDING": 0.5, "WALKING_UPSTAIRS": 0.25, "WALKING_DOWNSTAIRS": 0.25},
    "WALKING_UPSTAIRS": {"WALKING": 0.8, "STANDING": 0.2},
    "WALKING_DOWNSTAIRS": {"WALKING": 0.8, "STANDING": 0.2},
    "SITTING": {"STANDING": 0.75, "LAYING": 0.25},
    "STANDING": {"WALKING": 0.5, "SITTING": 0.35, "LAYING": 0.15},
    "LAYING": {"SITTING": 0.6, "STANDING": 0.4},
}
#: Median duration of an activity at pace 1, in s. Durations are log-normal with standard deviation DWELL_SPREAD.
DWELL_S: Mapping[str, float] = {
    "WALKING": 60.0,
    "WALKING_UPSTAIRS": 20.0,
    "WALKING_DOWNSTAIRS": 18.0,
    "SITTING": 120.0,
    "STANDING": 40.0,
    "LAYING": 180.0,
}
DWELL_SPREAD = 0.4
#: Shortest duration of an activity at any pace, in s: two windows of the usual 2.56 s.
SHORTEST_S = 6.0
#: Duration of starting, stopping and changing a gait, about one stride: median in s, log standard deviation.
GAIT_CHANGE_S = (1.2, 0.2)


@dataclass(frozen=True, slots=True)
class ActivityBout:
    """One uninterrupted period of one activity in the script, with the transition that leads into it.

    Times are in seconds since the start of the stream: ``start_s`` <= ``steady_s`` < ``stop_s``.
    """

    activity: str
    stance: str  # one of parameters.STANCES: selects the direction of gravity
    start_s: float  # start of the transition; 0 for the first bout
    steady_s: float  # end of the transition
    stop_s: float  # end of the activity: start of the next bout


def stance_of(activity: str, before: str | None, rng: np.random.Generator) -> str:
    """Return the stance of ``activity`` after the activity ``before``; draw one where the order does not decide."""
    if activity in GAITS:
        return activity
    after_standing = {"SITTING": "STANDING", "LAYING": "STANDING", "STANDING": None}[activity]
    after_other = {"SITTING": "LAYING", "LAYING": "SITTING", "STANDING": "SITTING"}[activity]
    stem = {"SITTING": "sit", "LAYING": "lay", "STANDING": "stand"}[activity]
    if before == after_standing and before is not None:
        return f"{stem}1"
    if before == after_other:
        return f"{stem}2"
    return f"{stem}{rng.integers(1, 3)}"


def shares() -> dict[str, float]:
    """Return the long-run share of time of each activity: visits of the embedded Markov chain times duration."""
    names = list(NEXT)
    step = np.array([[NEXT[a].get(b, 0.0) for b in names] for a in names])
    visits = np.linalg.matrix_power(step, 512)[0] + np.linalg.matrix_power(step, 513)[0]
    time = visits * [DWELL_S[a] for a in names]
    return dict(zip(names, (time / time.sum()).tolist(), strict=True))


_SHARES = shares()


def script(
    rng: np.random.Generator,
    transition_s: Mapping[str, Float],
    *,
    pace: float = 1.0,
    first: str | None = None,
) -> Iterator[ActivityBout]:
    """Return an endless iterator of bouts; the first one is in progress at time 0.

    Args:
        rng: Source of all random choices.
        transition_s: Change of posture, such as "SITTING>STANDING", to (median in s, log standard deviation).
        pace: Divisor of every duration.
        first: First activity. By default it is drawn with its share of time as probability.

    Raises:
        ValueError: The pace is not a positive number, or the activity is unknown.

    """
    if not (math.isfinite(pace) and pace > 0):
        raise ValueError(f"pace: expected a positive number, got {pace!r}")
    if first is not None and first not in NEXT:
        raise ValueError(f"first: {first!r} is not one of {', '.join(NEXT)}")
    return _bouts(rng, transition_s, pace, first)


def _bouts(
    rng: np.random.Generator, transition_s: Mapping[str, Float], pace: float, first: str | None
) -> Iterator[ActivityBout]:
    activity = first or str(rng.choice(list(_SHARES), p=list(_SHARES.values())))
    before: str | None = None
    start = 0.0
    while True:
        transition = 0.0
        if before is not None:
            median, spread = _transition_of(before, activity, transition_s)
            transition = median * float(np.exp(spread * rng.standard_normal()))
        dwell = DWELL_S[activity] / pace * float(np.exp(DWELL_SPREAD * rng.standard_normal()))
        if before is None:
            dwell *= rng.random()  # it is in progress at time 0
        stop = start + transition + max(dwell, SHORTEST_S)
        yield ActivityBout(activity, stance_of(activity, before, rng), start, start + transition, stop)
        start, before = stop, activity
        activity = str(rng.choice(list(NEXT[before]), p=list(NEXT[before].values())))


def _transition_of(before: str, after: str, transition_s: Mapping[str, Float]) -> tuple[float, float]:
    """Return the duration of a change of activity: median in s, log standard deviation."""
    if before in POSTURES and after in POSTURES:
        # A change recorded in one direction only, such as STANDING>LAYING, takes as long in the other.
        duration = transition_s.get(f"{before}>{after}", transition_s.get(f"{after}>{before}"))
        if duration is not None:
            return float(duration[0]), float(duration[1])
    return GAIT_CHANGE_S
