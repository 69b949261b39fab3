"""Fields with other names than those of the canonical payload: some are understood, others are ignored and noted."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from harstream.wire.times import guess_time

#: Other names of the time and of the rate that are understood; the first one with a value that can be used counts.
TIME_NAMES = ("timestamp", "ts", "time")
RATE_NAMES = ("rateHz", "fs", "sampleRateHz", "sample_rate", "sampling_rate")
#: Names of the canonical payload.
CANONICAL_NAMES = frozenset(
    ["t", "t_ms", "t_us", "t_ns", "rate_hz", "units", "acc", "gyro", "ax", "ay", "az", "gx", "gy", "gz"]
)
_UNDERSTOOD = CANONICAL_NAMES.union(TIME_NAMES, RATE_NAMES)

#: Kind of a field to what its sender should do.
_MENDS = {
    "time": "send the time of the first sample as t (seconds since 1970), t_ms, t_us or t_ns",
    "rate": "send the number of samples per second as rate_hz",
    "units": 'send "units": {"acc": ..., "gyro": ...} with g, m/s2, mg or auto, and rad/s or deg/s',
}
#: Kind to the words of which a name must have one, and to the other words that it may have.
_SENSORS = "acc accel accelerometer acceleration gyr gyro gyroscope imu sensor"
_WORDS = {
    "rate": (
        "hz fs freq frequency odr sps dt rate samplerate samplingrate interval period",
        f"sample samples sampling data output update ms us {_SENSORS}",
    ),
    "time": (
        "t ts time times timestamp timestamps stamp datetime date epoch unixtime uptime millis micros nanos "
        "ms us ns sec secs seconds milliseconds microseconds nanoseconds",
        f"s unix utc iso gps local system device boot event start first sample samples {_SENSORS}",
    ),
    "units": ("unit units", _SENSORS),
}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_MAX_NAME = 64  # characters of a name that is looked at
_MAX_NAMES = 64  # fields of a message that are looked at; it takes 5 us for each
_MAX_SHOWN = 40  # characters of a value that is shown

#: Names of fields that are remembered, and devices for each of them.
_MAX_FIELDS, _MAX_DEVICES = 100, 10

_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class IgnoredField(NamedTuple):
    """Field of a message that the decoder does not use, although it looks like a time, a rate or units."""

    name: str
    kind: str  # a key of _MENDS
    value: Any = None  # if the name is understood and the value is not

    def describe(self) -> str:
        """Return what is ignored and how to mend it, in one line."""
        expected = "a number of samples per second" if self.kind == "rate" else "a time since 1970"
        what = "" if self.value is None else f" is {repr(self.value)[:_MAX_SHOWN]}, not {expected}, and"
        return f"field {self.name!r}{what} is ignored: {_MENDS[self.kind]}"


class OtherNames(NamedTuple):
    """Time and rate that a message has under other names, and the fields that are ignored."""

    t_ns: int | None = None
    rate_hz: float | None = None
    ignored: tuple[IgnoredField, ...] = ()


_NOTHING = OtherNames()


class IgnoredFieldNotes:
    """Notes of ignored fields, one for each field of a device, for at most ten devices a field."""

    def __init__(self) -> None:
        self._devices: dict[str, set[str]] = {}  # by name of the field
        self._notes: list[str] = []

    def add(self, device: str, ignored: Iterable[IgnoredField]) -> None:
        """Make notes of fields that a message of ``device`` has, unless there are such notes already."""
        for field in ignored:
            if field.name not in self._devices and len(self._devices) == _MAX_FIELDS:
                continue
            devices = self._devices.setdefault(field.name, set())
            if device in devices or len(devices) == _MAX_DEVICES:
                continue
            devices.add(device)
            end = "" if len(devices) < _MAX_DEVICES else "; further devices with this field are not named"
            self._notes.append(f"device {device!r}: {field.describe()}{end}")

    def take(self) -> list[str]:
        """Return the notes made since the last call, each a line for the log."""
        notes, self._notes = self._notes, []
        return notes


def read_other_names(payload: bytes, wanted: Collection[str]) -> OtherNames:
    """Return what a JSON object tells under other names.

    Args:
        payload: The object.
        wanted: What it does not tell under the canonical name: some of ``time``, ``rate`` and ``units``.

    """
    try:
        members = _decode_members(payload)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return _NOTHING
    return _read_members(members, wanted, _value)


def read_members(members: Mapping[Any, Any], wanted: Collection[str]) -> OtherNames:
    """Return the same of an object that is decoded already."""
    return _read_members({name: value for name, value in members.items() if isinstance(name, str)}, wanted, _short)


def _read_members(members: Mapping[str, Any], wanted: Collection[str], value_of: Callable[[Any], Any]) -> OtherNames:
    """Return what members tell under other names; ``value_of`` returns the value of one."""
    if not members.keys() - CANONICAL_NAMES:
        return _NOTHING
    found: dict[str, Any] = {}
    ignored = []
    for kind, names, read in (("time", TIME_NAMES, guess_time), ("rate", RATE_NAMES, read_rate)):
        if kind in wanted:
            values = {name: value_of(members[name]) for name in names if name in members}
            usable = [result for value in values.values() if (result := read(value)) is not None]
            if usable:
                found[kind] = usable[0]
            else:
                ignored += [IgnoredField(name, kind, value) for name, value in values.items() if value is not None]
    ignored += [field for field in _suspicious(members) if field.kind in wanted and field.kind not in found]
    return OtherNames(found.get("time"), found.get("rate"), tuple(ignored))


def ignored_units(units: Mapping[str, str]) -> tuple[IgnoredField, ...]:
    """Return the members of ``units`` that name a sensor otherwise than acc and gyro."""
    others = [name[:_MAX_NAME] for name in islice(units, _MAX_NAMES) if name not in ("acc", "gyro")]
    sensors = _SENSORS.split()
    return tuple(
        IgnoredField(f"units.{name}", "units") for name in sorted(others) if not _words(name).isdisjoint(sensors)
    )


def kind_of(name: str) -> str | None:
    """Return what a name that is not understood looks like: ``time``, ``rate`` or ``units``; None: none of them.

    >>> kind_of("deviceTimeMs"), kind_of("sampling_frequency"), kind_of("accUnit")
    ('time', 'rate', 'units')
    >>> kind_of("timezone"), kind_of("heart_rate"), kind_of("latency_ms")
    (None, None, None)

    """
    return None if len(name) > _MAX_NAME or name in _UNDERSTOOD else _kind_of(name)


@lru_cache(maxsize=1024)
def _kind_of(name: str) -> str | None:
    words = _words(name)
    for kind, (some, others) in _WORDS.items():
        if not words.isdisjoint(some.split()) and words.issubset(f"{some} {others}".split()):
            return kind
    return None


def _words(name: str) -> set[str]:
    """Return the words of a name such as ``sampleRate`` or ``sample_rate``, in small letters."""
    return {word.lower() for word in _WORD.findall(name)}


def _suspicious(names: Iterable[str]) -> list[IgnoredField]:
    return [IgnoredField(name, kind) for name in islice(names, _MAX_NAMES) if (kind := kind_of(name)) is not None]


def _value(raw: msgspec.Raw) -> Any:
    """Return the value of a member, or its text.

    It is the text if it cannot be decoded, such as a number that fits no float, and if it is a long list or object,
    which may be too deep to be shown.
    """
    text = bytes(raw)
    if len(text) <= _MAX_SHOWN or text[:1] not in (b"[", b"{"):
        with suppress(msgspec.DecodeError, ValueError, RecursionError):
            return msgspec.json.decode(text)
    return text[:_MAX_SHOWN].decode(errors="replace")


def _short(value: Any) -> Any:
    """Return a value, or a few words for a list or an object, which may be too deep to be shown."""
    return f"<{type(value).__name__}>" if isinstance(value, list | Mapping) else value


def read_rate(value: Any) -> float | None:
    """Return a rate in Hz; None if the value is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 1e9 else None
