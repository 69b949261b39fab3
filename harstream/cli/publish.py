"""`harstream simulate` and `harstream replay`."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harstream.cli import broker as broker_options
from harstream.config import DEFAULT_TOPIC

if TYPE_CHECKING:
    from harstream.publish import Source


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--qos", type=click.IntRange(0, 1), default=1, show_default=True, help="MQTT quality of service."),
        click.option(
            "--payload", type=click.Choice(["json", "packed"]), default="json", show_default=True, help="Payload form."
        ),
        click.option(
            "--samples-per-message",
            type=click.IntRange(1, 65535),
            default=25,
            show_default=True,
            help="Samples in a message.",
        ),
        click.option("--topic", default=DEFAULT_TOPIC, show_default=True, help="Where samples go.", metavar="TEMPLATE"),
        click.option(
            "--speed",
            type=click.FloatRange(min=0),
            default=1.0,
            show_default=True,
            help="Times life speed; 0: as fast as the broker takes them.",
        ),
    ):
        function = option(function)
    return broker_options.options(function)


@click.command()
@_options
@click.option("--devices", type=click.IntRange(min=1), default=10, show_default=True, help="Wearables.")
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), help="Seconds of stream to publish.")
@click.option("--rate", type=click.FloatRange(10, 1000), default=50.0, show_default=True, help="Samples per second.")
@click.option(
    "--pace",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="How quickly the subjects' day goes by: 10 makes their activities ten times shorter.",
)
@click.option("--activity", help="All do only this, such as WALKING, instead of living their day.", metavar="NAME")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, other subjects.")
def simulate(
    devices: int, duration: float | None, rate: float, pace: float, activity: str | None, seed: int, **options: Any
) -> None:
    """Publish synthetic wearables: waist-worn, living a plausible day."""
    from harstream.errors import ConfigError
    from harstream.simulate.parameters import ACTIVITIES
    from harstream.simulate.source import sources

    if activity is not None and activity not in ACTIVITIES:
        raise ConfigError(f"activity: {activity!r} is not one of {', '.join(ACTIVITIES)}")
    _publish(sources(devices, seed, rate_hz=rate, pace=pace, activity=activity), duration_s=duration, **options)


@click.command()
@_options
@click.option("--data", required=True, help="Recordings, such as hapt:hapt.zip.", metavar="KIND:PATH")
@click.option("--recordings", help="Only these, comma-separated; they are the devices' names.", metavar="NAMES")
def replay(data: str, recordings: str | None, **options: Any) -> None:
    """Publish recorded sessions as live devices, one each, named after the recording."""
    from harstream import datasets
    from harstream.errors import DatasetError
    from harstream.replay import RecordedSource

    loaded = {recording.name: recording for recording in datasets.load(data)}
    names = recordings.split(",") if recordings else list(loaded)
    for name in names:
        if name not in loaded:
            raise DatasetError(f"{data}: holds no recording {name!r}; the first is {next(iter(loaded))!r}")
    _publish([RecordedSource(loaded[name]) for name in names], **options)


def _publish(
    sources: Sequence[Source],
    *,
    broker: str,
    ca: Path | None,
    user: str | None,
    password_file: Path | None,
    topic: str,
    speed: float,
    payload: str,
    samples_per_message: int,
    qos: int,
    duration_s: float | None = None,
) -> None:
    from harstream.mqtt.connection import Connection
    from harstream.publish import publish
    from harstream.signals import on_stop
    from harstream.wire.topics import TopicTemplate

    template = TopicTemplate(topic)
    stop = threading.Event()
    on_stop(lambda _: stop.set())
    settings = broker_options.settings(broker, ca, user, password_file)
    connection = Connection(settings, f"harstream-publish-{secrets.token_hex(4)}")
    connection.open()
    click.echo(f"publishing {len(sources)} devices to {connection.settings.url}, {topic}", err=True)
    try:
        done = publish(
            connection,
            template,
            sources,
            payload=payload,
            speed=speed,
            duration_s=duration_s,
            qos=qos,
            samples_per_message=samples_per_message,
            stop=stop,
        )
    finally:
        connection.close()
    click.echo(f"published {done.messages:,} messages, {done.samples:,} samples in {done.seconds:.1f} s", err=True)
