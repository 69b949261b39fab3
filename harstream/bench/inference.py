"""Inference: windows per second of the classifier on one thread.

The ceiling is the bare LiteRT interpreter with the same network and the same windows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from harstream import bundle as bundles
from harstream import golden
from harstream.bundle import Bundle
from harstream.classifier import BATCH_SIZES, open_classifier
from harstream.core.batches import Float32

#: Backend -> file of its network in the bundle.
FILES = {"litert": bundles.LITERT, "int8": bundles.INT8}
_BATCH = BATCH_SIZES[0]


@dataclass(frozen=True, slots=True)
class Inference:
    """Result of one measurement."""

    windows_s: float  # of the classifier
    bare_windows_s: float  # of the bare interpreter


def windows_of(bundle: Bundle, n_windows: int) -> Float32:
    """Return windows (n_windows, window_samples, n_channels) of synthetic streams, repeated as often as needed."""
    windows = np.concatenate(
        [golden.cut_windows(bundle.spec, *golden.synthetic_stream(bundle.spec, k)) for k in range(4)]
    )
    return windows[np.arange(n_windows) % len(windows)]


def measure(bundle: Bundle, backend: str, n_windows: int) -> Inference:
    """Measure classifier and bare interpreter by turns, so that both run under the same conditions."""
    classifier = open_classifier(bundle, backend)
    interpreter = Interpreter(model_content=bundle.read(FILES[backend]), num_threads=1)
    source, sink = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    interpreter.resize_tensor_input(source, [_BATCH, bundle.spec.window_samples, bundle.spec.n_channels])
    interpreter.allocate_tensors()
    windows = windows_of(bundle, n_windows - n_windows % _BATCH)
    inputs = bundle.spec.norm.apply(windows)

    def bare() -> None:
        for start in range(0, len(inputs), _BATCH):
            interpreter.set_tensor(source, inputs[start : start + _BATCH])
            interpreter.invoke()
            interpreter.get_tensor(sink)

    def through_classifier() -> None:
        classifier.predict(windows)

    seconds = {bare: 0.0, through_classifier: 0.0}
    for number in range(5):  # the first turn is the warm-up
        for run in (bare, through_classifier):
            began = time.perf_counter()
            run()
            seconds[run] += (time.perf_counter() - began) * (number > 0)
    return Inference(4 * len(windows) / seconds[through_classifier], 4 * len(windows) / seconds[bare])
