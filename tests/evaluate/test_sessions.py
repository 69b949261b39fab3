"""Sessions written as one letter a second: delays, flips and abstentions of their labels."""

from __future__ import annotations

import numpy as np
import pytest

from harstream.bundle import Bundle
from harstream.classifier import Classifier
from harstream.core.batches import Predictions
from harstream.core.smoothing import SmoothedLabels
from harstream.datasets.base import Recording, Segment
from harstream.datasets.windows import cut_windows, whole_streams
from harstream.evaluate import published
from harstream.evaluate import sessions as streaming
from harstream.evaluate.events import NO_LABEL
from harstream.evaluate.sessions import ActivityChange, count_flips, locate_windows, measure_delays, truth_track

from .test_events import track


@pytest.mark.parametrize(
    ("truth", "published_labels", "wanted"),
    [
        ("AAAABBBB", "AAAAAABB", [ActivityChange(1, 2.0)]),
        ("AAAABBBB", "AAAABBBB", [ActivityChange(1, 0.0)]),
        ("AAAABBBB", "AABBBBBB", [ActivityChange(1, 0.0)]),  # it stood already
        ("AA..BBBB", "AAAAABBB", [ActivityChange(1, 1.0)]),  # the change is where the new segment begins
        ("AA??BBBB", "AAAAABBB", [ActivityChange(1, 1.0)]),
        ("AAAABBAA", "AAAAAABA", [ActivityChange(1, None), ActivityChange(0, 1.0)]),  # too late is missed
        ("AAAABBBB", "AAAA????", [ActivityChange(1, None)]),
        ("AAA..AAA", "AAABBAAA", []),
        ("AAAABBBB", "", [ActivityChange(1, None)]),
    ],
)
def test_a_delay_is_from_the_change_to_its_label(
    truth: str, published_labels: str, wanted: list[ActivityChange]
) -> None:
    assert measure_delays(track(truth).join_touching(), track(published_labels)) == wanted


@pytest.mark.parametrize(
    ("truth", "published_labels", "wanted"),
    [
        ("AAAABBBB", "AAAABBBB", 0),
        ("AAAABBBB", "AAAAAABB", 0),  # the label arrives: no flip
        ("AAAABBBB", "AAAACCBB", 0),
        ("AAAABBBB", "AAAAACBB", 1),  # after a wrong label
        ("AAAAAAAA", "AABAABAA", 4),
        ("AAAAAAAA", "AA?AAAAA", 2),  # to UNKNOWN and back
        ("AAAA....", "AAAACBCB", 0),  # the truth is not known there
        ("AAAAAAAA", "..AAAAAA", 0),
    ],
)
def test_a_flip_is_a_change_that_no_activity_asked_for(truth: str, published_labels: str, wanted: int) -> None:
    assert count_flips(track(truth).join_touching(), track(published_labels)) == wanted


def test_windows_lie_inside_one_activity_or_partly_in_what_the_model_does_not_know() -> None:
    truth = track("AAAA??BB..")
    start = np.array([0, 1, 3, 4, 6, 7]) * 10**9
    label, other = locate_windows(truth.join_touching(), start, start + 2 * 10**9, 50.0)
    assert label.tolist() == [0, 0, NO_LABEL, NO_LABEL, 1, NO_LABEL]
    assert other.tolist() == [0, 0, 0.5, 1, 0, 0]


@pytest.fixture
def walks() -> list[Recording]:
    """Return two recordings with a pause, an activity that the bundle does not know, and two that it knows."""
    rng = np.random.default_rng(5)
    recordings = []
    for name, rate_hz in (("a", 50.0), ("b", 40.0)):
        n = round(40 * rate_hz)
        samples = rng.normal(scale=0.2, size=(n, 6))
        samples[:, 0] += 1
        bounds = [round(second * rate_hz) for second in (1, 14, 17, 30, 40)]
        segments = (
            Segment(bounds[0], bounds[1], "SITTING"),
            Segment(bounds[1], bounds[2], "SIT_TO_STAND"),
            Segment(bounds[2], bounds[3], "STANDING"),
        )
        recordings.append(Recording(f"{name}_1", name, rate_hz, samples.astype(np.float32), segments))
    return recordings


