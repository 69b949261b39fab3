"""One worker of a group: a thread that holds the lease on its partitions and changes what is served.

It has two connections to the broker of its own. Heartbeats do not wait behind samples and labels. And the samples of
other workers' partitions do not come over the connection for the own ones: a broker may need seconds to answer a
SUBSCRIBE, or close the connection for it, as NATS does while it elects leaders after the loss of a node.
"""

from __future__ import annotations

import logging
import math
import queue
import secrets
import threading
from collections.abc import Callable, Collection, Iterable, Sequence

from harstream import partitions
from harstream.config import RunConfig
from harstream.errors import BrokerError
from harstream.mqtt.client import InboundMessage
from harstream.mqtt.connection import Connection
from harstream.mqtt.failures import MAX_ENDS, publish_mend
from harstream.mqtt.subscriptions import Subscriptions
from harstream.mqtt.urls import BrokerSettings
from harstream.serve.group import UNABLE_S, Group, Heartbeat, State
from harstream.serve.takeover import Gained, Lost, Takeover

log = logging.getLogger("harstream")

#: Longest pause between two steps, seconds.
_TICK_S = 0.1
#: Time from one attempt to subscribe to the next, seconds, if the broker refuses a partition, as a cluster may do that
#: has just lost a node; and if it refuses all, so that the others serve them.
_AGAIN_S, _REFUSED_S = 1.0, 60.0
#: Longest wait for the own heartbeat at the start, seconds.
_ECHO_S = 10.0
#: Longest wait at the start for the own partitions, seconds. Others may serve them, and are about to give them back.
_HOME_S = 5.0


