"""Keep the topic of a presence right while the client runs."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import paho.mqtt.client as paho

from harstream.mqtt.client import FastClient, InboundMessage
from harstream.mqtt.dialling import subscribe
from harstream.mqtt.failures import MAX_ENDS
from harstream.mqtt.presence import Presence

log = logging.getLogger("harstream.mqtt")

#: Time without a correction, seconds, after which the next one is made at once again.
CALM_S = 600.0
#: Longest pause between two corrections, seconds. It doubles from one second.
_MAX_PAUSE_S = 60.0
#: Number of corrections without calm after which somebody else must be using the topic.
_MAX_CORRECTIONS = 5
#: Time after which a retained message that was not sent back is reported, seconds.
READ_BACK_S = 10.0


class PresenceKeeper:
    """Publishes the presence of a client, and again whenever the topic says something else.

    A daemon that died leaves a will, which the broker publishes up to a minute later, and one that is replaced
    publishes `stopped`. Both may come after the `online` of the next one with the same name. Two living clients do not
    contradict each other; whoever else does is answered in pauses that double.

    ``online`` is published before the topic is subscribed to, since the broker's answer belongs to the start, and
    again when it is subscribed to: of two daemons with one name that start at the same moment, the one that has
    subscribed first then hears the other.

    All methods but ``leave`` are called in the network thread.

    Args:
        presence: The topic.

    Attributes:
        may_announce: False while the broker closes the connection for what we publish on the topic.

    """

    def __init__(self, presence: Presence) -> None:
        self.presence = presence
        self.may_announce = True
        self._lock = threading.Lock()  # nothing may be published after the last message
        self._leaving = False
        self._reads = False  # the broker has sent a message of the topic on this connection
        self._subscribed = False  # the broker has accepted the subscription on this connection
        self._own = 0  # messages of ours that the broker may send back
        self._mid: int | None = None  # identifier of the SUBSCRIBE, until it is answered
        self._unanswered = 0  # connections in a row that ended before it was answered
        self._due = False  # a correction is on its way
        self._corrections = 0  # since the last calm
        self._pause_s = 0.0
        self._corrected_s = -math.inf  # time.monotonic()
        self._said: set[str] = set()  # log lines that are written once

    # --- publishing -----------------------------------------------------------------------------

    def connect(self) -> None:
        """Note that a new connection begins."""
        self._due = self._reads = self._subscribed = False

    def lose(self) -> bool:
        """Note that the connection has ended. Return True if the broker may have closed it for our subscription."""
        if self._mid is None:
            return False
        self._mid, self._unanswered = None, self._unanswered + 1
        if self._unanswered == MAX_ENDS:
            self._cannot_read("the broker closes the connection when it is subscribed to")
        return True

    def announce(self, client: FastClient) -> None:
        """Publish that the client is there."""
        self._due = False
        with self._lock:
            if self.may_announce and not self._leaving:
                self._own += self._subscribed and client.protocol != paho.MQTTv5
                self._publish(client, self.presence.online)

    def leave(self, client: FastClient, payload: bytes) -> None:
        """Publish that the client stops, and how. Whatever the topic says from now on is right."""
        with self._lock:
            self._leaving = True
            self._publish(client, payload)

    def _publish(self, client: FastClient, payload: bytes) -> None:
        presence = self.presence
        client.publish_all([(presence.topic, payload)], presence.qos, presence.retain, client.outgoing + 1)

    # --- reading --------------------------------------------------------------------------------

    def watch(self, client: FastClient) -> None:
        """Subscribe to the topic. A broker that does not allow it stops nothing."""
        if self._unanswered < MAX_ENDS:  # else it closes the connection for that
            # Over MQTT 3.1.1 the broker sends back what follows the subscription, such as what a backlog has delayed.
            self._own = client.count_waiting(self.presence.topic) if client.protocol != paho.MQTTv5 else 0
            # At QoS 0, so that a session does not keep what an earlier daemon of this name published.
            self._mid = subscribe(client, [self.presence.topic], 0, retained=True, own=False)
            client.call_after("read back", READ_BACK_S, self._check_reading)

    def take_suback(self, client: FastClient, mid: int, reason_codes: Sequence[Any]) -> bool:
        """Return True if this is the answer to our subscription."""
        if mid != self._mid:
            return False
        self._mid, self._unanswered = None, 0
        refused = [code for code in reason_codes if code.is_failure]
        if refused:
            self._cannot_read(f"the broker refused the subscription: {refused[0]}")
        else:
            self._subscribed = True
            self.announce(client)
        return True

    def _check_reading(self) -> None:
        if not self._reads and self.presence.retain and self.may_announce:
            self._cannot_read("the broker does not send back what is published there")

    def _cannot_read(self, reason: str) -> None:
        self._log_once(
            logging.INFO,
            "unread",
            f"cannot read the own status topic {self.presence.topic}: {reason}. A wrong status of an earlier daemon "
            "stays there; let this client read and publish it in the broker's access list",
        )

    def hear(self, client: FastClient, messages: list[InboundMessage]) -> list[InboundMessage]:
        """Judge the messages on the topic, and return the others."""
        own = self.presence.topic
        for topic, payload, retained, _ in messages:
            if topic == own:
                delay_s = self.judge(payload, retained)
                if delay_s is not None:
                    client.call_after("announce", delay_s, partial(self.announce, client))
        return [message for message in messages if message[0] != own]

    def judge(self, payload: bytes, retained: bool) -> float | None:
        """Return the seconds after which to publish again, because of a message; None if the message is right."""
        self._reads = True
        if self._leaving or not self.may_announce:
            return None
        if payload == self.presence.online:
            if not retained:
                self._own -= 1
            if self._own < 0:
                self._own = 0
                self._warn("published online too")
            return None
        if self._due:
            return None
        now_s = time.monotonic()
        if now_s - self._corrected_s > CALM_S:
            self._corrections, self._pause_s = 0, 0.0
        else:
            self._pause_s = min(max(2 * self._pause_s, 1.0), _MAX_PAUSE_S)
        self._corrections += 1
        self._due, self._corrected_s = True, now_s
        said = payload[:40].decode(errors="replace")
        log.info("%s said %r although this daemon runs; publishing online again", self.presence.topic, said)
        if self._corrections >= _MAX_CORRECTIONS:
            self._warn(f"contradicted this one {self._corrections} times")
        return self._pause_s

    def _warn(self, found: str) -> None:
        self._log_once(
            logging.WARNING,
            "shared",
            f"{self.presence.topic}: another daemon {found}. If it does not just replace this one, two have the same "
            "name; give each an --instance of its own",
        )

    def _log_once(self, level: int, name: str, text: str) -> None:
        if name not in self._said:
            self._said.add(name)
            log.log(level, "%s", text)
