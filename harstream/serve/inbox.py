"""The queue from the network thread to the loop, bounded in bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from itertools import accumulate

from harstream.wire.samples import Message

#: About a minute of 2,000 wearables at 50 Hz in JSON: long enough for a stall, short enough to fit a
#: small machine's memory.
MAX_BYTES = 64 * 2**20
#: Above this part of MAX_BYTES the daemon is not ready: it does not keep up.
HIGH_WATER = 0.8
#: What a message costs beside its topic and payload: the objects that hold it.
_OVERHEAD = 250


class Inbox:
    """When full, the oldest messages go first and are counted: the newest say what a subject does now.

    Messages that the network brought together stay together: nothing here is done for each.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.dropped = 0  # messages, since the start
        self._arrivals: deque[tuple[Sequence[Message], int]] = deque()  # as they were put, with their bytes
        self._n_messages = self._n_bytes = 0
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return self._n_messages

    @property
    def below_high_water(self) -> bool:
        return self._n_bytes < HIGH_WATER * self.max_bytes

    def put(self, messages: Sequence[Message]) -> None:
        """Messages that arrived together. They may leave together, so they should be no more than a take."""
        size = _size(messages)
        with self._changed:
            if not self._arrivals:
                self._changed.notify()
            self._arrivals.append((messages, size))
            self._n_messages += len(messages)
            self._n_bytes += size
            while self._n_bytes > self.max_bytes and self._n_messages > 1:
                self._shed()

    def _shed(self) -> None:
        """Drop from the oldest arrival as much as must go; not the very last message."""
        messages, size = self._arrivals.popleft()
        self._n_messages -= len(messages)
        self._n_bytes -= size
        dropped = len(messages) - (not self._arrivals)
        if self._n_bytes + size - _size(messages[:dropped]) < self.max_bytes:
            too_much = self._n_bytes + size - self.max_bytes
            sizes = accumulate(_size([message]) for message in messages)
            dropped = min(dropped, next(i + 1 for i, so_far in enumerate(sizes) if so_far >= too_much))
        self.dropped += dropped
        if left := messages[dropped:]:
            self._arrivals.appendleft((left, _size(left)))
            self._n_messages += len(left)
            self._n_bytes += _size(left)

    def take(self, most: int, timeout_s: float, most_bytes: int = MAX_BYTES) -> list[Message]:
        """The oldest messages, as they came: at once if there are any, else when one comes or time is up.

        Whole arrivals, until there are ``most`` messages or ``most_bytes`` of them.
        """
        with self._changed:
            if not self._arrivals:
                self._changed.wait(timeout_s)
            taken: list[Message] = []
            n_bytes = 0
            while self._arrivals and len(taken) < most and n_bytes < most_bytes:
                messages, size = self._arrivals.popleft()
                taken.extend(messages)
                n_bytes += size
            self._n_messages -= len(taken)
            self._n_bytes -= n_bytes
            return taken

    def wake(self) -> None:
        """Let a waiting ``take`` return empty-handed."""
        with self._changed:
            self._changed.notify()


def _size(messages: Sequence[Message]) -> int:
    return sum([len(message[1]) + len(message[0]) for message in messages]) + _OVERHEAD * len(messages)
