"""`harstream watch`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import click

from harstream.cli import options
from harstream.errors import ConfigError

if TYPE_CHECKING:
    from harstream.mqtt.urls import BrokerSettings

_REFRESH_S = 0.25


@click.command()
@options.broker
@options.topic
@options.payload
@options.labels_topic
@click.option("--devices", type=click.IntRange(min=1), default=30, show_default=True, help="Number of rows.")
def watch(
    broker: BrokerSettings,
    topic: str,
    payload: str,
    fields: str | None,
    labels_topic: str,
    devices: int,
) -> None:
    """Show a live table of the devices on a broker and their activities."""
    try:
        from rich.live import Live
    except ImportError as error:
        raise ConfigError("the live table needs the package rich: pip install '.[demo]' in a checkout") from error
    from harstream.signals import on_stop
    from harstream.watch import Watch
    from harstream.wire.topics import TopicTemplate

    stop = threading.Event()
    on_stop(lambda _: stop.set())
    template = TopicTemplate(topic, "topic", may_omit_device=True)
    watching = Watch(
        broker,
        broker.name_client("harstream-watch"),
        template,
        TopicTemplate(labels_topic, "labels-topic"),
        options.payload_config(payload, fields, template),
    )
    watching.open()
    try:
        with Live(watching.table(devices), refresh_per_second=1 / _REFRESH_S) as live:
            while not stop.wait(_REFRESH_S):
                live.update(watching.table(devices))
    finally:
        watching.close()
