"""Augmentation: what the network should not learn to rely on.

A phone never sits twice at the same angle. Turning all triads of a window (total and body
acceleration, angular velocity) by one small random rotation is the same movement with the device worn
slightly differently. The gravity filter is linear, so a turned window is, but for the noise filter,
the window of a turned device. And nobody walks at another's pace.

Every function is pure: its random numbers follow from ``seed``, two integers, alone, and at strength 0
the windows come back unchanged. Windows are (n, window_samples, n_channels) float32, in physical units
(g, rad/s) where not said otherwise. Rotation, scaling, jitter and time warping of wearables' signals:
Um et al. 2017.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from scipy.interpolate import CubicSpline

from harstream.core.batches import Float32, Float64
from harstream.core.spec import BODY_ACC, GYRO, TOTAL_ACC

#: Points in a window that a time warp draws a pace at.
WARP_KNOTS = 4


def tilts(n: int | tf.Tensor, degrees: float, seed: tf.Tensor) -> tf.Tensor:
    """(n, 3, 3) float32 rotations about uniformly random axes, by normally distributed angles.

    ``degrees`` is the angles' standard deviation.
    """
    of_axis, of_angle = _split(seed, 2)
    axis = tf.math.l2_normalize(tf.random.stateless_normal((n, 3), of_axis), axis=-1)
    return rotations(axis, tf.random.stateless_normal((n,), of_angle) * math.radians(degrees))


def turns(n: int | tf.Tensor, axis: Float64, share: float, seed: tf.Tensor) -> tf.Tensor:
    """(n, 3, 3) float32: a ``share`` of them rotations about ``axis`` (3,) by any angle, the others identity.

    With the subject's vertical as the axis: the device at another place around the belt, or the subject
    lying on the other side.
    """
    of_choice, of_angle = _split(seed, 2)
    unit = tf.constant(axis / np.linalg.norm(axis), tf.float32)
    angle = tf.random.stateless_uniform((n,), of_angle, -math.pi, math.pi)
    return rotations(tf.broadcast_to(unit, (n, 3)), _chosen(n, share, of_choice) * angle)


def rotations(axis: tf.Tensor, angle: tf.Tensor) -> tf.Tensor:
    """(n, 3, 3) rotations about unit axes (n, 3) by angles (n,) in radians: Rodrigues' formula."""
    x, y, z = tf.unstack(axis, axis=-1)
    zero = tf.zeros_like(x)
    cross = tf.reshape(tf.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1), (-1, 3, 3))
    sine, cosine = tf.sin(angle)[:, None, None], tf.cos(angle)[:, None, None]
    return tf.eye(3) + sine * cross + (1.0 - cosine) * tf.matmul(cross, cross)


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


def half_turns(n: int | tf.Tensor, axis: str, share: float, seed: tf.Tensor) -> tf.Tensor:
    """(n, 3, 3) float32: a ``share`` of them half turns about the device's ``axis`` (x, y or z), the others identity.

    About the axis that leaves its face: the device strapped on the other way round.
    """
    unit = tf.one_hot(["xyz".index(axis)] * 1, 3)
    return rotations(tf.repeat(unit, n, axis=0), math.pi * _chosen(n, share, seed))


def mirror(windows: tf.Tensor, share: float, axis: str, channels: Sequence[str], seed: tf.Tensor) -> tf.Tensor:
    """A ``share`` of the windows reflected in the plane across the device's ``axis`` (x, y or z).

    The same movement made by the other hand, with the device on it. Acceleration is reflected:
    its component along the axis changes sign. Angular velocity is an axial vector: the other two do.
    """
    signs = [-1.0 if (name.endswith(f"_{axis}")) != (name in GYRO) else 1.0 for name in channels]
    chosen = _chosen(tf.shape(windows)[0], share, seed)[:, None, None]
    return windows * (1.0 + chosen * (tf.constant(signs) - 1.0))


def scale(windows: tf.Tensor, spread: float, channels: Sequence[str], seed: tf.Tensor) -> tf.Tensor:
    """Each window with another gain of either sensor: the same movement more or less vigorous.

    The logarithm of the gains is normally distributed with the standard deviation ``spread``. Total and
    body acceleration come from one sensor and share its gain, so that gravity stays their difference.
    """
    gains = tf.exp(spread * tf.random.stateless_normal((tf.shape(windows)[0], 1, 2), seed))
    return windows * tf.gather(gains, [int(name in GYRO) for name in channels], axis=2)


