"""A Keras network to the files of a bundle: model.keras, LiteRT float32, LiteRT int8."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert_phase import ConverterError
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from harstream import bundle as bundles
from harstream import golden
from harstream.classifier import BATCH_SIZES, LiteRTNetwork, to_predictions
from harstream.core.batches import Float32
from harstream.core.spec import SignalSpec
from harstream.errors import BundleError
from harstream.train.fitting.architectures.loops import without_tensor_lists

#: Windows the ranges of the int8 activations are measured on.
CALIBRATION_WINDOWS = 300
#: What stays float in the int8 model: the way to the second view of ``rescnn``, whose point is what
#: 1/256 of the input's range would round away. Every convolution behind it is int8.
_FLOAT_OPS = ["RESHAPE", "AVERAGE_POOL_2D", "SUB", "MUL", "TANH"]
#: int8 is refused where, of this many windows, it gives another class to more than this share of the clear
#: ones, and to more than a few. Trained on HAPT, feed-forward networks and those of four steps stay below 0.0015;
#: LSTMs over 128 steps, where the errors of the weights add up, come to between 0.02 and 0.11.
CHECKED_WINDOWS, MAX_WRONG_SHARE, _FEW = 1000, 0.01, 2
_BATCH = 256


def save_keras(model: keras.Model, path: Path) -> None:
    """Write ``model.keras``, without optimizer state: it is for inference and export."""
    model.save(path, include_optimizer=False)


class NotConvertibleError(BundleError):
    """LiteRT cannot take a network, or computes something else than Keras; the message says why."""


@dataclass(frozen=True, slots=True)
class LiteRTFiles:
    """What LiteRT could take of a network; ``missing`` has the reason for each file it could not, by file name."""

    litert: bytes | None
    int8: bytes | None
    missing: Mapping[str, str]


def litert_files(model: keras.Model, inputs: Float32, seed: int = 0) -> LiteRTFiles:
    """The network's float32 and int8 files, as far as there can be any; ``inputs`` and ``seed`` as in ``to_int8``."""
    missing = {}

    def attempt(name: str, convert: Callable[[], bytes]) -> bytes | None:
        try:
            return convert()
        except NotConvertibleError as error:
            missing[name] = str(error)
            return None

    litert = attempt(bundles.LITERT, lambda: to_litert(model))
    if litert is None:
        missing[bundles.LITERT] += ": the bundle serves with TensorFlow"
    int8 = attempt(bundles.INT8, lambda: to_int8(model, inputs, seed))
    return LiteRTFiles(litert, int8, missing)


def to_litert(model: keras.Model) -> bytes:
    """The network as a float32 LiteRT model, for any batch size. Raises NotConvertibleError.

    It is tried with every batch size the classifier uses, and must give the probabilities Keras gives.
    """
    with _converting():
        data = bytes(_converter(model).convert())
        inputs = np.random.default_rng(0).normal(size=(BATCH_SIZES[0], *model.input_shape[1:])).astype(np.float32)
        expected = to_predictions(model(inputs, training=False).numpy(), 1.0).probabilities
        network = LiteRTNetwork(data)
        for size in BATCH_SIZES:
            made = to_predictions(network(inputs[:size]), 1.0).probabilities
            difference = float(np.abs(made - expected[:size]).max())
            if not difference <= golden.PROBABILITY_TOLERANCE:
                raise NotConvertibleError(f"LiteRT's probabilities differ by {difference:.2g} from those of Keras")
    return data


