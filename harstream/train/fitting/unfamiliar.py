"""Windows made unfamiliar: signals of no activity, from which the network learns that all labels are equally likely.

This is outlier exposure (Hendrycks et al. 2019). Which signals are unfamiliar depends on the training data. Where
devices must lie as in them, a device the wrong way up is unfamiliar, and so is one on a table. Where devices may lie in
any way, the first is as familiar as any, and the second lies still, which may be a label; strong shaking and noise are
unfamiliar.

Windows and seeds are as in ``augment``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from harstream.core.batches import Float64
from harstream.core.spec import BODY_ACC, GYRO, TOTAL_ACC
from harstream.train.fitting.augment import chosen_share, rotate, select, split_seed

#: Maps windows and a seed to a replacement of each window, and (n,) bool: which windows it may replace.
Kind = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]

#: A subject moves if acceleration deviates by more from its mean or gravity (g rms), or without accelerometer, if the
#: gyroscope does (rad/s rms).
MOVING_G, MOVING_RAD_S = 0.1, 0.3
#: Angle in degrees between total acceleration and the vertical up to which a subject is upright, and beyond which the
#: window of a subject who moves, or is still, is unfamiliar. One who is still between the last two may lie.
UPRIGHT_DEG, TURNED_DEG, UPSIDE_DOWN_DEG = 60.0, 60.0, 120.0
#: Sensor noise of a device on a table, sd in g and rad/s.
TABLE_NOISE = 5e-4, 5e-3
#: Shaking: frequency of the tone in Hz, its strength in g rms, and the sd of noise beside it in g.
SHAKING_HZ, SHAKING_G, SHAKING_NOISE_G = (3.0, 8.0), (0.7, 2.5), 0.05
#: White noise: sd of each axis in g.
NOISE_G = 0.2, 1.0


def make_unfamiliar(
    windows: tf.Tensor, truth: tf.Tensor, share: float, kinds: Sequence[Kind], seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Replace a ``share`` of the windows by signals of no activity, with all labels equally likely.

    Each kind is equally likely. A chosen window that its kind may not replace stays as it is.

    Args:
        windows: The windows.
        truth: (n, n_labels) probabilities of their labels.
        share: The share of the windows to choose.
        kinds: What replaces them, see ``kinds_for``.
        seed: The seed.

    Returns:
        The windows and the probabilities of their labels.

    """
    choice_seed, kind_seed, *seeds = split_seed(seed, 2 + len(kinds))
    n = tf.shape(windows)[0]
    chosen = chosen_share(n, share, choice_seed) > 0
    kind = tf.random.stateless_uniform((n,), kind_seed, 0, len(kinds), tf.int32)
    result, replaced = windows, tf.zeros((n,), tf.bool)
    for number, (make, own_seed) in enumerate(zip(kinds, seeds, strict=True)):
        replacement, possible = make(windows, own_seed)
        now = chosen & (kind == number) & possible
        result = tf.where(now[:, None, None], replacement, result)
        replaced |= now
    uniform = tf.ones_like(truth) / tf.cast(tf.shape(truth)[1], tf.float32)
    return result, tf.where(replaced[:, None], uniform, truth)


def kinds_for(
    channels: Sequence[str], sample_rate_hz: float, vertical: Float64 | None, *, any_orientation: bool
) -> list[Kind]:
    """Return the kinds of unfamiliar signals for windows with ``channels``.

    In any case, the samples of a moving subject in random order. If devices must lie as in the training data: an
    upright window turned by a random rotation, and a device on a table. If they may lie in any way: shaking, and white
    noise. A kind that needs channels which are not there is left out.

    Args:
        channels: Channels of the windows.
        sample_rate_hz: Rate of the windows.
        vertical: The result of ``augment.vertical_of``.
        any_orientation: Whether devices may lie in any way.

    """
    kinds = [_shuffled(channels)]
    if any_orientation:
        if {*TOTAL_ACC, *BODY_ACC} <= set(channels):
            kinds += [_shaken(channels, sample_rate_hz), _noisy(channels)]
        return kinds
    if vertical is not None:
        kinds.append(_turned(channels, vertical))
    if set(TOTAL_ACC) <= set(channels):
        kinds.append(_table(channels))
    return kinds


