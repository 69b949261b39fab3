"""Feed-forward networks of tutorials and papers: dense layers and convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from harstream.train.fitting.architectures.shapes import require_samples


def mlp(
    window_samples: int,
    n_channels: int,
    n_labels: int,
    *,
    units: int = 500,
    dropouts: Sequence[float] = (0.1, 0.2, 0.2, 0.3),
) -> keras.Model:
    """Build the multilayer perceptron of Wang, Yan and Oates.

    Source: "Time series classification from scratch with deep neural networks", IJCNN 2017. Three hidden layers of 500
    rectified units on the flat window, about 1,080,000 parameters at 128 samples of nine channels. ``dropouts`` are the
    rates at the input and after each hidden layer; their number decides the number of hidden layers.
    """
    inputs = layers.Input((window_samples, n_channels))
    x = layers.Dropout(dropouts[0])(layers.Flatten()(inputs))
    for dropout in dropouts[1:]:
        x = layers.Dropout(dropout)(layers.Dense(units, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(n_labels)(x), name="mlp")


def cnn(
    window_samples: int,
    n_channels: int,
    n_labels: int,
    *,
    filters: int = 64,
    kernel_size: int = 3,
    pool_size: int = 2,
    dense: int = 100,
    dropout: float = 0.5,
) -> keras.Model:
    """Build J. Brownlee's network of two convolutions, dropout, pooling and a dense layer.

    Source: "1D Convolutional Neural Network Models for Human Activity Recognition", Machine Learning Mastery 2018.
    About 400,000 parameters at 128 samples, nearly all in the dense layer, which sees positions in the window. Unlike
    ``rescnn`` it has no batch normalisation and no second view.

    A window needs at least 2 (kernel_size - 1) + pool_size samples.
    """
    require_samples("cnn", window_samples, 2 * (kernel_size - 1) + pool_size)
    inputs = layers.Input((window_samples, n_channels))
    x = layers.Reshape((window_samples, 1, n_channels))(inputs)
    for _ in range(2):
        x = layers.Conv2D(filters, (kernel_size, 1), activation="relu")(x)
    x = layers.Dropout(dropout)(x)
    x = layers.Flatten()(layers.MaxPooling2D((pool_size, 1))(x))
    x = layers.Dense(dense, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(n_labels)(x), name="cnn")


def multihead_cnn(
    window_samples: int,
    n_channels: int,
    n_labels: int,
    *,
    filters: int = 64,
    kernel_sizes: Sequence[int] = (3, 5, 11),
    pool_size: int = 2,
    dense: int = 100,
    dropout: float = 0.5,
) -> keras.Model:
    """Build J. Brownlee's "multi-headed" network: parallel convolutions, each with dropout and pooling.

    Source: "1D Convolutional Neural Network Models for Human Activity Recognition", Machine Learning Mastery 2018.
    About 1,180,000 parameters at 128 samples, nearly all in the dense layer.

    A window needs at least max(kernel_sizes) - 1 + pool_size samples.
    """
    require_samples("multihead-cnn", window_samples, max(kernel_sizes) - 1 + pool_size)
    inputs = layers.Input((window_samples, n_channels))
    x = layers.Reshape((window_samples, 1, n_channels))(inputs)
    heads = []
    for kernel_size in kernel_sizes:
        head = layers.Conv2D(filters, (kernel_size, 1), activation="relu")(x)
        head = layers.MaxPooling2D((pool_size, 1))(layers.Dropout(dropout)(head))
        heads.append(layers.Flatten()(head))
    x = layers.Concatenate()(heads) if len(heads) > 1 else heads[0]
    x = layers.Dense(dense, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(n_labels)(x), name="multihead-cnn")


def depthwise_cnn(
    window_samples: int,
    n_channels: int,
    n_labels: int,
    *,
    filters: int = 60,
    kernel_size: int = 60,
    pool_size: int = 20,
    pool_stride: int = 2,
    second_kernel_size: int = 6,
    dense: int = 1000,
) -> keras.Model:
    """Build A. Saeed's network of two depthwise convolutions.

    Source: "Implementing a CNN for human activity recognition in TensorFlow", 2016. Each channel has its own
    ``filters``, and each of their outputs a tenth as many filters again; only the dense layer (tanh) combines the
    channels. It was made for the three channels of an accelerometer (WISDM, 90 samples: 1.1 million parameters). The
    dense layer grows quickly: 21.7 million parameters at 128 samples of three channels, 65 million of nine.

    A window needs at least kernel_size + pool_size + pool_stride (second_kernel_size - 1) - 1 samples, by default 89.
    """
    pooled = pool_size + pool_stride * (second_kernel_size - 1)
    require_samples("depthwise-cnn", window_samples, kernel_size - 1 + pooled)
    inputs = layers.Input((window_samples, n_channels))
    x = layers.Reshape((window_samples, 1, n_channels))(inputs)
    x = layers.DepthwiseConv2D((kernel_size, 1), depth_multiplier=filters, activation="relu")(x)
    x = layers.MaxPooling2D((pool_size, 1), strides=(pool_stride, 1))(x)
    x = layers.DepthwiseConv2D((second_kernel_size, 1), depth_multiplier=max(1, filters // 10), activation="relu")(x)
    x = layers.Dense(dense, activation="tanh")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(n_labels)(x), name="depthwise-cnn")
