"""`harstream probe` on unlike devices at a real broker, and a daemon with the settings that it wrote."""

from __future__ import annotations

import json
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..constants import T0_NS
from ..probe import devices
from ..servers import Client, Mosquitto, Process, in_background, wait_until
from ..wire import shapes

LISTEN_S, WALK_S = 6.0, 14.0
#: Device: shape, topic, rate, samples a message.
FLEET: dict[str, tuple[devices.Shape, str, float, int]] = {
    "esp32-4f2a": (devices.mpu_counts, "home/esp32-4f2a/mpu", 50.0, 1),
    "watch-7": (devices.thingsboard, "v1/devices/watch-7/telemetry", 25.0, 1),
    "0e35011f": (shapes.sensor_logger, "sensor-logger", 100.0, 25),
    "b1": (devices.line, "boards/b1", 50.0, 1),
    "belt-3": (devices.packed_rows, "gateway/motion", 50.0, 25),
    "p-12": (shapes.wrapped_triples, "lab/imu", 50.0, 25),
    "k1": (devices.acc_alone, "w/k1/accelerometer", 50.0, 1),
}
#: Topics beside those of the fleet, with what is published there.
OTHERS = {"w/k1/gyroscope": devices.gyro_alone, "home/temperature": devices.constant(b"21.5")}


def messages(t0_ns: int, seconds: float) -> list[tuple[float, str, bytes]]:
    """Return time in s from the start, topic and payload of all messages, in order of time."""
    sent = []
    parts = [*FLEET.items(), *(("k1", (shape, topic, 50.0, 1)) for topic, shape in OTHERS.items())]
    for seed, (device, (shape, topic, rate_hz, per_message)) in enumerate(parts):
        samples = devices.walk(seed, rate_hz, seconds)
        for first in range(0, len(samples) - per_message + 1, per_message):
            t_ns = t0_ns + round(first * 1e9 / rate_hz)
            payload = shape(t_ns, rate_hz, samples[first : first + per_message], device)
            sent.append(((first + per_message) / rate_hz, topic, payload))
    return sorted(sent, key=lambda message: message[0])


@contextmanager
def sending(port: int) -> Iterator[None]:
    """Let the fleet send in real time. Their clocks are late by the time that it takes to make the messages."""
    sent = messages(time.time_ns(), 90.0)

    def send(stop: threading.Event) -> None:
        with Client(port, "nothing") as client:
            start_s = time.monotonic()
            for at_s, topic, payload in sent:
                if stop.wait(max(0.0, start_s + at_s - time.monotonic())):
                    return
                client.publish(topic, payload, qos=0)

    with in_background(send):
        yield


def test_a_daemon_with_the_settings_that_were_written_labels_the_fleet(mosquitto: Mosquitto, tmp_path: Path) -> None:
    written = tmp_path / "harstream.toml"
    arguments = ["--broker", mosquitto.address, "--seconds", str(LISTEN_S), "--out", str(written)]
    figures_path = tmp_path / "figures.json"
    with (
        sending(mosquitto.port),
        Process("probe", *arguments, "--json", str(figures_path), folder=tmp_path) as process,
    ):
        assert process.exit_code() == 0, process.err
    figures = json.loads(figures_path.read_text())
    assert {device["device"] for source in figures["sources"] for device in source["devices"]} == set(FLEET)
    assert all(source["works"] for source in figures["sources"])
    assert [other["topics"] for other in figures["others"]] == [["home/temperature"]]
    assert "home/temperature" in process.out

    settings = tomllib.loads(written.read_text())
    assert settings["broker"] == f"mqtt://{mosquitto.address}"
    assert len(settings["source"]) == len(FLEET)
    flags = ("--config", str(written), "--http", "off", "--instance", "test")
    with Process("run", *flags, folder=tmp_path) as daemon, Client(mosquitto.port) as client:
        daemon.wait_for(" ready: ")
        for _, topic, payload in messages(T0_NS, WALK_S):
            client.publish(topic, payload)
        client.flush()
        labels: dict[str, list[dict[str, Any]]] = {}

        def all_labelled() -> bool:
            labels.clear()
            for topic, payload, _ in list(client.messages):
                if topic.endswith("/activity") and payload:
                    labels.setdefault(topic.split("/")[-2], []).append(json.loads(payload))
            return set(labels) == set(FLEET) and all(len(one) >= (WALK_S - 4) / 1.28 - 1 for one in labels.values())

        wait_until(all_labelled, "labels of all devices")
    for device, one in labels.items():
        names = [label["label"] for label in one]
        assert names.count("WALKING") >= 0.8 * len(names), (device, names)
        assert np.diff([label["t"] for label in one]).min() > 0