def gyro_drift(windows: tf.Tensor, spread: float, channels: Sequence[str], seed: tf.Tensor) -> tf.Tensor:
    """Each axis of the gyroscope with an offset and a linear drift over the window, in rad/s.

    Both are normally distributed with a deviation of the window's own, between 0 and ``spread`` and mostly near 0 (the
    cube of a uniform number): most gyroscopes at rest read nearly 0, some are off, and drift with temperature or by
    their publisher's filter, which must not tell one subject's standing from another's sitting.
    """
    of_offset, of_slope, of_size = _split(seed, 3)
    n, samples = tf.shape(windows)[0], windows.shape[1]
    offset = tf.random.stateless_normal((n, 1, len(channels)), of_offset)
    slope = tf.random.stateless_normal((n, 1, len(channels)), of_slope)
    size = spread * tf.random.stateless_uniform((n, 1, 1), of_size) ** 3
    time = tf.linspace(-0.5, 0.5, samples)[None, :, None]
    here = tf.constant([float(name in GYRO) for name in channels])
    return windows + size * here * (offset + slope * time)


def jitter(windows: tf.Tensor, spread: float, unit: Sequence[float], seed: tf.Tensor) -> tf.Tensor:
    """Normal noise added to every value, of standard deviation ``spread`` in the ``unit`` of its channel."""
    noise = tf.random.stateless_normal(tf.shape(windows), seed)
    return windows + noise * tf.constant([spread * value for value in unit], tf.float32)


def smooth(windows: tf.Tensor, share: float, seed: tf.Tensor) -> tf.Tensor:
    """A ``share`` of the windows low-pass filtered, each by a Gaussian of 0.3 to 1.2 samples.

    Other sensors and other publishers filter otherwise: how rough a still signal is must not decide.
    """
    of_choice, of_width = _split(seed, 2)
    n, reach = tf.shape(windows)[0], 3
    width = tf.random.stateless_uniform((n, 1), of_width, 0.3, 1.2)
    taps = tf.exp(-0.5 * tf.square(tf.range(-reach, reach + 1, dtype=tf.float32) / width))
    taps /= tf.reduce_sum(taps, axis=1, keepdims=True)
    chosen = _chosen(n, share, of_choice)[:, None]
    taps = chosen * taps + (1.0 - chosen) * tf.one_hot([reach], 2 * reach + 1)
    padded = tf.pad(windows, [[0, 0], [reach, reach], [0, 0]], "SYMMETRIC")
    samples = windows.shape[1]
    return tf.add_n([padded[:, k : k + samples] * taps[:, k, None, None] for k in range(2 * reach + 1)])


def stretch(windows: tf.Tensor, spread: float, seed: tf.Tensor) -> tf.Tensor:
    """Each window at another pace: its time stretched about the middle, linearly interpolated.

    The logarithm of the factors is normally distributed with the standard deviation ``spread``; where a
    window comes out short, its ends are mirrored.
    """
    last = windows.shape[1] - 1
    middle = last / 2
    pace = tf.exp(spread * tf.random.stateless_normal((tf.shape(windows)[0], 1), seed))
    at = (tf.range(last + 1, dtype=tf.float32)[None] - middle) * pace + middle
    return _read_at(windows, last - tf.abs(last - tf.abs(at)))  # mirrored at both ends


def warp(windows: tf.Tensor, spread: float, seed: tf.Tensor) -> tf.Tensor:
    """Each window at a pace that changes smoothly within it; its two ends stay (time warping, Um et al. 2017).

    The logarithm of the pace is a cubic spline through WARP_KNOTS normally distributed values of standard
    deviation ``spread``, so time never runs backwards.
    """
    last = windows.shape[1] - 1
    spline = CubicSpline(np.linspace(0, 1, WARP_KNOTS), np.eye(WARP_KNOTS))(np.linspace(0, 1, last))
    knots = tf.random.stateless_normal((tf.shape(windows)[0], WARP_KNOTS), seed)
    pace = tf.exp(spread * tf.matmul(knots, tf.constant(spline.T, tf.float32)))
    at = tf.pad(tf.cumsum(pace, axis=1), [[0, 0], [1, 0]])
    return _read_at(windows, at * (last / at[:, -1:]))


def channel_dropout(inputs: tf.Tensor, share: float, channels: Sequence[str], seed: tf.Tensor) -> tf.Tensor:
    """Each triad of each window set to 0 with probability ``share``, but never all of a window's.

    ``inputs`` are windows as the network sees them, where 0 is the mean if they are standardised. Whole
    sensors, as modality dropout does (Neverova et al. 2016): their axes would tell of each other.
    """
    triads = [triad for triad in (TOTAL_ACC, BODY_ACC, GYRO) if set(triad) & set(channels)]
    kept = tf.cast(tf.random.stateless_uniform((tf.shape(inputs)[0], len(triads)), seed) >= share, tf.float32)
    kept = tf.maximum(kept, 1.0 - tf.reduce_max(kept, axis=1, keepdims=True))
    of_channel = [next(i for i, triad in enumerate(triads) if name in triad) for name in channels]
    return inputs * tf.gather(kept, of_channel, axis=1)[:, None, :]


