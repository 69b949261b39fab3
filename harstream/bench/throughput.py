"""Throughput: messages and windows per second of a receiver that always has more messages than it can process.

The ceiling is paho-mqtt with the same subscriptions and a callback that only counts (receiver ``paho``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from harstream.bench.counters import CPU_NS, DONE, DROPPED, WINDOWS, SharedCounters
from harstream.bench.processes import cpu_s, wait_until
from harstream.bench.testbed import Testbed, Traffic


@dataclass(frozen=True, slots=True)
class Throughput:
    """Result of one measurement."""

    messages_s: float
    windows_s: float
    cpu_us: float  # processor time of the receiver per message
    broker_cpu_us: float  # processor time of the broker per message
    dropped: int  # messages


def compared(ours: Sequence[Throughput], theirs: Sequence[Throughput]) -> dict[str, list[float]]:
    """Return details of a figure: messages a second, and processor time a message, of both."""
    return {
        "messages_s": [run.messages_s for run in ours],
        "ceiling_messages_s": [run.messages_s for run in theirs],
        "cpu_us_per_message": [run.cpu_us for run in ours],
        "ceiling_cpu_us_per_message": [run.cpu_us for run in theirs],
    }


def saturate(
    testbed: Testbed, receiver: str, traffic: Traffic, seconds: float, *, warm_up_messages: int | None = None
) -> Throughput:
    """Measure a receiver under more messages than it can process, for ``seconds`` after a warm-up.

    The warm-up lasts until ``warm_up_messages`` are done: by default sixteen per device, so that every device has had
    windows.
    """
    if warm_up_messages is None:
        warm_up_messages = 16 * traffic.n_devices
    with testbed.under_load(receiver, traffic) as running:
        counters = running.counters
        what = f"receiver {receiver!r} to process {warm_up_messages} messages"
        wait_until(lambda: counters[DONE] >= warm_up_messages, what, running.receiver, running.load)
        before = _read(counters, testbed)
        time.sleep(seconds)
        # On a busy machine a short measurement may contain no message at all; it then lasts until the next one.
        wait_until(lambda: counters[DONE] > before[1], f"a message from {receiver!r}", running.receiver, running.load)
        after = _read(counters, testbed)
    elapsed, done, windows, cpu, broker_cpu = (b - a for a, b in zip(before, after, strict=True))
    return Throughput(
        messages_s=done / elapsed,
        windows_s=windows / elapsed,
        cpu_us=1e6 * cpu / done,
        broker_cpu_us=1e6 * broker_cpu / done,
        dropped=counters[DROPPED],
    )


def _read(counters: SharedCounters, testbed: Testbed) -> tuple[float, int, int, float, float]:
    """Return the time, messages done, windows, and the processor time in s of receiver and broker."""
    return time.monotonic(), counters[DONE], counters[WINDOWS], counters[CPU_NS] / 1e9, cpu_s(testbed.broker.pid)
