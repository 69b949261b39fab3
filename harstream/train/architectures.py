"""The networks ``train --arch`` can build, by name.

All take (n, window_samples, n_channels) normalised float32 windows and return (n, n_labels) logits.
Convolutions over time are written as two-dimensional ones with a kernel one wide: that is what LiteRT
has, and its one-dimensional ones come with reshapes around them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import layers

from harstream.errors import ConfigError


def rescnn(
    window_samples: int,
    n_channels: int,
    n_labels: int,
    *,
    widths: Sequence[int] = (32, 32, 48, 64),
    kernels: Sequence[int] = (5, 5, 5, 3),
    fine_gain: float = 10.0,
    dropout: float = 0.3,
) -> keras.Model:
    """A residual convolutional network (after He et al. 2016), about 61,000 parameters: the default.

    A stem and residual blocks, each with its width and kernel; all but the first block halve the time axis.

    The stem sees every channel twice: as it is, and as ``tanh(fine_gain * x)``. Normalised by
    the spread of all activities, the sway that tells standing from sitting is a few hundredths; the
    second view magnifies it and lets walking saturate.
    """
    inputs = layers.Input((window_samples, n_channels))
    coarse = layers.Reshape((window_samples, 1, n_channels))(inputs)
    fine = layers.Activation("tanh")(layers.Rescaling(fine_gain)(coarse))
    x = layers.Add()([_convolution(view, widths[0], kernels[0], stride=2) for view in (coarse, fine)])
    x = layers.ReLU()(x)
    for depth, (width, kernel) in enumerate(zip(widths[1:], kernels[1:], strict=True)):
        stride = 1 if depth == 0 else 2
        y = layers.ReLU()(_convolution(x, width, kernel, stride))
        y = _convolution(y, width, kernel)
        if stride > 1 or x.shape[-1] != width:
            x = _convolution(x, width, 1, stride)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(n_labels)(x), name="rescnn")


def cnn(
    window_samples: int,
    n_channels: int,
    n_labels: int,
    *,
    filters: int = 64,
    kernel: int = 3,
    dense: int = 100,
    dropout: float = 0.5,
) -> keras.Model:
    """The plain network of many tutorials: two convolutions, dropout, pooling, a dense layer.

    About 400,000 parameters at 128 samples, nearly all in the dense layer. It knows positions in
    the window, has no normalisation and no second view: quite another network than ``rescnn``.
    """
    inputs = layers.Input((window_samples, n_channels))
    x = layers.Reshape((window_samples, 1, n_channels))(inputs)
    for _ in range(2):
        x = layers.Conv2D(filters, (kernel, 1), activation="relu")(x)
    x = layers.Dropout(dropout)(x)
    x = layers.Flatten()(layers.MaxPooling2D((2, 1))(x))
    x = layers.Dense(dense, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(n_labels)(x), name="cnn")


def _convolution(x: Any, width: int, kernel: int, stride: int = 1) -> Any:
    """Convolution over time with batch normalisation, which the export folds into its weights."""
    x = layers.Conv2D(
        width, (kernel, 1), strides=(stride, 1), padding="same", use_bias=False, kernel_initializer="he_normal"
    )(x)
    return layers.BatchNormalization(momentum=0.98)(x)


DEFAULT = "rescnn"
ARCHITECTURES: dict[str, Callable[..., keras.Model]] = {"rescnn": rescnn, "cnn": cnn}


def settings_of(name: str) -> dict[str, Any]:
    """The settings of an architecture and their defaults. Raises ConfigError for an unknown name."""
    if name not in ARCHITECTURES:
        raise ConfigError(f"architecture {name!r} is not one of {', '.join(ARCHITECTURES)}")
    parameters = inspect.signature(ARCHITECTURES[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def build(
    name: str, window_samples: int, n_channels: int, n_labels: int, settings: Mapping[str, Any] | None = None
) -> keras.Model:
    """A network with fresh weights. Raises ConfigError for an unknown name or setting, or where it cannot be built."""
    known = settings_of(name)
    for key in settings or {}:
        if key not in known:
            raise ConfigError(f"architecture {name} has no setting {key!r}; it has {', '.join(known)}")
    try:
        return ARCHITECTURES[name](window_samples, n_channels, n_labels, **(settings or {}))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"architecture {name} cannot be built for {window_samples} samples: {error}") from error
