"""The part of a connection that lives in the network thread: what the broker answers, and what follows from it."""

from __future__ import annotations

import functools
import itertools
import logging
import operator
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from harstream.mqtt.client import FastClient, InboundMessage
from harstream.mqtt.dialling import subscribe
from harstream.mqtt.failures import (
    MAX_ENDS,
    RETRY_MAX_S,
    RETRY_MIN_S,
    TRANSIENT_REASONS,
    EarlyEnds,
    Failure,
    alert_of,
    publish_mend,
    with_mend,
)
from harstream.mqtt.keeper import PresenceKeeper
from harstream.mqtt.outbound import Answer
from harstream.mqtt.presence import Presence
from harstream.mqtt.subscriptions import Subscriptions
from harstream.mqtt.urls import BrokerSettings, BrokerUrl

log = logging.getLogger("harstream.mqtt")

_TOPIC = operator.itemgetter(0)

#: Longest time from a message to the end of the connection, seconds, for which the broker may have ended it.
_BLAME_S = 2.0
#: Time from a reconnect to the subscription to the own status, seconds.
_WATCH_AFTER_S = 1.0
#: Limit of the messages sent and not yet acknowledged, unless the broker asks for a lower one.
_MAX_INFLIGHT = 1_000


@dataclass(frozen=True, slots=True)
class Refusal:
    """Message that the broker did not accept."""

    topic: str
    payload: bytes
    reason: str  # name of a reason code of MQTT 5, such as "Not authorized", or "Connection closed"


def log_errors(callback: Callable[..., None]) -> Callable[..., None]:
    """Wrap a callback so that it logs its exceptions; a raised one would end paho's network thread for good."""

    @functools.wraps(callback)
    def call(*args: Any) -> None:
        try:
            callback(*args)
        except Exception:
            log.exception("MQTT callback failed; the messages given to it are lost")

    return call


