"""Augmentation: what the network should not learn to rely on.

A phone never sits twice at the same angle. Turning all triads of a window (total and body
acceleration, angular velocity) by one small random rotation is the same movement with the device worn
slightly differently. The gravity filter is linear, so a turned window is, but for the noise filter,
the window of a turned device. And nobody walks at another's pace.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from harstream.core.batches import Float32, Float64
from harstream.core.spec import BODY_ACC, GYRO, TOTAL_ACC


def tilts(n: int | tf.Tensor, degrees: float) -> tf.Tensor:
    """(n, 3, 3) float32 rotations about uniformly random axes, by normally distributed angles.

    ``degrees`` is the angles' standard deviation. The random numbers are TensorFlow's, under its
    global seed.
    """
    axis = tf.math.l2_normalize(tf.random.normal((n, 3)), axis=-1)
    return rotations(axis, tf.random.normal((n,)) * math.radians(degrees))


def turns(n: int | tf.Tensor, axis: Float64, share: float) -> tf.Tensor:
    """(n, 3, 3) float32: a ``share`` of them rotations about ``axis`` (3,) by any angle, the others identity.

    With the wearer's vertical as the axis: the device at another place around the belt, or the wearer
    lying on the other side.
    """
    unit = tf.constant(axis / np.linalg.norm(axis), tf.float32)
    chosen = tf.cast(tf.random.uniform((n,)) < share, tf.float32)
    return rotations(tf.broadcast_to(unit, (n, 3)), chosen * tf.random.uniform((n,), -math.pi, math.pi))


def rotations(axis: tf.Tensor, angle: tf.Tensor) -> tf.Tensor:
    """(n, 3, 3) rotations about unit axes (n, 3) by angles (n,) in radians: Rodrigues' formula."""
    x, y, z = tf.unstack(axis, axis=-1)
    zero = tf.zeros_like(x)
    cross = tf.reshape(tf.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1), (-1, 3, 3))
    sine, cosine = tf.sin(angle)[:, None, None], tf.cos(angle)[:, None, None]
    return tf.eye(3) + sine * cross + (1.0 - cosine) * tf.matmul(cross, cross)


def stretch(windows: tf.Tensor, spread: float) -> tf.Tensor:
    """Each window at another pace: its time stretched about the middle, linearly interpolated.

    ``windows`` is (n, window_samples, n_channels), and so is the answer. The logarithm of the factors is
    normally distributed with this standard deviation; where a window comes out short, its ends are
    mirrored.
    """
    n, last = tf.shape(windows)[0], windows.shape[1] - 1
    middle = last / 2
    pace = tf.exp(spread * tf.random.normal((n, 1)))
    at = (tf.range(last + 1, dtype=tf.float32)[None] - middle) * pace + middle
    at = last - tf.abs(last - tf.abs(at))  # mirrored at both ends
    at = tf.clip_by_value(at, 0.0, float(last))
    before = tf.minimum(tf.cast(at, tf.int32), last - 1)
    part = (at - tf.cast(before, tf.float32))[:, :, None]
    return tf.gather(windows, before, batch_dims=1) * (1.0 - part) + tf.gather(windows, before + 1, batch_dims=1) * part


def vertical_of(windows: Float32, channels: Sequence[str]) -> Float64 | None:
    """The mean direction of total acceleration, (3,): upwards, for a device worn upright most of the time.

    None where the channels lack total acceleration, or it points nowhere on average.
    """
    if not set(TOTAL_ACC) <= set(channels):
        return None
    mean = windows[:, :, [channels.index(name) for name in TOTAL_ACC]].mean(axis=(0, 1), dtype=np.float64)
    norm = float(np.linalg.norm(mean))
    return np.asarray(mean / norm, np.float64) if norm > 0.1 else None


def rotate(windows: tf.Tensor, rotations: tf.Tensor, channels: Sequence[str]) -> tf.Tensor:
    """Turn every triad of each window by the window's one rotation; the norm of a triad stays.

    ``windows`` is (n, window_samples, n_channels) in physical units, not normalised, ``rotations``
    (n, 3, 3), ``channels`` the names in order. A sensor of which not all three axes are among the
    channels is left as it is.
    """
    placement, rest = _placement(tuple(channels))
    mixing = tf.einsum("nij,ijcd->ncd", rotations, placement) + rest
    return tf.einsum("nsd,ncd->nsc", windows, mixing)


def _placement(channels: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Where a rotation's elements go in the matrix that mixes all channels, and that matrix elsewhere.

    (3, 3, n_channels, n_channels) and (n_channels, n_channels).
    """
    placement = np.zeros((3, 3, len(channels), len(channels)), np.float32)
    rest = np.eye(len(channels), dtype=np.float32)
    for triad in (TOTAL_ACC, BODY_ACC, GYRO):
        if not set(triad) <= set(channels):
            continue
        index = [channels.index(name) for name in triad]
        for i, row in enumerate(index):
            rest[row, row] = 0.0
            for j, column in enumerate(index):
                placement[i, j, row, column] = 1.0
    return placement, rest
