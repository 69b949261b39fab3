"""What a sample costs when there are few devices, and when there are many: flat is the goal."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from harstream.bench import packets
from harstream.classifier import Classifier
from harstream.config import RunConfig
from harstream.publish import ENCODERS, SAMPLES_PER_MESSAGE
from harstream.serve.daemon import MAX_TAKE, Daemon
from harstream.simulate.source import sources
from harstream.wire.samples import Message

_START_NS = 1_763_668_800_000_000_000
#: Messages of each device before it counts, and at least so many takes that do.
_WARM_UP, _TAKES = 12, 24


def us_per_sample(classifier: Classifier, n_devices: int) -> float:
    """Processor time from message to label, without a broker, in µs: full takes of packed messages."""
    daemon = Daemon(RunConfig(broker="nowhere", max_devices=n_devices), classifier, clock=lambda: _START_NS / 1e9)
    spent_ns = samples = takes = 0
    for take, warm in _takes(n_devices):
        began_ns = time.process_time_ns()
        windows = daemon.take(take)
        if len(windows):
            daemon.classify(windows)
        if warm:
            spent_ns += time.process_time_ns() - began_ns
            samples += SAMPLES_PER_MESSAGE * len(take)
            takes += 1
        if takes >= _TAKES and takes * MAX_TAKE >= 2 * n_devices:
            break
    return spent_ns / 1e3 / samples


def _takes(n_devices: int) -> Iterator[tuple[list[Message], bool]]:
    """Half a second of every device after the other, and whether all are warm."""
    rows = [source.take(SAMPLES_PER_MESSAGE) for source in sources(16, seed=4)]
    topics = [f"wearables/{packets.device_name(i)}/imu" for i in range(n_devices)]
    take: list[Message] = []
    number = 0
    while True:
        encoded = [ENCODERS["packed"](_START_NS + number * packets.PERIOD_NS, packets.RATE_HZ, block) for block in rows]
        for i in np.flatnonzero(np.arange(n_devices) % packets.STARTS <= number).tolist():  # not all began together
            take.append(Message(topics[i], encoded[i % len(encoded)], _START_NS / 1e9))
            if len(take) == MAX_TAKE:
                yield take, number > _WARM_UP
                take = []
        number += 1
