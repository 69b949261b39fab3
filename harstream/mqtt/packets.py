"""Layout of MQTT packets, as far as ``FastClient`` reads and writes them itself (MQTT 5, section 2.1)."""

from __future__ import annotations

#: Packet types: the upper half of a packet's first byte.
CONNECT, CONNACK, PUBLISH, PUBACK, PINGRESP, DISCONNECT = 0x10, 0x20, 0x30, 0x40, 0xD0, 0xE0
_PASSWORD_FLAG = 0x40
#: Largest packet of MQTT, bytes.
MAX_BYTES = 2**28
#: Enough for the topic and the identifier of any message, bytes, and for topic and properties of all but odd ones.
_HEAD_BYTES, _FRAME_BYTES = 2**16 + 16, 2**17


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


def packet_extent(data: bytes | bytearray, start: int) -> tuple[int, int]:
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


def decode_length(data: bytes | bytearray, start: int) -> tuple[int, int]:
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


class Incomplete:
    """Beginning of a packet whose end has not been read yet.

    Of a message that is too long only the topic is kept, so that it takes no memory. It gets a payload of zeros that is
    too long by one byte, so that it can be counted.

    Args:
        version_5: Whether it is MQTT 5.

    Attributes:
        max_payload_bytes: Longest payload that is kept.

    """

    def __init__(self, version_5: bool) -> None:
        self.max_payload_bytes = MAX_BYTES
        self._no_properties = b"\0" if version_5 else b""
        self._kept = bytearray()
        self._missing = 0  # bytes of the packet that have not been read
        self._long = False

    def __bool__(self) -> bool:
        return bool(self._kept)

    def clear(self) -> None:
        """Forget the packet."""
        self._kept, self._missing, self._long = bytearray(), 0, False

    def begin(self, data: bytes, size: int) -> None:
        """Keep the beginning of a packet.

        Args:
            data: The bytes read.
            size: Size of the packet; less if it is not known yet, but more than the bytes read.

        Raises:
            ValueError: It is no message, and too long.

        """
        self._long = size > self.max_payload_bytes + _FRAME_BYTES
        if self._long and data[0] & 0xF0 != PUBLISH:
            raise ValueError(f"it has {size} bytes")
        self._kept, self._missing = bytearray(data[:_HEAD_BYTES] if self._long else data), size - len(data)

    def add(self, data: bytes) -> bytes | None:
        """Add bytes. Return the packet and what follows it; None if the packet is not complete yet."""
        missing, self._missing = self._missing, self._missing - len(data)
        if not self._long:
            self._kept += data
        elif len(self._kept) < _HEAD_BYTES:
            self._kept += data[: min(missing, _HEAD_BYTES - len(self._kept))]
        if self._missing > 0:
            return None
        whole = self._shortened() + data[missing:] if self._long else bytes(self._kept)
        self.clear()
        return whole

    def _shortened(self) -> bytes:
        body, _ = packet_extent(self._kept, 0)
        end = body + 2 + int.from_bytes(self._kept[body : body + 2], "big") + 2 * bool(self._kept[0] & 6)
        content = bytes(self._kept[body:end]) + self._no_properties + bytes(self.max_payload_bytes + 1)
        return bytes(self._kept[:1]) + encode_length(len(content)) + content
