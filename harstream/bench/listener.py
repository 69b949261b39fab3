"""Somebody who reads what is published: a process of its own that only notes when each piece of it arrived.

What the pieces say is made out when all is over.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from harstream.bench import packets
from harstream.bench.board import STOP, Board
from harstream.core.batches import Int64

_POLL_S = 0.05


def main(settings: dict[str, object]) -> None:
    board = Board(Path(str(settings["board"])))
    sock = packets.connect(str(settings["host"]), int(str(settings["port"])), f"bench-listener-{time.monotonic_ns()}")
    packets.subscribe(sock, str(settings["subscription"]))
    sock.settimeout(_POLL_S)
    print("ready", flush=True)
    pieces: list[bytes] = []
    arrivals: list[tuple[int, int]] = []
    size = 0
    while True:
        try:
            piece = sock.recv(1 << 18)
        except TimeoutError:
            if board[STOP]:
                break
            continue
        if not piece:
            break
        size += len(piece)
        arrivals.append((size, time.time_ns()))
        pieces.append(piece)
    folder = Path(str(settings["folder"]))
    (folder / "heard").write_bytes(b"".join(pieces))
    np.save(folder / "arrivals.npy", np.array(arrivals, np.int64).reshape(-1, 2))


def heard(folder: Path) -> tuple[list[tuple[str, bytes]], Int64]:
    """(topic, payload) of every message, and when (ns) its last byte had arrived."""
    data, arrivals = (folder / "heard").read_bytes(), np.load(folder / "arrivals.npy")
    messages, ends = [], []
    for topic, payload, end in _messages(data):
        messages.append((topic, payload))
        ends.append(end)
    return messages, arrivals[np.searchsorted(arrivals[:, 0], ends), 1] if ends else np.zeros(0, np.int64)


def _messages(data: bytes) -> Iterator[tuple[str, bytes, int]]:
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
