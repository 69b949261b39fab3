"""Connections that fail or end early: what is known of the reason, and what a person can do about it."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

#: Pause before the second attempt, seconds, when the first one, made at once, has failed. It doubles with each.
RETRY_FIRST_S = 0.5
#: Longest pause, seconds: while broker or network are away; while the broker refuses us or closes each connection.
RETRY_MAX_S, REFUSED_MAX_S = 5.0, 30.0
#: First and longest pause after another client has taken over our session, seconds. The other one may do as we do.
TAKEN_OVER_FIRST_S, TAKEN_OVER_MAX_S = 5.0, 300.0
#: A connection that lasts shorter than this, seconds, ended early.
EARLY_S = 3.0
#: Number of connections within a time, seconds, each of which the broker closed before it lasted for the second time,
#: from which on it seems to do so on purpose. Two clients with one identifier end each other's connections, each after
#: its pause, so those are not all early.
MAX_CLOSES, CLOSES_WITHIN_S, CLOSE_S = 20, 600.0, 40.0
#: Time, seconds, after which a log line about one lasting failure is written again.
SAY_AGAIN_S = 60.0
#: Number of early ends in a row, all behind a message of the same kind, after which the broker is taken to refuse it.
MAX_ENDS = 3
#: Reason code of MQTT 5 for a connection that ends because another client comes with the same identifier.
TAKEN_OVER = "Session taken over"
#: What to do about a reason code of MQTT 5.
_MENDS = {
    "Retain not supported": "use --no-retain",
    "QoS not supported": "use --qos 0",
    TAKEN_OVER: "another program uses the same client id; give each one of its own",
}
#: Reasons of refusals that end by themselves. A person must remove any other reason.
TRANSIENT_REASONS = frozenset(
    {
        "Server unavailable",
        "Server busy",
        "Server shutting down",
        "Quota exceeded",
        "Connection rate exceeded",
        TAKEN_OVER,  # at the start: the other one may be a predecessor that is about to stop
    }
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


def pause(number: int, first_s: float, max_s: float, jitter: Callable[[], float]) -> float:
    """Return the pause before attempt ``number``, counted from 0, in seconds: none, then one that doubles.

    Up to a half is taken off at random, so that the clients of one broker do not all come back at the same moment.
    """
    return 0.0 if number == 0 else min(first_s * 2.0 ** (number - 1), max_s) * (1 - jitter() / 2)


class Attempts:
    """Attempts in a row to have a connection that lasts: what ended the last ones, and the pause before the next one.

    Args:
        jitter: Returns random numbers from 0 to 1.

    Attributes:
        pause_s: Pause before the next attempt. 0 after a connection that lasted.
        failed: Attempts in a row that led to no connection.
        early: Connections in a row that ended early.
        of_kind: How many of them, counted from the last, came behind a message of one kind.
        of_topic: How many of them, counted from the last, came behind a message on one topic.
        taken_over: How many, counted from the last, ended because another client came with our identifier.

    """

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self.pause_s = 0.0
        self.failed = self.early = self.of_kind = self.of_topic = self.taken_over = 0
        self._closes_s: list[float] = []  # time.monotonic() of the connections that the broker closed
        self._last = "", ""  # kind and topic
        self._began_s: float | None = None  # None: the broker has not accepted the present connection

    def begin(self) -> None:
        """Note that the broker has accepted a connection."""
        self._began_s, self.failed = time.monotonic(), 0

    def fail(self, refused: bool = False) -> None:
        """Note that an attempt has failed; ``refused`` says that only a person can change that."""
        self.failed += 1
        self.taken_over = 0
        self._closes_s.clear()  # the broker was away
        self.pause_s = pause(
            self.early + self.failed, RETRY_FIRST_S, REFUSED_MAX_S if refused else RETRY_MAX_S, self._jitter
        )

    def end(
        self,
        kind: str = "",
        topic: str = "",
        *,
        closed: bool = False,
        taken_over: bool = False,
        refused: bool = False,
    ) -> None:
        """Note that a connection has ended.

        Args:
            kind: Kind of the topic of the last message before the end, such as its template; "" if there was none.
            topic: The topic.
            closed: Whether the broker closed it.
            taken_over: Whether another client came with our identifier, which we cannot change.
            refused: Whether the broker refused what only a person can change.

        """
        if self._began_s is None:
            self.fail(refused)
            return
        now_s = time.monotonic()
        lasted_s, self._began_s = now_s - self._began_s, None
        if lasted_s > EARLY_S:
            self.early = self.of_kind = self.of_topic = 0
        else:
            self.early += 1
            self.of_kind = self.of_kind + 1 if kind == self._last[0] else 1
            self.of_topic = self.of_topic + 1 if topic == self._last[1] else 1
            self._last = kind, topic
            if not topic:
                self.of_kind = self.of_topic = 0
        if closed and lasted_s < CLOSE_S:
            self._closes_s = [each for each in self._closes_s if now_s - each < CLOSES_WITHIN_S] + [now_s]
        if taken_over:
            # The other one may wait as long as we do: then our connection lasts as long as our pause.
            self.taken_over = 1 + (self.taken_over if lasted_s < EARLY_S + 2 * self.pause_s else 0)
            self.pause_s = pause(self.taken_over, TAKEN_OVER_FIRST_S, TAKEN_OVER_MAX_S, self._jitter)
            return
        self.taken_over = 0
        n_closes = max(len(self._closes_s) - MAX_CLOSES + 1, 0)
        max_s = REFUSED_MAX_S if refused or self.of_kind >= MAX_ENDS or n_closes else RETRY_MAX_S
        self.pause_s = pause(max(self.early, n_closes), RETRY_FIRST_S, max_s, self._jitter)

    @property
    def suspicious(self) -> bool:
        """True if connections ended in a way that another client with our identifier may cause."""
        return self.early >= MAX_ENDS or len(self._closes_s) >= MAX_CLOSES

    def describe(self, kind: str, topic: str, reason: str, user: str | None, client_id: str | None) -> str:
        """Return the text of a log line about a connection that has ended.

        Args:
            kind: Kind of the topic of the last message, such as its template; "" if there was none.
            topic: The topic.
            reason: Reason why it ended; "" if it is not known.
            user: User name at the broker.
            client_id: Client identifier, if it is a fixed one.

        """
        because = f" ({reason})" if reason else ""
        again = f"reconnecting {in_seconds(self.pause_s)}"
        if self.taken_over:
            return (
                f"connection closed{because}: another program uses the client id {client_id!r}; give each one of its "
                f"own by --client-id; {again}"
            )
        if self.suspicious and client_id is not None:
            again = f"or another program uses the client id {client_id!r}, which must differ; {again}"
        if self.of_kind < MAX_ENDS:
            return f"connection lost{because}; {again}"
        where = topic if topic == kind else f"{topic} ({kind})"
        return (
            f"connection closed{because} {self.of_kind} times in a row right after a message to {where}, so the broker "
            f"probably does not allow it; {publish_mend(user, kind)}; {again}"
        )


def in_seconds(seconds: float) -> str:
    """Return a pause in words."""
    return f"in {seconds:.1f} s" if seconds else "at once"


class RareLine:
    """Log lines about a failure that lasts: each text is written at once, and then once in a while."""

    def __init__(self) -> None:
        self._said_s: dict[str, float] = {}  # text to time.monotonic()

    def due(self, text: str) -> bool:
        """Return True if a line with this text should be written now."""
        now_s = time.monotonic()
        self._said_s = {each: said_s for each, said_s in self._said_s.items() if now_s - said_s < SAY_AGAIN_S}
        return self._said_s.setdefault(text, now_s) == now_s
