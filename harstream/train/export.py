"""A Keras network to the files of a bundle: model.keras, LiteRT float32, LiteRT int8."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from harstream import golden
from harstream.classifier import LiteRTNetwork
from harstream.core.batches import Float32
from harstream.core.spec import SignalSpec

#: Windows the ranges of the int8 activations are measured on.
CALIBRATION_WINDOWS = 300
#: What stays float in the int8 model: the way to the second view of ``rescnn``, whose point is what
#: 1/256 of the input's range would round away. Every convolution behind it is int8.
_FLOAT_OPS = ["RESHAPE", "MUL", "TANH"]
_BATCH = 256


def save_keras(model: keras.Model, path: Path) -> None:
    """Write ``model.keras``, without optimizer state: it is for inference and export."""
    model.save(path, include_optimizer=False)


def to_litert(model: keras.Model) -> bytes:
    """The network as a float32 LiteRT model, for any batch size."""
    with _quiet():
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

    with _quiet():
        converter = _converter(model)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = representative
        # The debugger is the one public way to leave operations out of the quantisation.
        options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=_FLOAT_OPS)
        quantizer = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_options=options)
        return bytes(quantizer.get_nondebug_quantized_model())


def made_up_windows(spec: SignalSpec, n_streams: int = 100) -> Float32:
    """Windows to calibrate int8 on where there is no recording: (n_windows, window_samples, n_channels).

    Of golden streams, at rest and in motion of very different strength: what matters is their range.
    """
    parts = []
    for seed in range(n_streams):
        rate_hz, stream = golden.synthetic_stream(spec, seed)
        rest = stream.mean(axis=0)
        strength = np.float32(np.random.default_rng(seed).uniform(0.5, 4.0))
        parts.append(golden.windows_of(spec, rate_hz, rest + (stream - rest) * strength))
    return np.concatenate(parts)


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


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the converter's chatter, which comes from C++ past every log level and breaks progress bars.

    What it says is shown after all when it fails.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(stderr, said.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
