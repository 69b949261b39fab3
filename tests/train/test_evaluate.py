"""Metrics against figures worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from harstream.train.evaluate import score

LABELS = ("A", "B", "C")
#           truth  A  A  A  A  B  B  C  C  C  C
TRUTH = [0, 0, 0, 0, 1, 1, 2, 2, 2, 2]
GUESS = [0, 0, 0, 1, 1, 2, 2, 2, 2, 0]


def test_confusion_has_the_truth_in_its_rows() -> None:
    assert score(TRUTH, GUESS, LABELS).confusion.tolist() == [[3, 1, 0], [0, 1, 1], [1, 0, 3]]


def test_figures_are_those_worked_out_by_hand() -> None:
    metrics = score(TRUTH, GUESS, LABELS)
    assert metrics.windows == 10
    assert metrics.accuracy == pytest.approx(0.7)
    np.testing.assert_allclose(metrics.precision, [3 / 4, 1 / 2, 3 / 4])
    np.testing.assert_allclose(metrics.recall, [3 / 4, 1 / 2, 3 / 4])
    assert metrics.macro_f1 == pytest.approx((3 / 4 + 1 / 2 + 3 / 4) / 3)


def test_a_label_that_never_occurs_does_not_lower_macro_f1() -> None:
    metrics = score([0, 0, 1], [0, 0, 1], LABELS)
    assert metrics.macro_f1 == 1.0
    assert metrics.recall.tolist() == [1.0, 1.0, 0.0]


def test_no_window_gives_zeros_and_no_warning() -> None:
    metrics = score([], [], LABELS)
    assert (metrics.windows, metrics.accuracy, metrics.macro_f1) == (0, 0.0, 0.0)


def test_the_json_form_is_the_public_one() -> None:
    data = json.loads(json.dumps(score(TRUTH, GUESS, LABELS).to_dict()))
    assert set(data) == {"windows", "accuracy", "macro_f1", "labels", "confusion"}
    assert data["labels"] == list(LABELS)


def test_metrics_add_up_window_by_window() -> None:
    whole = score(TRUTH, GUESS, LABELS)
    parts = score(TRUTH[:3], GUESS[:3], LABELS) + score(TRUTH[3:], GUESS[3:], LABELS)
    assert parts.to_dict() == whole.to_dict()
    with pytest.raises(ValueError, match="cannot add"):
        whole + score([0], [0], ("X", "Y"))


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 true labels, 1 predicted"):
        score([0, 1], [0], LABELS)
