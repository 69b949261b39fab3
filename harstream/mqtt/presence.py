"""Topic on which a client says whether it is there: online, stopped, or offline as its will."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Presence:
    """Topic and messages that say whether a client is there."""

    topic: str
    qos: int = 1
    retain: bool = True
    will: bool = True  # whether the broker publishes ``offline`` if the client dies
    online: bytes = b"online"
    offline: bytes = b"offline"
