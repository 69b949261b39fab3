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


class _QueryError(Exception):
    """A query parameter has a value that is not allowed."""


def list_devices(snapshot: Callable[[], Snapshot], query: Mapping[str, str]) -> Answer:
    """Answer ``/api/devices``: the devices of a source, all or those with a problem, a part of them at a time.

    Args:
        snapshot: Returns what is known.
        query: ``problem`` (a name, or "any"), ``limit``, ``offset``.

    """
    try:
        mask = _problem(query)
        limit = _number(query, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        offset = _number(query, "offset", 0, 0, 2**31)
        if unknown := sorted(set(query) - {"problem", "limit", "offset"}):
            raise _QueryError(f"unknown parameter {unknown[0]!r}, expected problem, limit or offset")
    except _QueryError as error:
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


def _problem(query: Mapping[str, str]) -> int | None:
    """Return the mask of the problems that are asked for; None if all devices are."""
    name = query.get("problem")
    if name is None:
        return None
    masks = {problem.public_name: int(problem) for problem in Problem} | {ANY: sum(map(int, Problem))}
    if name not in masks:
        raise _QueryError(f"problem is {name!r}, expected one of {', '.join(masks)}")
    return masks[name]


def _number(query: Mapping[str, str], name: str, default: int, minimum: int, maximum: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and minimum <= int(text) <= maximum):
        raise _QueryError(f"{name} is {text!r}, expected a whole number from {minimum} to {maximum}")
    return int(text)
