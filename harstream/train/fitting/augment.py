"""Augmentations: random changes of a window that leave its activity the same.

A device is never worn twice at the same angle. One small random rotation of all triads of a window (total
acceleration, body acceleration, angular velocity) is the same movement with the device worn slightly differently: the
gravity filter is linear, so the rotated window equals the window of a rotated device, except for the noise filter.

Every function is pure. Its random numbers follow from ``seed``, (2,) int32, alone, and at strength 0 it returns the
windows unchanged. Windows are (n, window_samples, n_channels) float32 in physical units (g, rad/s) unless stated
otherwise. Rotation, scaling, jitter and time warping of signals of wearables are described by Um et al. 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from scipy.interpolate import CubicSpline

from harstream.core.batches import Float32, Float64
from harstream.core.spec import BODY_ACC, GYRO, ORIENTATION_FREE, TOTAL_ACC

#: Points in a window at which a time warp draws a pace.
WARP_KNOTS = 4
#: Frequencies at which a coupling draws a gain.
COUPLING_KNOTS = 6


def tilts(n: int | tf.Tensor, degrees: float, seed: tf.Tensor) -> tf.Tensor:
    """Return (n, 3, 3) float32 rotations about random axes, by normally distributed angles.

    ``degrees`` is the standard deviation of the angles.
    """
    axis_seed, angle_seed = split_seed(seed, 2)
    axis = tf.math.l2_normalize(tf.random.stateless_normal((n, 3), axis_seed), axis=-1)
    return rotations(axis, tf.random.stateless_normal((n,), angle_seed) * math.radians(degrees))


def turns(n: int | tf.Tensor, axis: Float64, share: float, seed: tf.Tensor) -> tf.Tensor:
    """Return (n, 3, 3) float32 matrices: a ``share`` of rotations about ``axis`` (3,) by any angle, else identity.

    About the vertical of the subject, such a rotation is a device at another place around the belt, or a subject who
    lies on the other side.
    """
    choice_seed, angle_seed = split_seed(seed, 2)
    unit = tf.constant(axis / np.linalg.norm(axis), tf.float32)
    angle = tf.random.stateless_uniform((n,), angle_seed, -math.pi, math.pi)
    return rotations(tf.broadcast_to(unit, (n, 3)), chosen_share(n, share, choice_seed) * angle)


def rotations(axis: tf.Tensor, angle: tf.Tensor) -> tf.Tensor:
    """Return (n, 3, 3) rotations about unit axes (n, 3) by angles (n,) in radians (Rodrigues' formula)."""
    x, y, z = tf.unstack(axis, axis=-1)
    zero = tf.zeros_like(x)
    cross = tf.reshape(tf.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1), (-1, 3, 3))
    sine, cosine = tf.sin(angle)[:, None, None], tf.cos(angle)[:, None, None]
    return tf.eye(3) + sine * cross + (1.0 - cosine) * tf.matmul(cross, cross)


def vertical_of(windows: Float32, channels: Sequence[str]) -> Float64 | None:
    """Return the mean direction of total acceleration, (3,): upwards, for a device worn upright most of the time.

    Return None if the channels lack total acceleration, or its mean is below 0.1 g.
    """
    if not set(TOTAL_ACC) <= set(channels):
        return None
    mean = windows[:, :, [channels.index(name) for name in TOTAL_ACC]].mean(axis=(0, 1), dtype=np.float64)
    norm = float(np.linalg.norm(mean))
    return np.asarray(mean / norm, np.float64) if norm > 0.1 else None


def rotate(windows: tf.Tensor, rotations: tf.Tensor, channels: Sequence[str]) -> tf.Tensor:
    """Rotate all triads of each window by one matrix, which keeps their norms.

    ``rotations`` is (n, 3, 3), ``channels`` the names of the channels in order. A triad is left unchanged if one of its
    axes is not among the channels.
    """
    placement, rest = _placement(tuple(channels))
    mixing = tf.einsum("nij,ijcd->ncd", rotations, placement) + rest
    return tf.einsum("nsd,ncd->nsc", windows, mixing)


def half_turns(n: int | tf.Tensor, axis: str, share: float, seed: tf.Tensor) -> tf.Tensor:
    """Return (n, 3, 3) float32 matrices: a ``share`` of half turns about ``axis`` (x, y or z), else identity.

    About the axis normal to its face, a half turn is a device strapped on the other way round.
    """
    unit = tf.one_hot(["xyz".index(axis)], 3)
    return rotations(tf.repeat(unit, n, axis=0), math.pi * chosen_share(n, share, seed))


