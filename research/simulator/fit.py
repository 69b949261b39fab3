"""Fit ``parameters.json`` to recordings: ``python -m research.simulator.fit --data hapt:PATH``.

Statistics of the recordings only; no recognition model is consulted, here or in any choice made by
hand. The recordings must be of one placement, at 50 Hz, and follow HAPT's order of postures: each
subject stands, sits, stands, lies, sits up and lies down again, then walks.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import norm, rankdata

from harstream.datasets.base import Recording, load
from harstream.errors import DatasetError
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
    Subjects,
    Turns,
    dumps,
)
from harstream.simulate.person import chart, names
from harstream.simulate.posture import tilt
from research.simulator import fit_noise, fit_turns
from research.simulator.fit_cycles import fit_gaits

#: Cut from both ends of a posture and of a gait: labels are set by eye, and include some transition.
TRIM_S = {**dict.fromkeys(POSTURES, 1.5), **dict.fromkeys(GAITS, 0.6)}
#: Steps jerk more than what is left of them does: the cycle and its deviations are drawn from Gaussians.
#: Set by the kurtosis of the whole signal's differences, real against simulated.
STEP_BURSTS = 1.6
#: No subject's gravity wanders by more, in spread.
MOST_WANDER_RAD = 0.06
#: Factors of the joint distribution over subjects.
N_FACTORS = 20

Bouts = dict[str, dict[str, list[Float]]]  # recording -> activity -> its bouts, trimmed, (n_samples, 6)


def collect(recordings: Sequence[Recording]) -> Bouts:
    """The bouts of the recordings that have all six activities, each at least twice.

    Raises DatasetError where none has, or where a rate is not 50 Hz.
    """
    bouts: Bouts = {}
    for recording in recordings:
        if recording.rate_hz != BASE_RATE_HZ:
            raise DatasetError(f"{recording.name}: {recording.rate_hz} Hz, the simulator is fitted at {BASE_RATE_HZ}")
        mine: dict[str, list[Float]] = {activity: [] for activity in TRIM_S}
        for segment in recording.segments:
            if segment.label in TRIM_S:
                trim = round(TRIM_S[segment.label] * BASE_RATE_HZ)
                cut = recording.samples[segment.start + trim : segment.stop - trim].astype(np.float64)
                if len(cut) >= SEGMENT:
                    mine[segment.label].append(cut)
        if all(len(found) >= 2 for found in mine.values()):
            bouts[recording.name] = mine
    if not bouts:
        raise DatasetError("no recording has at least two bouts of each of the six activities")
    return bouts


def calibration(bouts: Bouts) -> tuple[Float, Float]:
    """Gain and offset per axis that bring gravity closest to length 1 in all postures."""
    rest = np.array([np.median(b[:, :3], 0) for mine in bouts.values() for a in POSTURES for b in mine[a]])

    def error(p: Float) -> Float:
        return np.asarray(np.linalg.norm((rest - p[3:]) / p[:3], axis=1) - 1, np.float64)

    found = least_squares(error, [1, 1, 1, 0, 0, 0], loss="soft_l1", f_scale=0.01)
    return found.x[:3], found.x[3:]


def direction(samples: Float, gain: Float, offset: Float) -> Float:
    """(3,) unit direction of gravity over a bout: the median posture, or a gait's mean."""
    true = (np.mean(samples[:, :3], 0) - offset) / gain
    return np.asarray(true / np.linalg.norm(true), np.float64)


def _stances(mine: dict[str, list[Float]], gain: Float, offset: Float) -> dict[str, Float]:
    stances = {
        f"{stance}{i + 1}": direction(np.median(mine[posture][i], 0)[None, :], gain, offset)
        for stance, posture in (("stand", "STANDING"), ("sit", "SITTING"), ("lay", "LAYING"))
        for i in range(2)
    }
    return stances | {gait: direction(np.concatenate(mine[gait]), gain, offset) for gait in GAITS}


def _unit(vector: Float) -> Float:
    return np.asarray(vector / np.linalg.norm(vector), np.float64)


def without_gravity(samples: Float, gain: Float, offset: Float, *, level: bool) -> Float:
    """(n, 6) -> the same with its mean (not ``level``: median) gravity taken off acc.

    ``level`` also turns it into the frame whose x axis points against gravity.
    """
    down = direction(samples if level else np.median(samples, 0)[None, :], gain, offset)
    turn = tilt(down) if level else np.eye(3)
    acc = samples[:, :3] - (gain * down + offset)
    return np.hstack([acc @ turn, samples[:, 3:] @ turn])


def _wander(bouts: Sequence[Float], gain: Float, offset: Float) -> float:
    """Log spread, rad, of the slow wander of gravity in one subject's bouts of one posture.

    From how far the halves of a bout lie apart, for a wander that fades over WANDER_S.
    """
    squares = []
    for samples in bouts:
        middle = len(samples) // 2
        here, there = (
            direction(np.median(half, 0)[None, :], gain, offset) for half in (samples[:middle], samples[middle:])
        )
        kept = float(np.exp(-middle / BASE_RATE_HZ / WANDER_S))
        squares.append(((there - here) ** 2).sum() / 2 / (2 * (1 - kept)))
    # Someone who turned over in bed has shifted once; drifting as far all the time would be another matter.
    return 0.5 * float(np.log(np.clip(np.mean(squares), 1e-8, MOST_WANDER_RAD**2)))


