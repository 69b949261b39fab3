"""Export of a Keras network to the files of a bundle: model.keras, LiteRT float32 and LiteRT int8."""

from __future__ import annotations

import gc
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

from harstream import bundle as bundles
from harstream import golden
from harstream.classifier import BATCH_SIZES, LiteRTNetwork, to_predictions
from harstream.core.batches import Bool, Float32
from harstream.core.familiar import Familiar
from harstream.core.spec import SignalSpec
from harstream.errors import BundleError
from harstream.memory import return_free_memory
from harstream.train.fitting.architectures.loops import without_tensor_lists
from harstream.train.fitting.architectures.residual import SHAPE

#: Windows on which the ranges of the int8 activations are measured.
CALIBRATION_WINDOWS = 300
#: Operations that stay float32 in the int8 model: those that compute the second view of ``rescnn``, which magnifies
#: signals smaller than 1/256 of the input's range. All convolutions after them are int8.
#: The outputs are put side by side in float32 too, because logits and features have different ranges.
_FLOAT_OPS = ["RESHAPE", "AVERAGE_POOL_2D", "SUB", "MUL", "TANH", "CONCATENATION"]
#: Further ones of a network that sees windows divided by their deviation (``shape_gain``): in int8, that of a still
#: window is 0 or far too large. The additions behind the convolutions are then float32 too.
_SHAPE_OPS = ["SQUARED_DIFFERENCE", "RSQRT", "ADD"]
#: Windows on which the labels of int8 are compared with those of Keras. A window is clear if the two largest
#: probabilities of Keras differ by more than ``golden.INT8_MARGIN``. Of the clear windows this share may differ, and a
#: few more. On HAPT the share is below 0.0015 for feed-forward networks and for recurrent ones of four
#: steps. It is between 0.02 and 0.11 for LSTMs over 128 steps, where the errors of the weights add up.
CHECKED_WINDOWS, MAX_WRONG_SHARE, _FEW = 1000, 0.01, 2
#: Factor by which strong signals exceed those of the training data.
STRONG = 4.0
#: Windows in one call of a LiteRT network.
_BATCH = 256


def save_keras(model: keras.Model, path: Path) -> None:
    """Write ``model.keras`` without the state of the optimizer, which only further training would need."""
    model.save(path, include_optimizer=False)


class NotConvertibleError(BundleError):
    """LiteRT does not support the network, or its results differ from those of Keras."""


@dataclass(frozen=True, slots=True)
class LiteRTFiles:
    """The LiteRT files of a network, as far as it can be converted."""

    litert: bytes | None  # float32
    int8: bytes | None
    missing: Mapping[str, str]  # reason for each missing file, by file name


def litert_files(model: keras.Model, inputs: Float32, seed: int = 0, n_logits: int | None = None) -> LiteRTFiles:
    """Convert a network to float32 and int8 as far as possible.

    Args:
        model: The network.
        inputs: As for ``to_int8``.
        seed: As for ``to_int8``.
        n_logits: The number of outputs before the features; None: there are no features.

    """
    missing = {}

    def attempt(name: str, convert: Callable[[], bytes]) -> bytes | None:
        try:
            return convert()
        except NotConvertibleError as error:
            missing[name] = str(error)
            return None

    litert = attempt(bundles.LITERT, lambda: to_litert(model, n_logits))
    if litert is None:
        missing[bundles.LITERT] += "; the bundle needs the tensorflow backend"
    int8 = attempt(bundles.INT8, lambda: to_int8(model, inputs, seed, n_logits))
    return LiteRTFiles(litert, int8, missing)