def mirror(windows: tf.Tensor, share: float, axis: str, channels: Sequence[str], seed: tf.Tensor) -> tf.Tensor:
    """Reflect a ``share`` of the windows in the plane normal to the device's ``axis`` (x, y or z).

    The result is the same movement of the other hand. Acceleration is reflected: its component along the axis changes
    sign. Angular velocity is an axial vector: its other two components change sign.
    """
    signs = [-1.0 if (name.endswith(f"_{axis}")) != (name in GYRO) else 1.0 for name in channels]
    chosen = chosen_share(tf.shape(windows)[0], share, seed)[:, None, None]
    return windows * (1.0 + chosen * (tf.constant(signs) - 1.0))


def scale(windows: tf.Tensor, spread: float, channels: Sequence[str], seed: tf.Tensor) -> tf.Tensor:
    """Multiply each window by a random gain of each sensor: the same movement, more or less vigorous.

    The logarithm of a gain is normally distributed with standard deviation ``spread``. Total and body acceleration come
    from one sensor and share its gain, so that gravity stays their difference.
    """
    gains = tf.exp(spread * tf.random.stateless_normal((tf.shape(windows)[0], 1, 2), seed))
    return windows * tf.gather(gains, [int(name in GYRO) for name in channels], axis=2)


def vigour(windows: tf.Tensor, spread: float, channels: Sequence[str], seed: tf.Tensor) -> tf.Tensor:
    """Multiply the body acceleration of each window by a random gain: the same movement, more or less vigorous.

    The logarithm of the gain is normally distributed with standard deviation ``spread``. Gravity stays as it is.
    """
    gain = tf.exp(spread * tf.random.stateless_normal((tf.shape(windows)[0], 1, 1), seed))
    return _change_body(windows, lambda body: body * gain, channels)


def coupling(windows: tf.Tensor, spread_db: float, channels: Sequence[str], seed: tf.Tensor) -> tf.Tensor:
    """Filter the body acceleration of each window by a random curve of gain over frequency.

    A phone in a wide pocket, a tight one or a bag follows the body more or less at each frequency. The gain in dB is
    normally distributed with standard deviation ``spread_db`` at COUPLING_KNOTS frequencies, equally spaced on a
    logarithmic scale, and interpolated between them. It is the same for the three axes, and has no delay.
    """
    samples = windows.shape[1]
    n_bins = samples // 2 + 1
    at = np.log2(np.maximum(np.arange(n_bins), 1.0)) / np.log2(max(2, n_bins - 1)) * (COUPLING_KNOTS - 1)
    knots = np.maximum(0.0, 1.0 - np.abs(at[None] - np.arange(COUPLING_KNOTS)[:, None]))  # hat functions
    gain_db = spread_db * tf.random.stateless_normal((tf.shape(windows)[0], COUPLING_KNOTS), seed)
    gain = tf.pow(10.0, tf.matmul(gain_db, tf.constant(knots, tf.float32)) / 20.0)

    def filtered(body: tf.Tensor) -> tf.Tensor:
        spectrum = tf.signal.rfft(tf.transpose(body, (0, 2, 1)))
        spectrum *= tf.cast(gain[:, None], tf.complex64)
        return tf.transpose(tf.signal.irfft(spectrum, [samples]), (0, 2, 1))

    return _change_body(windows, filtered, channels)


def gyro_drift(windows: tf.Tensor, spread: float, channels: Sequence[str], seed: tf.Tensor) -> tf.Tensor:
    """Add an offset and a linear drift over the window, in rad/s, to each axis of the gyroscope.

    Both are normally distributed. The standard deviation is drawn for each window, between 0 and ``spread`` and mostly
    near 0 (the cube of a uniform number): most gyroscopes at rest read nearly 0, some have an offset and drift with
    temperature. The network must not tell standing from sitting by it.
    """
    offset_seed, slope_seed, size_seed = split_seed(seed, 3)
    n, samples = tf.shape(windows)[0], windows.shape[1]
    offset = tf.random.stateless_normal((n, 1, len(channels)), offset_seed)
    slope = tf.random.stateless_normal((n, 1, len(channels)), slope_seed)
    size = spread * tf.random.stateless_uniform((n, 1, 1), size_seed) ** 3
    time = tf.linspace(-0.5, 0.5, samples)[None, :, None]
    is_gyro = tf.constant([float(name in GYRO) for name in channels])
    return windows + size * is_gyro * (offset + slope * time)


