"""Table of all devices at one moment: filtered, sorted, and described a few rows at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from harstream.core.batches import Bool, Float64, Int64
from harstream.core.problems import Problem
from harstream.serve.api import ANY, QueryError, number, problem_mask
from harstream.serve.devices import Snapshot
from harstream.serve.label_history import LabelHistory
from harstream.serve.last_labels import LastLabel

#: Rows in one view: unless told otherwise, and at most.
DEFAULT_ROWS, MAX_ROWS = 50, 200
#: Value of ``activity`` for devices without a label, and of ``problem`` for those without a problem.
NONE = "none"
#: Span of the strip in a row.
STRIP_S = 600.0
#: Devices worked on before the other threads have their turn, and its length. Without a pause a thread that waits for
#: the interpreter would have to wait for 5 ms.
_CHUNK, TURN_S = 1_000, 0.001
#: Characters by which names are sorted; a name may have 65,535.
_SORTED_CHARACTERS = 48


@dataclass(frozen=True, slots=True)
class Query:
    """Choice of a viewer: the devices, their order, and the rows in view."""

    search: str = ""  # part of the name, in any case
    activity: str = ""  # a label, or NONE
    source: str = ""
    problem: str = ""  # a problem, ANY or NONE
    sort: str = "device"
    descending: bool = False
    offset: int = 0
    limit: int = DEFAULT_ROWS

    @property
    def order(self) -> Query:
        """The same without the rows; viewers with an equal one share the work."""
        return Query(self.search, self.activity, self.source, self.problem, self.sort, self.descending)

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Query:
        """Return the query of the parameters of a request.

        Raises:
            QueryError: A parameter has a value that is not allowed.

        """
        if (sort := query.get("sort", "device")) not in Table.SORTS:
            raise QueryError(f"sort is {sort!r}, expected one of {', '.join(Table.SORTS)}")
        if (descending := query.get("descending", "0")) not in ("0", "1"):
            raise QueryError(f"descending is {descending!r}, expected 0 or 1")
        if (problem := query.get("problem", "")) not in ("", NONE):
            problem_mask(problem)  # raises QueryError
        return cls(
            query.get("search", "").casefold(),
            query.get("activity", ""),
            query.get("source", ""),
            problem,
            sort,
            descending == "1",
            number(query, "offset", 0, 0, 2**31),
            number(query, "limit", DEFAULT_ROWS, 1, MAX_ROWS),
        )


class Names:
    """Names of devices, and what is made of them. Most seconds have the same names as the one before."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    @cached_property
    def folded(self) -> list[str]:
        """Names for a search."""
        return list(map(str.casefold, self.names))

    @cached_property
    def rank(self) -> Int64:
        """Place of each name among all, in order of the alphabet."""
        order = np.argsort(np.array([name[:_SORTED_CHARACTERS] for name in self.names], np.str_), kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        return rank


class Table:
    """All devices at one moment. One thread uses it.

    Between some thousand devices it lets the other threads have their turn, so that labels do not wait for it.

    Args:
        parts: Snapshot and history of each source.
        before: Table of the moment before, whose names are used again if they are the same.
        now_s: Seconds since the epoch.

    """

    SORTS = ("device", "source", "activity", "confidence", "since", "rate", "last_seen", "problem")

    def __init__(
        self, parts: Sequence[tuple[Snapshot, LabelHistory | None]], now_s: float, before: Table | None = None
    ) -> None:
        self.parts, self.now_s = parts, now_s
        self._starts = np.cumsum([0, *(len(snapshot.devices) for snapshot, _ in parts)])
        names = [name for snapshot, _ in parts for name in snapshot.devices]
        self.names: Names = before.names if before is not None and before.names.names == names else Names(names)
        self._orders: dict[Query, Int64] = {}
        self._rows: dict[int, dict[str, Any]] = {}  # described so far

    def __len__(self) -> int:
        """Return the number of devices."""
        return len(self.names.names)

    @cached_property
    def _labels(self) -> list[LastLabel | None]:
        return list(self._each(lambda snapshot: snapshot.last_labels.get))

    def _each(self, reader: Callable[[Snapshot], Callable[[str], Any]]) -> Iterator[Any]:
        """Yield what ``reader`` finds of each device."""
        for snapshot, _ in self.parts:
            read = reader(snapshot)
            for number_, device in enumerate(snapshot.devices):
                if number_ % _CHUNK == 0:
                    time.sleep(TURN_S)
                yield read(device)

    @cached_property
    def _label_of_each(self) -> Any:
        return np.array([NONE if label is None else label.label for label in self._labels], np.str_)

    @cached_property
    def problems(self) -> Int64:
        """Mask of the problems of each device."""
        return np.concatenate([snapshot.problems for snapshot, _ in self.parts] or [np.zeros(0, np.int64)])

    @cached_property
    def _source_of_each(self) -> Int64:
        return np.repeat(np.arange(len(self.parts)), np.diff(self._starts))

    def _from_health(self, name: str) -> Float64:
        """Return a field of the health of each device; 0 where only rejected messages are known."""
        values = np.zeros(len(self))
        for (snapshot, _), start in zip(self.parts, self._starts.tolist(), strict=False):
            found = getattr(snapshot.health, name)
            values[start : start + len(found)] = found
        return values

    def _sort_key(self, sort: str) -> Any:
        """Return what devices are sorted by (n_devices,). A device without a label or a problem comes last."""
        labels = self._labels if sort in ("activity", "confidence", "since") else []
        match sort:
            case "source":
                return self._source_of_each
            case "activity":
                return np.where(self._label_of_each == NONE, "~", self._label_of_each)
            case "confidence":
                return np.array([np.inf if label is None else label.confidence for label in labels])
            case "since":
                return np.array([np.inf if label is None else -(label.t_ns - label.since_ns) for label in labels])
            case "rate":
                return self._from_health("rate_hz")
            case "last_seen":
                return self._from_health("last_seen_s")
            case "problem":
                # The lowest bit is the most severe problem; none is after all of them.
                return np.where(self.problems == 0, 2**62, self.problems & -self.problems)
            case _:
                return self.names.rank

    def select(self, query: Query) -> Int64:
        """Return the positions of the devices that a query asks for, in its order, without regard to its rows."""
        wanted = query.order
        found = self._orders.get(wanted)
        if found is None:
            found = self._orders[wanted] = self._select(wanted)
        return found

    def _select(self, query: Query) -> Int64:
        keep: Bool = np.ones(len(self), np.bool_)
        if query.search:
            keep &= np.fromiter((query.search in name for name in self.names.folded), np.bool_, len(self))
        if query.activity:
            keep &= self._label_of_each == query.activity
        if query.source:
            named = [i for i, (snapshot, _) in enumerate(self.parts) if snapshot.source == query.source]
            keep &= np.isin(self._source_of_each, named)
        if query.problem == NONE:
            keep &= self.problems == 0
        elif query.problem:
            keep &= (self.problems & problem_mask(query.problem)) != 0
        positions = np.flatnonzero(keep)
        keys = self._sort_key(query.sort)[positions]
        order = np.lexsort((self.names.rank[positions], keys))
        return positions[order[::-1] if query.descending else order]

    def describe(self, position: int) -> dict[str, Any]:
        """Return the row of a device, with the strip of its last minutes. Viewers share it: it must not be changed."""
        if (found := self._rows.get(position)) is not None:
            return found
        part = int(np.searchsorted(self._starts, position, "right")) - 1
        snapshot, history = self.parts[part]
        row = snapshot.describe(position - int(self._starts[part]))
        label = snapshot.last_labels.get(row["device"])
        row["duration_s"] = None if label is None else round(max(0, label.t_ns - label.since_ns) / 1e9, 1)
        row["strip"] = [] if history is None else history.changes(row["device"], STRIP_S)
        self._rows[position] = row
        return row

    def key(self, position: int) -> tuple[str, str]:
        """Return source and name of a device."""
        part = int(np.searchsorted(self._starts, position, "right")) - 1
        return self.parts[part][0].source, self.names.names[position]

    @cached_property
    def problem_counts(self) -> dict[str, int]:
        """Number of devices that have each problem, and any."""
        counts = {problem.public_name: int(np.count_nonzero(self.problems & int(problem))) for problem in Problem}
        return {**counts, ANY: int(np.count_nonzero(self.problems))}

    @cached_property
    def without_label(self) -> int:
        """Number of devices that have no label."""
        return sum(label is None for label in self._labels)
