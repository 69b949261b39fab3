"""A durable daemon with two sources that is killed: each gets the labels of a daemon that never was."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import pytest

from harstream.classifier import Classifier
from harstream.datasets.base import Recording

from ..live_streams import expected
from ..serve.sources import interleaved, stream
from ..servers import Client, Mosquitto, Process, wait_until
from .processes import publish_and_kill

SETTINGS = """
broker = "mqtt://127.0.0.1:{port}"
model = "{model}"
state_dir = "{state}"
instance = "x"
http = "off"
events_topic = "off"

[[source]]
name = "belts"

[[source]]
name = "tags"
topic = "tags/{{device}}"
payload = "packed"
labels_topic = "tags/{{device}}/activity"
"""


def labels_of(client: Client) -> set[tuple[str, str, float, str]]:
    """Return source, device, time and label of every label received."""
    found = set()
    for topic, payload, _ in list(client.messages):
        source, device, *rest = topic.split("/")
        if rest == ["activity"] and payload:
            message = json.loads(payload)
            found.add((source, device, message["t"], message["label"]))
    return found


def wanted(source: str, subjects: list[Recording], classifier: Classifier) -> set[tuple[str, str, float, str]]:
    """Return what ``labels_of`` does of a daemon that is never interrupted, to which subjects send under new names."""
    found = set()
    for number, subject in enumerate(subjects):
        for _, t, label, *_ in expected([subject], classifier):
            found.add((source, f"d{number}", round(t * 1e6) / 1e6, label))
    return found


@pytest.mark.slow
def test_killed_at_any_moment_it_loses_changes_and_mixes_up_no_label(
    tmp_path: Path, random_bundle: Path, classifier: Classifier, subjects: list[Recording]
) -> None:
    """The devices of both sources have the same names, and send the signals of different subjects."""
    rng = random.Random(4)
    path = tmp_path / "harstream.toml"
    first, second = subjects[:2], subjects[2:4]
    labels = wanted("wearables", first, classifier) | wanted("tags", second, classifier)
    streams = [stream("belts", subject, f"d{number}") for number, subject in enumerate(first)]
    streams += [stream("tags", subject, f"d{number}") for number, subject in enumerate(second)]
    lines = "allow_anonymous true\nmax_inflight_messages 20\nmax_queued_messages 0"

    def start() -> Process:
        return Process("run", "--config", str(path), folder=tmp_path)

    with Mosquitto(tmp_path, lines=lines) as broker, Client(broker.port) as client:
        path.write_text(SETTINGS.format(port=broker.port, model=random_bundle, state=tmp_path / "state"))
        daemon = publish_and_kill(client, start, interleaved(*streams), rng)
        wait_until(lambda: labels <= labels_of(client), "every label")
        daemon.send(signal.SIGTERM)
        assert daemon.exit_code() == 0
        assert labels_of(client) == labels
