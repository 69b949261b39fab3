"""The base-rate stream at another rate: windowed-sinc interpolation, block by block."""

from __future__ import annotations

import numpy as np

from harstream.simulate.parameters import BASE_RATE_HZ, Float, Int

#: Zero crossings of the sinc on either side.
_CROSSINGS = 12


class Resampler:
    """Turns blocks of (n, 6) at the base rate into (m, 6) at another, and says which base row is nearest.

    Below the base rate the kernel also takes out what the new rate cannot carry (cut-off at 0.9 of
    its half); above it nothing is added beyond half the base rate. Output ``j`` lies at the time of
    base row ``j * base / rate + delay``: the first rows only fill the kernel.
    """

    def __init__(self, rate_hz: float) -> None:
        self._step = BASE_RATE_HZ / rate_hz
        self._cut = min(1.0, 0.9 * rate_hz / BASE_RATE_HZ)
        self._half = int(np.ceil(_CROSSINGS / self._cut))
        self._rows: Float = np.zeros((0, 6))
        self._begin = 0  # base index of the first row held
        self._made = 0

    def feed(self, block: Float) -> tuple[Float, Int]:
        """(n, 6) -> the outputs that are now complete, (m, 6), and each one's nearest base index (m,)."""
        self._rows = np.concatenate([self._rows, block])
        end = self._begin + len(self._rows)
        # Output j sits at half + j * step and needs base rows up to half further.
        count = max(int(np.ceil((end - 2 * self._half) / self._step)) - self._made, 0)
        at = self._half + (self._made + np.arange(count)) * self._step
        near = np.floor(at).astype(np.int64)
        rows = near[:, None] + np.arange(1 - self._half, self._half + 1)
        away = rows - at[:, None]
        window = np.cos(np.clip(away / self._half, -1, 1) * np.pi / 2) ** 2
        weight = np.sinc(away * self._cut) * window
        weight /= weight.sum(1, keepdims=True)
        out = np.einsum("mk,mkc->mc", weight, self._rows[np.clip(rows - self._begin, 0, len(self._rows) - 1)])
        self._made += count
        keep = int(self._half + self._made * self._step) - self._half - self._begin
        if keep > 0:
            self._rows = self._rows[keep:]
            self._begin += keep
        return out, np.rint(at).astype(np.int64)
