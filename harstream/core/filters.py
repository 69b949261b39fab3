"""The noise filter and the gravity split, state by device row."""

from __future__ import annotations

from typing import ClassVar

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

    ROW_ARRAYS: ClassVar[tuple[str, ...]] = ("state",)

    def __init__(self, gravity_filter: GravityFilter, sample_rate_hz: float, capacity: int) -> None:
        self._sos = butter(gravity_filter.order, gravity_filter.cutoff_hz, output="sos", fs=sample_rate_hz)
        self._steady = sosfilt_zi(self._sos)  # (n_sections, 2) the state a constant input of 1 leads to
        self.state = np.zeros((capacity, len(self._sos), 2, 3))

    def seed(self, rows: Int64, samples: Float32) -> Float32:
        """Start ``rows`` from the mean of ``samples`` (n_rows, n_samples, 6); the body acceleration of them.

        A sample is three of acceleration in g and three of angular velocity in rad/s.
        """
        return self._body(rows, samples, seed=True)

    def feed(self, rows: Int64, counts: Int64, samples: Float32) -> Float32:
        """(n_samples, 6), one row's samples after another's, to body acceleration (n_samples, 3).

        One filter call per group of rows with equally many samples.
        """
        if (counts == counts[0]).all():  # nearly always
            return self._body(rows, samples.reshape(len(rows), -1, samples.shape[1]), seed=False).reshape(-1, 3)
        first = np.cumsum(counts) - counts
        body = np.empty((len(samples), 3), np.float32)
        for count in np.unique(counts):
            group = np.flatnonzero(counts == count)
            at = first[group, None] + np.arange(count)
            body[at] = self._body(rows[group], samples[at], seed=False)
        return body

    def _body(self, rows: Int64, samples: Float32, *, seed: bool) -> Float32:
        """(n_rows, n_samples, 6) to body acceleration, advancing the state."""
        total: Float64 = samples[..., :3].astype(np.float64)
        return np.asarray(total - self._low_pass(rows, total, seed=seed), np.float32)

    def _low_pass(self, rows: Int64, signal: Float64, *, seed: bool) -> Float64:
        """(n_rows, n_samples, 3) to as many, advancing the state, or starting it from the signal's mean.

        A running sum adds in one order whatever the shape, as a pairwise sum would not.
        """
        if seed:
            mean = np.cumsum(signal, axis=1)[:, -1] / signal.shape[1]
            self.state[rows] = self._steady[None, :, :, None] * mean[:, None, None, :]
        low, state = sosfilt(self._sos, signal, axis=1, zi=self.state[rows].transpose(1, 0, 2, 3))
        self.state[rows] = state.transpose(1, 0, 2, 3)
        return np.asarray(low, np.float64)


class ComplementarySplit(GravitySplit):
    """The same low-pass, but of total_acc in a frame that does not turn with the device.

    The angular velocity, integrated, carries each sample into the frame the device had at its start, and
    gravity back. There gravity stands still however the limb swings, and what the low-pass has to keep
    out, acceleration to and fro, averages to nothing: accelerometer below the cutoff and gyroscope above
    it, a complementary filter (Mahony et al. 2008), computed as in the VQF (Laidig and Seel 2023). A
    gyroscope's constant offset turns that frame; gravity then lags by as far as it turns in the delay of
    the low-pass, 1.06 s for the third order at 0.3 Hz.

    Elementwise arithmetic only, sample after sample, for all devices at once.
    """

    ROW_ARRAYS = ("state", "attitude", "gyro")

    def __init__(self, gravity_filter: GravityFilter, sample_rate_hz: float, capacity: int) -> None:
        super().__init__(gravity_filter, sample_rate_hz, capacity)
        self._period_s = 1.0 / sample_rate_hz
        self.attitude = np.zeros((capacity, 4))  # unit quaternion: from the device's frame to that of its start
        self.gyro = np.zeros((capacity, 3))  # of the newest sample, rad/s

    def _body(self, rows: Int64, samples: Float32, *, seed: bool) -> Float32:
        total: Float64 = samples[..., :3].astype(np.float64)
        if seed:
            self.attitude[rows] = (1.0, 0.0, 0.0, 0.0)
            self.gyro[rows] = -samples[:, 0, 3:]  # so that the first sample turns nothing
        attitude = self._turn(rows, samples[..., 3:])
        gravity = self._low_pass(rows, _rotate(attitude, total), seed=seed)
        return np.asarray(total - _rotate(attitude * _CONJUGATE, gravity), np.float32)

    def _turn(self, rows: Int64, gyro: Float32) -> Float64:
        """The attitude at every sample, (n_rows, n_samples, 4), from angular velocity (n_rows, n_samples, 3).

        Between two samples the device turns at the mean of their velocities: at one of the two alone,
        gravity would be half a sample late, 2 degrees in mid-swing at 50 Hz.
        """
        velocity = np.concatenate([self.gyro[rows, None], gyro], axis=1, dtype=np.float64)
        self.gyro[rows] = velocity[:, -1]
        half = (velocity[:, 1:] + velocity[:, :-1]) * (self._period_s / 4.0)  # half the angle turned, about each axis
        x, y, z = half.transpose(2, 1, 0)  # each (n_samples, n_rows)
        # The tangent of half the angle as a fraction (Padé): sine and cosine may differ in the last bit with
        # the length of an array, plain arithmetic cannot.
        square = x * x + y * y + z * z
        w, scale = 15.0 - 6.0 * square, 15.0 - square
        x, y, z = x * scale, y * scale, z * scale
        length = np.sqrt(w * w + (x * x + y * y + z * z))
        w, x, y, z = w / length, x / length, y / length, z / length
        # (n_samples, 4, 4, n_rows): what each element of the attitude gives to each of the next.
        step = np.stack([w, x, y, z, -x, w, -z, y, -y, z, w, -x, -z, -y, x, w], axis=1)
        step = step.reshape(len(step), 4, 4, len(rows))
        attitude = np.empty((len(step), 4, len(rows)))
        now = np.ascontiguousarray(self.attitude[rows].T)
        # Its length, never put right, strays by rounding alone: below 1e-6 in a year.
        for k in range(len(step)):
            given = step[k] * now[:, None]
            now = np.add(given[0] + given[1], given[2] + given[3], out=attitude[k])
        self.attitude[rows] = now.T
        return attitude.transpose(2, 0, 1)


_CONJUGATE = np.array([1.0, -1.0, -1.0, -1.0])


def _rotate(attitude: Float64, vectors: Float64) -> Float64:
    """Turn vectors (..., 3) by unit quaternions (..., 4)."""
    w, x, y, z = np.moveaxis(attitude, -1, 0)
    a, b, c = np.moveaxis(vectors, -1, 0)
    p, q, r = 2.0 * (y * c - z * b), 2.0 * (z * a - x * c), 2.0 * (x * b - y * a)
    return np.stack(
        [a + w * p + (y * r - z * q), b + w * q + (z * p - x * r), c + w * r + (x * q - y * p)],
        axis=-1,
    )


def gravity_split(gravity_filter: GravityFilter, sample_rate_hz: float, capacity: int) -> GravitySplit:
    """The split of the filter's type."""
    split = ComplementarySplit if gravity_filter.uses_gyro else GravitySplit
    return split(gravity_filter, sample_rate_hz, capacity)
