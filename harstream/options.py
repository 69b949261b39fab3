"""Declaration of the options of `harstream run`.

An `Option` states once what the command line, the settings file, the environment, a reload and the documents need to
know of a setting. The fields of `harstream.config.RunConfig` declare their options with `option`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_args, get_type_hints

from harstream import checks
from harstream.errors import ConfigError

ENV_PREFIX = "HARSTREAM_RUN_"


@dataclass(frozen=True, slots=True)
class Option:
    """A setting of `harstream run`, with everything that its readers need to know."""

    name: str  # in Python and in the settings file
    kind: type  # str, int, float, bool or Path
    default: Any
    help: str  # one or two sentences for --help, `config show` and the documents
    default_text: str = ""  # meaning of a missing value, for people; empty: ``default`` is shown
    metavar: str | None = None  # form of the value in --help
    choices: tuple[str, ...] = ()  # allowed values; empty: any
    minimum: float = -math.inf  # smallest and largest allowed number, both inclusive
    maximum: float = math.inf
    multiple: bool = False  # may be given several times; the values are joined by spaces
    joined: bool = False  # the settings file may hold a list of texts, which are joined by spaces
    reloadable: bool = False  # SIGHUP applies a new value; otherwise a change needs a restart
    secret: bool = False  # the value is or holds a password, so no message quotes it
    environment_only: bool = False  # neither the command line nor the settings file may hold it
    is_table: bool = False  # a table of the settings file, and elsewhere a text in TOML; ``kind.parse`` reads both

    @property
    def flag(self) -> str:
        """Name on the command line, without the leading dashes."""
        return self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Name of the environment variable."""
        return ENV_PREFIX + self.name.upper()

    def check(self, value: Any, where: str = "") -> Any:
        """Return ``value`` in the type of the option.

        Args:
            value: A text, without the line break that a secret or a file may end in; a number, a truth value or a
                path; None only if it is the default.
            where: Name of the setting in an error, by default the flag.

        Raises:
            ConfigError: The value has another type, is none of the choices or is out of range.

        """
        where = where or self.flag
        if value is None and self.default is None:
            return None
        if self.is_table:
            return self.kind.parse(value, where)  # type: ignore[attr-defined]
        if self.kind is bool:
            if not isinstance(value, bool):
                raise ConfigError(f"{where}: expected true or false, got {value!r}")
            return value
        if self.kind is int:
            return checks.whole_number(value, where, self.minimum, self.maximum)
        if self.kind is float:
            if value == self.maximum == math.inf:  # no limit, such as devices that are never forgotten
                return math.inf
            return checks.number(value, where, self.minimum, self.maximum)
        if not isinstance(value, str | self.kind):
            raise ConfigError(f"{where}: expected a text, got {type(value).__name__}")
        if isinstance(value, str):
            value = value.rstrip("\r\n")
        if self.choices:
            checks.choice(value, where, self.choices)
        return self.kind(value)

    def check_in_file(self, value: Any, where: str) -> Any:
        """Return a value of the settings file in the type of the option. Raise ConfigError as ``check`` does."""
        if (self.multiple or self.joined) and isinstance(value, list) and all(isinstance(one, str) for one in value):
            value = " ".join(value)
        return self.check(value, where)


def option(help_text: str, default: Any = None, **declared: Any) -> Any:
    """Return the dataclass field of a setting. ``declared`` are further fields of its `Option`."""
    metadata = {"help": help_text, **declared}
    return dataclasses.field(default=default, repr=not declared.get("secret"), metadata=metadata)


def options_of(config: type) -> dict[str, Option]:
    """Return the options that fields of a dataclass declare, by name and in order."""
    types = get_type_hints(config)
    return {
        field.name: Option(field.name, _without_none(types[field.name]), field.default, **field.metadata)
        for field in dataclasses.fields(config)
        if "help" in field.metadata
    }


def _without_none(hint: Any) -> type:
    """Return the type ``T`` of a type hint ``T`` or ``T | None``."""
    kind: type = next(each for each in (*get_args(hint), hint) if each is not NoneType)
    return kind
