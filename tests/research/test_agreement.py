"""The shipped model and the simulator, fitted independently, agree on the activities."""

from __future__ import annotations

import numpy as np
import pytest

from harstream.classifier import load_classifier
from harstream.simulate.parameters import ACTIVITIES
from research.simulator.agreement import confusion


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["litert", "int8"])
def test_the_shipped_model_agrees_with_the_script_away_from_transitions(backend: str):
    counts = confusion(load_classifier("waist", backend), range(24), seconds=900.0)
    assert counts.sum() > 12_000
    assert np.trace(counts) / counts.sum() >= 0.95
    # The agreement holds for each activity, not only on the whole.
    recall = dict(zip(ACTIVITIES, np.diag(counts) / counts.sum(axis=1), strict=True))
    assert min(recall.values()) >= 0.85, recall
