"""Places: where values are in documents of one shape, and the values of several messages there.

A place is a dotted path, as ``wire.fields`` takes it. Where a list holds objects or lists, one sample each, the path
begins at an element, and ``samples`` is the path of the list:

>>> held = collect([{"id": "w1", "data": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}])
>>> [(place.samples, place.path, place.kind, values) for place, values in held.items()]
[('', 'id', 'text', [['w1']]), ('data', 'x', 'number', [[1, 3]]), ('data', 'y', 'number', [[2, 4]])]

A list of numbers is one place, a column. If it is short, its elements are places too, as in
``[ax, ay, az, gx, gy, gz]``. So are the elements of a short list of objects that name their sensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from harstream.probe.words import AXES, sensor_of
from harstream.wire.fields import WHOLE

#: Kinds of places. A column holds numbers, vectors lists or objects of three numbers each.
KINDS = ("number", "text", "truth", "null", "column", "vectors", "empty")
_MAX_DEPTH, _MAX_MEMBERS, MAX_PLACES = 8, 64, 400
_MAX_ELEMENTS = 16  # numbers of a list that are places of their own
_MAX_NAMED = 6  # the same for objects that name their sensor
_MAX_TEXT = 64  # characters of a text that may name a sensor
_MAX_VALUES = 5_000  # of one place in one message


class Place(NamedTuple):
    """Place of a value in documents."""

    path: str
    samples: str = ""  # path of the list at whose elements ``path`` begins; "": it begins at the message
    kind: str = "number"  # one of KINDS
    hidden: bool = False  # part of another place; not to be shown
    sensor: str = ""  # that a text beside it names

    @property
    def text(self) -> str:
        """Return the place for people: ``data[].x``."""
        return f"{self.samples.strip('.')}[].{self.path}" if self.samples else self.path


#: Values of each place: for every message that has it, a list of values.
Held = dict[Place, list[list[Any]]]


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number, or a text that holds one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False
    if isinstance(value, str) and len(value) > 40:
        return False
    try:
        return math.isfinite(float(value))
    except (ValueError, OverflowError):
        return False


def collect(documents: Sequence[Any]) -> Held:
    """Return the values of all places in documents, in the order in which they first appear."""
    held: Held = {}
    for document in documents:
        of_message: dict[Place, list[Any]] = {}
        for place, value in islice(_walk(document, "", "", 0), 4 * MAX_PLACES * _MAX_ELEMENTS):
            if len(of_message) < MAX_PLACES or place in of_message:
                values = of_message.setdefault(place, [])
                if len(values) < _MAX_VALUES:
                    values.extend(value) if place.kind in ("column", "vectors") else values.append(value)
        for place, values in of_message.items():
            if place in held or len(held) < MAX_PLACES:
                held.setdefault(place, []).append(values[:_MAX_VALUES])
    return held


def _walk(value: Any, path: str, samples: str, depth: int) -> Iterator[tuple[Place, Any]]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, dict):
        for name, member in islice(value.items(), _MAX_MEMBERS):
            # A name with a dot in it is only found as a whole path.
            is_whole = not path and not isinstance(member, dict | list | tuple)
            if isinstance(name, str) and name and name.isprintable() and ("." not in name or is_whole):
                yield from _walk(member, f"{path}.{name}" if path else name, samples, depth + 1)
    elif isinstance(value, list | tuple):
        yield from _walk_list(value, path, samples, depth)
    elif path:
        kind = (
            "null"
            if value is None
            else "truth"
            if isinstance(value, bool)
            else "number"
            if is_number(value)
            else "text"
            if isinstance(value, str)
            else ""
        )
        if kind:
            yield Place(path, samples, kind), value


def _walk_list(value: Sequence[Any], path: str, samples: str, depth: int) -> Iterator[tuple[Place, Any]]:
    if not value:
        if path:
            yield Place(path, samples, "empty"), None
        return
    if all(is_number(one) for one in islice(value, _MAX_VALUES)):
        if path:
            yield Place(path, samples, "column"), value
        if len(value) <= _MAX_ELEMENTS:
            for index, one in enumerate(value):
                yield Place(f"{path}.{index}" if path else str(index), samples, "number", bool(path)), one
        return
    first = value[0]
    sensors = _sensors_named(value)
    if sensors:
        for index, one in enumerate(value):
            for place, inner in _walk(one, f"{path}.{index}" if path else str(index), samples, depth + 1):
                yield place._replace(sensor=sensors[index]), inner
    elif samples:
        if isinstance(first, dict | list):
            yield from _vectors(value, path, samples)
    else:
        if isinstance(first, list | tuple) and all(isinstance(one, list | tuple) for one in value):
            if len(value) == len(AXES) != len(first):
                for index, column in enumerate(value):
                    yield from _walk_list(column, f"{path}.{index}" if path else str(index), samples, depth + 1)
                return
            if path:
                yield from _vectors(value, path, samples)
                if len(first) <= len(AXES):
                    return
        elif not isinstance(first, dict):
            return
        for one in islice(value, _MAX_VALUES):
            yield from _walk(one, "", path or WHOLE, depth + 1)


def _vectors(value: Sequence[Any], path: str, samples: str) -> Iterator[tuple[Place, Any]]:
    """Yield the place of a list with a vector in each element."""
    rows = [one for one in islice(value, _MAX_VALUES) if isinstance(one, list | tuple)]
    if rows and all(len(row) == 3 and all(is_number(one) for one in row) for row in rows):
        yield Place(path, samples, "vectors"), rows


def _sensors_named(value: Sequence[Any]) -> list[str]:
    """Return the sensor that a text in each object of a short list names; none if the texts are no names of sensors."""
    if len(value) > _MAX_NAMED or not all(isinstance(one, dict) for one in value):
        return []
    for name in islice(value[0], _MAX_MEMBERS):
        texts = [one.get(name) for one in value]
        if all(isinstance(text, str) for text in texts) and len(set(texts)) == len(texts):
            sensors = [sensor_of(text[:_MAX_TEXT]) for text in texts]
            if any(sensors):
                return sensors
    return []
