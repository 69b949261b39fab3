"""Making of a client and its first packet: credentials, TLS, will, and the reasons why a connection fails."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from harstream.mqtt.client import FastClient
from harstream.mqtt.failures import Failure, alert_of
from harstream.mqtt.presence import Presence
from harstream.mqtt.urls import BrokerSettings, BrokerUrl
from harstream.mqtt.websocket import WebSocketError

#: Time without a packet from us, seconds, after half as long again the broker closes the connection. The client pings
#: more often.
KEEPALIVE_S = 10
#: Time for which the broker keeps the session of a client that is away, seconds. MQTT 3.1.1 names none.
SESSION_EXPIRY_S = 7 * 24 * 3600
#: Messages that the broker may send before it waits for acknowledgements, if it allows so many.
RECEIVE_MAXIMUM = 2_000


def make_client(
    settings: BrokerSettings, client_id: str, version: str, presence: Presence | None, *, session: bool = False
) -> FastClient:
    """Return a client with the credentials of ``settings`` and the will of ``presence``.

    Args:
        settings: How to reach the broker.
        client_id: Client identifier.
        version: MQTT version, "5" or "3.1.1".
        presence: Topic on which to say that the client is there.
        session: Whether the broker keeps subscriptions and messages while the client is away.

    Raises:
        ConfigError: A TLS file is unusable.

    """
    client = FastClient(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        protocol=paho.MQTTv5 if version == "5" else paho.MQTTv311,
        clean_session=None if version == "5" else not session,
        reconnect_on_failure=False,  # else paho falls back to MQTT 3.1 by itself; `network` reconnects
    )
    client.manual_ack = session
    client.set_credentials(settings.url.user, settings.url.password)
    context = settings.tls_context()
    if context is not None:
        client.tls_set_context(context)
    if presence is not None and presence.will:
        client.will_set(presence.topic, presence.offline, qos=presence.qos, retain=presence.retain)
    client.on_socket_open = _disable_nagle
    return client


def _disable_nagle(_: paho.Client, __: Any, sock: Any) -> None:
    """Send small packets at once; a label behind an acknowledgement would wait 40 ms for the broker's delayed ACK."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def connect(client: FastClient, url: BrokerUrl) -> Failure | None:
    """Connect to an address and send a CONNECT. Return the reason if that fails."""
    try:
        if client.manual_ack and client.protocol == paho.MQTTv5:
            client.connect(
                url.host, url.port, keepalive=KEEPALIVE_S, clean_start=False, properties=_session_properties()
            )
        else:
            client.connect(url.host, url.port, keepalive=KEEPALIVE_S)
    except (OSError, ValueError) as error:
        return failure_of(error)
    return None


def _session_properties() -> Any:
    """Return the properties of a CONNECT that asks the broker to keep the session."""
    properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = SESSION_EXPIRY_S
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    return properties


def failure_of(error: Exception) -> Failure:
    """Return the reason that an error gives for a connection that could not be made."""
    match error:
        case ssl.SSLEOFError():  # a proxy whose broker is away
            return Failure("connection closed during the TLS handshake", other_protocol=True)
        case ssl.SSLCertVerificationError():
            return Failure(f"TLS: {error.verify_message or error.reason or error}", permanent=True)
        case ssl.SSLError():
            mend = "; ask for another one by --alpn" if alert_of(error) == "no application protocol" else ""
            return Failure(f"TLS: {error.reason or error}{mend}", permanent=True, other_protocol=True)
        case WebSocketError():
            permanent = 400 <= error.status < 500 and error.status not in (408, 429)
            return Failure(f"WebSocket: {error}", permanent, other_protocol=not error.status)
        case ConnectionResetError():
            return Failure(f"cannot connect: {error}", other_protocol=True)
        case OSError() | ValueError():
            return Failure(f"cannot connect: {error}")
    return Failure(f"cannot connect: {type(error).__name__}: {error}")


def accepts_without_will(
    settings: BrokerSettings, client_id: str, version: str, url: BrokerUrl, timeout_s: float, *, session: bool = False
) -> bool:
    """Return True if the broker accepts a connection that has no will."""
    answered, accepted = threading.Event(), list[bool]()

    def on_connect(_: Any, __: Any, ___: Any, reason_code: Any, ____: Any) -> None:
        accepted.append(not reason_code.is_failure)
        answered.set()

    client = make_client(settings, client_id, version, None, session=session)
    client.set_address(url)
    client.on_connect = on_connect
    client.on_disconnect = lambda *_: answered.set()
    if connect(client, url) is not None:
        return False
    client.loop_start()
    answered.wait(timeout_s)
    client.disconnect()
    client.loop_stop()
    return accepted == [True]


def subscribe(
    client: FastClient, topics: Sequence[str], qos: int, *, retained: bool = False, own: bool = True
) -> int | None:
    """Subscribe, and return the identifier of the request.

    Args:
        client: Connected client.
        topics: Topic filters.
        qos: QoS of the subscriptions.
        retained: Whether to receive messages retained before. MQTT 3.1.1 always sends them.
        own: Whether to receive what the client itself publishes. MQTT 3.1.1 always sends it.

    """
    if client.protocol != paho.MQTTv5:
        return client.subscribe([(topic, qos) for topic in topics])[1]
    handling = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if retained else SubscribeOptions.RETAIN_DO_NOT_SEND
    options = SubscribeOptions(qos=qos, noLocal=not own, retainHandling=handling)
    return client.subscribe([(topic, options) for topic in topics])[1]
