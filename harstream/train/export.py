"""A Keras network to the files of a bundle: model.keras, LiteRT float32, LiteRT int8."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from harstream.classifier import LiteRTNetwork
from harstream.core.batches import Float32

#: Windows the ranges of the int8 activations are measured on.
CALIBRATION_WINDOWS = 400
#: What stays float in the int8 model: the way to the second view of ``rescnn``, whose point is what
#: 1/256 of the input's range would round away. Every convolution behind it is int8.
_FLOAT_OPS = ["RESHAPE", "MUL", "TANH"]
_BATCH = 256


def save_keras(model: keras.Model, path: Path) -> None:
    """Write ``model.keras``, without optimizer state: it is for inference and export."""
    model.save(path, include_optimizer=False)


def to_litert(model: keras.Model) -> bytes:
    """The network as a float32 LiteRT model, for any batch size."""
    return bytes(_converter(model).convert())


def to_int8(model: keras.Model, inputs: Float32, seed: int = 0) -> bytes:
    """The network as a LiteRT model with int8 weights and activations, float32 at its input and output.

    ``inputs`` is (n_windows, window_samples, n_channels), normalised, of the training data: the ranges of
    the activations are taken from a random part of it. Post-training quantisation, per channel
    (Jacob et al. 2018).
    """
    chosen = np.random.default_rng(seed).permutation(len(inputs))[:CALIBRATION_WINDOWS]

    def representative() -> Iterator[list[Float32]]:
        for index in chosen:
            yield [inputs[index : index + 1]]

    converter = _converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=_FLOAT_OPS)
    with warnings.catch_warnings():
        # It asks for statistics of quantised inputs; ours stay float.
        warnings.simplefilter("ignore", UserWarning)
        # The debugger is the one public way to leave operations out of the quantisation.
        quantizer = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_options=options)
        return bytes(quantizer.get_nondebug_quantized_model())


def litert_logits(model: bytes, inputs: Float32) -> Float32:
    """(n_windows, window_samples, n_channels) normalised windows to (n_windows, n_labels) logits, by LiteRT."""
    network = LiteRTNetwork(model, batch_sizes=(_BATCH,))
    parts = []
    for first in range(0, len(inputs), _BATCH):
        part = inputs[first : first + _BATCH]
        padded = np.zeros((_BATCH, *inputs.shape[1:]), np.float32)
        padded[: len(part)] = part
        parts.append(network(padded)[: len(part)])
    return np.concatenate([np.zeros((0, network.n_outputs), np.float32), *parts])


def _converter(model: keras.Model) -> tf.lite.TFLiteConverter:
    """A converter of the network with its variables frozen, which lets it fold batch normalisation."""
    spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    graph = tf.function(lambda inputs: model(inputs, training=False)).get_concrete_function(spec)
    return tf.lite.TFLiteConverter.from_concrete_functions([convert_variables_to_constants_v2(graph)])
