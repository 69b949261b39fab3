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

from harstream.core.batches import Float32
from harstream.datasets import hapt

from ..constants import T0_NS
from ..probe import devices
from ..servers import Client, Mosquitto, Process, in_background, wait_until
from ..wire import shapes
from .test_recorded_sources import extract, walking

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
def sending(port: int, sent: list[tuple[float, str, bytes]]) -> Iterator[None]:
    """Publish messages in real time: time in s from now, topic and payload of each."""

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
        # Their clocks are late by the time that it takes to make the messages.
        sending(mosquitto.port, messages(time.time_ns(), 90.0)),
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


def strap(t0_ns: int, samples: Float32, rate_hz: float) -> list[tuple[float, str, bytes]]:
    """Return the messages of a strap: each sample of the accelerometer in m/s2, ten in deg/s of the gyroscope."""
    sent = []
    for n, row in enumerate(samples.astype(float)):
        payload = devices.dumps(
            {"timestamp": t0_ns // 10**6 + round(1000 * n / rate_hz), "v": (shapes.G * row[:3]).tolist()}
        )
        sent.append(((n + 1) / rate_hz, "w/k1/accelerometer", payload))
    for n in range(0, len(samples) - 9, 10):
        rows = np.degrees(samples[n : n + 10, 3:]).astype(float).round(3).tolist()
        payload = devices.dumps({"timestamp": t0_ns // 10**6 + round(1000 * n / rate_hz), "v": rows})
        sent.append(((n + 10) / rate_hz, "w/k1/gyroscope", payload))
    return sorted(sent, key=lambda message: message[0])


def test_a_daemon_with_the_settings_of_a_pair_labels_a_recorded_walk(mosquitto: Mosquitto, tmp_path: Path) -> None:
    samples, rate_hz = walking(hapt.load(extract("hapt.zip", tmp_path / "hapt", "exp01_user01", "labels.txt")), 30)
    assert len(samples) > 12 * rate_hz
    written = tmp_path / "harstream.toml"
    arguments = ["--broker", mosquitto.address, "--seconds", str(LISTEN_S), "--out", str(written)]
    with (
        sending(mosquitto.port, strap(time.time_ns(), np.tile(samples, (10, 1)), rate_hz)),
        Process("probe", *arguments, "--topic", "w/#", "--model", "waist", folder=tmp_path) as process,
    ):
        assert process.exit_code() == 0, process.err
    assert "its gyroscope" in process.out
    (settings,) = tomllib.loads(written.read_text())["source"]
    assert (settings["acc_topic"], settings["gyro_topic"]) == ("w/{device}/accelerometer", "w/{device}/gyroscope")
    assert (settings["gyro_unit"], settings["model"]) == ("deg/s", "waist")

    flags = ("--config", str(written), "--http", "off", "--instance", "test")
    with Process("run", *flags, folder=tmp_path) as daemon, Client(mosquitto.port) as client:
        daemon.wait_for(" ready: ")
        for _, topic, payload in strap(T0_NS, samples, rate_hz):
            client.publish(topic, payload)
        client.flush()
        n_labels = int(len(samples) / rate_hz / 1.28) - 2
        wait_until(lambda: len(client.labels()) >= n_labels, f"{n_labels} labels")
        labels = client.labels()
    assert {device for device, _ in labels} == {"k1"}
    names = [label["label"] for _, label in labels]
    assert names.count("WALKING") >= 0.8 * len(names), names
    assert {label["model"].partition("@")[0] for _, label in labels} == {"waist"}
