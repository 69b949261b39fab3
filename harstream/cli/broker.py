"""The options of every command that connects to a broker somebody else runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from harstream.mqtt.urls import BrokerSettings

_FILE = click.Path(path_type=Path)
_Command = TypeVar("_Command", bound=Callable[..., Any])


def options(command: _Command) -> _Command:
    """Give a command what ``settings`` takes."""
    for option in (
        click.option("--password-file", type=_FILE, help="File with the password at the broker."),
        click.option("--user", help="User name at the broker."),
        click.option("--ca", type=_FILE, help="Certificates that vouch for the broker's. [default: the system's]"),
        click.option("--broker", required=True, help="mqtt://[user:password@]host[:port], mqtts://… or host[:port]."),
    ):
        command = option(command)
    return command


def settings(broker: str, ca: Path | None, user: str | None, password_file: Path | None) -> BrokerSettings:
    """How to reach it. Raises ConfigError."""
    from harstream.config import RunConfig

    made = RunConfig(broker=broker, ca=ca, user=user, password_file=password_file).broker_settings
    assert made is not None
    return made