def to_litert(model: keras.Model, n_logits: int | None = None) -> bytes:
    """Return the network as a float32 LiteRT model for any batch size.

    The probabilities are compared with those of Keras for every batch size that the classifier uses.

    Raises:
        NotConvertibleError: LiteRT does not support the network, or its probabilities differ.

    """
    with _converting():
        with _converter(model) as converter:
            data = bytes(converter.convert())
        inputs = np.random.default_rng(0).normal(size=(BATCH_SIZES[0], *model.input_shape[1:])).astype(np.float32)
        expected = to_predictions(model(inputs, training=False).numpy()[:, :n_logits], 1.0).probabilities
        for size in BATCH_SIZES:  # one network at a time: each holds the weights once more
            probabilities = to_predictions(LiteRTNetwork(data, (size,))(inputs[:size])[:, :n_logits], 1.0).probabilities
            difference = float(np.abs(probabilities - expected[:size]).max())
            if not difference <= golden.PROBABILITY_TOLERANCE:
                raise NotConvertibleError(
                    f"the probabilities of LiteRT differ by {difference:.2g} from those of Keras, "
                    f"at most {golden.PROBABILITY_TOLERANCE:.2g} is accepted"
                )
    return data


def to_int8(model: keras.Model, inputs: Float32, seed: int = 0, n_logits: int | None = None) -> bytes:
    """Return the network as a LiteRT model with int8 weights and activations, and float32 input and output.

    The method is post-training quantisation per channel (Jacob et al. 2018). Inside a recurrent loop only the weights
    are int8, and each step measures its own ranges.

    Args:
        model: The network.
        inputs: (n_windows, window_samples, n_channels) normalised windows of the training data. The ranges of the
            activations are measured on a random part of them.
        seed: Decides that part.
        n_logits: The number of outputs before the features; None: there are no features.

    Raises:
        NotConvertibleError: LiteRT does not support the network, or int8 labels too many of ``inputs`` differently.

    """
    order = np.random.default_rng(seed).permutation(len(inputs))
    chosen = order[:CALIBRATION_WINDOWS]

    def representative() -> Iterator[list[Float32]]:
        for index in chosen:
            yield [inputs[index : index + 1]]

    with _converting():
        with _converter(model) as converter:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = representative
            # Only the debugger has a public option to leave operations out of the quantisation.
            in_float = _FLOAT_OPS + (_SHAPE_OPS if any(layer.name == SHAPE for layer in model.layers) else [])
            options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=in_float)
            quantizer = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_options=options)
            data = bytes(quantizer.get_nondebug_quantized_model())
            del quantizer, converter
        _check_labels(model, data, inputs[order[:CHECKED_WINDOWS]], n_logits)
    return data


def _check_labels(model: keras.Model, int8: bytes, inputs: Float32, n_logits: int | None) -> None:
    """Raise NotConvertibleError if int8 labels windows differently for which Keras is sure."""
    expected = to_predictions(model(inputs, training=False).numpy()[:, :n_logits], 1.0)
    ranked = np.sort(expected.probabilities, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] > golden.INT8_MARGIN
    wrong = int((to_predictions(litert_outputs(int8, inputs)[:, :n_logits], 1.0).label != expected.label)[clear].sum())
    if wrong > MAX_WRONG_SHARE * clear.sum() + _FEW:
        raise NotConvertibleError(f"int8 gives another label than float32 in {wrong} of {clear.sum()} clear windows")


def unfamiliar_differences(
    model: keras.Model, int8: bytes, familiar: Familiar, inputs: Float32, seed: int = 0
) -> tuple[float, float]:
    """Return the shares of windows that int8 judges otherwise than Keras: missed and added.

    Missed is of windows of strong signals that Keras finds unfamiliar; they are windows of the training data, STRONG
    times as far from their means. What exceeds the range of the data looks to int8 like the end of that range, so that
    it may miss what it should find first of all. Added is of the windows themselves that Keras finds familiar.

    Args:
        model: The network, with features.
        int8: The same network as a LiteRT model.
        familiar: The test of unfamiliar windows.
        inputs: As for ``to_int8``.
        seed: Decides which windows are tried.

    """
    chosen = inputs[np.random.default_rng(seed).permutation(len(inputs))[:CHECKED_WINDOWS]]
    mean = chosen.mean(axis=1, keepdims=True)
    n_logits = model.output_shape[-1] - familiar.n_features

    def judge(windows: Float32) -> tuple[Bool, Bool]:
        keras_outputs, int8_outputs = model(windows, training=False).numpy(), litert_outputs(int8, windows)
        return (
            familiar.unfamiliar(keras_outputs[:, :n_logits], keras_outputs[:, n_logits:]),
            familiar.unfamiliar(int8_outputs[:, :n_logits], int8_outputs[:, n_logits:]),
        )

    found, also = judge(mean + np.float32(STRONG) * (chosen - mean))
    found_here, also_here = judge(chosen)
    return _share(~also, found), _share(also_here, ~found_here)


