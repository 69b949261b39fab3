"""Mapped payload: documents of any shape, with the places of time and samples as the configuration names them.

The source is whatever a device sends. A path names the members of objects from the outside to the inside, separated by
dots, and an element of a list by its number: ``values.ax``, ``data.0.t``. With these fields

>>> fields = Fields.parse({"t": "ts", "acc": ["values.ax", "values.ay", "values.az"]})

the message ``{"ts": 1763668800123, "values": {"ax": 0.1, "ay": 0.2, "az": 0.97}}`` is one sample of the accelerometer:

>>> from harstream.wire.samples import Units
>>> message = {"ts": 1763668800123, "values": {"ax": 0.1, "ay": 0.2, "az": 0.97}}
>>> decode_fields(message, fields, Units(), names_device=False).t_ns
1763668800123000000

**Samples.** ``acc`` and ``gyro`` are three paths, to numbers or to lists of equal length, or one path to anything that
``vectors.read_vectors`` reads. With ``samples``, the path to a list, the other paths begin at each of its elements;
the path ``.`` is the message itself.
``acc_scale`` and ``gyro_scale`` multiply the numbers, for counts of a converter (MPU-6050 at 2 g: 1/16384).

**Time.** ``t`` is the time of the first sample, or holds a list with a time for each sample. With ``samples`` it is
looked for in the message, and if it is not there, in each sample. ``t_unit`` is one of ``times.TIME_UNITS``. A
message without ``t`` where the configuration names it is rejected; without the configuration, the time of arrival
counts.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harstream import checks
from harstream.core.batches import Float64, Int64, Sensor
from harstream.errors import ConfigError
from harstream.wire.device_names import device_name
from harstream.wire.documents import found
from harstream.wire.other_names import read_rate
from harstream.wire.reject import RejectError
from harstream.wire.samples import AUTO, Samples, Units, acc_factor, convert, gyro_factor
from harstream.wire.times import AUTO_UNIT, TIME_UNITS, read_time, read_times
from harstream.wire.vectors import read_columns, read_vectors

#: Names of the columns of the payload ``csv``, beside ``-`` for one that is not used.
COLUMNS = ("device", "t", "ax", "ay", "az", "gx", "gy", "gz")
UNUSED = "-"
#: Path of the samples, if the message itself is their list.
WHOLE = "."
_NOTHING = object()
_MAX_PATHS = 16


@dataclass(frozen=True, slots=True)
class Fields:
    """Places of the fields in a message, as dotted paths; "" or empty: the message does not have it."""

    device: str = ""  # only where the topic has no level {device}
    t: str = ""
    t_unit: str = AUTO_UNIT
    acc: tuple[str, ...] = ()  # three paths, or one
    gyro: tuple[str, ...] = ()
    samples: str = ""
    rate_hz: str = ""
    acc_scale: float = 1.0
    gyro_scale: float = 1.0
    columns: tuple[str, ...] = ()  # of the payload csv, in their order

    @classmethod
    def parse(cls, value: Any, where: str = "fields") -> Fields:
        """Return the fields of a table of the settings file, or of a text with the same table in TOML.

        Raises:
            ConfigError: The table has an unknown key, or a value is not allowed.

        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            value = _read_table(value, where)
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a table, got {type(value).__name__}")
        known = {field.name for field in dataclasses.fields(cls)}
        given: dict[str, Any] = {}
        for key, content in value.items():
            at = f"{where}: {key}"
            if key not in known:
                raise ConfigError(f"{where}: {key!r} does not exist; known are {', '.join(sorted(known))}")
            if key in ("acc", "gyro", "columns"):
                given[key] = _texts(content, at)
            elif key in ("acc_scale", "gyro_scale"):
                given[key] = checks.number(content, at, -1e9, 1e9)
            elif not isinstance(content, str):
                raise ConfigError(f"{at}: expected a text, got {type(content).__name__}")
            else:
                given[key] = content
        return cls(**given)._check(where)

    def _check(self, where: str) -> Fields:
        checks.choice(self.t_unit, f"{where}: t_unit", TIME_UNITS)
        for name in ("acc", "gyro"):
            if len(getattr(self, name)) not in (0, 1, 3):
                raise ConfigError(f"{where}: {name}: expected one path or three, got {len(getattr(self, name))}")
        for column in self.columns:
            if column != UNUSED:
                checks.choice(column, f"{where}: columns", (*COLUMNS, UNUSED))
        named = [column for column in self.columns if column != UNUSED]
        if len(set(named)) < len(named):
            raise ConfigError(f"{where}: columns: a name is there twice in {', '.join(self.columns)}")
        if self.columns and not {"ax", "ay", "az"} <= set(named):
            raise ConfigError(f"{where}: columns: ax, ay and az are not all in {', '.join(self.columns)}")
        if named and 0 < len({"gx", "gy", "gz"} & set(named)) < 3:
            raise ConfigError(f"{where}: columns: only some of gx, gy and gz are in {', '.join(self.columns)}")
        return self

    def given(self) -> dict[str, Any]:
        """Return the values by key that have not their default."""
        values = {field.name: (getattr(self, field.name), field.default) for field in dataclasses.fields(self)}
        return {key: value for key, (value, default) in values.items() if value != default}

    def to_toml(self) -> str:
        """Return the table as TOML in one line, without what has its default."""
        parts = []
        for key, value in self.given().items():
            parts.append(f"{key} = {toml_value(value)}")
        return "{ " + ", ".join(parts) + " }" if parts else "{}"

    def __str__(self) -> str:
        return self.to_toml()


