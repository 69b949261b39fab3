"""The same subjects, published through a broker and fed to the bare core."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from harstream.classifier import Classifier
from harstream.core.batches import SampleBatch
from harstream.core.engine import Engine
from harstream.datasets.base import Recording
from harstream.publish import ENCODERS

#: Event time 0 of every subject: long ago, which may not matter.
T0_NS = 1_600_000_000_000_000_000
PER_MESSAGE = 25

Label = tuple[str, float, str, float, list[float]]  # device, t, label, confidence, probabilities


def messages(subjects: Sequence[Recording], payload: str = "json") -> Iterator[tuple[str, bytes]]:
    """(topic, payload), the subjects' messages interleaved."""
    for first in range(0, max(len(subject.samples) for subject in subjects), PER_MESSAGE):
        for subject in subjects:
            samples = subject.samples[first : first + PER_MESSAGE]
            if len(samples):
                t_ns = T0_NS + round(first * 1e9 / subject.rate_hz)
                yield f"wearables/{subject.name}/imu", ENCODERS[payload](t_ns, subject.rate_hz, samples)


def expected(subjects: Sequence[Recording], classifier: Classifier) -> list[Label]:
    """What the bare engine, network and smoother say of each subject's whole recording, window by window."""
    said = []
    for subject in subjects:
        engine = Engine(classifier.bundle.spec)
        due = engine.feed(SampleBatch.from_message(subject.name, subject.samples, t_ns=T0_NS, rate_hz=subject.rate_hz))
        made = classifier.predict(due.windows)
        smoother = classifier.bundle.smoother()
        believed, _ = smoother.feed(due.devices, made.probabilities, due.start_ns, due.end_ns)
        for i in range(len(due)):
            name = classifier.bundle.published_labels[believed.label[i]]
            said.append(
                (subject.name, due.end_ns[i] / 1e9, name, float(believed.confidence[i]), made.probabilities[i].tolist())
            )
    return said


def assert_labels(heard: Sequence[tuple[str, dict[str, Any]]], wanted: Sequence[Label]) -> None:
    """Every wanted label was heard exactly once, each device's in order of time."""
    assert len(heard) == len(wanted)
    for device in {label[0] for label in wanted}:
        ours = [message for at, message in heard if at == device]
        theirs = [label for label in wanted if label[0] == device]
        np.testing.assert_allclose(
            [message["t"] for message in ours], [label[1] for label in theirs], rtol=0, atol=2e-6
        )
        assert [message["label"] for message in ours] == [label[2] for label in theirs]
        np.testing.assert_allclose(
            [message["confidence"] for message in ours], [label[3] for label in theirs], atol=1e-3
        )
        rows = [list(message["probabilities"].values()) for message in ours]
        np.testing.assert_allclose(rows, [label[4] for label in theirs], atol=1e-3)
