"""Labels out: one JSON message per classified window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from harstream.core.batches import Predictions, WindowBatch


def encode(
    windows: WindowBatch, predictions: Predictions, labels: Sequence[str], model: str
) -> Iterator[tuple[str, str, bytes]]:
    """(device, label, payload) of each window, in order. ``model`` is the bundle's id."""
    rows = np.round(predictions.probabilities.astype(np.float64), 4).tolist()
    starts = (np.round(windows.start_ns / 1e3) / 1e6).tolist()
    ends = (np.round(windows.end_ns / 1e3) / 1e6).tolist()
    names = [labels[index] for index in predictions.label.tolist()]
    confidences = np.round(predictions.confidence.astype(np.float64), 4).tolist()
    for i, device in enumerate(windows.devices):
        payload = {
            "t": ends[i],
            "label": names[i],
            "confidence": confidences[i],
            "probabilities": dict(zip(labels, rows[i], strict=True)),
            "window": [starts[i], ends[i]],
            "model": model,
        }
        yield device, names[i], msgspec.json.encode(payload)
