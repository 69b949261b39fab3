"""Fit the parameters of the simulator to recordings.

    python -m research.simulator.fit --data hapt:PATH

writes harstream/simulate/parameters.json. The fit uses statistics of the recordings only. No recognition model is
consulted, here or in any choice made by hand. The recordings must be of one placement, at 50 Hz, and follow the order
of postures of HAPT: each subject stands, sits, stands, lies, sits up, lies down again, then walks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import norm, rankdata

from harstream.datasets.base import Recording, load
from harstream.errors import DatasetError
from harstream.simulate import parameters as shipped
from harstream.simulate.parameters import (
    BASE_RATE_HZ,
    GAITS,
    POSTURES,
    QUANTILES,
    SEGMENT,
    WANDER_S,
    Float,
    Noise,
    Parameters,
    SubjectDistribution,
    Turns,
    dumps,
)
from harstream.simulate.person import chart_values, value_names
from harstream.simulate.posture import tilt
from research.command import command
from research.simulator import fit_noise, fit_turns
from research.simulator.fit_cycles import fit_gaits

#: Seconds cut from both ends of each bout, by activity: labels were set by eye and include some transition.
TRIM_S = {**dict.fromkeys(POSTURES, 1.5), **dict.fromkeys(GAITS, 0.6)}
#: Factor on the spread of bursts in gaits. Cycles and their deviations are Gaussian, so the residual noise alone makes
#: steps too soft. Set by hand such that the kurtosis of the whole signal's differences is close to the real one.
STEP_BURSTS = 1.6
#: Upper bound of the standard deviation of gravity's slow drift, in rad.
MAX_WANDER_RAD = 0.06
#: Number of factors of the joint distribution over subjects.
N_FACTORS = 20

#: Recording -> activity -> trimmed bouts (n_samples, 6).
Bouts = dict[str, dict[str, list[Float]]]


def collect(recordings: Sequence[Recording]) -> Bouts:
    """Return the bouts of the recordings that have each of the six activities at least twice.

    Raises:
        DatasetError: No recording has them, or a rate is not 50 Hz.

    """
    bouts: Bouts = {}
    for recording in recordings:
        if recording.rate_hz != BASE_RATE_HZ:
            raise DatasetError(
                f"{recording.name}: the simulator is fitted at {BASE_RATE_HZ:g} Hz, got {recording.rate_hz:g} Hz"
            )
        own: dict[str, list[Float]] = {activity: [] for activity in TRIM_S}
        for segment in recording.segments:
            if segment.label in TRIM_S:
                trim = round(TRIM_S[segment.label] * BASE_RATE_HZ)
                cut = recording.samples[segment.start + trim : segment.stop - trim].astype(np.float64)
                if len(cut) >= SEGMENT:
                    own[segment.label].append(cut)
        if all(len(activity_bouts) >= 2 for activity_bouts in own.values()):
            bouts[recording.name] = own
    if not bouts:
        needed = SEGMENT / BASE_RATE_HZ
        raise DatasetError(
            f"no recording of {len(recordings)} has two bouts of at least {needed:.1f} s of each of {', '.join(TRIM_S)}"
        )
    return bouts


def calibration(bouts: Bouts) -> tuple[Float, Float]:
    """Return gain (3,) and offset (3,) of the accelerometer that bring gravity closest to length 1 in all postures."""
    rest = np.array([np.median(b[:, :3], 0) for own in bouts.values() for a in POSTURES for b in own[a]])

    def error(p: Float) -> Float:
        return np.asarray(np.linalg.norm((rest - p[3:]) / p[:3], axis=1) - 1, np.float64)

    solution = least_squares(error, [1, 1, 1, 0, 0, 0], loss="soft_l1", f_scale=0.01)
    return solution.x[:3], solution.x[3:]


def direction(samples: Float, gain: Float, offset: Float) -> Float:
    """Return the unit direction (3,) of the mean acceleration of ``samples``, calibrated."""
    true = (np.mean(samples[:, :3], 0) - offset) / gain
    return np.asarray(true / np.linalg.norm(true), np.float64)


def _stances(bouts: dict[str, list[Float]], gain: Float, offset: Float) -> dict[str, Float]:
    """Return the direction of gravity in each stance of one recording."""
    stances = {
        f"{stance}{i + 1}": direction(np.median(bouts[posture][i], 0)[None, :], gain, offset)
        for stance, posture in (("stand", "STANDING"), ("sit", "SITTING"), ("lay", "LAYING"))
        for i in range(2)
    }
    return stances | {gait: direction(np.concatenate(bouts[gait]), gain, offset) for gait in GAITS}


def _unit(vector: Float) -> Float:
    return np.asarray(vector / np.linalg.norm(vector), np.float64)


def without_gravity(samples: Float, gain: Float, offset: Float, *, level: bool) -> Float:
    """Return the samples (n, 6) of a bout with gravity subtracted from acc.

    ``level`` is for gaits: gravity is the mean acceleration, and the result is in the frame whose x axis points against
    it. Otherwise gravity is the median, and the axes stay those of the wearable.
    """
    down = direction(samples if level else np.median(samples, 0)[None, :], gain, offset)
    turn = tilt(down) if level else np.eye(3)
    acc = samples[:, :3] - (gain * down + offset)
    return np.hstack([acc @ turn, samples[:, 3:] @ turn])


def _wander(bouts: Sequence[Float], gain: Float, offset: Float) -> float:
    """Return the log standard deviation, in rad, of the slow drift of gravity in one recording's bouts of a posture.

    It follows from the distance between the halves of a bout, for a drift with the time constant WANDER_S.
    """
    squares = []
    for samples in bouts:
        middle = len(samples) // 2
        here, there = (
            direction(np.median(half, 0)[None, :], gain, offset) for half in (samples[:middle], samples[middle:])
        )
        kept = float(np.exp(-middle / BASE_RATE_HZ / WANDER_S))
        squares.append(((there - here) ** 2).sum() / 2 / (2 * (1 - kept)))
    # The bound is for a subject who turned over once: a drift of that size all the time would be wrong.
    return 0.5 * float(np.log(np.clip(np.mean(squares), 1e-8, MAX_WANDER_RAD**2)))


def _transitions(recordings: Sequence[Recording]) -> dict[str, Float]:
    """Return the duration of each change of posture: (median in s, log standard deviation)."""
    gaps_of: dict[str, list[float]] = {}
    for recording in recordings:
        postures = [s for s in recording.segments if s.label in TRIM_S]
        for before, after in pairwise(postures):
            if before.label in POSTURES and after.label in POSTURES:
                gap = (after.start - before.stop) / recording.rate_hz
                gaps_of.setdefault(f"{before.label}>{after.label}", []).append(gap)
    out = {}
    for change, gaps in gaps_of.items():
        if len(gaps) >= 10:
            low, middle, high = np.quantile(np.log(np.maximum(gaps, 0.5)), [0.16, 0.5, 0.84])
            out[change] = np.array([np.exp(middle), (high - low) / 2])
    return out


def _extract_turns(bouts: Sequence[Float], gait: str) -> Turns | None:
    """Fit the turns of a gait and subtract them from its bouts (n_samples, 6) in place; None if it goes straight."""
    sign = fit_turns.sign_of([b[:, 3] for b in bouts])
    if sign == 0.0:
        return None
    turns = [fit_turns.find(b[:, 3], sign) for b in bouts]
    for samples, bout_turns in zip(bouts, turns, strict=True):
        samples[:, 3] -= fit_turns.bumps(bout_turns, np.arange(len(samples)) / BASE_RATE_HZ)
    return fit_turns.fit(turns, TRIM_S[gait])


def joint(values: dict[str, dict[str, float]], order: tuple[str, ...]) -> SubjectDistribution:
    """Fit a Gaussian copula to the values of all recordings, with the correlation reduced to N_FACTORS factors."""
    table = np.array([[own[name] for name in order] for own in values.values()])  # (n_recordings, n_names)
    scores = norm.ppf((rankdata(table, axis=0) - 0.5) / len(table))
    correlation = np.corrcoef(scores.T)
    size, vectors = np.linalg.eigh(correlation)
    kept = np.argsort(size)[::-1][: min(N_FACTORS, len(table) - 1)]
    factors = vectors[:, kept] * np.sqrt(size[kept])
    specific = np.sqrt(np.maximum(1 - (factors**2).sum(1), 0.0))
    return SubjectDistribution(order, np.quantile(table, QUANTILES, axis=0).T, factors, specific)


def fit(recordings: Sequence[Recording], source: str) -> Parameters:
    """Fit all parameters; docs/explanation/simulator.md describes the steps.

    Raises:
        DatasetError: The recordings lack an activity or have another rate than 50 Hz.

    """
    bouts = collect(recordings)
    gain, offset = calibration(bouts)
    stances = {name: _stances(own, gain, offset) for name, own in bouts.items()}
    upright = _unit(np.mean([s[k] for s in stances.values() for k in ("stand1", "stand2")], 0))
    lying = _unit(np.median([s[k] for s in stances.values() for k in ("lay1", "lay2")], 0))
    values = {name: chart_values(s, upright, lying) for name, s in stances.items()}

    levelled = {
        name: {
            activity: [without_gravity(b, gain, offset, level=activity in GAITS) for b in activity_bouts]
            for activity, activity_bouts in own.items()
        }
        for name, own in bouts.items()
    }
    turns = {}
    for gait in GAITS:
        turning = _extract_turns([b for m in levelled.values() for b in m[gait]], gait)
        if turning is not None:
            turns[gait] = turning
    gaits, shape_components, personal, residuals = fit_gaits({n: {g: m[g] for g in GAITS} for n, m in levelled.items()})
    noises: dict[str, Noise] = {}
    for activity in (*GAITS, *POSTURES):
        if activity in POSTURES:
            parts = [fit_noise.NoiseBout(n, b) for n, m in levelled.items() for b in m[activity]]
        else:
            parts = [fit_noise.NoiseBout(n, b) for n, b in residuals[activity]]
        noises[activity], own_levels = fit_noise.fit(parts, STEP_BURSTS if activity in GAITS else 1.0)
        for name, level in own_levels.items():
            values[name] |= {f"level/{activity}/{i}": float(v) for i, v in enumerate(level)}
    for name, walks in personal.items():
        values[name] |= walks

    for name, own in bouts.items():
        still = np.median([np.median(b[:, 3:], 0) for posture in POSTURES for b in own[posture]], axis=0)
        values[name] |= {f"gyro_offset/{i}": float(v) for i, v in enumerate(still)}
        values[name] |= {f"log_wander/{posture}": _wander(own[posture], gain, offset) for posture in POSTURES}

    return Parameters(
        source=source,
        gain=gain,
        offset=offset,
        pole_upright=upright,
        pole_lying=lying,
        transition_s=_transitions(recordings),
        shape_components=shape_components,
        gaits=gaits,
        turns=turns,
        noises=noises,
        subjects=joint(values, value_names(len(shape_components))),
    )


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m research.simulator.fit", description="Fit the simulator's parameters to recordings."
    )
    parser.add_argument("--data", required=True, metavar="KIND:PATH", help="recordings, such as hapt:hapt.zip")
    package = Path(shipped.__file__).parent
    parser.add_argument(
        "--out", type=Path, default=package / "parameters.json", help="[default: the package's parameters.json]"
    )
    chosen = parser.parse_args(arguments)
    recordings = load(chosen.data)
    source = f"{chosen.data.partition(':')[0]}, {len({r.subject for r in recordings})} subjects"
    text = dumps(fit(recordings, source))
    chosen.out.write_text(text, "utf-8")
    print(f"{chosen.out}: {len(text) / 1000:.0f} kB from {len(recordings)} recordings")


if __name__ == "__main__":
    sys.exit(main())
