"""Noise filter and gravity split of many devices, with state by row.

Functions here take the samples of several rows concatenated: ``rows`` has each row once, and row ``rows[i]`` owns the
next ``counts[i]`` samples, at least 1.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from harstream.core import butterworth
from harstream.core.batches import Bool, Float32, Float64, Int64
from harstream.core.rows import RowArrays, all_true, any_true
from harstream.core.spec import GravityFilter, NoiseFilter


class MedianFilter(RowArrays):
    """Causal median of the last ``size`` samples of each signal, with one output per input.

    At a restart the history is filled with copies of the first sample.
    """

    ROW_ARRAYS = ("history",)

    def __init__(self, noise_filter: NoiseFilter, n_signals: int, capacity: int) -> None:
        self.size = noise_filter.size if noise_filter.type == "median" else 1
        self.history = np.zeros((capacity, self.size - 1, n_signals), np.float32)

    def feed(self, rows: Int64, counts: Int64, restart: Bool, samples: Float32) -> Float32:
        """Filter ``samples`` (n_samples, n_signals) and return as many; reset the rows where ``restart`` is true."""
        if self.size == 1:
            return samples
        n_history = self.size - 1
        first = np.cumsum(counts) - counts
        if any_true(restart):
            self.history[rows[restart]] = samples[first[restart], None]
        if all_true(counts == counts[0]):  # the usual case
            padded = np.concatenate([self.history[rows], samples.reshape(len(rows), -1, samples.shape[1])], axis=1)
            self.history[rows] = padded[:, -n_history:]
            return self._median(padded).reshape(samples.shape)
        # Put the samples of each row after its history, so that one pass over shifted views serves all rows.
        padded = np.empty((len(samples) + len(rows) * n_history, samples.shape[1]), np.float32)
        start = first + np.arange(len(rows)) * n_history
        history = np.arange(n_history)
        padded[start[:, None] + history] = self.history[rows]
        position = np.arange(len(samples)) + np.repeat(np.arange(1, len(rows) + 1) * n_history, counts)
        padded[position] = samples
        self.history[rows] = padded[(start + counts)[:, None] + history]
        return self._median(padded)[position - n_history]

    def _median(self, values: Float32) -> Float32:
        """Return the median of every ``size`` successive values (..., n, n_signals): (..., n - size + 1, n_signals)."""
        if self.size == 3:
            a, b, c = values[..., :-2, :], values[..., 1:-1, :], values[..., 2:, :]
            return np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
        views = np.lib.stride_tricks.sliding_window_view(values, self.size, axis=-2)
        return np.asarray(np.sort(views, axis=-1)[..., self.size // 2], np.float32)


class GravitySplit(RowArrays):
    """Split of total acceleration into gravity (a causal Butterworth low-pass of it) and body acceleration (the rest).

    Filter and split follow Anguita et al. 2013 (UCI HAR). The filter state is float64, because in float32 gravity
    drifts by 4e-4 g. The result does not depend on how a stream is cut, to the bit.

    ``seed`` initialises a row from its first window after a restart; after that, ``feed`` continues it.
    """

    ROW_ARRAYS: ClassVar[tuple[str, ...]] = ("state",)

    def __init__(self, gravity_filter: GravityFilter, sample_rate_hz: float, capacity: int) -> None:
        self._sections = butterworth.design(gravity_filter.order, gravity_filter.cutoff_hz, sample_rate_hz)
        self._steady = butterworth.steady(self._sections)
        self.state = np.zeros((capacity, len(self._sections), 2, 3))  # by row, section, delay, axis

    def seed(self, rows: Int64, samples: Float32) -> Float32:
        """Reset ``rows`` and return the body acceleration (n_rows, n_samples, 3) of their first samples.

        The filter starts in its steady state for the mean of these samples, so it needs no time to settle.

        Args:
            rows: (n_rows,).
            samples: (n_rows, n_samples, 6), acceleration in g and angular velocity in rad/s. The last three columns
                may be absent if the filter does not use the gyroscope.

        """
        return self._body(rows, samples, seed=True)

    def feed(self, rows: Int64, counts: Int64, samples: Float32) -> Float32:
        """Return the body acceleration (n_samples, 3) of ``samples`` (n_samples, 6).

        There is one filter call per group of rows with the same number of samples.
        """
        if all_true(counts == counts[0]):  # the usual case
            return self._body(rows, samples.reshape(len(rows), -1, samples.shape[1]), seed=False).reshape(-1, 3)
        first = np.cumsum(counts) - counts
        body = np.empty((len(samples), 3), np.float32)
        for count in np.unique(counts):
            group = np.flatnonzero(counts == count)
            index = first[group, None] + np.arange(count)
            body[index] = self._body(rows[group], samples[index], seed=False)
        return body

    def _body(self, rows: Int64, samples: Float32, *, seed: bool) -> Float32:
        """Return the body acceleration of (n_rows, n_samples, 6) and advance the state."""
        total: Float64 = samples[..., :3].astype(np.float64)
        return np.asarray(total - self._low_pass(rows, total, seed=seed), np.float32)

    def _low_pass(self, rows: Int64, signal: Float64, *, seed: bool) -> Float64:
        """Filter ``signal`` (n_rows, n_samples, 3) and advance the state, or first seed it from the signal's mean."""
        if seed:
            # np.cumsum always adds in the same order. np.sum adds pairwise, so its last bits vary with the shape.
            mean = np.cumsum(signal, axis=1)[:, -1] / signal.shape[1]
            self.state[rows] = self._steady[None, :, :, None] * mean[:, None, None, :]
        low, self.state[rows] = butterworth.recurse(self._sections, signal, self.state[rows])
        return low


