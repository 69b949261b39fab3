"""Resampling of devices with another sample rate onto the grid: causal, by counting samples, without aliasing.

A *ratio* is the number of grid samples per input sample, as a fraction ``up / down``: 1/2 for a device at 100 Hz and a
grid at 50 Hz.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Float32, Float64, Int64
from harstream.core.rows import RowArrays

#: Limits of the sample rate of a device, as multiples of the grid's. A slower device shows nothing of the gait. A
#: faster one would need a kernel of over a thousand taps.
MIN_RATE_RATIO, MAX_RATE_RATIO = Fraction(1, 8), Fraction(32)
#: Frequencies pass unchanged up to this fraction of the lower of the two Nyquist frequencies. From that
#: Nyquist frequency on they are reduced by STOPBAND_DB.
PASSBAND = 0.7
STOPBAND_DB = 60.0
#: Number of different ratios at a time. Each has a kernel, so the number must have a limit.
MAX_RATIOS = 256
_MAX_DENOMINATOR = 64
#: Weights that are looked up at once. Each output of a device that is 32 times as fast as the grid has 774 of them.
_MAX_WEIGHTS = 2**20


def accepts(rate_hz: float, grid_hz: float) -> bool:
    """Return whether samples at ``rate_hz`` can be resampled onto a grid at ``grid_hz``. NaN cannot."""
    return float(MIN_RATE_RATIO) <= rate_hz / grid_hz <= float(MAX_RATE_RATIO)


def ratio_of(rate_hz: float, grid_hz: float) -> Fraction:
    """Return the ratio for an announced rate: exact for the usual rates, within 0.8 % for any other."""
    return Fraction(grid_hz / rate_hz).limit_denominator(_MAX_DENOMINATOR)


def simplest_ratio(rate_hz: float, grid_hz: float, tolerance: float) -> Fraction:
    """Return the ratio with the smallest denominator within ``tolerance`` (relative) of that of a measured rate.

    A measured rate is not exact: a device measured at 20.3 Hz most likely has 20 Hz.
    """
    ratio = grid_hz / rate_hz
    for denominator in range(1, _MAX_DENOMINATOR + 1):
        candidate = Fraction(round(ratio * denominator), denominator)
        if abs(candidate / Fraction(ratio) - 1) <= tolerance:
            return candidate
    return ratio_of(rate_hz, grid_hz)


class Resampler(RowArrays):
    """Rational polyphase resampler with a Kaiser-windowed sinc kernel, with state by row.

    Output ``j`` after a reset lies at input position ``half - 1 + j * down / up``. So the kernel of output 0 begins
    with the first input. Positions are counted, not measured, so neither jitter of the stamps nor the cut into messages
    can change a value. Each output needs ``half`` inputs after its position. This delays the output, but its event time
    is that of its position. Kernel design: Kaiser 1974, as in Oppenheim and Schafer, section 7.6.
    """

    ROW_ARRAYS = ("has_state", "history", "position")  # arrays of a snapshot; the last two only of rows with state

    def __init__(self, ratio: Fraction, n_signals: int, capacity: int) -> None:
        self.ratio = ratio
        self.up, self.down = ratio.numerator, ratio.denominator
        nyquist = min(1.0, float(ratio)) / 2  # the lower of the two Nyquist frequencies, in cycles per input sample
        transition = (1 - PASSBAND) * nyquist
        taps = math.ceil((STOPBAND_DB - 7.95) / (2.285 * 2 * math.pi * transition))
        self.half = taps // 2 + 1
        self.kernel = self._design((1 + PASSBAND) / 2 * nyquist)  # (up, taps)
        # Often only few devices have this rate, and a history is long. So only rows that were ever fed have a slot.
        self._slot = np.full(capacity, -1, np.int32)  # by row; -1: none
        self._used = 0  # slots in use
        self._history = np.zeros((1, 2 * self.half - 1, n_signals), np.float32)  # by slot
        self._position = np.zeros(1, np.int64)  # by slot: of the next output, in 1/up inputs from the next input

    def _design(self, cutoff: float) -> Float64:
        """Return one kernel per phase (up, taps) for a cutoff in cycles per input sample."""
        offset = np.arange(2 * self.half)[None, :] - (self.half - 1) - np.arange(self.up)[:, None] / self.up
        beta = 0.1102 * (STOPBAND_DB - 8.7)
        window = np.i0(beta * np.sqrt(np.clip(1 - (offset / self.half) ** 2, 0, None)))
        kernel = np.sinc(2 * cutoff * offset) * window
        # Each phase must pass a constant unchanged, otherwise the gravity of a still device would ripple.
        return np.asarray(kernel / kernel.sum(axis=1, keepdims=True), np.float64)

    @property
    def capacity(self) -> int:
        """Number of rows for which there is room."""
        return len(self._slot)

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` rows. The new rows have no state."""
        self._slot = np.concatenate([self._slot, np.full(capacity - len(self._slot), -1, np.int32)])

    def keep(self, rows: Int64, capacity: int) -> None:
        """Make the state of ``rows`` that of the first rows, forget all others, and have room for ``capacity`` rows."""
        old, self._slot = self._slot[rows], np.full(capacity, -1, np.int32)
        self._slot[: len(rows)] = old
        self.forget_all_but(np.arange(len(rows)))

    def forget_all_but(self, rows: Int64) -> None:
        """Forget the inputs of all rows but some, and give their memory back."""
        fed = rows[self._slot[rows] >= 0]
        slots = self._slot[fed]
        self._slot[:] = -1
        self._slot[fed] = np.arange(len(fed))
        self._used = len(fed)
        self._history, self._position = self._history[slots], self._position[slots]

    @property
    def n_fed(self) -> int:
        """Number of rows whose inputs are kept."""
        return self._used

    def snapshot(self, rows: Int64) -> dict[str, npt.NDArray[Any]]:
        """Return a copy of the state of ``rows``, by the names in ROW_ARRAYS."""
        has_state = self._slot[rows] >= 0
        slots = self._slot[rows[has_state]]
        return {"has_state": has_state, "history": self._history[slots], "position": self._position[slots]}

    def restore(self, rows: Int64, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write the first entries of the state that ``snapshot`` returned into ``rows``."""
        with_state = rows[state["has_state"][: len(rows)]]
        slots = self._slots(with_state)
        self._history[slots] = state["history"][: len(with_state)]
        self._position[slots] = state["position"][: len(with_state)]

    def reset(self, rows: Int64) -> None:
        """Forget the inputs of ``rows``. The next output is the first with all its inputs after the reset."""
        slots = self._slots(rows)
        self._position[slots] = (self.half - 1) * self.up

    def _slots(self, rows: Int64) -> Int64:
        """Return the slots of ``rows``. Rows without a slot get one, in the state after a reset."""
        new = rows[self._slot[rows] < 0]
        if len(new):
            added = np.arange(self._used, self._used + len(new))
            self._slot[new] = added
            self._used += len(new)
            if self._used > len(self._position):
                more = max(self._used, 2 * len(self._position)) - len(self._position)
                empty = np.zeros((more, *self._history.shape[1:]), np.float32)
                self._history = np.concatenate([self._history, empty])
                self._position = np.concatenate([self._position, np.zeros(more, np.int64)])
            self._position[added] = (self.half - 1) * self.up
        return self._slot[rows].astype(np.int64)

    def feed(self, rows: Int64, counts: Int64, samples: Float32) -> tuple[Int64, Float32, Int64, Float64]:
        """Resample new inputs of several rows. A row that restarts must be reset before.

        Args:
            rows: (n_rows,) each row once.
            counts: (n_rows,) inputs of each row, at least 1.
            samples: (n_samples, n_signals) inputs of the first row, then those of the second, and so on.

        Returns:
            The number of outputs of each row (n_rows,). The outputs (n_outputs, n_signals), ordered like the inputs.
            For each output, the index in ``samples`` of the newest input that it needed. For each output, how many
            input periods before that input it lies (at most ``half``).

        """
        slots = self._slots(rows)
        n_history = 2 * self.half - 1
        first = np.cumsum(counts) - counts  # index in samples of the first of each row
        padded = np.empty((len(samples) + len(rows) * n_history, samples.shape[1]), np.float32)
        start = first + np.arange(len(rows)) * n_history  # index in padded of the history of each row
        history = np.arange(n_history)
        padded[start[:, None] + history] = self._history[slots]
        padded[np.arange(len(samples)) + np.repeat(np.arange(1, len(rows) + 1) * n_history, counts)] = samples

        position = self._position[slots]
        n_out = np.maximum(-((position - (counts - self.half) * self.up) // self.down), 0)
        within = np.arange(n_out.sum()) - np.repeat(np.cumsum(n_out) - n_out, n_out)
        floor, phase = np.divmod(np.repeat(position, n_out) + within * self.down, self.up)
        oldest = np.repeat(start + n_history, n_out) + floor - self.half + 1
        values = np.empty((len(floor), samples.shape[1]), np.float32)
        step = max(_MAX_WEIGHTS // (2 * self.half), 1)
        for start_at in range(0, len(floor), step):
            part = slice(start_at, start_at + step)
            values[part] = self._weighted_sums(padded, oldest[part], phase[part])

        self._history[slots] = padded[(start + counts)[:, None] + history]
        self._position[slots] = position + n_out * self.down - counts * self.up
        newest = np.repeat(first, n_out) + floor + self.half
        return n_out, values, newest, self.half - phase / self.up

    def _weighted_sums(self, inputs: Float32, oldest: Int64, phase: Int64) -> Float64:
        """Return outputs (n_outputs, n_signals) from the indices of their oldest inputs and their phases."""
        weights = self.kernel[phase]
        total = np.zeros((len(phase), inputs.shape[1]))
        for tap in range(2 * self.half):  # elementwise and in this order: the order of a numpy reduction varies
            total += inputs[oldest + tap] * weights[:, tap, None]
        return total
