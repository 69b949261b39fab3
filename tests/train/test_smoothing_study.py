"""The figures of a smoothing, on sessions made by hand, and the choice between smoothings."""

from __future__ import annotations

import numpy as np
import pytest

from harstream.core.smoothing import UNKNOWN_INDEX, Smoothing
from harstream.train import smoothing_study as study
from harstream.train.smoothing_study import UNTAUGHT, Session

SECOND = 1_000_000_000
LABELS = ("A", "B", "C")


def session(segments, *, subject: str = "1", wrong: float = 0.0, seed: int = 0) -> Session:
    """Windows of 2 s, one a second, over (seconds, label) segments; of an untaught one the network makes a guess."""
    rng = np.random.default_rng(seed)
    bounds = np.concatenate([[0], np.cumsum([seconds for seconds, _ in segments])])
    start_s = np.arange(0, bounds[-1] - 1)
    probabilities = np.empty((len(start_s), 3), np.float32)
    for i, start in enumerate(start_s):
        label = segments[int(np.searchsorted(bounds, start + 1, side="right")) - 1][1]
        sure = 0.9
        if label == UNTAUGHT:
            label, sure = rng.integers(3), 0.5
        elif rng.random() < wrong:
            label = (label + 1) % 3
        probabilities[i] = (1 - sure) / 2
        probabilities[i, label] = sure
    start_ns = start_s * SECOND
    segment_ns = np.stack([bounds[:-1], bounds[1:]], axis=1) * SECOND
    segment_label = np.array([label for _, label in segments])
    return Session(
        f"s{subject}-{seed}", subject, probabilities, start_ns, start_ns + 2 * SECOND, segment_ns, segment_label
    )


def own(made: Session) -> np.ndarray:
    return made.probabilities.argmax(axis=1)


def test_a_window_belongs_to_the_segment_it_lies_in_and_mostly_to_the_one_that_covers_half():
    made = session([(4, 0), (3, UNTAUGHT), (4, 1)])
    assert made.inside().tolist() == [0, 0, 0, -1, UNTAUGHT, UNTAUGHT, -1, 1, 1, 1]
    assert made.mostly().tolist() == [0, 0, 0, UNTAUGHT, UNTAUGHT, UNTAUGHT, 1, 1, 1, 1]


def test_figures_of_labels_that_are_all_right():
    made = session([(10, 0), (10, 1), (10, 0)])
    figures = study.score([made], [own(made)])
    assert (figures.accuracy, figures.right_if_known, figures.unknown_inside, figures.flips_per_minute) == (1, 1, 0, 0)
    assert figures.changes_per_minute == figures.true_changes_per_minute == pytest.approx(2 / 0.5)
    assert figures.missed == 0
    assert (figures.delay_median_s, figures.delay_p95_s) == (1, 1)  # a window is half there after a second


def test_unknown_is_wrong_inside_an_activity_and_right_where_nothing_was_taught():
    made = session([(10, 0), (5, UNTAUGHT), (10, 1)])
    label = own(made)
    label[made.mostly() == UNTAUGHT] = UNKNOWN_INDEX
    label[2] = UNKNOWN_INDEX
    figures = study.score([made], [label])
    n_inside = int((made.inside() >= 0).sum())
    assert figures.accuracy == pytest.approx(1 - 1 / n_inside)
    assert figures.right_if_known == 1
    assert figures.unknown_inside == pytest.approx(1 / n_inside)
    assert figures.unknown_untaught == 1
    assert figures.flips_per_minute == pytest.approx(2 / (n_inside / 60))


def test_delay_and_what_was_held_back_add_up_and_a_label_that_never_came_is_missed():
    made = session([(10, 0), (10, 1), (10, 2)])
    late = np.concatenate([own(made)[:1]] * 3 + [own(made)[:-3]])
    assert study.score([made], [late]).delay_median_s == 4
    assert study.score([made], [late], held_s=2.5).delay_median_s == 6.5
    never = np.where(late == 1, 0, late)
    assert study.score([made], [never]).missed == 0.5


def test_what_events_tell_of_each_window_is_the_label_that_brought_them():
    made = session([(10, 0), (5, UNTAUGHT), (10, 1), (10, 2)], wrong=0.1)
    for smoothing in (Smoothing("none", 0.6), Smoothing("hmm", 0.6)):
        (beliefs,), (events,) = study.smooth([made], smoothing)
        np.testing.assert_array_equal(study.told(made, events), beliefs.label)


def test_each_types_best_steadies_the_labels_of_wearers_it_was_not_chosen_on():
    rng = np.random.default_rng(0)
    sessions = [
        session(
            [(int(rng.integers(15, 40)), int(label)) for label in rng.permutation([0, 1, 2, 0, 1, 2])]
            + [(6, UNTAUGHT)],
            subject=str(number),
            wrong=0.1,
            seed=number,
        )
        for number in range(6)
    ]
    first, second = study.halves(sessions)
    assert {made.subject for made in first}.isdisjoint({made.subject for made in second})
    assert len(first) + len(second) == 6
    before = study.score(second, [own(made) for made in second])
    certain, _ = study.choose(first, "exponential")
    assert certain.type == "exponential"
    assert certain.unknown_below == 0
    after = study.score(second, [beliefs.label for beliefs in study.smooth(second, certain)[0]])
    assert after.accuracy > before.accuracy
    assert after.flips_per_minute < before.flips_per_minute
    text = study.table([(certain, False, after)])
    assert f"{100 * after.accuracy:.2f}" in text


def test_an_archive_is_read_back(tmp_path):
    made = session([(10, 0), (5, UNTAUGHT), (10, 1)])
    np.savez(
        tmp_path / "p.npz",
        sessions=["s"],
        labels=LABELS,
        **{
            "s/subject": "7",
            "s/probabilities": made.probabilities,
            "s/start_ns": made.start_ns,
            "s/end_ns": made.end_ns,
            "s/seg_start": [0, 500, 750],
            "s/seg_stop": [500, 750, 1250],
            "s/seg_label": ["A", "A_TO_B", "B"],
        },
    )
    labels, (read,) = study.load(tmp_path / "p.npz")
    assert labels == LABELS
    assert read.subject == "7"
    np.testing.assert_array_equal(read.segment_ns, made.segment_ns)
    np.testing.assert_array_equal(read.segment_label, made.segment_label)
