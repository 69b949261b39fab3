"""The noise filter and the gravity split, state by device row."""

from __future__ import annotations

import numpy as np
from scipy.signal import butter, sosfilt, sosfilt_zi

from harstream.core.batches import Bool, Float32, Float64, Int64
from harstream.core.rows import RowArrays
from harstream.core.spec import GravityFilter, NoiseFilter


class MedianFilter(RowArrays):
    """The causal median of the last ``size`` samples: one output per input.

    Before the first sample there was, so to speak, only that one.
    """

    ROW_ARRAYS = ("history",)

    def __init__(self, noise_filter: NoiseFilter, n_signals: int, capacity: int) -> None:
        self.size = noise_filter.size if noise_filter.type == "median" else 1
        self.history = np.zeros((capacity, self.size - 1, n_signals), np.float32)

    def feed(self, rows: Int64, counts: Int64, restart: Bool, samples: Float32) -> Float32:
        """(n_samples, n_signals), one row's samples after another's, to as many filtered ones.

        ``rows`` holds each row once and ``counts`` are at least 1.
        """
        if self.size == 1:
            return samples
        n_history = self.size - 1
        first = np.cumsum(counts) - counts
        self.history[rows[restart]] = samples[first[restart], None]
        # Every row's samples behind its history, so that one pass of shifted views serves all rows.
        padded = np.empty((len(samples) + len(rows) * n_history, samples.shape[1]), np.float32)
        start = first + np.arange(len(rows)) * n_history
        at = np.arange(n_history)
        padded[start[:, None] + at] = self.history[rows]
        here = np.arange(len(samples)) + np.repeat(np.arange(1, len(rows) + 1) * n_history, counts)
        padded[here] = samples
        self.history[rows] = padded[(start + counts)[:, None] + at]
        if self.size == 3:
            a, b, c = padded[:-2], padded[1:-1], padded[2:]
            median = np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
        else:
            views = np.lib.stride_tricks.sliding_window_view(padded, self.size, axis=0)
            median = np.sort(views, axis=-1)[..., n_history // 2]
        return np.asarray(median[here - n_history], np.float32)


class GravitySplit(RowArrays):
    """total_acc = body_acc + gravity, gravity being a causal Butterworth low-pass of total_acc.

    The state is kept in float64 (in float32 it would drift by 4e-4 g), so a stream gives the same bits
    however it is cut. Filter and split after Anguita et al. 2013 (UCI HAR).
    """

    ROW_ARRAYS = ("state",)

    def __init__(self, gravity_filter: GravityFilter, sample_rate_hz: float, capacity: int) -> None:
        self._sos = butter(gravity_filter.order, gravity_filter.cutoff_hz, output="sos", fs=sample_rate_hz)
        self._steady = sosfilt_zi(self._sos)  # (n_sections, 2) the state a constant input of 1 leads to
        self.state = np.zeros((capacity, len(self._sos), 2, 3))

    def seed(self, rows: Int64, total: Float32) -> Float32:
        """Start ``rows`` from the mean of ``total`` (n_rows, n_samples, 3); the body acceleration of it.

        A running sum adds in one order whatever the shape, as a pairwise sum would not.
        """
        mean = np.cumsum(total, axis=1, dtype=np.float64)[:, -1] / total.shape[1]
        self.state[rows] = self._steady[None, :, :, None] * mean[:, None, None, :]
        return self._filter(rows, total)

    def feed(self, rows: Int64, counts: Int64, total: Float32) -> Float32:
        """(n_samples, 3), one row's samples after another's, to body acceleration of the same shape.

        One filter call per group of rows with equally many samples.
        """
        first = np.cumsum(counts) - counts
        body = np.empty_like(total)
        for count in np.unique(counts):
            group = np.flatnonzero(counts == count)
            at = first[group, None] + np.arange(count)
            body[at] = self._filter(rows[group], total[at])
        return body

    def _filter(self, rows: Int64, total: Float32) -> Float32:
        """(n_rows, n_samples, 3) to body acceleration, advancing the state."""
        signal: Float64 = total.astype(np.float64)
        gravity, state = sosfilt(self._sos, signal, axis=1, zi=self.state[rows].transpose(1, 0, 2, 3))
        self.state[rows] = state.transpose(1, 0, 2, 3)
        return np.asarray(signal - gravity, np.float32)
