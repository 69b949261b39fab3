"""The settings file and the environment of `harstream run`.

Flags override HARSTREAM_RUN_* variables, and these override the TOML file. An unknown key or variable is an error, so
that a typo does not leave a default in force.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harstream.config import CONFIG_FILE, KEYS, OPTIONS, PASSWORD
from harstream.errors import ConfigError
from harstream.options import ENV_PREFIX
from harstream.source_config import check_tables

#: Key of the ``[[source]]`` tables.
TABLES = "source"


def read_file(path: Path) -> dict[str, Any]:
    """Return the settings in a TOML file. A key is the name of an option, with - or _, or ``source``.

    Raises:
        ConfigError: The file cannot be read, a key is unknown or repeated, or a value is not allowed.

    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config: {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"config: {path}: {error}") from error
    settings: dict[str, Any] = {}
    for key, value in data.items():
        name = key.replace("-", "_")
        where = f"config: {path}: {key}"
        if name == TABLES:
            settings[name] = check_tables(value, OPTIONS, f"config: {path}: ")
            continue
        if name not in OPTIONS:
            raise _unknown(f"config: {path}", key, (*KEYS, TABLES))
        declared = OPTIONS[name]
        if declared.environment_only:
            raise ConfigError(f"{where}: others may read this file; use password-file or the variable {PASSWORD}")
        if name in settings:
            raise ConfigError(f"{where}: the setting is given twice, once with - and once with _; remove one")
        settings[name] = declared.check_in_file(value, where)
    return settings


def check_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Raise ConfigError for a HARSTREAM_RUN_* variable that is empty or belongs to no option."""
    known = [declared.variable for declared in (*OPTIONS.values(), CONFIG_FILE)]
    for name, value in environment.items():
        if not name.startswith(ENV_PREFIX):
            continue
        if name not in known:
            raise _unknown("environment", name, known)
        if not value.rstrip("\r\n"):
            raise ConfigError(f"environment: {name} is empty; set a value, or unset it for the default")


def _unknown(where: str, name: str, known: Iterable[str]) -> ConfigError:
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "; see `harstream config show` for all"
    return ConfigError(f"{where}: {name!r} does not exist{hint}")
