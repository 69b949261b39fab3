"""Smoothers on constructed recordings, and the choice between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from harstream.core.batches import Predictions
from harstream.core.labels import UNKNOWN_INDEX
from harstream.core.smoothing_section import Smoothing
from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording, Segment
from harstream.evaluate.sessions import Session
from harstream.train.fitting.prepare import smoothing_for
from research.smoothing import results, smoothers
from research.smoothing.smoothers import SessionCounts, SubjectStreams
from research.smoothing.streams import HeldOutStream

from ..constants import SECOND

LABELS = ("A", "B", "C")
SPEC = SignalSpec(window_samples=100, stride_samples=50)


def stream(segments: Sequence[tuple[int, str]], subject: str = "1", wrong: float = 0.0, seed: int = 0) -> HeldOutStream:
    """Make windows of 2 s, one per second, over (seconds, label) segments; unknown labels get a random prediction."""
    rng = np.random.default_rng(seed)
    bounds = np.concatenate([[0], np.cumsum([seconds for seconds, _ in segments])])
    parts = [
        Segment(50 * int(begin), 50 * int(end), label)
        for begin, end, (_, label) in zip(bounds[:-1], bounds[1:], segments, strict=True)
    ]
    recording = Recording(
        f"s{subject}-{seed}", subject, 50.0, np.zeros((50 * int(bounds[-1]), 6), np.float32), tuple(parts)
    )
    start_s = np.arange(0, bounds[-1] - 1)
    probabilities = np.empty((len(start_s), 3), np.float32)
    for i, start in enumerate(start_s):
        name = segments[int(np.searchsorted(bounds, start + 1, side="right")) - 1][1]
        sure, label = 0.9, LABELS.index(name) if name in LABELS else -1
        if label < 0:
            label, sure = int(rng.integers(3)), 0.45
        elif rng.random() < wrong:
            label = (label + 1) % 3
        probabilities[i] = (1 - sure) / 2
        probabilities[i, label] = sure
    guess = probabilities.argmax(axis=1)
    predictions = Predictions(probabilities, guess, probabilities.max(axis=1), np.zeros(len(guess), np.bool_))
    start_ns = start_s * SECOND
    times = start_ns, start_ns + 2 * SECOND
    return HeldOutStream(recording, *times, predictions, {"shuffled": predictions}, smoothing_for(SPEC))


def restless(n_subjects: int = 6) -> list[HeldOutStream]:
    """Make a minute or two of each subject; a tenth of the windows has a wrong prediction."""
    rng = np.random.default_rng(0)
    return [
        stream(
            [(int(rng.integers(15, 25)), LABELS[label]) for label in np.roll([0, 1, 2, 0, 1], number)] + [(6, "TO_A")],
            str(number),
            wrong=0.1,
            seed=number,
        )
        for number in range(n_subjects)
    ]


def test_all_streams_are_smoothed_at_once_as_each_would_be_alone() -> None:
    made = restless(3)
    together = SubjectStreams(made, LABELS, SPEC).sessions(Smoothing("hmm", 0.5))
    for one, session in zip(made, together, strict=True):
        (alone,) = SubjectStreams([one], LABELS, SPEC).sessions(Smoothing("hmm", 0.5))
        np.testing.assert_array_equal(alone.published.label, session.published.label)
        np.testing.assert_array_equal(alone.published_confidence, session.published_confidence)


@pytest.mark.parametrize("smoothing", [Smoothing("none", 0.6), Smoothing("hmm", 0.6)])
def test_events_give_each_window_the_label_that_caused_them(smoothing: Smoothing) -> None:
    subjects = SubjectStreams([stream([(10, "A"), (5, "A_TO_B"), (10, "B"), (10, "C")], wrong=0.1)], LABELS, SPEC)
    (smoothed,), events = subjects.smooth(smoothing)
    (only,) = events.values()
    np.testing.assert_array_equal(smoothers.labels_of_events(subjects.streams[0], only, 3), smoothed.label)


def test_labels_held_back_come_later_by_the_lag() -> None:
    subjects = SubjectStreams([stream([(10, "A"), (10, "B"), (10, "C")])], LABELS, SPEC)
    for lag in (0, 3):
        (session,), (late,) = subjects.held_back(Smoothing("hmm", fixed_lag_windows=lag))
        np.testing.assert_array_equal(late.published.label, session.published.label)
        np.testing.assert_array_equal(late.published.start_ns - session.published.start_ns, lag * SECOND)
        assert session.accuracy == 1


def test_streams_of_different_folds_have_each_their_own_smoothing() -> None:
    made = restless(3)
    each = [Smoothing(), Smoothing("hmm", 0.5), Smoothing()]
    together = SubjectStreams(made, LABELS, SPEC).sessions(each)
    for one, smoothing, session in zip(made, each, together, strict=True):
        (alone,) = SubjectStreams([one], LABELS, SPEC).sessions(smoothing)
        assert alone.name == session.name
        np.testing.assert_array_equal(alone.published.label, session.published.label)


def test_what_the_network_knows_beyond_the_labels_is_a_state_in_labels_and_events() -> None:
    made = stream([(10, "A"), (6, "C"), (10, "B")])
    output = made.predictions.probabilities.argmax(axis=1)
    predictions = replace(made.predictions, label=np.where(output == 2, UNKNOWN_INDEX, output))
    subjects = SubjectStreams([replace(made, predictions=predictions)], LABELS[:2], SPEC)
    for smoothing in (Smoothing(), Smoothing("hmm", 0.5)):
        (smoothed,), events = subjects.smooth(smoothing)
        assert set(smoothed.label.tolist()) == {0, 1, UNKNOWN_INDEX}
        (only,) = events.values()
        assert [event.label for event in only] == [0, 0, 2, 2, 1, 1]
        label = smoothers.labels_of_events(subjects.streams[0], only, 2)
        np.testing.assert_array_equal(label, smoothed.label)


def test_unknown_is_counted_inside_activities_and_apart_in_unknown_activities() -> None:
    subjects = SubjectStreams([stream([(10, "A"), (6, "A_TO_B"), (10, "B")])], LABELS, SPEC)
    (session,) = subjects.sessions(Smoothing("none", 0.6))
    assert SessionCounts.of(session) == SessionCounts(
        inside=18, right=18, unknown=0, other=7, unknown_other=6, delays_s=(1.0,)
    )
    (never,) = subjects.sessions(Smoothing())
    assert SessionCounts.of(never).unknown_other == 0


def test_of_those_that_never_abstain_the_most_accurate_is_chosen_unless_it_is_slow() -> None:
    own = SessionCounts(100, 90, 0, 10, 0, (2.0,))
    quick = SessionCounts(100, 95, 0, 10, 0, (2.5,))
    slow = SessionCounts(100, 99, 0, 10, 0, (3.5,))
    counts_of = {Smoothing("exponential", weight=0.8): [quick], Smoothing("exponential", weight=0.2): [slow]}
    assert smoothers.choose(counts_of, [own], [0], 1.0).weight == 0.8
    assert smoothers.choose(counts_of, [own], [0], 2.0).weight == 0.2


def test_of_those_that_abstain_the_one_is_best_that_abstains_in_unknown_activities_only() -> None:
    own = SessionCounts(100, 90, 0, 10, 0, (2.0,))
    counts = {
        0.4: SessionCounts(100, 92, 0, 10, 3, (2.0,)),
        0.5: SessionCounts(100, 91, 1, 10, 5, (2.0,)),
        0.6: SessionCounts(100, 91, 2, 10, 8, (2.0,)),  # abstains too often inside activities
        0.7: SessionCounts(100, 89, 1, 10, 9, (2.0,)),  # less accurate than single windows
        0.8: SessionCounts(100, 91, 1, 10, 9, (4.0,)),  # late
    }
    counts_of = {Smoothing("none", threshold): [tally] for threshold, tally in counts.items()}
    assert smoothers.choose(counts_of, [own], [0], 1.0).unknown_below == 0.5
    none_allowed = {smoothing: tally for smoothing, tally in counts_of.items() if smoothing.unknown_below > 0.5}
    assert smoothers.choose(none_allowed, [own], [0], 1.0).unknown_below in (0.6, 0.8)  # the most accurate


def test_only_the_sessions_asked_for_decide() -> None:
    own = [SessionCounts(10, 5, 0, 0, 0, (1.0,))] * 2
    good, bad = SessionCounts(10, 9, 0, 0, 0, (1.0,)), SessionCounts(10, 1, 0, 0, 0, (1.0,))
    one, other = Smoothing("exponential", weight=0.3), Smoothing("exponential", weight=0.6)
    counts_of = {one: [good, bad], other: [bad, good]}
    assert [smoothers.choose(counts_of, own, [index], 1.0) for index in (0, 1)] == [one, other]


def test_a_subject_is_counted_once_a_split_by_what_was_chosen_on_others(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [*restless(4), *(replace(one, recording=replace(one.recording, name="again")) for one in restless(1))]
    always_unknown, counted = Smoothing("none", 0.99), []

    class Watched(SubjectStreams):
        def scores(self, sessions: Sequence[Session]) -> dict[str, Any]:
            counted.append(sessions)
            return super().scores(sessions)

    def choose(counts_of: object, own: object, which: Sequence[int], stride_s: float) -> Smoothing:
        return always_unknown if "0" in {made[index].recording.subject for index in which} else Smoothing()

    monkeypatch.setattr(smoothers, "choose", choose)
    row = smoothers.compare(Watched(made, LABELS, SPEC), "none", False)
    assert len(counted) == smoothers.SPLITS
    for smoothing in (always_unknown, Smoothing()):
        assert {"smoothing": smoothing.to_dict(), "times": smoothers.SPLITS} in row["chosen"]
    for sessions in counted:
        assert sorted(session.name for session in sessions) == sorted(one.recording.name for one in made)
        unknown = {session.subject for session in sessions if (session.published_label == UNKNOWN_INDEX).all()}
        assert len(unknown) == 2
        assert "0" not in unknown


@pytest.mark.parametrize("kind", ["exponential", "hysteresis", "hmm"])
def test_each_types_best_steadies_the_labels_of_subjects_it_was_not_chosen_on(kind: str) -> None:
    subjects = SubjectStreams(restless(4), LABELS, SPEC)
    before = results.figures(subjects.scores(subjects.sessions(Smoothing())))
    row = smoothers.compare(subjects, kind, abstains=False)
    assert row["name"] == kind
    for entry in row["chosen"]:
        assert entry["smoothing"]["type"] == kind
        assert entry["smoothing"]["unknown_below"] == 0
    assert row["figures"]["accuracy"] > before["accuracy"]
    assert row["figures"]["flips_per_minute"] < before["flips_per_minute"]
    assert row["figures"]["unknown_inside"] == 0


def test_an_abstaining_smoother_abstains_in_unknown_activities() -> None:
    row = smoothers.compare(SubjectStreams(restless(4), LABELS, SPEC), "exponential", abstains=True)
    assert row["name"] == "exponential, abstaining"
    assert all(entry["smoothing"]["unknown_below"] > 0 for entry in row["chosen"])
    assert row["figures"]["unknown_mostly_other"] > row["figures"]["unknown_inside"]


def test_halves_are_of_subjects_not_of_sessions() -> None:
    subjects = ["1", "2", "1", "3", "4", "4"]
    drawn = set()
    for seed in range(10):
        first, second = smoothers.halves(subjects, seed)
        assert sorted(first + second) == list(range(6))
        assert {subjects[i] for i in first}.isdisjoint(subjects[i] for i in second)
        drawn.add(tuple(first))
    assert len(drawn) > 1
