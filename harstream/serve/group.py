"""Group of workers: who is alive, and which partitions this worker is to serve. It has no socket, clock or thread.

Every worker publishes a heartbeat each second, which tells the partitions that it serves, and hears those of all. From
them each worker computes the same distribution by `partitions.owner`. Two rules keep a partition with one worker:

- A worker begins to serve a partition only when no living worker says that it serves it.
- A worker that does not hear its own heartbeats come back has lost its lease, and stops serving before the others
  take it for dead.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from harstream import partitions
from harstream.errors import ConfigError

#: Time from one heartbeat to the next, seconds.
HEARTBEAT_S = 0.5
#: Time without a heartbeat after which a worker is dead, seconds: seven are missing.
EXPIRE_S = 3.5
#: Age of the newest own heartbeat that has come back, above which the lease is lost, seconds. Below the one above.
LEASE_S = 3.0
#: Time that a worker listens before it serves, seconds. The others answer a new worker at once.
LISTEN_S = 1.0
#: Time that others may take to come back after this worker has begun to listen, seconds: with the broker they lost
#: their connections too.
GRACE_S = 7.0
#: Time without the connection for samples after which a worker gives its partitions up, seconds.
UNABLE_S = 3.0
#: Shortest time from one heartbeat to the next, seconds.
_PAUSE_S = 0.05
#: Own heartbeats whose time of sending is remembered, and notes of each kind.
_MAX_SENT = 100
#: Limit of the other workers. Further ones are not heard.
_MAX_MEMBERS = 2 * partitions.MAX_PARTITIONS


class State(Enum):
    """State of a worker, as its heartbeats tell it."""

    JOINING = "joining"  # it listens, at its start or after it lost its lease
    SERVING = "serving"
    UNABLE = "unable"  # it has no connection for samples
    LEAVING = "leaving"  # it finishes what it serves; without partitions, it is gone


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Message of a worker to the others."""

    number: int  # of the worker
    session: str  # of the process: another one may have the same number by mistake
    counter: int
    state: State
    workers: int
    partition_count: int
    partitions: frozenset[int]  # that it serves

    def encode(self) -> bytes:
        """Return the payload. The number is in the topic."""
        return json.dumps(
            {
                "session": self.session,
                "counter": self.counter,
                "state": self.state.value,
                "workers": self.workers,
                "partition_count": self.partition_count,
                "partitions": partitions.to_text(self.partitions),
            }
        ).encode()

    @classmethod
    def decode(cls, number: str, payload: bytes) -> Heartbeat:
        """Decode a payload.

        Raises:
            ValueError: It is malformed.

        """
        try:
            data = json.loads(payload)
            served = data["partitions"]
            if not isinstance(served, str):
                raise ValueError("partitions must be a text such as 0,4,8")
            heartbeat = cls(
                int(number),
                str(data["session"]),
                data["counter"],
                State(data["state"]),
                data["workers"],
                data["partition_count"],
                frozenset(partitions.parse(served)) if served else frozenset(),
            )
        except (KeyError, TypeError, RecursionError, ConfigError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        if not all(type(n) is int for n in (heartbeat.counter, heartbeat.workers, heartbeat.partition_count)):
            raise ValueError("counter, workers and partition_count must be whole numbers")
        if not 0 <= heartbeat.number < partitions.MAX_PARTITIONS >= heartbeat.workers > 0:
            raise ValueError(f"number {heartbeat.number} of {heartbeat.workers} workers")
        return heartbeat


@dataclass(slots=True)
class _Member:
    """Another worker that is alive."""

    heartbeat: Heartbeat  # the newest one
    expires_s: float  # when it counts as dead


class Group:
    """The group as one worker knows it. It belongs to one thread.

    Times of the others are measured by a clock that stands still while this worker may not hear them: without a
    connection, and without its lease, also because its process stood still. So the loss of the broker kills nobody.

    Args:
        number: Number of this worker.
        session: Random name of this process.
        workers: Number of workers.
        partition_count: Number of partitions.
        note: Called with lines for the log, and whether each is a warning.

    Attributes:
        state: State of this worker.

    """

    def __init__(
        self,
        number: int,
        session: str,
        workers: int,
        partition_count: int,
        note: Callable[[str, bool], None] = lambda line, warns: None,
    ) -> None:
        self.number, self.session, self.workers, self.partition_count = number, session, workers, partition_count
        self.state = State.JOINING
        self._note = note
        self._said: set[str] = set()  # notes that are made once
        self._members: dict[tuple[int, str], _Member] = {}  # by number and session; none is this process
        self._gone: set[int] = set()  # numbers of workers that are known to be dead, or to have left
        # When each number was last known to serve. All are presumed to do so when this worker begins to listen.
        self._served_s: dict[int, float] = {}
        self._now_s: float | None = None  # at the last step
        self._clock_s = 0.0  # see above
        self._connected = self._valid = False
        self._confirmed_s: float | None = None  # time of sending of the newest own heartbeat that has come back
        self._sent: dict[int, float] = {}  # counter of own heartbeats to their time of sending
        self._listens_s: float | None = None  # since when it listens; None: it hears nothing
        self._unable_s: float | None = None  # since when there is no connection for samples
        self._counter = 0
        self._next_s = self._last_s = 0.0  # time of the next heartbeat, and of the last
        self._told: tuple[State, Collection[int]] | None = None  # by the last heartbeat
        self._answer = False  # a new worker wants to know
        self._own: tuple[Collection[int], Sequence[int]] = (), ()  # living workers, and what is then to be served here

    # --- what happens --------------------------------------------------------------------------

    def advance(self, now_s: float, *, connected: bool, able: bool) -> None:
        """Take a step in time.

        Args:
            now_s: Monotonic time, seconds.
            connected: Whether heartbeats can be sent and heard.
            able: Whether samples can be received and labelled.

        """
        if self._now_s is None:
            self._now_s = now_s
        step_s, self._now_s = now_s - self._now_s, now_s
        valid = now_s <= self.lease_end_s
        if connected and self._connected and valid and self._valid:
            self._clock_s += step_s
        elif connected and valid:
            self._begin_to_hear()
        self._connected, self._valid = connected, valid
        if self.state is not State.LEAVING:
            self._change_state(able)
        for key, member in list(self._members.items()):
            if self._clock_s > member.expires_s:
                self._remove(key)
                self._note(f"worker {key[0]} has not been heard for {EXPIRE_S} s and counts as dead", True)

    def _begin_to_hear(self) -> None:
        """Give the others time to come back, because they may have lost their connections too."""
        for member in self._members.values():
            member.expires_s = self._clock_s + GRACE_S
            self._served_s[member.heartbeat.number] = self._clock_s

    def _change_state(self, able: bool) -> None:
        now_s = self._clock_s
        if able:
            self._unable_s = None
        elif self._unable_s is None:
            self._unable_s = now_s
        if not self._valid:
            if self.state is State.SERVING:
                self._note(f"no heartbeat of this worker came back for {LEASE_S:g} s, so others may take over", True)
            self.state, self._listens_s = State.JOINING, None
        elif self._unable_s is not None and now_s - self._unable_s > UNABLE_S:
            self.state = State.UNABLE
        elif self.state is State.UNABLE or self._listens_s is None:
            self.state, self._listens_s = State.JOINING, now_s
        elif able and now_s - self._listens_s >= LISTEN_S:
            self.state = State.SERVING

    def hear(self, heartbeat: Heartbeat, now_s: float) -> None:
        """Take a heartbeat, one's own too, that arrived at ``now_s``."""
        if heartbeat.session == self.session:
            sent_s = self._sent.get(heartbeat.counter)
            if sent_s is not None:
                self._confirmed_s = max(sent_s, self._confirmed_s or sent_s)
            return
        key = heartbeat.number, heartbeat.session
        if heartbeat.state is State.LEAVING and not heartbeat.partitions:
            self._remove(key)
            return
        member = self._members.get(key)
        if member is None:
            if len(self._members) >= _MAX_MEMBERS:
                return
            member = self._members[key] = _Member(heartbeat, 0.0)
            self._answer = True
            self._compare(heartbeat)
        elif heartbeat.state is State.JOINING and member.heartbeat.state is not State.JOINING:
            self._answer = True
        member.heartbeat, member.expires_s = heartbeat, self._clock_s + EXPIRE_S
        if heartbeat.state is State.SERVING:
            self._served_s[heartbeat.number] = self._clock_s
            self._gone.discard(heartbeat.number)

    def _remove(self, key: tuple[int, str]) -> None:
        self._members.pop(key, None)
        if not any(number == key[0] for number, _ in self._members):
            self._gone.add(key[0])

    def _compare(self, heartbeat: Heartbeat) -> None:
        """Note settings of another worker that do not fit those of this one."""
        name = f"worker {heartbeat.number}/{heartbeat.workers}"
        if heartbeat.number == self.number and heartbeat.state is not State.LEAVING:  # a predecessor that stops
            self._note_once(
                f"another daemon is {name} too, and keeps its partitions while it is there; give each daemon a "
                "--worker number of its own"
            )
        elif heartbeat.workers != self.workers:
            self._note_once(f"{name} counts {heartbeat.workers} workers, this one {self.workers}; let all agree")
        if heartbeat.partition_count != self.partition_count:
            self._note_once(
                f"{name} counts {heartbeat.partition_count} partitions, this one {self.partition_count}; give all the "
                "same --partition-count"
            )

    def _note_once(self, line: str) -> None:
        if line not in self._said and len(self._said) < _MAX_SENT:
            self._said.add(line)
            self._note(line, True)

    @property
    def lease_end_s(self) -> float:
        """Monotonic time at which the lease ends, if no further heartbeat comes back."""
        return -math.inf if self._confirmed_s is None else self._confirmed_s + LEASE_S

    @property
    def hears_itself(self) -> bool:
        """True if a heartbeat of this worker has ever come back."""
        return self._confirmed_s is not None

    def leave(self) -> None:
        """Begin no further partition. The others wait until this worker tells that it has finished the last."""
        self.state = State.LEAVING

    # --- what follows --------------------------------------------------------------------------

    def wanted(self, held: Collection[int]) -> frozenset[int]:
        """Return the partitions that this worker is to serve, of which it already holds some."""
        if self.state is not State.SERVING:
            return frozenset()
        alive, claims = self._alive(), self._claims()
        if self._own[0] != alive:
            every = range(self.partition_count)
            self._own = alive, [one for one in every if partitions.owner(one, self.workers, alive) == self.number]
        return frozenset(
            partition
            for partition in self._own[1]
            if all(partition in held and self._precedes(other) for other in claims.get(partition, ()))
        )

    def _alive(self) -> frozenset[int]:
        """Return the numbers of the workers that serve or are about to. Partitions are distributed among them."""
        serving, stopped = {self.number}, set[int]()
        for member in self._members.values():
            state = member.heartbeat.state
            if state is State.SERVING:
                serving.add(member.heartbeat.number)
            elif state is not State.JOINING:
                stopped.add(member.heartbeat.number)
        begin_s = self._clock_s - GRACE_S
        coming = {number for number in range(self.workers) if self._served_s.get(number, 0.0) > begin_s}
        return frozenset(serving | (coming - stopped - self._gone))

    def _claims(self) -> Mapping[int, list[Heartbeat]]:
        claims: dict[int, list[Heartbeat]] = {}
        for member in self._members.values():
            for partition in member.heartbeat.partitions:
                claims.setdefault(partition, []).append(member.heartbeat)
        return claims

    def _precedes(self, other: Heartbeat) -> bool:
        """Return whether this worker keeps a partition that is its own by its own count, but that another serves too.

        A worker with another number and the same count will find that it is not its own. Others may not.
        """
        if other.number != self.number and other.workers == self.workers:
            return True
        return (self.number, self.session) > (other.number, other.session)

    def is_due(self, held: Collection[int]) -> bool:
        """Return whether to send a heartbeat: by the time, for a change, or as an answer."""
        now_s = self._now_s or 0.0
        if now_s >= self._next_s:
            return True
        return (self._answer or self._told != (self.state, held)) and now_s - self._last_s >= _PAUSE_S

    def beat(self, held: Collection[int]) -> Heartbeat:
        """Return the heartbeat to be sent now, if this worker serves the partitions ``held``."""
        now_s = self._now_s or 0.0
        self._counter += 1
        self._sent[self._counter] = self._last_s = now_s
        self._sent.pop(self._counter - _MAX_SENT, None)
        self._next_s = now_s + HEARTBEAT_S
        self._answer, self._told = False, (self.state, frozenset(held))
        return Heartbeat(
            self.number,
            self.session,
            self._counter,
            self.state,
            self.workers,
            self.partition_count,
            frozenset(held),
        )