def _transitions(recordings: Sequence[Recording]) -> dict[str, Float]:
    """Median and log standard deviation of how long a change of posture took."""
    found: dict[str, list[float]] = {}
    for recording in recordings:
        postures = [s for s in recording.segments if s.label in TRIM_S]
        for before, after in pairwise(postures):
            if before.label in POSTURES and after.label in POSTURES:
                gap = (after.start - before.stop) / recording.rate_hz
                found.setdefault(f"{before.label}>{after.label}", []).append(gap)
    out = {}
    for change, gaps in found.items():
        if len(gaps) >= 10:
            low, middle, high = np.quantile(np.log(np.maximum(gaps, 0.5)), [0.16, 0.5, 0.84])
            out[change] = np.array([np.exp(middle), (high - low) / 2])
    return out


def _take_turns(bouts: Sequence[Float], gait: str) -> Turns | None:
    """The turns of a gait, taken out of its bouts (n_samples, 6) in place; None where it goes straight."""
    sign = fit_turns.sign_of([b[:, 3] for b in bouts])
    if sign == 0.0:
        return None
    found = [fit_turns.find(b[:, 3], sign) for b in bouts]
    for samples, mine in zip(bouts, found, strict=True):
        samples[:, 3] -= fit_turns.bumps(mine, np.arange(len(samples)) / BASE_RATE_HZ)
    return fit_turns.fit(found, TRIM_S[gait])


def joint(values: dict[str, dict[str, float]], order: tuple[str, ...]) -> Subjects:
    """The Gaussian copula of the values of all recordings, its correlation cut to a few factors."""
    table = np.array([[mine[name] for name in order] for mine in values.values()])  # (n_recordings, n_names)
    scores = norm.ppf((rankdata(table, axis=0) - 0.5) / len(table))
    correlation = np.corrcoef(scores.T)
    size, vectors = np.linalg.eigh(correlation)
    kept = np.argsort(size)[::-1][: min(N_FACTORS, len(table) - 1)]
    factors = vectors[:, kept] * np.sqrt(size[kept])
    specific = np.sqrt(np.maximum(1 - (factors**2).sum(1), 0.0))
    return Subjects(order, np.quantile(table, QUANTILES, axis=0).T, factors, specific)


def fit(recordings: Sequence[Recording], source: str) -> Parameters:
    """Everything; see the module's page. Raises DatasetError for recordings it cannot be fitted to."""
    bouts = collect(recordings)
    gain, offset = calibration(bouts)
    stances = {name: _stances(mine, gain, offset) for name, mine in bouts.items()}
    upright = _unit(np.mean([s[k] for s in stances.values() for k in ("stand1", "stand2")], 0))
    lying = _unit(np.median([s[k] for s in stances.values() for k in ("lay1", "lay2")], 0))
    values = {name: chart(s, upright, lying) for name, s in stances.items()}

    level = {
        name: {
            activity: [without_gravity(b, gain, offset, level=activity in GAITS) for b in found]
            for activity, found in mine.items()
        }
        for name, mine in bouts.items()
    }
    turns = {}
    for gait in GAITS:
        turning = _take_turns([b for m in level.values() for b in m[gait]], gait)
        if turning is not None:
            turns[gait] = turning
    gaits, shape_components, personal, rough = fit_gaits({n: {g: m[g] for g in GAITS} for n, m in level.items()})
    noises: dict[str, Noise] = {}
    for activity in (*GAITS, *POSTURES):
        if activity in POSTURES:
            parts = [fit_noise.Bout(n, b) for n, m in level.items() for b in m[activity]]
        else:
            parts = [fit_noise.Bout(n, b) for n, b in rough[activity]]
        noises[activity], own = fit_noise.fit(parts, STEP_BURSTS if activity in GAITS else 1.0)
        for name, found in own.items():
            values[name] |= {f"level/{activity}/{i}": float(v) for i, v in enumerate(found)}
    for name, walks in personal.items():
        values[name] |= walks

    for name, mine in bouts.items():
        still = np.median([np.median(b[:, 3:], 0) for posture in POSTURES for b in mine[posture]], axis=0)
        values[name] |= {f"gyro_offset/{i}": float(v) for i, v in enumerate(still)}
        values[name] |= {f"log_wander/{posture}": _wander(mine[posture], gain, offset) for posture in POSTURES}

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
        subjects=joint(values, names(len(shape_components))),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit the simulator's parameters to recordings.")
    parser.add_argument("--data", required=True, metavar="KIND:PATH")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("parameters.json"))
    arguments = parser.parse_args()
    recordings = load(arguments.data)
    source = f"{arguments.data.partition(':')[0]}, {len({r.subject for r in recordings})} subjects"
    text = dumps(fit(recordings, source))
    arguments.out.write_text(text, "utf-8")
    print(f"{arguments.out}: {len(text) / 1000:.0f} kB from {len(recordings)} recordings")


if __name__ == "__main__":
    main()
