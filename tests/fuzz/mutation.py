"""Mutations of JSON that keep it well-formed, since changed bytes seldom get past the parser."""

from __future__ import annotations

import json
import math
from random import Random
from typing import Any

from .targets import SEPARATOR

#: Values at the limits of what numbers, texts and nesting can be.
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, -0.0, 50, 1000, 1001, 10**9, 1_763_668_800, 1_763_668_800_020, 2**53 + 1),
    *(2**63 - 1, 2**63, -(2**63), 2**64, 10**20, 10**30, 10**400, 1e308, -1e308, 1e-320, 3.5e38, 7_258_118_401),
    *(math.nan, math.inf, -math.inf),
    *("", "g", "auto", "m/s2", "deg/s", "°/s", "50", "A", "UNKNOWN", "hmm", "x" * 100, "\0", "\n", "\ud800", "\u202e"),
    *("2025-11-20T20:00:00.02Z", "2025-11-20 20:00:00", "9999-12-31T23:59:59+23:59", "0001-01-01T00:00:00"),
    *([], {}, [[]], [0, 0, 1], [[0, 0, 1]], [[0, 0, 1]] * 3, [[1e308, 0, 0]], {"acc": "g"}, {"x": {"y": []}}),
)
#: Names that something reads.
NAMES = (
    *("t", "t_ms", "t_us", "t_ns", "rate_hz", "units", "acc", "gyro", "ax", "ay", "az", "gx", "gy", "gz"),
    *("timestamp", "ts", "time", "rateHz", "fs", "sampleRateHz", "sample_rate", "datetime", "odr", "accUnit", "te"),
    *("schema", "labels", "states", "signal", "smoothing", "familiar", "covers", "files", "training", "temperature"),
    *("type", "order", "cutoff_hz", "mean", "std", "window_samples", "stride_samples", "channels", "transitions"),
)
_MAX_DEPTH = 2000


def mutate(data: bytes, rng: Random) -> bytes:
    """Return an input with one of its parts changed; the input itself if none of them is JSON.

    A part may have one byte before the JSON, which tells the device.
    """
    parts = data.split(SEPARATOR)
    order = list(range(len(parts)))
    rng.shuffle(order)
    for index in order:
        for begin in (0, 1, 2):
            try:
                value = json.loads(parts[index][begin:])
            except (ValueError, RecursionError):
                continue
            for _ in range(rng.choice((1, 1, 2, 4))):
                value = _change(value, rng)
            parts[index] = parts[index][:begin] + _write(value, rng)
            return SEPARATOR.join(parts)
    return data


def _write(value: Any, rng: Random) -> bytes:
    separators = rng.choice(((",", ":"), (", ", ": ")))
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5, separators=separators)
    if rng.random() < 0.02:
        depth = rng.randrange(1, _MAX_DEPTH)
        text = text.replace("null", "[" * depth + "]" * depth)
    return text.encode("utf-8", "surrogatepass")


def _change(value: Any, rng: Random) -> Any:
    """Return the value with one change, somewhere in it."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        return _change_object(dict(value), rng)
    if isinstance(value, list) and value and rng.random() < 0.8:
        return _change_list(list(value), rng)
    if isinstance(value, int | float) and rng.random() < 0.3:
        try:
            return rng.choice((-value, value * 1000, value / 1000, value + 1, int(value), float(value)))
        except (OverflowError, ValueError):
            return value
    return rng.choice(VALUES)


def _change_object(value: dict[str, Any], rng: Random) -> dict[str, Any]:
    name = rng.choice(list(value))
    match rng.randrange(6):
        case 0:
            del value[name]
        case 1:
            value[rng.choice(NAMES)] = value.pop(name)
        case 2:
            value[rng.choice(NAMES)] = rng.choice(VALUES)
        case _:
            value[name] = _change(value[name], rng)
    return value


def _change_list(value: list[Any], rng: Random) -> list[Any]:
    index = rng.randrange(len(value))
    match rng.randrange(6):
        case 0:
            del value[index]
        case 1:
            value.insert(index, value[index])
        case 2:
            value = value * rng.choice((2, 5)) if len(value) < 50 else value[: index + 1]
        case _:
            value[index] = _change(value[index], rng)
    return value
