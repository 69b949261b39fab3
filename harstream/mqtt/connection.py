"""One MQTT connection, kept: the version found, refusals told apart from outages, subscriptions renewed.

The daemon and the publishers connect alike, so paho-mqtt is used here and nowhere else.
"""

from __future__ import annotations

import functools
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from harstream.errors import BrokerError
from harstream.mqtt.client import Client, Received
from harstream.mqtt.urls import BrokerSettings, BrokerUrl

log = logging.getLogger("harstream.mqtt")

HANDSHAKE_S = 10.0
RETRY_MIN_S, RETRY_MAX_S = 1, 30
#: Messages handed over for publishing and not yet acknowledged. paho's own default has no bound.
MAX_OUTGOING = 20_000
_MAX_INFLIGHT = 1_000  # a broker that takes fewer says so, and is obeyed

#: Refusals that pass by themselves; every other is for a person to mend.
_PASSING = frozenset({"Server unavailable", "Server busy", "Quota exceeded", "Connection rate exceeded"})


@dataclass(frozen=True, slots=True)
class Will:
    topic: str
    payload: bytes


def _guarded(callback: Callable[..., None]) -> Callable[..., None]:
    """A callback that logs what it would raise: raised, it would end paho's network thread for good."""

    @functools.wraps(callback)
    def call(*args: Any) -> None:
        try:
            callback(*args)
        except Exception:
            log.exception("in the network thread")

    return call


