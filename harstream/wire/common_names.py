"""Common names: where the fields of a message are that no one has configured, told from the names in public sketches.

Names are compared in small letters, without signs between words. For each sensor there are three names, one for each
axis (``accX``, ``accel_x``, ``AccelXAxis``, ``accelerometer_x``, ``ax``), or one name for all (``accelerometer``).
They are looked for in the message, then in the objects inside it (``values``, ``data``, ``MPU6050``), then in the
elements of a list (``samples``). The first that holds an accelerometer is taken. Shapes that are understood so:

    {"accX": 0.01, "accY": 0.02, "accZ": 0.99, "gycX": 1, "gycY": 2, "gycZ": 3, "timestamp": 1763668800123}
    {"ts": 1763668800123, "values": {"ax": 0.01, "ay": 0.02, "az": 0.99}}
    {"timestamp": 1763668800123, "accelerometer": [0.01, 0.02, 0.99], "gyroscope": [0.1, 0.2, 0.3]}
    {"device_id": "w1", "x": [0.01, 0.02], "y": [0.02, 0.01], "z": [0.99, 0.98], "device_t": 1763668800123}
    {"deviceId": "w1", "sampleRateHz": 50, "samples": [{"x": 0.01, "y": 0.02, "z": 0.99, "tOffsetMs": 0}]}
    {"Time": "2018-12-08T18:19:25", "MPU6050": {"AccelXAxis": 4828.0, "AccelYAxis": -7124.0, "AccelZAxis": 13420.0}}

The last is Tasmota's; its numbers are counts of the converter, which a scale in ``fields`` makes units of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from harstream.core.batches import Sensor
from harstream.wire.device_names import DEVICE_NAMES
from harstream.wire.fields import Fields
from harstream.wire.other_names import RATE_NAMES, TIME_NAMES

#: Beginnings of the names of axes, plain, in the order of preference; "" are x, y and z alone.
_ACC = ("accelerometer", "acceleration", "accel", "acc", "a", "")
_GYRO = ("gyroscope", "gyro", "gyr", "gyc", "rotationrate", "rotation", "rot", "angularvelocity", "g")
_GYRO_BEGINS = ("g", "rot", "angular")  # of these names
#: Names of objects in which x, y and z alone may be acceleration, plain, beside those of the accelerometer: those of
#: another object may be of any sensor.
_NEUTRAL = ("data", "imu", "motion", "payload", "readings", "reading", "sample", "samples", "sensor", "value", "values")
_AXES = ("xyz", "XYZ")
_SIGNS = re.compile(r"[^a-z0-9]+")
#: Names of times beside the canonical ones; the unit is told from the value.
_TIMES = (
    *(*TIME_NAMES, "t", "timeStamp", "Timestamp", "TimeStamp", "Time"),
    *("t_ms", "t_us", "t_ns", "device_t", "deviceTime", "datetime"),
)
_UNIT_OF_TIME = {"t": "s", "t_ms": "ms", "t_us": "us", "t_ns": "ns"}
_MAX_NAMES = 64  # members of an object that are looked at, and characters of their names
_MAX_INNER = 8  # objects in it that are looked at
_MAX_CHARACTERS = 4000  # of the names in an outline


def common_fields(document: Any, sensor: Sensor | None = None) -> Fields | None:
    """Return where the fields of a message are; None if it has no accelerometer under a common name.

    Of messages for the gyroscope only, it is looked for in place of the accelerometer, and x, y and z alone are its.
    """
    if not isinstance(document, dict):
        return None
    names = _gyro_names if sensor == Sensor.GYRO else _acc_names
    candidates = ((place, _sensor(place[2], names(place))) for place in _places(document))
    place, found = next(((place, found) for place, found in candidates if found), (None, ()))
    if place is None:
        return None
    prefix, samples, holder = place
    path = "" if samples else prefix
    beside = () if sensor == Sensor.GYRO else _sensor(holder, _GYRO)
    acc, gyro = ((), found) if sensor == Sensor.GYRO else (found, beside)
    gyro = tuple(path + name for name in gyro)
    if not gyro and _has_some(holder):
        return None
    if not gyro and not samples:
        gyro = common_gyro(document)
    t, t_unit = _time(document, path, holder)
    return Fields(
        device=next((name for name in DEVICE_NAMES if name in document), DEVICE_NAMES[1]),
        t=t,
        t_unit=t_unit,
        acc=tuple(path + name for name in acc),
        gyro=gyro,
        samples=samples,
        rate_hz=next((name for name in ("rate_hz", *RATE_NAMES) if name in document), ""),
    )


def common_gyro(document: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return the paths of a gyroscope under a common name: in the message, else in an object in it."""
    holders = [("", document), *((f"{name}.", holder) for name, is_list, holder in _inner(document) if not is_list)]
    for path, holder in holders:
        of_gyro = _plain(path) in _GYRO
        if not of_gyro and not any(
            _may_be_shown(name) and _plain(name).startswith(_GYRO_BEGINS) for name in islice(holder, _MAX_NAMES)
        ):
            continue
        names = _sensor(holder, (*_GYRO, "") if of_gyro else _GYRO)
        if names:
            return tuple(path + name for name in names)
    return ()


