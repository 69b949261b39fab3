"""Number of a delivery: which message of which connection an acknowledgement is for.

It is an int, because there is one for every message. 0 stands for a message at QoS 0, which is not acknowledged.
"""

from __future__ import annotations

#: Mask of the packet identifier.
MID = 0xFFFF
#: Set if the broker says that it may have sent the message before.
REPEATED = 1 << 16
_CONNECTION = 1 << 17


def number(mid: int, *, repeated: bool, connection: int) -> int:
    """Return the number of a delivery.

    Args:
        mid: Packet identifier.
        repeated: The DUP flag of the message.
        connection: Number of the connection.

    """
    return mid | REPEATED * repeated | connection * _CONNECTION


def connection_of(delivery: int) -> int:
    """Return the number of the connection of a delivery."""
    return delivery // _CONNECTION
