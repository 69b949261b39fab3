"""The load: a process of its own that writes prebuilt packets, as fast as they are taken or at life speed."""

from __future__ import annotations

import gc
import json
import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np

from harstream.bench import packets
from harstream.bench.board import DONE, LOAD_LATE_NS, READY, SENT, STOP, Board
from harstream.core.batches import Int64

#: Packets in one write, while as fast as they are taken.
_SLICE = 64
#: How often to look what is due, or done.
_TICK_S = 0.001
#: How often the broker's acknowledgements are thrown away: at once would cost as much as all the rest.
_DISCARD_EVERY_S = 0.005


def main(settings: dict[str, object]) -> None:
    """``lead``: messages ahead of what is done, or 0 for life speed; ``rounds``: messages of a device, or 0 for no end;
    ``log``: where to note when each was written."""
    board = Board(Path(str(settings["board"])))
    n_devices, lead, last = (int(str(settings[name])) for name in ("n_devices", "lead", "rounds"))
    rounds = packets.Rounds(n_devices, str(settings["payload"]), int(str(settings["qos"])))
    sock = packets.connect(str(settings["host"]), int(str(settings["port"])), f"bench-load-{time.monotonic_ns()}")
    sock.settimeout(None)
    threading.Thread(target=_discard, args=(sock,), daemon=True).start()  # the broker's acknowledgements
    gc.disable()
    log = Path(str(settings["log"])) if settings.get("log") else None
    written: list[tuple[int, int]] = []

    # Spread over the half second that a message holds.
    phase_ns = np.arange(n_devices, dtype=np.int64) * packets.PERIOD_NS // n_devices
    print("ready", flush=True)
    while not board[READY] and not board[STOP]:
        time.sleep(0.001)
    start_ns = time.time_ns()
    number = sent = 0
    while not board[STOP] and not (last and number == last):
        # The first sample was taken half a second before the message leaves.
        due_ns = start_ns + number * packets.PERIOD_NS + phase_ns
        data, ends, devices = rounds.take(number, due_ns - packets.PERIOD_NS)
        due_ns = due_ns[devices]
        begin = at = 0
        while at < len(devices) and not board[STOP]:
            if lead:
                if sent - board[DONE] >= lead:
                    time.sleep(_TICK_S)
                    continue
                upto = min(at + _SLICE, len(devices))
            else:
                now_ns = time.time_ns()
                upto = int(np.searchsorted(due_ns, now_ns, side="right"))
                if upto == at:
                    time.sleep(max(_TICK_S, (int(due_ns[at]) - now_ns) / 1e9))
                    continue
                board[LOAD_LATE_NS] = max(board[LOAD_LATE_NS], now_ns - int(due_ns[at]))
                if log is not None:
                    written.append((number * n_devices + int(devices[upto - 1]) + 1, now_ns))
            end = int(ends[upto - 1])
            sock.sendall(data[begin:end])
            sent += upto - at
            begin, at = end, upto
            board[SENT] = sent
        number += 1
    while not board[STOP]:
        time.sleep(_TICK_S)
    if log is not None:
        np.save(log, _times(written, start_ns))


def _times(written: list[tuple[int, int]], start_ns: int) -> Int64:
    """Row 0: the start. Then of every write: the number before which all messages have left, and when.

    The ``k``-th message of device ``i`` has the number ``k * n_devices + i``.
    """
    return np.array([(0, start_ns), *written], np.int64)


def _discard(sock: socket.socket) -> None:
    while sock.recv(1 << 20):
        time.sleep(_DISCARD_EVERY_S)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
