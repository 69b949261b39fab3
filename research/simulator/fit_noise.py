"""Fit of the residual noise: sway, sensor noise, fidgeting, and the part of gait that is not its cycle.

For each activity it fits one cross-spectral density of the six channels, normalised in power (so that the acceleration
of a tilt and its angular velocity keep their relation), and the distribution of the power per channel and band over
subjects, bouts and moments. Frames, overlap and bands are those of the synthesis (``harstream.simulate.noise``).
Spectra are estimated by Welch's method with a sine taper, whose two overlapping halves add to one in power.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harstream.simulate.noise import BAND, GROUP, LEVEL, TAPER, NoiseStream
from harstream.simulate.parameters import (
    BANDS_HZ,
    BASE_RATE_HZ,
    HOP,
    N_LEVELS,
    QUANTILES,
    SEGMENT,
    Complex,
    Float,
    Noise,
)

#: Rounds of correction, and bouts of noise synthesised in each.
ROUNDS, BOUTS = 10, 150


@dataclass(frozen=True, slots=True)
class NoiseBout:
    """Residual noise of one bout of one activity of one subject."""

    recording: str  # name of the recording, which stands for the subject
    samples: Float  # (n_samples, 6)


def spectra(samples: Float) -> Complex:
    """Return the spectra (n_frames, SEGMENT // 2 + 1, 6) of overlapping frames of ``samples`` (n_samples, 6).

    They are scaled so that white noise of variance v has power v.
    """
    starts = range(0, len(samples) - SEGMENT + 1, HOP)
    cut = np.array([samples[s : s + SEGMENT] for s in starts]).reshape(-1, SEGMENT, 6)
    cut = cut - cut.mean(1, keepdims=True)
    return np.asarray(np.fft.rfft(cut * TAPER[:, None], axis=1) * np.sqrt(2 / SEGMENT), np.complex128)


def levels(spectrum: Complex) -> Float:
    """Return the log of the mean power (n_frames, N_LEVELS) in each band of each channel."""
    power = np.abs(spectrum) ** 2
    parts = np.stack([power[:, band == BAND].mean(1) for band in range(len(BANDS_HZ))], axis=2)  # (n, 6, bands)
    return np.asarray(np.log(np.maximum(parts.reshape(-1, N_LEVELS), 1e-14)), np.float64)


def _density(spectrum: Complex, level: Float) -> Complex:
    """Return lower Cholesky factors (groups, 6, 6) of the mean density, after division by each frame's own levels."""
    factors = []
    for group in range(GROUP.max() + 1):
        bins = np.flatnonzero(group == GROUP)
        white = spectrum[:, bins] * np.exp(-0.5 * level[:, LEVEL[bins]])  # (n, bins, 6)
        density = np.einsum("nbi,nbj->ij", white, white.conj()) / (len(white) * len(bins))
        factors.append(np.linalg.cholesky(density + 1e-4 * np.eye(6)))
    return np.array(factors)


def _root(covariance: Float) -> Float:
    """Return the Cholesky factor of ``covariance`` with its eigenvalues raised to a small positive minimum."""
    values, vectors = np.linalg.eigh(covariance)
    floor = max(1e-3 * float(values.max()), 1e-6)
    return np.asarray(np.linalg.cholesky((vectors * np.maximum(values, floor)) @ vectors.T), np.float64)


def fit(bouts: Sequence[NoiseBout], burst_factor: float = 1.0) -> tuple[Noise, dict[str, Float]]:
    """Fit the residual noise of one activity; return it and each recording's own log levels (N_LEVELS,).

    The level measured in a frame of noise differs from the level it was synthesised with, because estimates scatter and
    frames overlap. So offset and marginals of the levels are corrected until synthesised noise measures as the
    recordings did (indirect inference).

    Args:
        bouts: Bouts of the activity.
        burst_factor: Factor on the fitted spread of bursts.

    """
    spectrum = [spectra(bout.samples) for bout in bouts]
    level = [levels(s) for s in spectrum]
    all_levels = np.concatenate(level)
    factors = _density(np.concatenate(spectrum), all_levels)

    names = [bout.recording for bout in bouts]
    own = {
        name: np.median(np.concatenate([v for v, n in zip(level, names, strict=True) if n == name]), axis=0)
        for name in sorted(set(names))
    }
    deviations = [v - own[n] for v, n in zip(level, names, strict=True)]
    pooled = np.concatenate(deviations)
    usual = np.median(list(own.values()), axis=0)
    target = np.quantile(pooled, QUANTILES, axis=0).T
    bout_share, persistence = _shares(deviations)

    tails = _tails([bout.samples for bout in bouts])
    bursts2 = 0.0
    no_ceiling = np.full(N_LEVELS, 9.0)
    flat = Noise(factors, 1e-9 * np.eye(N_LEVELS), 0.0, 0.0, np.zeros_like(target), 0.0, no_ceiling)
    scatter = np.cov(_levels(_synthesise(flat, np.zeros(N_LEVELS), seed=0)).T)
    root = _root(np.cov(pooled.T) - scatter)
    moment = root / np.sqrt((root**2).sum(1))[:, None]

    offset, quantiles = np.zeros(N_LEVELS), target.copy()
    for attempt in range(ROUNDS):
        settled = attempt >= ROUNDS // 2
        bursts = float(np.sqrt(bursts2)) * (burst_factor if settled else 1.0)
        noise = Noise(factors, moment, bout_share, persistence, quantiles, bursts, no_ceiling)
        made = _synthesise(noise, usual + offset, seed=attempt)
        # A log-normal amplitude of spread s multiplies the fourth moment by exp(4 s^2).
        bursts2 = bursts2 if settled else max(bursts2 + (tails - _tails(made)) / 4, 0.0)
        error = target - np.quantile(_levels(made) - usual, QUANTILES, axis=0).T
        middle = error[:, len(QUANTILES) // 2]
        offset = offset + middle
        # Half a step at a time. Quantiles must not decrease.
        quantiles = np.maximum.accumulate(quantiles + 0.5 * (error - middle[:, None]), axis=1)
    ceiling = np.quantile(all_levels, 0.985, axis=0) + offset
    fitted = Noise(factors, moment, bout_share, persistence, quantiles, bursts, ceiling)
    return fitted, {name: value + offset for name, value in own.items()}


def _shares(deviations: Sequence[Float]) -> tuple[float, float]:
    """Return the share of the levels' variance that is constant in a bout, and the correlation of the rest per hop."""
    usable = [r for r in deviations if len(r) >= 4]
    means = np.array([r.mean(0) for r in usable])
    within = np.concatenate([r - r.mean(0) for r in usable]).var(0)
    lagged = np.concatenate([(r - r.mean(0))[1:] * (r - r.mean(0))[:-1] for r in usable]).mean(0)
    # By chance, the mean of a bout keeps about a tenth of the variance.
    bout_share = np.clip(np.median(means.var(0) / np.concatenate(deviations).var(0)) - 0.1, 0.0, 0.8)
    return float(bout_share), float(np.clip(np.median(lagged / within), 0.0, 0.9))


def _tails(bouts: Sequence[Float]) -> float:
    """Return the log kurtosis of sample-to-sample differences in a second: median over seconds, mean of channels."""
    second = round(BASE_RATE_HZ)
    steps = [np.diff(b, axis=0) for b in bouts]
    cut = np.concatenate([s[: len(s) // second * second].reshape(-1, second, 6) for s in steps])
    cut = cut - cut.mean(1, keepdims=True)
    return float(np.median(np.log((cut**4).mean(1) / (cut**2).mean(1) ** 2), axis=0).mean())


def _levels(bouts: Sequence[Float]) -> Float:
    """Return the levels (n_frames, N_LEVELS) of the frames of all bouts."""
    return np.concatenate([levels(spectra(bout)) for bout in bouts])


def _synthesise(noise: Noise, own_levels: Float, seed: int) -> list[Float]:
    """Return BOUTS bouts of synthesised noise, about 20 s each."""
    bouts = []
    for bout in range(BOUTS):
        stream = NoiseStream(noise, own_levels, np.random.default_rng([seed, bout]))
        bouts.append(np.concatenate([stream.block() for _ in range(8)]))
    return bouts