def jitter(windows: tf.Tensor, spread: float, unit: Sequence[float], seed: tf.Tensor) -> tf.Tensor:
    """Add normal noise to every value, of standard deviation ``spread`` times the ``unit`` of its channel."""
    noise = tf.random.stateless_normal(tf.shape(windows), seed)
    return windows + noise * tf.constant([spread * value for value in unit], tf.float32)


def smooth(windows: tf.Tensor, share: float, seed: tf.Tensor) -> tf.Tensor:
    """Low-pass filter a ``share`` of the windows, each with a Gaussian of 0.3 to 1.2 samples.

    Devices filter their signals differently. The network must not rely on the roughness of a still signal.
    """
    choice_seed, width_seed = split_seed(seed, 2)
    n, reach = tf.shape(windows)[0], 3
    width = tf.random.stateless_uniform((n, 1), width_seed, 0.3, 1.2)
    taps = tf.exp(-0.5 * tf.square(tf.range(-reach, reach + 1, dtype=tf.float32) / width))
    taps /= tf.reduce_sum(taps, axis=1, keepdims=True)
    chosen = chosen_share(n, share, choice_seed)[:, None]
    taps = chosen * taps + (1.0 - chosen) * tf.one_hot([reach], 2 * reach + 1)
    padded = tf.pad(windows, [[0, 0], [reach, reach], [0, 0]], "SYMMETRIC")
    samples = windows.shape[1]
    return tf.add_n([padded[:, k : k + samples] * taps[:, k, None, None] for k in range(2 * reach + 1)])


def stretch(windows: tf.Tensor, spread: float, seed: tf.Tensor) -> tf.Tensor:
    """Change the pace of each window: stretch its time about the middle, with linear interpolation.

    The logarithm of the factor is normally distributed with standard deviation ``spread``. A window that becomes too
    short is extended by its mirror image at both ends.
    """
    last = windows.shape[1] - 1
    middle = last / 2
    pace = tf.exp(spread * tf.random.stateless_normal((tf.shape(windows)[0], 1), seed))
    at = (tf.range(last + 1, dtype=tf.float32)[None] - middle) * pace + middle
    return _read_at(windows, last - tf.abs(last - tf.abs(at)))  # mirrored at both ends


def warp(windows: tf.Tensor, spread: float, seed: tf.Tensor) -> tf.Tensor:
    """Change the pace smoothly within each window; its ends stay (time warping, Um et al. 2017).

    The logarithm of the pace is a cubic spline through WARP_KNOTS normally distributed values of standard deviation
    ``spread``, so that time never runs backwards.
    """
    last = windows.shape[1] - 1
    spline = CubicSpline(np.linspace(0, 1, WARP_KNOTS), np.eye(WARP_KNOTS))(np.linspace(0, 1, last))
    knots = tf.random.stateless_normal((tf.shape(windows)[0], WARP_KNOTS), seed)
    pace = tf.exp(spread * tf.matmul(knots, tf.constant(spline.T, tf.float32)))
    at = tf.pad(tf.cumsum(pace, axis=1), [[0, 0], [1, 0]])
    return _read_at(windows, at * (last / at[:, -1:]))


def channel_dropout(inputs: tf.Tensor, share: float, channels: Sequence[str], seed: tf.Tensor) -> tf.Tensor:
    """Set each triad of each window to 0 with probability ``share``, but never all of a window.

    ``inputs`` are the inputs of the network, where 0 is the mean if they are standardised. A whole triad is dropped,
    as in modality dropout (Neverova et al. 2016), because its axes are correlated. An orientation-free channel is
    dropped by itself.
    """
    groups: list[tuple[str, ...]] = [TOTAL_ACC, BODY_ACC, GYRO, *((name,) for name in ORIENTATION_FREE)]
    groups = [group for group in groups if set(group) & set(channels)]
    kept = tf.cast(tf.random.stateless_uniform((tf.shape(inputs)[0], len(groups)), seed) >= share, tf.float32)
    kept = tf.maximum(kept, 1.0 - tf.reduce_max(kept, axis=1, keepdims=True))
    of_channel = [next(i for i, group in enumerate(groups) if name in group) for name in channels]
    return inputs * tf.gather(kept, of_channel, axis=1)[:, None, :]


