"""Growth: processor time per sample, from message to label, with few and with many devices.

The goal is a cost that does not depend on the number of devices. No broker is involved: full batches of packed messages
go straight into the daemon.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from harstream.bench import packets
from harstream.classifier import Classifier
from harstream.config import RunConfig
from harstream.publish import ENCODERS, SAMPLES_PER_MESSAGE
from harstream.serve.daemon import MAX_BATCH_MESSAGES, Daemon
from harstream.simulate.source import sources
from harstream.wire.decoder import Message

_START_NS = 1_763_668_800_000_000_000
#: Messages of each device before the measurement starts, and the smallest number of batches that are measured.
_WARM_UP, _BATCHES = 12, 24


def us_per_sample(classifier: Classifier, n_devices: int) -> float:
    """Return the processor time per sample in µs."""
    daemon = Daemon(RunConfig(broker="nowhere", max_devices=n_devices), classifier, clock=lambda: _START_NS / 1e9)
    spent_ns = samples = batches = 0
    for messages, warm in _batches(n_devices):
        began_ns = time.process_time_ns()
        due = daemon.make_windows(messages)
        if due.parts:
            daemon.labelling.label([due])
        if warm:
            spent_ns += time.process_time_ns() - began_ns
            samples += SAMPLES_PER_MESSAGE * len(messages)
            batches += 1
        if batches >= _BATCHES and batches * MAX_BATCH_MESSAGES >= 2 * n_devices:
            break
    return spent_ns / 1e3 / samples


def _batches(n_devices: int) -> Iterator[tuple[list[Message], bool]]:
    """Yield full batches of messages, and whether the warm-up is over; devices send one after another."""
    rows = [source.read(SAMPLES_PER_MESSAGE) for source in sources(16, seed=4)]
    topics = [f"wearables/{packets.device_name(i)}/imu" for i in range(n_devices)]
    batch: list[Message] = []
    number = 0
    while True:
        encoded = [ENCODERS["packed"](_START_NS + number * packets.PERIOD_NS, packets.RATE_HZ, block) for block in rows]
        started = np.arange(n_devices) % packets.STARTS <= number  # devices start at different rounds
        for i in np.flatnonzero(started).tolist():
            batch.append(Message(topics[i], encoded[i % len(encoded)], _START_NS / 1e9))
            if len(batch) == MAX_BATCH_MESSAGES:
                yield batch, number > _WARM_UP
                batch = []
        number += 1
