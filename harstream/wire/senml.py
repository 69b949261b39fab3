"""SenML: Sensor Measurement Lists (RFC 8428) in JSON and CBOR, with records named ax, ay, az, gx, gy and gz.

A pack is a list of records. Those of one device, with its name before that of the axis, look like this:

    [{"bn": "urn:dev:mac:0024befffe804ff1:", "bt": 1763668800.02, "n": "ax", "u": "m/s2", "v": 0.2},
     {"n": "ay", "u": "m/s2", "v": -0.1}, {"n": "az", "u": "m/s2", "v": 9.7}]

The base fields ``bn``, ``bt``, ``bu`` and ``bv`` hold for all later records until they are replaced (section 4.1).
The name of a record is ``bn`` and ``n`` together. Where it ends in the name of an axis, behind ``:``, ``/``, ``.``,
``-`` or ``_`` or as a whole ``n``, the rest is the device, without such a sign at its end. A pack may hold records of
several devices. Records with other names are not samples, and are passed over.

The time of a record is ``bt`` and ``t`` together, in seconds; below 2 ** 28 it is relative to now (section 4.5.3), so
that the time of arrival counts, and the records only tell how far the samples are apart. Units are ``m/s2`` and
``rad/s`` of the registry, or those of any other message; a record without a unit has the configured one. A name that
ends in ``_`` must be understood (section 4.4), so that its pack is rejected.

In CBOR the labels of section 6 stand for the names: -2 for ``bn``, 0 for ``n``, and so on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from harstream.core.batches import Float32, Float64
from harstream.wire.device_names import check_number
from harstream.wire.documents import found, shown
from harstream.wire.reject import RejectError
from harstream.wire.samples import AUTO, Samples, Units, acc_factor, convert, gyro_factor, samples_or_refused
from harstream.wire.times import read_times

#: Label of a field in CBOR to its name in JSON.
_LABELS = {
    **dict(enumerate(("n", "u", "v", "vs", "vb", "s", "t", "ut", "vd"))),
    **{-1 - i: name for i, name in enumerate(("bver", "bn", "bt", "bu", "bv", "bs"))},
}
_KNOWN = frozenset(_LABELS.values())
_BASE = frozenset(("bn", "bu", "bt", "bv"))
_AXES = ("ax", "ay", "az", "gx", "gy", "gz")
_NAME = re.compile(r"(?:(.*)[:/._-])?([ag][xyz])", re.DOTALL)
_ENDS = ":/._-"
#: Times below this many seconds are relative to now.
_ABSOLUTE_S = 2**28
_MAX_SHOWN = 8  # names of records that are no samples


class _Axis:
    """Records of one axis of one device."""

    __slots__ = ("t", "unit", "values")

    def __init__(self, unit: str | None) -> None:
        self.unit = unit
        self.t: list[float] = []
        self.values: list[float] = []


def decode_senml(document: Any, units: Units, *, names_device: bool) -> list[Samples]:
    """Return the samples of each device in a pack; if the topic names the device, all must be of one device.

    Raises:
        RejectError: The document is no such pack.

    """
    if not isinstance(document, list):
        raise RejectError("shape", f"the message is {found(document)}, expected a list of SenML records")
    devices = _collect(document)
    if len(devices) > 1 and not names_device:
        raise RejectError("device", f"records of {len(devices)} devices, but the topic names one")
    check_number(len(devices))
    return [
        samples_or_refused(partial(_samples, axes, units), name if names_device else None, len(devices))
        for name, axes in devices.items()
    ]


def _collect(records: Sequence[Any]) -> dict[str, dict[str, _Axis]]:
    """Return the records of each device by axis, with the base fields applied."""
    devices: dict[str, dict[str, _Axis]] = {}
    places: dict[tuple[str, str], _Axis | None] = {}  # by base name and name
    others: list[str] = []
    base_name, base_unit = "", None
    base_time = base_value = 0.0
    for record in records:
        if not isinstance(record, dict):
            raise RejectError("shape", f"a record is {found(record)}, expected an object")
        if not record.keys() <= _KNOWN:
            record = _with_names(record)
        if not _BASE.isdisjoint(record):
            base_name = _typed(record, "bn", str, base_name)
            base_unit = _typed(record, "bu", str, base_unit)
            base_time = _typed(record, "bt", float, base_time)
            base_value = _typed(record, "bv", float, base_value)
        name, unit = record.get("n", ""), record.get("u", base_unit)
        try:
            place = places[base_name, name]
        except (KeyError, TypeError):  # TypeError: a name that is a list
            name, unit = _typed(record, "n", str, ""), _typed(record, "u", str, base_unit)
            place = places[base_name, name] = _place(base_name, name, unit, devices)
            if place is None and name and len(others) < _MAX_SHOWN:
                others.append(shown(name[:40]))
        if place is None:
            continue
        if unit != place.unit:
            _typed(record, "u", str, None)
            raise RejectError("units", f"the records of {shown(base_name + name)} have different units")
        value, t = record.get("v"), record.get("t", 0.0)
        if value is None and "bv" not in record and not base_value:
            raise RejectError("shape", f"the record of {shown(base_name + name)} has no v, but {found(record)}")
        place.values.append(base_value + (value if type(value) is float else _typed(record, "v", float, 0.0)))
        place.t.append(base_time + (t if type(t) is float else _typed(record, "t", float, 0.0)))
    if not devices:
        names = f"those of {', '.join(others)}" if others else "none"
        raise RejectError("shape" if records else "empty", f"no records named ax, ay and az, but {names}")
    return devices


def _with_names(record: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Return a record with names in place of CBOR's labels. Raise RejectError for a field that must be understood."""
    named = {_LABELS.get(key, key) if isinstance(key, int) else key: value for key, value in record.items()}
    unknown = [key for key in named if isinstance(key, str) and key.endswith("_")]
    if unknown:
        raise RejectError("shape", f"the field {shown(unknown[0])} of SenML must be understood, but is not known")
    return named


