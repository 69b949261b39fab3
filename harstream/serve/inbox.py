"""The queue from the network thread to the loop, bounded in bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from harstream.wire.samples import Message

#: About a minute of 2,000 wearables at 50 Hz in JSON: long enough for a stall, short enough to fit a
#: small machine's memory.
MAX_BYTES = 64 * 2**20
#: Above this part of MAX_BYTES the daemon is not ready: it does not keep up.
HIGH_WATER = 0.8
#: What a message costs beside its topic and payload: the objects that hold it.
_OVERHEAD = 250


class Inbox:
    """When full, the oldest messages go first and are counted: the newest say what a wearer does now."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.dropped = 0  # messages, since the start
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def below_high_water(self) -> bool:
        return self._bytes < HIGH_WATER * self.max_bytes

    def put(self, messages: Sequence[Message]) -> None:
        size = sum(map(_size, messages))
        with self._changed:
            if not self._messages:
                self._changed.notify()
            self._messages.extend(messages)
            self._bytes += size
            while self._bytes > self.max_bytes and len(self._messages) > 1:
                self._bytes -= _size(self._messages.popleft())
                self.dropped += 1

    def take(self, most: int, timeout_s: float, most_bytes: int = MAX_BYTES) -> list[Message]:
        """The oldest messages, as they came: at once if there are any, else when one comes or time is up.

        Up to ``most`` of them, and no more once they hold ``most_bytes``.
        """
        with self._changed:
            if not self._messages:
                self._changed.wait(timeout_s)
            taken: list[Message] = []
            n_bytes = 0
            while self._messages and len(taken) < most and n_bytes < most_bytes:
                taken.append(self._messages.popleft())
                n_bytes += _size(taken[-1])
            self._bytes -= n_bytes
            return taken

    def wake(self) -> None:
        """Let a waiting ``take`` return empty-handed."""
        with self._changed:
            self._changed.notify()


def _size(message: Message) -> int:
    return len(message.payload) + len(message.topic) + _OVERHEAD
