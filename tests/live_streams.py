"""The messages of subjects, and the labels that engine, classifier and smoother give them without a broker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from harstream.classifier import Classifier
from harstream.core.batches import SampleBatch
from harstream.core.engine import Engine
from harstream.datasets.base import Recording
from harstream.publish import ENCODERS

from .constants import T0_NS

PER_MESSAGE = 25

Label = tuple[str, float, str, float, list[float]]  # device, t, label, confidence, probabilities


def messages(subjects: Sequence[Recording], payload: str = "json", t0_ns: int = T0_NS) -> Iterator[tuple[str, bytes]]:
    """Yield (topic, payload) of all messages, the first at event time ``t0_ns``; those of the subjects alternate."""
    for first in range(0, max(len(subject.samples) for subject in subjects), PER_MESSAGE):
        for subject in subjects:
            samples = subject.samples[first : first + PER_MESSAGE]
            if len(samples):
                t_ns = t0_ns + round(first * 1e9 / subject.rate_hz)
                yield f"wearables/{subject.name}/imu", ENCODERS[payload](t_ns, subject.rate_hz, samples)


def expected(subjects: Sequence[Recording], classifier: Classifier) -> list[Label]:
    """Return the labels of all windows of each subject's whole recording, fed to the engine at once."""
    labels = []
    names = classifier.bundle.published_labels
    for subject in subjects:
        engine, smoother = Engine(classifier.bundle.spec), classifier.bundle.smoother()
        due = engine.feed(SampleBatch.from_message(subject.name, subject.samples, t_ns=T0_NS, rate_hz=subject.rate_hz))
        labelled = smoother.label(due, classifier.predict(due.windows))
        smoothed, probabilities = labelled.smoothed, labelled.predictions.probabilities
        for i in range(len(due)):
            label, confidence = names[smoothed.label[i]], float(smoothed.confidence[i])
            labels.append((subject.name, due.end_ns[i] / 1e9, label, confidence, probabilities[i].tolist()))
    return labels


def assert_labels(received: Sequence[tuple[str, dict[str, Any]]], wanted: Sequence[Label]) -> None:
    """Assert that each wanted label was received exactly once, and those of a device in order of time."""
    assert len(received) == len(wanted)
    for device in {label[0] for label in wanted}:
        messages = [message for sender, message in received if sender == device]
        labels = [label for label in wanted if label[0] == device]
        np.testing.assert_allclose(
            [message["t"] for message in messages], [label[1] for label in labels], rtol=0, atol=2e-6
        )
        assert [message["label"] for message in messages] == [label[2] for label in labels]
        np.testing.assert_allclose(
            [message["confidence"] for message in messages], [label[3] for label in labels], atol=1e-3
        )
        rows = [list(message["probabilities"].values()) for message in messages]
        np.testing.assert_allclose(rows, [label[4] for label in labels], atol=1e-3)
