"""Scoring a model on recordings, on whole sessions, and on windows that their publisher cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harstream.bundle import Bundle
from harstream.classifier import Classifier
from harstream.core.spec import DEFAULT_CHANNELS, Normalisation
from harstream.datasets.base import PrecutWindows, Recording, Segment
from harstream.errors import DatasetError
from harstream.evaluate import scoring

from ..fakes import FunctionNetwork

NAMES = ("LAYING", "WALKING", "DANCING")


def by_sign(inputs: np.ndarray) -> np.ndarray:
    """Return logits for the first label if the mean of the first channel is positive, else for the fourth."""
    logits = np.zeros((len(inputs), 6), np.float32)
    positive = inputs[:, :, 0].mean(axis=1) > 0
    logits[positive, 0] = 3
    logits[~positive, 3] = 3
    return logits


def classifier_of(bundle: Bundle, **signal) -> Classifier:
    spec = replace(bundle.spec, **signal)
    return Classifier(replace(bundle, spec=spec), "litert", FunctionNetwork(by_sign))


def windows(n: int = 12, subject: tuple[str, ...] | None = None, **fields) -> PrecutWindows:
    values = np.zeros((n, 128, 9), np.float32)
    values[:, :, DEFAULT_CHANNELS.index("total_acc_z")] = np.where(np.arange(n) % 3 == 1, 1, -1)[:, None]
    names = None if subject is None else np.array([subject[i % len(subject)] for i in range(n)])
    return PrecutWindows(values, np.arange(n) % 3, NAMES, names, **fields)


def test_published_windows_go_to_the_network_by_channel_and_label_name(bundle: Bundle) -> None:
    one = classifier_of(bundle, channels=("total_acc_z",), normalisation=Normalisation((0.0,), (1.0,)))
    result = scoring.score_windows(windows(), one, "uci-har:x")
    # WALKING is predicted as WALKING, LAYING as SITTING. The bundle does not know DANCING.
    assert result.scores.windows == 8
    assert result.scores.accuracy == 0.5
    assert result.scores.confusion[one.bundle.labels.index("LAYING"), one.bundle.labels.index("SITTING")] == 4
    assert result.by_subject == {}
    assert result.stream is None
    assert "only the network" in result.notes[0]
    assert "4 windows left out" in result.notes[1]
    assert "subjects are not given" in result.notes[2]


def test_published_windows_are_scored_by_subject_if_their_subjects_are_given(bundle: Bundle) -> None:
    one = classifier_of(bundle, channels=("total_acc_z",), normalisation=Normalisation((0.0,), (1.0,)))
    result = scoring.score_windows(windows(subject=("7", "8")), one, "uci-har:x")
    assert {name: scores.windows for name, scores in result.by_subject.items()} == {"7": 4, "8": 4}
    assert not any("subjects" in note for note in result.notes)


@pytest.mark.parametrize(
    ("signal", "fields", "message"),
    [
        ({"window_samples": 100, "stride_samples": 50}, {}, "windows of 128 samples, but random@0.0.1 needs 100"),
        ({"sample_rate_hz": 20.0}, {}, "50 Hz, but random@0.0.1 needs 20 Hz"),
        ({}, {"rate_hz": 100.0}, "100 Hz, but random@0.0.1 needs 50 Hz"),
    ],
)
def test_windows_that_do_not_fit_the_bundle_are_refused_naming_both(bundle: Bundle, signal, fields, message) -> None:
    with pytest.raises(DatasetError, match=message):
        scoring.score_windows(windows(**fields), classifier_of(bundle, **signal), "uci-har:x")


def test_data_without_a_known_activity_is_refused(bundle: Bundle, classifier: Classifier) -> None:
    foreign = replace(windows(), labels=("A", "B", "C"))
    with pytest.raises(DatasetError, match="no window lies inside an activity that random"):
        scoring.score_windows(foreign, classifier, "uci-har:x")
    recording = Recording("a", "a", 50.0, np.zeros((900, 6), np.float32), (Segment(0, 900, "DANCING"),))
    for function in (scoring.score_recordings, scoring.score_sessions):
        with pytest.raises(DatasetError, match="no window lies inside"):
            function([recording], classifier, "csv:x")


def seated(subject: str) -> Recording:
    rng = np.random.default_rng(int(subject))
    samples = rng.normal(scale=0.1, size=(1000, 6)).astype(np.float32)
    return Recording(f"{subject}_1", subject, 50.0, samples, (Segment(0, 1000, "SITTING"),))


def test_recordings_are_scored_by_window_and_by_subject(classifier: Classifier) -> None:
    result = scoring.score_recordings([seated("1"), seated("2")], classifier, "csv:x")
    assert result.scores.windows == 2 * 14
    assert {name: scores.windows for name, scores in result.by_subject.items()} == {"1": 14, "2": 14}
    assert result.scores.unknown is None
    assert result.to_dict()["by_wearer"]["1"]["windows"] == 14
    assert "stream" not in result.to_dict()


def test_sessions_are_scored_as_published(classifier: Classifier) -> None:
    result = scoring.score_sessions([seated("1"), seated("2")], classifier, "csv:x")
    assert result.stream is not None
    assert result.scores == result.stream.published.scores
    assert result.scores.windows == 2 * 14
    assert result.to_dict()["stream"]["sessions"] == 2
    assert len(result.to_dict()["confusion"]) == len(result.scores.labels)


def test_subjects_the_bundle_was_trained_on_are_pointed_out(classifier: Classifier) -> None:
    trained = replace(classifier.bundle, training={"data": "csv:mine", "subjects": ["2", "3"]})
    known = Classifier(trained, "litert", FunctionNetwork(by_sign))
    result = scoring.score_recordings([seated("1"), seated("2")], known, "csv:/elsewhere")
    assert any("1 of these 2 subjects" in note for note in result.notes)
    assert scoring.score_recordings([seated("1")], known, "csv:/elsewhere").notes == ()
    assert scoring.score_recordings([seated("2")], known, "hapt:x").notes == ()


def test_published_windows_of_people_the_bundle_was_trained_on_are_pointed_out(bundle: Bundle) -> None:
    """UCI HAR and HAPT have the same subjects under the same numbers."""
    one = classifier_of(bundle, channels=("total_acc_z",), normalisation=Normalisation((0.0,), (1.0,)))
    trained = replace(one.bundle, training={"data": "hapt:hapt.zip", "subjects": ["07"]})
    notes = scoring.score_windows(
        windows(subject=("07", "08")), Classifier(trained, "litert", FunctionNetwork(by_sign)), "uci-har:x"
    ).notes
    assert any("1 of these 2 subjects" in note for note in notes)


def test_without_a_gyroscope_that_the_bundle_needs_nothing_is_scored(classifier: Classifier) -> None:
    for function in (scoring.score_recordings, scoring.score_sessions):
        with pytest.raises(DatasetError, match="1_1: recorded without a gyroscope"):
            function([replace(seated("1"), has_gyro=False)], classifier, "actitracker:x")