def toml_value(value: Any) -> str:
    """Return a text, a number or a list of these as TOML."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def _read_table(text: str, where: str) -> Any:
    try:
        return tomllib.loads(f"x = {text}")["x"] if text.lstrip().startswith("{") else tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f'{where}: {error}; expected a table in TOML, such as {{ t = "ts", acc = "a" }}') from error


def _texts(value: Any, where: str) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) and item for item in items):
        raise ConfigError(f"{where}: expected a text or a list of texts")
    if len(items) > _MAX_PATHS:
        raise ConfigError(f"{where}: expected at most {_MAX_PATHS} texts, got {len(items)}")
    return tuple(items)


def find(document: Any, path: str) -> Any:
    """Return the value at a dotted path, or ``MISSING``. A name with a dot in it is found as it is."""
    if isinstance(document, dict) and path in document:
        return document[path]
    value = document
    for step in path.split("."):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and len(step) < 9 and int(step) < len(value):
            value = value[int(step)]
        else:
            return MISSING
    return value


MISSING = _NOTHING


def decode_fields(
    document: Any, fields: Fields, units: Units, *, names_device: bool, sensor: Sensor | None = None
) -> Samples:
    """Return the samples of a document.

    Args:
        document: Content of a message.
        fields: Where its fields are.
        units: Units of its numbers, after the scales.
        names_device: Whether the message names the device.
        sensor: Sensors that messages may hold by themselves; None: the accelerometer must be there. Of messages for one
            sensor only that is read; without a configured place of gyro, it is where acc is.

    Raises:
        RejectError: The document has not the fields, or they do not hold what they should.

    """
    if not isinstance(document, dict | list):
        raise RejectError("shape", f"the message is {found(document)}, expected an object")
    holders = _holders(document, fields)
    acc, gyro = _read_sensors(holders, fields, sensor)
    if not len(acc) and (gyro is None or sensor is None):
        raise RejectError("empty", "no sample")
    t_ns, own_t_ns = _read_times(document, holders, fields, len(acc) if gyro is None else len(gyro))
    auto = units.acc == AUTO
    return Samples(
        t_ns,
        _read_rate(document, fields),
        convert(acc, acc_factor(units.acc) * fields.acc_scale, auto=auto),
        None if gyro is None else convert(gyro, gyro_factor(units.gyro) * fields.gyro_scale),
        auto,
        device=_read_device(document, fields) if names_device else None,
        acc_t_ns=own_t_ns,
    )


def _read_sensors(holders: Sequence[Any], fields: Fields, sensor: Sensor | None) -> tuple[Float64, Float64 | None]:
    """Return the vectors of accelerometer and gyroscope, (n_samples, 3); None: there is no gyroscope."""
    many, none = bool(fields.samples), np.zeros((0, 3))
    if sensor == Sensor.GYRO:
        gyro = read_sensor(holders, fields.gyro or fields.acc, "gyro", many=many)
        return none, gyro if len(gyro) else None
    paths = () if sensor == Sensor.ACC else fields.gyro
    gyro = read_sensor(holders, paths, "gyro", many=many) if paths else none
    is_alone = sensor == Sensor.BOTH and len(gyro) and all(find(holders[0], path) is MISSING for path in fields.acc)
    acc = none if is_alone else read_sensor(holders, fields.acc, "acc", many=many)
    if len(acc) and len(gyro) and len(gyro) != len(acc):
        raise RejectError("shape", f"{len(acc)} samples in acc, {len(gyro)} in gyro")
    return acc, gyro if len(gyro) else None


def _holders(document: Any, fields: Fields) -> list[Any]:
    """Return the objects that hold samples: the message, or the elements of its list of samples."""
    if not fields.samples:
        return [document]
    holders = document if fields.samples == WHOLE else find(document, fields.samples)
    if holders is MISSING:
        raise RejectError("shape", f"no {fields.samples!r} in {found(document)}")
    if not isinstance(holders, list):
        what = "the message" if fields.samples == WHOLE else repr(fields.samples)
        raise RejectError("shape", f"{what} is {found(holders)}, expected a list of samples")
    return holders


def read_sensor(holders: Sequence[Any], paths: Sequence[str], sensor: str, *, many: bool) -> Float64:
    """Return the vectors of one sensor, (n_samples, 3), with none where the first holder has none of a gyroscope.

    Args:
        holders: The message, or the elements of its list of samples.
        paths: Three paths, or one, from each holder.
        sensor: ``acc`` or ``gyro``.
        many: Whether each holder has one sample.

    Raises:
        RejectError: A path leads nowhere, or to something else than vectors.

    """
    if not holders:
        return np.zeros((0, 3))
    if not paths:
        raise RejectError("shape", "no place of acc is configured")
    what = ", ".join(paths)
    if sensor == "gyro" and all(find(holders[0], path) in (MISSING, None) for path in paths):
        return np.zeros((0, 3))
    values = [[_require(holder, path, sensor) for path in paths] for holder in holders]
    if not many:
        return read_vectors(values[0][0], what) if len(paths) == 1 else read_columns(values[0], what)
    if len(paths) == 1:
        return read_vectors([value[0] for value in values], what, each=True)
    return read_vectors(values, what, each=True)


def _require(holder: Any, path: str, sensor: str) -> Any:
    value = find(holder, path)
    if value is MISSING:
        raise RejectError("shape", f"no {path!r} for {sensor}, but {found(holder)}")
    return value


def _read_times(
    document: Any, holders: Sequence[Any], fields: Fields, n_samples: int
) -> tuple[int | None, Int64 | None]:
    """Return the time of the first sample, and the times of all samples if each has its own."""
    if not fields.t:
        return None, None
    value = MISSING if fields.samples == WHOLE else find(document, fields.t)
    if value is MISSING and fields.samples:
        values = [find(holder, fields.t) for holder in holders]
        if MISSING not in values:
            own = read_times(values, fields.t_unit, fields.t)
            return int(own[0]), own
    if value is MISSING or value is None:
        raise RejectError("time", f"no {fields.t!r}, but {found(document)}")
    if isinstance(value, list):
        if len(value) != n_samples:
            raise RejectError("time", f"{fields.t} is {found(value)}, expected a time for each of {n_samples} samples")
        own = read_times(value, fields.t_unit, fields.t)
        return int(own[0]), own
    return read_time(value, fields.t_unit, fields.t), None


def _read_rate(document: Any, fields: Fields) -> float:
    if not fields.rate_hz:
        return 0.0
    value = find(document, fields.rate_hz)
    if value is MISSING or value is None:
        return 0.0
    rate_hz = read_rate(value)
    if rate_hz is None:
        raise RejectError("rate", f"{fields.rate_hz} is {found(value)}, expected samples per second")
    return rate_hz


def _read_device(document: Any, fields: Fields) -> str:
    value = find(document, fields.device)
    if value is MISSING:
        raise RejectError("device", f"no {fields.device!r}, but {found(document)}")
    return device_name(value)
