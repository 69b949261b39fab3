"""Labels out: one JSON message per classified window, and one per change of activity."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from harstream.core.batches import Predictions, WindowBatch
from harstream.core.events import EXIT, ActivityEvent
from harstream.core.labels import UNKNOWN
from harstream.core.smoothing import SmoothedLabels


def encode(
    windows: WindowBatch, predictions: Predictions, posteriors: SmoothedLabels, labels: Sequence[str], model: str
) -> list[bytes]:
    """The payload of each window, in order. ``model`` is the bundle's id.

    ``label`` and ``confidence`` are what is believed, ``probabilities`` what the network says of this window.
    """
    rows = np.round(predictions.probabilities.astype(np.float64), 4).tolist()
    starts = (np.round(windows.start_ns / 1e3) / 1e6).tolist()
    ends = (np.round(windows.end_ns / 1e3) / 1e6).tolist()
    said = (*labels, UNKNOWN)  # UNKNOWN's index is -1
    names = [said[index] for index in posteriors.label.tolist()]
    confidences = np.round(posteriors.confidence.astype(np.float64), 4).tolist()
    encode_one = msgspec.json.encode
    return [
        encode_one(
            {
                "t": end,
                "label": name,
                "confidence": confidence,
                "probabilities": dict(zip(labels, row, strict=True)),
                "window": (start, end),
                "model": model,
            }
        )
        for name, confidence, row, start, end in zip(names, confidences, rows, starts, ends, strict=True)
    ]


def encode_event(event: ActivityEvent, labels: Sequence[str], model: str) -> bytes:
    """The payload of a change: ``t`` is when the device entered or exited the activity, not when that was known."""
    payload = {
        "t": round(event.t_ns / 1e3) / 1e6,
        "event": event.kind,
        "label": labels[event.label],
        "confidence": round(event.confidence, 4),
        "model": model,
    }
    if event.kind == EXIT:
        payload["duration_s"] = round(event.duration_s, 6)
    return msgspec.json.encode(payload)
