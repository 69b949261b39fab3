"""Queue from the network thread to the main loop, bounded in bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from harstream.wire.decoder import Message

#: About one minute of JSON from 2,000 wearables at 50 Hz: enough to survive a stall, and small enough for the memory
#: of a small machine.
MAX_BYTES = 64 * 2**20
#: Fraction of MAX_BYTES above which the daemon does not keep up with its messages, and is not ready.
HIGH_WATER = 0.8
#: Bytes of the Python objects that hold a message, beside its topic and payload.
_OVERHEAD_BYTES = 250


class Inbox:
    """Queue of messages. When it is full, it drops and counts the oldest ones, because the newest are of most use.

    Messages that arrived together are stored together, so that the cost does not grow with their number.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.dropped = 0  # messages, since the start
        self._arrivals: deque[tuple[Sequence[Message], int]] = deque()  # messages that arrived together, their bytes
        self._n_messages = self._n_bytes = 0
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return self._n_messages

    @property
    def below_high_water(self) -> bool:
        """True while the queue holds less than the fraction HIGH_WATER of its limit."""
        return self._n_bytes < HIGH_WATER * self.max_bytes

    def put(self, messages: Sequence[Message]) -> None:
        """Append messages that arrived together. `get` may return all of them, so pass no more than one batch."""
        size = _size(messages)
        with self._changed:
            if not self._arrivals:
                self._changed.notify()
            self._arrivals.append((messages, size))
            self._n_messages += len(messages)
            self._n_bytes += size
            while self._n_bytes > self.max_bytes and self._n_messages > 1:
                self._drop()

    def _drop(self) -> None:
        """Drop messages of the oldest arrival until the others fit, but never the newest message of all."""
        excess = self._n_bytes - self.max_bytes
        messages, size = self._arrivals.popleft()
        n_dropped, freed = len(messages), size
        if (
            size > excess or not self._arrivals
        ):  # all of them would be more than necessary, or the newest is one of them
            n_droppable = len(messages) if self._arrivals else len(messages) - 1
            n_dropped = freed = 0
            while freed < excess and n_dropped < n_droppable:
                freed += _size(messages[n_dropped : n_dropped + 1])
                n_dropped += 1
            if rest := messages[n_dropped:]:
                self._arrivals.appendleft((rest, size - freed))
        self.dropped += n_dropped
        self._n_messages -= n_dropped
        self._n_bytes -= freed

    def get(self, max_messages: int, timeout_s: float, max_bytes: int = MAX_BYTES) -> list[Message]:
        """Remove and return the oldest messages, in order of arrival.

        Messages that arrived together leave together. So the result may exceed ``max_messages`` and ``max_bytes``, by
        less than the messages of one arrival. If the queue is empty, wait until messages arrive, ``timeout_s`` has
        passed, or `wake` is called; the result may then be empty.
        """
        with self._changed:
            if not self._arrivals:
                self._changed.wait(timeout_s)
            batch: list[Message] = []
            n_bytes = 0
            while self._arrivals and len(batch) < max_messages and n_bytes < max_bytes:
                messages, size = self._arrivals.popleft()
                batch.extend(messages)
                n_bytes += size
            self._n_messages -= len(batch)
            self._n_bytes -= n_bytes
            return batch

    def wake(self) -> None:
        """Let a waiting `get` return at once."""
        with self._changed:
            self._changed.notify()


def _size(messages: Sequence[Message]) -> int:
    """Return the bytes that messages occupy."""
    return sum([len(message[1]) + len(message[0]) for message in messages]) + _OVERHEAD_BYTES * len(messages)
