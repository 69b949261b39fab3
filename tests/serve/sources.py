"""Three kinds of devices, and a daemon for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from harstream.classifier import Classifier
from harstream.config import RunConfig
from harstream.datasets.base import Recording
from harstream.publish import ENCODERS
from harstream.serve.daemon import Daemon
from harstream.serve.pipeline import Publication
from harstream.wire.decoder import Message

from ..constants import T0_NS
from ..live_streams import PER_MESSAGE, Label
from ..servers import Client
from .daemons import make_config

G = 9.80665
#: Canonical messages in g; boards with names of their own in m/s2; packed ones.
TABLES: tuple[dict[str, Any], ...] = (
    {"name": "belts", "acc_unit": "g"},
    {
        "name": "boards",
        "topic": "boards/{device}",
        "payload": "fields",
        "acc_unit": "m/s2",
        "fields": {
            "t": "ts",
            "samples": "data",
            "acc": ["accX", "accY", "accZ"],
            "gyro": ["gyrX", "gyrY", "gyrZ"],
            "rate_hz": "hz",
        },
        "labels_topic": "boards/{device}/activity",
        "events_topic": "boards/{device}/event",
    },
    {
        "name": "tags",
        "topic": "tags/{device}",
        "payload": "packed",
        "labels_topic": "tags/{device}/activity",
        "events_topic": "off",
    },
)
#: Topic of the labels of each source, without the device.
LABELS_OF = {"belts": "wearables", "boards": "boards", "tags": "tags"}


def sources_config(port: int = 0, tables: Sequence[dict[str, Any]] = TABLES, **settings: Any) -> RunConfig:
    return make_config(port, source=tuple(tables), **settings)


def board_message(t_ns: int, rate_hz: float, samples: np.ndarray) -> bytes:
    names = ("accX", "accY", "accZ", "gyrX", "gyrY", "gyrZ")
    rows = samples.astype(np.float64) * [G, G, G, 1, 1, 1]
    data = [dict(zip(names, row, strict=True)) for row in rows.tolist()]
    return json.dumps({"ts": t_ns // 10**6, "hz": rate_hz, "data": data}).encode()


def stream(source: str, recording: Recording, device: str = "") -> list[tuple[str, bytes]]:
    """Return the messages of a recording as a device of a source sends them."""
    encode = {"belts": ENCODERS["json"], "boards": board_message, "tags": ENCODERS["packed"]}[source]
    topic = {"belts": "wearables/{}/imu", "boards": "boards/{}", "tags": "tags/{}"}[source]
    sent = []
    for first in range(0, len(recording.samples), PER_MESSAGE):
        t_ns = T0_NS + round(first * 1e9 / recording.rate_hz)
        samples = recording.samples[first : first + PER_MESSAGE]
        sent.append((topic.format(device or recording.name), encode(t_ns, recording.rate_hz, samples)))
    return sent


def interleaved(*streams: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    return [message for at_once in zip(*streams, strict=True) for message in at_once]


def labels_of(client: Client, source: str) -> list[tuple[str, dict[str, Any]]]:
    """Return device and message of every label of a source that a client has received."""
    return [
        (topic.split("/")[1], json.loads(payload))
        for topic, payload, _ in list(client.messages)
        if topic.startswith(f"{LABELS_OF[source]}/") and topic.endswith("/activity") and payload
    ]


def renamed(labels: Sequence[Label], device: str) -> list[Label]:
    return [(device, *label[1:]) for label in labels]


class Publishing(Daemon):
    """Daemon without a broker, which keeps what it publishes."""

    published: list[Publication]

    def __init__(self, config: RunConfig, *classifiers: Classifier, **clocks: Any) -> None:
        self.published = []
        super().__init__(config, *classifiers, **clocks)

    def publish(self, messages: Sequence[Publication], *, retain: bool) -> int:
        self.published += messages
        return len(messages)

    def feed(self, sent: Sequence[tuple[str, bytes]]) -> None:
        """Label messages now."""
        self.labelling.label([self.make_windows([Message(topic, payload, T0_NS / 1e9) for topic, payload in sent])])
