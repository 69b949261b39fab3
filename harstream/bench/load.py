"""Load: a process that publishes the samples of many simulated wearables from packets built beforehand.

It publishes either at life speed, where a device sends as often as it has the samples for a message, or as fast as the
receiver processes them.
"""

from __future__ import annotations

import gc
import json
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from harstream.bench import packets
from harstream.bench.counters import DONE, LOAD_LATE_NS, READY, SENT, STOP, SharedCounters

#: Packets per write when it publishes as fast as the receiver processes them.
_PACKETS_PER_WRITE = 64
#: Bytes that may be sent ahead of those done, less than an inbox holds.
_MAX_AHEAD_BYTES = 24 * 2**20
#: Pause while no packet is due, or the receiver is too far behind.
_TICK_S = 0.001
#: Pause between reads of the broker's acknowledgements: reading each at once would cost as much as the rest.
_DISCARD_EVERY_S = 0.005


def main(settings: dict[str, Any]) -> None:
    """Publish until STOP is set or all rounds are sent; then wait for STOP.

    Args:
        settings: ``counters`` (file), ``host``, ``port``; ``n_devices``, ``payload``, ``qos``, ``n_samples`` and
            ``topics`` of the messages (see ``packets.Rounds``); ``lead``, the messages (fewer if they are large) that
            may be sent ahead of those done, or 0 for life speed; ``rounds``, the messages per device, or 0 for no end;
            ``log``, a file for the times of writes at life speed, or None. The log is an array (n_writes + 1, 2): row 0
            is (0, start), each other row is (n, time of a write after which all messages with numbers below n had
            left), times in ns. The k-th message of device i has the number ``k * n_devices + i``.

    """
    counters = SharedCounters(Path(settings["counters"]))
    n_devices, lead, last_round = settings["n_devices"], settings["lead"], settings["rounds"]
    rounds = packets.Rounds(n_devices, settings["payload"], settings["qos"], settings["n_samples"], settings["topics"])
    period_ns = packets.period_ns(settings["n_samples"])
    sock = packets.connect(settings["host"], settings["port"], f"bench-load-{time.monotonic_ns()}")
    sock.settimeout(None)
    threading.Thread(target=_discard_acknowledgements, args=(sock,), daemon=True).start()
    gc.disable()  # a collection would delay messages
    log: list[tuple[int, int]] = []

    # The devices send one after another, spread over the time that a message holds.
    phase_ns = np.arange(n_devices, dtype=np.int64) * period_ns // n_devices
    print("ready", flush=True)
    while not counters[READY] and not counters[STOP]:
        time.sleep(_TICK_S)
    start_ns = time.time_ns()
    number = sent = 0
    while not counters[STOP] and not (last_round and number == last_round):
        # The first sample was measured as long before the message is sent as its samples span.
        due_ns = start_ns + number * period_ns + phase_ns
        data, ends, devices = rounds.packets(number, due_ns - period_ns)
        due_ns = due_ns[devices]
        ahead = min(lead, max(_PACKETS_PER_WRITE, _MAX_AHEAD_BYTES * len(devices) // len(data)))
        begin = at = 0
        while at < len(devices) and not counters[STOP]:
            if lead:
                if sent - counters[DONE] >= ahead:
                    time.sleep(_TICK_S)
                    continue
                upto = min(at + _PACKETS_PER_WRITE, len(devices))
            else:
                now_ns = time.time_ns()
                upto = int(np.searchsorted(due_ns, now_ns, side="right"))
                if upto == at:
                    time.sleep(max(_TICK_S, (int(due_ns[at]) - now_ns) / 1e9))
                    continue
                counters[LOAD_LATE_NS] = max(counters[LOAD_LATE_NS], now_ns - int(due_ns[at]))
                if settings["log"]:
                    log.append((number * n_devices + int(devices[upto - 1]) + 1, now_ns))
            end = int(ends[upto - 1])
            sock.sendall(data[begin:end])
            sent += upto - at
            begin, at = end, upto
            counters[SENT] = sent
        number += 1
    while not counters[STOP]:
        time.sleep(_TICK_S)
    if settings["log"]:
        np.save(Path(settings["log"]), np.array([(0, start_ns), *log], np.int64))


def _discard_acknowledgements(sock: socket.socket) -> None:
    while sock.recv(1 << 20):
        time.sleep(_DISCARD_EVERY_S)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