def _send_at_once(_: paho.Client, __: Any, sock: socket.socket) -> None:
    """No Nagle: a label behind an acknowledgement would wait 40 ms for the broker's delayed ACK."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Connection:
    """A client that connects, falls back to MQTT 3.1.1 where it must, and reconnects for ever, to each address in turn.

    Callbacks run in the network thread and may not block. ``on_message(topic, payload, retained)`` may
    not raise: what it raises is logged and the message is lost. For many messages a second there is
    ``on_messages`` in its place, which is given a list of such triples. What was retained before we subscribed comes
    only where ``retained`` is set; over MQTT 3.1.1 always.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        client_id: str,
        *,
        subscriptions: Sequence[str] = (),
        qos: int = 1,
        retained: bool = False,
        will: Will | None = None,
        on_message: Callable[[str, bytes, bool], None] | None = None,
        on_messages: Callable[[Sequence[Received]], None] | None = None,
        on_change: Callable[[bool], None] | None = None,
    ) -> None:
        self.settings = settings
        self.connects = 0
        self.version = "" if settings.version == "auto" else settings.version
        self._client_id = client_id
        self._subscriptions = tuple(subscriptions)
        self._qos = qos
        self._retained = retained
        self._will = will
        self._on_message = _guarded(on_message) if on_message is not None else None
        self._on_messages = on_messages
        self._on_change = on_change
        self._client: Client | None = None
        self._url = settings.url  # of the address in use
        self._unsubscribed = threading.Event()
        self._settled = threading.Event()  # the handshake ended, one way or another
        self._refusal: str | None = None  # why, where it did not end well
        self._ready = False
        self._retry_s = RETRY_MIN_S  # after a subscription that was refused
        self._closing = False

    @property
    def ready(self) -> bool:
        """Connected, and the subscriptions, if any, acknowledged."""
        return self._ready

    @property
    def url(self) -> BrokerUrl:
        """The address in use."""
        urls = self.settings.urls
        if self._client is None:
            return self._url
        return urls[(urls.index(self._url) + self._client.address) % len(urls)]

    def open(self, stop: threading.Event | None = None) -> None:
        """Connect and subscribe. Raises BrokerError where the broker refuses us.

        With ``stop``, an unreachable broker is tried again until it is there or the event is set; without,
        it is an error too.
        """
        delay, urls = RETRY_MIN_S, self.settings.urls
        while True:
            refused: list[BrokerError] = []
            for url in urls:
                try:
                    outage = self._try(url)
                except BrokerError as error:
                    refused.append(error)
                    outage = str(error)
                if not outage:
                    return
                if url is not urls[-1]:
                    log.warning("broker %s: %s; trying the next", url, outage)
                if stop is not None and stop.is_set():
                    return
            if len(refused) == len(urls):  # the others' absence may be why one refuses
                raise refused[0]
            if stop is None:
                raise BrokerError(f"broker {url}: {outage}")
            log.warning("broker %s: %s; trying again in %d s", url, outage, delay)
            if stop.wait(delay):
                return
            delay = min(2 * delay, RETRY_MAX_S)

    def _try(self, url: BrokerUrl) -> str:
        """Connect to one address, in the first version it speaks; what hinders that for now, or nothing."""
        outage = ""
        for version in ("5", "3.1.1") if self.settings.version == "auto" else (self.settings.version,):
            outage, maybe_version = self._attempt(url, version)
            if not outage:
                self.version = version
            if not (outage and maybe_version):
                break
        return outage

    def _attempt(self, url: BrokerUrl, version: str) -> tuple[str, bool]:
        """One handshake: what hinders it and may pass by itself, or nothing; and whether another version may help.

        Raises BrokerError for what will not pass.
        """
        client = self._make(url, version)
        self._url = url
        self._settled.clear()
        self._refusal = None
        try:
            client.connect(url.host, url.port, keepalive=30)
        except ssl.SSLEOFError:  # somebody in front of a broker that is away
            return "closed in the TLS handshake", False
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or error.reason or str(error)
            raise BrokerError(f"broker {url}: TLS: {reason}") from error
        except (OSError, ValueError) as error:
            return f"cannot connect: {error}", False
        self._client = client
        client.loop_start()
        settled = self._settled.wait(HANDSHAKE_S)
        if self._ready:
            return "", False
        self._client = None
        client.disconnect()
        client.loop_stop()
        if client.tls_alert == "internal error":
            return "TLS: internal error", False
        if client.tls_alert:
            raise BrokerError(f"broker {url}: TLS: refused our certificate: {client.tls_alert}")
        if self._refusal is None:  # an old broker may hang up, or say nothing at all
            return "connection closed before the handshake ended" if settled else "no answer", True
        if "protocol version" in self._refusal.lower() and version == "5" and self.settings.version == "auto":
            return self._refusal, True
        if self._refusal in _PASSING:
            return self._refusal, False
        raise BrokerError(f"broker {url}: refused us: {self._refusal}")

    def _make(self, url: BrokerUrl, version: str) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=paho.MQTTv5 if version == "5" else paho.MQTTv311,
        )
        if url.user is not None:
            client.username_pw_set(url.user, url.password)
        context = self.settings.tls_context()
        if context is not None:
            client.tls_set_context(context)
        if self._will is not None:
            client.will_set(self._will.topic, self._will.payload, qos=1, retain=True)
        client.reconnect_delay_set(RETRY_MIN_S, RETRY_MAX_S)
        at = self.settings.urls.index(url)
        urls = (*self.settings.urls[at:], *self.settings.urls[:at])
        client.addresses = [(each.host, each.port) for each in urls]
        client.on_socket_open = _guarded(_send_at_once)
        client.on_connect = _guarded(self._connected)
        client.on_subscribe = _guarded(self._subscribed)
        client.on_unsubscribe = lambda *_: self._unsubscribed.set()
        client.on_disconnect = _guarded(self._disconnected)
        client.on_messages = _guarded(self._received)
        return client

    # --- in the network thread -----------------------------------------------------------------

    def _connected(self, client: Client, _: Any, __: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._refuse(str(reason))
            return
        # paho keeps to its default of 20 unless told before connecting; what the broker takes is known only now.
        client._max_inflight_messages = min(_MAX_INFLIGHT, getattr(properties, "ReceiveMaximum", _MAX_INFLIGHT))
        self.connects += 1
        if not self._subscriptions:
            self._become_ready()
        elif client._protocol == paho.MQTTv5:
            handling = (
                SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if self._retained else SubscribeOptions.RETAIN_DO_NOT_SEND
            )
            options = SubscribeOptions(qos=self._qos, retainHandling=handling)
            client.subscribe([(each, options) for each in self._subscriptions])
        else:
            client.subscribe([(each, self._qos) for each in self._subscriptions])

    def _subscribed(self, client: Client, __: Any, ___: Any, reasons: list[Any], ____: Any) -> None:
        refused = [
            f"subscription to {subscription}: {reason}"
            for subscription, reason in zip(self._subscriptions, reasons, strict=False)
            if reason.is_failure
        ]
        if refused:
            again = self._settled.is_set()
            self._refuse(refused[0])
            if again:  # a cluster that has just lost a node may take us at the next address, or in a while
                client.hang_up(self._retry_s)
                self._retry_s = min(2 * self._retry_s, RETRY_MAX_S)
        else:
            self._become_ready()

    def _disconnected(self, _: Any, __: Any, ___: Any, reason: Any, ____: Any) -> None:
        was_ready, self._ready = self._ready, False
        self._settled.set()
        if was_ready and not self._closing:
            log.warning("broker %s: connection lost (%s); reconnecting", self.url, reason)
            self._tell(False)

    def _received(self, messages: Sequence[Received]) -> None:
        if self._on_messages is not None:
            self._on_messages(messages)
        elif self._on_message is not None:
            for message in messages:
                self._on_message(*message)

    def _refuse(self, reason: str) -> None:
        self._refusal = reason
        if self._settled.is_set():  # after the start: never fatal, the broker may take us back
            log.error("broker %s: refused us: %s", self.url, reason)
        self._settled.set()

    def _become_ready(self) -> None:
        self._ready = True
        self._retry_s = RETRY_MIN_S
        if self.connects > 1:
            log.warning("broker %s: connected again", self.url)
        self._settled.set()
        self._tell(True)

    def _tell(self, connected: bool) -> None:
        if self._on_change is not None:
            self._on_change(connected)

    # --- from any thread -----------------------------------------------------------------------

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool:
        """Hand a message over; False where it was not taken: MAX_OUTGOING wait already, or QoS 0 and no connection."""
        return self.publish_all([(topic, payload)], qos=qos, retain=retain) == 1

    def publish_all(self, messages: Sequence[tuple[str, bytes]], *, qos: int = 1, retain: bool = False) -> int:
        """Hand over (topic, payload) of many messages, which leave together; how many were taken: the first ones."""
        return 0 if self._client is None else self._client.publish_all(messages, qos, retain, MAX_OUTGOING)

    def renew(self, settings: BrokerSettings) -> None:
        """Other credentials, or files with new contents, for the next connection to the same addresses.

        Raises ConfigError for unusable files, and the old ones stay.
        """
        context, client = settings.tls_context(), self._client
        if client is not None and context is not None:
            client.use(context)
        if client is not None and settings.url.user is not None:
            client.username_pw_set(settings.url.user, settings.url.password)

    @property
    def outgoing(self) -> int:
        """Messages handed over and not yet acknowledged (QoS 1) or sent (QoS 0)."""
        return 0 if self._client is None else self._client.outgoing

    def unsubscribe(self, timeout_s: float) -> None:
        """Ask the broker for no more messages, and wait until those on their way are here."""
        if self._client is not None and self._subscriptions and self._ready:
            self._client.unsubscribe(list(self._subscriptions))
            self._unsubscribed.wait(timeout_s)

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything handed over is acknowledged; whether it was in time."""
        deadline = time.monotonic() + timeout_s
        while self.outgoing and time.monotonic() < deadline:
            time.sleep(0.005)
        return not self.outgoing

    def close(self) -> None:
        """Disconnect properly, so that no will is sent."""
        self._closing = True
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
