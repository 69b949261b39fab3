"""Several kinds of devices in one daemon, each with the bundle for its place: a walk of each is labelled WALKING."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harstream.core.batches import Float32
from harstream.publish import ENCODERS
from harstream.simulate.source import sources
from harstream.wire.canonical import encode_json

from ..constants import T0_NS
from ..servers import Client, Mosquitto, Process, http_get, metric, wait_until
from ..test_documents import block, page
from ..wire import shapes

SECONDS = 14
#: Further sources, which share the model of the first one. The last has a topic for each sensor.
OTHERS = """
[[source]]
name = "tags"
topic = "tags/{device}"
payload = "packed"
model = "waist"
labels_topic = "tags/{device}/activity"
events_topic = "off"

[[source]]
name = "straps"
acc_topic = "w/{device}/accelerometer"
gyro_topic = "w/{device}/gyroscope"
payload = "fields"
fields = { t = "timestamp", t_unit = "ms", acc = "values", gyro = "values" }
model = "waist"
labels_topic = "w/{device}/activity"
events_topic = "off"
"""
#: Source: topic of its device "a", that of its labels, rate in Hz, samples in a message.
SOURCES = {
    "belts": ("wearables/a/imu", "wearables/a/activity", 50.0, 25),
    "boards": ("imu/a", "imu/a/activity", 50.0, 1),
    "phones": ("sensor-logger", "phones/a/activity", 100.0, 50),
    "tags": ("tags/a", "tags/a/activity", 50.0, 25),
    "straps": ("w/a/accelerometer", "w/a/activity", 50.0, 1),
}
MODELS = {"belts": "waist", "boards": "phone", "phones": "phone", "tags": "waist", "straps": "waist"}


def encode(source: str, t_ns: int, rate_hz: float, samples: Float32) -> bytes:
    """Return a message of the device "a" of a source."""
    if source == "belts":
        return encode_json(t_ns, rate_hz, samples)
    if source == "tags":
        return ENCODERS["packed"](t_ns, rate_hz, samples)
    if source == "phones":
        return shapes.sensor_logger(t_ns, rate_hz, samples, "a", ios=True)
    if source == "straps":
        return json.dumps({"timestamp": t_ns // 10**6, "values": samples[0, :3].astype(float).tolist()}).encode()
    (row,) = (samples.astype(float) * [shapes.G, shapes.G, shapes.G, 1, 1, 1]).tolist()
    names = ("accX", "accY", "accZ", "gycX", "gycY", "gycZ")
    return json.dumps({**dict(zip(names, row, strict=True)), "timestamp": t_ns // 10**6}).encode()


def walk(source: str, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield the topic and payload of each message of a walk."""
    topic, _, rate_hz, n = SOURCES[source]
    (walker,) = sources(1, seed, rate_hz=rate_hz, activity="WALKING")
    samples = walker.read(round(SECONDS * rate_hz))
    for first in range(0, len(samples), n):
        t_ns, part = T0_NS + round(first * 1e9 / rate_hz), samples[first : first + n]
        yield topic, encode(source, t_ns, rate_hz, part)
        if source == "straps":
            yield topic.replace("accelerometer", "gyroscope"), encode(source, t_ns, rate_hz, part[:, 3:])


def labels_of(client: Client, source: str) -> list[dict[str, Any]]:
    return [json.loads(payload) for payload in client.payloads(SOURCES[source][1])]


@pytest.fixture
def settings(mosquitto: Mosquitto, tmp_path: Path) -> Path:
    """Write the settings of docs/how-to/sources.md, and further sources."""
    text = block(page("how-to/sources.md"), "sources")
    path = tmp_path / "harstream.toml"
    path.write_text(text.replace("mqtt://localhost", f"mqtt://127.0.0.1:{mosquitto.port}") + OTHERS)
    return path


def test_one_daemon_serves_five_kinds_of_devices_with_two_models(
    mosquitto: Mosquitto, settings: Path, tmp_path: Path
) -> None:
    flags = ("--config", str(settings), "--http", "127.0.0.1:0", "--instance", "test")
    with Process("run", *flags, folder=tmp_path) as process, Client(mosquitto.port) as client:
        process.wait_for(" ready: ")
        for seed, source in enumerate(SOURCES):
            for topic, payload in walk(source, seed + 3):
                client.publish(topic, payload)
        client.flush()
        end_s = T0_NS / 1e9 + SECONDS  # the last label is of a window that ends at most a stride before
        for source in SOURCES:
            wait_until(
                lambda source=source: labels_of(client, source) and labels_of(client, source)[-1]["t"] > end_s - 2,  # type: ignore[misc]
                f"the last label of {source}: {process.err}",
            )
        for source, model in MODELS.items():
            names = [label["label"] for label in labels_of(client, source)]
            assert names.count("WALKING") >= 0.8 * len(names), (source, names)
            assert {label["model"].partition("@")[0] for label in labels_of(client, source)} == {model}
        address = re.search(r"http (http://\S+)", process.err)
        assert address
        text = http_get(f"{address[1]}/metrics")[1]
        for source in SOURCES:
            n_labels = len(labels_of(client, source))
            walking = metric(text, f'harstream_windows_classified_total{{label="WALKING",source="{source}"}}')
            assert 0.8 * n_labels <= walking <= n_labels
            assert metric(text, f'harstream_devices{{source="{source}"}}') == 1
        devices = json.loads(http_get(f"{address[1]}/api/devices")[1])["devices"]
        assert [(device["source"], device["device"], device["problem"]) for device in devices] == [
            (source, "a", None) for source in SOURCES
        ]
        # A reload reads the tables again, and says what it does not take.
        settings.write_text(settings.read_text().replace('acc_unit = "m/s2"', 'acc_unit = "mg"'))
        process.send(signal.SIGHUP)
        process.wait_for(
            "restart harstream to apply the changed settings: source boards: acc-unit; subscriptions and windows in "
            "progress depend on those of sources"
        )
        process.wait_for("SIGHUP: reloaded, the model is now waist@")
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0