def _share(which: Bool, of: Bool) -> float:
    """Return the share of the windows ``of`` that are ``which`` too; 0 if there are none."""
    return float((which & of).sum() / max(1, of.sum()))


def measure(model: bytes, n_windows: int = 1024) -> float:
    """Return the speed of a LiteRT model on one thread in windows per second: the median of batches of 32."""
    size = BATCH_SIZES[0]
    network = LiteRTNetwork(model, (size,))
    inputs = np.random.default_rng(0).normal(size=(size, *network.input_shape)).astype(np.float32)
    network(inputs)  # the first call allocates memory
    seconds = []
    for _ in range(max(1, n_windows // size)):
        started = time.perf_counter()
        network(inputs)
        seconds.append(time.perf_counter() - started)
    return float(size / np.median(seconds))


def synthetic_windows(spec: SignalSpec, n_streams: int = 100) -> Float32:
    """Return (n_windows, window_samples, n_channels) windows for the calibration of int8 without recordings.

    They are golden streams with motions of very different strength: calibration needs their range only.
    """
    parts = []
    for seed in range(n_streams):
        rate_hz, stream = golden.synthetic_stream(spec, seed)
        rest = stream.mean(axis=0)
        strength = np.float32(np.random.default_rng(seed).uniform(0.5, 4.0))
        parts.append(golden.cut_windows(spec, rate_hz, rest + (stream - rest) * strength))
    return np.concatenate(parts)


def litert_outputs(model: bytes, inputs: Float32) -> Float32:
    """Return what LiteRT computes of normalised windows (n_windows, window_samples, n_channels).

    The result has the shape (n_windows, n_outputs).
    """
    return LiteRTNetwork(model, batch_sizes=(_BATCH, 1))(inputs)


@contextmanager
def _converter(model: keras.Model) -> Iterator[tf.lite.TFLiteConverter]:
    """Yield a converter of the network.

    It reads the weights from a file. Of a graph that holds them as constants it would keep up to ten copies.
    """
    model = without_tensor_lists(model)
    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint(
            "serve",
            lambda inputs: model(inputs, training=False),
            input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)],
        )
        archive.write_out(folder, verbose=False)
        yield tf.lite.TFLiteConverter.from_saved_model(folder)


@contextmanager
def _converting() -> Iterator[None]:
    """Hide the converter's output on standard error, which C++ writes regardless of log levels.

    After an error that does not come from the converter, the hidden output is shown.

    Raises:
        NotConvertibleError: LiteRT does not support the network; the message names the operations.

    """
    free_memory()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as output, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stderr = os.dup(2)
        os.dup2(output.fileno(), 2)
        try:
            yield
        except NotConvertibleError:
            raise
        except (ConverterError, ValueError, RuntimeError) as error:
            raise NotConvertibleError(_reason(str(error))) from error
        except BaseException:
            output.seek(0)
            os.write(stderr, output.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
    free_memory()


def free_memory() -> None:
    """Free what TensorFlow has left in reference cycles, with copies of the weights."""
    gc.collect()
    return_free_memory()


def _reason(text: str) -> str:
    """Return the reason in one line of a converter's message, which may be pages long."""
    operations = sorted(set(re.findall(r"'tf\.(\w+)' op", text)))
    if operations:
        return f"LiteRT does not support its operations {', '.join(operations)}"
    return next((line.strip() for line in text.splitlines() if line.strip()), "the converter of LiteRT gives no reason")
