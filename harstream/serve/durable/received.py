"""Messages that the broker may send again, known by packet identifier and checksum."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from typing import Any

import numpy as np

from harstream.wire.decoder import Message

#: Deliveries that are remembered, more than any broker has in flight to us.
_MAX_DELIVERIES = 8_192


class Deliveries:
    """Packet identifiers of the newest messages, with their checksums and positions."""

    def __init__(self) -> None:
        # A dict would search for its first key behind the gaps of those that were deleted, at every message.
        self._by_mid: OrderedDict[int, tuple[int, int]] = OrderedDict()

    def find(self, mid: int, checksum: int) -> int | None:
        """Return the position of the message with this identifier and checksum; None if it is another message."""
        found = self._by_mid.get(mid)
        return found[1] if found is not None and found[0] == checksum else None

    def note(self, mid: int, checksum: int, position: int) -> None:
        """Remember a message."""
        self._by_mid.pop(mid, None)
        self._by_mid[mid] = checksum, position
        if len(self._by_mid) > _MAX_DELIVERIES:
            self._by_mid.popitem(last=False)

    def to_array(self) -> np.ndarray[Any, Any]:
        """Return (n, 3) identifiers, checksums and positions, oldest first."""
        numbers = (number for mid, entry in self._by_mid.items() for number in (mid, *entry))
        return np.fromiter(numbers, np.int64, 3 * len(self._by_mid)).reshape(-1, 3)

    def restore(self, array: np.ndarray[Any, Any]) -> None:
        """Take over what ``to_array`` returned."""
        self._by_mid = OrderedDict((mid, (checksum, position)) for mid, checksum, position in array.tolist())


def checksum_of(message: Message) -> int:
    """Return a checksum of topic and payload."""
    return zlib.crc32(message.payload, zlib.crc32(message.topic.encode()))
