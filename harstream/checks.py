"""Validators of single values, for everything that an operator configures: options, recipes, specs and bundles.

Every function returns the valid value or raises ConfigError. The message names the setting, the value, and what was
expected. ``where`` is the name of the setting, such as ``smoothing.weight``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harstream.errors import ConfigError


def number(value: Any, where: str, minimum: float = -math.inf, maximum: float = math.inf) -> float:
    """Return ``value`` as a float if it is a finite number from ``minimum`` to ``maximum``, both included.

    Raises:
        ConfigError: The value is not a number (True and False are not), not finite, or out of range.

    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{where}: expected a number, got {value!r}")
    try:
        result = float(value)
    except OverflowError:  # a whole number beyond the range of floats
        result = math.inf
    if not math.isfinite(result):
        raise ConfigError(f"{where}: expected a finite number, got {_shorten(repr(value))}")
    _check_range(value, where, minimum, maximum)
    return result


def whole_number(value: Any, where: str, minimum: float = -math.inf, maximum: float = math.inf) -> int:
    """Return ``value`` if it is an int from ``minimum`` to ``maximum``, both included.

    Raises:
        ConfigError: The value is not an int (True and False are not), or out of range.

    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{where}: expected a whole number, got {value!r}")
    _check_range(value, where, minimum, maximum)
    return value


def choice(value: Any, where: str, choices: Sequence[Any]) -> Any:
    """Return ``value`` if it is one of ``choices``. Raise ConfigError otherwise."""
    if isinstance(value, bool) != isinstance(choices[0], bool) or value not in choices:
        raise ConfigError(f"{where}: {value!r} is not one of {', '.join(map(str, choices))}")
    return value


def flag(value: Any, where: str) -> bool:
    """Return ``value`` if it is True or False. Raise ConfigError otherwise."""
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: expected true or false, got {value!r}")
    return value


def text(value: Any, where: str) -> str:
    """Return ``value`` if it is a text that is not empty. Raise ConfigError otherwise."""
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: expected a text that is not empty, got {value!r}")
    return value


def line(value: Any, where: str) -> str:
    """Return ``value`` if it is a printable text of one line, which may be empty. Raise ConfigError otherwise."""
    if not isinstance(value, str) or not value.isprintable():  # a line break is not printable either
        raise ConfigError(f"{where}: expected one line of printable text, got {value!r}")
    return value


def names(value: Any, where: str, minimum: int) -> tuple[str, ...]:
    """Return a list of at least ``minimum`` different names, 0 or 2, as a tuple. Raise ConfigError otherwise."""
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise ConfigError(f"{where}: expected a list of texts that are not empty, got {value!r}")
    if len(value) < minimum or len(set(value)) < len(value):
        expected = "at least two, all different" if minimum == 2 else "different names"
        raise ConfigError(f"{where}: expected {expected}, got {value!r}")
    return tuple(value)


def mapping(value: Any, where: str) -> dict[str, Any]:
    """Return a copy of ``value`` if it is a JSON object. Raise ConfigError otherwise."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected an object, got {value!r}")
    return dict(value)


def sequence(value: Any, where: str) -> tuple[Any, ...]:
    """Return the elements of ``value`` if it is a list or tuple. Raise ConfigError otherwise."""
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where}: expected a list, got {value!r}")
    return tuple(value)


def fields(data: Any, where: str, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    """Return a copy of the JSON object ``data`` if it has every required field and no unknown one.

    Raises:
        ConfigError: The value is not an object, a required field is missing, or a field is unknown.

    """
    content = mapping(data, where)
    for key in content:
        if key not in required and key not in optional:
            known = ", ".join((*required, *optional))
            raise ConfigError(f"{where}: unknown field {key!r}; the fields are {known}")
    for key in required:
        if key not in content:
            raise ConfigError(f"{where}: field {key!r} is missing")
    return content


def _shorten(shown: str) -> str:
    return shown if len(shown) <= 40 else f"{shown[:20]}... ({len(shown)} characters)"


def _check_range(value: float, where: str, minimum: float, maximum: float) -> None:
    if minimum <= value <= maximum:
        return
    if maximum == math.inf:
        raise ConfigError(f"{where}: {value!r} is less than {minimum}")
    raise ConfigError(f"{where}: {value!r} is not between {minimum} and {maximum}")
