"""State of many devices as arrays whose first axis is the device's row."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

#: Size in bytes from which an array gets pages of its own.
_OWN_PAGES = 1 << 16


class RowArrays:
    """Base of the classes that keep state per device in arrays whose first axis is the row.

    A subclass creates its arrays in its constructor and lists their names in ``ROW_ARRAYS``. This class grows, shrinks,
    saves and restores all of them. A new row is all zeros, so zeros must be a valid state of a row that was never used.
    """

    ROW_ARRAYS: ClassVar[tuple[str, ...]] = ()

    @property
    def capacity(self) -> int:
        """Number of rows for which the arrays have room."""
        return len(getattr(self, self.ROW_ARRAYS[0]))

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` rows. The new rows are zero."""
        for name in self.ROW_ARRAYS:
            old = getattr(self, name)
            new = _zeros((capacity, *old.shape[1:]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)

    def reset(self, rows: npt.NDArray[np.int64]) -> None:
        """Forget the devices of ``rows``."""
        for name in self.ROW_ARRAYS:
            getattr(self, name)[rows] = 0

    def keep(self, rows: npt.NDArray[np.int64], capacity: int) -> None:
        """Make the state of ``rows`` that of the first rows, forget all others, and have room for ``capacity`` rows."""
        for name in self.ROW_ARRAYS:
            old = getattr(self, name)
            new = _zeros((capacity, *old.shape[1:]), old.dtype)
            new[: len(rows)] = old[rows]
            setattr(self, name, new)

    def copy_rows(self, rows: npt.NDArray[np.int64], other: Self, other_rows: npt.NDArray[np.int64]) -> None:
        """Let each of ``rows`` be as the one of ``other_rows`` at its place is in another object of this class."""
        for name in self.ROW_ARRAYS:
            getattr(self, name)[rows] = getattr(other, name)[other_rows]

    def snapshot(self, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
        """Return a copy of the state of ``rows``, by array name."""
        return {name: getattr(self, name)[rows] for name in self.ROW_ARRAYS}

    def restore(self, rows: npt.NDArray[np.int64], state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write the first entries of the state that ``snapshot`` returned into ``rows``.

        Raises:
            ValueError: An array of ``state`` has another type or shape than the one here.

        """
        for name in self.ROW_ARRAYS:
            array = getattr(self, name)
            if state[name].dtype != array.dtype or state[name].shape[1:] != array.shape[1:]:
                raise ValueError(
                    f"snapshot: {name} has type {state[name].dtype} and shape {state[name].shape[1:]} per row, "
                    f"expected {array.dtype} and {array.shape[1:]}"
                )
            array[rows] = state[name][: len(rows)]


def _zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return an array of zeros of which rows that were never written take no memory.

    Arrays have room for up to twice as many rows as there are devices. ``np.zeros`` takes memory for all of them
    wherever glibc reuses freed memory, and the arrays of the rows before leave holes that nothing else fits into.
    """
    count = math.prod(shape)
    size = count * np.dtype(dtype).itemsize
    if size < _OWN_PAGES:
        return np.zeros(shape, dtype)
    return np.frombuffer(mmap.mmap(-1, size, access=mmap.ACCESS_COPY), dtype, count).reshape(shape)


def any_true(values: npt.NDArray[Any]) -> bool:
    """Return whether any value is true or not 0. For few values, ``values.any()`` takes several times as long."""
    return bool(np.count_nonzero(values))


def all_true(values: npt.NDArray[Any]) -> bool:
    """Return whether all values are true or not 0. For few values, ``values.all()`` takes several times as long."""
    return bool(np.count_nonzero(values) == values.size)


def indices(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the indices of the values of (n,) that are true or not 0, in half the time of ``np.flatnonzero``."""
    return values.nonzero()[0]


def split_into_rounds(rows: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Split the indices into ``rows`` such that each part has every row at most once.

    Steps whose state depends on the previous window or message handle one part after another. The entries of one row
    are spread over the parts in their order: ``[7, 3, 7, 9]`` gives ``[0, 1, 3]`` and ``[2]``.
    """
    n = len(rows)
    if not n:
        return []
    if len(set(rows.tolist())) == n:  # the usual case
        return [np.arange(n)]
    order = np.argsort(rows, kind="stable")
    in_order = rows[order]
    new = np.ones(n, np.bool_)
    new[1:] = in_order[1:] != in_order[:-1]
    begin = np.maximum.accumulate(np.where(new, np.arange(n), 0))
    rank = np.arange(n) - begin
    by_rank = order[np.argsort(rank, kind="stable")]
    return np.split(by_rank, np.cumsum(np.bincount(rank))[:-1])
