"""Minibatches: the windows at given indices with their labels, augmented differently every time."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from harstream.core.spec import BODY_ACC, ORIENTATION_FREE, Normalisation, SignalSpec
from harstream.datasets.windows import LabelledWindows
from harstream.errors import ConfigError
from harstream.train.fitting import augment, unfamiliar
from harstream.train.fitting.prepare import training_channels
from harstream.train.fitting.recipe import FitConfig

#: Maps indices (n,) int32 and a seed (2,) int32 to normalised inputs (n, window_samples, n_channels) and the
#: probabilities of the outputs (n, n_outputs).
BatchFunction = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def batch_function(
    data: LabelledWindows, spec: SignalSpec, normalisation: Normalisation, unit: tuple[float, ...], config: FitConfig
) -> BatchFunction:
    """Return a TensorFlow graph that draws minibatches from ``data``.

    The graph contains no augmentation that ``config`` switches off. Each augmentation has a seed of its own, so that
    switching one on leaves the random numbers of the others unchanged.

    Args:
        data: The windows to draw from, with the channels of ``training_channels``.
        spec: The signal of the windows.
        normalisation: The normalisation that the network expects.
        unit: (n_channels,) standard deviation of each channel, the unit of jitter.
        config: The augmentations and their strengths.

    Raises:
        ConfigError: An augmentation needs channels that are not there.

    """
    # Orientation-free channels are made again from the augmented accelerations.
    cut = training_channels(spec)
    channels = tuple(name for name in cut if name not in ORIENTATION_FREE)
    windows = tf.constant(data.windows[:, :, [cut.index(name) for name in channels]])
    label = tf.constant(data.label.astype("int32"))
    mean = tf.constant(normalisation.mean, tf.float32)
    gain = tf.constant([1.0 / value for value in normalisation.std], tf.float32)
    vertical = augment.vertical_of(data.windows, cut) if config.turned_share or config.unfamiliar_share else None
    kinds = unfamiliar.kinds_for(
        channels,
        spec.sample_rate_hz,
        None if config.flipped_share else vertical,  # a device that may be the wrong way up is not unfamiliar so
        any_orientation=set(spec.channels) <= set(ORIENTATION_FREE) or config.tilt_deg > unfamiliar.TURNED_DEG,
    )
    for name in ("vigour", "coupling_db"):
        if getattr(config, name) and not set(BODY_ACC) <= set(channels):
            raise ConfigError(
                f"{name}: it changes body acceleration, but the channels are {', '.join(channels)}; set it to 0, or "
                f"add {', '.join(BODY_ACC)}"
            )

    def draw(index: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def seed_of(augmentation: int) -> tf.Tensor:
            return tf.random.experimental.stateless_fold_in(seed, augmentation)

        batch, n = tf.gather(windows, index), tf.shape(index)[0]
        truth = tf.one_hot(tf.gather(label, index), len(data.outputs))
        if config.stretch:
            batch = augment.stretch(batch, config.stretch, seed_of(0))
        if config.warp:
            batch = augment.warp(batch, config.warp, seed_of(1))
        rotations = None
        if config.tilt_deg:
            rotations = augment.tilts(n, config.tilt_deg, seed_of(2))
        if config.flipped_share:
            flips = augment.half_turns(n, config.flip_axis, config.flipped_share, seed_of(9))
            rotations = flips if rotations is None else tf.matmul(rotations, flips)
        if vertical is not None and config.turned_share:
            turns = augment.turns(n, vertical, config.turned_share, seed_of(3))
            rotations = turns if rotations is None else tf.matmul(rotations, turns)
        if rotations is not None:
            batch = augment.rotate(batch, rotations, channels)
        if config.mirrored_share:
            batch = augment.mirror(batch, config.mirrored_share, config.mirror_axis, channels, seed_of(4))
        if config.scale:
            batch = augment.scale(batch, config.scale, channels, seed_of(5))
        if config.vigour:
            batch = augment.vigour(batch, config.vigour, channels, seed_of(13))
        if config.coupling_db:
            batch = augment.coupling(batch, config.coupling_db, channels, seed_of(14))
        if config.smoothed_share:
            batch = augment.smooth(batch, config.smoothed_share, seed_of(10))
        if config.gyro_drift:
            batch = augment.gyro_drift(batch, config.gyro_drift, channels, seed_of(12))
        if config.unfamiliar_share:
            batch, truth = unfamiliar.make_unfamiliar(batch, truth, config.unfamiliar_share, kinds, seed_of(11))
        if channels != spec.channels:
            batch = augment.orientation_free(batch, channels, spec.channels, spec.sample_rate_hz)
        if config.jitter:
            batch = augment.jitter(batch, config.jitter, unit, seed_of(6))
        inputs = (batch - mean) * gain
        if config.channel_dropout:
            inputs = augment.channel_dropout(inputs, config.channel_dropout, spec.channels, seed_of(7))
        if config.mixup:
            inputs, truth = augment.mixup(inputs, truth, config.mixup, seed_of(8))
        return inputs, truth

    graph: BatchFunction = tf.function(
        draw, input_signature=[tf.TensorSpec((None,), tf.int32), tf.TensorSpec((2,), tf.int32)]
    )
    return graph
