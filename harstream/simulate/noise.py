"""The rough part of a motion: coloured six-channel noise whose power wanders.

Half-overlapping segments of noise shaped in the frequency domain, tapered by a sine so that power
adds to one, and added (overlap-add). Each segment has its own power per channel and band, so fidgeting
comes and goes; the slowest component is about 0.2 Hz.
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
#: (bins,) the group of each FFT bin; bin 0 has none (-1).
GROUP: Int = np.searchsorted(GROUPS, _BINS, side="right") - 1
#: (bins,) the band of each FFT bin; bin 0 has none (-1).
BAND: Int = np.searchsorted(BANDS_HZ, _BINS * BASE_RATE_HZ / SEGMENT, side="right") - 1
#: (bins, 6) which level governs a bin of a channel.
LEVEL: Int = BAND[:, None] + len(BANDS_HZ) * np.arange(6)
#: (SEGMENT,) the taper of synthesis and analysis.
TAPER: Float = np.sin(np.pi * (np.arange(SEGMENT) + 0.5) / SEGMENT)

#: First bin of what comes in bursts.
_FAST = int(np.searchsorted(_BINS * BASE_RATE_HZ / SEGMENT, BURST_HZ))
_BURST: Float = np.hanning(BURST_SAMPLES + 2)[1:-1]
_BURST /= np.sqrt((_BURST**2).sum())

#: scipy.stats.norm.ppf(QUANTILES), spelled out so that synthesis needs no scipy.
NORMAL_SCORES: Float = np.array(
    [-2.0537489, -1.4757910, -0.9944579, -0.5244005, 0.0, 0.5244005, 0.9944579, 1.4757910, 2.0537489]
)


def from_scores(scores: Float, quantiles: Float) -> Float:
    """(n,) standard normal values and (n, len(QUANTILES)) -> (n,) values with these marginals.

    Straight lines between the kept quantiles; nothing beyond the outermost is ever drawn.
    """
    bounded = np.clip(scores, NORMAL_SCORES[0], NORMAL_SCORES[-1])
    cell = np.clip(np.searchsorted(NORMAL_SCORES, bounded, side="right") - 1, 0, len(NORMAL_SCORES) - 2)
    share = (bounded - NORMAL_SCORES[cell]) / (NORMAL_SCORES[cell + 1] - NORMAL_SCORES[cell])
    rows = np.arange(len(bounded))
    return np.asarray((1 - share) * quantiles[rows, cell] + share * quantiles[rows, cell + 1], np.float64)


class Rough:
    """A stream of blocks of HOP samples at the base rate."""

    def __init__(self, noise: Noise, own_levels: Float, rng: np.random.Generator) -> None:
        """``own_levels``: (N_LEVELS,) the subject's log power in each band of each channel."""
        self._noise = noise
        self._own = own_levels
        self._rng = rng
        self._rows = LEVEL[1:]
        self._bout = noise.moment @ rng.standard_normal(N_LEVELS)
        self._moment = noise.moment @ rng.standard_normal(N_LEVELS)
        self._tail = self._segment()[HOP:]
        self._draws = rng.standard_normal(len(_BURST) - 1)

    def _segment(self) -> Float:
        """(SEGMENT, 12): one tapered segment at the levels of the moment, slow channels and fast ones."""
        noise = self._noise
        draw = noise.moment @ self._rng.standard_normal(N_LEVELS)
        self._moment = noise.persistence * self._moment + np.sqrt(1 - noise.persistence**2) * draw
        score = np.sqrt(noise.bout_share) * self._bout + np.sqrt(1 - noise.bout_share) * self._moment
        level = np.minimum(self._own + from_scores(score, noise.quantiles), noise.ceiling)
        amplitude = np.exp(0.5 * level) * np.sqrt(SEGMENT / 2)
        factors = noise.factors[GROUP[1:]]  # (bins - 1, 6, 6); a copy kept by each would be 74 kB a wearable
        white = self._rng.standard_normal((len(factors), 12)).view(np.complex128)
        spectrum = np.zeros((SEGMENT // 2 + 1, 12), np.complex128)
        shaped = np.matmul(factors, white[:, :, None])[:, :, 0] * amplitude[self._rows]
        spectrum[1:_FAST, :6] = shaped[: _FAST - 1]
        spectrum[_FAST:, 6:] = shaped[_FAST - 1 :]
        return np.asarray(np.fft.irfft(spectrum, SEGMENT, axis=0) * TAPER[:, None], np.float64)

    def block(self) -> Float:
        """The next (HOP, 6): acc in g, gyro in rad/s."""
        segment = self._segment()
        both = self._tail + segment[:HOP]
        self._tail = segment[HOP:]
        draws = np.concatenate([self._draws, self._rng.standard_normal(HOP)])
        self._draws = draws[HOP:]
        bursts = self._noise.bursts
        # Mean square 1: bursts move power in time, and add none.
        amplitude = np.exp(bursts * np.convolve(draws, _BURST, "valid") - bursts**2)
        return np.asarray(both[:, :6] + amplitude[:, None] * both[:, 6:], np.float64)
