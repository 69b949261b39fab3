"""A bundle's network behind one interface, whichever backend computes it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harstream import bundle as bundles
from harstream.bundle import Bundle
from harstream.core.batches import Float32, Predictions
from harstream.errors import BundleError, ConfigError

#: Windows are padded to one of these, so that a backend plans its memory a few times and never again. LiteRT
#: is as fast with 32 as with 256 (50,000 windows a second on one core here), and takes 13 MB less.
BATCH_SIZES = (1, 8, 32)
BACKENDS = ("litert", "int8", "tensorflow")


class Network(Protocol):
    """What a backend is: normalised float32 windows in, float32 logits out."""

    def __call__(self, inputs: Float32) -> Float32:
        """(batch, window_samples, n_channels) to (batch, n_labels); batch is one of BATCH_SIZES."""
        ...


class LiteRTNetwork:
    """A .tflite model, float32 or int8 inside, float32 at its input and output.

    One interpreter for each batch size: resizing one at every call would plan its memory anew. One
    thread each: the daemon decodes beside it, and LiteRT gives the lock back while it computes.
    """

    def __init__(self, model: bytes, batch_sizes: tuple[int, ...] = BATCH_SIZES) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._calls: dict[int, tuple[Any, int, int]] = {}
        for size in batch_sizes:
            interpreter = Interpreter(model_content=model, num_threads=1)
            source, sink = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
            for what, detail in (("input", source), ("output", sink)):
                if detail["dtype"] is not np.float32:
                    raise BundleError(f"{what} is {detail['dtype'].__name__}, expected float32")
            self.input_shape = tuple(int(n) for n in source["shape_signature"][1:])
            self.n_outputs = int(sink["shape_signature"][-1])
            interpreter.resize_tensor_input(source["index"], [size, *self.input_shape])
            with _silence():
                interpreter.allocate_tensors()
            self._calls[size] = (interpreter, source["index"], sink["index"])

    def __call__(self, inputs: Float32) -> Float32:
        interpreter, source, sink = self._calls[len(inputs)]
        interpreter.set_tensor(source, inputs)
        interpreter.invoke()
        logits: Float32 = interpreter.get_tensor(sink)
        return logits


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing on standard error meanwhile: LiteRT greets there, in the middle of logs that may be JSON.

    It has no setting for that, and what goes wrong is raised as well.
    """
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class TensorFlowNetwork:
    """A .keras model, loaded in safe mode: a file that asks to run code is refused."""

    def __init__(self, path: Path) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        try:
            import keras
            import tensorflow as tf
        except ImportError as error:
            raise ConfigError("the tensorflow backend needs TensorFlow: pip install 'harstream[train]'") from error
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        self.input_shape = tuple(model.input_shape[1:])
        self.n_outputs = int(model.output_shape[-1])
        self._call = tf.function(
            lambda inputs: model(inputs, training=False),
            input_signature=[tf.TensorSpec((None, *self.input_shape), tf.float32)],
        )

    def __call__(self, inputs: Float32) -> Float32:
        return np.asarray(self._call(inputs).numpy(), np.float32)


class Classifier:
    """Windows in, calibrated probabilities out.

    Normalisation, softmax and temperature are applied here, in float, for every backend alike: an int8
    softmax would step by 1/256 and have exact zeros.
    """

    def __init__(self, bundle: Bundle, backend: str, network: Network) -> None:
        self.bundle = bundle
        self.backend = backend
        self._network = network

    def predict(self, windows: Float32) -> Predictions:
        """(n_windows, window_samples, n_channels) in g and rad/s, any number of them, to Predictions."""
        logits = np.empty((len(windows), len(self.bundle.labels)), np.float32)
        inputs = self.bundle.spec.norm.apply(windows)
        for start in range(0, len(windows), BATCH_SIZES[-1]):
            part = inputs[start : start + BATCH_SIZES[-1]]
            size = next(size for size in BATCH_SIZES if size >= len(part))
            if size > len(part):
                part = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), np.float32)])
            logits[start : start + size] = self._network(part)[: len(windows) - start]
        return to_predictions(logits, self.bundle.temperature)


def to_predictions(logits: Float32, temperature: float) -> Predictions:
    """(n_windows, n_labels) logits to calibrated probabilities (temperature scaling, Guo et al. 2017)."""
    scaled = logits.astype(np.float64) / temperature
    odds = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
    label = probabilities.argmax(axis=1)
    return Predictions(probabilities, label, probabilities[np.arange(len(label)), label])


def open_classifier(bundle: Bundle, backend: str = "auto") -> Classifier:
    """The bundle's network on a backend, its input and output checked against the bundle.

    ``auto`` is LiteRT where the bundle has it, else TensorFlow. Raises BundleError where the bundle lacks
    the backend's file, saying which there are, or the file does not fit; ConfigError where the backend is
    not installed.
    """
    if backend == "auto":
        backend = "litert" if bundles.LITERT in bundle.files else "tensorflow"
    makers: dict[str, tuple[str, Callable[[], LiteRTNetwork | TensorFlowNetwork]]] = {
        "litert": (bundles.LITERT, lambda: LiteRTNetwork(bundle.read(bundles.LITERT))),
        "int8": (bundles.INT8, lambda: LiteRTNetwork(bundle.read(bundles.INT8))),
        "tensorflow": (bundles.KERAS, lambda: TensorFlowNetwork(bundle.path / bundles.KERAS)),
    }
    if backend not in makers:
        raise ConfigError(f"backend {backend!r} is not one of auto, {', '.join(BACKENDS)}")
    file, make = makers[backend]
    if file not in bundle.files:
        reason = f" ({bundle.missing[file]})" if file in bundle.missing else ""
        others = ", ".join(name for name, (other, _) in makers.items() if other in bundle.files)
        raise BundleError(
            f"{bundle.path}: has no {file}{reason}, so the {backend} backend cannot serve it; there is {others}"
        )
    try:
        network = make()
    except ConfigError as error:
        alternative = ", or choose --backend litert" if bundles.LITERT in bundle.files else ""
        raise ConfigError(f"{error}{alternative}") from error
    except (ValueError, RuntimeError, OSError, TypeError) as error:
        raise BundleError(f"{bundle.path / file}: does not load: {error}") from error
    expected = (bundle.spec.window_samples, bundle.spec.n_channels)
    if network.input_shape != expected:
        raise BundleError(f"{bundle.path / file}: input is {network.input_shape}, the signal section says {expected}")
    if network.n_outputs != len(bundle.labels):
        raise BundleError(
            f"{bundle.path / file}: {network.n_outputs} outputs, bundle.json has {len(bundle.labels)} labels"
        )
    return Classifier(bundle, backend, network)
