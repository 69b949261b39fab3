"""Subjects are dealt into folds and parts, and no subject is in two."""

from __future__ import annotations

import numpy as np
import pytest

from harstream.core.spec import SignalSpec
from harstream.datasets import windows
from harstream.datasets.base import Recording
from harstream.errors import DatasetError
from harstream.train.folds import folds_of, folds_of_data, split_by_subject

SPEC, LABELS = SignalSpec(), ("MOVING", "STILL")


@pytest.mark.parametrize("n_folds", [2, 3, 5, 99])
def test_every_subject_is_held_out_exactly_once(n_folds: int) -> None:
    subjects = [f"{number:02d}" for number in range(7)]
    folds = folds_of(subjects * 3, n_folds, seed=1)
    assert len(folds) == min(n_folds, 7)
    assert sorted(subject for fold in folds for subject in fold) == subjects
    assert folds == folds_of(subjects, n_folds, seed=1)
    assert folds != folds_of(subjects, n_folds, seed=2)


def test_one_subject_cannot_be_held_out() -> None:
    with pytest.raises(DatasetError, match="at least two subjects with known labels, found 1"):
        folds_of(["01", "01"], 5, seed=0)


def test_every_data_set_is_a_fold_of_its_subjects() -> None:
    assert folds_of_data({"b/2": "b", "a/1": "a", "b/1": "b"}) == [("a/1",), ("b/1", "b/2")]
    with pytest.raises(DatasetError, match=r"at least two data sets .*, found 1 \(a\): give --data again"):
        folds_of_data({"a/1": "a", "a/2": "a"})


@pytest.mark.parametrize(("share", "n_held_out"), [(0.01, 1), (0.5, 2), (0.9, 3)])
def test_subjects_held_out_are_in_one_part_only(recordings: list[Recording], share: float, n_held_out: int) -> None:
    cut = windows.cut_windows(windows.whole_streams(recordings), SPEC, LABELS)
    rest, held_out = split_by_subject(cut, share, seed=1)
    assert len(set(held_out.subject)) == n_held_out
    assert set(rest.subject) | set(held_out.subject) == set(cut.subject)
    assert not set(rest.subject) & set(held_out.subject)
    assert len(rest) + len(held_out) == len(cut)
    again = split_by_subject(cut, share, seed=1)[1]
    np.testing.assert_array_equal(again.subject, held_out.subject)
    chosen = {tuple(np.unique(split_by_subject(cut, share, seed)[1].subject)) for seed in range(20)}
    assert len(chosen) > 1


def test_one_subject_cannot_be_split(recordings: list[Recording]) -> None:
    with pytest.raises(DatasetError, match="found 1"):
        split_by_subject(windows.cut_windows(windows.whole_streams(recordings[:1]), SPEC, LABELS), 0.5, seed=0)
