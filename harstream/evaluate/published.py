"""Labels and events that the daemon would publish for a recording, computed without a broker.

``harstream run`` receives samples by MQTT, and publishes labels and events. The functions here take the samples from a
recording instead, as if a device sent them live, and pass them through the parts that the daemon uses: Engine, network,
Smoother and encoder. So what ``harstream evaluate --stream`` scores, and what ``--labels`` writes, is what a subscriber
would have received.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harstream.classifier import Classifier
from harstream.core.batches import Bool, Predictions, WindowBatch
from harstream.core.events import ActivityEvent
from harstream.core.problems import Problem
from harstream.core.smoothing import SmoothedLabels
from harstream.core.smoothing_section import Smoothing
from harstream.datasets.base import Recording
from harstream.datasets.windows import RecordingStream, due_windows
from harstream.wire import labels


@dataclass(frozen=True, slots=True)
class Published:
    """Labels and events of one recording; all but ``events`` describe the same n_windows due windows."""

    windows: WindowBatch
    predictions: Predictions  # as the message has them: of the network, calibrated; uniform where untrusted
    smoothed: SmoothedLabels  # label and confidence of the message; label UNKNOWN_INDEX: UNKNOWN
    events: tuple[ActivityEvent, ...]  # in order of publication
    alone: Predictions  # of the network for each window by itself

    @property
    def unfamiliar(self) -> Bool:
        """(n_windows,) True: the window, or most windows of the device, are unlike all training data."""
        persists = self.windows.problems & int(Problem.UNFAMILIAR) != 0
        return np.asarray(persists | self.alone.unfamiliar, np.bool_)


def label_recording(
    recording: Recording, classifier: Classifier, start_ns: int = 0, smoothing: Smoothing | None = None
) -> Published:
    """Return what the daemon would publish while a device sends ``recording`` live.

    The device is evicted after its last sample, as after a long silence, so the last event is an exit.

    Args:
        recording: Recording to send.
        classifier: Bundle and network.
        start_ns: Event time of the first sample.
        smoothing: Smoothing to use instead of the bundle's.

    """
    windows = due_windows(RecordingStream.whole(recording), classifier.bundle.spec, start_ns)
    predictions = classifier.predict(windows.windows)
    smoother = classifier.bundle.smoother(smoothing)
    labelled = smoother.label(windows, predictions)
    events = (*labelled.events, *smoother.evict([recording.name]))
    return Published(labelled.windows, labelled.predictions, labelled.smoothed, events, predictions)


def label_messages(recordings: Sequence[Recording], classifier: Classifier) -> Iterator[tuple[str, bytes]]:
    """Yield (device, payload) of every published label, recording by recording; each starts at event time 0."""
    bundle = classifier.bundle
    for recording in recordings:
        result = label_recording(recording, classifier)
        payloads = labels.encode(
            result.windows, result.predictions, result.smoothed, bundle.published_labels, bundle.id
        )
        yield from zip(result.windows.devices, payloads, strict=True)