def to_int8(model: keras.Model, inputs: Float32, seed: int = 0) -> bytes:
    """The network as a LiteRT model with int8 weights and activations, float32 at its input and output.

    ``inputs`` is (n_windows, window_samples, n_channels), normalised, of the training data: the ranges of
    the activations are taken from a random part of it. Post-training quantisation, per channel
    (Jacob et al. 2018); inside a recurrent loop only the weights are int8, and each step finds its own
    ranges. Raises NotConvertibleError, also where it gives too many of ``inputs`` another class than Keras.
    """
    order = np.random.default_rng(seed).permutation(len(inputs))
    chosen = order[:CALIBRATION_WINDOWS]

    def representative() -> Iterator[list[Float32]]:
        for index in chosen:
            yield [inputs[index : index + 1]]

    with _converting():
        converter = _converter(model)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = representative
        # The debugger is the one public way to leave operations out of the quantisation.
        options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=_FLOAT_OPS)
        quantizer = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_options=options)
        data = bytes(quantizer.get_nondebug_quantized_model())
        _check_classes(model, data, inputs[order[:CHECKED_WINDOWS]])
    return data


def _check_classes(model: keras.Model, int8: bytes, inputs: Float32) -> None:
    """Raises NotConvertibleError where int8 decides otherwise than Keras, which is sure."""
    expected = to_predictions(model(inputs, training=False).numpy(), 1.0)
    ranked = np.sort(expected.probabilities, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] > golden.INT8_MARGIN
    wrong = int((to_predictions(litert_logits(int8, inputs), 1.0).label != expected.label)[clear].sum())
    if wrong > MAX_WRONG_SHARE * clear.sum() + _FEW:
        raise NotConvertibleError(f"int8 gives another class in {wrong} of {clear.sum()} clear windows")


def measure(model: bytes, n_windows: int = 1024) -> float:
    """How many windows a second LiteRT classifies on one thread, 32 at a time; the median over ``n_windows``."""
    size = BATCH_SIZES[0]
    network = LiteRTNetwork(model, (size,))
    inputs = np.random.default_rng(0).normal(size=(size, *network.input_shape)).astype(np.float32)
    network(inputs)  # plans its memory
    seconds = []
    for _ in range(max(1, n_windows // size)):
        started = time.perf_counter()
        network(inputs)
        seconds.append(time.perf_counter() - started)
    return float(size / np.median(seconds))


def made_up_windows(spec: SignalSpec, n_streams: int = 100) -> Float32:
    """Windows to calibrate int8 on where there is no recording: (n_windows, window_samples, n_channels).

    Of golden streams, at rest and in motion of very different strength: what matters is their range.
    """
    parts = []
    for seed in range(n_streams):
        rate_hz, stream = golden.synthetic_stream(spec, seed)
        rest = stream.mean(axis=0)
        strength = np.float32(np.random.default_rng(seed).uniform(0.5, 4.0))
        parts.append(golden.cut_windows(spec, rate_hz, rest + (stream - rest) * strength))
    return np.concatenate(parts)


def litert_logits(model: bytes, inputs: Float32) -> Float32:
    """(n_windows, window_samples, n_channels) normalised windows to (n_windows, n_labels) logits, by LiteRT."""
    return LiteRTNetwork(model, batch_sizes=(_BATCH, 1))(inputs)


def _converter(model: keras.Model) -> tf.lite.TFLiteConverter:
    """A converter of the network with its variables frozen, which lets it fold batch normalisation."""
    model = without_tensor_lists(model)
    spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    graph = tf.function(lambda inputs: model(inputs, training=False)).get_concrete_function(spec)
    return tf.lite.TFLiteConverter.from_concrete_functions([convert_variables_to_constants_v2(graph)])


@contextmanager
def _converting() -> Iterator[None]:
    """Without the converter's chatter, which comes from C++ past every log level and breaks progress bars.

    That LiteRT cannot take a network becomes a NotConvertibleError with the operations it has not, if it names
    any; for whatever else goes wrong the chatter is shown after all.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        except NotConvertibleError:
            raise
        except (ConverterError, ValueError, RuntimeError) as error:
            raise NotConvertibleError(_reason(str(error))) from error
        except BaseException:
            said.seek(0)
            os.write(stderr, said.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)


def _reason(text: str) -> str:
    """One line of the pages a converter says."""
    operations = sorted(set(re.findall(r"'tf\.(\w+)' op", text)))
    if operations:
        return f"LiteRT cannot take its {', '.join(operations)}"
    return next((line.strip() for line in text.splitlines() if line.strip()), "LiteRT does not say why")
