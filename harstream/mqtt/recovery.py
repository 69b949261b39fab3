"""Recovery of a connection that was lost: why it ended, what the log says about it, and when to try again."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable

from harstream.mqtt.client import FastClient
from harstream.mqtt.dialling import failure_of
from harstream.mqtt.failures import MAX_ENDS, TAKEN_OVER, Attempts, RareLine, in_seconds, with_mend
from harstream.mqtt.keeper import PresenceKeeper
from harstream.mqtt.urls import BrokerSettings, BrokerUrl

log = logging.getLogger("harstream.mqtt")

#: Longest time from a message to the end of the connection, seconds, for which the broker may have ended it.
_BLAME_S = 2.0


class Recovery:
    """Judge of connections that end. All methods are called in the network thread.

    Args:
        settings: Settings of the connection.
        client_id: Client identifier of the first connection.
        keeper: Keeper of the presence; None without one.
        kind_of: Returns the name of the kind of a topic, such as its template.
        give_up: Called with topic and payload of a message for which the broker closes one connection after another,
            when it is given up so that others get through.

    Attributes:
        attempts: Attempts in a row, and the pause before the next one.

    """

    def __init__(
        self,
        settings: BrokerSettings,
        client_id: str,
        keeper: PresenceKeeper | None,
        kind_of: Callable[[str], str],
        give_up: Callable[[str, bytes], None],
    ) -> None:
        self.attempts = Attempts()
        self._settings, self._client_id = settings, client_id
        self._keeper, self._kind_of, self._give_up = keeper, kind_of, give_up
        self._rare = RareLine()

    def lose(self, url: BrokerUrl, client: FastClient, told: str, *, was_ready: bool, refused: bool) -> None:
        """Judge the end of a connection. Call it in ``on_disconnect``.

        Args:
            url: Address of the broker.
            client: Client whose connection ended.
            told: Name of the reason that the broker gave; "" if it gave none.
            was_ready: Whether the connection was complete.
            refused: Whether the broker refused what only a person can change.

        """
        for_reading = self._keeper is not None and self._keeper.lose()
        topic = "" if for_reading or client.dropped else client.last_publish(_BLAME_S)
        kind = self._kind_of(topic) if topic else ""
        attempts, settings = self.attempts, self._settings
        taken_over, renamable = told == TAKEN_OVER, settings.client_id is None
        attempts.end(
            kind,
            topic,
            closed=client.closed_by_broker,
            taken_over=taken_over and not renamable,
            refused=refused,
        )
        if self._keeper is not None and not attempts.early:  # it lasted a while
            self._keeper.may_announce = True
        reason = told if taken_over else with_mend(told) or client.end_reason
        if renamable and (taken_over or attempts.suspicious):
            other = self._rename(client)
            reason = f"{told}: another client uses our client id; {other!r} is the next" if taken_over else reason
        blamed = taken_over or attempts.of_kind >= MAX_ENDS
        level = logging.ERROR if blamed or refused else logging.WARNING
        if was_ready or blamed:
            text = attempts.describe(kind, topic, reason, settings.url.user, None if renamable else self._client_id)
            log.log(level, "broker %s: %s", url, text)
        else:
            self._log_attempt(level, url, reason or "connection closed during the MQTT handshake")
        if attempts.of_topic >= MAX_ENDS:
            self._let_others_through(client, topic)

    def fail(self, url: BrokerUrl, error: Exception) -> None:
        """Note that no connection could be made, because of an error."""
        failure = failure_of(error)
        self.attempts.fail(failure.permanent)
        self._log_attempt(logging.WARNING, url, failure.reason)

    def _log_attempt(self, level: int, url: BrokerUrl, reason: str) -> None:
        """Write a line about an attempt that led to no complete connection, if there was none like it just before."""
        if self._rare.due(reason):
            log.log(level, "broker %s: %s; trying again %s", url, reason, in_seconds(self.attempts.pause_s))

    def _rename(self, client: FastClient) -> str:
        """Take another random client identifier from the next connection on, and return it."""
        name = f"{self._client_id}-{secrets.token_hex(4)}"
        client.set_client_id(name)
        return name

    def _let_others_through(self, client: FastClient, topic: str) -> None:
        """Give up the message for which the broker closes one connection after another."""
        taken = client.take_oldest()
        if self._keeper is not None and topic == self._keeper.presence.topic:
            self._keeper.may_announce = False
            taken = topic, self._keeper.presence.online
        if taken is not None:
            self._give_up(*taken)
