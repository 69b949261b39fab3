"""Event times in messages: numbers in seconds, milli-, micro- or nanoseconds since 1970, and ISO 8601 text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from harstream.core.batches import Int64
from harstream.wire.reject import RejectError

YEAR_2200_NS = 7_258_118_400 * 10**9
#: September 2001. A number that would be an earlier time in its likely unit may count from the start of the device.
_EARLIEST_GUESS_NS = 10**18
_YEAR_S = 365.2425 * 86_400
_MAX_SHOWN = 40  # characters of a value in an error
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Time field to its unit in nanoseconds.
_FIELDS_NS = {"t": 10**9, "t_ms": 10**6, "t_us": 10**3, "t_ns": 1}
#: Unit of a configured time to the canonical field in that unit.
FIELD_OF_UNIT = {"s": "t", "ms": "t_ms", "us": "t_us", "ns": "t_ns"}
#: Units of a configured time: these, text in ISO 8601, or told from the value.
ISO, AUTO_UNIT = "iso", "auto"
TIME_UNITS = (*FIELD_OF_UNIT, ISO, AUTO_UNIT)
_WORDS = {"t": "seconds", "t_ms": "milliseconds", "t_us": "microseconds", "t_ns": "nanoseconds"}


def event_time(
    t: float | None = None, t_ms: float | None = None, t_us: float | None = None, t_ns: float | None = None
) -> int | None:
    """Return an event time in nanoseconds, from the finest unit that is given; None if none is given.

    Integers are never converted through a float, which would lose their last digits. Floats are rounded to a
    microsecond, or a nanosecond in ``t_ns``, since they resolve no more in this century.

    Raises:
        RejectError: The time is not finite, or not between 1970 and 2200.

    """
    if t_ns is not None:
        field, value = "t_ns", t_ns
    elif t_us is not None:
        field, value = "t_us", t_us
    elif t_ms is not None:
        field, value = "t_ms", t_ms
    elif t is not None:
        field, value = "t", t
    else:
        return None
    unit_ns = _FIELDS_NS[field]
    if isinstance(value, int):
        time_ns = value * unit_ns
    elif not 0 <= value <= YEAR_2200_NS:  # also if it is NaN
        raise RejectError("time", _describe(field, value))
    else:
        time_ns = round(value) if unit_ns == 1 else round(value * (unit_ns // 1000)) * 1000
    if not 0 <= time_ns <= YEAR_2200_NS:
        raise RejectError("time", _describe(field, value))
    return time_ns


def read_time(value: Any, unit: str, name: str) -> int:
    """Return the event time in nanoseconds of a value in one of TIME_UNITS.

    Args:
        value: A number, a text that holds one, or a text in ISO 8601.
        unit: Unit of the value. With AUTO_UNIT it must be a time since September 2001.
        name: Name of the value in an error.

    Raises:
        RejectError: The value is no such time.

    """
    if isinstance(value, str) and unit != ISO:
        value = _number(value)
    if unit == ISO and isinstance(value, str):
        try:
            time_ns = _parse_iso(value)
        except (ValueError, OverflowError):
            time_ns = -1
        if 0 <= time_ns <= YEAR_2200_NS:
            return time_ns
    elif unit == AUTO_UNIT:
        guessed = guess_time(value)
        if guessed is not None:
            return guessed
    elif unit != ISO and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            time_ns = event_time(**{FIELD_OF_UNIT[unit]: value}) or 0
        except RejectError as error:
            raise RejectError("time", f"{name}: {error}") from None
        return time_ns
    what = {
        ISO: "a date with a time of day in ISO 8601",
        AUTO_UNIT: "a time since September 2001, or set t_unit to s, ms, us or ns",
    }
    raise RejectError("time", f"{name} is {repr(value)[:_MAX_SHOWN]}, expected {what.get(unit, 'a number in ' + unit)}")


def read_times(values: Sequence[Any], unit: str, name: str) -> Int64:
    """Return the event times in nanoseconds of values as ``read_time`` takes them, (n_values,). Raise as it does."""
    if not values:
        return np.zeros(0, np.int64)
    told, least_ns = unit, 0
    if unit == AUTO_UNIT and isinstance(values[0], int | float) and guess_time(values[0]) is not None:
        told, least_ns = guess_unit(values[0]), _EARLIEST_GUESS_NS
    factor = _FIELDS_NS.get(FIELD_OF_UNIT.get(told, ""), 0)
    if factor:
        try:
            numbers = np.array(values)
        except (ValueError, OverflowError):
            numbers = np.zeros((), np.object_)
        if (
            numbers.ndim == 1
            and numbers.dtype.kind in "if"
            and ((numbers >= least_ns // factor) & (numbers <= YEAR_2200_NS // factor)).all()
        ):
            if numbers.dtype.kind == "i":
                return numbers.astype(np.int64) * factor
            scale = max(factor // 1000, 1)  # floats are rounded as in event_time
            times: Int64 = np.rint(numbers * scale).astype(np.int64) * (factor // scale)
            return times
    return np.array([read_time(value, unit, name) for value in values], np.int64)


def _number(text: str) -> int | float | str:
    """Return the number that a text holds; the text if it holds none."""
    if len(text) > _MAX_SHOWN:
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def guess_time(value: object) -> int | None:
    """Return the event time, in nanoseconds, of a number since 1970 in an unknown unit, or of an ISO 8601 text.

    The number is in seconds below 1e11, milliseconds below 1e14, microseconds below 1e17, else nanoseconds. A text
    without a time zone is in UTC.

    Returns:
        None if the value is neither, or not between September 2001 and 2200. A smaller number counts from another
        instant, such as the start of the device, in a unit that it does not tell.

    """
    try:
        if isinstance(value, str):
            time_ns = _parse_iso(value)
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            time_ns = event_time(**{_guess_field(value): value}) or 0
        else:
            return None
    except (RejectError, ValueError, OverflowError):
        return None
    return time_ns if _EARLIEST_GUESS_NS <= time_ns <= YEAR_2200_NS else None


def _parse_iso(text: str) -> int:
    """Return the time that a text names, in nanoseconds. Raise ValueError if it has no date or no time of day."""
    if len(text) <= len("2025-11-20") or not text.isascii():
        raise ValueError(text)
    time = datetime.fromisoformat(text)
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1) * 1000


def guess_unit(value: float) -> str:
    """Return the unit of a number since 1970, by its magnitude: s, ms, us or ns."""
    return "s" if value < 1e11 else "ms" if value < 1e14 else "us" if value < 1e17 else "ns"


def _guess_field(value: float) -> str:
    """Return the field that a number since 1970 belongs into, by its magnitude."""
    unit = guess_unit(value)
    return "t" if unit == "s" else f"t_{unit}"


def _describe(field: str, value: float) -> str:
    """Return what is wrong with a time that is not between 1970 and 2200, and how to mend it."""
    expected = f"expected {_WORDS[field]} since 1970"
    if not 0 <= value < 1e30:
        return f"{field} is {value!r}, {expected}"
    year = 1970 + math.floor(value * (_FIELDS_NS[field] / 1e9) / _YEAR_S)
    found = f"{field} is {value!r}, which would be the year {year:.6g}"
    meant = _guess_field(value)
    if meant == field or guess_time(value) is None:
        return f"{found}; {expected}, before the year 2200"
    return f"{found}; it looks like {_WORDS[meant]} since 1970: send it as {meant}"
