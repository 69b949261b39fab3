"""Broker, daemon and wearables for the live page."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Self

import numpy as np

from harstream.wire.canonical import encode_json

from ..servers import Client, Mosquitto, Process, free_port

#: Interval of the messages of the device without gravity.
_EVERY_S = 0.5


class Fleet:
    """Broker, daemon, simulated wearables, and `belt-7`, whose acceleration has no gravity."""

    def __init__(
        self, folder: Path, devices: int = 6, pace: float = 60.0, model: str = "waist", payload: str = "json"
    ) -> None:
        self.folder, self.devices, self.pace, self.model, self.payload = folder, devices, pace, model, payload
        self.broker = Mosquitto(folder)
        self.http = f"127.0.0.1:{free_port()}"
        self._processes: list[Process] = []
        self._stop = threading.Event()
        self._belt = threading.Thread(target=self._send_without_gravity)

    @property
    def url(self) -> str:
        return f"http://{self.http}/"

    def start_daemon(self, *arguments: str) -> Process:
        """Start the daemon, and wait until it is ready."""
        daemon = Process(
            "run", "--broker", self.broker.address, "--http", self.http, "--model", self.model, *arguments,
            folder=self.folder,
        )  # fmt: skip
        self._processes.append(daemon)
        daemon.wait_for(" ready: ")
        return daemon

    def simulate(self, *arguments: str) -> Process:
        """Start simulated wearables."""
        simulator = Process(
            "simulate", "--broker", self.broker.address, "--devices", str(self.devices), "--pace", str(self.pace),
            "--payload", self.payload, *arguments, folder=self.folder,
        )  # fmt: skip
        self._processes.append(simulator)
        return simulator

    def _send_without_gravity(self) -> None:
        rng, sent = np.random.default_rng(0), 0
        with Client(self.broker.port, "none") as client:
            while not self._stop.wait(_EVERY_S):
                samples = rng.normal(scale=0.2, size=(25, 6)).astype(np.float32)
                client.publish("wearables/belt-7/imu", encode_json(10**18 + sent * 500_000_000, 50.0, samples), qos=0)
                sent += 1

    def __enter__(self) -> Self:
        self.broker.start()
        self.daemon = self.start_daemon()
        self.simulator = self.simulate()
        self._belt.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._belt.join()
        for process in reversed(self._processes):
            process.__exit__()
        self.broker.stop()
