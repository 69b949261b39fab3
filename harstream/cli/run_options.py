"""Options of `harstream run` on the command line, in the environment and in the settings file, read as one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from harstream import settings_file
from harstream.cli.options import click_option, together
from harstream.config import CONFIG_FILE, OPTIONS, RunConfig

_ON_COMMAND_LINE = [option for option in (*OPTIONS.values(), CONFIG_FILE) if not option.environment_only]

#: Decorator that gives a command the options of `harstream run`.
run_options = together(*(click_option(option, envvar=option.variable) for option in _ON_COMMAND_LINE))


@dataclass(frozen=True, slots=True)
class GivenSettings:
    """Settings from flags and environment, which stay, and the settings file, which may be read again."""

    values: dict[str, Any]  # by name, from flags and environment
    origins: dict[str, str]  # the flag or variable that each of them comes from
    file: Path | None

    @classmethod
    def from_context(cls, ctx: click.Context) -> GivenSettings:
        """Return what the command in ``ctx`` was given. Raise ConfigError for an unknown or empty variable."""
        settings_file.check_environment()
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        for name, value in ctx.params.items():
            source = ctx.get_parameter_source(name)
            if name == CONFIG_FILE.name or source is ParameterSource.DEFAULT:
                continue
            option = OPTIONS[name]
            values[name] = " ".join(value) if option.multiple else value
            origins[name] = f"--{option.flag}" if source is ParameterSource.COMMANDLINE else option.variable
        for option in OPTIONS.values():
            if option.environment_only and option.variable in os.environ:
                values[option.name], origins[option.name] = os.environ[option.variable], option.variable
        return cls(values, origins, ctx.params[CONFIG_FILE.name])

    def read(self) -> RunConfig:
        """Read all files and return the checked configuration. Raise ConfigError if a setting or file is unusable."""
        effective = RunConfig(**{**self.read_file(), **self.values})
        effective.read_broker_settings()  # report a missing file before the model is loaded
        return effective

    def read_file(self) -> dict[str, Any]:
        """Read the settings file and return its settings; none without a file."""
        return {} if self.file is None else settings_file.read_file(self.file)
