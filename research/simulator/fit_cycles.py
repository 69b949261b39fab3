"""Fit of the gaits: the distribution of cycles over subjects, and of strides about their subject's cycle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harstream.simulate.parameters import BASE_RATE_HZ, GAITS, HARMONICS, Complex, Float, Gait
from harstream.simulate.person import envelope, power, unit_power
from research.simulator.fit_gait import CHANNEL_SCALE, Walk, align, align_all, analyse, harmonics, rotate

#: Number of principal components of the subjects' cycles, and of a stride's deviation from its subject's cycle.
N_SHAPES = 14
N_COMPONENTS = 14
#: Number of harmonics of the stride in the envelope of the residual noise.
N_ENVELOPE = 10


@dataclass(frozen=True, slots=True)
class _GaitBout:
    """One bout of one gait with its analysis."""

    recording: str  # name of the recording, which stands for the subject
    samples: Float  # (n_samples, 6) in the frame whose x axis points against gravity
    walk: Walk


def _shifted(bout: _GaitBout, shift: float) -> _GaitBout:
    """Return the bout with its phase shifted by ``shift`` rad, so that its cycle is ``rotate(cycle, shift)``."""
    walk = bout.walk
    shifted = Walk(walk.phase + shift, walk.stride_hz, rotate(walk.cycle, shift), rotate(walk.strides, shift))
    return _GaitBout(bout.recording, bout.samples, shifted)


def _personal_cycles(bouts: Sequence[_GaitBout]) -> tuple[list[_GaitBout], dict[str, Complex]]:
    """Return the bouts, aligned to the mean cycle of their recording, and that cycle by recording."""
    aligned, cycles = [], {}
    for name in dict.fromkeys(b.recording for b in bouts):
        own = [b for b in bouts if b.recording == name]
        for _ in range(3):
            mean = np.average([b.walk.cycle for b in own], axis=0, weights=[len(b.samples) for b in own])
            own = [_shifted(b, align(b.walk.cycle, mean)) for b in own]
        cycles[name] = mean
        aligned += own
    return aligned, cycles


def _shares(series: Sequence[Float]) -> tuple[Float, Float]:
    """Return the share (n,) of variance that is constant within a bout, and the persistence (n,) of the rest.

    ``series`` has (n_strides, n) values about 0 for each bout. Persistence is the correlation of successive strides.
    """
    total = np.concatenate(series).var(0)
    usable = [s for s in series if len(s) >= 6]
    within = np.concatenate([s - s.mean(0) for s in usable])
    lagged = np.concatenate([(s - s.mean(0))[1:] * (s - s.mean(0))[:-1] for s in usable]).mean(0)
    # Subtracting the mean of a bout of n strides leaves a correlation of about -1/n; n is about 12.
    persistence = np.clip(lagged / within.var(0) + 0.08, 0.0, 0.9)
    bout = np.clip(1 - 1.08 * within.var(0) / total, 0.0, 0.9)
    return bout, persistence


def _strides(bouts: Sequence[_GaitBout], cycles: dict[str, Complex]) -> tuple[Complex, list[Float], dict[str, float]]:
    """Return the principal components of the strides' deviations, their scores, and each recording's unsteadiness.

    Components are (n, 6, HARMONICS + 1), scores (n_strides, n) for each bout. Unsteadiness is the log size of a
    recording's deviations relative to the median recording.
    """
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


def _residual(bout: _GaitBout, cycle: Complex, deviation: Complex) -> Float:
    """Return the samples (n_samples, 6) minus the cycle and the fitted deviations (n_strides, 6, HARMONICS + 1)."""
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


def _envelope(residuals: Sequence[Float], phases: Sequence[Float]) -> Complex:
    """Return the Fourier series (6, N_ENVELOPE + 1), without mean, of the residuals' log amplitude over the phase."""
    phase = np.concatenate(phases)
    size = np.log(np.concatenate(residuals) ** 2 + 1e-8) / 2
    turn = np.exp(1j * phase[:, None] * np.arange(N_ENVELOPE + 1))
    design = np.hstack([turn.real, -turn.imag[:, 1:]])
    solved = np.linalg.lstsq(design, size, rcond=None)[0]
    imaginary = np.vstack([np.zeros(6), solved[N_ENVELOPE + 1 :]])
    series = (solved[: N_ENVELOPE + 1] + 1j * imaginary).T
    series[:, 0] = 0.0
    return np.asarray(series, np.complex128)


def _fit_gait(
    bouts: Sequence[_GaitBout], cycles: dict[str, Complex]
) -> tuple[Gait, list[tuple[str, Float]], dict[str, dict[str, float]]]:
    """Fit one gait except its shape.

    Returns the gait, the residual noise of each bout with the name of its recording, and the personal values of each
    recording: stride frequency, size, unsteadiness and turning.
    """
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
    residuals = [
        _residual(b, cycles[b.recording], np.tensordot(s, components, 1) * np.exp(unsteady[b.recording]))
        for b, s in zip(bouts, scores, strict=True)
    ]
    series = _envelope(residuals, [b.walk.phase for b in bouts])
    stationary = [(b.recording, r / envelope(series, b.walk.phase)) for b, r in zip(bouts, residuals, strict=True)]
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
    return gait, stationary, values


def fit_gaits(
    levelled: dict[str, dict[str, list[Float]]],
) -> tuple[dict[str, Gait], Complex, dict[str, dict[str, float]], dict[str, list[tuple[str, Float]]]]:
    """Fit the gaits jointly.

    Args:
        levelled: Recording -> gait -> bouts (n_samples, 6) in the frame whose x axis points against gravity.

    Returns:
        The gaits; the ``shape_components`` of ``Parameters``; the personal values of each recording, by their names in
        ``SubjectDistribution``; and by gait the residual noise of each bout, with the name of its recording.

    """
    gaits, residuals, cycles = {}, {}, {}
    personal: dict[str, dict[str, float]] = {name: {} for name in levelled}
    reference: Complex | None = None  # mean cycle of the first gait
    for gait in GAITS:
        analysed = [(n, b, analyse(b, BASE_RATE_HZ)) for n, own in levelled.items() for b in own[gait]]
        bouts = [_GaitBout(n, b, walk) for n, b, walk in analysed if walk is not None]
        shifts, mean = align_all([b.walk.cycle for b in bouts])
        # The start of a stride is arbitrary, but it must be the same in all gaits so that one can pass into another.
        extra = 0.0 if reference is None else align(mean, reference)
        reference = mean if reference is None else reference
        shifted = [_shifted(b, shift + extra) for b, shift in zip(bouts, shifts, strict=True)]
        aligned, cycles[gait] = _personal_cycles(shifted)
        gaits[gait], residuals[gait], values = _fit_gait(aligned, cycles[gait])
        for name, own in values.items():
            turn = {f"turn/{gait}/{key[4:]}": v for key, v in own.items() if key.startswith("turn")}
            personal[name] |= turn | {f"{k}/{gait}": v for k, v in own.items() if not k.startswith("turn")}

    # (n_recordings, 3, 6, HARMONICS + 1)
    table = np.array([[unit_power(cycles[gait][name]) for gait in GAITS] for name in levelled])
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
    for name, row in zip(levelled, scores, strict=True):
        personal[name] |= {f"shape/{i}": float(v) for i, v in enumerate(row)}
    components = np.ascontiguousarray(kept).view(np.complex128).reshape(-1, 3, 6, HARMONICS + 1)
    return gaits, components, personal, residuals
