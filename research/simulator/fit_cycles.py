"""Summarise analysed walks: the distribution of cycles over subjects, and of strides about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harstream.simulate.parameters import BASE_RATE_HZ, GAITS, HARMONICS, Complex, Float, Gait
from harstream.simulate.person import envelope, power, unit
from research.simulator.fit_gait import CHANNEL_SCALE, Walk, align, align_all, analyse, harmonics, rotate

#: Principal components of the personal deviation of cycles, and of a stride's deviation from the cycle.
N_SHAPES = 14
N_COMPONENTS = 14
#: Harmonics of the stride in the envelope of the rough part.
N_ENVELOPE = 10


@dataclass(frozen=True, slots=True)
class _Bout:
    recording: str
    samples: Float  # (n_samples, 6) in the frame of gravity
    walk: Walk


def _shifted(bout: _Bout, shift: float) -> _Bout:
    """The same with phase counted so that ``rotate(cycle, shift)`` is its cycle."""
    walk = bout.walk
    turned = Walk(walk.phase + shift, walk.stride_hz, rotate(walk.cycle, shift), rotate(walk.strides, shift))
    return _Bout(bout.recording, bout.samples, turned)


def _personal(bouts: Sequence[_Bout]) -> tuple[list[_Bout], dict[str, Complex]]:
    """Each recording's mean cycle, its bouts aligned to it."""
    aligned, cycles = [], {}
    for name in dict.fromkeys(b.recording for b in bouts):
        mine = [b for b in bouts if b.recording == name]
        for _ in range(3):
            mean = np.average([b.walk.cycle for b in mine], axis=0, weights=[len(b.samples) for b in mine])
            mine = [_shifted(b, align(b.walk.cycle, mean)) for b in mine]
        cycles[name] = mean
        aligned += mine
    return aligned, cycles


def _shares(series: Sequence[Float]) -> tuple[Float, Float]:
    """Bouts of (n_strides, n) values about 0 -> share of variance that lasts for a bout, persistence of the rest."""
    total = np.concatenate(series).var(0)
    usable = [s for s in series if len(s) >= 6]
    within = np.concatenate([s - s.mean(0) for s in usable])
    lagged = np.concatenate([(s - s.mean(0))[1:] * (s - s.mean(0))[:-1] for s in usable]).mean(0)
    # Taking a bout's mean off leaves a correlation of about -1/n: n is about 12 strides.
    persistence = np.clip(lagged / within.var(0) + 0.08, 0.0, 0.9)
    bout = np.clip(1 - 1.08 * within.var(0) / total, 0.0, 0.9)
    return bout, persistence


def _strides(bouts: Sequence[_Bout], cycles: dict[str, Complex]) -> tuple[Complex, list[Float], dict[str, float]]:
    """Components (n, 6, HARMONICS + 1) of strides' deviations, their scores per bout, each subject's unsteadiness."""
    scale = CHANNEL_SCALE[:, None]
    deviations = [(b.walk.strides - cycles[b.recording]) / scale for b in bouts]
    size = {
        name: float(
            np.sqrt(
                np.mean(
                    np.concatenate(
                        [
                            (np.abs(d) ** 2).sum((1, 2))
                            for d, b in zip(deviations, bouts, strict=True)
                            if b.recording == name
                        ]
                    )
                )
            )
        )
        for name in cycles
    }
    usual = float(np.median(list(size.values())))
    flat = [
        d.reshape(len(d), -1).view(np.float64) * (usual / size[b.recording])
        for d, b in zip(deviations, bouts, strict=True)
    ]
    _, _, rows = np.linalg.svd(np.concatenate(flat), full_matrices=False)
    components = rows[:N_COMPONENTS]
    scores = [f @ components.T for f in flat]
    shaped = np.ascontiguousarray(components).view(np.complex128).reshape(-1, 6, HARMONICS + 1) * scale
    return shaped, scores, {name: float(np.log(v / usual)) for name, v in size.items()}


def _rough(bout: _Bout, cycle: Complex, deviation: Complex) -> Float:
    """(n_samples, 6): what the cycle and its strides' fitted deviations (n_strides, 6, HARMONICS + 1) leave."""
    phase = bout.walk.phase
    first = np.ceil(bout.walk.phase[0] / (2 * np.pi)) if len(deviation) else 0.0
    at = (phase / (2 * np.pi) - first) - 0.5  # in strides, 0 at the centre of the first
    lower = np.clip(np.floor(at), 0, len(deviation) - 1).astype(int)
    upper = np.minimum(lower + 1, len(deviation) - 1)
    share = np.clip(at - lower, 0.0, 1.0)[:, None]
    turn = harmonics(phase)
    each = np.einsum("nk,sck->snc", turn, cycle + deviation).real  # (n_strides, n_samples, 6)
    rows = np.arange(len(phase))
    return np.asarray(bout.samples - (1 - share) * each[lower, rows] - share * each[upper, rows], np.float64)


