"""Columns of a text file of samples, found by the names in its header, with their units."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from harstream.errors import DatasetError
from harstream.wire.samples import ACC_UNITS, GYRO_UNITS, UNIT_ALIASES

#: Signals in the order of a recording's samples.
ACC, GYRO = ("ax", "ay", "az"), ("gx", "gy", "gz")

_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
#: Units by the first letter of a column: time, accelerometer, gyroscope.
_UNITS = {"t": _TIME_UNITS, "a": ACC_UNITS, "g": GYRO_UNITS}
#: Name of a column, with its unit in brackets.
_COLUMN = re.compile(r"\s*([^\[\](){}]*?)\s*(?:[\[({]\s*([^\[\](){}]*?)\s*[\])}])?\s*")
_SENSORS = {
    **dict.fromkeys(("a", "acc", "accel", "accelerometer", "acceleration"), "a"),
    **dict.fromkeys(("g", "gyr", "gyro", "gyroscope"), "g"),
}
_TIMES = ("t", "time", "timestamp", "ts", "datetime")
#: Names of the column of the label, without separators. Of several columns that of the first name counts.
_LABELS = ("label", "labels", "activitylabel", "activityname", "activity", "activities", "class")
_SUBJECTS = ("subject", "subjectid", "user", "userid", "participant", "participantid")
#: First line of a file that tells a spreadsheet the separator.
_SEP_LINE = re.compile(r"\ufeff?\"?sep=(.)\"?\s*", re.IGNORECASE)


class ForeignFileError(DatasetError):
    """A file has no column of an accelerometer or gyroscope, so it is no recording."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Places of the known values in a row."""

    separator: str
    names: tuple[str, ...]  # of all columns, in order
    index: dict[str, int]  # of each known column
    units: dict[str, str]  # that the header states, of "t", "a" and "g": time, accelerometer, gyroscope

    @property
    def separator_name(self) -> str:
        """The separator in words."""
        return _SEPARATORS[self.separator]

    @property
    def signals(self) -> tuple[str, ...]:
        """The columns of the samples, in order."""
        return (*ACC, *GYRO) if GYRO[0] in self.index else ACC

    @property
    def unused(self) -> tuple[str, ...]:
        """Names of the columns that are not known."""
        known = set(self.index.values())
        return tuple(name for number, name in enumerate(self.names) if number not in known and name)

    def of(self, name: str, rows: Sequence[Sequence[str]]) -> list[str]:
        """Return the fields of a known column."""
        index = self.index[name]
        return [row[index] for row in rows]

    def factor(self, name: str) -> float:
        """Return what converts a column to s, g or rad/s by its stated unit, 1 if none is stated."""
        unit = self.units.get(name[0])
        return 1.0 if unit is None else _UNITS[name[0]][unit]


def read_header(lines: TextIO, where: str) -> tuple[Columns, int]:
    """Read lines up to the header, and return what it says and its number, from 1.

    Lines of comments before it, and one that states the separator, are passed over. Of the separators, that by which
    most columns are known is the one.

    Raises:
        ForeignFileError: No column of a sensor is known.
        DatasetError: A column is missing, or a unit is unknown or not the same for all axes.

    """
    line, number, separators = lines.readline(), 1, "".join(_SEPARATORS)
    while line and (not line.strip("\ufeff \r\n") or line.startswith(("#", "\ufeff#")) or _SEP_LINE.fullmatch(line)):
        if (stated := _SEP_LINE.fullmatch(line)) and stated[1] in separators:
            separators = stated[1]
        line, number = lines.readline(), number + 1
    if not line:
        number = 1
    where = f"{where}, line {number}"
    found = [_columns(line.lstrip("\ufeff"), separator, where) for separator in separators]
    best = max(found, key=lambda columns: len(columns.index))
    missing = [name for name in ("t", *ACC) if name not in best.index]
    if any(name in best.index for name in GYRO):
        missing += [name for name in GYRO if name not in best.index]
    if missing:
        names = ", ".join(name for name in best.names if name) or "nothing"
        error = DatasetError if any(name in best.index for name in (*ACC, *GYRO)) else ForeignFileError
        raise error(
            f"{where}: expected a header with the columns t, ax, ay, az, and gx, gy, gz if there is a gyroscope, but "
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing among: {names[:200]}; "
            "harstream data inspect --help tells which names are known"
        )
    return best, number


def _columns(line: str, separator: str, where: str) -> Columns:
    """Return what the fields of a header say."""
    fields = next(csv.reader([line], delimiter=separator), [])
    index: dict[str, int] = {}
    stated: dict[str, str] = {}  # unit by column
    ranks: dict[str, int] = {}
    for number, field in enumerate(fields):
        match = _COLUMN.fullmatch(field)
        name, unit, rank = _known(match[1], match[2]) if match else (None, None, 0)
        if name is not None and rank < ranks.get(name, len(_LABELS)):
            index[name], ranks[name] = number, rank
            if unit is not None:
                stated[name] = _spelt_as_ours(unit)
    units: dict[str, str] = {}
    for name, unit in stated.items():
        known = _UNITS[name[0]]
        if unit not in known:
            raise DatasetError(f"{where}: unit of {name}: expected one of {', '.join(known)}, got {unit!r}")
        if units.setdefault(name[0], unit) != unit:
            first = next(one for one in stated if one[0] == name[0])
            raise DatasetError(
                f"{where}: the unit of {first} is {units[name[0]]}, that of {name} is {unit}: a sensor has one unit, "
                "state it once"
            )
    return Columns(separator, tuple(field.strip() for field in fields), index, units)


def _spelt_as_ours(unit: str) -> str:
    """Return a unit in the spelling of ours, if it has a usual one: m/s^2 is m/s2, as in a message."""
    plain = unit.lower().replace(" ", "")
    return UNIT_ALIASES.get(plain, plain)


def _known(name: str, unit: str | None) -> tuple[str | None, str | None, int]:
    """Return our name of a column, None if it is not known; its unit, None if it is not stated; and its rank.

    Of columns of one name that of the lowest rank counts.
    """
    words = [word for word in re.split(r"[\s_.\-:]+", name.strip().lower()) if word]
    joined = "".join(words)
    for ours, names in (("label", _LABELS), ("subject", _SUBJECTS)):
        if joined in names:
            return ours, None, names.index(joined)
    if joined in _TIMES:
        return "t", unit, 0
    if (axis := _axis(joined)) is not None:
        return axis, unit, 0
    if len(words) > 1:  # the last word may be the unit
        before, last = "".join(words[:-1]), _spelt_as_ours(words[-1])
        if words[0] in _TIMES and last in _TIME_UNITS:
            return "t", last, 0
        if (axis := _axis(before)) is not None and last in _UNITS[axis[0]]:
            return axis, last, 0
    return None, None, 0


def _axis(joined: str) -> str | None:
    """Return our name of an axis of a sensor, None if it is none."""
    for sensor, axis in ((joined[:-1], joined[-1:]), (joined[1:], joined[:1])):
        if sensor in _SENSORS and axis in ("x", "y", "z"):
            return _SENSORS[sensor] + axis
    return None
