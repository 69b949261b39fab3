"""JSON interface of the daemon: its devices and their health."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
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


def list_devices(snapshot: Callable[[], Snapshot], query: Mapping[str, str]) -> Answer:
    """Answer ``/api/devices``: the devices of a source, all or those with a problem, a part of them at a time.

    Args:
        snapshot: Returns what is known.
        query: ``problem`` (a name, or "any"), ``limit``, ``offset``.

    """
    try:
        mask = None if "problem" not in query else problem_mask(query["problem"])
        limit = number(query, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        offset = number(query, "offset", 0, 0, 2**31)
        if unknown := sorted(set(query) - {"problem", "limit", "offset"}):
            raise QueryError(f"unknown parameter {unknown[0]!r}, expected problem, limit or offset")
    except QueryError as error:
        return answer(400, {"error": str(error)})
    known = snapshot()
    positions = np.arange(len(known.devices)) if mask is None else np.flatnonzero(known.problems & mask)
    shown = [known.describe(position) for position in positions[offset : offset + limit].tolist()]
    return answer(200, {"devices": shown, "total": len(positions), "limit": limit, "offset": offset})


def show_device(snapshot: Callable[[], Snapshot], device: str) -> Answer:
    """Answer ``/api/devices/{device}``: everything that is known of one device."""
    found = snapshot().describe_in_detail(device)
    if found is None:
        return answer(404, {"error": f"no device {device!r}: none of its messages arrived, or it was idle for long"})
    return answer(200, found)


def answer(status: int, content: dict[str, Any]) -> Answer:
    """Return an answer in JSON. It is ASCII, so that no name of a device can disturb a terminal."""
    return status, "application/json", json.dumps(content, allow_nan=False).encode() + b"\n"


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
