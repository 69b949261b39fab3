"""MQTT 3.1.1 packets of the load, built once and sent many times, so that the load takes little processor time.

Before each round only event times and packet identifiers are overwritten, for all devices at once.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harstream.bench.formats import FORMATS, offsets_ns
from harstream.core.batches import Int64
from harstream.publish import SAMPLES_PER_MESSAGE
from harstream.simulate.source import sources
from harstream.source_config import DEFAULT_TOPIC
from harstream.wire.topics import TopicTemplate

RATE_HZ = 50.0


def period_ns(n_samples: int) -> int:
    """Return the time between two messages of a device: what the samples of one message span."""
    return int(n_samples / RATE_HZ * 1e9)


#: The same for messages of usual length.
PERIOD_NS = period_ns(SAMPLES_PER_MESSAGE)
#: Number of simulated subjects; devices share them.
_SUBJECTS = 32
#: Upper bound of the different messages per device, which repeat in turn, and of all packets built.
_MAX_CONTENTS, _MAX_PREBUILT = 8, 40_000
#: Devices start in rounds 0 to STARTS - 1, so that their windows do not all fall due in the same half second.
STARTS = 8
#: Time whose digits are those of every placeholder.
_PLACEHOLDER_NS = 1_111_111_111_111_111_111


def device_name(index: int) -> str:
    """Return the device id of the ``index``-th device."""
    return f"bench-{index:06d}"


def source_of(index: int, n_sources: int) -> int:
    """Return which source the ``index``-th device belongs to.

    Sources take turns, and each has as many devices of every starting round: windows of all of them fall due evenly.
    """
    return (index + index // STARTS) % n_sources


def packet(kind: int, body: bytes) -> bytes:
    """Return an MQTT packet with the first byte ``kind`` and the length of ``body`` before it."""
    length, size = bytearray(), len(body)
    while True:
        size, digit = size >> 7, size & 127
        length.append(digit | (128 if size else 0))
        if not size:
            return bytes([kind]) + bytes(length) + body


def _text(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def connect(host: str, port: int, client_id: str) -> socket.socket:
    """Return a socket on which the broker has accepted CONNECT.

    Raises:
        ConnectionError: The broker refused it, or there is no broker.

    """
    sock = socket.create_connection((host, port), timeout=30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    keep_alive = b"\xff\xff"  # s, longer than any bench; some brokers do not take 0
    sock.sendall(packet(0x10, _text("MQTT") + b"\x04\x02" + keep_alive + _text(client_id)))
    answer = sock.recv(4)
    if answer[:1] != b"\x20" or answer[3:] != b"\x00":
        raise ConnectionError(f"CONNECT: expected an accepting CONNACK from {host}:{port}, got {answer.hex()!r}")
    return sock


def subscribe(sock: socket.socket, filters: Sequence[str]) -> None:
    """Subscribe to topic filters at QoS 0 and wait for the acknowledgement.

    Raises:
        ConnectionError: The broker did not acknowledge it.

    """
    sock.sendall(packet(0x82, b"\x00\x01" + b"".join(_text(name) + b"\x00" for name in filters)))
    answer = sock.recv(4 + len(filters))
    if answer[:1] != b"\x90" or set(answer[4:]) != {0}:
        raise ConnectionError(f"SUBSCRIBE {', '.join(filters)}: expected an accepting SUBACK, got {answer.hex()!r}")


#: What makes a message in JSON one that must be rejected: a part is lost, no number, a sample too many, no list.
_POISONS: tuple[Callable[[bytes], bytes], ...] = (
    lambda payload: payload[: len(payload) // 2],
    lambda payload: payload.replace(b"[[", b'[["x",', 1),
    lambda payload: payload.replace(b'"gyro":[[', b'"gyro":[[0,0,0],[', 1),
    lambda payload: payload.replace(b'"acc":[', b'"acc":3,"was":[', 1),
)


@dataclass(frozen=True, slots=True)
class _Round:
    """Packets of one message of each device, one after another."""

    data: npt.NDArray[np.uint8]  # the bytes of all packets
    sizes: Int64  # (n_devices,) bytes of each packet
    ends: Int64  # (n_devices,) end of each packet in data
    times: Int64  # (n_devices, n_times) position of each event time in data
    ids: Int64  # (n_devices,) position of each packet identifier in data


class Rounds:
    """Rounds of packets of ``n_devices`` wearables at 50 Hz; a round is one message, of ``n_samples``, of each device.

    With the payload ``poisoned``, which is JSON, every other device sends messages that must be rejected. The devices
    belong to as many sources as there are templates in ``topics`` (see ``source_of``).
    """

    def __init__(
        self,
        n_devices: int,
        payload: str,
        qos: int,
        n_samples: int = SAMPLES_PER_MESSAGE,
        topics: Sequence[str] = (DEFAULT_TOPIC,),
    ) -> None:
        self.n_devices, self.payload, self.qos, self.n_samples = n_devices, payload, qos, n_samples
        self._topics = [TopicTemplate(topic) for topic in topics]
        self._format = FORMATS[payload]
        n_contents = max(2, min(_MAX_CONTENTS, _MAX_PREBUILT // n_devices))
        contents = _contents(payload, n_contents, n_samples)
        self._rounds = [self._build(contents, k, n_contents) for k in range(n_contents)]
        self._next_id = 0

    def _build(self, contents: list[list[bytes]], k: int, n_contents: int) -> _Round:
        packets, times, ids = [], [], []
        at = 0
        for i in range(self.n_devices):
            payload = contents[i % _SUBJECTS][(k + i // _SUBJECTS) % n_contents]
            if self.payload == "poisoned" and i % 2:
                payload = _POISONS[i // 2 % len(_POISONS)](payload)
            topic = _text(self._topics[source_of(i, len(self._topics))].topic(device_name(i)))
            identifier = b"\x00\x01" if self.qos else b""
            whole = packet(0x30 | self.qos << 1, topic + identifier + payload)
            packets.append(whole)
            begin = at + len(whole) - len(payload)
            times.append([begin + position for position in self._format.times_in(payload)])
            ids.append(begin - 2)
            at += len(whole)
        sizes = np.array([len(whole) for whole in packets])
        data = np.frombuffer(bytearray(b"".join(packets)), np.uint8)
        return _Round(data, sizes, np.cumsum(sizes), np.array(times), np.array(ids))

    def packets(self, number: int, t_ns: Int64) -> tuple[memoryview, Int64, Int64]:
        """Return the packets of round ``number`` with the event times ``t_ns`` (n_devices,).

        Returns:
            The bytes of all packets (valid until the next call), the end of each packet, and its device's index.
            Before round STARTS some devices have not started and have no packet.

        """
        prebuilt = self._rounds[number % len(self._rounds)]
        data = prebuilt.data
        times = prebuilt.times
        if self.payload != "packed":
            remaining = (t_ns[:, None] + offsets_ns(times.shape[1], self.n_samples)) // self._format.unit_ns
            for position in self._format.digits:
                remaining, digit = np.divmod(remaining, 10)
                data[times + position] = digit + ord("0")
        else:
            data[times + np.arange(8)] = t_ns.astype("<i8").view(np.uint8).reshape(-1, 8)
        if self.qos:
            ids = (self._next_id + np.arange(self.n_devices)) % 65_535 + 1
            self._next_id += self.n_devices
            data[prebuilt.ids], data[prebuilt.ids + 1] = ids >> 8, ids & 255
        if number >= STARTS:
            return data.data, prebuilt.ends, np.arange(self.n_devices)
        devices = np.flatnonzero(np.arange(self.n_devices) % STARTS <= number)
        begins = prebuilt.ends - prebuilt.sizes
        selected = b"".join(data[begins[i] : prebuilt.ends[i]].tobytes() for i in devices.tolist())
        return memoryview(selected), np.cumsum(prebuilt.sizes[devices]), devices


def event_time_ns(payload: bytes) -> int:
    """Return the event time of a payload made here."""
    if payload.startswith(b"HS"):
        return int.from_bytes(payload[4:12], "little")
    return round(float(payload[payload.index(b":") + 1 : payload.index(b",")]) * 1e6) * 1000


def _contents(payload: str, n_contents: int, n_samples: int) -> list[list[bytes]]:
    """Return ``n_contents`` consecutive messages of each simulated subject."""
    encode = FORMATS[payload].encode
    messages = []
    for index, source in enumerate(sources(_SUBJECTS, seed=4)):
        source.read(n_samples * index)
        messages.append([encode(_PLACEHOLDER_NS, RATE_HZ, source.read(n_samples)) for _ in range(n_contents)])
    return messages
