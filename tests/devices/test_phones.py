"""Phone apps with the broker and the options of docs/devices: a stand-in for each publishes a walk as the app does."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..constants import T0_NS
from ..servers import Client, Mosquitto, free_port
from .sensor_logger_app import DEVICE, publish_walk
from .walks import assert_walking, labels_of, walk

DEVICES = Path(__file__).parents[2] / "deploy" / "devices"
SECONDS = 20
END_S = T0_NS / 1e9 + SECONDS


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Start a broker with deploy/devices/mosquitto.conf on free ports; return those for MQTT and for WebSockets."""
    lines = (DEVICES / "mosquitto.conf").read_text(encoding="utf-8")
    for port in (1883, 9001):
        assert f"listener {port}\n" in lines
    websockets = free_port()
    lines = lines.replace("listener 1883\n", "").replace("listener 9001\n", f"listener {websockets} 127.0.0.1\n")
    with Mosquitto(tmp_path, lines=lines) as mosquitto:
        yield mosquitto.port, websockets


@pytest.mark.parametrize("payload", ["sensor-logger", "auto"])
def test_a_walk_with_sensor_logger_over_websockets(broker: tuple[int, int], payload: str) -> None:
    port, websockets = broker

    def publish(_: Client) -> None:
        publish_walk("127.0.0.1", websockets, SECONDS, T0_NS, realtime=False)

    assert_walking(labels_of(port, publish, END_S, DEVICE, payload=payload, topic="sensor-logger"))


def test_a_walk_with_the_experiment_for_phyphox(broker: tuple[int, int]) -> None:
    """The messages are made of what the file sends, by the rules of the app's documentation."""
    experiment = ET.parse(DEVICES / "phyphox" / "harstream.phyphox").getroot()
    connection = experiment.find("network/connection")
    sensor = experiment.find("input/sensor")
    assert connection is not None
    assert sensor is not None
    component_of = {output.text: output.get("component") for output in sensor.findall("output")}
    assert set(component_of) == {container.text for container in experiment.findall("data-containers/container")}
    rate_hz, interval_s = float(sensor.get("rate", "")), float(connection.get("interval", ""))
    assert (connection.get("service"), sensor.get("type"), rate_hz, interval_s) == (
        "mqtt/json",
        "accelerometer",
        50.0,
        0.5,
    )
    samples = walk(rate_hz, SECONDS)[:, :3].astype(float) * 9.80665
    n = round(rate_hz * interval_s)

    def sent(first: int, send: ET.Element) -> Any:
        if send.get("type") == "time":
            return {"events": [{"event": "START", "experimentTime": 0.0, "systemTime": T0_NS / 1e9}]}
        if send.get("type") == "meta":
            assert send.text == "uniqueID"
            return "0ad1f1c3"
        assert send.get("keep") == "false"  # else the app sends samples again
        component = component_of[send.text]
        if component == "t":
            return [i / rate_hz for i in range(first, first + n)]
        return samples[first : first + n, "xyz".index(str(component))].tolist()

    def publish(client: Client) -> None:
        for first in range(0, len(samples), n):
            message = {send.get("id"): sent(first, send) for send in connection.findall("send")}
            client.publish(connection.get("sendTopic", ""), json.dumps(message).encode())

    topic = connection.get("sendTopic", "")
    assert_walking(labels_of(broker[0], publish, END_S, "0ad1f1c3", payload="phyphox", topic=topic))
