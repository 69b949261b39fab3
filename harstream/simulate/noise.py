"""Residual noise of a motion: coloured six-channel noise whose power varies.

Frames of noise are shaped in the frequency domain, tapered by a sine (so that the power of two overlapping frames adds
to one) and added with an overlap of half a frame. Each frame has its own power per channel and band, so fidgeting comes
and goes. The slowest component is about 0.2 Hz.
"""

from __future__ import annotations

import numpy as np

from harstream.simulate.parameters import (
    BANDS_HZ,
    BASE_RATE_HZ,
    BURST_HZ,
    BURST_SAMPLES,
    GROUPS,
    HOP,
    N_LEVELS,
    SEGMENT,
    Float,
    Int,
    Noise,
)

_BINS = np.arange(SEGMENT // 2 + 1)
#: (bins,) group of each FFT bin; -1 for bin 0, which has none.
GROUP: Int = np.searchsorted(GROUPS, _BINS, side="right") - 1
#: (bins,) band of each FFT bin; -1 for bin 0, which has none.
BAND: Int = np.searchsorted(BANDS_HZ, _BINS * BASE_RATE_HZ / SEGMENT, side="right") - 1
#: (bins, 6) index of the level that gives the power of a channel at a bin.
LEVEL: Int = BAND[:, None] + len(BANDS_HZ) * np.arange(6)
#: (SEGMENT,) taper of synthesis and analysis.
TAPER: Float = np.sin(np.pi * (np.arange(SEGMENT) + 0.5) / SEGMENT)

#: First bin whose noise comes in bursts.
_FAST = int(np.searchsorted(_BINS * BASE_RATE_HZ / SEGMENT, BURST_HZ))
_BURST: Float = np.hanning(BURST_SAMPLES + 2)[1:-1]
_BURST /= np.sqrt((_BURST**2).sum())

#: scipy.stats.norm.ppf(QUANTILES), written out so that the synthesis does not need scipy.
NORMAL_SCORES: Float = np.array(
    [-2.0537489, -1.4757910, -0.9944579, -0.5244005, 0.0, 0.5244005, 0.9944579, 1.4757910, 2.0537489]
)


def from_scores(scores: Float, quantiles: Float) -> Float:
    """Map standard normal values (n,) to values (n,) whose distributions have the given quantiles.

    ``quantiles`` has shape (n, len(QUANTILES)). Values are interpolated linearly between quantiles and bounded by the
    first and the last.
    """
    bounded = np.clip(scores, NORMAL_SCORES[0], NORMAL_SCORES[-1])
    cell = np.clip(np.searchsorted(NORMAL_SCORES, bounded, side="right") - 1, 0, len(NORMAL_SCORES) - 2)
    share = (bounded - NORMAL_SCORES[cell]) / (NORMAL_SCORES[cell + 1] - NORMAL_SCORES[cell])
    rows = np.arange(len(bounded))
    return np.asarray((1 - share) * quantiles[rows, cell] + share * quantiles[rows, cell + 1], np.float64)


class NoiseStream:
    """Endless residual noise of one bout, in blocks of HOP samples at the base rate."""

    def __init__(self, noise: Noise, own_levels: Float, rng: np.random.Generator) -> None:
        """Start a bout; ``own_levels`` (N_LEVELS,) are the subject's log powers in each band of each channel."""
        self._noise = noise
        self._own = own_levels
        self._rng = rng
        self._rows = LEVEL[1:]
        self._bout = noise.moment @ rng.standard_normal(N_LEVELS)
        self._moment = noise.moment @ rng.standard_normal(N_LEVELS)
        self._tail = self._frame()[HOP:]
        self._draws = rng.standard_normal(len(_BURST) - 1)

    def _frame(self) -> Float:
        """Return the next tapered frame (SEGMENT, 12): six channels below BURST_HZ, then the same six above it."""
        noise = self._noise
        draw = noise.moment @ self._rng.standard_normal(N_LEVELS)
        self._moment = noise.persistence * self._moment + np.sqrt(1 - noise.persistence**2) * draw
        score = np.sqrt(noise.bout_share) * self._bout + np.sqrt(1 - noise.bout_share) * self._moment
        level = np.minimum(self._own + from_scores(score, noise.quantiles), noise.ceiling)
        amplitude = np.exp(0.5 * level) * np.sqrt(SEGMENT / 2)
        factors = noise.factors[GROUP[1:]]  # (bins - 1, 6, 6); not kept: it would take 74 kB per wearable
        white = self._rng.standard_normal((len(factors), 12)).view(np.complex128)
        spectrum = np.zeros((SEGMENT // 2 + 1, 12), np.complex128)
        shaped = np.matmul(factors, white[:, :, None])[:, :, 0] * amplitude[self._rows]
        spectrum[1:_FAST, :6] = shaped[: _FAST - 1]
        spectrum[_FAST:, 6:] = shaped[_FAST - 1 :]
        return np.asarray(np.fft.irfft(spectrum, SEGMENT, axis=0) * TAPER[:, None], np.float64)

    def block(self) -> Float:
        """Return the next noise (HOP, 6), acc in g and gyro in rad/s."""
        frame = self._frame()
        both = self._tail + frame[:HOP]
        self._tail = frame[HOP:]
        draws = np.concatenate([self._draws, self._rng.standard_normal(HOP)])
        self._draws = draws[HOP:]
        bursts = self._noise.bursts
        # The mean square is 1: bursts move power in time and do not add any.
        amplitude = np.exp(bursts * np.convolve(draws, _BURST, "valid") - bursts**2)
        return np.asarray(both[:, :6] + amplitude[:, None] * both[:, 6:], np.float64)
