"""`harstream run`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from harstream import config, mqtt
from harstream.classifier import BACKENDS
from harstream.wire.payloads import ACC_UNITS, GYRO_UNITS

_FILE = click.Path(path_type=Path)
_DEFAULTS = config.RunConfig(instance="_")


def _read_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    # click looks at the command line, then at the environment, then here.
    if path is not None:
        ctx.default_map = config.read_file(path)


def _option(name: str, help_text: str, **kwargs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    default = getattr(_DEFAULTS, name)
    shown = default is not None and name != "instance"
    return click.option(
        f"--{config.flag(name)}", name, help=help_text, default=default if shown else None, show_default=shown, **kwargs
    )


@click.command()
@_option("broker", "Broker: mqtt://[user:password@]host[:port], mqtts://… or host[:port]. Without: the embedded one.")
@_option("model", "A shipped model's name, or a bundle's folder.", metavar="NAME|DIR")
@_option("backend", "What computes the network.", type=click.Choice(["auto", *BACKENDS]))
@_option("topic", "Where samples come from.", metavar="TEMPLATE")
@_option("labels_topic", "Where labels go.", metavar="TEMPLATE")
@_option("events_topic", "Where enter and exit events go; off for none.", metavar="TEMPLATE")
@_option(
    "smoothing", "How labels are made steady: as the bundle says, or not at all.", type=click.Choice(config.SMOOTHINGS)
)
@_option("unknown_below", "UNKNOWN where the top probability is lower; 0: never. [default: the bundle's]", type=float)
@_option("qos", "MQTT quality of service of samples and labels.", type=click.IntRange(0, 1))
@_option("http", "Metrics, health and the live page; off for none.", metavar="HOST:PORT")
@_option("instance", "Name of this daemon in its status topic. [default: the host's name]")
@_option("mqtt_version", "MQTT version; auto tries 5, then 3.1.1.", type=click.Choice(mqtt.VERSIONS))
@_option("ca", "Certificates that vouch for the broker's. [default: the system's]", type=_FILE)
@_option("cert", "Our certificate, where the broker asks for one.", type=_FILE)
@_option("key", "The key of our certificate.", type=_FILE)
@_option("user", "User name at the broker.")
@_option("password_file", "File with the password at the broker.", type=_FILE)
@_option("acc_unit", "Unit of accelerations that do not name one.", type=click.Choice(list(ACC_UNITS)))
@_option("gyro_unit", "Unit of angular velocities that do not name one.", type=click.Choice(list(GYRO_UNITS)))
@_option("max_payload_bytes", "Larger messages are rejected.", type=int)
@_option("max_devices", "Devices with state at once; samples of more are dropped.", type=int)
@_option("idle_s", "Seconds without samples after which a device is forgotten and its label cleared.", type=float)
@_option("log_level", "Least severity logged.", type=click.Choice(config.LOG_LEVELS))
@_option("log_format", "Log lines for people, or JSON for machines.", type=click.Choice(config.LOG_FORMATS))
@click.option(
    "--config",
    type=_FILE,
    is_eager=True,
    expose_value=False,
    callback=_read_config,
    help="TOML file of these settings; HARSTREAM_RUN_* variables overrule it, and flags overrule them.",
)
def run(**settings: Any) -> None:
    """Turn samples on a broker into activity labels on the same broker."""
    from harstream import logs, signals
    from harstream.serve.daemon import serve

    signals.on_stop(lambda _: os._exit(0))  # nothing is going on yet
    config.check_environment()
    settings = {key: value for key, value in settings.items() if value is not None}
    checked = config.RunConfig(**settings)
    logs.set_up(checked.log_level, checked.log_format)
    serve(checked)
