"""Channels that do not depend on how the device lies: the same under any rotation, and with all axes negated.

Gravity, which the split separates, tells the vertical. Body acceleration has a part along it and a part across it, and
neither changes when the device is turned. The direction of gravity itself changes with the turn of the device, but the
speed at which it changes does not.
"""

from __future__ import annotations

import numpy as np

from harstream.core.batches import Float32, Float64, Int64
from harstream.core.rows import RowArrays

#: Shortest gravity in g that has a direction. Shorter, and rounding decides the direction.
_SHORTEST_G = 1e-6


class OrientationFreeChannels(RowArrays):
    """Orientation-free channels of many devices, with the newest direction of gravity by row.

    The channels, in the order of ``spec.ORIENTATION_FREE``:

    - ``vertical_acc``: body acceleration along gravity in g, positive upwards.
    - ``horizontal_acc``: length of the body acceleration across gravity in g.
    - ``total_acc_norm``: length of total acceleration in g.
    - ``gravity_turn``: speed in rad/s at which the direction of gravity turns in the frame of the device.

    The sensor measures gravity upwards. One that reports the opposite sign (iOS) has the same channels, because all
    vectors of a sample change their sign together.

    The arithmetic is elementwise, so the result does not depend on how a stream is cut, nor on the other rows, to the
    bit. It is the same under a rotation up to rounding, if no noise filter of single axes has run before.
    """

    ROW_ARRAYS = ("direction",)

    def __init__(self, sample_rate_hz: float, capacity: int) -> None:
        self._rate_hz = sample_rate_hz
        self.direction = np.zeros((capacity, 3))  # unit vector of gravity at the newest sample

    def seed(self, rows: Int64, total: Float32, body: Float32) -> Float32:
        """Reset ``rows`` and return the channels (n_rows, n_samples, 4) of their first samples.

        Args:
            rows: (n_rows,).
            total: (n_rows, n_samples, 3) total acceleration in g.
            body: (n_rows, n_samples, 3) body acceleration in g.

        """
        n_rows, n_samples, _ = total.shape
        self.direction[rows] = _unit(_gravity(total[:, 0], body[:, 0]))  # the first sample has not turned
        counts = np.full(n_rows, n_samples)
        return self.feed(rows, counts, total.reshape(-1, 3), body.reshape(-1, 3)).reshape(n_rows, n_samples, 4)

    def feed(self, rows: Int64, counts: Int64, total: Float32, body: Float32) -> Float32:
        """Return the channels (n_samples, 4) of the next samples.

        Args:
            rows: (n_rows,) each row once.
            counts: (n_rows,) samples of each row, at least 1.
            total: (n_samples, 3) total acceleration in g, row after row.
            body: (n_samples, 3) body acceleration in g.

        """
        up = _unit(_gravity(total, body))
        last = np.cumsum(counts) - 1
        before = np.empty_like(up)
        before[1:] = up[:-1]
        before[last - counts + 1] = self.direction[rows]
        self.direction[rows] = up[last]
        body64 = body.astype(np.float64)
        vertical = _dot(body64, up)
        out = np.empty((len(total), 4), np.float32)
        out[:, 0] = vertical
        out[:, 1] = _length(body64 - vertical[:, None] * up)
        out[:, 2] = _length(total.astype(np.float64))
        out[:, 3] = _length(up - before) * self._rate_hz  # the chord: equal to the angle for small turns
        return out


def _gravity(total: Float32, body: Float32) -> Float64:
    return total.astype(np.float64) - body


def _unit(vectors: Float64) -> Float64:
    """Return unit vectors (n, 3); a vector that is too short to have a direction stays short."""
    return np.asarray(vectors / np.maximum(_length(vectors), _SHORTEST_G)[:, None])


# The sums below add in one order for any number of samples; that of numpy's reductions depends on the shape.


def _dot(a: Float64, b: Float64) -> Float64:
    return np.asarray(a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2])


def _length(vectors: Float64) -> Float64:
    return np.asarray(np.sqrt(_dot(vectors, vectors)))
