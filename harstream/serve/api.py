"""JSON interface of the daemon: its devices and their health."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from harstream.core.problems import Problem
from harstream.serve.devices import Snapshot

#: Devices in one answer: unless told otherwise, and at most.
DEFAULT_LIMIT, MAX_LIMIT = 1_000, 10_000
#: Value of ``problem`` that stands for each of them.
ANY = "any"

#: Status code, media type and body.
Answer = tuple[int, str, bytes]


class QueryError(Exception):
    """A query parameter has a value that is not allowed."""


def list_devices(snapshots: Callable[[], Sequence[Snapshot]], query: Mapping[str, str]) -> Answer:
    """Answer ``/api/devices``: the devices of all sources or one, all or those with a problem, a part at a time.

    Args:
        snapshots: Returns what is known of each source.
        query: ``problem`` (a name, or "any"), ``source`` (a name), ``limit``, ``offset``.

    """
    try:
        _check_names(query, ("problem", "source", "limit", "offset"))
        mask = None if "problem" not in query else problem_mask(query["problem"])
        limit = number(query, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        offset = number(query, "offset", 0, 0, 2**31)
        chosen = _of_source(snapshots(), query)
    except QueryError as error:
        return answer(400, {"error": str(error)})
    shown: list[dict[str, Any]] = []
    total = 0
    for known in chosen:
        positions = np.arange(len(known.devices)) if mask is None else np.flatnonzero(known.problems & mask)
        first, room = max(offset - total, 0), limit - len(shown)
        shown += [known.describe(position) for position in positions[first : first + room].tolist()]
        total += len(positions)
    return answer(200, {"devices": shown, "total": total, "limit": limit, "offset": offset})


def show_device(snapshots: Callable[[], Sequence[Snapshot]], device: str, query: Mapping[str, str]) -> Answer:
    """Answer ``/api/devices/{device}``: everything that is known of one device.

    Args:
        snapshots: Returns what is known of each source.
        device: Name of the device.
        query: ``source`` (a name), which is needed if several sources have a device of this name.

    """
    try:
        _check_names(query, ("source",))
        chosen = _of_source(snapshots(), query)
    except QueryError as error:
        return answer(400, {"error": str(error)})
    found = {known.source: one for known in chosen if (one := known.describe_in_detail(device)) is not None}
    if not found:
        return answer(404, {"error": f"no device {device!r}: none of its messages arrived, or it was idle for long"})
    if len(found) > 1:
        names = ", ".join(found)
        return answer(
            409, {"error": f"several sources have a device {device!r}: {names}; add ?source= and one of them"}
        )
    return answer(200, next(iter(found.values())))


def answer(status: int, content: dict[str, Any]) -> Answer:
    """Return an answer in JSON. It is ASCII, so that no name of a device can disturb a terminal."""
    return status, "application/json", json.dumps(content, allow_nan=False).encode() + b"\n"


def _check_names(query: Mapping[str, str], known: Sequence[str]) -> None:
    if unknown := sorted(set(query) - set(known)):
        raise QueryError(f"unknown parameter {unknown[0]!r}, expected one of {', '.join(known)}")


def _of_source(snapshots: Sequence[Snapshot], query: Mapping[str, str]) -> Sequence[Snapshot]:
    """Return the snapshot of the source that is asked for; all if none is."""
    name = query.get("source")
    chosen = [known for known in snapshots if name in (None, known.source)]
    if not chosen:
        raise QueryError(f"source is {name!r}, expected one of {', '.join(known.source for known in snapshots)}")
    return chosen


def problem_mask(name: str) -> int:
    """Return the mask of a problem by its public name, or of all problems for ANY.

    Raises:
        QueryError: There is no problem of this name.

    """
    masks = {problem.public_name: int(problem) for problem in Problem} | {ANY: sum(map(int, Problem))}
    if name not in masks:
        raise QueryError(f"problem is {name!r}, expected one of {', '.join(masks)}")
    return masks[name]


def number(query: Mapping[str, str], name: str, default: int, minimum: int, maximum: int) -> int:
    """Return the whole number of a query parameter.

    Raises:
        QueryError: It is none, or out of range.

    """
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and minimum <= int(text) <= maximum):
        raise QueryError(f"{name} is {text!r}, expected a whole number from {minimum} to {maximum}")
    return int(text)
