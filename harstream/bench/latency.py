"""Latency: time from the write of a message to the receipt of its label, both measured outside the daemon.

The path includes both ways through the broker. The ceiling is the broker's round trip: the time that the same messages
take to a subscriber while no daemon runs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harstream.bench import packets
from harstream.bench.counters import DONE, DROPPED, LOAD_LATE_NS, SENT, VIEWED
from harstream.bench.listener import received
from harstream.bench.processes import cpu_s
from harstream.bench.testbed import Testbed, Traffic
from harstream.core.batches import Float64, Int64

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Latency:
    """Result of one measurement at life speed: latencies of labels (``daemon``) or of samples (``idle``)."""

    ms: Float64  # (n_messages,) of the messages sent while it was measured
    sent: int  # messages, since the start
    done: int  # messages, since the start
    dropped: int  # messages, since the start
    cpu: float  # processor time of the receiver, in cores
    load_late_ms: float  # largest delay of the load behind its own schedule
    viewed_bytes_s: float = 0.0  # sent to all viewers of the live page

    def percentile(self, q: float) -> float | None:
        """Return a percentile of the latencies in ms; None if nothing sent while it was measured was received."""
        return float(np.percentile(self.ms, q)) if len(self.ms) else None


def compared(ours: Sequence[Latency], theirs: Sequence[Latency]) -> dict[str, list[Any]]:
    """Return details of a figure: latencies of both, and the messages sent to the other and done by it."""
    return {
        "latency_p50_ms": [run.percentile(50) for run in ours],
        "latency_p99_ms": [run.percentile(99) for run in ours],
        "ceiling_latency_p50_ms": [run.percentile(50) for run in theirs],
        "ceiling_latency_p99_ms": [run.percentile(99) for run in theirs],
        "ceiling_sent": [run.sent for run in theirs],
        "ceiling_done": [run.done for run in theirs],
    }


def live(
    testbed: Testbed, receiver: str, traffic: Traffic, seconds: float, warm_up_s: float, viewers: int = 0
) -> Latency:
    """Publish from ``traffic.n_devices`` devices at life speed, for ``seconds`` after a warm-up.

    Args:
        testbed: Broker, folder and model.
        receiver: ``daemon`` and ``durable`` give the latency of labels. ``idle`` gives that of the samples at a
            subscriber, which is the broker's round trip on an otherwise idle machine.
        traffic: Messages that are published.
        seconds: Duration of the measurement.
        warm_up_s: Duration of the warm-up.
        viewers: Number of viewers of the daemon's live page.

    """
    folder = testbed.folder / f"live-{time.monotonic_ns()}"
    folder.mkdir()
    log = folder / "sent.npy"
    listen = (traffic.samples_filters if receiver == "idle" else traffic.labels_filters), folder
    with testbed.under_load(receiver, traffic, lead=0, log=log, listen=listen, viewers=viewers) as running:
        counters = running.counters
        time.sleep(warm_up_s)
        counters[LOAD_LATE_NS] = 0
        since_ns, used_s, viewed = time.time_ns(), cpu_s(running.receiver.pid), counters[VIEWED]
        time.sleep(seconds)
        until_ns, used_s, viewed = (
            time.time_ns(),
            cpu_s(running.receiver.pid) - used_s,
            counters[VIEWED] - viewed,
        )
        load_late_ms = counters[LOAD_LATE_NS] / 1e6
    messages, arrived_ns = received(folder)
    sent_ns = _sent_ns(np.load(log), messages, traffic)
    measured = (sent_ns >= since_ns) & (sent_ns < until_ns)
    return Latency(
        (arrived_ns - sent_ns)[measured] / 1e6,
        counters[SENT],
        counters[DONE],
        counters[DROPPED],
        1e9 * used_s / (until_ns - since_ns),
        load_late_ms,
        viewed / seconds,
    )


def _sent_ns(log: Int64, messages: list[tuple[str, bytes]], traffic: Traffic) -> Int64:
    """Return the time at which the load sent the message that each received message resulted from.

    Args:
        log: Writes of the load, as ``load.main`` logs them.
        messages: Topic and payload of received labels or samples.
        traffic: Messages that were published.

    Returns:
        (n_messages,) wall-clock time in ns; -1 for an empty payload, or if the load did not log the write.

    """
    start_ns, written = int(log[0, 1]), log[1:]
    n, period = traffic.n_devices, packets.period_ns(traffic.n_samples)
    number = []
    for topic, payload in messages:
        if not payload:
            number.append(-1)
            continue
        device = int(topic.split("/")[-2].removeprefix("bench-"))
        due_ns = start_ns + device * period // n
        if topic.endswith("/activity"):
            # The end of a window lies within the time that its last message holds.
            ahead_ns = round(json.loads(payload)["t"] * 1e6) * 1000 - due_ns
            rounds = -(-(ahead_ns - 1_000_000) // period)
        else:
            rounds = round((packets.event_time_ns(payload) + period - due_ns) / period)
        number.append(rounds * n + device)
    numbers = np.array(number, np.int64)
    at = np.searchsorted(written[:, 0], numbers, side="right")  # the write that contained the message
    logged = (numbers >= 0) & (at < len(written))
    return np.where(logged, written[np.minimum(at, len(written) - 1), 1], -1)
