"""Residual convolutional network of harstream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

#: Name of the layer of ``shape_gain``.
SHAPE = "shape"
#: Added to the deviation of a window by ``shape_gain``, in standard deviations of the training data.
SHAPE_FLOOR = 0.01


def rescnn(
    window_samples: int,
    n_channels: int,
    n_labels: int,
    *,
    widths: Sequence[int] = (32, 32, 48, 64),
    kernels: Sequence[int] = (5, 5, 5, 3),
    strides: Sequence[int] = (2, 1, 2, 2),
    fine_gain: float = 10.0,
    fine_span: float = 0.5,
    shape_gain: float = 0.0,
    dropout: float = 0.3,
) -> keras.Model:
    """Build the default network: a residual convolutional network (after He et al. 2016), about 61,000 parameters.

    The network is a stem followed by residual blocks, each with its width, kernel and stride over time. If there are
    fewer strides than blocks, the last stride is used for the remaining ones.

    The stem sees every channel twice: as it is, and as ``tanh(fine_gain * (x - m))``. The body sway that distinguishes
    standing from sitting is only a few hundredths of the normalised range. The second view magnifies it; walking
    saturates there. ``m`` is the moving average over ``fine_span`` of the window; without it gravity and the offset of
    the gyroscope would saturate too. ``fine_span`` 0 leaves ``m`` out, ``fine_gain`` 0 the second view.

    With ``shape_gain`` the stem also sees ``shape_gain * (x - mean) / deviation``, with mean and standard deviation of
    the channel in this window (instance normalisation, Ulyanov et al. 2016): the pattern of a movement without its
    strength, which differs between subjects and pockets more than the pattern does. SHAPE_FLOOR keeps the noise of a
    still window small.
    """
    inputs = layers.Input((window_samples, n_channels))
    coarse = layers.Reshape((window_samples, 1, n_channels))(inputs)
    x = _convolution(coarse, widths[0], kernels[0], strides[0])
    if fine_gain:
        fine, span = coarse, round(fine_span * window_samples)
        if span:
            fine = layers.Subtract()([coarse, layers.AveragePooling2D((span, 1), 1, padding="same")(coarse)])
        fine = layers.Activation("tanh")(layers.Rescaling(fine_gain)(fine))
        x = layers.Add()([x, _convolution(fine, widths[0], kernels[0], strides[0])])
    if shape_gain:
        mean = layers.AveragePooling2D((window_samples, 1), 1)
        shape = layers.Subtract()([coarse, mean(coarse)])
        strength = keras.ops.rsqrt(mean(keras.ops.square(shape)) + SHAPE_FLOOR**2)
        shape = layers.Rescaling(shape_gain, name=SHAPE)(layers.Multiply()([shape, strength]))
        x = layers.Add()([x, _convolution(shape, widths[0], kernels[0], strides[0])])
    x = layers.ReLU()(x)
    for depth, (width, kernel) in enumerate(zip(widths[1:], kernels[1:], strict=True), 1):
        stride = strides[min(depth, len(strides) - 1)]
        y = layers.ReLU()(_convolution(x, width, kernel, stride))
        y = _convolution(y, width, kernel)
        if stride > 1 or x.shape[-1] != width:
            x = _convolution(x, width, 1, stride)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(n_labels)(x), name="rescnn")


def _convolution(x: Any, width: int, kernel: int, stride: int = 1) -> Any:
    """Add a convolution over time with batch normalisation, which the export folds into the weights."""
    x = layers.Conv2D(
        width, (kernel, 1), strides=(stride, 1), padding="same", use_bias=False, kernel_initializer="he_normal"
    )(x)
    return layers.BatchNormalization(momentum=0.98)(x)
