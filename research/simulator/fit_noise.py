"""Fit the rough part: sway, sensor noise, fidgeting, and what of gait is not its cycle.

Per activity one cross-spectral density (6 channels, so that a tilt's acceleration and its angular
velocity keep their relation) with its power taken out, and the distribution of that power, per
channel and band: over subjects, bouts and moments. Windows, overlap and bands are the synthesis' own
(``noise.py``). Spectra by Welch's method with a sine taper, whose halves add to one in power.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harstream.simulate.noise import BAND, GROUP, LEVEL, TAPER, Rough
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

#: Rounds of correction, and bouts made in each.
ATTEMPTS, BOUTS = 10, 150


@dataclass(frozen=True, slots=True)
class Bout:
    """The rough part of one stretch of one activity by one subject."""

    recording: str
    samples: Float  # (n_samples, 6)


def spectra(samples: Float) -> Complex:
    """(n_samples, 6) -> (n_windows, SEGMENT // 2 + 1, 6), scaled so that white noise of variance v has power v."""
    starts = range(0, len(samples) - SEGMENT + 1, HOP)
    cut = np.array([samples[s : s + SEGMENT] for s in starts]).reshape(-1, SEGMENT, 6)
    cut = cut - cut.mean(1, keepdims=True)
    return np.asarray(np.fft.rfft(cut * TAPER[:, None], axis=1) * np.sqrt(2 / SEGMENT), np.complex128)


def levels(spectrum: Complex) -> Float:
    """(n_windows, bins, 6) -> (n_windows, N_LEVELS): log of the mean power in each band of each channel."""
    power = np.abs(spectrum) ** 2
    parts = np.stack([power[:, band == BAND].mean(1) for band in range(len(BANDS_HZ))], axis=2)  # (n, 6, bands)
    return np.asarray(np.log(np.maximum(parts.reshape(-1, N_LEVELS), 1e-14)), np.float64)


def _density(spectrum: Complex, level: Float) -> Complex:
    """Mean density with each window's own levels taken out: (groups, 6, 6) lower Cholesky factors."""
    factors = []
    for group in range(GROUP.max() + 1):
        bins = np.flatnonzero(group == GROUP)
        white = spectrum[:, bins] * np.exp(-0.5 * level[:, LEVEL[bins]])  # (n, bins, 6)
        density = np.einsum("nbi,nbj->ij", white, white.conj()) / (len(white) * len(bins))
        factors.append(np.linalg.cholesky(density + 1e-4 * np.eye(6)))
    return np.array(factors)


def _root(covariance: Float) -> Float:
    """Cholesky factor of the nearest matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(covariance)
    floor = max(1e-3 * float(values.max()), 1e-6)
    return np.asarray(np.linalg.cholesky((vectors * np.maximum(values, floor)) @ vectors.T), np.float64)


def fit(bouts: Sequence[Bout], more_bursts: float = 1.0) -> tuple[Noise, dict[str, Float]]:
    """The rough part of one activity, and each recording's own log levels.

    What a window of noise measures is not quite the level it was made at: it scatters, and windows
    overlap. So the level's offset and marginals are corrected until measuring made noise gives what
    measuring the recordings gave (indirect inference). ``more_bursts``: factor on the spread of the bursts so found.
    """
    spectrum = [spectra(bout.samples) for bout in bouts]
    level = [levels(s) for s in spectrum]
    everything = np.concatenate(level)
    factors = _density(np.concatenate(spectrum), everything)

    of = [bout.recording for bout in bouts]
    own = {
        name: np.median(np.concatenate([v for v, n in zip(level, of, strict=True) if n == name]), axis=0)
        for name in sorted(set(of))
    }
    rest = [v - own[n] for v, n in zip(level, of, strict=True)]
    pooled = np.concatenate(rest)
    usual = np.median(list(own.values()), axis=0)
    target = np.quantile(pooled, QUANTILES, axis=0).T
    bout_share, persistence = _shares(rest)

    tails = _tails([bout.samples for bout in bouts])
    bursts2 = 0.0
    none = np.full(N_LEVELS, 9.0)
    flat = Noise(factors, 1e-9 * np.eye(N_LEVELS), 0.0, 0.0, np.zeros_like(target), 0.0, none)
    scatter = np.cov(_levels(_made(flat, np.zeros(N_LEVELS), seed=0)).T)
    root = _root(np.cov(pooled.T) - scatter)
    moment = root / np.sqrt((root**2).sum(1))[:, None]

    offset, quantiles = np.zeros(N_LEVELS), target.copy()
    for attempt in range(ATTEMPTS):
        settled = attempt >= ATTEMPTS // 2
        bursts = float(np.sqrt(bursts2)) * (more_bursts if settled else 1.0)
        noise = Noise(factors, moment, bout_share, persistence, quantiles, bursts, none)
        made = _made(noise, usual + offset, seed=attempt)
        # A log-normal amplitude of spread s multiplies the fourth moment by exp(4 s^2).
        bursts2 = bursts2 if settled else max(bursts2 + (tails - _tails(made)) / 4, 0.0)
        error = target - np.quantile(_levels(made) - usual, QUANTILES, axis=0).T
        middle = error[:, len(QUANTILES) // 2]
        offset = offset + middle
        # Half steps; a marginal never decreases.
        quantiles = np.maximum.accumulate(quantiles + 0.5 * (error - middle[:, None]), axis=1)
    ceiling = np.quantile(everything, 0.985, axis=0) + offset
    fitted = Noise(factors, moment, bout_share, persistence, quantiles, bursts, ceiling)
    return fitted, {name: value + offset for name, value in own.items()}


def _shares(rest: Sequence[Float]) -> tuple[float, float]:
    """Share of the levels' variance that lasts for a bout, and the rest's correlation from hop to hop."""
    usable = [r for r in rest if len(r) >= 4]
    means = np.array([r.mean(0) for r in usable])
    within = np.concatenate([r - r.mean(0) for r in usable]).var(0)
    lagged = np.concatenate([(r - r.mean(0))[1:] * (r - r.mean(0))[:-1] for r in usable]).mean(0)
    # Chance leaves about a tenth of the variance in a bout's mean; overlap correlates neighbours anyway.
    bout_share = np.clip(np.median(means.var(0) / np.concatenate(rest).var(0)) - 0.1, 0.0, 0.8)
    return float(bout_share), float(np.clip(np.median(lagged / within), 0.0, 0.9))


def _tails(bouts: Sequence[Float]) -> float:
    """Log kurtosis of the steps from sample to sample in a second: median over windows, mean over channels."""
    second = round(BASE_RATE_HZ)
    steps = [np.diff(b, axis=0) for b in bouts]
    cut = np.concatenate([s[: len(s) // second * second].reshape(-1, second, 6) for s in steps])
    cut = cut - cut.mean(1, keepdims=True)
    return float(np.median(np.log((cut**4).mean(1) / (cut**2).mean(1) ** 2), axis=0).mean())


def _levels(bouts: Sequence[Float]) -> Float:
    return np.concatenate([levels(spectra(bout)) for bout in bouts])


def _made(noise: Noise, own_levels: Float, seed: int) -> list[Float]:
    """Bouts of about 20 s of made noise."""
    found = []
    for bout in range(BOUTS):
        rough = Rough(noise, own_levels, np.random.default_rng([seed, bout]))
        found.append(np.concatenate([rough.block() for _ in range(8)]))
    return found
