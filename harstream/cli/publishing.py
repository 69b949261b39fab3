"""The part that `harstream simulate` and `harstream replay` share: their options, and publishing until the end."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from harstream.cli import options

if TYPE_CHECKING:
    from harstream.mqtt.urls import BrokerSettings
    from harstream.sources import SampleSource

#: Decorator that gives a command the parameters of `publish_sources`, except ``sources`` and ``duration_s``.
publisher_options = options.together(
    options.broker,
    click.option(
        "--speed",
        type=click.FloatRange(min=0),
        default=1.0,
        show_default=True,
        help="Speed relative to real time; 0 publishes as fast as the broker accepts.",
    ),
    options.topic,
    click.option(
        "--samples-per-message",
        type=click.IntRange(1, 65535),
        default=25,
        show_default=True,
        help="Number of samples in a message.",
    ),
    click.option(
        "--payload",
        type=click.Choice(["json", "packed"]),
        default="json",
        show_default=True,
        help="Format of the messages.",
    ),
    options.qos,
)


def publish_sources(
    sources: Sequence[SampleSource],
    *,
    broker: BrokerSettings,
    topic: str,
    speed: float,
    payload: str,
    samples_per_message: int,
    qos: int,
    duration_s: float | None = None,
) -> None:
    """Publish every source as one device, until all end, ``duration_s`` of their streams are over, or a signal comes.

    Raises:
        BrokerError: The broker cannot be reached, or refuses the connection or messages.
        ConfigError: An option is not allowed, or a file that it names is unusable.

    """
    from harstream.errors import BrokerError
    from harstream.mqtt.connection import Connection
    from harstream.mqtt.failures import publish_mend
    from harstream.publish import publish
    from harstream.signals import on_stop
    from harstream.wire.topics import TopicTemplate

    template = TopicTemplate(topic)
    stop = threading.Event()
    on_stop(lambda _: stop.set())
    refused: Counter[str] = Counter()  # by reason
    connection = Connection(
        broker,
        broker.name_client("harstream-publish"),
        kind_of=lambda _: topic,
        on_answers=lambda _, refusals: refused.update(refusal.reason for refusal in refusals),
    )
    connection.open()
    click.echo(f"publishing {len(sources)} devices to {connection.settings.url}, {topic}", err=True)
    try:
        counts = publish(
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
    click.echo(
        f"published {counts.messages:,} messages, {counts.samples:,} samples in {counts.seconds:.1f} s", err=True
    )
    if refused:
        raise BrokerError(
            f"the broker refused {sum(refused.values()):,} of them: {', '.join(refused)}; "
            f"{publish_mend(broker.url.user, topic)}"
        )
