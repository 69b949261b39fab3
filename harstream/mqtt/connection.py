"""One MQTT connection that is kept open: protocol versions, refusals, outages, several addresses.

``FastClient`` moves the bytes; every decision is made here and in ``link``, which holds the callbacks.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Sequence

from harstream.errors import BrokerError
from harstream.mqtt.client import FastClient
from harstream.mqtt.dialling import accepts_without_will, connect, make_client
from harstream.mqtt.failures import MAX_ENDS, RETRY_MAX_S, RETRY_MIN_S, EarlyEnds, Failure, publish_mend
from harstream.mqtt.link import Link, log_errors
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
        presence: Topic on which to say that this client is there. At the start the connection becomes ready only if the
            broker lets us publish there.
        kind_of: Returns the name of the kind of a topic, such as its template, for messages about refusals.
        on_message: Called with (topic, payload, retained) of each message. Its exceptions are logged, never raised.
        on_messages: Called instead of ``on_message`` with a list of such triples, for many messages per second.
        on_change: Called with True when the connection becomes ready and with False when it is lost.
        on_answers: Called with the topics of messages at QoS 1 that the broker has accepted, and with the refusals.
            Accepted ones are told only while ``report_accepted`` is set. MQTT 3.1.1 has no refusals.

    Callbacks run in the network thread and must not block.

    Attributes:
        connects: Number of connections made since ``open``, the first one included.
        version: MQTT version in use, "5" or "3.1.1"; "" if it is not known yet.

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
        delay_s, urls, n_closed = RETRY_MIN_S, self.settings.urls, 0
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
            log.warning("broker %s: %s; trying again in %d s", urls[-1], failures[-1].reason, delay_s)
            if stop.wait(delay_s):
                return
            delay_s = min(2 * delay_s, RETRY_MAX_S)

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
            and accepts_without_will(self.settings, self._client_id, version, url, HANDSHAKE_S)
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
        self.connects = 0  # a connection whose subscription was refused does not count
        self._ends = EarlyEnds()
        client = self._new_client(version)
        failure = connect(client, url)
        if failure is not None:
            return failure
        self._client = client
        client.loop_start()
        ended = self._handshake_ended.wait(HANDSHAKE_S)
        if self._ready:
            return None
        self._client = None
        client.disconnect()
        client.loop_stop()
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
        return Failure(
            reason, older_version_may_help=True, will_may_be_refused=ended and self._has_will, other_protocol=True
        )

    def _new_client(self, version: str) -> FastClient:
        client = make_client(self.settings, self._client_id, version, self._presence)
        client.on_pre_connect = log_errors(self._choose_address)
        client.on_socket_error = log_errors(self._note_tls_alert)
        client.on_connect = log_errors(self._on_connack)
        client.on_subscribe = log_errors(self._on_suback)
        client.on_unsubscribe = log_errors(self._on_unsuback)
        client.on_disconnect = log_errors(self._on_disconnect)
        client.on_messages = log_errors(self._on_received)
        client.on_answers = log_errors(self._on_answered)
        client.on_pong = log_errors(self._on_pong)
        return client

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
        if client is not None and (settings.url.user, settings.url.password) != (None, None):
            client.set_credentials(settings.url.user, settings.url.password)

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
        """End the subscriptions and wait for the broker's answer; every message sent before has then been received."""
        topics = [*self._subscriptions, *([] if self._presence is None else [self._presence.topic])]
        topics += [] if self._changing is None else sorted(self._changing.delivering)
        if self._client is not None and topics and self._ready:
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
