"""What a network sees in training: the windows at some indices, augmented anew each time, and their labels."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from harstream.core.spec import Normalisation, SignalSpec
from harstream.datasets.windows import LabelledWindows
from harstream.train.fitting import augment
from harstream.train.fitting.recipe import FitConfig

#: From indices (n,) int32 and a seed (2,) int32 to inputs (n, window_samples, n_channels), as the network is
#: fed, and the labels' probabilities (n, n_labels).
Minibatch = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def minibatches(
    data: LabelledWindows, spec: SignalSpec, normalisation: Normalisation, unit: tuple[float, ...], config: FitConfig
) -> Minibatch:
    """A graph that draws from ``data``. An augmentation that is off is not in it.

    ``normalisation`` is the network's, ``unit`` (n_channels,) the standard deviations jitter is measured in.
    Each augmentation has a seed of its own, so that switching one on leaves the draws of the others.
    """
    windows = tf.constant(data.windows)
    label = tf.constant(data.label.astype("int32"))
    mean = tf.constant(normalisation.mean, tf.float32)
    gain = tf.constant([1.0 / value for value in normalisation.std], tf.float32)
    vertical = (
        augment.vertical_of(data.windows, spec.channels) if config.turned_share or config.strangers_share else None
    )

    def drawn(index: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def own(number: int) -> tf.Tensor:
            return tf.random.experimental.stateless_fold_in(seed, number)

        batch, n = tf.gather(windows, index), tf.shape(index)[0]
        truth = tf.one_hot(tf.gather(label, index), len(data.labels))
        if config.stretch:
            batch = augment.stretch(batch, config.stretch, own(0))
        if config.warp:
            batch = augment.warp(batch, config.warp, own(1))
        rotations = None
        if config.tilt_deg:
            rotations = augment.tilts(n, config.tilt_deg, own(2))
        if config.flipped_share:
            flips = augment.half_turns(n, config.flip_axis, config.flipped_share, own(9))
            rotations = flips if rotations is None else tf.matmul(rotations, flips)
        if vertical is not None and config.turned_share:
            turns = augment.turns(n, vertical, config.turned_share, own(3))
            rotations = turns if rotations is None else tf.matmul(rotations, turns)
        if rotations is not None:
            batch = augment.rotate(batch, rotations, spec.channels)
        if config.mirrored_share:
            batch = augment.mirror(batch, config.mirrored_share, config.mirror_axis, spec.channels, own(4))
        if config.scale:
            batch = augment.scale(batch, config.scale, spec.channels, own(5))
        if config.smoothed_share:
            batch = augment.smooth(batch, config.smoothed_share, own(10))
        if config.gyro_drift:
            batch = augment.gyro_drift(batch, config.gyro_drift, spec.channels, own(12))
        if config.jitter:
            batch = augment.jitter(batch, config.jitter, unit, own(6))
        if config.strangers_share:
            batch, truth = augment.strangers(batch, truth, config.strangers_share, spec.channels, vertical, own(11))
        inputs = (batch - mean) * gain
        if config.channel_dropout:
            inputs = augment.channel_dropout(inputs, config.channel_dropout, spec.channels, own(7))
        if config.mixup:
            inputs, truth = augment.mixup(inputs, truth, config.mixup, own(8))
        return inputs, truth

    graph: Minibatch = tf.function(
        drawn, input_signature=[tf.TensorSpec((None,), tf.int32), tf.TensorSpec((2,), tf.int32)]
    )
    return graph