class ComplementarySplit(GravitySplit):
    """Gravity split whose low-pass works in a frame that does not turn with the device.

    The integrated angular velocity rotates each sample into the frame that the device had at its restart; the low-pass
    runs there, and its output is rotated back. In that frame gravity is constant even on a swinging limb, and the
    acceleration of the swing averages to zero. Below the cutoff the accelerometer determines gravity, above it the
    gyroscope: a complementary filter (Mahony et al. 2008), computed as in the VQF (Laidig and Seel 2023).

    A constant offset of the gyroscope turns the frame slowly. Gravity then lags by the angle turned during the delay of
    the low-pass, which is 1.06 s for third order at 0.3 Hz.

    The arithmetic is elementwise, sample after sample, for all rows at once, so that the result does not depend on how
    many rows there are, to the bit.
    """

    ROW_ARRAYS = ("state", "attitude", "gyro")

    def __init__(self, gravity_filter: GravityFilter, sample_rate_hz: float, capacity: int) -> None:
        super().__init__(gravity_filter, sample_rate_hz, capacity)
        self._period_s = 1.0 / sample_rate_hz
        self.attitude = np.zeros((capacity, 4))  # unit quaternion (w, x, y, z), device to restart frame
        self.gyro = np.zeros((capacity, 3))  # angular velocity of the newest sample, rad/s

    def _body(self, rows: Int64, samples: Float32, *, seed: bool) -> Float32:
        total: Float64 = samples[..., :3].astype(np.float64)
        if seed:
            self.attitude[rows] = (1.0, 0.0, 0.0, 0.0)
            self.gyro[rows] = -samples[:, 0, 3:]  # so that the mean velocity before the first sample is 0
        attitude = self._integrate(rows, samples[..., 3:])
        gravity = self._low_pass(rows, _rotate(attitude, total), seed=seed)
        return np.asarray(total - _rotate(attitude * _CONJUGATE, gravity), np.float32)

    def _integrate(self, rows: Int64, gyro: Float32) -> Float64:
        """Return the attitude at each sample (n_rows, n_samples, 4) for angular velocity (n_rows, n_samples, 3).

        Between two samples the device turns at the mean of their velocities. With only one of the two, gravity would
        be half a sample late, which is 2 degrees in mid-swing at 50 Hz.
        """
        velocity = np.concatenate([self.gyro[rows, None], gyro], axis=1, dtype=np.float64)
        self.gyro[rows] = velocity[:, -1]
        half = (velocity[:, 1:] + velocity[:, :-1]) * (self._period_s / 4.0)  # half the angle turned about each axis
        x, y, z = half.transpose(2, 1, 0)  # each (n_samples, n_rows)
        # The tangent of half the angle as a rational function (Padé). The last bit of numpy's sine and cosine may vary
        # with the length of the array; that of plain arithmetic does not.
        square = x * x + y * y + z * z
        w, scale = 15.0 - 6.0 * square, 15.0 - square
        x, y, z = x * scale, y * scale, z * scale
        length = np.sqrt(w * w + (x * x + y * y + z * z))
        w, x, y, z = w / length, x / length, y / length, z / length
        # Quaternion product with each step as a matrix: (n_samples, 4, 4, n_rows), summed over the first 4.
        step = np.stack([w, x, y, z, -x, w, -z, y, -y, z, w, -x, -z, -y, x, w], axis=1)
        step = step.reshape(len(step), 4, 4, len(rows))
        attitude = np.empty((len(step), 4, len(rows)))
        current = np.ascontiguousarray(self.attitude[rows].T)
        # The quaternion is never normalised: rounding changes its length by less than 1e-6 in a year.
        for k in range(len(step)):
            product = step[k] * current[:, None]
            current = np.add(product[0] + product[1], product[2] + product[3], out=attitude[k])
        self.attitude[rows] = current.T
        return attitude.transpose(2, 0, 1)


_CONJUGATE = np.array([1.0, -1.0, -1.0, -1.0])


def _rotate(attitude: Float64, vectors: Float64) -> Float64:
    """Rotate vectors (..., 3) by unit quaternions (..., 4)."""
    w, x, y, z = np.moveaxis(attitude, -1, 0)
    a, b, c = np.moveaxis(vectors, -1, 0)
    p, q, r = 2.0 * (y * c - z * b), 2.0 * (z * a - x * c), 2.0 * (x * b - y * a)
    return np.stack(
        [a + w * p + (y * r - z * q), b + w * q + (z * p - x * r), c + w * r + (x * q - y * p)],
        axis=-1,
    )


def gravity_split(gravity_filter: GravityFilter, sample_rate_hz: float, capacity: int) -> GravitySplit:
    """Return the split for the type of ``gravity_filter``."""
    split = ComplementarySplit if gravity_filter.uses_gyro else GravitySplit
    return split(gravity_filter, sample_rate_hz, capacity)
