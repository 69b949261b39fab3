"""Scores compared with values calculated by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from harstream.evaluate.metrics import calibration_error, measure_reliability, score, score_by

LABELS = ("A", "B", "C")
#           truth  A  A  A  A  B  B  C  C  C  C
TRUTH = [0, 0, 0, 0, 1, 1, 2, 2, 2, 2]
GUESS = [0, 0, 0, 1, 1, 2, 2, 2, 2, 0]


def test_confusion_has_the_truth_in_its_rows() -> None:
    assert score(TRUTH, GUESS, LABELS).confusion.tolist() == [[3, 1, 0], [0, 1, 1], [1, 0, 3]]


def test_scores_are_those_calculated_by_hand() -> None:
    scores = score(TRUTH, GUESS, LABELS)
    assert scores.windows == 10
    assert scores.accuracy == pytest.approx(0.7)
    np.testing.assert_allclose(scores.precision, [3 / 4, 1 / 2, 3 / 4])
    np.testing.assert_allclose(scores.recall, [3 / 4, 1 / 2, 3 / 4])
    assert scores.macro_f1 == pytest.approx((3 / 4 + 1 / 2 + 3 / 4) / 3)


def test_a_label_that_never_occurs_does_not_lower_macro_f1() -> None:
    scores = score([0, 0, 1], [0, 0, 1], LABELS)
    assert scores.macro_f1 == 1.0
    assert scores.recall.tolist() == [1.0, 1.0, 0.0]


def test_no_window_gives_zeros_and_no_warning() -> None:
    scores = score([], [], LABELS)
    assert (scores.windows, scores.accuracy, scores.macro_f1) == (0, 0.0, 0.0)


def test_the_json_form_is_the_public_one() -> None:
    data = json.loads(json.dumps(score(TRUTH, GUESS, LABELS).to_dict()))
    assert set(data) == {"windows", "accuracy", "macro_f1", "macro_recall", "labels", "confusion"}
    assert data["labels"] == list(LABELS)


def test_scores_add_up_window_by_window() -> None:
    whole = score(TRUTH, GUESS, LABELS)
    parts = score(TRUTH[:3], GUESS[:3], LABELS) + score(TRUTH[3:], GUESS[3:], LABELS)
    assert parts.to_dict() == whole.to_dict()
    with pytest.raises(ValueError, match="cannot add"):
        whole + score([0], [0], ("X", "Y"))


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="got 2 true, 1 predicted"):
        score([0, 1], [0], LABELS)


def test_unknown_counts_as_wrong_and_never_as_a_prediction() -> None:
    scores = score([0, 0, 0, 1], [0, -1, -1, 1], LABELS, abstains=True)
    assert scores.confusion.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert scores.unknown is not None
    assert scores.unknown.tolist() == [2, 0, 0]
    assert (scores.windows, scores.accuracy) == (4, 0.5)
    assert scores.recall.tolist() == [pytest.approx(1 / 3), 1.0, 0.0]
    assert scores.precision.tolist() == [1.0, 1.0, 0.0]
    assert scores.macro_f1 == pytest.approx((0.5 + 1) / 2)
    assert (scores + score([2], [2], LABELS)).windows == 5
    assert (scores + scores).to_dict()["unknown"] == [4, 0, 0]


def test_unknown_must_be_allowed() -> None:
    with pytest.raises(ValueError, match="a negative index needs abstains=True"):
        score([0], [-1], LABELS)


def test_calibration_error_is_the_one_calculated_by_hand() -> None:
    # Confidence 0.9 twice, one right; 0.6 twice, both right: (|0.5 - 0.9| * 2 + |1 - 0.6| * 2) / 4.
    probabilities = [[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.6, 0.4]]
    assert calibration_error(probabilities, [0, 0, 0, 0]) == pytest.approx(0.4)
    assert calibration_error(probabilities[:1] * 10, [0] * 9 + [1]) == pytest.approx(0.0)
    assert calibration_error(np.zeros((0, 2)), []) == 0.0


def test_a_bin_holds_its_upper_limit() -> None:
    bins = measure_reliability([0.0, 0.2, 0.2001, 1.0], [True, True, False, True], n_bins=5)
    assert bins.windows.tolist() == [2, 1, 0, 0, 1]
    assert bins.accuracy.tolist() == [1, 0, 0, 0, 1]
    assert bins.confidence[4] == 1.0


def test_overconfidence_raises_the_error() -> None:
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.4, 1, 20000)
    calibrated = rng.random(20000) < confidence
    assert measure_reliability(confidence, calibrated).error < 0.02
    assert measure_reliability(confidence, rng.random(20000) < confidence - 0.2).error == pytest.approx(0.2, abs=0.02)


def test_each_subject_has_scores() -> None:
    subject = np.array(["b", "a", "a"])
    found = score_by(subject, np.array([0, 1, 1]), np.array([0, 1, 0]), LABELS)
    assert {name: (one.windows, one.accuracy) for name, one in found.items()} == {"a": (2, 0.5), "b": (1, 1.0)}


def test_macro_recall_is_over_the_labels_that_occur() -> None:
    scores = score([0, 0, 0, 1], [0, 0, 1, 2], ("A", "B", "C"))
    assert scores.macro_recall == pytest.approx((2 / 3 + 0) / 2)
    assert score([], [], ("A", "B")).macro_recall == 0
    assert score([0, 0], [0, -1], ("A", "B"), abstains=True).macro_recall == 0.5


def test_reliability_of_two_parts_is_that_of_all_predictions() -> None:
    rng = np.random.default_rng(0)
    confidence, correct = rng.uniform(size=50), rng.uniform(size=50) > 0.4
    together = measure_reliability(confidence[:20], correct[:20]) + measure_reliability(confidence[20:], correct[20:])
    whole = measure_reliability(confidence, correct)
    for name in ("windows", "confidence", "accuracy"):
        np.testing.assert_allclose(getattr(together, name), getattr(whole, name))


def test_unfamiliar_windows_are_counted_by_true_label_and_add_up() -> None:
    guess, unfamiliar = np.array([0, -1, -1, 1]), np.array([False, True, False, False])
    names = np.array(["x", "y", "y", "y"])
    scores = score([0, 0, 1, 1], guess, LABELS, abstains=True, unfamiliar=unfamiliar)
    assert scores.unknown is not None
    assert scores.unfamiliar is not None
    assert (scores.unknown.tolist(), scores.unfamiliar.tolist()) == ([1, 1, 0], [1, 0, 0])
    assert scores.accuracy == 0.5
    assert scores.to_dict()["unfamiliar"] == [1, 0, 0]
    parts = score_by(names, np.array([0, 0, 1, 1]), guess, LABELS, abstains=True, unfamiliar=unfamiliar)
    assert (parts["x"] + parts["y"]).to_dict() == scores.to_dict()
    cannot_tell = score([2], [2], LABELS)
    assert "unfamiliar" not in cannot_tell.to_dict()
    assert (cannot_tell + scores).to_dict()["unfamiliar"] == [1, 0, 0]