def mixup(inputs: tf.Tensor, truth: tf.Tensor, alpha: float, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Blend each window with the one before it in the batch, and their labels likewise (Zhang et al. 2018).

    ``inputs`` are the inputs of the network in random order, ``truth`` (n, n_labels) the probabilities of their labels.
    The share of the blend is Beta(alpha, alpha) distributed: mostly near 0 or 1 for a small alpha.
    """
    ours, theirs = (tf.random.stateless_gamma((tf.shape(inputs)[0],), part, alpha) for part in split_seed(seed, 2))
    share = tf.math.divide_no_nan(ours, ours + theirs)[:, None]
    blended = share * truth + (1.0 - share) * tf.roll(truth, 1, axis=0)
    share = share[:, :, None]
    return share * inputs + (1.0 - share) * tf.roll(inputs, 1, axis=0), blended


def orientation_free(
    windows: tf.Tensor, channels: Sequence[str], wanted: Sequence[str], sample_rate_hz: float
) -> tf.Tensor:
    """Return the channels ``wanted`` of windows that hold both accelerations, after an augmentation of these.

    The definitions are those of ``core.orientation_free``. The turn before the first sample is not known and taken
    for that of the second.
    """
    total, body = (select(windows, names, channels) for names in (TOTAL_ACC, BODY_ACC))
    up = tf.math.l2_normalize(total - body, axis=2)
    vertical = tf.reduce_sum(body * up, axis=2)
    turn = tf.norm(up[:, 1:] - up[:, :-1], axis=2) * sample_rate_hz
    made = {
        "vertical_acc": vertical,
        "horizontal_acc": tf.norm(body - vertical[..., None] * up, axis=2),
        "total_acc_norm": tf.norm(total, axis=2),
        "gravity_turn": tf.concat([turn[:, :1], turn], axis=1),
    }
    return tf.stack([made[name] if name in made else windows[:, :, channels.index(name)] for name in wanted], axis=2)


def select(windows: tf.Tensor, names: Sequence[str], channels: Sequence[str]) -> tf.Tensor:
    """Return the channels ``names`` of windows that have ``channels``."""
    return tf.gather(windows, [channels.index(name) for name in names], axis=2)


def _change_body(windows: tf.Tensor, change: Callable[[tf.Tensor], tf.Tensor], channels: Sequence[str]) -> tf.Tensor:
    """Replace body acceleration (n, window_samples, 3) by what ``change`` makes of it; gravity stays as it is."""
    body = select(windows, BODY_ACC, channels)
    difference = change(body) - body
    place = np.zeros((3, len(channels)), np.float32)
    for triad in (TOTAL_ACC, BODY_ACC):
        for axis, name in enumerate(triad):
            if name in channels:
                place[axis, channels.index(name)] = 1.0
    return windows + tf.einsum("nsa,ac->nsc", difference, tf.constant(place))


def _placement(channels: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return how a rotation R mixes the channels: the mixing matrix is ``sum_ij R[i, j] placement[i, j] + rest``.

    ``placement`` is (3, 3, n_channels, n_channels), ``rest`` (n_channels, n_channels).
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


def split_seed(seed: tf.Tensor, n: int) -> list[tf.Tensor]:
    """Return ``n`` independent seeds that follow from ``seed``."""
    return list(tf.unstack(tf.random.experimental.stateless_split(seed, n)))


def chosen_share(n: int | tf.Tensor, share: float, seed: tf.Tensor) -> tf.Tensor:
    """Return (n,) float32: 1 with probability ``share``, else 0."""
    return tf.cast(tf.random.stateless_uniform((n,), seed) < share, tf.float32)


def _read_at(windows: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    """Interpolate windows linearly at ``at`` (n, window_samples): positions in samples, clipped to the window."""
    last = windows.shape[1] - 1
    at = tf.clip_by_value(at, 0.0, float(last))
    before = tf.minimum(tf.cast(at, tf.int32), last - 1)
    part = (at - tf.cast(before, tf.float32))[:, :, None]
    return tf.gather(windows, before, batch_dims=1) * (1.0 - part) + tf.gather(windows, before + 1, batch_dims=1) * part
