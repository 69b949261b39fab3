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

from ..home_assistant import HomeAssistantServer
from ..live_streams import messages
from ..servers import Client, Mosquitto, Process, in_background, wait_until

IDLE_S = 20
ODD = 'Anna\'s "watch" {{1}} ü'


@contextmanager
def publishing(port: int, subjects, *devices: str) -> Iterator[None]:
    """Publish the samples of the first subject again and again, at the present time, as those of some devices."""
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
                    for device in devices:
                        client.publish(f"wearables/{device}/imu", json.dumps({**message, "t": at_s}).encode())

    with in_background(publish):
        yield


@pytest.mark.slow
def test_home_assistant_shows_devices_while_they_send_and_the_daemon_lives(tmp_path, random_bundle, bundle, subjects):
    (tmp_path / "hass").mkdir()
    with Mosquitto(tmp_path) as broker, HomeAssistantServer(tmp_path / "hass", broker.port) as home:

        def daemon() -> Process:
            flags = ["--homeassistant", "--idle-s", str(IDLE_S), "--instance", "test", "--http", "off"]
            return Process("run", "--broker", broker.address, "--model", str(random_bundle), *flags, folder=tmp_path)

        def names(*devices: str) -> set[str]:
            return {
                f"sensor.{device}_{sensor}" for device in devices for sensor in ("activity", "confidence", "last_seen")
            }

        def states() -> list[str]:
            return [sensor["state"] for _, sensor in sorted(home.sensors().items())]

        started = datetime.now(UTC)
        with daemon() as process:
            process.wait_for(" ready: ")
            with publishing(broker.port, subjects, "phone1", ODD):
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
        with daemon() as process, publishing(broker.port, subjects, "phone1"):
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