class Workers:
    """Membership of this daemon in its group of workers.

    Args:
        config: Settings with ``worker`` and ``partition_count``.
        takeover: Makes each change in the main loop, and confirms it.
        able: Returns whether samples can be received and labelled.
        monotonic: Clock.
        on_failure: Called in the thread when it ends with an error, which is then in ``failure``.

    Attributes:
        subscriptions: Those of the connection for samples, which this object changes: to the partitions that have their
            home here.
        served: Partitions that this daemon serves now. It is replaced, never changed.
        gained: Partitions that it has gained since the start.
        lost: Partitions that it has lost since the start.

    """

    def __init__(
        self,
        config: RunConfig,
        takeover: Takeover,
        able: Callable[[], bool],
        monotonic: Callable[[], float],
        on_failure: Callable[[], None],
    ) -> None:
        assert config.worker_of is not None
        assert config.partition_count is not None
        self._number, self._workers = config.worker_of
        self._config, self._takeover, self._able, self._monotonic = config, takeover, able, monotonic
        takeover.confirm = self._confirm
        self._on_failure = on_failure
        self.failure: BaseException | None = None
        self._group = Group(self._number, secrets.token_hex(4), self._workers, config.partition_count, _log)
        self._topic = f"{config.workers_topic}/{self._number}"
        self._wake = threading.Event()
        self._homes = frozenset(partitions.homes(self._number, self._workers, config.partition_count))
        self.subscriptions = Subscriptions(config.qos, self._wake.set)
        self._guests = Subscriptions(config.qos, self._wake.set)  # to the other partitions
        self._connection: Connection | None = None  # for heartbeats
        self._guest_connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="workers", daemon=True)
        self._leaving = self._stopping = False
        self._heard: queue.SimpleQueue[Heartbeat] = queue.SimpleQueue()
        self._confirmed: queue.SimpleQueue[Gained | Lost] = queue.SimpleQueue()
        self._said = "", ""  # refused topic filter and reason in the log
        self._malformed: set[str] = set()  # topics of heartbeats that were, named once
        # Each partition is in one of these at most. Of the first four the others know.
        self._gaining: set[int] = set()  # the main loop prepares for them
        self._serving: set[int] = set()
        self._ending: set[int] = set()  # the broker ends the subscription
        self._losing: set[int] = set()  # the main loop finishes them
        self._suspended: set[int] = set()  # not served while others may have taken over, but their state is here
        self._again_s = 0.0  # when to ask again for refused subscriptions
        self._refused_s = -math.inf  # when there was one last
        self._echoed, self._settled = threading.Event(), threading.Event()
        self.served: frozenset[int] = frozenset()
        self.gained = self.lost = 0

    # --- from other threads -------------------------------------------------------------------

    def open(
        self,
        settings: BrokerSettings,
        client_id: str,
        receive: Callable[[Sequence[InboundMessage]], None],
        stop: threading.Event,
    ) -> None:
        """Join the group. Call it when the connection for samples is ready.

        Args:
            settings: How to reach the broker.
            client_id: Client identifier of the connection for samples.
            receive: Called in a network thread with samples of other workers' partitions.
            stop: Ends the wait for the broker.

        Raises:
            BrokerError: The broker refused the connection or the subscription, or delivers no heartbeat.

        """
        self._connection = Connection(
            settings,
            f"{client_id}-workers",
            subscriptions=[f"{self._config.workers_topic}/+"],
            qos=0,
            on_message=self._hear,
            on_change=lambda ready: self._wake.set(),
        )
        self._guest_connection = Connection(
            settings, f"{client_id}-guests", changing=self._guests, qos=self._config.qos, on_messages=receive
        )
        self._guest_connection.open(stop)
        self._connection.open(stop)
        self._thread.start()
        left_s = _ECHO_S
        while not self._echoed.wait(0.1) and not stop.is_set():
            left_s -= 0.1 * self._connection.ready  # a broker that is away shall come back
            if left_s <= 0 or self._connection.connects > MAX_ENDS:  # it closes the connection for a heartbeat
                self.close()
                raise BrokerError(
                    f"broker {self._connection.url}: it does not deliver what this worker publishes to {self._topic}; "
                    f"{publish_mend(settings.url.user, self._topic)}, and read {self._config.workers_topic}/+"
                )

    @property
    def settled(self) -> bool:
        """True when this worker serves its own partitions, or has found that another one keeps them."""
        return self._settled.is_set()

    def _confirm(self, change: Gained | Lost) -> None:
        """Note that a change is complete."""
        self._confirmed.put(change)
        self._wake.set()

    def leave(self, timeout_s: float) -> None:
        """Change nothing any more, and end the subscriptions. The partitions stay with this worker until ``close``.

        Args:
            timeout_s: Longest wait for the broker's answer, seconds.

        """
        self._leaving = True
        self._wake.set()
        if self._guest_connection is not None:
            self._guest_connection.unsubscribe(timeout_s)

    def close(self) -> None:
        """Give all partitions to the other workers, and disconnect."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        for connection in self._connections():
            connection.close()

    def replace_credentials(self, settings: BrokerSettings) -> None:
        """Use other credentials from the next connection on.

        Raises:
            ConfigError: A TLS file is unusable. The old ones stay in use.

        """
        for connection in self._connections():
            connection.replace_credentials(settings)

    def _connections(self) -> list[Connection]:
        return [each for each in (self._guest_connection, self._connection) if each is not None]

    def _hear(self, topic: str, payload: bytes, _: bool) -> None:
        """Decode a heartbeat. The network thread calls this."""
        try:
            heartbeat = Heartbeat.decode(topic.rpartition("/")[2], payload)
        except ValueError as error:
            if topic not in self._malformed and len(self._malformed) < 100:
                self._malformed.add(topic)
                log.warning("%s: not a heartbeat of a worker, ignored: %s", topic, error)
            return
        self._heard.put(heartbeat)
        self._wake.set()

    # --- in the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        started_s = self._monotonic()
        try:
            while not self._stopping:
                self._wake.wait(_TICK_S)
                self._wake.clear()
                now_s = self._monotonic()
                self._step(now_s)
                self._note_progress(now_s - started_s)
            self._group.leave()
            self._beat(())
        except BaseException as error:  # a bug; the main loop raises it again. The others take over
            self.failure = error
            self._on_failure()

    def _step(self, now_s: float) -> None:
        assert self._connection is not None
        group = self._group
        for _ in range(self._heard.qsize()):
            group.hear(self._heard.get(), now_s)
        if self._leaving:
            group.leave()
        refused = {**self.subscriptions.refused, **self._guests.refused}
        own = self._serving & self._homes
        if own and self.subscriptions.refused.keys() >= self._filters(own):  # all of them
            self._refused_s = now_s
        is_refused = now_s - self._refused_s < (_REFUSED_S if group.state is State.UNABLE else _AGAIN_S)
        able = self._able() and not is_refused
        self._takeover.lease_end_s = group.lease_end_s
        group.advance(now_s, connected=self._connection.ready, able=able)
        for _ in range(self._confirmed.qsize()):
            self._finish(self._confirmed.get())
        if group.state is not State.LEAVING:
            self._reassign()
        if refused and now_s >= self._again_s:
            self._again_s = now_s + _AGAIN_S
            self._log_refusal(*next(iter(refused.items())))
            self.subscriptions.change()
            self._guests.change()
        if self._connection.ready and group.is_due(self._held):
            self._beat(self._held)

    @property
    def _held(self) -> frozenset[int]:
        """Partitions that no other worker may begin to serve."""
        return frozenset(self._gaining | self._serving | self._ending | self._losing)

    def _beat(self, held: Collection[int]) -> None:
        assert self._connection is not None
        self._connection.publish(self._topic, self._group.beat(held).encode(), qos=0)

    def _reassign(self) -> None:
        """Begin every change from what is served to what is wanted."""
        if self._group.state is not State.SERVING:
            self._suspend()
            return
        held = self._held
        wanted = self._group.wanted(held)
        resumed, given_up = self._suspended & wanted, self._suspended - wanted
        surplus, missing = self._serving - wanted, wanted - held - self._suspended
        self._suspended = set()
        self._takeover.closed -= resumed
        self._serve(self._serving - surplus | resumed)
        if surplus | given_up:
            log.info("giving up partitions %s", partitions.to_text(surplus | given_up))
        self._ending |= surplus | given_up
        delivering = self.subscriptions.delivering | self._guests.delivering
        ended = {partition for partition in self._ending if delivering.isdisjoint(self._filters([partition]))}
        if ended:
            self._ending -= ended
            self._losing |= ended
            self._takeover.ask(Lost(sorted(ended)))
        if missing:
            self._gaining |= missing
            self._takeover.ask(Gained(sorted(missing)))

    def _suspend(self) -> None:
        """Stop serving, because others may have taken over. What they have not taken over continues later."""
        if self._serving:
            self._takeover.closed |= self._serving
            self._suspended |= self._serving
            self._serve(set())

    def _finish(self, change: Gained | Lost) -> None:
        """Take note of a change that the main loop has completed."""
        changed = set(change.partitions)
        match change:
            case Gained():
                self._gaining -= changed
                self.gained += len(changed)
                if self._group.state is State.SERVING:
                    self._takeover.closed -= changed
                    self._serve(self._serving | changed)
                    log.info("serving partitions %s", partitions.to_text(changed))
                else:
                    self._suspended |= changed
            case Lost():
                self._losing -= changed
                self._takeover.closed -= changed
                self.lost += len(changed)

    def _log_refusal(self, name: str, reason: str) -> None:
        if self._said != (name, reason):
            self._said = name, reason
            log.error(
                "the broker refused the subscription to %s: %s; trying again. If it refuses all partitions, the other "
                "workers serve them after %g s",
                name,
                reason,
                UNABLE_S,
            )

    def _serve(self, served: set[int]) -> None:
        """Subscribe to the partitions ``served`` and to no others."""
        if served != self._serving:
            added, removed, self._serving = served - self._serving, self._serving - served, served
            self.served = frozenset(served)
            for subscriptions, own in ((self.subscriptions, True), (self._guests, False)):
                add, remove = (
                    sorted(self._filters(p for p in each if (p in self._homes) is own)) for each in (added, removed)
                )
                if add or remove:
                    subscriptions.change(add, remove)

    def _filters(self, partitions: Iterable[int]) -> set[str]:
        """Return the filters of the topics of samples of these partitions."""
        numbers = sorted(partitions)
        return set(self._config.samples_filters(numbers)) if numbers else set()

    def _note_progress(self, running_s: float) -> None:
        """Tell ``open`` and ``settled`` how far the start is."""
        if not self._echoed.is_set() and self._group.hears_itself:
            self._echoed.set()
        if self._settled.is_set() or self._group.state is not State.SERVING:
            return
        if self.subscriptions.accepted >= self._filters(self._homes) or running_s > _HOME_S:
            self._settled.set()


def _log(line: str, warns: bool) -> None:
    log.log(logging.WARNING if warns else logging.INFO, "%s", line)
