"""From the moment a message was sent to the moment its label was heard, both ends outside the daemon."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

import numpy as np

from harstream.bench import packets
from harstream.bench.board import CPU_NS, DONE, DROPPED, LOAD_LATE_NS, SENT
from harstream.bench.ingest import SUBSCRIPTION, Bench, Traffic
from harstream.bench.listener import heard
from harstream.core.batches import Float64, Int64

LABELS = "wearables/+/activity"
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Latency:
    """Of labels, or of the samples themselves where nobody works on them."""

    ms: Float64  # (n_messages,)
    sent: int
    done: int
    dropped: int
    cpu: float  # of what is measured, in cores
    load_late_ms: float  # the worst delay of the load itself

    def percentile(self, q: float) -> float | None:
        """None where nothing was heard of what was sent while it was measured: it came too late."""
        return float(np.percentile(self.ms, q)) if len(self.ms) else None


def live(bench: Bench, subject: str, traffic: Traffic, seconds: float, warm_up_s: float) -> Latency:
    """``traffic.n_devices`` publishing at life speed for ``seconds`` after a warm-up.

    ``daemon``: how late its labels are. ``nobody``: how late the samples themselves are at a subscriber: the broker's
    round trip, with the machine otherwise at rest.
    """
    folder = bench.folder / f"live-{time.monotonic_ns()}"
    folder.mkdir()
    log = folder / "sent.npy"
    subscription = LABELS if subject == "daemon" else SUBSCRIPTION
    with bench.under_load(subject, traffic, lead=0, log=log, listen=(subscription, folder)) as (board, _, _):
        time.sleep(warm_up_s)
        board[LOAD_LATE_NS] = 0
        since_ns, cpu_ns = time.time_ns(), board[CPU_NS]
        time.sleep(seconds)
        until_ns, cpu_ns = time.time_ns(), board[CPU_NS] - cpu_ns
        load_late_ms = board[LOAD_LATE_NS] / 1e6
    messages, arrived_ns = heard(folder)
    sent_ns = _sent_ns(np.load(log), messages, traffic)
    counts = (sent_ns >= since_ns) & (sent_ns < until_ns)
    return Latency(
        (arrived_ns - sent_ns)[counts] / 1e6,
        board[SENT],
        board[DONE],
        board[DROPPED],
        cpu_ns / (until_ns - since_ns),
        load_late_ms,
    )


def _sent_ns(log: Int64, messages: list[tuple[str, bytes]], traffic: Traffic) -> Int64:
    """When the message was sent that each of ``messages`` was due to; -1 where it is none of a fleet's."""
    start_ns, written = int(log[0, 1]), log[1:]
    n, period = traffic.n_devices, packets.PERIOD_NS
    number = []
    for topic, payload in messages:
        if not payload:
            number.append(-1)
            continue
        device = int(topic.split("/")[1].removeprefix("bench-"))
        due_ns = start_ns + device * period // n
        if topic.endswith("/activity"):
            # The end of a window lies within the half second that its last message holds.
            ahead_ns = round(json.loads(payload)["t"] * 1e6) * 1000 - due_ns
            rounds = -(-(ahead_ns - 1_000_000) // period)
        else:
            rounds = round((packets.event_time_ns(payload) + period - due_ns) / period)
        number.append(rounds * n + device)
    numbers = np.array(number, np.int64)
    at = np.searchsorted(written[:, 0], numbers, side="right")  # the write that took it along
    known = (numbers >= 0) & (at < len(written))
    return np.where(known, written[np.minimum(at, len(written) - 1), 1], -1)
