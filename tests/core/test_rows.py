"""Splitting of batches so that no part has a row twice."""

from __future__ import annotations

import numpy as np

from harstream.core.rows import split_into_rounds


def test_rounds_hold_a_row_once_and_its_windows_in_order():
    rows = np.random.default_rng(3).integers(0, 7, 100)
    found = split_into_rounds(rows)
    assert sorted(np.concatenate(found).tolist()) == list(range(100))
    assert all(len(set(rows[index])) == len(index) for index in found)
    for row in range(7):
        assert [i for index in found for i in index.tolist() if rows[i] == row] == np.flatnonzero(rows == row).tolist()
    assert split_into_rounds(np.zeros(0, np.int64)) == []


def test_rows_that_occur_once_make_one_round_in_their_order():
    (only,) = split_into_rounds(np.array([7, 3, 9]))
    assert only.tolist() == [0, 1, 2]
