"""Classifier of each test of the daemon, and a drain without limit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harstream.classifier import Classifier, load_classifier
from harstream.serve import daemon, exchange

from ..servers import DEADLINE_S
from .daemons import WrappedClassifier


@pytest.fixture
def classifier(random_bundle: Path) -> Classifier:
    """Return a classifier of the test's own, which a daemon left over from another test cannot use."""
    return load_classifier(random_bundle)


@pytest.fixture
def other_classifier(classifier) -> Classifier:
    """Return another model for the same windows, which finds the labels in another order."""
    other = WrappedClassifier(classifier)
    other.bundle = dataclasses.replace(classifier.bundle, name="other", labels=classifier.bundle.labels[::-1])
    return other


@pytest.fixture(autouse=True)
def patient_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a draining daemon wait as long as a test may, because a broker on a loaded machine is slow."""
    monkeypatch.setattr(daemon, "UNSUBSCRIBE_TIMEOUT_S", DEADLINE_S)
    monkeypatch.setattr(exchange, "DRAIN_TIMEOUT_S", DEADLINE_S)
