"""What the daemon would publish of recordings: the same engine, network, smoother and encoding, without the broker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harstream.classifier import Classifier
from harstream.core.batches import Predictions, WindowBatch
from harstream.core.events import ActivityEvent
from harstream.core.smoothing import SmoothedLabels, Smoothing
from harstream.core.spec import SignalSpec
from harstream.datasets import windows
from harstream.datasets.base import Recording
from harstream.wire import labels


@dataclass(frozen=True, slots=True)
class Published:
    """Everything that is said of one recording; all but ``events`` are aligned, window by window."""

    windows: WindowBatch
    predictions: Predictions  # the network's own, calibrated
    beliefs: SmoothedLabels  # what is published as label and confidence; label -1 is UNKNOWN
    events: tuple[ActivityEvent, ...]  # in order of publication


def stream(
    recording: Recording, classifier: Classifier, start_ns: int = 0, smoothing: Smoothing | None = None
) -> Published:
    """Every window that falls due when ``recording`` is worn live from ``start_ns`` on, and what is said of it.

    ``smoothing`` overrules the bundle's. It ends as where the daemon evicts the device, so the last event is an exit.
    """
    heard = due(recording, classifier.bundle.spec, start_ns)
    predictions = classifier.predict(heard.windows)
    smoother = classifier.bundle.smoother(smoothing)
    beliefs, events = smoother.feed(heard.devices, predictions.probabilities, heard.start_ns, heard.end_ns)
    return Published(heard, predictions, beliefs, (*events, *smoother.evict([recording.name])))


def due(recording: Recording, spec: SignalSpec, start_ns: int = 0) -> WindowBatch:
    """Every window that falls due when ``recording`` is worn live from ``start_ns`` on."""
    [whole] = windows.whole([recording])
    return windows.due(whole, spec, start_ns)


def messages(recordings: Sequence[Recording], classifier: Classifier) -> Iterator[tuple[str, bytes]]:
    """(device, payload) of every label, recording by recording, each beginning at event time 0."""
    bundle = classifier.bundle
    for recording in recordings:
        said = stream(recording, classifier)
        payloads = labels.encode(said.windows, said.predictions, said.beliefs, bundle.published_labels, bundle.id)
        yield from zip(said.windows.devices, payloads, strict=True)
