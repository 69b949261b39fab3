"""MQTT 3.1.1 packets, built beforehand and sent again and again: the load costs hardly more than the system calls.

In between only the event times and packet identifiers are written anew, for all devices at once.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Int64
from harstream.publish import ENCODERS, SAMPLES_PER_MESSAGE
from harstream.simulate.source import sources

RATE_HZ = 50.0
PERIOD_NS = int(SAMPLES_PER_MESSAGE / RATE_HZ * 1e9)
#: Subjects simulated; more devices than these share them.
_SUBJECTS = 32
#: Different messages of a device, taking turns.
_MOST_CONTENTS, _MOST_PREBUILT = 8, 40_000
#: Rounds within which all have begun.
STARTS = 8
#: A time of as many digits as every other from 2001 to 2286.
_PLACEHOLDER_NS = 1_111_111_111_111_111_000
_PLACEHOLDER = b"1111111111.111111"


def device_name(index: int) -> str:
    return f"bench-{index:06d}"


def packet(kind: int, body: bytes) -> bytes:
    """A whole packet: ``kind`` is the first byte."""
    length, size = bytearray(), len(body)
    while True:
        size, digit = size >> 7, size & 127
        length.append(digit | (128 if size else 0))
        if not size:
            return bytes([kind]) + bytes(length) + body


def _text(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def connect(host: str, port: int, client_id: str) -> socket.socket:
    """A socket on which CONNECT was answered with yes. Raises ConnectionError."""
    sock = socket.create_connection((host, port), timeout=30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(packet(0x10, _text("MQTT") + b"\x04\x02\x00\x00" + _text(client_id)))
    answer = sock.recv(4)
    if answer[:1] != b"\x20" or answer[3:] != b"\x00":
        raise ConnectionError(f"the broker answered {answer.hex()}")
    return sock


def subscribe(sock: socket.socket, topic: str, qos: int = 0) -> None:
    sock.sendall(packet(0x82, b"\x00\x01" + _text(topic) + bytes([qos])))
    if sock.recv(5)[:1] != b"\x90":
        raise ConnectionError(f"no subscription to {topic}")


@dataclass(frozen=True, slots=True)
class _Round:
    """One message of every device, one after another."""

    data: npt.NDArray[np.uint8]
    sizes: Int64  # (n_devices,) bytes of each packet
    ends: Int64  # (n_devices,) where each packet ends
    times: Int64  # (n_devices,) where each event time begins
    ids: Int64  # (n_devices,) where each packet identifier is


class Rounds:
    """What ``n_devices`` wearables at 50 Hz publish, half a second in a message."""

    def __init__(self, n_devices: int, payload: str, qos: int) -> None:
        self.n_devices, self.payload, self.qos = n_devices, payload, qos
        n_contents = max(2, min(_MOST_CONTENTS, _MOST_PREBUILT // n_devices))
        contents = _contents(payload, n_contents)
        self._rounds = [self._build(contents, k, n_contents) for k in range(n_contents)]
        self._next_id = 0

    def _build(self, contents: list[list[bytes]], k: int, n_contents: int) -> _Round:
        packets, times, ids = [], [], []
        at = 0
        for i in range(self.n_devices):
            payload = contents[i % _SUBJECTS][(k + i // _SUBJECTS) % n_contents]
            topic = _text(f"wearables/{device_name(i)}/imu")
            identifier = b"\x00\x01" if self.qos else b""
            whole = packet(0x30 | self.qos << 1, topic + identifier + payload)
            packets.append(whole)
            begin = at + len(whole) - len(payload)
            times.append(begin + (payload.index(_PLACEHOLDER) if self.payload == "json" else 4))
            ids.append(begin - 2)
            at += len(whole)
        sizes = np.array([len(whole) for whole in packets])
        data = np.frombuffer(bytearray(b"".join(packets)), np.uint8)
        return _Round(data, sizes, np.cumsum(sizes), np.array(times), np.array(ids))

    def take(self, number: int, t_ns: Int64) -> tuple[memoryview, Int64, Int64]:
        """The ``number``-th round, with event times (n_devices,): all packets, where each ends, and whose it is.

        Not all wearables began at the same moment, or all their windows would fall due in the same half second.
        """
        made = self._rounds[number % len(self._rounds)]
        data = made.data
        if self.payload == "json":
            left = t_ns // 1000
            for position in (*range(16, 10, -1), *range(9, -1, -1)):  # the point stays where it is
                left, digit = np.divmod(left, 10)
                data[made.times + position] = digit + ord("0")
        else:
            data[made.times[:, None] + np.arange(8)] = t_ns.astype("<i8").view(np.uint8).reshape(-1, 8)
        if self.qos:
            ids = (self._next_id + np.arange(self.n_devices)) % 65_535 + 1
            self._next_id += self.n_devices
            data[made.ids], data[made.ids + 1] = ids >> 8, ids & 255
        if number >= STARTS:
            return data.data, made.ends, np.arange(self.n_devices)
        devices = np.flatnonzero(np.arange(self.n_devices) % STARTS <= number)
        begins = made.ends - made.sizes
        whole = b"".join(data[begins[i] : made.ends[i]].tobytes() for i in devices.tolist())
        return memoryview(whole), np.cumsum(made.sizes[devices]), devices


def event_time_ns(payload: bytes) -> int:
    """Of a message made here."""
    if payload.startswith(b"HS"):
        return int.from_bytes(payload[4:12], "little")
    return round(float(payload[payload.index(b":") + 1 : payload.index(b",")]) * 1e6) * 1000


def _contents(payload: str, n_contents: int) -> list[list[bytes]]:
    """Consecutive messages of each simulated subject, walking and sitting by turns of the subjects."""
    encode = ENCODERS[payload]
    made = []
    for index, source in enumerate(sources(_SUBJECTS, seed=4, activity=None)):
        source.take(25 * index)
        made.append([encode(_PLACEHOLDER_NS, RATE_HZ, source.take(SAMPLES_PER_MESSAGE)) for _ in range(n_contents)])
    return made
