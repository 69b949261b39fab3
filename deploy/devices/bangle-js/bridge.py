"""Publish what a Bangle.js with imu.js sends over Bluetooth: python bridge.py DEVICE --broker HOST.

It needs ``pip install bleak paho-mqtt``, and a computer with Bluetooth. docs/devices/bangle-js.md says how to use it.
"""

import argparse
import asyncio
import json
from collections.abc import Iterator

#: Characteristic of the Nordic UART service by which the watch sends.
FROM_WATCH = "6e400003-b5a3-f393-e0a9-e50e24dcca9e"


class Lines:
    """Messages from a stream of bytes that comes in pieces, as Bluetooth delivers it."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the messages that ``piece`` completes: lines that hold JSON, without the prompt of the console."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            message = line[max(line.find(b"{"), 0) :].strip()
            try:
                if "acc" in json.loads(message):
                    yield message
            except ValueError:
                continue  # a prompt, or a line of which a part is lost


async def listen(device: str, name: str, host: str, port: int) -> None:
    """Publish the lines of the watch whose name begins with ``name``; wait for it whenever it is away."""
    import paho.mqtt.client as mqtt
    from bleak import BleakClient, BleakScanner
    from bleak.exc import BleakError

    publisher = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    publisher.connect(host, port)
    publisher.loop_start()
    while True:
        watch = await BleakScanner.find_device_by_filter(lambda found, _: (found.name or "").startswith(name))
        if watch is None:
            print(f"no {name} in reach: is it connected elsewhere?")
            continue
        lines, gone = Lines(), asyncio.Event()

        def publish(_: object, piece: bytearray, lines: Lines = lines) -> None:
            for message in lines.feed(bytes(piece)):
                publisher.publish(f"wearables/{device}/imu", message, qos=1)

        try:
            async with BleakClient(watch, disconnected_callback=lambda _, gone=gone: gone.set()) as client:
                await client.start_notify(FROM_WATCH, publish)
                print(f"connected to {watch.name}")
                await gone.wait()
        except (BleakError, TimeoutError) as error:
            print(f"{watch.name}: {error}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("device", help="name of the device on the broker, such as bangle-1")
    parser.add_argument("--name", default="Bangle.js", help="beginning of the watch's Bluetooth name")
    parser.add_argument("--broker", default="127.0.0.1", help="host of the broker")
    parser.add_argument("--port", type=int, default=1883)
    given = parser.parse_args()
    asyncio.run(listen(given.device, given.name, given.broker, given.port))
