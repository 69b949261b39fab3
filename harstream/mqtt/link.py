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
from harstream.mqtt.failures import TRANSIENT_REASONS, Failure, alert_of, publish_mend, with_mend
from harstream.mqtt.keeper import PresenceKeeper
from harstream.mqtt.outbound import Answer
from harstream.mqtt.packets import MAX_BYTES
from harstream.mqtt.presence import Presence
from harstream.mqtt.recovery import Recovery
from harstream.mqtt.silence import SilenceWatch
from harstream.mqtt.subscriptions import Subscriptions
from harstream.mqtt.urls import BrokerSettings, BrokerUrl

log = logging.getLogger("harstream.mqtt")

_TOPIC = operator.itemgetter(0)

#: Time from a reconnect to the subscription to the own status, seconds.
_WATCH_AFTER_S = 1.0
#: Limit of the messages sent and not yet acknowledged, unless the broker asks for a lower one.
_MAX_INFLIGHT = 1_000
#: Limit of the broker on the messages in flight from which on durable mode is not slowed down.
_FEW_INFLIGHT = 200


@dataclass(frozen=True, slots=True)
class Refusal:
    """Message that the broker did not accept."""

    topic: str
    payload: bytes
    reason: str  # name of a reason code of MQTT 5, such as "Not authorized", or "Connection closed"


def reason_of(code: int) -> str:
    """Return the name of a reason code of a PUBACK, also of one that MQTT does not know."""
    try:
        return str(ReasonCode(PacketTypes.PUBACK, identifier=code))
    except KeyError:
        return f"reason code 0x{code:02X}"


def listed(topics: Sequence[str]) -> str:
    """Return the first of some topics, and how many there are beside it."""
    return topics[0] + (f" and {len(topics) - 1} more" if topics[1:] else "")


