"""`harstream probe`."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harstream.cli import options
from harstream.errors import BrokerError, ConfigError

if TYPE_CHECKING:
    from harstream.mqtt.urls import BrokerSettings
    from harstream.wire.decoder import Message

#: Messages, and bytes of their payloads, that are kept; what arrives later is not looked at.
_MAX_MESSAGES, _MAX_BYTES = 100_000, 256 * 2**20
#: Time for a look at all other topics if nothing arrives, and topics that are then named.
_LOOK_S, _MAX_NAMED = 3.0, 8
_MAX_PAYLOAD_BYTES = 256 * 1024


@click.command()
@options.broker
@click.option(
    "--topic",
    "topics",
    multiple=True,
    default=("#",),
    show_default="#, all topics",
    help="Topic filter to listen to, with + and # as wildcards; {device} is a + that names the device. May be given "
    "several times.",
    metavar="FILTER",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True, max=3600),
    default=10.0,
    show_default=True,
    help="Time to listen.",
)
@click.option(
    "--model",
    default="phone",
    show_default=True,
    help="Name of a shipped model, or folder of a bundle, for whose windows settings are tried.",
    metavar="NAME|DIR",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the settings to this TOML file.",
    metavar="FILE",
)
@options.json_file
def probe(
    broker: BrokerSettings, topics: Sequence[str], seconds: float, model: str, out: Path | None, json_path: Path | None
) -> None:
    """Listen to unknown devices, say what they send, and print settings for `harstream run`.

    The settings are tried on the messages that were heard, with the decoder and the windows of the daemon. Let the
    devices lie still for a moment and then move them, so that units can be told.
    """
    from harstream import bundle, shipped
    from harstream.probe import report
    from harstream.probe.findings import examine

    options.check_writable("--out", out)
    options.check_writable("--json", json_path)
    loaded = bundle.load(shipped.find(model))
    filters = [_filter(topic) for topic in topics]
    messages = _listen(broker, filters, seconds, f"listening for {seconds:g} s to {', '.join(filters)} at {broker.url}")
    if not any(not message.retained for message in messages):
        raise ConfigError(_nothing_heard(broker, filters, seconds, messages))
    other_model = "" if model == shipped.DEFAULT_MODEL else model
    findings = examine(messages, loaded.spec, model=other_model, filters=topics, max_payload_bytes=_MAX_PAYLOAD_BYTES)
    click.echo(report.describe(findings, loaded.name))
    if json_path is not None:
        json_path.write_text(json.dumps(report.figures(findings), indent=1) + "\n", encoding="utf-8")
    if not findings.sources:
        raise ConfigError("topic: no message that was heard can be used; see above for what is missing")
    if out is not None:
        out.write_text(report.settings(findings, str(broker.url), broker.url.user or ""), encoding="utf-8")
        click.echo(f"\nsettings: {out}; harstream run --config {out}")
    else:
        click.echo(f"\nsettings:\n\n{report.settings(findings)}", nl=False)


def _filter(topic: str) -> str:
    """Return the topic filter of a topic with placeholders. Raise ConfigError if it is none."""
    levels = ["+" if level in ("{device}", "{partition}") else level for level in topic.split("/")]
    bad = [level for level in levels if ("+" in level or "#" in level) and len(level) > 1]
    if not topic or bad or "#" in levels[:-1] or "{" in "".join(levels):
        raise ConfigError(f"topic: {topic!r} is no topic filter; + stands for one whole level, and # for the last ones")
    return "/".join(levels)


def _listen(
    broker: BrokerSettings, filters: Sequence[str], seconds: float, notice: str = "", enough: int = _MAX_MESSAGES
) -> list[Message]:
    """Return the messages that arrive within some time, the first ones if there are very many.

    Args:
        broker: How to reach the broker.
        filters: Topic filters.
        seconds: The time.
        notice: What to say when the subscription is accepted.
        enough: Number of messages that are enough.

    Raises:
        BrokerError: The broker cannot be reached, or refuses the subscription.

    """
    from harstream.mqtt.connection import Connection
    from harstream.signals import on_stop
    from harstream.wire.decoder import Message

    messages: deque[Message] = deque()
    n_bytes = 0
    stop = threading.Event()

    def receive(topic: str, payload: bytes, retained: bool) -> None:
        nonlocal n_bytes
        if len(messages) >= enough or n_bytes > _MAX_BYTES:
            stop.set()  # long before the time is over
            return
        n_bytes += len(payload)
        messages.append(Message(topic, bytes(payload), time.time(), retained))

    on_stop(lambda _: stop.set())
    connection = Connection(
        broker,
        broker.name_client("harstream-probe"),
        subscriptions=filters,
        qos=0,
        retained=True,
        on_message=receive,
        max_payload_bytes=_MAX_PAYLOAD_BYTES,
        silence_s=0.0,
    )
    connection.open()
    if notice:
        click.echo(notice, err=True)
    try:
        stop.wait(seconds)
    finally:
        connection.close()
    return list(messages)


def _nothing_heard(broker: BrokerSettings, filters: Sequence[str], seconds: float, retained: Sequence[Message]) -> str:
    """Return what to say when nothing was heard: what was subscribed to, and what there is on other topics."""
    text = f"topic: nothing was published to {', '.join(filters)} at {broker.url} within {seconds:g} s"
    if retained:
        text += f" (only {len(retained)} old retained messages, on {_named(retained)})"
    if "#" in filters:
        return f"{text}; is a device sending, and to this broker? --seconds listens longer"
    try:
        others = [one for one in _listen(broker, ["#"], min(seconds, _LOOK_S), enough=1000) if not one.retained]
    except BrokerError:
        return f"{text}; the broker allows no look at its other topics"
    if not others:
        return f"{text}, nor to any other topic; is a device sending, and to this broker?"
    return f"{text}; there were messages on {_named(others)}"


def _named(messages: Sequence[Message]) -> str:
    from harstream.wire.topics import escape_unprintable

    topics = list(dict.fromkeys(escape_unprintable(message.topic) for message in messages))
    more = len(topics) - _MAX_NAMED
    return ", ".join(topics[:_MAX_NAMED]) + (f" and {more} more topics" if more > 0 else "")