class Link:
    """Callbacks of a client that keep a connection ready, and the state that they share with ``Connection``."""

    def __init__(
        self,
        settings: BrokerSettings,
        client_id: str,
        *,
        subscriptions: Sequence[str] = (),
        changing: Subscriptions | None = None,
        qos: int = 1,
        retained: bool = False,
        presence: Presence | None = None,
        kind_of: Callable[[str], str] = str,
        on_message: Callable[[str, bytes, bool], None] | None = None,
        on_messages: Callable[[Sequence[InboundMessage]], None] | None = None,
        on_change: Callable[[bool], None] | None = None,
        on_answers: Callable[[Sequence[str], Sequence[Refusal]], None] | None = None,
    ) -> None:
        self.settings = settings
        self.connects = 0
        self.version = "" if settings.version == "auto" else settings.version
        self._client_id = client_id
        self._subscriptions = tuple(subscriptions)
        self._changing = changing
        self._qos = qos
        self._retained = retained
        self._presence = presence
        self._keeper = None if presence is None else PresenceKeeper(presence)
        self._kind_of = kind_of
        self._on_message = log_errors(on_message) if on_message is not None else None
        self._on_messages = on_messages
        self._on_change = on_change
        self._on_answers = log_errors(on_answers) if on_answers is not None else None
        self._client: FastClient | None = None
        self._url = settings.url
        self._next_urls = itertools.cycle(settings.urls)
        self._unsubscribed = threading.Event()
        self._handshake_ended = threading.Event()  # successfully or not
        self._failure: Failure | None = None  # of the handshake
        self._tls_alert = ""
        self._ready = False
        self._checking = False  # at the start: whether the broker lets us publish our presence
        self._subscribe_again_s = RETRY_MIN_S  # pause after a refused subscription
        self._ends = EarlyEnds()
        self._closing = False

    @property
    def ready(self) -> bool:
        """True while the broker has accepted the connection and every subscription."""
        return self._ready

    @property
    def url(self) -> BrokerUrl:
        """Address in use, or the last one tried."""
        return self._url

    @property
    def _has_will(self) -> bool:
        return self._presence is not None and self._presence.will

    # --- in the network thread -----------------------------------------------------------------

    def _choose_address(self, client: FastClient, _: Any) -> None:
        """Take the next address for the connection that is about to be made."""
        self._url = next(self._next_urls)
        client.set_address(self._url)

    def _note_tls_alert(self, error: Exception) -> None:
        self._tls_alert = alert_of(error) or self._tls_alert

    def _on_connack(self, client: FastClient, _: Any, __: Any, reason_code: Any, properties: Any) -> None:
        if reason_code.is_failure:
            reason = str(reason_code)
            old_broker = (
                "protocol version" in reason.lower()
                and client.protocol == paho.MQTTv5
                and self.settings.version == "auto"
            )
            permanent = not old_broker and reason not in TRANSIENT_REASONS
            self._handshake_failed(
                Failure(
                    f"refused the connection: {with_mend(reason)}",
                    permanent,
                    old_broker,
                    will_may_be_refused=permanent and self._has_will,
                )
            )
            return
        opened_before = self._handshake_ended.is_set()
        presence = self._presence
        if not opened_before and presence is not None:
            if presence.retain and not getattr(properties, "RetainAvailable", 1):
                self._handshake_failed(Failure(f"the broker says: {with_mend('Retain not supported')}", permanent=True))
                return
            if presence.qos > getattr(properties, "MaximumQoS", 1):
                self._handshake_failed(Failure(f"the broker says: {with_mend('QoS not supported')}", permanent=True))
                return
        self._ends.begin()
        client.limit_inflight(min(_MAX_INFLIGHT, getattr(properties, "ReceiveMaximum", _MAX_INFLIGHT)))
        self.connects += 1
        if self._keeper is not None:
            self._keeper.connect()
        if self._subscriptions:
            subscribe(client, self._subscriptions, self._qos, retained=self._retained)
        else:
            self._on_subscribed(client)

    def _on_suback(self, client: FastClient, _: Any, mid: int, reason_codes: list[Any], __: Any) -> None:
        if self._keeper is not None and self._keeper.take_suback(mid, reason_codes):
            return
        if self._changing is not None and self._changing.take_suback(mid, reason_codes):
            return
        refused = [
            f"refused the subscription to {subscription}: {reason_code}"
            for subscription, reason_code in zip(self._subscriptions, reason_codes, strict=False)
            if reason_code.is_failure
        ]
        if not refused:
            self._on_subscribed(client)
            return
        opened_before = self._handshake_ended.is_set()
        self._handshake_failed(Failure(refused[0], permanent=True))
        if opened_before:  # a cluster that has just lost a node may accept it at the next address or a little later
            client.call_after(self._subscribe_again_s, client.drop)
            self._subscribe_again_s = min(2 * self._subscribe_again_s, RETRY_MAX_S)

    def _on_unsuback(self, _: FastClient, __: Any, mid: int, *___: Any) -> None:
        if self._changing is None or not self._changing.take_unsuback(mid):
            self._unsubscribed.set()

    def _on_subscribed(self, client: FastClient) -> None:
        """Become ready; at the start only when the broker has accepted our presence and is still there."""
        self._checking = self._presence is not None and not self._handshake_ended.is_set()
        client.report_accepted = client.report_accepted or self._checking
        if self._keeper is not None:
            self._keeper.announce(client)
        if not self._checking:
            self._become_ready(client)
        elif self._presence is not None and self._presence.qos == 0:
            client.ping()

    def _on_answered(self, answers: Sequence[Answer]) -> None:
        refusals = [
            Refusal(answer.topic, answer.payload, str(ReasonCode(PacketTypes.PUBACK, identifier=answer.code)))
            for answer in answers
            if answer.code >= 0x80
        ]
        if self._checking and self._presence is not None and self._client is not None:
            own = self._presence.topic
            for refusal in refusals:
                if refusal.topic == own:
                    mend = publish_mend(self.settings.url.user, own)
                    reason = f"refused the status message to {own}: {with_mend(refusal.reason)}; {mend}"
                    self._handshake_failed(Failure(reason, permanent=True))
                    return
            if any(answer.topic == own for answer in answers):
                # A broker may acknowledge a message that it does not allow, and then close the connection.
                self._client.ping()
        elif self._on_answers is not None:
            self._on_answers([answer.topic for answer in answers if answer.code < 0x80], refusals)

    def _on_pong(self) -> None:
        if self._checking and self._client is not None and self._failure is None:
            self._client.report_accepted = False
            self._checking = False
            self._become_ready(self._client)

    def _on_disconnect(self, client: FastClient, _: Any, flags: Any, reason_code: Any, __: Any) -> None:
        if client is not self._client:
            return
        was_ready, self._ready = self._ready, False
        if self._changing is not None:
            self._changing.close()
        reason = str(reason_code) if flags.is_disconnect_packet_from_server else ""
        if not self._handshake_ended.is_set():
            if reason and self._failure is None:
                self._failure = self._closed(reason)
            self._handshake_ended.set()
        elif not self._closing:
            for_reading = self._keeper is not None and self._keeper.lose()
            topic = "" if for_reading else client.last_publish(_BLAME_S)
            kind = self._kind_of(topic) if topic else ""
            self._ends.end(kind, topic)
            if self._keeper is not None and not self._ends.number:  # it lasted a while
                self._keeper.may_announce = True
            client.reconnect_delay_set(self._ends.pause_s, RETRY_MAX_S)
            if was_ready:
                settings = self.settings
                text = self._ends.describe(kind, topic, reason, settings.url.user, settings.client_id)
                log.log(
                    logging.WARNING if self._ends.of_kind < MAX_ENDS else logging.ERROR, "broker %s: %s", self.url, text
                )
                self._notify(False)
            if self._ends.of_topic >= MAX_ENDS:
                self._give_up(client, topic)

    def _closed(self, reason: str) -> Failure:
        """Return the failure of a connection that the broker closed at the start, with a reason."""
        text = f"closed the connection: {with_mend(reason)}"
        if self._checking and self._presence is not None:
            topic = self._presence.topic
            text = f"closed the connection after the status message to {topic}: {with_mend(reason)}"
            if reason == "Not authorized":
                text += f"; {publish_mend(self.settings.url.user, topic)}"
        return Failure(text, permanent=reason not in TRANSIENT_REASONS)

    def _give_up(self, client: FastClient, topic: str) -> None:
        """Give up the message for which the broker closes one connection after another, so that others get through."""
        taken = client.take_oldest()
        if self._keeper is not None and topic == self._keeper.presence.topic:
            self._keeper.may_announce = False
            taken = topic, self._keeper.presence.online
        if taken is not None and self._on_answers is not None:
            self._on_answers([], [Refusal(*taken, "Connection closed")])

    def _on_received(self, messages: list[InboundMessage]) -> None:
        if (
            self._keeper is not None
            and self._client is not None
            and self._keeper.presence.topic in map(_TOPIC, messages)
        ):
            messages = self._keeper.hear(self._client, messages)
        if self._on_messages is not None:
            self._on_messages(messages)
        elif self._on_message is not None:
            for message in messages:
                self._on_message(*message)

    def _handshake_failed(self, failure: Failure) -> None:
        self._failure = failure
        if self._handshake_ended.is_set():  # a reconnect: never fatal, because the broker may change its mind
            log.error("broker %s: %s; trying again", self.url, failure.reason)
        self._handshake_ended.set()

    def _become_ready(self, client: FastClient) -> None:
        self._ready = True
        self._subscribe_again_s = RETRY_MIN_S
        if self.connects > 1:
            log.warning("broker %s: reconnected", self.url)
        if self._keeper is not None and self.connects == 1:
            self._keeper.watch(client)
        elif self._keeper is not None:  # later, so that a loss before then is not taken for an answer to this
            client.call_after(_WATCH_AFTER_S, functools.partial(self._keeper.watch, client))
        if self._changing is not None:
            self._changing.open(client)
        self._handshake_ended.set()
        self._notify(True)

    def _notify(self, ready: bool) -> None:
        if self._on_change is not None:
            self._on_change(ready)
