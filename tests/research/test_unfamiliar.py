"""Unfamiliar signals: each alteration does what its name says, and the share counts what is published."""

from __future__ import annotations

import numpy as np
import pytest

from harstream.core.labels import UNKNOWN_INDEX
from harstream.core.smoothing_section import Smoothing
from harstream.evaluate import published
from research.smoothing.unfamiliar import ALTERATIONS, main, unknown_share


@pytest.mark.parametrize("kind", ALTERATIONS)
def test_an_altered_recording_has_the_same_length_and_type(kind, subjects):
    samples = subjects[0].samples
    altered = ALTERATIONS[kind](samples, np.random.default_rng(0))
    assert altered.shape == samples.shape
    assert altered.dtype == np.float32
    assert np.array_equal(altered, samples) == (kind == "as it is")


def test_a_shuffled_second_holds_the_same_samples(subjects):
    samples = subjects[0].samples
    altered = ALTERATIONS["shuffled"](samples, np.random.default_rng(0))
    for first in range(0, len(samples), 50):
        part = slice(first, first + 50)
        np.testing.assert_array_equal(np.sort(altered[part], axis=0), np.sort(samples[part], axis=0))


def test_the_share_is_that_of_windows_published_as_unknown(classifier, subjects):
    smoothing = Smoothing("none", 0.7)
    labels = np.concatenate(
        [published.label_recording(w, classifier, smoothing=smoothing).smoothed.label for w in subjects]
    )
    share = unknown_share(subjects, classifier, "as it is", smoothing)
    assert share == (labels == UNKNOWN_INDEX).mean() > 0
    assert unknown_share(subjects, classifier, "as it is", Smoothing()) == 0


def test_the_command_prints_a_row_for_each_kind_and_a_mistake_is_one_line(monkeypatch, random_bundle, subjects, capsys):
    monkeypatch.setattr("harstream.datasets.load", lambda data: subjects[:1])
    assert main(["--data", "csv:somewhere", "--model", str(random_bundle)]) == 0
    assert [line.split(" | ")[0] for line in capsys.readouterr().out.splitlines()[2:]] == [
        f"| {k}" for k in ALTERATIONS
    ]
    assert main(["--data", "csv:somewhere", "--model", "nowhere"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
