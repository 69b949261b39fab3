"""`harstream watch`."""

from __future__ import annotations

import secrets
import threading
from pathlib import Path

import click

from harstream.cli import broker as broker_options
from harstream.config import DEFAULT_LABELS_TOPIC, DEFAULT_TOPIC
from harstream.errors import ConfigError


@click.command()
@broker_options.options
@click.option("--topic", default=DEFAULT_TOPIC, show_default=True, help="Where samples go.", metavar="TEMPLATE")
@click.option(
    "--labels-topic", default=DEFAULT_LABELS_TOPIC, show_default=True, help="Where labels go.", metavar="TEMPLATE"
)
@click.option("--devices", type=click.IntRange(min=1), default=30, show_default=True, help="Rows of the table.")
def watch(
    broker: str,
    ca: Path | None,
    user: str | None,
    password_file: Path | None,
    topic: str,
    labels_topic: str,
    devices: int,
) -> None:
    """Show a live table of the devices on a broker and what they are doing."""
    try:
        from rich.live import Live
    except ImportError as error:
        raise ConfigError("the live table needs rich: pip install 'harstream[demo]'") from error
    from harstream.signals import on_stop
    from harstream.watch import Watch
    from harstream.wire.topics import TopicTemplate

    stop = threading.Event()
    on_stop(lambda _: stop.set())
    watching = Watch(
        broker_options.settings(broker, ca, user, password_file),
        f"harstream-watch-{secrets.token_hex(4)}",
        TopicTemplate(topic),
        TopicTemplate(labels_topic, "labels-topic"),
    )
    watching.open()
    try:
        with Live(watching.table(devices), refresh_per_second=4) as live:
            while not stop.wait(0.25):
                live.update(watching.table(devices))
    finally:
        watching.close()
