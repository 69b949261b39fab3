"""One MQTT connection that is kept open: protocol versions, refusals, outages, several addresses.

``FastClient`` moves the bytes; every decision is made here.
"""

from __future__ import annotations

import functools
import itertools
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
from harstream.mqtt.client import FastClient, InboundMessage
from harstream.mqtt.urls import BrokerSettings, BrokerUrl

log = logging.getLogger("harstream.mqtt")

HANDSHAKE_S = 10.0
KEEPALIVE_S = 30
#: Pause before another attempt, seconds. It doubles from the minimum to the maximum.
RETRY_MIN_S, RETRY_MAX_S = 1, 30
#: Limit of the messages queued for publishing and not yet acknowledged. paho itself has none.
MAX_OUTGOING = 20_000
#: Limit of the messages sent and not yet acknowledged, unless the broker asks for a lower one.
_MAX_INFLIGHT = 1_000
#: Reasons of refusals that end by themselves. A person must remove any other reason.
_TRANSIENT_REASONS = frozenset({"Server unavailable", "Server busy", "Quota exceeded", "Connection rate exceeded"})


@dataclass(frozen=True, slots=True)
class Will:
    """Message that the broker publishes, retained, if the connection ends without ``Connection.close``."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class _Failure:
    """Reason why a connection could not be made."""

    reason: str
    permanent: bool = False  # it lasts until a person changes a password, a certificate or an access rule
    older_version_may_help: bool = False


def _log_errors(callback: Callable[..., None]) -> Callable[..., None]:
    """Wrap a callback so that it logs its exceptions; a raised one would end paho's network thread for good."""

    @functools.wraps(callback)
    def call(*args: Any) -> None:
        try:
            callback(*args)
        except Exception:
            log.exception("MQTT callback failed; the messages given to it are lost")

    return call


