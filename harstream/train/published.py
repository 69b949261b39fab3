"""What the daemon would publish of recordings: the same engine, network and encoding, without the broker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harstream.classifier import Classifier
from harstream.core.batches import Predictions, SampleBatch, WindowBatch
from harstream.core.engine import Engine
from harstream.datasets.base import Recording
from harstream.wire import labels

_MESSAGE_SAMPLES = 8192


def stream(recording: Recording, classifier: Classifier, start_ns: int = 0) -> tuple[WindowBatch, Predictions]:
    """Every window that falls due when ``recording`` is worn live from ``start_ns`` on, and what is said of it."""
    engine = Engine(classifier.bundle.spec)
    batches = []
    for first in range(0, len(recording.samples), _MESSAGE_SAMPLES):
        samples = recording.samples[first : first + _MESSAGE_SAMPLES]
        t_ns = start_ns + round(first * 1e9 / recording.rate_hz)
        batches.append(engine.feed(SampleBatch.of(recording.name, samples, t_ns=t_ns, rate_hz=recording.rate_hz)))
    windows = WindowBatch.concatenate(batches)
    return windows, classifier.predict(windows.windows)


def messages(recordings: Sequence[Recording], classifier: Classifier) -> Iterator[tuple[str, bytes]]:
    """(device, payload) of every label, recording by recording, each beginning at event time 0."""
    bundle = classifier.bundle
    for recording in recordings:
        windows, predictions = stream(recording, classifier)
        for device, _, payload in labels.encode(windows, predictions, bundle.labels, bundle.id):
            yield device, payload
