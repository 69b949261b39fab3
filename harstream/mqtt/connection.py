"""One MQTT connection that is kept open: protocol versions, refusals, outages, several addresses.

``FastClient`` moves the bytes; every decision is made here and in ``link``, which holds the callbacks.
"""

from __future__ import annotations

import functools
import itertools
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from harstream.errors import BrokerError
from harstream.mqtt.client import FastClient
from harstream.mqtt.dialling import accepts_without_will, connect, make_client
from harstream.mqtt.failures import MAX_ENDS, Attempts, Failure, RareLine, in_seconds, publish_mend
from harstream.mqtt.link import Link
from harstream.mqtt.probing import scheme_hint
from harstream.mqtt.urls import BrokerSettings, BrokerUrl

log = logging.getLogger("harstream.mqtt")

HANDSHAKE_S = 10.0
#: Longest wait for the end of the subscriptions before a connection is closed, seconds.
_CLOSE_S = 2.0
#: Limit of the messages queued for publishing and not yet acknowledged. paho itself has none.
MAX_OUTGOING = 20_000


class Connection(Link):
    """Connection that falls back to MQTT 3.1.1 where necessary and reconnects for ever, to each address in turn.

    Args:
        settings: Addresses, protocol version and TLS files.
        client_id: Client identifier; a broker keeps one connection for each.
        subscriptions: Topic filters. They are subscribed to again after every reconnect.
        changing: Further topic filters, which may change while the connection lasts.
        qos: QoS of the subscriptions.
        retained: Whether to receive messages retained before the subscription. MQTT 3.1.1 always sends them.
        session: Whether the broker keeps subscriptions and messages while the client is away. Messages at QoS 1 then
            wait for ``acknowledge``.
        earlier: Topic filters of the session when it was last used; those that are not subscribed to any more end.
            None: there is no session yet.
        presence: Topic on which to say that this client is there. At the start the connection becomes ready only if the
            broker lets us publish there.
        kind_of: Returns the name of the kind of a topic, such as its template, for messages about refusals.
        on_message: Called with (topic, payload, retained) of each message. Its exceptions are logged, never raised.
        on_messages: Called instead of ``on_message`` with a list of such triples, for many messages per second. What it
            raises ends the connection, and the messages are not acknowledged.
        on_change: Called with True when the connection becomes ready and with False when it is lost.
        on_answers: Called with the topics of messages at QoS 1 that the broker has accepted, and with the refusals.
            Accepted ones are told only while ``report_accepted`` is set. MQTT 3.1.1 has no refusals.
        on_settled: Called when ``answered`` has grown.
        on_death: Called when an error has ended the network thread, which means a bug. Nothing is received or sent any
            more.
        max_payload_bytes: Longest payload that is kept whole. A longer one may be cut or replaced, but stays too long.
        silence_s: Time without a message, seconds, after which a topic filter that had messages is subscribed to again;
            after twice that time without any message the connection is made again. 0: never.
        on_silence: Called with "subscribed" or "reconnected" when that is done.

    Callbacks run in the network thread and must not block.

    Attributes:
        connects: Number of connections made since ``open``, the first one included.
        version: MQTT version in use, "5" or "3.1.1"; "" if it is not known yet.
        failure: Error that has ended the network thread; None while it lives.

    """

    # --- connecting -------------------------------------------------------------------------------

    def open(self, stop: threading.Event | None = None) -> None:
        """Connect to the first address that accepts the connection, and subscribe.

        Args:
            stop: Addresses that cannot be reached are tried again until this event is set. None: they are an error.

        Raises:
            BrokerError: Every address refused the connection, or, without ``stop``, none accepted it.
            ConfigError: A TLS file is unusable.

        """
        urls, n_closed, attempts, rare = self.settings.urls, 0, Attempts(), RareLine()
        while True:
            failures: list[Failure] = []
            for url in urls:
                failure = self._try_address(url)
                if failure is None:
                    return
                failures.append(failure)
                if url is not urls[-1]:
                    log.warning("broker %s: %s; trying the next address", url, failure.reason)
                if stop is not None and stop.is_set():
                    return
            n_closed = n_closed + 1 if all(failure.suspect for failure in failures) else 0
            # One node of a cluster may refuse a connection because others are unreachable.
            if n_closed >= MAX_ENDS or all(failure.permanent for failure in failures):
                raise BrokerError(f"broker {urls[0]}: {failures[0].reason}")
            if stop is None:
                raise BrokerError(f"broker {urls[-1]}: {failures[-1].reason}")
            attempts.fail()
            if rare.due(failures[-1].reason):
                again = in_seconds(attempts.pause_s)
                log.warning("broker %s: %s; trying again %s", urls[-1], failures[-1].reason, again)
            if stop.wait(attempts.pause_s):
                return

    def _try_address(self, url: BrokerUrl) -> Failure | None:
        """Connect to one address, in the newest version that it accepts."""
        failure = None
        for version in self.settings.versions:
            failure = self._try_version(url, version)
            if failure is None:
                self.version = version
            if failure is None or not failure.older_version_may_help:
                break
        if failure is None:
            return None
        if failure.other_protocol and (hint := scheme_hint(url)):
            return Failure(f"{failure.reason}: {hint}", permanent=True)
        if (
            failure.will_may_be_refused
            and self._presence is not None
            and accepts_without_will(self.settings, self._client_id, version, url, HANDSHAKE_S, session=self._session)
        ):
            again = self._try_version(url, version)  # the broker may have come up between the two attempts
            if again is None:
                self.version = version
                return None
            if not again.will_may_be_refused:
                return again
            mend = publish_mend(self.settings.url.user, self._presence.topic)
            return Failure(f"refused our will: {failure.reason}; {mend}, or use --no-will", permanent=True)
        return failure

    def _try_version(self, url: BrokerUrl, version: str) -> Failure | None:
        first = self.settings.urls.index(url)
        self._next_urls = itertools.cycle((*self.settings.urls[first:], *self.settings.urls[:first]))
        self._handshake_ended.clear()
        self._failure, self._tls_alert, self._checking = None, "", False
        self._opened = self._accepted = False
        self.connects = 0  # a connection whose subscription was refused does not count
        self._recovery.attempts = Attempts()
        client = self._new_client(version)
        failure = connect(client, url)
        if failure is not None:
            return failure
        self._client = client
        client.loop_start()
        ended = self._handshake_ended.wait(HANDSHAKE_S)
        # With a presence, the broker has answered after it got the subscription and the presence. If the connection is
        # lost already, it is for something else, and the network thread makes it again.
        if self._ready or (self._opened and self._presence is not None and self.failure is None):
            return None
        self._client = None
        client.disconnect()
        client.loop_stop()
        if self.failure is not None:
            raise self.failure
        if self._tls_alert == "internal error":  # a fault of the broker, not of our certificate
            return Failure("TLS: internal error of the broker")
        if self._tls_alert:
            return Failure(f"TLS: the broker refused our certificate: {self._tls_alert}", permanent=True)
        if self._failure is not None:
            return self._failure
        if self._checking and ended:
            topic = self._presence.topic if self._presence is not None else ""
            return Failure(
                f"closed the connection right after the status message to {topic}, so it probably does not allow it; "
                f"{publish_mend(url.user, topic)}",
                suspect=topic,
            )
        if self.connects and ended:
            topics = ", ".join(self._subscriptions)
            return Failure(
                f"closed the connection right after the subscription to {topics}, so it probably does not allow it",
                suspect=topics,
            )
        # A broker without MQTT 5 may close the connection, or not answer at all.
        reason = "connection closed during the MQTT handshake" if ended else f"no answer within {HANDSHAKE_S:.0f} s"
        reason += f" ({client.end_reason})" if ended and client.end_reason else ""
        return Failure(
            reason, older_version_may_help=True, will_may_be_refused=ended and self._has_will, other_protocol=True
        )

    def _new_client(self, version: str) -> FastClient:
        client = make_client(self.settings, self._client_id, version, self._presence, session=self._session)
        hooks: Any = client  # paho's types of callbacks know neither FastClient nor version 2 alone
        hooks.on_pre_connect = self._choose_address
        client.on_socket_error = self._note_tls_alert
        hooks.on_connect = self._on_connack
        hooks.on_subscribe = self._on_suback
        hooks.on_unsubscribe = self._on_unsuback
        hooks.on_disconnect = self._on_disconnect
        client.on_messages = self._on_received
        client.on_answers = self._on_answered
        if self._on_settled is not None:
            client.on_settled = self._on_settled
        client.handshake_s = HANDSHAKE_S
        client.limit_payload(self._max_payload_bytes)
        client.next_pause = functools.partial(self._next_pause, client)
        client.on_attempt_failed = functools.partial(self._attempt_failed, client)
        client.on_death = functools.partial(self._die, client)
        return client

    # --- from any thread -----------------------------------------------------------------------

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool:
        """Queue a message; return False if it was rejected: the queue is full, or QoS 0 without a connection."""
        return self.publish_all([(topic, payload)], qos=qos, retain=retain) == 1

    def publish_all(self, messages: Sequence[tuple[str, bytes]], *, qos: int = 1, retain: bool = False) -> int:
        """Queue messages (topic, payload) to be sent together. Return how many were accepted, always the first ones."""
        return 0 if self._client is None else self._client.publish_all(messages, qos, retain, MAX_OUTGOING)

    def acknowledge(self, deliveries: Sequence[int]) -> None:
        """Acknowledge messages of a session by the numbers of their deliveries."""
        if self._client is not None:
            self._client.acknowledge(deliveries)

    @property
    def published(self) -> int:
        """Number of messages at QoS 1 that were queued for publishing since the connection was opened."""
        return 0 if self._client is None else self._client.published

    @property
    def answered(self) -> int:
        """Number of the ``published`` messages up to which the broker has answered all."""
        return 0 if self._client is None else self._client.answered

    def replace_credentials(self, settings: BrokerSettings) -> None:
        """Use the user, password and TLS files of ``settings`` from the next reconnect on. Addresses stay the same.

        Raises:
            ConfigError: A TLS file is unusable. The old ones stay in use.

        """
        context, client = settings.tls_context(), self._client
        if client is not None and context is not None:
            client.set_tls_context(context)
        if client is not None and (settings.url.user, settings.url.password) != (None, None):
            client.set_credentials(settings.url.user, settings.url.password)

    def limit_payload(self, max_bytes: int) -> None:
        """Change the longest payload that is kept whole."""
        self._max_payload_bytes = max_bytes
        if self._client is not None:
            self._client.limit_payload(max_bytes)

    def report_accepted(self, wanted: bool) -> None:
        """Tell ``on_answers`` of the accepted messages too, from now on, or no longer."""
        if self._client is not None and not self._checking:
            self._client.report_accepted = wanted

    def leave(self, payload: bytes) -> None:
        """Publish on the topic of the presence that the client stops, and why."""
        if self._keeper is not None and self._client is not None:
            self._keeper.leave(self._client, payload)

    @property
    def outgoing(self) -> int:
        """Number of messages queued and not yet acknowledged (QoS 1) or sent (QoS 0)."""
        return 0 if self._client is None else self._client.outgoing

    def unsubscribe(self, timeout_s: float) -> None:
        """End the subscriptions and wait for the broker's answer; every message sent before has then been received.

        The subscriptions of a session stay, so that the broker keeps what is published meanwhile.
        """
        topics = [
            *([] if self._session else self._subscriptions),
            *([] if self._presence is None else [self._presence.topic]),
            *([] if self._changing is None else sorted(self._changing.delivering)),
        ]
        if self._client is not None and topics and self._ready:
            self._unsubscribing = True
            self._client.unsubscribe(topics)
            self._unsubscribed.wait(timeout_s)

    def flush(self, timeout_s: float) -> bool:
        """Wait until every queued message is acknowledged; return False if that takes longer than ``timeout_s``."""
        deadline_s = time.monotonic() + timeout_s
        while self.outgoing and time.monotonic() < deadline_s:
            time.sleep(0.005)
        return not self.outgoing

    def close(self) -> None:
        """Disconnect, so that the broker does not publish the will."""
        if self._presence is not None and not self._unsubscribed.is_set():
            # What the broker still sends would reach a closed socket. The system then resets the connection, and the
            # broker may not read the DISCONNECT.
            self.unsubscribe(_CLOSE_S)
        self._closing = True
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