def log_errors(callback: Callable[..., None]) -> Callable[..., None]:
    """Wrap a callback so that it logs its exceptions, because a bug in it is no reason to close the connection."""

    @functools.wraps(callback)
    def call(*args: Any) -> None:
        try:
            callback(*args)
        except MemoryError:
            raise
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
        session: bool = False,
        earlier: Sequence[str] | None = None,
        presence: Presence | None = None,
        kind_of: Callable[[str], str] = str,
        on_message: Callable[[str, bytes, bool], None] | None = None,
        on_messages: Callable[[Sequence[InboundMessage]], None] | None = None,
        on_change: Callable[[bool], None] | None = None,
        on_answers: Callable[[Sequence[str], Sequence[Refusal]], None] | None = None,
        on_settled: Callable[[], None] | None = None,
        on_death: Callable[[], None] | None = None,
        max_payload_bytes: int = MAX_BYTES,
        silence_s: float = 0.0,
        on_silence: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self.connects = 0
        self.failure: BaseException | None = None
        self.version = "" if settings.version == "auto" else settings.version
        self._client_id = client_id
        self._subscriptions = tuple(subscriptions)
        self._changing = changing
        self._qos = qos
        self._retained = retained
        self._session = session
        self._resumes = earlier is not None
        self._out_of_use = [] if earlier is None else sorted(set(earlier) - set(subscriptions))
        self._presence = presence
        self._keeper = None if presence is None else PresenceKeeper(presence)
        self._on_message = log_errors(on_message) if on_message is not None else None
        self._on_messages = on_messages
        self._on_change = on_change
        self._on_answers = log_errors(on_answers) if on_answers is not None else None
        self._on_settled = on_settled
        self._on_death = on_death
        self._max_payload_bytes = max_payload_bytes
        self._silence = SilenceWatch(subscriptions, silence_s) if subscriptions and silence_s else None
        self._silence_s, self._on_silence = silence_s, on_silence
        self._client: FastClient | None = None
        self._url = settings.url
        self._next_urls = itertools.cycle(settings.urls)
        self._unsubscribing = False
        self._unsubscribed = threading.Event()
        self._handshake_ended = threading.Event()  # successfully or not
        self._opened = False  # there was a complete connection, so that it is made again when it ends
        self._failure: Failure | None = None  # of the handshake
        self._tls_alert = ""
        self._accepted = False  # the broker has accepted the present connection
        self._subscribing: int | None = None  # identifier of the SUBSCRIBE, until it is answered
        self._renewing: int | None = None  # identifier of one that subscribes again
        self._ready = False
        self._checking = False  # at the start: whether the broker lets us publish our presence
        self._recovery = Recovery(settings, client_id, self._keeper, kind_of, self._give_up)
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

    def _on_connack(self, client: FastClient, _: Any, flags: Any, reason_code: Any, properties: Any) -> None:
        if self._accepted:
            client.drop("the broker accepted the connection twice")
            return
        if reason_code.is_failure:
            reason = str(reason_code)
            old_broker = (
                "protocol version" in reason.lower()
                and client.protocol == paho.MQTTv5
                and self.settings.version == "auto"
            )
            permanent = not old_broker and reason not in TRANSIENT_REASONS
            self._handshake_failed(
                client,
                Failure(
                    f"refused the connection: {with_mend(reason)}",
                    permanent,
                    old_broker,
                    will_may_be_refused=permanent and self._has_will,
                ),
            )
            return
        presence = self._presence
        if not self._opened and presence is not None:
            if presence.retain and not getattr(properties, "RetainAvailable", 1):
                self._handshake_failed(
                    client, Failure(f"the broker says: {with_mend('Retain not supported')}", permanent=True)
                )
                return
            if presence.qos > getattr(properties, "MaximumQoS", 1):
                self._handshake_failed(
                    client, Failure(f"the broker says: {with_mend('QoS not supported')}", permanent=True)
                )
                return
        self._accepted = True
        self._recovery.attempts.begin()
        client.begin_pings()
        client.limit_inflight(min(_MAX_INFLIGHT, getattr(properties, "ReceiveMaximum", _MAX_INFLIGHT)))
        self.connects += 1
        if self._keeper is not None:
            self._keeper.connect()
        if self._session:
            self._log_session(flags.session_present, properties)
            if self._out_of_use and flags.session_present:
                client.unsubscribe(self._out_of_use)
        if self._subscriptions:
            self._subscribing = subscribe(client, self._subscriptions, self._qos, retained=self._retained)
        else:
            self._on_subscribed(client)

    def _log_session(self, present: bool, properties: Any) -> None:
        """Log that the broker has lost the session, or lets few messages wait for their acknowledgement."""
        if not present and (self.connects > 1 or self._resumes):
            log.warning(
                "broker %s: the session was lost, and with it what was published meanwhile; let the broker keep its "
                "sessions on disk (mosquitto: persistence true)",
                self.url,
            )
        few = getattr(properties, "ReceiveMaximum", None)
        if self.connects == 1 and few is not None and few < _FEW_INFLIGHT:
            log.warning(
                "broker %s: at most %d messages may wait for their acknowledgement, which limits the durable mode to a "
                "few thousand messages a second; raise the limit to %d (mosquitto: max_inflight_messages)",
                self.url,
                few,
                _FEW_INFLIGHT,
            )

    def _on_suback(self, client: FastClient, _: Any, mid: int, reason_codes: list[Any], __: Any) -> None:
        if self._keeper is not None and self._keeper.take_suback(client, mid, reason_codes):
            return
        if self._changing is not None and self._changing.take_suback(mid, reason_codes):
            return
        if mid == self._renewing:
            if any(code.is_failure for code in reason_codes):
                client.drop("refused a subscription that it had accepted before")
            return
        if mid != self._subscribing:
            return
        self._subscribing = None
        if len(reason_codes) != len(self._subscriptions):
            client.drop(f"the broker answered {len(self._subscriptions)} subscriptions by {len(reason_codes)} codes")
            return
        refused = [
            f"refused the subscription to {subscription}: {reason_code}"
            for subscription, reason_code in zip(self._subscriptions, reason_codes, strict=True)
            if reason_code.is_failure
        ]
        if refused:  # a cluster that has just lost a node may accept it at the next address or a little later
            self._handshake_failed(client, Failure(refused[0], permanent=True))
            return
        if self._session and self.connects == 1 and any(code.value == 0 for code in reason_codes):
            log.warning(
                "broker %s: it grants QoS 0 to the subscription to %s, so messages are lost while nobody reads them; "
                "let it grant QoS 1",
                self.url,
                listed(self._subscriptions),
            )
        self._on_subscribed(client)

    def _on_unsuback(self, _: FastClient, __: Any, mid: int, *___: Any) -> None:
        if self._changing is not None and self._changing.take_unsuback(mid):
            return
        if self._unsubscribing:
            self._unsubscribed.set()

    def _on_subscribed(self, client: FastClient) -> None:
        """Become ready; at the start only when the broker has accepted our presence and is still there."""
        self._checking = self._presence is not None and not self._opened
        client.report_accepted = client.report_accepted or self._checking
        if self._keeper is not None:
            self._keeper.announce(client)
        if not self._checking:
            self._become_ready(client)
        elif self._presence is not None and self._presence.qos == 0:
            client.ping(functools.partial(self._checked, client))

    def _on_answered(self, answers: Sequence[Answer]) -> None:
        refusals = [
            Refusal(answer.topic, answer.payload, reason_of(answer.code)) for answer in answers if answer.code >= 0x80
        ]
        client = self._client
        if self._checking and self._presence is not None and client is not None:
            own = self._presence.topic
            for refusal in refusals:
                if refusal.topic == own:
                    mend = publish_mend(self.settings.url.user, own)
                    reason = f"refused the status message to {own}: {with_mend(refusal.reason)}; {mend}"
                    self._handshake_failed(client, Failure(reason, permanent=True))
                    return
            if any(answer.topic == own for answer in answers):
                # A broker may acknowledge a message that it does not allow, and then close the connection.
                client.ping(functools.partial(self._checked, client))
        elif self._on_answers is not None:
            self._on_answers([answer.topic for answer in answers if answer.code < 0x80], refusals)

    def _checked(self, client: FastClient) -> None:
        """Become ready, because the broker is still there after it got our presence."""
        if self._checking and self._failure is None:
            client.report_accepted = False
            self._checking = False
            self._become_ready(client)

    def _on_disconnect(self, client: FastClient, _: Any, flags: Any, reason_code: Any, __: Any) -> None:
        if client is not self._client:
            return
        was_ready, self._ready = self._ready, False
        self._accepted, self._subscribing, self._renewing = False, None, None
        if self._changing is not None:
            self._changing.close()
        told = str(reason_code) if flags.is_disconnect_packet_from_server else ""
        if not self._opened:
            if self._failure is None and told:
                self._failure = self._closed(told)
            self._handshake_ended.set()
        elif not self._closing:
            refused = self._failure is not None and self._failure.permanent
            self._failure = None
            self._recovery.lose(self.url, client, told, was_ready=was_ready, refused=refused)
            if was_ready:
                self._notify(False)

    def _attempt_failed(self, client: FastClient, error: Exception) -> None:
        """Note that no connection could be made."""
        if client is self._client:
            self._recovery.fail(self.url, error)

    def _next_pause(self, client: FastClient) -> float | None:
        """Return the pause before the next attempt, in seconds; None if there shall be none."""
        return self._recovery.attempts.pause_s if self._opened and client is self._client else None

    def _die(self, client: FastClient, error: BaseException) -> None:
        """Note the error that has ended the network thread. There is no connection any more."""
        if client is self._client:
            self.failure, self._ready = error, False
            self._handshake_ended.set()
            if self._on_death is not None:
                self._on_death()

    def _closed(self, reason: str) -> Failure:
        """Return the failure of a connection that the broker closed at the start, with a reason."""
        text = f"closed the connection: {with_mend(reason)}"
        if self._checking and self._presence is not None:
            topic = self._presence.topic
            text = f"closed the connection after the status message to {topic}: {with_mend(reason)}"
            if reason == "Not authorized":
                text += f"; {publish_mend(self.settings.url.user, topic)}"
        return Failure(text, permanent=reason not in TRANSIENT_REASONS)

    def _give_up(self, topic: str, payload: bytes) -> None:
        if self._on_answers is not None:
            self._on_answers([], [Refusal(topic, payload, "Connection closed")])

    def _on_received(self, messages: list[InboundMessage]) -> None:
        if (
            self._keeper is not None
            and self._client is not None
            and self._keeper.presence.topic in map(_TOPIC, messages)
        ):
            own = self._keeper.presence.topic
            self._client.acknowledge([delivery for topic, _, _, delivery in messages if delivery and topic == own])
            messages = self._keeper.hear(self._client, messages)
            if not messages:
                return
        if self._silence is not None:
            self._silence.hear(messages)
        if self._on_messages is not None:
            self._on_messages(messages)
        elif self._on_message is not None:
            for message in messages:
                self._on_message(*message[:3])

    def _handshake_failed(self, client: FastClient, failure: Failure) -> None:
        """End a connection that the broker does not let become ready. After the start that is never fatal."""
        self._failure = failure
        client.drop(failure.reason)
        self._handshake_ended.set()

    def _become_ready(self, client: FastClient) -> None:
        self._ready = self._opened = True
        client.hold()
        if self.connects > 1:
            log.warning("broker %s: reconnected", self.url)
        if self._keeper is not None and self.connects == 1:
            self._keeper.watch(client)
        elif self._keeper is not None:  # later, so that a loss before then is not taken for an answer to this
            client.call_after("status", _WATCH_AFTER_S, functools.partial(self._keeper.watch, client))
        if self._silence is not None:
            self._silence.restart()
            client.call_after("watch", self._silence.every_s, functools.partial(self._check_silence, client))
        if self._changing is not None:
            self._changing.open(client)
        self._handshake_ended.set()
        self._notify(True)

    def _check_silence(self, client: FastClient) -> None:
        """Subscribe again to topics that have fallen silent; if that does not help, connect again."""
        assert self._silence is not None
        client.call_after("watch", self._silence.every_s, functools.partial(self._check_silence, client))
        if client.holds_messages:  # the broker may be silent because it waits for us, such as for room on our disk
            self._silence.wait()
            return
        found = self._silence.check()
        if found.lasts:
            self._tell_silence("reconnected")
            topics = listed(self._subscriptions)
            client.drop(
                f"no message on {topics} for {2 * self._silence_s:g} s, also after a new subscription", politely=True
            )
        elif found.filters:
            self._tell_silence("subscribed")
            log.info(
                "broker %s: no message on %s for %g s, where some came before; subscribing again",
                self.url,
                listed(found.filters),
                self._silence_s,
            )
            self._renewing = subscribe(client, found.filters, self._qos)

    def _tell_silence(self, action: str) -> None:
        if self._on_silence is not None:
            self._on_silence(action)

    def _notify(self, ready: bool) -> None:
        if self._on_change is not None:
            self._on_change(ready)
