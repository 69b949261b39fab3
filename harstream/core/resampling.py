"""Another sample rate onto the bundle's grid: causal, counted, without aliasing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Float32, Float64, Int64
from harstream.core.rows import RowArrays

#: Rates accepted, as multiples of the grid's. Below, nothing of gait is left; above, a kernel of
#: a thousand taps would buy nothing a device could not do better itself.
MIN_RATE_RATIO, MAX_RATE_RATIO = Fraction(1, 8), Fraction(32)
#: Passed unchanged up to this part of the lower Nyquist frequency, stopped from 1.0 on.
PASSBAND = 0.7
STOPBAND_DB = 60.0
#: Different rates served at once: each keeps a kernel, so the number is bounded.
MAX_RATIOS = 256
_MAX_DENOMINATOR = 64


def accepts(rate_hz: float, grid_hz: float) -> bool:
    """Whether a rate can be resampled onto the grid."""
    return float(MIN_RATE_RATIO) <= rate_hz / grid_hz <= float(MAX_RATE_RATIO)


def ratio_of(rate_hz: float, grid_hz: float) -> Fraction:
    """Grid samples per input sample; exact for the usual rates, within 0.8 % for any."""
    return Fraction(grid_hz / rate_hz).limit_denominator(_MAX_DENOMINATOR)


def simplest_ratio(rate_hz: float, grid_hz: float, tolerance: float) -> Fraction:
    """The ratio with the smallest denominator within ``tolerance`` (relative) of the measured one.

    A measured rate is only worth its accuracy: 20.3 Hz measured is a device at 20 Hz.
    """
    ratio = grid_hz / rate_hz
    for denominator in range(1, _MAX_DENOMINATOR + 1):
        candidate = Fraction(round(ratio * denominator), denominator)
        if abs(candidate / Fraction(ratio) - 1) <= tolerance:
            return candidate
    return ratio_of(rate_hz, grid_hz)


class Resampler(RowArrays):
    """A rational polyphase resampler with a Kaiser-windowed sinc, state by device row.

    Positions are counted, never measured: output ``j`` after a restart lies at input position
    ``start + j * down / up``, so neither jitter nor the cut into messages can change a value. Each
    output needs ``half`` inputs after its position; its time is the position's, so the delay does not
    show in ``t``. Design after Kaiser (1974) as in Oppenheim & Schafer, section 7.6.
    """

    ROW_ARRAYS = ("kept", "history", "position")  # of a snapshot: which rows have state, and those rows' state

    def __init__(self, ratio: Fraction, n_signals: int, capacity: int) -> None:
        self.ratio = ratio
        self.up, self.down = ratio.numerator, ratio.denominator
        nyquist = min(1.0, float(ratio)) / 2  # the lower of the two, in cycles per input sample
        transition = (1 - PASSBAND) * nyquist
        taps = math.ceil((STOPBAND_DB - 7.95) / (2.285 * 2 * math.pi * transition))
        self.half = taps // 2 + 1
        self.kernel = self._design((1 + PASSBAND) / 2 * nyquist)  # (up, taps)
        # Few devices may have this rate, and a history is long: only rows that were ever fed have a slot.
        self._slot = np.full(capacity, -1, np.int32)
        self._used = 0
        self._history = np.zeros((1, 2 * self.half - 1, n_signals), np.float32)
        self._position = np.zeros(1, np.int64)  # of the next output, in 1/up inputs from the next input

    def _design(self, cutoff: float) -> Float64:
        offset = np.arange(2 * self.half)[None, :] - (self.half - 1) - np.arange(self.up)[:, None] / self.up
        beta = 0.1102 * (STOPBAND_DB - 8.7)
        window = np.i0(beta * np.sqrt(np.clip(1 - (offset / self.half) ** 2, 0, None)))
        kernel = np.sinc(2 * cutoff * offset) * window
        # Each phase passes a constant unchanged, or a still device's gravity would ripple.
        return np.asarray(kernel / kernel.sum(axis=1, keepdims=True), np.float64)

    @property
    def capacity(self) -> int:
        return len(self._slot)

    def grow(self, capacity: int) -> None:
        self._slot = np.concatenate([self._slot, np.full(capacity - len(self._slot), -1, np.int32)])

    def snapshot(self, rows: Int64) -> dict[str, npt.NDArray[Any]]:
        kept = self._slot[rows] >= 0
        slots = self._slot[rows[kept]]
        return {"kept": kept, "history": self._history[slots], "position": self._position[slots]}

    def restore(self, rows: Int64, state: Mapping[str, npt.NDArray[Any]]) -> None:
        mine = rows[state["kept"]]
        slots = self._slots(mine)
        self._history[slots] = state["history"][: len(mine)]
        self._position[slots] = state["position"][: len(mine)]

    def restart(self, rows: Int64) -> None:
        """Forget the past of ``rows``: the first output is the first with all its inputs there."""
        slots = self._slots(rows)
        self._position[slots] = (self.half - 1) * self.up

    def _slots(self, rows: Int64) -> Int64:
        """Where the state of ``rows`` is, made where there was none."""
        new = rows[self._slot[rows] < 0]
        if len(new):
            made = np.arange(self._used, self._used + len(new))
            self._slot[new] = made
            self._used += len(new)
            if self._used > len(self._position):
                more = max(self._used, 2 * len(self._position)) - len(self._position)
                none = np.zeros((more, *self._history.shape[1:]), np.float32)
                self._history = np.concatenate([self._history, none])
                self._position = np.concatenate([self._position, np.zeros(more, np.int64)])
            self._position[made] = (self.half - 1) * self.up  # nothing was there before: as after a restart
        return self._slot[rows].astype(np.int64)

    def feed(self, rows: Int64, counts: Int64, samples: Float32) -> tuple[Int64, Float32, Int64, Float64]:
        """New inputs of ``rows`` (each once, restarted before the first), one row's after another's in ``samples``.

        Returns the outputs per row; the outputs (n_outputs, n_signals); for each output the index into
        ``samples`` of the newest input it needed; and how many input periods before that input it lies.
        """
        slots = self._slots(rows)
        n_history = 2 * self.half - 1
        first = np.cumsum(counts) - counts  # of each row, in samples
        padded = np.empty((len(samples) + len(rows) * n_history, samples.shape[1]), np.float32)
        start = first + np.arange(len(rows)) * n_history  # of each row's history, in padded
        at = np.arange(n_history)
        padded[start[:, None] + at] = self._history[slots]
        padded[np.arange(len(samples)) + np.repeat(np.arange(1, len(rows) + 1) * n_history, counts)] = samples

        position = self._position[slots]
        n_out = np.maximum(-((position - (counts - self.half) * self.up) // self.down), 0)
        within = np.arange(n_out.sum()) - np.repeat(np.cumsum(n_out) - n_out, n_out)
        floor, phase = np.divmod(np.repeat(position, n_out) + within * self.down, self.up)
        oldest = np.repeat(start + n_history, n_out) + floor - self.half + 1
        weights = self.kernel[phase]
        total = np.zeros((len(floor), samples.shape[1]))
        for tap in range(2 * self.half):  # elementwise, in this order: no reduction whose order could vary
            total += padded[oldest + tap] * weights[:, tap, None]

        self._history[slots] = padded[(start + counts)[:, None] + at]
        self._position[slots] = position + n_out * self.down - counts * self.up
        newest = np.repeat(first, n_out) + floor + self.half
        return n_out, total.astype(np.float32), newest, self.half - phase / self.up
