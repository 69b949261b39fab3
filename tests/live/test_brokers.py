"""The daemon labels streams through other real brokers than mosquitto, in each version of MQTT that they speak."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from ..real_brokers import Nats, RabbitMq, RealBroker, Rumqttd
from ..servers import Client, Process, wait_until

pytestmark = pytest.mark.slow
BROKERS: dict[str, type[RealBroker]] = {"rabbitmq": RabbitMq, "nats": Nats, "rumqttd": Rumqttd}


@pytest.fixture(scope="module")
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealBroker]:
    made = BROKERS[request.param](tmp_path_factory.mktemp(request.param))
    yield made
    made.close()


def speaks_mqtt_5(port: int) -> bool:
    """Return whether a broker accepts a connection with MQTT 5."""
    reasons: list[int] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.on_connect = lambda _, __, ___, reason, ____: reasons.append(reason.value)
    ended: list[bool] = []
    client.on_disconnect = lambda *_: ended.append(True)
    client.connect("127.0.0.1", port)
    client.loop_start()
    wait_until(lambda: reasons or ended, "an answer")
    client.disconnect()
    client.loop_stop()
    return reasons[:1] == [0]


@pytest.mark.parametrize(
    ("broker", "version"),
    [(name, version) for name in BROKERS for version in ("auto", "3.1.1")] + [("rumqttd", "5")],
    indirect=["broker"],
)
def test_a_stream_through_the_broker_is_labelled(broker, version, tmp_path, random_bundle):
    port = getattr(broker, "port_5", broker.port) if version != "3.1.1" else broker.port
    expected = ("5" if speaks_mqtt_5(port) else "3.1.1") if version == "auto" else version
    flags = ["--broker", f"mqtt://127.0.0.1:{port}", "--mqtt-version", version, "--model", str(random_bundle)]
    with Process("run", *flags, "--http", "off", "--instance", "ward", folder=tmp_path) as daemon:
        daemon.wait_for(" ready: ")
        assert f"(MQTT {expected})" in daemon.err
        with Client(broker.port, "wearables/+/activity") as client:
            load = [
                "--broker",
                f"mqtt://127.0.0.1:{broker.port}",
                "--devices",
                "3",
                "--duration",
                "10",
                "--speed",
                "10",
            ]
            with Process("simulate", *load, folder=tmp_path) as simulate:
                assert simulate.exit_code() == 0, simulate.err
            # 500 samples make six windows of 128, one every 64; jitter of the stamps may take the last.
            devices = ("sim-0001", "sim-0002", "sim-0003")
            wait_until(
                lambda: all([device for device, _ in client.labels()].count(each) >= 5 for each in devices),
                "the labels of all devices",
            )
        with Client(broker.port, "wearables/sim-0001/activity") as late:
            wait_until(lambda: late.messages, "the retained label")
            topic, payload, _ = late.messages[0]
            assert json.loads(payload)["label"]
            assert topic == "wearables/sim-0001/activity"
        daemon.send(signal.SIGTERM)
        assert daemon.exit_code() == 0, daemon.err
