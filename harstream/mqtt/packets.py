"""Layout of MQTT packets, as far as ``FastClient`` reads and writes them itself (MQTT 5, section 2.1)."""

from __future__ import annotations

#: Packet types: the upper half of a packet's first byte.
CONNECT, CONNACK, PUBLISH, PUBACK, PINGRESP, DISCONNECT = 0x10, 0x20, 0x30, 0x40, 0xD0, 0xE0
_PASSWORD_FLAG = 0x40


def encode_publish(header: bytes, topic: bytes, rest: bytes) -> bytes:
    """Encode a PUBLISH packet.

    Args:
        header: The first byte: packet type, DUP flag, QoS and RETAIN flag.
        topic: Topic in UTF-8.
        rest: Everything after the topic: packet identifier, properties and payload.

    """
    size = 2 + len(topic) + len(rest)
    return b"".join((header, encode_length(size), len(topic).to_bytes(2, "big"), topic, rest))


def encode_length(size: int) -> bytes:
    """Encode a variable byte integer (MQTT 5, section 1.5.5)."""
    length = bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    length.append(size)
    return bytes(length)


def add_password(packet: bytes, password: bytes) -> bytearray:
    """Return a CONNECT packet with a password, which is the last part of it (MQTT 5, section 3.1)."""
    body, _ = packet_extent(packet, 0)
    content = bytearray(packet[body:])
    flags = 2 + int.from_bytes(content[:2], "big") + 1  # behind the name and version of the protocol
    content[flags] |= _PASSWORD_FLAG
    content += len(password).to_bytes(2, "big") + password
    return bytearray(packet[:1] + encode_length(len(content)) + content)


def packet_extent(data: bytes, start: int) -> tuple[int, int]:
    """Return the indices at which the body of the packet at ``start`` begins and ends.

    The end is greater than ``len(data)`` if the packet is incomplete.

    Raises:
        ValueError: The length has more than four bytes.

    """
    try:
        body, length = decode_length(data, start + 1)
    except IndexError:
        return start, len(data) + 1
    return body, body + length


def decode_length(data: bytes, start: int) -> tuple[int, int]:
    """Decode the variable byte integer at ``start`` (MQTT 5, section 1.5.5).

    Returns:
        Index of the byte after it, and its value.

    Raises:
        IndexError: ``data`` ends before it does.
        ValueError: It has more than four bytes.

    """
    value = data[start]
    if value < 128:
        return start + 1, value
    value, shift = value & 127, 7
    while shift < 28:
        start += 1
        byte = data[start]
        value |= (byte & 127) << shift
        if byte < 128:
            return start + 1, value
        shift += 7
    raise ValueError("expected a length of at most four bytes, got more")
