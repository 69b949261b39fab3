"""Classifier: windows to label probabilities, by the network of a bundle and the backend chosen to compute it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from harstream import bundle as bundles
from harstream import golden, shipped
from harstream.bundle import BACKEND_FILES, Bundle
from harstream.core.batches import Float32, Predictions
from harstream.core.labels import UNKNOWN_INDEX
from harstream.errors import BundleError, ConfigError, one_line
from harstream.quiet import import_tensorflow

#: Sizes of the batches that LiteRT computes. Any number of windows is a sum of them, so no padding is computed, and
#: LiteRT plans its memory only once for each. A largest size of 32 is as fast as 256 and needs 13 MB less.
BATCH_SIZES = (32, 16, 8, 4, 2, 1)
#: Limit of the windows that TensorFlow computes at once. Its intermediate results need a hundred times the memory of
#: the input.
_MAX_TENSORFLOW_BATCH = 256


class Network(Protocol):
    """A network on one backend. It may be called from several threads at once."""

    input_shape: tuple[int, ...]  # (window_samples, n_channels)
    n_outputs: int

    def __call__(self, inputs: Float32) -> Float32:
        """Return the outputs (n_windows, n_outputs) of normalised windows (n_windows, window_samples, n_channels).

        They are the logits of labels and states, and after them the features if the bundle tells unfamiliar windows.
        """
        ...


class LiteRTNetwork:
    """A .tflite model; its weights may be float32 or int8, its input and output are float32.

    There is one interpreter for each of ``batch_sizes``, because an interpreter plans its memory again when it is
    resized. The sizes are in falling order, and the last is 1. An interpreter computes on one thread. Meanwhile it
    releases Python's global interpreter lock, so that the daemon can decode messages on the other cores.

    Raises:
        ValueError: The data is not a LiteRT model, or its input or output is not float32.

    """

    def __init__(self, model: bytes, batch_sizes: tuple[int, ...] = BATCH_SIZES) -> None:
        self._interpreters = {size: _Interpreter(model, size) for size in batch_sizes}
        first = self._interpreters[batch_sizes[0]]
        self.input_shape, self.n_outputs = first.input_shape, first.n_outputs

    def __call__(self, inputs: Float32) -> Float32:
        """Return logits and features (n_windows, n_outputs) of normalised windows."""
        outputs = np.empty((len(inputs), self.n_outputs), np.float32)
        start = 0
        for size, interpreter in self._interpreters.items():
            while len(inputs) - start >= size:
                outputs[start : start + size] = interpreter.run(inputs[start : start + size])
                start += size
        return outputs


class _Interpreter:
    """A LiteRT interpreter for batches of one size. One thread runs it at a time, others wait for their turn.

    Two threads in one interpreter would mix up their windows, or fail with "There is at least 1 reference to internal
    data in the interpreter".
    """

    def __init__(self, model: bytes, batch_size: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_content=model, num_threads=1)
        source, sink = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        for name, detail in (("input", source), ("output", sink)):
            if detail["dtype"] is not np.float32:
                raise ValueError(f"{name} is {detail['dtype'].__name__}, expected float32")
        self.input_shape = tuple(int(n) for n in source["shape_signature"][1:])
        self.n_outputs = int(sink["shape_signature"][-1])
        self._source, self._sink = source["index"], sink["index"]
        self._lock = threading.Lock()
        self._interpreter.resize_tensor_input(self._source, [batch_size, *self.input_shape])
        with _discard_litert_greeting():
            self._interpreter.allocate_tensors()

    def run(self, inputs: Float32) -> Float32:
        """Return logits and features (batch_size, n_outputs) of windows (batch_size, window_samples, n_channels)."""
        with self._lock:
            self._interpreter.set_tensor(self._source, inputs)
            self._interpreter.invoke()
            outputs: Float32 = self._interpreter.get_tensor(self._sink)  # a copy
            return outputs


_litert_has_greeted = False


@contextmanager
def _discard_litert_greeting() -> Iterator[None]:
    """Discard what is written to standard error inside the context, but only the first time in a process.

    LiteRT writes a greeting there when it first allocates tensors, and has no setting against it. The log around it
    may be JSON, which must be parsed. LiteRT's errors are raised as well, so none is lost. It greets only once. Later
    nothing is discarded, because other threads may then write log lines.
    """
    global _litert_has_greeted
    if _litert_has_greeted:
        yield
        return
    standard_error, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(standard_error, 2)
        os.close(standard_error)
        os.close(null)
    _litert_has_greeted = True


class TensorFlowNetwork:
    """A .keras model, loaded in safe mode, in which Keras refuses a file that asks to run code.

    Raises:
        ConfigError: TensorFlow is not installed.
        ValueError: The file is not a Keras model, or asks to run code.

    """

    def __init__(self, path: Path) -> None:
        try:
            tf = import_tensorflow()
            import keras
        except ImportError as error:
            raise ConfigError(
                "the tensorflow backend needs TensorFlow: pip install '.[train]' in a checkout"
            ) from error
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        self.input_shape = tuple(model.input_shape[1:])
        self.n_outputs = int(model.output_shape[-1])
        self._call = tf.function(
            lambda inputs: model(inputs, training=False),
            input_signature=[tf.TensorSpec((None, *self.input_shape), tf.float32)],
        )

    def __call__(self, inputs: Float32) -> Float32:
        """Return logits and features (n_windows, n_outputs) of normalised windows."""
        outputs = np.empty((len(inputs), self.n_outputs), np.float32)
        for start in range(0, len(inputs), _MAX_TENSORFLOW_BATCH):
            part = slice(start, start + _MAX_TENSORFLOW_BATCH)
            outputs[part] = self._call(inputs[part]).numpy()
        return outputs


class Classifier:
    """Windows to calibrated probabilities. It may be used from several threads at once.

    Normalisation, temperature and softmax are computed here in floating point, alike for every backend: a softmax in
    int8 would have steps of 1/256 and exact zeros.
    """

    def __init__(self, bundle: Bundle, backend: str, network: Network) -> None:
        self.bundle = bundle
        self.backend = backend
        self._network = network

    def predict(self, windows: Float32) -> Predictions:
        """Return the predictions for windows (n_windows, window_samples, n_channels) in g and rad/s."""
        return self.predict_with_features(windows)[0]

    def predict_with_features(self, windows: Float32) -> tuple[Predictions, Float32]:
        """Return ``predict``, and the features (n_windows, n_features); a bundle without ``familiar`` has none."""
        bundle = self.bundle
        outputs = self._network(bundle.spec.norm.apply(windows))
        logits, features = outputs[:, : len(bundle.outputs)], outputs[:, len(bundle.outputs) :]
        predictions = to_predictions(logits, bundle.temperature, len(bundle.labels))
        if bundle.familiar is not None:
            predictions = replace(predictions, unfamiliar=bundle.familiar.unfamiliar(logits, features))
        return predictions, features


def to_predictions(logits: Float32, temperature: float, n_labels: int | None = None) -> Predictions:
    """Return calibrated probabilities of logits (n_windows, n_outputs).

    The method is temperature scaling: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    No window is unfamiliar.

    Args:
        logits: Of labels and states.
        temperature: Divisor of the logits.
        n_labels: Number of labels, which are the first outputs; the others are states. None: all are labels.

    """
    scaled = logits.astype(np.float64) / temperature
    odds = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
    of_labels = probabilities[:, :n_labels]
    output = probabilities.argmax(axis=1)
    label = np.where(output < of_labels.shape[1], output, UNKNOWN_INDEX)
    return Predictions(probabilities, label, of_labels.max(axis=1), np.zeros(len(logits), np.bool_))


def open_classifier(bundle: Bundle, backend: str = "auto") -> Classifier:
    """Return a classifier that computes the bundle's network on a backend.

    Args:
        bundle: A loaded bundle.
        backend: One of ``bundle.BACKEND_FILES``, or ``auto``: what ``Bundle.best_backend`` says.

    Raises:
        BundleError: The bundle has no file for the backend, or the network's input or output does not fit the bundle.
        ConfigError: The backend is unknown or not installed.

    """
    if backend == "auto":
        backend = bundle.best_backend
    if backend not in BACKEND_FILES:
        raise ConfigError(f"backend {backend!r} is not one of auto, {', '.join(BACKEND_FILES)}")
    path = bundle.path / BACKEND_FILES[backend]
    if path.name not in bundle.files:
        reason = f" ({bundle.missing[path.name]})" if path.name in bundle.missing else ""
        others = ", ".join(other for other, file in BACKEND_FILES.items() if file in bundle.files)
        raise BundleError(f"{bundle.path}: {path.name} is missing{reason}; choose another --backend: {others}")
    network = _load_network(bundle, backend)
    expected = (bundle.spec.window_samples, bundle.spec.n_channels)
    if network.input_shape != expected:
        raise BundleError(f"{path}: its input is {network.input_shape}, but windows of bundle.json are {expected}")
    n_features = 0 if bundle.familiar is None else bundle.familiar.n_features
    if network.n_outputs != len(bundle.outputs) + n_features:
        parts = [f"{len(bundle.labels)} labels"]
        parts += [f"{len(bundle.states)} states"] if bundle.states else []
        parts += [f"{n_features} features (familiar.means)" if n_features else "no features (field familiar)"]
        raise BundleError(
            f"{path}: it has {network.n_outputs} outputs, but bundle.json has {', '.join(parts)}; restore the bundle's "
            "files, or train it again"
        )
    return Classifier(bundle, backend, network)


def _load_network(bundle: Bundle, backend: str) -> Network:
    file = BACKEND_FILES[backend]
    try:
        return TensorFlowNetwork(bundle.path / file) if backend == "tensorflow" else LiteRTNetwork(bundle.read(file))
    except ConfigError as error:
        alternative = ", or choose --backend litert" if bundles.LITERT in bundle.files else ""
        raise ConfigError(f"{error}{alternative}") from error
    except BundleError:
        raise
    except Exception as error:  # native code and Keras raise whatever they find
        raise BundleError(
            f"{bundle.path / file}: the {backend} backend cannot load it: {one_line(error)}; restore the "
            "bundle's files, or train it again"
        ) from error


def load_classifier(model: str | Path, backend: str = "auto") -> Classifier:
    """Find, load, open and verify a bundle, and return its classifier, ready to serve.

    Args:
        model: The name of a shipped bundle, or a folder.
        backend: As for ``open_classifier``.

    Raises:
        BundleError: There is no such bundle, it is damaged, or its golden streams give other results than when sealed.
        ConfigError: The backend is unknown or not installed.

    """
    classifier = open_classifier(bundles.load(shipped.find(str(model))), backend)
    golden.verify(classifier, BATCH_SIZES)
    return classifier


def seal_bundle(bundle: Bundle) -> Bundle:
    """Add golden streams to a bundle that ``bundle.save`` has just written, so that it can be loaded.

    Return the bundle, without its int8 file if that disagrees with the float32 model (see ``golden.seal``).
    """
    int8 = open_classifier(bundle, "int8") if bundles.INT8 in bundle.files else None
    return golden.seal(bundle, open_classifier(bundle, bundle.float_backend), int8)
