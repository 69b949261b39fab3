"""A real Home Assistant shows the labels, and the daemon's life and death."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from harstream import bundle as bundles
from harstream import shipped

from ..home_assistant import HomeAssistantServer
from ..live_streams import messages
from ..servers import Client, Mosquitto, Process, in_background, wait_until

IDLE_S = 20
ODD = 'Anna\'s "watch" {{1}} ü'
#: Topic of the samples of a device.
PHONE = "wearables/phone1/imu"
#: Two sources with a device of one name each.
TAG = "tags/phone1"
SOURCES = """
[[source]]
name = "belts"
model = "{model}"

[[source]]
name = "tags"
topic = "tags/{{device}}"
model = "phone"
labels_topic = "tags/{{device}}/activity"
events_topic = "off"
"""


@contextmanager
def publishing(port: int, subjects, *topics: str) -> Iterator[None]:
    """Publish the samples of the first subject again and again, at the present time, on the topics of some devices."""
    contents = [content for topic, content in messages(subjects[:1], t0_ns=0)]

    def publish(stop: threading.Event) -> None:
        with Client(port, "none") as client:
            while not stop.is_set():
                start_s = time.time()
                for content in contents:
                    message = json.loads(content)
                    at_s = start_s + message["t"]
                    if stop.wait(max(0.0, at_s + 0.5 - time.time())):
                        return
                    for topic in topics:
                        client.publish(topic, json.dumps({**message, "t": at_s}).encode())

    with in_background(publish):
        yield


def names(*devices: str, end: str = "") -> set[str]:
    """Return the ids of the entities of devices."""
    return {
        f"sensor.{device}_{sensor}{end}" for device in devices for sensor in ("activity", "confidence", "last_seen")
    }


@pytest.mark.slow
def test_home_assistant_shows_devices_while_they_send_and_the_daemon_lives(tmp_path, random_bundle, bundle, subjects):
    (tmp_path / "hass").mkdir()
    with Mosquitto(tmp_path) as broker, HomeAssistantServer(tmp_path / "hass", broker.port) as home:

        def daemon() -> Process:
            flags = ["--homeassistant", "--idle-s", str(IDLE_S), "--instance", "test", "--http", "off"]
            return Process("run", "--broker", broker.address, "--model", str(random_bundle), *flags, folder=tmp_path)

        def states() -> list[str]:
            return [sensor["state"] for _, sensor in sorted(home.sensors().items())]

        started = datetime.now(UTC)
        with daemon() as process:
            process.wait_for(" ready: ")
            with publishing(broker.port, subjects, PHONE, f"wearables/{ODD}/imu"):
                wait_until(lambda: home.sensors().keys() == names("phone1", "anna_s_watch_1_u"), "all sensors")
                wait_until(lambda: not {"unknown", "unavailable"} & set(states()), "their states")
                sensors = home.sensors()
                activity = sensors["sensor.phone1_activity"]
                assert activity["state"] in bundle.published_labels
                assert activity["attributes"]["device_class"] == "enum"
                assert activity["attributes"]["friendly_name"] == "phone1 Activity"
                # Home Assistant knows the options of an enum of MQTT since 2024.11.
                assert activity["attributes"].get("options", [*bundle.published_labels]) == [*bundle.published_labels]
                confidence = sensors["sensor.phone1_confidence"]
                assert 0 <= int(confidence["state"]) <= 100
                assert confidence["attributes"]["unit_of_measurement"] == "%"
                seen = datetime.fromisoformat(sensors["sensor.phone1_last_seen"]["state"])
                assert started - timedelta(minutes=1) <= seen <= datetime.now(UTC)
                assert math.isclose(seen.timestamp() % 60, 0)
                assert sensors["sensor.anna_s_watch_1_u_activity"]["attributes"]["friendly_name"] == f"{ODD} Activity"
                process.send(signal.SIGKILL)
                wait_until(lambda: set(states()) == {"unavailable"}, "the end of the daemon")
        with daemon() as process, publishing(broker.port, subjects, PHONE):
            wait_until(lambda: home.sensors().keys() == names("phone1"), "the end of the device that is gone")
            wait_until(lambda: not {"unknown", "unavailable"} & set(states()), "the states of the other one")
            home.restart()
            wait_until(lambda: home.sensors().keys() == names("phone1"), "the sensors after a restart")
            wait_until(lambda: not {"unknown", "unavailable"} & set(states()), "their states")
            process.send(signal.SIGTERM)
            assert process.exit_code() == 0
            wait_until(lambda: set(states()) == {"unavailable"}, "the stop of the daemon")
        with daemon() as process:
            wait_until(lambda: not home.sensors(), "the end of the last device")
            assert process.running()
        assert "template" not in home.log.lower()
        assert "harstream" not in home.log


@pytest.mark.slow
def test_home_assistant_shows_devices_of_one_name_from_two_sources(tmp_path, random_bundle, bundle, subjects):
    """Home Assistant numbers the entities of the second device; each shows the labels of its own model."""
    (tmp_path / "hass").mkdir()
    settings = tmp_path / "harstream.toml"
    settings.write_text(SOURCES.format(model=random_bundle))
    labels = {"": {*bundle.published_labels}, "_2": {*bundles.load(shipped.find("phone")).published_labels}}
    flags = ["--config", str(settings), "--homeassistant", "--idle-s", str(IDLE_S), "--instance", "test"]
    with Mosquitto(tmp_path) as broker, HomeAssistantServer(tmp_path / "hass", broker.port) as home:
        with Process("run", "--broker", broker.address, *flags, "--http", "off", folder=tmp_path) as process:
            process.wait_for(" ready: ")
            with publishing(broker.port, subjects, PHONE):
                wait_until(lambda: home.sensors().keys() == names("phone1"), "the sensors of the one")
                with publishing(broker.port, subjects, TAG):
                    both = names("phone1") | names("phone1", end="_2")
                    wait_until(lambda: home.sensors().keys() == both, "the sensors of both")
                    shown: dict[str, set[str]] = {"": set(), "_2": set()}

                    def see() -> bool:
                        for end, states in shown.items():
                            states.add(home.sensors()[f"sensor.phone1_activity{end}"]["state"])
                        return all(states & labels[end] for end, states in shown.items())

                    wait_until(see, "labels of both")
                    assert all(states <= labels[end] | {"unknown", "unavailable"} for end, states in shown.items())
                wait_until(lambda: home.sensors().keys() == names("phone1"), "the end of the second one")
                assert home.sensors()["sensor.phone1_activity"]["state"] in labels[""]
            process.send(signal.SIGTERM)
            assert process.exit_code() == 0
        assert "template" not in home.log.lower()
        assert "harstream" not in home.log
