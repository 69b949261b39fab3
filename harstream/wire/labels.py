"""Encoders of what harstream publishes: one JSON message for each classified window and for each activity event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from harstream.core.batches import Predictions, WindowBatch
from harstream.core.events import EXIT, ActivityEvent
from harstream.core.problems import first_problem
from harstream.core.rows import indices
from harstream.core.smoothing import SmoothedLabels

#: Equal labels that are further apart in event time, in seconds, are not in a row.
_MAX_APART_S = 600.0


def are_in_a_row(before_s: float, t_s: float) -> bool:
    """Return whether a label at event time ``t_s`` continues an equal one; if not, the device's clock has jumped."""
    return 0 <= t_s - before_s <= _MAX_APART_S


def encode(
    windows: WindowBatch,
    predictions: Predictions,
    smoothed: SmoothedLabels,
    published_labels: Sequence[str],
    model: str,
) -> list[bytes]:
    """Return one JSON payload for each window, in order.

    ``label`` and ``confidence`` in it are the smoothed ones, ``probabilities`` are the network's for this window alone,
    of the labels only.
    ``problem`` is there only if the device has a problem, and names the most severe one.

    Args:
        windows: The classified windows.
        predictions: What the network predicts of them.
        smoothed: Their smoothed labels, indices into ``published_labels``.
        published_labels: ``Bundle.published_labels``: the labels, then UNKNOWN, which index -1 names.
        model: ``Bundle.id``.

    """
    labels = published_labels[:-1]  # UNKNOWN has no probability
    rows = np.round(predictions.probabilities[:, : len(labels)].astype(np.float64), 4).tolist()
    starts = (np.round(windows.start_ns / 1e3) / 1e6).tolist()
    ends = (np.round(windows.end_ns / 1e3) / 1e6).tolist()
    names = [published_labels[index] for index in smoothed.label.tolist()]
    confidences = np.round(smoothed.confidence.astype(np.float64), 4).tolist()
    contents: list[dict[str, Any]] = [
        {
            "t": end,
            "label": name,
            "confidence": confidence,
            "probabilities": dict(zip(labels, row, strict=True)),
            "window": (start, end),
            "model": model,
        }
        for name, confidence, row, start, end in zip(names, confidences, rows, starts, ends, strict=True)
    ]
    for index in indices(windows.problems).tolist():
        problem = first_problem(int(windows.problems[index]))
        assert problem is not None
        contents[index]["problem"] = problem.public_name
    return list(map(msgspec.json.encode, contents))


def encode_event(event: ActivityEvent, outputs: Sequence[str], model: str) -> bytes:
    """Return the JSON payload of an event; ``outputs`` are ``Bundle.outputs``.

    ``t`` in it is the event time at which the device entered or exited the activity, or the state between activities,
    not the time when that became certain.
    """
    payload = {
        "t": round(event.t_ns / 1e3) / 1e6,
        "event": event.kind,
        "label": outputs[event.label],
        "confidence": round(event.confidence, 4),
        "model": model,
    }
    if event.kind == EXIT:
        payload["duration_s"] = round(event.duration_s, 6)
    return msgspec.json.encode(payload)