def _place(base_name: str, name: str, unit: str | None, devices: dict[str, dict[str, _Axis]]) -> _Axis | None:
    """Return the place of the records with this name; None if they are no samples."""
    match = _NAME.fullmatch(base_name + name)
    device, axis = (base_name, name) if name in _AXES else (match[1] or "", match[2]) if match else ("", "")
    return devices.setdefault(device.rstrip(_ENDS), {}).setdefault(axis, _Axis(unit)) if axis else None


def _typed(record: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = record.get(key, default)
    if value is default or (isinstance(value, kind) and kind is str):
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    raise RejectError(
        "shape", f"the field {key} of SenML is {found(value)}, expected a {'text' if kind is str else 'number'}"
    )


def _samples(axes: Mapping[str, _Axis], units: Units, device: str | None) -> Samples:
    acc, acc_times, acc_unit = _sensor(axes, "a", units.acc)
    gyro, gyro_times, gyro_unit = _sensor(axes, "g", units.gyro)
    times = np.concatenate([acc_times, gyro_times])
    auto = acc_unit == AUTO
    acc_values = convert(acc, acc_factor(acc_unit), auto=auto)
    gyro_values = convert(gyro, gyro_factor(gyro_unit)) if len(gyro) else None
    if (times >= _ABSOLUTE_S).all():
        own = [read_times(part.tolist(), "s", "bt and t") for part in (acc_times, gyro_times)]
        return Samples(None, 0.0, acc_values, gyro_values, auto, device=device, acc_t_ns=own[0], gyro_t_ns=own[1])
    if (times >= _ABSOLUTE_S).any():
        raise RejectError("time", "some records have a time since 1970, others one relative to now")
    return _relative(acc_values, gyro_values, acc_times, gyro_times, auto, device)


def _relative(
    acc: Float32, gyro: Float32 | None, acc_times: Float64, gyro_times: Float64, auto: bool, device: str | None
) -> Samples:
    """Return samples whose times are relative to now, and tell how far the samples are apart."""
    if not (np.isfinite(acc_times).all() and np.isfinite(gyro_times).all()):
        raise RejectError("time", "a time is not a finite number")
    if len(acc) and gyro is not None and (len(gyro_times) != len(acc_times) or (gyro_times != acc_times).any()):
        raise RejectError("shape", "times relative to now that differ between accelerometer and gyroscope")
    t_ns = np.rint((acc_times if len(acc) else gyro_times) * 1e9).astype(np.int64)
    return Samples(None, 0.0, acc, gyro, auto, device=device, acc_t_ns=t_ns, relative=True)


def _sensor(axes: Mapping[str, _Axis], sensor: str, unit: str) -> tuple[Float64, Float64, str]:
    """Return the vectors (n_samples, 3) of one sensor, their times (n_samples,) and their unit."""
    names = [name for name in _AXES if name[0] == sensor]
    present = [axes[name] for name in names if name in axes]
    if not present:
        return np.zeros((0, 3)), np.zeros(0), unit
    if len(present) < 3:
        raise RejectError("shape", f"only some of {', '.join(names)}")
    first = present[0]
    for name, axis in zip(names[1:], present[1:], strict=True):
        if axis.unit != first.unit:
            raise RejectError("units", f"{names[0]} in {shown(str(first.unit))}, {name} in {shown(str(axis.unit))}")
        if axis.t != first.t:
            what = f"{len(first.t)} and {len(axis.t)} records" if len(axis.t) != len(first.t) else "different times"
            raise RejectError("shape", f"{names[0]} and {name} have {what}")
    return np.array([axis.values for axis in present]).T, np.array(first.t), first.unit or unit
