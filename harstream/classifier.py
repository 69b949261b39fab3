"""A bundle's network behind one interface, whichever backend computes it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harstream import bundle as bundles
from harstream import golden
from harstream.bundle import Bundle
from harstream.core.batches import Float32, Predictions
from harstream.errors import BundleError, ConfigError

#: Any number of windows is a sum of these, so that LiteRT plans its memory a few times and never again, and computes
#: no window that is not there. It is as fast with 32 as with 256, and takes 13 MB less.
BATCH_SIZES = (32, 16, 8, 4, 2, 1)
_MOST_AT_ONCE = 256  # of TensorFlow
BACKENDS = ("litert", "int8", "tensorflow")


class Network(Protocol):
    """What a backend is: normalised float32 windows in, float32 logits out."""

    def __call__(self, inputs: Float32) -> Float32:
        """(n_windows, window_samples, n_channels) to (n_windows, n_labels), any number of them."""
        ...


class LiteRTNetwork:
    """A .tflite model, float32 or int8 inside, float32 at its input and output.

    ``batch_sizes`` fall, and any number of windows is a sum of them. One interpreter for each: resizing one at every
    call would plan its memory anew. One thread each: the daemon decodes beside it, and LiteRT gives the lock back
    while it computes.
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
        logits = np.empty((len(inputs), self.n_outputs), np.float32)
        start = 0
        for size, (interpreter, source, sink) in self._calls.items():
            while len(inputs) - start >= size:
                interpreter.set_tensor(source, inputs[start : start + size])
                interpreter.invoke()
                logits[start : start + size] = interpreter.get_tensor(sink)
                start += size
        return logits


_greeted = False


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing on standard error meanwhile: LiteRT greets there, in the middle of logs that may be JSON.

    It has no setting for that, and what goes wrong is raised as well. It greets once in a process; later, when other
    threads are at work, what they log must not be lost.
    """
    global _greeted
    if _greeted:
        yield
        return
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
    _greeted = True


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
        logits = np.empty((len(inputs), self.n_outputs), np.float32)
        for start in range(0, len(inputs), _MOST_AT_ONCE):  # what it keeps meanwhile is a hundred times its input
            part = slice(start, start + _MOST_AT_ONCE)
            logits[part] = self._call(inputs[part]).numpy()
        return logits


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
        logits = self._network(self.bundle.spec.norm.apply(windows))
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


def load_classifier(model: str | Path, backend: str = "auto") -> Classifier:
    """Find, load, open and verify a bundle, so that its classifier may serve.

    Args:
        model: The name of a shipped bundle, or a folder.
        backend: One of BACKENDS, or ``auto``.

    Raises:
        BundleError: There is no such bundle, it is damaged, or its golden streams do not come out as sealed.
        ConfigError: The backend is unknown or not installed.

    """
    classifier = open_classifier(bundles.load(bundles.find(str(model))), backend)
    golden.verify(classifier, BATCH_SIZES)
    return classifier


def seal_bundle(bundle: Bundle) -> Bundle:
    """Add golden streams to a bundle that ``bundle.save`` has just written, which makes it loadable.

    Return the bundle, without its int8 file if that disagrees with the float model (see ``golden.seal``).
    """
    int8 = open_classifier(bundle, "int8") if bundles.INT8 in bundle.files else None
    return golden.seal(bundle, open_classifier(bundle), int8)
