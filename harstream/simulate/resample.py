"""Resampling of the simulated stream to another rate, block by block, by windowed-sinc interpolation."""

from __future__ import annotations

import numpy as np

from harstream.simulate.parameters import BASE_RATE_HZ, Float, Int

#: Number of zero crossings of the sinc on either side.
_CROSSINGS = 12


class SincResampler:
    """Resampler of blocks (n, 6) at the base rate to blocks (m, 6) at another rate.

    For a rate below the base rate the kernel is also the anti-aliasing filter, with its cut-off at 0.9 of half the new
    rate. For a higher rate the output has no content above half the base rate. Output ``j`` is at the time of base row
    ``j * base / rate + delay``, because the first base rows only fill the kernel. The daemon resamples devices
    differently (``core.resampling``): there the times of samples are irregular.
    """

    def __init__(self, rate_hz: float) -> None:
        self._step = BASE_RATE_HZ / rate_hz
        self._cut = min(1.0, 0.9 * rate_hz / BASE_RATE_HZ)
        self._half = int(np.ceil(_CROSSINGS / self._cut))
        self._rows: Float = np.zeros((0, 6))
        self._begin = 0  # index of the first base row in _rows
        self._n_outputs = 0

    def feed(self, block: Float) -> tuple[Float, Int]:
        """Return the outputs (m, 6) that ``block`` (n, 6) completes, and the nearest base row's index (m,) of each."""
        self._rows = np.concatenate([self._rows, block])
        end = self._begin + len(self._rows)
        # Output j is at base row half + j * step and needs the rows up to half beyond it.
        count = max(int(np.ceil((end - 2 * self._half) / self._step)) - self._n_outputs, 0)
        at = self._half + (self._n_outputs + np.arange(count)) * self._step
        near = np.floor(at).astype(np.int64)
        rows = near[:, None] + np.arange(1 - self._half, self._half + 1)
        away = rows - at[:, None]
        window = np.cos(np.clip(away / self._half, -1, 1) * np.pi / 2) ** 2
        weight = np.sinc(away * self._cut) * window
        weight /= weight.sum(1, keepdims=True)
        out = np.einsum("mk,mkc->mc", weight, self._rows[np.clip(rows - self._begin, 0, len(self._rows) - 1)])
        self._n_outputs += count
        keep = int(self._half + self._n_outputs * self._step) - self._half - self._begin
        if keep > 0:
            self._rows = self._rows[keep:]
            self._begin += keep
        return out, np.rint(at).astype(np.int64)
