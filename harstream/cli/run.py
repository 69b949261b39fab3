"""`harstream run`, and its settings, which `harstream config` looks at."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from harstream import config
from harstream.bundle import BACKEND_FILES
from harstream.mqtt.urls import MQTT_VERSIONS
from harstream.wire.payloads import ACC_UNITS, GYRO_UNITS

_FILE = click.Path(path_type=Path)
_DEFAULTS = config.RunConfig(instance="_")
_CONFIG = "config"
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _option(name: str, help_text: str, **kwargs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    default = getattr(_DEFAULTS, name)
    shown = default is not None and name != "instance"
    return click.option(
        f"--{config.flag(name)}",
        name,
        help=help_text,
        default=default if shown else None,
        show_default=shown,
        envvar=f"{config.ENV_PREFIX}{name.upper()}",
        **kwargs,
    )


_OPTIONS = (
    _option(
        "broker",
        "Broker: mqtt://[user:password@]host[:port], mqtts://… or host[:port]; several: a cluster's nodes, of which "
        "the next is tried where one is lost. Without: the embedded one.",
        multiple=True,
    ),
    _option("model", "A shipped model's name, or a bundle's folder.", metavar="NAME|DIR"),
    _option("backend", "What computes the network.", type=click.Choice(["auto", *BACKEND_FILES])),
    _option("topic", "Where samples come from; a level {partition} is a number.", metavar="TEMPLATE"),
    _option("labels_topic", "Where labels go.", metavar="TEMPLATE"),
    _option("events_topic", "Where enter and exit events go; off for none.", metavar="TEMPLATE"),
    _option(
        "smoothing",
        "How labels are made steady: as the bundle says, or not at all.",
        type=click.Choice(config.SMOOTHINGS),
    ),
    _option(
        "unknown_below", "UNKNOWN where the top probability is lower; 0: never. [default: the bundle's]", type=float
    ),
    _option("partitions", "Partitions served, such as 0-7,12. [default: all]", metavar="LIST"),
    _option(
        "worker",
        "Instead: this worker's number and how many there are, such as 3/8; auto/8 takes the number that the host's "
        "name ends with.",
        metavar="N/WORKERS",
    ),
    _option("partition_count", "How many partitions those workers share.", type=int),
    _option("qos", "MQTT quality of service of samples and labels.", type=click.IntRange(0, 1)),
    _option("http", "Metrics, health and the live page; off for none.", metavar="HOST:PORT"),
    _option("instance", "Name of this daemon in its status topic. [default: the host's name]"),
    _option("mqtt_version", "MQTT version; auto tries 5, then 3.1.1.", type=click.Choice(MQTT_VERSIONS)),
    _option("ca", "Certificates that vouch for the broker's. [default: the system's]", type=_FILE),
    _option("cert", "Our certificate, where the broker asks for one.", type=_FILE),
    _option("key", "The key of our certificate.", type=_FILE),
    _option("user", "User name at the broker."),
    _option("password_file", f"File with the password at the broker. [default: {config.PASSWORD}]", type=_FILE),
    _option("acc_unit", "Unit of accelerations that do not name one.", type=click.Choice(list(ACC_UNITS))),
    _option("gyro_unit", "Unit of angular velocities that do not name one.", type=click.Choice(list(GYRO_UNITS))),
    _option("max_payload_bytes", "Larger messages are rejected.", type=int),
    _option("max_devices", "Devices with state at once; samples of more are dropped.", type=int),
    _option("idle_s", "Seconds without samples after which a device is forgotten and its label cleared.", type=float),
    _option("log_level", "Least severity logged.", type=click.Choice(config.LOG_LEVELS)),
    _option("log_format", "Log lines for people, or JSON for machines.", type=click.Choice(config.LOG_FORMATS)),
    click.option(
        "--config",
        _CONFIG,
        type=_FILE,
        envvar=f"{config.ENV_PREFIX}CONFIG",
        help="TOML file of these settings; HARSTREAM_RUN_* variables overrule it, and flags overrule them.",
    ),
)


def settings(command: _Command) -> _Command:
    """Give a command the flags of `harstream run`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Given:
    """What flags and the environment say, once and for all, and where there is a file that may be read again."""

    settings: dict[str, Any]
    origins: dict[str, str]  # of the settings
    file: Path | None

    @classmethod
    def of(cls, ctx: click.Context) -> Given:
        """What the command in ``ctx`` was given. Raises ConfigError for a variable that is no setting."""
        config.check_environment()
        settings: dict[str, Any] = {}
        origins: dict[str, str] = {}
        for name, value in ctx.params.items():
            source = ctx.get_parameter_source(name)
            if name == _CONFIG or source is ParameterSource.DEFAULT:
                continue
            settings[name] = " ".join(value) if name == "broker" else value
            by_flag = source is ParameterSource.COMMANDLINE
            origins[name] = f"--{config.flag(name)}" if by_flag else f"{config.ENV_PREFIX}{name.upper()}"
        if config.PASSWORD in os.environ:
            settings["password"], origins["password"] = os.environ[config.PASSWORD], config.PASSWORD
        return cls(settings, origins, ctx.params[_CONFIG])

    def read(self) -> config.RunConfig:
        """The settings, with those of the file as it is now. Raises ConfigError."""
        return config.RunConfig(**{**self.of_file(), **self.settings})

    def of_file(self) -> dict[str, Any]:
        return {} if self.file is None else config.read_file(self.file)


@click.command()
@settings
@click.pass_context
def run(ctx: click.Context, /, **_: Any) -> None:
    """Turn samples on a broker into activity labels on the same broker."""
    from harstream import logs, signals
    from harstream.serve.daemon import serve

    signals.on_stop(lambda _: os._exit(0))  # nothing is going on yet
    signals.on_reload(lambda: None)
    given = Given.of(ctx)
    checked = given.read()
    logs.set_up(checked.log_level, checked.log_format)
    serve(checked, reread=given.read)