def _shuffled(channels: Sequence[str]) -> Kind:
    """Put the samples of a moving subject in random order; gravity, where it is known, keeps its own."""

    def make(windows: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        order = tf.argsort(tf.random.stateless_uniform(tf.shape(windows)[:2], seed), axis=1)
        shuffled = tf.gather(windows, order, batch_dims=1)
        if {*TOTAL_ACC, *BODY_ACC} <= set(channels):
            shuffled = _on_gravity_of(windows, select(shuffled, BODY_ACC, channels), shuffled, channels)
        return shuffled, _moves(windows, channels)

    return make


def _turned(channels: Sequence[str], vertical: Float64) -> Kind:
    """Turn an upright window so far that a subject who moves is not upright, and a still one upside down.

    The rotation is distributed evenly over all that turn the window so far.
    """
    up = tf.constant(vertical[None], tf.float32)

    def make(windows: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        angle_seed, place_seed, from_seed, to_seed = split_seed(seed, 4)
        n = tf.shape(windows)[0]
        rest = tf.math.l2_normalize(tf.reduce_mean(select(windows, TOTAL_ACC, channels), axis=1), axis=1)
        limit = tf.where(_moves(windows, channels), *(_cosine(deg) for deg in (TURNED_DEG, UPSIDE_DOWN_DEG)))
        cosine = tf.random.stateless_uniform((n,), angle_seed, -1.0, 1.0)
        cosine = ((cosine + 1.0) / 2.0 * (limit + 1.0) - 1.0)[:, None]  # even on the sphere, from -1 to the limit
        after = cosine * up + tf.sqrt(1.0 - cosine**2) * _across(tf.repeat(up, n, axis=0), place_seed)
        turn = tf.matmul(_frame(after, to_seed), _frame(rest, from_seed), transpose_b=True)
        upright = tf.reduce_sum(rest * up, axis=1) > _cosine(UPRIGHT_DEG)
        return rotate(windows, turn, channels), upright

    return make


def _table(channels: Sequence[str]) -> Kind:
    """Make a device on a table: total acceleration of 1 g in a random direction, and noise."""
    place = tf.constant([[float(name == axis) for name in channels] for axis in TOTAL_ACC])

    def make(windows: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rest_seed, noise_seed, level_seed = split_seed(seed, 3)
        n = tf.shape(windows)[0]
        level = _log_uniform((n, 1, 1), *TABLE_NOISE, level_seed)
        noise = level * tf.random.stateless_normal(tf.shape(windows), noise_seed)
        return noise + tf.matmul(_directions(n, rest_seed), place)[:, None, :], tf.ones((n,), tf.bool)

    return make


def _shaken(channels: Sequence[str], sample_rate_hz: float) -> Kind:
    """Shake the device along a line: a strong tone and some noise on the gravity of the window."""
    low_hz, high_hz = SHAKING_HZ
    high_hz = max(low_hz, min(high_hz, 0.45 * sample_rate_hz))

    def make(windows: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        hz_seed, phase_seed, strength_seed, line_seed, noise_seed = split_seed(seed, 5)
        n, samples = tf.shape(windows)[0], windows.shape[1]
        time_s = tf.range(samples, dtype=tf.float32)[None] / sample_rate_hz
        hz = tf.random.stateless_uniform((n, 1), hz_seed, low_hz, high_hz)
        phase = tf.random.stateless_uniform((n, 1), phase_seed, 0.0, 2.0 * math.pi)
        strength = tf.random.stateless_uniform((n, 1), strength_seed, *SHAKING_G) * math.sqrt(2.0)
        tone = strength * tf.sin(2.0 * math.pi * hz * time_s + phase)
        body = tone[:, :, None] * _directions(n, line_seed)[:, None]
        body += SHAKING_NOISE_G * tf.random.stateless_normal((n, samples, 3), noise_seed)
        return _on_gravity_of(windows, body, windows, channels), tf.ones((n,), tf.bool)

    return make


def _noisy(channels: Sequence[str]) -> Kind:
    """Make white noise on the gravity of the window."""

    def make(windows: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        level_seed, noise_seed = split_seed(seed, 2)
        n, samples = tf.shape(windows)[0], windows.shape[1]
        level = tf.random.stateless_uniform((n, 1, 1), level_seed, *NOISE_G)
        body = level * tf.random.stateless_normal((n, samples, 3), noise_seed)
        return _on_gravity_of(windows, body, windows, channels), tf.ones((n,), tf.bool)

    return make


def _on_gravity_of(source: tf.Tensor, body: tf.Tensor, others: tf.Tensor, channels: Sequence[str]) -> tf.Tensor:
    """Return windows of body acceleration ``body`` (n, window_samples, 3) on the gravity of the windows ``source``.

    The other channels are those of the windows ``others``.
    """
    total = select(source, TOTAL_ACC, channels) - select(source, BODY_ACC, channels) + body
    made = {
        **dict(zip(TOTAL_ACC, tf.unstack(total, axis=2), strict=True)),
        **dict(zip(BODY_ACC, tf.unstack(body, axis=2), strict=True)),
    }
    return tf.stack([made[name] if name in made else others[:, :, i] for i, name in enumerate(channels)], axis=2)


def _moves(windows: tf.Tensor, channels: Sequence[str]) -> tf.Tensor:
    """Return which windows (n,) are of a subject who moves."""
    for names, least in ((BODY_ACC, MOVING_G), (TOTAL_ACC, MOVING_G), (GYRO, MOVING_RAD_S)):
        index = [channels.index(name) for name in names if name in channels]
        if index:
            values = tf.gather(windows, index, axis=2)
            return tf.sqrt(tf.reduce_sum(tf.math.reduce_variance(values, axis=1), axis=1)) > least
    return tf.zeros((tf.shape(windows)[0],), tf.bool)


def _frame(axis: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return (n, 3, 3) rotations that map the first axis to the unit vectors ``axis`` (n, 3), and spin at random."""
    second = _across(axis, seed)
    return tf.stack([axis, second, tf.linalg.cross(axis, second)], axis=2)


def _across(axis: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return random unit vectors (n, 3) across the unit vectors ``axis`` (n, 3)."""
    some = tf.random.stateless_normal(tf.shape(axis), seed)
    return tf.math.l2_normalize(some - tf.reduce_sum(some * axis, axis=1, keepdims=True) * axis, axis=1)


def _directions(n: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return random unit vectors (n, 3)."""
    return tf.math.l2_normalize(tf.random.stateless_normal((n, 3), seed), axis=1)


def _log_uniform(shape: tuple[int | tf.Tensor, ...], low: float, high: float, seed: tf.Tensor) -> tf.Tensor:
    return tf.exp(tf.random.stateless_uniform(shape, seed, math.log(low), math.log(high)))


def _cosine(degrees: float) -> float:
    return math.cos(math.radians(degrees))
