"""Viewers of the live page: a process that opens streams as browsers do, and counts the bytes that it receives."""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from harstream.bench.counters import STOP, VIEWED, SharedCounters

_POLL_S = 0.05
#: What they look at in turn: a page at the top, one in the middle sorted by something that changes, and a filter.
_QUERIES = ("limit=45", "limit=60&offset=300&sort=confidence", "limit=45&activity=WALKING&sort=last_seen&descending=1")


def main(settings: dict[str, Any]) -> None:
    """Read all streams until STOP is set.

    Args:
        settings: ``counters`` (file), ``host``, ``port`` of the daemon's HTTP server, and ``viewers``, their number.

    """
    counters = SharedCounters(Path(settings["counters"]))
    selector = selectors.DefaultSelector()
    for number in range(settings["viewers"]):
        stream = socket.create_connection((settings["host"], settings["port"]))
        query = _QUERIES[number % len(_QUERIES)]
        stream.sendall(f"GET /api/stream?{query} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        stream.setblocking(False)
        selector.register(stream, selectors.EVENT_READ)
    print("ready", flush=True)
    while not counters[STOP]:
        time.sleep(_POLL_S)  # a browser may be so late; this process then takes little time from the daemon
        for key, _ in selector.select(0):
            with suppress(BlockingIOError):
                counters[VIEWED] += len(key.fileobj.recv(1 << 20))  # type: ignore[union-attr]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
