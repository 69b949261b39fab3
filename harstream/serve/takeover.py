"""Main loop's part in the change of a partition's worker: what happens to the state of its devices.

`Workers`, in a thread of its own, decides which partitions this daemon serves, and asks here. Everything else runs in
the main loop, which owns the engine.
"""

from __future__ import annotations

import math
import queue
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from harstream.serve.durable.partition_store import PartitionStore
from harstream.serve.inbox import Inbox
from harstream.serve.label_state import PartitionState
from harstream.serve.labelling import DevicesLost, Labelling
from harstream.serve.partition_states import PartitionStates
from harstream.serve.pipeline import Pipeline
from harstream.wire.decoder import Message

#: Longest time that messages of a lost partition are waited for, seconds. Later ones are dropped.
_DRAIN_S = 2.0
#: Pause between two looks at what the disk has done, seconds: of a main loop that waits for messages too, which the
#: store wakes, and at the end.
_DISK_WAIT_S, _POLL_S = 0.05, 0.01


@dataclass(frozen=True, slots=True)
class Gained:
    """Partitions that this daemon is about to serve. It is not subscribed to them yet."""

    partitions: Sequence[int]


@dataclass(frozen=True, slots=True)
class Lost:
    """Partitions that this daemon shall no longer serve. No further message of them arrives in the inbox."""

    partitions: Sequence[int]


class Takeover:
    """Takes devices over with their partitions, and gives them up.

    Args:
        pipeline: Source.
        labelling: Thread that labels the last windows of a device before it is given up.
        inbox: Messages that still wait.
        forget: Called with devices that were given up.
        finish: Makes the windows that are pending in the engine.
        monotonic: Clock.

    Attributes:
        confirm: Called with each change that is complete. Any thread may call it.
        lease_end_s: Monotonic time from which on nothing may be labelled, because others may have taken over. A
            process that stood still finds what the broker has sent meanwhile.
        closed: Partitions of which nothing may be labelled. Another thread may replace it.
        dropped: Messages dropped for these reasons.
        states: The folder with the state of the partitions, if the group shares one.

    """

    def __init__(
        self,
        pipeline: Pipeline,
        labelling: Labelling,
        inbox: Inbox,
        forget: Callable[[Sequence[str]], None],
        finish: Callable[[], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._pipeline, self._labelling, self._inbox, self._forget = pipeline, labelling, inbox, forget
        self._finish, self._monotonic = finish, monotonic
        self.states: PartitionStates | None = None
        self.confirm: Callable[[Gained | Lost], None] = lambda change: None
        self.lease_end_s = math.inf
        self.closed: frozenset[int] = frozenset()
        self.dropped = 0
        self._asked: queue.SimpleQueue[Gained | Lost] = queue.SimpleQueue()
        self._waiting: list[tuple[float, Lost]] = []  # and when the wait for their last messages ends, monotonic
        self._given_up: set[int] = set()  # partitions whose last messages may still wait in the inbox

    def ask(self, change: Gained | Lost) -> None:
        """Ask the main loop for a change. Any thread may call this."""
        self._asked.put(change)
        self._inbox.wake()

    # --- main loop ----------------------------------------------------------------------------

    def share(self, store: PartitionStore[PartitionState], partition_count: int) -> None:
        """Read and write the state of partitions in a folder that the group shares."""
        self.states = PartitionStates(
            self._pipeline,
            self._labelling,
            store,
            partition_count,
            lambda partition: self.confirm(Gained((partition,))),
            self._monotonic,
        )

    def longest_wait_s(self, timeout_s: float) -> float:
        """Return how long the main loop may wait for messages, at most ``timeout_s``."""
        states = self.states
        if self._waiting or not self._asked.empty() or (states is not None and states.has_results):
            return 0.0
        return min(timeout_s, _DISK_WAIT_S) if states is not None and states.is_waiting else timeout_s

    def admit(self, messages: list[Message], now_s: float) -> list[Message]:
        """Return the messages of devices that have no other worker."""
        if now_s <= self.lease_end_s and not self._given_up and not self.closed:
            return messages
        admitted = []
        if now_s <= self.lease_end_s:
            partition_of, closed = self._pipeline.decoder.partition_of, self._given_up | self.closed
            admitted = [message for message in messages if partition_of(message.topic) not in closed]
        self.dropped += len(messages) - len(admitted)
        if not len(self._inbox):
            self._given_up = set()
        return admitted

    def step(self, now_s: float) -> None:
        """Do what was asked for, as far as it can be done now."""
        while not self._asked.empty():
            match self._asked.get():
                case Gained() as change:
                    self.gain(change)
                case Lost() as change:
                    self._waiting.append((now_s + _DRAIN_S, change))
        idle = not len(self._inbox)
        for waiting in [one for one in self._waiting if idle or now_s >= one[0]]:
            self._waiting.remove(waiting)
            change = waiting[1]
            if not idle:
                self._given_up |= set(change.partitions)
            self.lose(change.partitions, partial(self.confirm, change))
        if self.states is not None:
            self.states.step(now_s, self.lease_end_s)

    def gain(self, change: Gained) -> None:
        """Begin to serve partitions, with the state of their devices if the group shares a folder.

        No message of them has arrived since they were served elsewhere. Without their state devices begin anew.
        """
        self._given_up -= set(change.partitions)
        if self.states is not None:
            self.states.load(change.partitions, self._monotonic())  # each is confirmed when it is read
        else:
            self.confirm(change)

    def lose(self, partitions: Collection[int], then: Callable[[], None] = lambda: None) -> None:
        """Cease to serve partitions, and leave the state of their devices to the next worker if there is a folder.

        All their messages have been processed, and the windows due are handed over for labelling. Without their state
        the next worker cannot continue activities, so they end here. The labels that the broker retains stay: the next
        ones replace them.

        Args:
            partitions: The partitions.
            then: Called when the last labels and events of the devices are published. The next worker waits for that.

        """
        self._finish()
        if self.states is not None:
            self._forget(self.states.lose(partitions, self._monotonic(), then))
            return
        devices = self._pipeline.engine.forget(self._pipeline.decoder.devices_of(partitions))
        self._forget(devices)
        self._labelling.hand_over(DevicesLost(self._pipeline, devices, then))

    def lose_all(self, partition_count: int) -> None:
        """Cease to serve all partitions, and wait until their state is written, or the disk has taken too long."""
        self.lose(range(partition_count))
        while self.states is not None and self.states.is_leaving:
            time.sleep(_POLL_S)
            self.states.step(self._monotonic(), -math.inf)

    def note_evicted(self, devices: Sequence[str]) -> None:
        """Note devices that were evicted."""
        if self.states is not None:
            self.states.note_evicted(devices)

    def close(self) -> None:
        """End the threads that read and write the folder."""
        if self.states is not None:
            self.states.store.close()
