"""A classifier for each test of the daemon, and time enough to drain."""

from __future__ import annotations

from pathlib import Path

import pytest

from harstream.classifier import Classifier, load_classifier
from harstream.serve import daemon

from ..servers import DEADLINE_S


@pytest.fixture
def classifier(random_bundle: Path) -> Classifier:
    """A classifier of the test's own: a daemon that another test left running cannot use it."""
    return load_classifier(random_bundle)


@pytest.fixture(autouse=True)
def patient_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a draining daemon wait as long as the tests do: on a loaded machine a broker takes its time."""
    monkeypatch.setattr(daemon, "UNSUBSCRIBE_TIMEOUT_S", DEADLINE_S)
    monkeypatch.setattr(daemon, "DRAIN_TIMEOUT_S", DEADLINE_S)
