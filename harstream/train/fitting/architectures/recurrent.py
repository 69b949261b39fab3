"""Recurrent networks of tutorials, which process a window step by step.

``train.export`` replaces the loop of Keras by one that LiteRT supports (see ``loops``).
"""

from __future__ import annotations

import keras
from keras import layers

from harstream.train.fitting.architectures.shapes import block_samples


def lstm(
    window_samples: int, n_channels: int, n_labels: int, *, units: int = 100, dense: int = 100, dropout: float = 0.5
) -> keras.Model:
    """Build J. Brownlee's network of one LSTM over all samples, dropout and a dense layer.

    Source: "LSTMs for Human Activity Recognition Time Series Classification", Machine Learning Mastery 2018.
    """
    inputs = layers.Input((window_samples, n_channels))
    return _head("lstm", inputs, layers.LSTM(units)(inputs), n_labels, dense, dropout)


def stacked_lstm(
    window_samples: int, n_channels: int, n_labels: int, *, units: int = 32, l2: float = 0.0015
) -> keras.Model:
    """Build G. Chevalier's network of a dense layer on each sample and two stacked LSTMs.

    Source: "LSTMs for Human Activity Recognition", 2016. The three layers have ``units`` each; the output is computed
    from the last state. The loss gets half of ``l2`` times the sum of squares of all weights and biases
    (``Model.losses``), as TensorFlow's ``l2_loss`` defines it.
    """

    def penalty() -> keras.regularizers.Regularizer:
        return keras.regularizers.L2(l2 / 2)

    def cell() -> keras.Layer:
        return layers.LSTMCell(
            units, kernel_regularizer=penalty(), recurrent_regularizer=penalty(), bias_regularizer=penalty()
        )

    inputs = layers.Input((window_samples, n_channels))
    x = layers.Dense(units, activation="relu", kernel_regularizer=penalty(), bias_regularizer=penalty())(inputs)
    x = layers.RNN([cell(), cell()])(x)
    outputs = layers.Dense(n_labels, kernel_regularizer=penalty(), bias_regularizer=penalty())(x)
    return keras.Model(inputs, outputs, name="stacked-lstm")


def cnn_lstm(
    window_samples: int,
    n_channels: int,
    n_labels: int,
    *,
    blocks: int = 4,
    filters: int = 64,
    kernel_size: int = 3,
    pool_size: int = 2,
    units: int = 100,
    dense: int = 100,
    dropout: float = 0.5,
) -> keras.Model:
    """Build J. Brownlee's "CNN-LSTM": convolutions and pooling in each block of the window, an LSTM over the blocks.

    Source: "LSTMs for Human Activity Recognition Time Series Classification", Machine Learning Mastery 2018.

    ``blocks`` must divide the samples of a window into blocks of at least 2 (kernel_size - 1) + pool_size samples.
    """
    length = block_samples("cnn-lstm", window_samples, blocks, 2 * (kernel_size - 1) + pool_size)
    inputs = layers.Input((window_samples, n_channels))
    # A kernel one block high processes each block separately, like the tutorial's TimeDistributed(Conv1D).
    x = layers.Reshape((blocks, length, n_channels))(inputs)
    for _ in range(2):
        x = layers.Conv2D(filters, (1, kernel_size), activation="relu")(x)
    x = layers.MaxPooling2D((1, pool_size))(layers.Dropout(dropout)(x))
    x = layers.LSTM(units)(layers.Reshape((blocks, -1))(x))
    return _head("cnn-lstm", inputs, x, n_labels, dense, dropout)


def convlstm(
    window_samples: int,
    n_channels: int,
    n_labels: int,
    *,
    blocks: int = 4,
    filters: int = 64,
    kernel_size: int = 3,
    dense: int = 100,
    dropout: float = 0.5,
) -> keras.Model:
    """Build J. Brownlee's "ConvLSTM": an LSTM over blocks of the window, with convolutions (Shi et al. 2015).

    Source: "LSTMs for Human Activity Recognition Time Series Classification", Machine Learning Mastery 2018.

    ``blocks`` must divide the samples of a window into blocks of at least kernel_size samples.
    """
    length = block_samples("convlstm", window_samples, blocks, kernel_size)
    inputs = layers.Input((window_samples, n_channels))
    x = layers.Reshape((blocks, 1, length, n_channels))(inputs)
    x = layers.ConvLSTM2D(filters, (1, kernel_size), activation="relu")(x)
    x = layers.Dropout(dropout)(x)
    x = layers.Dense(dense, activation="relu")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(n_labels)(x), name="convlstm")


def _head(
    name: str, inputs: keras.KerasTensor, x: keras.KerasTensor, n_labels: int, dense: int, dropout: float
) -> keras.Model:
    """Add dropout, the dense layer and the output."""
    x = layers.Dense(dense, activation="relu")(layers.Dropout(dropout)(x))
    return keras.Model(inputs, layers.Dense(n_labels)(x), name=name)
