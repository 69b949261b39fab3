"""CSV: lines of text with a sample each, in the order of columns that the configuration names.

With the columns ``t``, ``ax``, ``ay`` and ``az`` this payload is two samples of an accelerometer:

    1763668800123,0.01,-0.02,0.98
    1763668800143,0.02,-0.01,0.99

Many sketches print such lines. RFC 4180 describes lines, columns and quotes; there is no standard of their content.
Columns are separated by semicolons, commas, tabs or spaces: the first of these that the first line has outside of
quotes. Columns named ``-`` are not used. Empty lines are passed over, and so is a first line without any number, the
header. Without a column ``t`` the time of arrival counts. Numbers have a decimal point; where semicolons separate, they
may have a decimal comma.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from harstream.core.batches import Float64, Int64, Sensor
from harstream.wire.device_names import check_number
from harstream.wire.documents import shown
from harstream.wire.fields import UNUSED, Fields
from harstream.wire.reject import RejectError
from harstream.wire.samples import AUTO, Samples, Units, acc_factor, convert, gyro_factor, samples_or_refused
from harstream.wire.times import read_time, read_times

#: Separator to its name for people, in the order of preference.
_SEPARATORS = {";": "semicolons", ",": "commas", "\t": "tabs", " ": "spaces"}
_QUOTED = re.compile(r'"[^"]*"')
_MAX_SHOWN = 60


def decode_csv(
    payload: bytes, fields: Fields, units: Units, *, names_device: bool, sensor: Sensor | None = None
) -> list[Samples]:
    """Return the samples of lines of text, those of each device together.

    Args:
        payload: The lines.
        fields: Their columns.
        units: Units of their numbers, after the scales.
        names_device: Whether the lines name the device.
        sensor: GYRO: if the columns have no gyroscope, ax, ay and az are the gyroscope's.

    Raises:
        RejectError: A line has another number of columns, or a column holds no number.

    """
    rows = _rows(payload, fields.columns)
    if not rows:
        raise RejectError("empty", "no line with samples")
    names = fields.columns
    if sensor == Sensor.GYRO and "gx" not in names:
        names = tuple({"ax": "gx", "ay": "gy", "az": "gz"}.get(name, name) for name in names)
    by_name = dict(zip(names, zip(*rows, strict=True), strict=True))
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(by_name.get("device", ())):
        groups.setdefault(name, []).append(index)
    if not names_device:
        if len(groups) > 1:
            raise RejectError("device", f"lines of {len(groups)} devices, but the topic names one")
        return [_samples(by_name, fields, units, None)]
    check_number(len(groups))
    return [
        samples_or_refused(
            partial(_samples, {column: [texts[i] for i in group] for column, texts in by_name.items()}, fields, units),
            name,
            len(groups),
        )
        for name, group in groups.items()
    ]


def _rows(payload: bytes, columns: Sequence[str]) -> list[list[str]]:
    """Return the columns of each line, with decimal points in those of numbers."""
    try:
        text = payload.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RejectError("csv", f"not UTF-8 text: {error}") from None
    lines, separator, rows = read_rows(text)
    if not rows:
        return []
    if (len(rows) > 1 or len(rows[0]) == len(columns)) and is_header(rows[0]):
        del rows[0], lines[0]
    for number, row in enumerate(rows):
        if len(row) != len(columns):
            raise RejectError(
                "csv",
                f"a line with {len(row)} columns between {_SEPARATORS[separator]}, expected {len(columns)} "
                f"({', '.join(columns)}): {shown(lines[number][:_MAX_SHOWN])}",
            )
    if separator == ";":
        texts = [column in ("device", UNUSED) for column in columns]
        rows = [
            [one if is_text else one.replace(",", ".") for one, is_text in zip(row, texts, strict=True)] for row in rows
        ]
    return rows


def read_rows(text: str) -> tuple[list[str], str, list[list[str]]]:
    """Return the lines of a text that are not empty, what separates columns, and the columns of each line.

    Raises:
        RejectError: A line cannot be split.

    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return [], ",", []
    plain = _QUOTED.sub("", lines[0].strip())
    separator = next((one for one in _SEPARATORS if one in plain), ",")
    return lines, separator, _split(lines, separator)


def is_header(columns: Sequence[str]) -> bool:
    """Return whether the columns of a line are names: none of them is a number."""
    return not any(_is_number(one.replace(",", ".")) for one in columns)


def _split(lines: list[str], separator: str) -> list[list[str]]:
    """Return the texts between separators of each line, without quotes and spaces around them."""
    if separator == " ":
        lines = [" ".join(line.split()) for line in lines]
    try:
        rows = [row for line in lines for row in csv.reader([line], delimiter=separator, skipinitialspace=True)]
    except csv.Error as error:
        raise RejectError("csv", shown(str(error))) from None
    return [[column.strip() for column in row] for row in rows]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _samples(by_name: dict[str, Any], fields: Fields, units: Units, device: str | None) -> Samples:
    acc = _numbers(by_name, ("ax", "ay", "az")) if "ax" in by_name else np.zeros((0, 3))
    gyro = _numbers(by_name, ("gx", "gy", "gz")) if "gx" in by_name else None
    t_ns: int | None = None
    own_t_ns: Int64 | None = None
    if "t" in by_name:
        times = by_name["t"]
        if len(times) == 1:
            t_ns = read_time(times[0], fields.t_unit, "t")
        else:
            own_t_ns = read_times(_plain_times(times), fields.t_unit, "t")
    auto = units.acc == AUTO
    return Samples(
        t_ns,
        0.0,
        convert(acc, acc_factor(units.acc) * fields.acc_scale, auto=auto),
        None if gyro is None else convert(gyro, gyro_factor(units.gyro) * fields.gyro_scale),
        auto,
        device=device,
        acc_t_ns=own_t_ns,
    )


def _plain_times(times: Any) -> list[Any]:
    """Return whole numbers where all texts hold one: they are read exactly, and all together."""
    whole = all(text.isascii() and text.isdecimal() and len(text) < 20 for text in times)
    return [int(text) for text in times] if whole else list(times)


def _numbers(by_name: dict[str, Any], names: tuple[str, str, str]) -> Float64:
    """Return the numbers of three columns, (n_samples, 3)."""
    try:
        return np.array([by_name[name] for name in names]).astype(np.float64).T
    except ValueError:
        name, odd = next((name, text) for name in names for text in by_name[name] if not _is_number(text))
        raise RejectError(
            "csv", f"the column {name} holds {shown(repr(odd[:_MAX_SHOWN]))}, expected a number"
        ) from None


def check_columns(fields: Fields) -> str:
    """Return what is missing in the configuration of the payload ``csv``; "" if nothing is."""
    return "" if fields.columns else f"columns are not configured, such as ['t', 'ax', 'ay', 'az', '{UNUSED}']"
