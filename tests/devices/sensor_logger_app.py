"""Stand-in for the app Sensor Logger: publish a simulated walk as it does, over WebSockets at QoS 0.

``python -m tests.devices.sensor_logger_app --host 127.0.0.1 --port 9001 --seconds 20``
"""

from __future__ import annotations

import argparse
import time

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from harstream.simulate.source import sources

from ..wire import shapes

#: Rate of an iPhone's accelerometer, by SAMPLING.md of the app's documentation.
RATE_HZ = 100
#: Batch period of the app.
MESSAGE_S = 0.5
DEVICE = "0e35011f-6bb2-4f16-bc9d-3ba6c9b4f0a5"


def publish_walk(host: str, port: int, seconds: float, start_ns: int, *, realtime: bool) -> None:
    """Publish a walk of ``seconds`` from ``start_ns`` on; with ``realtime``, each message when it is complete."""
    client = paho.Client(CallbackAPIVersion.VERSION2, transport="websockets")
    client.connect(host, port)
    client.loop_start()
    (source,) = sources(1, 3, rate_hz=RATE_HZ, activity="WALKING")
    n = round(RATE_HZ * MESSAGE_S)
    for number in range(round(seconds / MESSAGE_S)):
        if realtime:
            time.sleep(max(0.0, start_ns / 1e9 + (number + 1) * MESSAGE_S - time.time()))
        t_ns = start_ns + round(number * MESSAGE_S * 1e9)
        message = shapes.sensor_logger(t_ns, RATE_HZ, source.read(n), DEVICE)
        client.publish("sensor-logger", message).wait_for_publish()
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9001)
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    publish_walk(given.host, given.port, given.seconds, time.time_ns(), realtime=True)
