"""The networks ``train --arch`` can build, by name.

All take (n, window_samples, n_channels) normalised float32 windows and return (n, n_labels) logits, and are
made of Keras' own layers only, so that their files load in safe mode. The keyword arguments of a builder
are its settings (``train --set NAME=VALUE``), the same name meaning the same everywhere: ``filters``,
``kernel_size`` and ``pool_size`` of convolutions, ``units`` of recurrent or hidden layers, ``dense`` of the
layer before the output, ``blocks`` a window is cut into, rates of ``dropout``, the weight ``l2`` of the penalty.

Convolutions over time are written as two-dimensional ones with a kernel one wide: that is what LiteRT
has, and its one-dimensional ones come with reshapes around them. The tutorials' softmax is left to
the classifier, their optimisers and epochs to the configuration of the fit; weights start as Keras starts them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import keras

from harstream.errors import ConfigError
from harstream.train.fitting.architectures.feedforward import cnn, depthwise_cnn, mlp, multihead_cnn
from harstream.train.fitting.architectures.recurrent import cnn_lstm, convlstm, lstm, stacked_lstm
from harstream.train.fitting.architectures.residual import rescnn

DEFAULT = "rescnn"
ARCHITECTURES: dict[str, Callable[..., keras.Model]] = {
    "rescnn": rescnn,
    "mlp": mlp,
    "cnn": cnn,
    "multihead-cnn": multihead_cnn,
    "depthwise-cnn": depthwise_cnn,
    "lstm": lstm,
    "stacked-lstm": stacked_lstm,
    "cnn-lstm": cnn_lstm,
    "convlstm": convlstm,
}


def settings_of(name: str) -> dict[str, Any]:
    """The settings of an architecture and their defaults. Raises ConfigError for an unknown name."""
    if name not in ARCHITECTURES:
        raise ConfigError(f"architecture {name!r} is not one of {', '.join(ARCHITECTURES)}")
    parameters = inspect.signature(ARCHITECTURES[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Raises ConfigError for a setting the architecture has not, or a value that is not of its default's kind.

    Counts are whole numbers from 1, all else is a number from 0, a rate of dropout below 1.
    """
    known = settings_of(name)
    for key, value in settings.items():
        if key not in known:
            raise ConfigError(f"architecture {name} has no setting {key!r}; it has {', '.join(known)}")
        default = known[key]
        if not isinstance(default, tuple):
            _check_number(f"architecture {name}: {key}", value, default)
        elif not isinstance(value, list | tuple) or not value:
            raise ConfigError(f"architecture {name}: {key}: expected a list such as {list(default)}, got {value!r}")
        else:
            for one in value:
                _check_number(f"architecture {name}: {key}", one, default[0])


def build(
    name: str, window_samples: int, n_channels: int, n_labels: int, settings: Mapping[str, Any] | None = None
) -> keras.Model:
    """A network with fresh weights. Raises ConfigError for an unknown name or setting, or where it cannot be built."""
    check_settings(name, settings or {})
    try:
        return ARCHITECTURES[name](window_samples, n_channels, n_labels, **(settings or {}))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"architecture {name} cannot be built for {window_samples} samples: {error}") from error


def _check_number(where: str, value: Any, default: float) -> None:
    if isinstance(default, int):
        fits, expected = isinstance(value, int) and value >= 1, "a whole number from 1 up"
    else:
        below, expected = (1.0, "a rate from 0 to below 1") if "dropout" in where else (math.inf, "a number from 0 up")
        fits = isinstance(value, int | float) and 0 <= value < below
    if not fits or isinstance(value, bool):
        raise ConfigError(f"{where}: expected {expected}, got {value!r}")
