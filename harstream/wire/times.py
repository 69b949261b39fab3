"""Event times in messages: numbers in seconds, milli-, micro- or nanoseconds since 1970, and ISO 8601 text."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from harstream.wire.reject import RejectError

YEAR_2200_NS = 7_258_118_400 * 10**9
#: September 2001. A number that would be an earlier time in its likely unit may count from the start of the device.
_EARLIEST_GUESS_NS = 10**18
_YEAR_S = 365.2425 * 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Time field to its unit in nanoseconds.
_FIELDS_NS = {"t": 10**9, "t_ms": 10**6, "t_us": 10**3, "t_ns": 1}
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
