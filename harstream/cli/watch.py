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
    """Show a live table of the devices on a broker and their activities.

    At a terminal, keys sort and filter it: q quits, s sorts by the next column, r reverses the order, a shows the next
    activity only, p devices with a problem only, / searches a name, c clears, and the arrows scroll.
    """
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError as error:
        raise ConfigError("the live table needs the package rich: pip install '.[demo]' in a checkout") from error
    from harstream.signals import on_stop
    from harstream.watch.devices import Watch
    from harstream.watch.keyboard import Keyboard
    from harstream.watch.table import LINES_BESIDE_ROWS, render
    from harstream.watch.view import KEYS, View
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
    console, view = Console(), View()
    watching.open()
    try:
        # With keys the table has the whole screen, so that it stays in place while rows come and go.
        with Keyboard() as keyboard, Live(console=console, screen=keyboard.is_there, auto_refresh=False) as live:
            while not stop.is_set():
                n_rows = min(devices, max(console.height - LINES_BESIDE_ROWS, 1)) if keyboard.is_there else devices
                overview = watching.overview(view, n_rows)
                live.update(render(overview, view, console.width, KEYS if keyboard.is_there else ""), refresh=True)
                if not keyboard.is_there:
                    stop.wait(_REFRESH_S)
                    continue
                for key in keyboard.read(_REFRESH_S):
                    if not view.press(key, sorted(overview.by_activity), n_rows, overview.n_matching):
                        stop.set()
    finally:
        watching.close()