def _disable_nagle(_: paho.Client, __: Any, sock: socket.socket) -> None:
    """Send small packets at once; a label behind an acknowledgement would wait 40 ms for the broker's delayed ACK."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _alert_of(error: Exception) -> str:
    """Return the TLS alert by which the broker ended the handshake, such as "unknown ca"; "" for other errors."""
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        return str(error.reason).partition("ALERT_")[2].replace("_", " ").lower()
    return ""


class Connection:
    """Connection that falls back to MQTT 3.1.1 where necessary and reconnects for ever, to each address in turn.

    Args:
        settings: Addresses, protocol version and TLS files.
        client_id: Client identifier; a broker keeps one connection for each.
        subscriptions: Topic filters. They are subscribed to again after every reconnect.
        qos: QoS of the subscriptions.
        retained: Whether to receive messages retained before the subscription. MQTT 3.1.1 always sends them.
        will: Message for the broker to publish if the connection is lost.
        on_message: Called with (topic, payload, retained) of each message. Its exceptions are logged, never raised.
        on_messages: Called instead of ``on_message`` with a list of such triples, for many messages per second.
        on_change: Called with True when the connection becomes ready and with False when it is lost.

    Callbacks run in the network thread and must not block.

    Attributes:
        connects: Number of connections made since ``open``, the first one included.
        version: MQTT version in use, "5" or "3.1.1"; "" if it is not known yet.

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
        on_messages: Callable[[Sequence[InboundMessage]], None] | None = None,
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
        self._on_message = _log_errors(on_message) if on_message is not None else None
        self._on_messages = on_messages
        self._on_change = on_change
        self._client: FastClient | None = None
        self._url = settings.url
        self._next_urls = itertools.cycle(settings.urls)
        self._unsubscribed = threading.Event()
        self._handshake_ended = threading.Event()  # successfully or not
        self._failure: _Failure | None = None  # of the handshake
        self._tls_alert = ""
        self._ready = False
        self._subscribe_again_s = RETRY_MIN_S  # pause after a refused subscription
        self._closing = False

    @property
    def ready(self) -> bool:
        """True while the broker has accepted the connection and every subscription."""
        return self._ready

    @property
    def url(self) -> BrokerUrl:
        """Address in use, or the last one tried."""
        return self._url

    # --- connecting -------------------------------------------------------------------------------

    def open(self, stop: threading.Event | None = None) -> None:
        """Connect to the first address that accepts the connection, and subscribe.

        Args:
            stop: Addresses that cannot be reached are tried again until this event is set. None: they are an error.

        Raises:
            BrokerError: Every address refused the connection, or, without ``stop``, none accepted it.
            ConfigError: A TLS file is unusable.

        """
        delay_s, urls = RETRY_MIN_S, self.settings.urls
        while True:
            failures: list[_Failure] = []
            for url in urls:
                failure = self._try_address(url)
                if failure is None:
                    return
                failures.append(failure)
                if url is not urls[-1]:
                    log.warning("broker %s: %s; trying the next address", url, failure.reason)
                if stop is not None and stop.is_set():
                    return
            # One node of a cluster may refuse a connection because others are unreachable.
            if all(failure.permanent for failure in failures):
                raise BrokerError(f"broker {urls[0]}: {failures[0].reason}")
            if stop is None:
                raise BrokerError(f"broker {urls[-1]}: {failures[-1].reason}")
            log.warning("broker %s: %s; trying again in %d s", urls[-1], failures[-1].reason, delay_s)
            if stop.wait(delay_s):
                return
            delay_s = min(2 * delay_s, RETRY_MAX_S)

    def _try_address(self, url: BrokerUrl) -> _Failure | None:
        """Connect to one address, in the newest version that it accepts."""
        failure = None
        for version in ("5", "3.1.1") if self.settings.version == "auto" else (self.settings.version,):
            failure = self._try_version(url, version)
            if failure is None:
                self.version = version
            if failure is None or not failure.older_version_may_help:
                break
        return failure

    def _try_version(self, url: BrokerUrl, version: str) -> _Failure | None:
        first = self.settings.urls.index(url)
        self._next_urls = itertools.cycle((*self.settings.urls[first:], *self.settings.urls[:first]))
        self._handshake_ended.clear()
        self._failure, self._tls_alert = None, ""
        self.connects = 0  # a connection whose subscription was refused does not count
        client = self._new_client(url, version)
        try:
            client.connect(url.host, url.port, keepalive=KEEPALIVE_S)
        except ssl.SSLEOFError:  # a proxy whose broker is away
            return _Failure("connection closed during the TLS handshake")
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or error.reason or str(error)
            return _Failure(f"TLS: {reason}", permanent=True)
        except (OSError, ValueError) as error:
            return _Failure(f"cannot connect: {error}")
        self._client = client
        client.loop_start()
        ended = self._handshake_ended.wait(HANDSHAKE_S)
        if self._ready:
            return None
        self._client = None
        client.disconnect()
        client.loop_stop()
        if self._tls_alert == "internal error":  # a fault of the broker, not of our certificate
            return _Failure("TLS: internal error of the broker")
        if self._tls_alert:
            return _Failure(f"TLS: the broker refused our certificate: {self._tls_alert}", permanent=True)
        if self._failure is not None:
            return self._failure
        # A broker without MQTT 5 may close the connection, or not answer at all.
        reason = "connection closed during the MQTT handshake" if ended else f"no answer within {HANDSHAKE_S:.0f} s"
        return _Failure(reason, older_version_may_help=True)

    def _new_client(self, url: BrokerUrl, version: str) -> FastClient:
        client = FastClient(
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
        client.on_pre_connect = _log_errors(self._choose_address)
        client.on_socket_open = _log_errors(_disable_nagle)
        client.on_socket_error = _log_errors(self._note_tls_alert)
        client.on_connect = _log_errors(self._on_connack)
        client.on_subscribe = _log_errors(self._on_suback)
        client.on_unsubscribe = lambda *_: self._unsubscribed.set()
        client.on_disconnect = _log_errors(self._on_disconnect)
        client.on_messages = _log_errors(self._on_received)
        return client

    # --- in the network thread -----------------------------------------------------------------

    def _choose_address(self, client: FastClient, _: Any) -> None:
        """Take the next address for the connection that is about to be made."""
        self._url = next(self._next_urls)
        client.set_address(self._url.host, self._url.port)

    def _note_tls_alert(self, error: Exception) -> None:
        self._tls_alert = _alert_of(error) or self._tls_alert

    def _on_connack(self, client: FastClient, _: Any, __: Any, reason_code: Any, properties: Any) -> None:
        if reason_code.is_failure:
            reason = str(reason_code)
            old_broker = (
                "protocol version" in reason.lower()
                and client.protocol == paho.MQTTv5
                and self.settings.version == "auto"
            )
            permanent = not old_broker and reason not in _TRANSIENT_REASONS
            self._handshake_failed(_Failure(f"refused the connection: {reason}", permanent, old_broker))
            return
        client.limit_inflight(min(_MAX_INFLIGHT, getattr(properties, "ReceiveMaximum", _MAX_INFLIGHT)))
        self.connects += 1
        if not self._subscriptions:
            self._become_ready()
        elif client.protocol == paho.MQTTv5:
            handling = (
                SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if self._retained else SubscribeOptions.RETAIN_DO_NOT_SEND
            )
            options = SubscribeOptions(qos=self._qos, retainHandling=handling)
            client.subscribe([(subscription, options) for subscription in self._subscriptions])
        else:
            client.subscribe([(subscription, self._qos) for subscription in self._subscriptions])

    def _on_suback(self, client: FastClient, _: Any, __: Any, reason_codes: list[Any], ___: Any) -> None:
        refused = [
            f"refused the subscription to {subscription}: {reason_code}"
            for subscription, reason_code in zip(self._subscriptions, reason_codes, strict=False)
            if reason_code.is_failure
        ]
        if not refused:
            self._become_ready()
            return
        opened_before = self._handshake_ended.is_set()
        self._handshake_failed(_Failure(refused[0], permanent=True))
        if opened_before:  # a cluster that has just lost a node may accept it at the next address or a little later
            client.drop_after(self._subscribe_again_s)
            self._subscribe_again_s = min(2 * self._subscribe_again_s, RETRY_MAX_S)

    def _on_disconnect(self, _: Any, __: Any, ___: Any, reason_code: Any, ____: Any) -> None:
        was_ready, self._ready = self._ready, False
        self._handshake_ended.set()
        if was_ready and not self._closing:
            log.warning("broker %s: connection lost (%s); reconnecting", self.url, reason_code)
            self._notify(False)

    def _on_received(self, messages: Sequence[InboundMessage]) -> None:
        if self._on_messages is not None:
            self._on_messages(messages)
        elif self._on_message is not None:
            for message in messages:
                self._on_message(*message)

    def _handshake_failed(self, failure: _Failure) -> None:
        self._failure = failure
        if self._handshake_ended.is_set():  # a reconnect: never fatal, because the broker may change its mind
            log.error("broker %s: %s; trying again", self.url, failure.reason)
        self._handshake_ended.set()

    def _become_ready(self) -> None:
        self._ready = True
        self._subscribe_again_s = RETRY_MIN_S
        if self.connects > 1:
            log.warning("broker %s: reconnected", self.url)
        self._handshake_ended.set()
        self._notify(True)

    def _notify(self, ready: bool) -> None:
        if self._on_change is not None:
            self._on_change(ready)

    # --- from any thread -----------------------------------------------------------------------

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool:
        """Queue a message; return False if it was rejected: the queue is full, or QoS 0 without a connection."""
        return self.publish_all([(topic, payload)], qos=qos, retain=retain) == 1

    def publish_all(self, messages: Sequence[tuple[str, bytes]], *, qos: int = 1, retain: bool = False) -> int:
        """Queue messages (topic, payload) to be sent together. Return how many were accepted, always the first ones."""
        return 0 if self._client is None else self._client.publish_all(messages, qos, retain, MAX_OUTGOING)

    def replace_credentials(self, settings: BrokerSettings) -> None:
        """Use the user, password and TLS files of ``settings`` from the next reconnect on. Addresses stay the same.

        Raises:
            ConfigError: A TLS file is unusable. The old ones stay in use.

        """
        context, client = settings.tls_context(), self._client
        if client is not None and context is not None:
            client.set_tls_context(context)
        if client is not None and settings.url.user is not None:
            client.username_pw_set(settings.url.user, settings.url.password)

    @property
    def outgoing(self) -> int:
        """Number of messages queued and not yet acknowledged (QoS 1) or sent (QoS 0)."""
        return 0 if self._client is None else self._client.outgoing

    def unsubscribe(self, timeout_s: float) -> None:
        """End the subscriptions and wait for the broker's answer; every message sent before has then been received."""
        if self._client is not None and self._subscriptions and self._ready:
            self._client.unsubscribe(list(self._subscriptions))
            self._unsubscribed.wait(timeout_s)

    def flush(self, timeout_s: float) -> bool:
        """Wait until every queued message is acknowledged; return False if that takes longer than ``timeout_s``."""
        deadline_s = time.monotonic() + timeout_s
        while self.outgoing and time.monotonic() < deadline_s:
            time.sleep(0.005)
        return not self.outgoing

    def close(self) -> None:
        """Disconnect, so that the broker does not publish the will."""
        self._closing = True
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
