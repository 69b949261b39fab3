"""Architectures that ``train --arch`` can build, by name.

Each network maps (n, window_samples, n_channels) normalised float32 windows to (n, n_labels) logits. It consists of
Keras' own layers only, so that its file loads in safe mode. The keyword arguments of a builder are its settings
(``train --set NAME=VALUE``). A name means the same in every builder: ``filters``, ``kernel_size`` and ``pool_size`` of
convolutions, ``units`` of recurrent or hidden layers, ``dense`` units of the layer before the output, ``blocks`` that a
window is cut into, rates of ``dropout``, the weight ``l2`` of the penalty.

Convolutions over time are two-dimensional with a kernel one sample wide: LiteRT wraps one-dimensional ones in
reshapes. The tutorials end in a softmax, which the classifier computes here. Their optimizers and numbers of epochs are
not taken over: these are settings of the fit. Initial weights are the defaults of Keras.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import keras

from harstream import checks
from harstream.errors import ConfigError
from harstream.train.fitting.architectures.feedforward import cnn, depthwise_cnn, mlp, multihead_cnn
from harstream.train.fitting.architectures.recurrent import cnn_lstm, convlstm, lstm, stacked_lstm
from harstream.train.fitting.architectures.residual import rescnn

DEFAULT = "rescnn"
#: A network with more parameters takes long to train, and gigabytes of memory.
LARGE = 5_000_000
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
    """Return the settings of an architecture with their defaults. Raise ConfigError for an unknown name."""
    if name not in ARCHITECTURES:
        raise ConfigError(f"architecture {name!r} is not one of {', '.join(ARCHITECTURES)}")
    parameters = inspect.signature(ARCHITECTURES[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Check the settings of an architecture: counts from 1, dropout rates up to 0.99, other numbers from 0.

    Raises:
        ConfigError: The architecture has no such setting, or the value is not of the kind of its default.

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
    """Return a network with initial weights.

    Raises:
        ConfigError: Unknown architecture or setting, impossible value, or the window is too short for the network.

    """
    check_settings(name, settings or {})
    try:
        return ARCHITECTURES[name](window_samples, n_channels, n_labels, **(settings or {}))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"architecture {name} cannot be built for {window_samples} samples: {error}") from error


def count_parameters(
    name: str, window_samples: int, n_channels: int, n_labels: int, settings: Mapping[str, Any] | None = None
) -> int:
    """Return the number of parameters of a network, without memory for them.

    Raises:
        ConfigError: As ``build`` raises it.

    """
    with keras.StatelessScope(initialize_variables=False):
        network = build(name, window_samples, n_channels, n_labels, settings)
        return sum(math.prod(weight.shape) for weight in network.weights)


def _check_number(where: str, value: Any, default: float) -> None:
    """Raise ConfigError unless ``value`` is a number that may stand for ``default``."""
    if isinstance(default, int):
        checks.whole_number(value, where, 1)
    elif "dropout" in where:
        checks.number(value, where, 0.0, 0.99)
    else:
        checks.number(value, where, 0.0)