def mixup(inputs: tf.Tensor, truth: tf.Tensor, alpha: float, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Each window blended with the one before it in the batch, and so their labels (Zhang et al. 2018).

    ``inputs`` are windows as the network sees them, in random order, ``truth`` (n, n_labels) their labels'
    probabilities. The blend's share is Beta(alpha, alpha) distributed: mostly near 0 or 1 for a small alpha.
    """
    ours, theirs = (tf.random.stateless_gamma((tf.shape(inputs)[0],), part, alpha) for part in _split(seed, 2))
    share = tf.math.divide_no_nan(ours, ours + theirs)[:, None]
    blended = share * truth + (1.0 - share) * tf.roll(truth, 1, axis=0)
    share = share[:, :, None]
    return share * inputs + (1.0 - share) * tf.roll(inputs, 1, axis=0), blended


def strangers(
    windows: tf.Tensor,
    truth: tf.Tensor,
    share: float,
    channels: Sequence[str],
    vertical: Float64 | None,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """A ``share`` of the windows made into what no subject does, all labels then being equally likely.

    So that the network doubts what it was never taught (outlier exposure, Hendrycks et al. 2019). ``truth`` is
    (n, n_labels), ``vertical`` as of ``vertical_of``. In equal parts a stranger is

    - a window with its samples in random order, if it moves: body acceleration above 0.1 g rms,
    - a window turned inside out, all values negated, if it is upright: less than 60 degrees off the vertical,
    - a device on a table: a constant total acceleration of 1 g in any direction and a sensor's white noise.

    A window that is asked for and does not qualify stays what it is. Lying still is lying still in any
    order, and inside out it is lying on the other side.
    """
    of_choice, of_kind, of_order, of_rest, of_noise, of_level = _split(seed, 6)
    n, samples = tf.shape(windows)[0], windows.shape[1]
    total = [channels.index(name) for name in TOTAL_ACC if name in channels]
    body = [channels.index(name) for name in BODY_ACC if name in channels]
    order = tf.argsort(tf.random.stateless_uniform((n, samples), of_order), axis=1)
    shuffled = tf.gather(windows, order, batch_dims=1)
    moving = tf.gather(windows, body or total, axis=2)
    moving = tf.sqrt(tf.reduce_sum(tf.math.reduce_variance(moving, axis=1), axis=1)) > 0.1
    upright = tf.zeros((n,), tf.bool)
    if vertical is not None:
        rest = tf.reduce_mean(tf.gather(windows, total, axis=2), axis=1)
        upright = tf.linalg.matvec(tf.math.l2_normalize(rest, axis=1), tf.constant(vertical, tf.float32)) > 0.5
    level = tf.exp(tf.random.stateless_uniform((n, 1, 1), of_level, math.log(5e-4), math.log(5e-3)))
    table = level * tf.random.stateless_normal(tf.shape(windows), of_noise)
    down = tf.math.l2_normalize(tf.random.stateless_normal((n, 3), of_rest), axis=1)
    place = tf.constant([[float(name == axis) for name in channels] for axis in TOTAL_ACC])
    table += tf.matmul(down, place)[:, None, :]
    kind = tf.random.stateless_uniform((n,), of_kind, 0, 3, tf.int32)
    fits = ((kind == 0) & moving) | ((kind == 1) & upright) | (kind == 2)
    chosen = (_chosen(n, share, of_choice) > 0) & fits
    strange = tf.where((kind == 0)[:, None, None], shuffled, tf.where((kind == 1)[:, None, None], -windows, table))
    uniform = tf.ones_like(truth) / tf.cast(tf.shape(truth)[1], tf.float32)
    return tf.where(chosen[:, None, None], strange, windows), tf.where(chosen[:, None], uniform, truth)


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


def _split(seed: tf.Tensor, n: int) -> list[tf.Tensor]:
    return list(tf.unstack(tf.random.experimental.stateless_split(seed, n)))


def _chosen(n: int | tf.Tensor, share: float, seed: tf.Tensor) -> tf.Tensor:
    """(n,) float32: 1 with probability ``share``, else 0."""
    return tf.cast(tf.random.stateless_uniform((n,), seed) < share, tf.float32)


def _read_at(windows: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    """Windows linearly interpolated at ``at`` (n, window_samples), positions in samples, held within the window."""
    last = windows.shape[1] - 1
    at = tf.clip_by_value(at, 0.0, float(last))
    before = tf.minimum(tf.cast(at, tf.int32), last - 1)
    part = (at - tf.cast(before, tf.float32))[:, :, None]
    return tf.gather(windows, before, batch_dims=1) * (1.0 - part) + tf.gather(windows, before + 1, batch_dims=1) * part