def _envelope(rough: Sequence[Float], phases: Sequence[Float]) -> Complex:
    """(6, N_ENVELOPE + 1): Fourier series of the log amplitude over the phase, without its mean."""
    phase = np.concatenate(phases)
    size = np.log(np.concatenate(rough) ** 2 + 1e-8) / 2
    turn = np.exp(1j * phase[:, None] * np.arange(N_ENVELOPE + 1))
    design = np.hstack([turn.real, -turn.imag[:, 1:]])
    solved = np.linalg.lstsq(design, size, rcond=None)[0]
    imaginary = np.vstack([np.zeros(6), solved[N_ENVELOPE + 1 :]])
    series = (solved[: N_ENVELOPE + 1] + 1j * imaginary).T
    series[:, 0] = 0.0
    return np.asarray(series, np.complex128)


def _one(
    bouts: Sequence[_Bout], cycles: dict[str, Complex]
) -> tuple[Gait, list[tuple[str, Float]], dict[str, dict[str, float]]]:
    """One gait but for its shape, the rough part of its bouts, and per recording its speed, size and turn."""
    components, scores, unsteady = _strides(bouts, cycles)
    values = {}
    for name, cycle in cycles.items():
        hz = np.concatenate([b.walk.stride_hz for b in bouts if b.recording == name])
        acc, gyro = np.log(power(cycle))
        values[name] = {
            "log_hz": float(np.log(np.median(hz))),
            "log_acc": float(acc),
            "log_gyro": float(gyro),
            "log_unsteady": unsteady[name],
        } | {f"turn{i}": float(cycle[3 + i, 0].real) for i in range(3)}
    bout_share, persistence = _shares(scores)
    pace = [(np.log(b.walk.stride_hz) - values[b.recording]["log_hz"])[:, None] for b in bouts]
    low, high = np.quantile(np.concatenate(pace), [0.16, 0.84])
    pace_bout, pace_persistence = _shares(pace)
    rough = [
        _rough(b, cycles[b.recording], np.tensordot(s, components, 1) * np.exp(unsteady[b.recording]))
        for b, s in zip(bouts, scores, strict=True)
    ]
    series = _envelope(rough, [b.walk.phase for b in bouts])
    smooth = [(b.recording, r / envelope(series, b.walk.phase)) for b, r in zip(bouts, rough, strict=True)]
    gait = Gait(
        shape=np.zeros((6, HARMONICS + 1), np.complex128),
        shape_spread=np.zeros((6, HARMONICS + 1)),
        components=components,
        component_std=np.concatenate(scores).std(0),
        component_bout=bout_share,
        component_persistence=persistence,
        pace_std=float(high - low) / 2,
        pace_bout=float(pace_bout[0]),
        pace_persistence=float(pace_persistence[0]),
        envelope=series,
    )
    return gait, smooth, values


def fit_gaits(
    level: dict[str, dict[str, list[Float]]],
) -> tuple[dict[str, Gait], Complex, dict[str, dict[str, float]], dict[str, list[tuple[str, Float]]]]:
    """Recording -> gait -> bouts (n_samples, 6) in the frame of gravity, to all that ``Parameters`` says of gaits.

    Also each recording's values by their names in ``Subjects``, and the rough part of every bout.
    """
    gaits, rough, cycles = {}, {}, {}
    personal: dict[str, dict[str, float]] = {name: {} for name in level}
    walking: Complex | None = None
    for gait in GAITS:
        found = [(n, b, analyse(b, BASE_RATE_HZ)) for n, mine in level.items() for b in mine[gait]]
        bouts = [_Bout(n, b, walk) for n, b, walk in found if walk is not None]
        shifts, mean = align_all([b.walk.cycle for b in bouts])
        # Where a stride begins is arbitrary; the same in all gaits, so that one may pass into another.
        extra = 0.0 if walking is None else align(mean, walking)
        walking = mean if walking is None else walking
        turned = [_shifted(b, shift + extra) for b, shift in zip(bouts, shifts, strict=True)]
        aligned, cycles[gait] = _personal(turned)
        gaits[gait], rough[gait], values = _one(aligned, cycles[gait])
        for name, mine in values.items():
            turn = {f"turn/{gait}/{key[4:]}": v for key, v in mine.items() if key.startswith("turn")}
            personal[name] |= turn | {f"{k}/{gait}": v for k, v in mine.items() if not k.startswith("turn")}

    table = np.array([[unit(cycles[gait][name]) for gait in GAITS] for name in level])  # (n, 3, 6, HARMONICS + 1)
    mean_shape = table.mean(0)
    flat = (table - mean_shape).reshape(len(table), -1).view(np.float64)
    _, _, rows = np.linalg.svd(flat, full_matrices=False)
    kept = rows[:N_SHAPES]
    scores = flat @ kept.T
    spread = np.sqrt(((flat - scores @ kept) ** 2).mean(0)).reshape(3, 6, HARMONICS + 1, 2)
    for index, gait in enumerate(GAITS):
        own = {"shape": mean_shape[index], "shape_spread": np.sqrt((spread[index] ** 2).mean(-1))}
        fields = {name: getattr(gaits[gait], name) for name in Gait.__dataclass_fields__}
        gaits[gait] = Gait(**(fields | own))
    for name, row in zip(level, scores, strict=True):
        personal[name] |= {f"shape/{i}": float(v) for i, v in enumerate(row)}
    components = np.ascontiguousarray(kept).view(np.complex128).reshape(-1, 3, 6, HARMONICS + 1)
    return gaits, components, personal, rough
