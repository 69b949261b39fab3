"""Structure of arrays: state held by device row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt


class RowArrays:
    """Base of everything that keeps state per device: named arrays whose first axis is the row.

    A subclass lists its arrays' names in ``ROW_ARRAYS`` and creates them in its constructor; growing,
    saving and restoring then work for all of them alike.
    """

    ROW_ARRAYS: ClassVar[tuple[str, ...]] = ()

    @property
    def capacity(self) -> int:
        return len(getattr(self, self.ROW_ARRAYS[0]))

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` rows; the new ones are zero."""
        for name in self.ROW_ARRAYS:
            old = getattr(self, name)
            new = np.zeros((capacity, *old.shape[1:]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)

    def snapshot(self, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
        """A copy of the state of ``rows``."""
        return {name: getattr(self, name)[rows] for name in self.ROW_ARRAYS}

    def restore(self, rows: npt.NDArray[np.int64], state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Put back what ``snapshot`` returned, into ``rows``."""
        for name in self.ROW_ARRAYS:
            array = getattr(self, name)
            if state[name].dtype != array.dtype or state[name].shape[1:] != array.shape[1:]:
                raise ValueError(
                    f"snapshot: {name} is {state[name].dtype}{state[name].shape[1:]}, "
                    f"the engine has {array.dtype}{array.shape[1:]}"
                )
            array[rows] = state[name]


def rounds(rows: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Indices into ``rows``, such that no round has a row twice and every row's come in their order."""
    n = len(rows)
    if not n:
        return []
    if len(set(rows.tolist())) == n:  # nearly always
        return [np.arange(n)]
    order = np.argsort(rows, kind="stable")
    in_order = rows[order]
    new = np.ones(n, np.bool_)
    new[1:] = in_order[1:] != in_order[:-1]
    begin = np.maximum.accumulate(np.where(new, np.arange(n), 0))
    rank = np.arange(n) - begin
    by_rank = order[np.argsort(rank, kind="stable")]
    return np.split(by_rank, np.cumsum(np.bincount(rank))[:-1])
