"""Connections that fail or end early: what is known of the reason, and what a person can do about it."""

from __future__ import annotations

import math
import ssl
import time
from dataclasses import dataclass

#: Pause before another attempt, seconds. It doubles from the minimum to the maximum.
RETRY_MIN_S, RETRY_MAX_S = 1, 30
#: A connection that lasts shorter than this, seconds, ended early.
EARLY_S = 10.0
#: Number of early ends in a row, all behind a message of the same kind, after which the broker is taken to refuse it.
MAX_ENDS = 3
#: What to do about a reason code of MQTT 5.
_MENDS = {
    "Retain not supported": "use --no-retain",
    "QoS not supported": "use --qos 0",
    "Session taken over": "another program uses the same client id; give each one of its own",
}
#: Reasons of refusals that end by themselves. A person must remove any other reason.
TRANSIENT_REASONS = frozenset(
    {"Server unavailable", "Server busy", "Server shutting down", "Quota exceeded", "Connection rate exceeded"}
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Reason why a connection could not be made."""

    reason: str
    permanent: bool = False  # it lasts until a person changes a password, a certificate or an access rule
    older_version_may_help: bool = False
    will_may_be_refused: bool = False  # the broker may have meant our will
    other_protocol: bool = False  # the port may speak another protocol, such as TLS
    suspect: str = ""  # topic of a message that the broker may have closed the connection for


def alert_of(error: Exception) -> str:
    """Return the TLS alert by which the broker ended the handshake, such as "unknown ca"; "" for other errors."""
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        return str(error.reason).partition("ALERT_")[2].replace("_", " ").lower()
    return ""


def with_mend(reason: str) -> str:
    """Return the name of a reason code, with what to do about it if that is known."""
    return f"{reason}; {_MENDS[reason]}" if reason in _MENDS else reason


def publish_mend(user: str | None, topic: str) -> str:
    """Return what to do if the broker does not let us publish to a topic, which may be a template."""
    who = "this client" if user is None else f"user {user!r}"
    return f"let {who} publish to {topic} in the broker's access list"


class EarlyEnds:
    """Counts the connections in a row that ended early, and what they ended behind.

    Attributes:
        number: Early ends in a row.
        of_kind: How many of them, counted from the last, came behind a message of one kind.
        of_topic: How many of them, counted from the last, came behind a message on one topic.

    """

    def __init__(self) -> None:
        self.number = self.of_kind = self.of_topic = 0
        self._last = "", ""  # kind and topic
        self._began_s = -math.inf

    def begin(self) -> None:
        """Note that the broker has accepted a connection."""
        self._began_s = time.monotonic()

    def end(self, kind: str, topic: str) -> None:
        """Note that the connection has ended behind a message on ``topic``; "" if there was none."""
        if time.monotonic() - self._began_s > EARLY_S:
            self.number = self.of_kind = self.of_topic = 0
            return
        self.number += 1
        self.of_kind = self.of_kind + 1 if kind == self._last[0] else 1
        self.of_topic = self.of_topic + 1 if topic == self._last[1] else 1
        self._last = kind, topic
        if not topic:
            self.of_kind = self.of_topic = 0

    @property
    def pause_s(self) -> int:
        """Pause before the next attempt."""
        return int(min(RETRY_MIN_S * 2 ** max(self.number - 1, 0), RETRY_MAX_S))

    def describe(self, kind: str, topic: str, reason: str, user: str | None, client_id: str | None) -> str:
        """Return the text of a log line about a lost connection.

        Args:
            kind: Kind of the topic of the last message, such as its template; "" if there was none.
            topic: The topic.
            reason: Reason that the broker gave; "" if it gave none.
            user: User name at the broker.
            client_id: Fixed client identifier; None without one.

        """
        because = f" ({with_mend(reason)})" if reason else ""
        again = f"reconnecting in {self.pause_s} s"
        if self.number >= MAX_ENDS and client_id is not None:
            again = f"or another program uses the client id {client_id!r}, which must differ; {again}"
        if self.of_kind < MAX_ENDS:
            return f"connection lost{because}; {again}"
        where = topic if topic == kind else f"{topic} ({kind})"
        return (
            f"connection closed{because} {self.of_kind} times in a row right after a message to {where}, so the broker "
            f"probably does not allow it; {publish_mend(user, kind)}; {again}"
        )
