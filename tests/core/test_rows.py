"""Splitting of batches so that no part has a row twice."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
import pytest

from harstream.core.rows import RowArrays, split_into_rounds


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


class Table(RowArrays):
    ROW_ARRAYS = ("values",)

    def __init__(self, capacity: int) -> None:
        self.values = np.ones((capacity, 512))


def resident_pages(array: np.ndarray) -> int:
    """Return how many pages of an array take memory."""
    page = mmap.PAGESIZE
    begin = array.ctypes.data // page * page
    found = (ctypes.c_ubyte * -(-(array.ctypes.data + array.nbytes - begin) // page))()
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(begin), ctypes.c_size_t(len(found) * page), found) == 0
    return sum(flag & 1 for flag in found)


@pytest.mark.parametrize("change", [lambda t: t.grow(1024), lambda t: t.keep(np.arange(64), 1024)])
def test_rows_that_were_never_written_take_no_memory(change):
    # From now on glibc keeps freed memory of up to 32 MB, and takes new arrays from it.
    for _ in range(2):
        kept = np.ones(1 << 21)
        del kept
    table = Table(64)
    change(table)
    assert table.values.shape == (1024, 512)
    assert resident_pages(table.values) <= 64 + 1
    assert table.values[:64].all()
    table.values[1000] = 2.0
    assert table.values[64:1000].sum() == table.values[1001:].sum() == 0.0
    assert table.values[1000].sum() == 1024.0