def outline(document: Mapping[Any, Any]) -> tuple[Any, ...] | None:
    """Return what ``common_fields`` looks at, for its result to be remembered: names, and what kinds their values are.

    It is None where names are too long to be remembered.
    """
    names = [(name, _kind(value)) for name, value in islice(document.items(), _MAX_NAMES)]
    inner = [
        (name, key, _kind(value))
        for name, _, members in _inner(document)
        for key, value in islice(members.items(), _MAX_NAMES)
    ]
    n_characters = sum(len(str(name)) for name, _ in names) + sum(len(str(key)) for _, key, _ in inner)
    return (*names, *inner) if n_characters <= _MAX_CHARACTERS else None


def _inner(document: Mapping[Any, Any]) -> list[tuple[str, bool, Mapping[Any, Any]]]:
    """Return the first objects in an object, also those that begin a list: name, whether in a list, and the object."""
    inner: list[tuple[str, bool, Mapping[Any, Any]]] = []
    for name, value in islice(document.items(), _MAX_NAMES):
        is_list = isinstance(value, list)
        holder = value[0] if is_list and value else value
        if isinstance(holder, dict) and _may_be_shown(name):
            inner.append((name, is_list, holder))
            if len(inner) == _MAX_INNER:
                break
    return inner


def _kind(value: Any) -> int:
    if isinstance(value, dict):
        return 4 if _may_be_vectors(value) else 3
    return 0 if value is None else 2 if isinstance(value, list) else 1


def _places(document: Mapping[Any, Any]) -> list[tuple[str, str, Mapping[Any, Any]]]:
    """Return the objects that may hold a sample: path before its names, path of its list, and the object."""
    inner = _inner(document)
    return [
        ("", "", document),
        *((f"{name}.", "", holder) for name, is_list, holder in inner if not is_list and not _is_vector(holder)),
        *(("", name, holder) for name, is_list, holder in inner if is_list and not _is_sensor(name)),
    ]


def _acc_names(place: tuple[str, str, Mapping[Any, Any]]) -> tuple[str, ...]:
    """Return the beginnings of names by which an accelerometer is known in a place."""
    name = _plain(place[0] or place[1])
    return _ACC if not name or name in _NEUTRAL or name in _ACC else tuple(begin for begin in _ACC if begin)


def _gyro_names(place: tuple[str, str, Mapping[Any, Any]]) -> tuple[str, ...]:
    """Return the same of a gyroscope, in a message that holds nothing else."""
    name = _plain(place[0] or place[1])
    return (*_GYRO, "") if not name or name in _NEUTRAL or name in _GYRO else _GYRO


def _is_vector(value: Mapping[Any, Any]) -> bool:
    return {str(name).lower() for name in islice(value, _MAX_NAMES)} == {"x", "y", "z"}


def _may_be_vectors(value: Any) -> bool:
    """Return whether a value is a list, or an object with x, y and z."""
    return isinstance(value, list) or (isinstance(value, dict) and any(set(axes) <= value.keys() for axes in _AXES))


def _is_sensor(name: str) -> bool:
    return _plain(name) in (*_ACC, *_GYRO)


def _may_be_shown(name: Any) -> bool:
    """Return whether the name of a member may be part of a path, which an error shows."""
    return isinstance(name, str) and 0 < len(name) <= _MAX_NAMES and name.isprintable()


def _plain(name: str) -> str:
    return _SIGNS.sub("", name.lower())


def _sensor(holder: Mapping[Any, Any], beginnings: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of a sensor in an object: three of its axes, or one of all; none if it is not there."""
    plain: dict[str, str] = {}
    for name in islice(holder, _MAX_NAMES):
        if _may_be_shown(name):
            plain.setdefault(_plain(name), name)
    for begin in beginnings:
        if begin and begin in plain and _may_be_vectors(holder[plain[begin]]):
            return (plain[begin],)
        for end in ("", "axis"):
            names = [plain.get(f"{begin}{axis}{end}") for axis in "xyz"]
            if None not in names:
                return tuple(name for name in names if name is not None)
    return ()


def _has_some(holder: Mapping[Any, Any]) -> bool:
    """Return whether an object has only some of the axes of a gyroscope."""
    names = {_plain(name) for name in islice(holder, _MAX_NAMES) if _may_be_shown(name)}
    return any(f"{begin}{axis}" in names for begin in _GYRO for axis in "xyz")


def _time(document: Mapping[Any, Any], prefix: str, holder: Mapping[Any, Any]) -> tuple[str, str]:
    """Return the path and the unit of the time; "" if there is none."""
    for begin, members in (("", document), (prefix, holder)):
        for name in _TIMES:
            if name in members and members[name] is not None and not isinstance(members[name], dict):
                return begin + name, _UNIT_OF_TIME.get(name, "auto")
    return "", "auto"
