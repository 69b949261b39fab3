"""Listener: a process that subscribes to labels or samples and records the bytes with their times of arrival.

It decodes nothing while the measurement runs, so that it takes little processor time from the daemon. ``received``
decodes the recording afterwards.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harstream.bench import packets
from harstream.bench.counters import STOP, SharedCounters
from harstream.core.batches import Int64

_POLL_S = 0.05


def main(settings: dict[str, Any]) -> None:
    """Record what the broker sends until STOP is set.

    Args:
        settings: ``counters`` (file), ``host``, ``port``, ``subscriptions`` and ``folder`` (of the recording).

    """
    counters = SharedCounters(Path(settings["counters"]))
    sock = packets.connect(settings["host"], settings["port"], f"bench-listener-{time.monotonic_ns()}")
    packets.subscribe(sock, settings["subscriptions"])
    sock.settimeout(_POLL_S)
    print("ready", flush=True)
    chunks: list[bytes] = []
    arrivals: list[tuple[int, int]] = []  # bytes received so far, time in ns
    size = 0
    while True:
        try:
            chunk = sock.recv(1 << 18)
        except TimeoutError:
            if counters[STOP]:
                break
            continue
        if not chunk:
            break
        size += len(chunk)
        arrivals.append((size, time.time_ns()))
        chunks.append(chunk)
    folder = Path(settings["folder"])
    (folder / "received").write_bytes(b"".join(chunks))
    np.save(folder / "arrivals.npy", np.array(arrivals, np.int64).reshape(-1, 2))


def received(folder: Path) -> tuple[list[tuple[str, bytes]], Int64]:
    """Return (topic, payload) of each message in a recording, and the time (n,) in ns at which it was complete."""
    data, arrivals = (folder / "received").read_bytes(), np.load(folder / "arrivals.npy")
    messages, ends = [], []
    for topic, payload, end in split_publishes(data):
        messages.append((topic, payload))
        ends.append(end)
    return messages, arrivals[np.searchsorted(arrivals[:, 0], ends), 1] if ends else np.zeros(0, np.int64)


def split_publishes(data: bytes) -> Iterator[tuple[str, bytes, int]]:
    """Yield topic, payload and end position of each complete PUBLISH packet (MQTT 3.1.1) in ``data``."""
    at = 0
    while at < len(data):
        kind, length, shift = data[at], 0, 0
        at += 1
        while True:
            length |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if data[at - 1] < 128:
                break
        end = at + length
        if end > len(data):
            return
        if kind & 0xF0 == 0x30:
            start = at + 2 + int.from_bytes(data[at : at + 2], "big")
            yield data[at + 2 : start].decode(), data[start + (2 if kind & 6 else 0) : end], end
        at = end


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
