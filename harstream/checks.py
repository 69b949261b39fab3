"""Validators of single values, for everything that an operator configures: options, recipes, specs and bundles.

Every function returns the valid value or raises ConfigError. The message names the setting, the value, and what was
expected. ``where`` is the name of the setting, such as ``smoothing.weight``.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from harstream.errors import ConfigError

#: Control characters, which would break the lines of the log, and surrogates, which no UTF-8 has.
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
#: Limits of what an error message shows of a value.
_REPR = reprlib.Repr()
_REPR.maxlevel = 4
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = 20
_MAX_SHOWN = 200


def number(value: Any, where: str, minimum: float = -math.inf, maximum: float = math.inf) -> float:
    """Return ``value`` as a float if it is a finite number from ``minimum`` to ``maximum``, both included.

    Raises:
        ConfigError: The value is not a number (True and False are not), not finite, or out of range.

    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{where}: expected a number, got {_shown(value)}")
    try:
        result = float(value)
    except OverflowError:  # a whole number beyond the range of floats
        result = math.inf
    if not math.isfinite(result):
        raise ConfigError(f"{where}: expected a finite number, got {_shown(value)}")
    _check_range(value, where, minimum, maximum)
    return result


def whole_number(value: Any, where: str, minimum: float = -math.inf, maximum: float = math.inf) -> int:
    """Return ``value`` if it is an int from ``minimum`` to ``maximum``, both included.

    Raises:
        ConfigError: The value is not an int (True and False are not), or out of range.

    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{where}: expected a whole number, got {_shown(value)}")
    _check_range(value, where, minimum, maximum)
    return value


def choice(value: Any, where: str, choices: Sequence[Any]) -> Any:
    """Return ``value`` if it is one of ``choices``. Raise ConfigError otherwise."""
    if isinstance(value, bool) != isinstance(choices[0], bool) or value not in choices:
        raise ConfigError(f"{where}: {_shown(value)} is not one of {', '.join(map(str, choices))}")
    return value


def flag(value: Any, where: str) -> bool:
    """Return ``value`` if it is True or False. Raise ConfigError otherwise."""
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: expected true or false, got {_shown(value)}")
    return value


def text(value: Any, where: str) -> str:
    """Return ``value`` if it is a text that can be published and is not empty. Raise ConfigError otherwise."""
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: expected a text that is not empty, got {_shown(value)}")
    _check_writable(value, where)
    return value


def line(value: Any, where: str) -> str:
    """Return ``value`` if it is a printable text of one line, which may be empty. Raise ConfigError otherwise."""
    if not isinstance(value, str) or not value.isprintable():  # a line break is not printable either
        raise ConfigError(f"{where}: expected one line of printable text, got {_shown(value)}")
    return value


def names(value: Any, where: str, minimum: int) -> tuple[str, ...]:
    """Return a list of at least ``minimum`` different names, 0 or 2, as a tuple. Raise ConfigError otherwise."""
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise ConfigError(f"{where}: expected a list of texts that are not empty, got {_shown(value)}")
    for name in value:
        _check_writable(name, where)
    if len(value) < minimum or len(set(value)) < len(value):
        expected = "at least two, all different" if minimum == 2 else "different names"
        raise ConfigError(f"{where}: expected {expected}, got {_shown(value)}")
    return tuple(value)


def mapping(value: Any, where: str) -> dict[str, Any]:
    """Return a copy of ``value`` if it is a JSON object. Raise ConfigError otherwise."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected an object, got {_shown(value)}")
    return dict(value)


def sequence(value: Any, where: str) -> tuple[Any, ...]:
    """Return the elements of ``value`` if it is a list or tuple. Raise ConfigError otherwise."""
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where}: expected a list, got {_shown(value)}")
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
            raise ConfigError(f"{where}: unknown field {_shown(key)}; the fields are {known}")
    for key in required:
        if key not in content:
            raise ConfigError(f"{where}: field {key!r} is missing")
    return content


def _check_writable(value: str, where: str) -> None:
    if _UNWRITABLE.search(value):
        raise ConfigError(f"{where}: {_shown(value)} has a control character or half a surrogate pair; remove it")


def _shown(value: Any) -> str:
    """Return the value as Python would write it, cut where it is long or deep: it may come from a damaged file."""
    shown = repr(value) if isinstance(value, str | int | float) else _REPR.repr(value)
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:100]}... ({len(shown)} characters)"


def _check_range(value: float, where: str, minimum: float, maximum: float) -> None:
    if minimum <= value <= maximum:
        return
    if maximum == math.inf:
        raise ConfigError(f"{where}: {_shown(value)} is less than {minimum}")
    raise ConfigError(f"{where}: {_shown(value)} is not between {minimum} and {maximum}")
