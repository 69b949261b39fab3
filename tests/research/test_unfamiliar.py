"""Recordings made strange: each way does what it says, and the share counts what is published."""

from __future__ import annotations

import numpy as np
import pytest

from harstream.core.labels import UNKNOWN_INDEX
from harstream.core.smoothing import Smoothing
from harstream.evaluate import published
from research.smoothing import unfamiliar as strangers
from research.smoothing.unfamiliar import STRANGERS


@pytest.mark.parametrize("kind", STRANGERS)
def test_a_stranger_is_as_long_and_of_the_same_type(kind, subjects):
    samples = subjects[0].samples
    made = STRANGERS[kind](samples, np.random.default_rng(0))
    assert made.shape == samples.shape
    assert made.dtype == np.float32
    assert np.array_equal(made, samples) == (kind == "as it is")


def test_a_shuffled_second_holds_the_same_samples(subjects):
    samples = subjects[0].samples
    made = STRANGERS["shuffled"](samples, np.random.default_rng(0))
    for first in range(0, len(samples), 50):
        part = slice(first, first + 50)
        np.testing.assert_array_equal(np.sort(made[part], axis=0), np.sort(samples[part], axis=0))


def test_the_share_is_that_of_windows_published_as_unknown(classifier, subjects):
    smoothing = Smoothing("none", 0.7)
    said = np.concatenate(
        [published.label_recording(w, classifier, smoothing=smoothing).smoothed.label for w in subjects]
    )
    share = strangers.unknown_share(subjects, classifier, "as it is", smoothing)
    assert share == (said == UNKNOWN_INDEX).mean() > 0
    assert strangers.unknown_share(subjects, classifier, "as it is", Smoothing()) == 0
