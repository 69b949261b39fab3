"""What the daemon would publish of recordings: the same engine, network, smoother and encoding, without the broker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harstream.classifier import Classifier
from harstream.core.batches import Predictions, SampleBatch, WindowBatch
from harstream.core.changes import Event
from harstream.core.engine import Engine
from harstream.core.smoothing import Beliefs, Smoothing
from harstream.datasets.base import Recording
from harstream.wire import labels

_MESSAGE_SAMPLES = 8192


@dataclass(frozen=True, slots=True)
class Published:
    """Everything that is said of one recording; all but ``events`` are aligned, window by window."""

    windows: WindowBatch
    predictions: Predictions  # the network's own, calibrated
    beliefs: Beliefs  # what is published as label and confidence; label -1 is UNKNOWN
    events: tuple[Event, ...]  # in order of publication


def stream(
    recording: Recording, classifier: Classifier, start_ns: int = 0, smoothing: Smoothing | None = None
) -> Published:
    """Every window that falls due when ``recording`` is worn live from ``start_ns`` on, and what is said of it.

    ``smoothing`` overrules the bundle's. It ends as where the daemon evicts the device, so the last event is an exit.
    """
    engine = Engine(classifier.bundle.spec)
    batches = []
    for first in range(0, len(recording.samples), _MESSAGE_SAMPLES):
        samples = recording.samples[first : first + _MESSAGE_SAMPLES]
        t_ns = start_ns + round(first * 1e9 / recording.rate_hz)
        batches.append(engine.feed(SampleBatch.of(recording.name, samples, t_ns=t_ns, rate_hz=recording.rate_hz)))
    windows = WindowBatch.concatenate(batches)
    predictions = classifier.predict(windows.windows)
    smoother = classifier.bundle.smoother(smoothing)
    beliefs, events = smoother.feed(windows.devices, predictions.probabilities, windows.start_ns, windows.end_ns)
    return Published(windows, predictions, beliefs, (*events, *smoother.evict([recording.name])))


def messages(recordings: Sequence[Recording], classifier: Classifier) -> Iterator[tuple[str, bytes]]:
    """(device, payload) of every label, recording by recording, each beginning at event time 0."""
    bundle = classifier.bundle
    for recording in recordings:
        said = stream(recording, classifier)
        for device, _, payload in labels.encode(said.windows, said.predictions, said.beliefs, bundle.labels, bundle.id):
            yield device, payload