def test_the_windows_scored_are_those_training_cuts(walks: list[Recording], classifier: Classifier) -> None:
    bundle = classifier.bundle
    cuts = cut_windows(whole_streams(walks), bundle.spec, bundle.labels)
    assert len(cuts) > 20
    stream = streaming.score_streams(walks, classifier)
    assert np.concatenate([session.true_label for session in stream.sessions]).tolist() == cuts.label.tolist()
    guess = classifier.predict(cuts.windows).label
    assert np.concatenate([session.predicted_label for session in stream.sessions]).tolist() == guess.tolist()
    assert stream.single.scores.windows == stream.published.scores.windows == len(cuts)


def scripted(monkeypatch: pytest.MonkeyPatch, script: dict[float, tuple[str, float]]) -> None:
    """Publish the label and confidence of ``script`` from each of its times (in seconds) on."""
    real = published.label_recording

    def label_recording(recording: Recording, classifier: Classifier, start_ns: int = 0) -> published.Published:
        result = real(recording, classifier, start_ns)
        labels = classifier.bundle.labels
        times = np.array(sorted(script))
        index = np.searchsorted(times, result.windows.end_ns / 1e9, side="right") - 1
        chosen = [script[times[i]] for i in index]
        label = np.array([labels.index(name) if name in labels else -1 for name, _ in chosen], np.int64)
        confidence = np.array([value for _, value in chosen], np.float32)
        guess = np.where(label < 0, labels.index("STANDING"), label)
        predictions = Predictions(result.predictions.probabilities, guess, confidence, np.zeros(len(guess), np.bool_))
        return published.Published(result.windows, predictions, SmoothedLabels(label, confidence), (), predictions)

    monkeypatch.setattr(published, "label_recording", label_recording)


def test_unknown_counts_as_wrong_and_is_counted_by_place(
    walks: list[Recording], classifier: Classifier, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, {0: ("SITTING", 0.9), 14: ("UNKNOWN", 0.4), 19.4: ("STANDING", 0.8), 35: ("SITTING", 0.6)})
    stream = streaming.score_streams(walks[:1], classifier)
    scores, single = stream.published.scores, stream.single.scores
    assert scores.unknown is not None
    # Windows end every 1.28 s: no window inside SITTING ends after 14 s, none inside STANDING before 19.56 s.
    assert scores.windows == single.windows == scores.confusion.sum() + scores.unknown.sum()
    assert scores.accuracy == 1.0
    assert stream.abstained["inside"][1] == 0
    windows, unknown = stream.abstained["mostly_other"]
    assert windows == unknown > 0
    [change] = stream.published.activity_changes
    assert (bundle.labels[change.label], 2 <= (change.delay_s or 0) <= 2.56 + 1.28) == ("STANDING", True)
    assert stream.published.missed == 0
    assert stream.published.label_changes == 3
    assert stream.published.flips == 0
    correct = {bundle.labels[i]: one.correct for i, one in enumerate(stream.published.events) if one.true}
    assert correct == {"SITTING": 1, "STANDING": 1}
    assert stream.published.reliability.error == pytest.approx(0.15, abs=0.03)


def test_the_stream_section_fits_into_json(
    walks: list[Recording], classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, {0: ("UNKNOWN", 0.2)})
    section = streaming.score_streams(walks, classifier).to_dict()
    assert section["sessions"] == 2
    assert section["minutes"] == pytest.approx(80 / 60)
    assert section["minutes_inside"] == pytest.approx(52 / 60)
    assert section["true_changes_per_minute"] == pytest.approx(2 / (80 / 60))
    assert section["unknown"]["inside"]["share"] == 1.0
    assert section["published"]["accuracy"] == 0.0
    assert section["published"]["delay_s"] == {"median": None, "p95": None}
    assert section["published"]["missed_changes"] == 2
    assert section["published"]["events"]["all"]["deleted"] == 4
    assert section["single_windows"]["delay_beyond_window_s"]["median"] == pytest.approx(-section["window_s"])


def test_a_track_of_the_truth_has_the_times_of_the_recording(walks: list[Recording]) -> None:
    truth = truth_track(walks[1], ["STANDING", "SITTING"])
    assert truth.label.tolist() == [1, NO_LABEL, 0]
    assert (truth.start_ns / 1e9).tolist() == [1, 14, 17]
    assert (truth.stop_ns / 1e9).tolist() == [14, 17, 30]
