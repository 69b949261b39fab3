"""The demo: a broker, simulated wearables and the daemon, watched live. Everything ends with it."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass

from harstream.config import DEFAULT_HTTP, DEFAULT_LABELS_TOPIC, DEFAULT_TOPIC
from harstream.embedded import EmbeddedBroker, free_port
from harstream.errors import HarstreamError
from harstream.mqtt.urls import BrokerSettings, BrokerUrl
from harstream.signals import on_stop
from harstream.watch import Watch
from harstream.wire.topics import TopicTemplate

READY_S = 60.0
STOP_S = 15.0
ROWS = 20
#: The simulated day goes this much faster, so that a short look sees activities change.
PACE = 6.0


@dataclass(frozen=True, slots=True)
class Summary:
    devices: int
    samples: int
    labels: int
    activities: dict[str, int]
    latency_median_s: float


def run(devices: int, duration_s: float | None, model: str, seed: int) -> Summary:
    """Show the live table until ``duration_s`` is over or a signal comes. Raises HarstreamError where a part fails."""
    from rich.console import Console
    from rich.live import Live

    console = Console()
    stop = threading.Event()
    on_stop(lambda _: stop.set(), signal.SIGHUP)  # with the terminal all of it ends, the daemon too
    broker = EmbeddedBroker()
    broker.start()
    host, _, port = DEFAULT_HTTP.rpartition(":")
    http = f"{host}:{free_port((int(port), 0))}"
    settings = BrokerSettings(BrokerUrl.parse(broker.url), "3.1.1")
    samples, labels = TopicTemplate(DEFAULT_TOPIC), TopicTemplate(DEFAULT_LABELS_TOPIC)
    watching = Watch(settings, f"harstream-demo-{os.getpid()}", samples, labels)
    children: list[_Child] = []
    try:
        watching.open()
        daemon = ["run", "--broker", broker.url, "--mqtt-version", "3.1.1", "--http", http, "--model", model]
        children.append(_Child(*daemon, "--log-level", "warning"))
        _wait_ready(children[0], f"http://{http}/readyz", stop)
        simulate = ["simulate", "--broker", broker.url, "--devices", str(devices)]
        children.append(_Child(*simulate, "--pace", str(PACE), "--seed", str(seed)))
        for name, what in (
            ("broker", broker.url),
            ("labels", f"mosquitto_sub -p {broker.port} -t 'wearables/+/activity' -v"),
            ("metrics", f"http://{http}/metrics"),
            ("live page", f"http://{http}/"),
        ):
            console.print(f"{name:<10}{what}", highlight=False, soft_wrap=True)
        began = time.monotonic()
        with Live(console=console, refresh_per_second=4, transient=False) as live:
            while not stop.is_set():
                left = None if duration_s is None else duration_s - (time.monotonic() - began)
                if left is not None and left <= 0:
                    break
                for child in children:
                    child.check()
                footer = "Ctrl-C ends it" if left is None else f"ends in {left:.0f} s"
                live.update(
                    watching.table(ROWS, f"{watching.n_labels} labels, {watching.n_samples:,} samples; {footer}")
                )
                stop.wait(0.25 if left is None else min(0.25, left))
        console.print()  # off a terminal the table ends without
        return Summary(
            len(watching.devices),
            watching.n_samples,
            watching.n_labels,
            dict(Counter(state.label for state in watching.devices.values() if state.label).most_common()),
            statistics.median(watching.latencies_s) if watching.latencies_s else 0.0,
        )
    finally:
        # Wearables first, so that the daemon has nothing left to wait for; all of them before the broker.
        for child in reversed(children):
            child.end()
        watching.close()
        broker.close()


class _Child:
    """`harstream` with some arguments, what it says kept in a file: a pipe nobody reads would fill up and stop it."""

    def __init__(self, *arguments: str) -> None:
        self.name = arguments[0]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the child runs)
        command = [sys.executable, "-m", "harstream", *arguments]
        # What is set for a daemon of the user's is not meant for this one.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HARSTREAM_")}
        # Ctrl-C reaches the whole process group: it is for us, who then end the children in their order.
        ours = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self._said, env=environment)
        finally:
            signal.signal(signal.SIGINT, ours)

    def check(self) -> None:
        """Raises HarstreamError where it has ended."""
        if self._process.poll() is not None:
            self._said.seek(0)
            said = self._said.read().decode(errors="replace").strip()
            raise HarstreamError(f"demo: {self.name} ended with {self._process.returncode}: {said}")

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._said.close()


def _wait_ready(child: _Child, url: str, stop: threading.Event) -> None:
    deadline = time.monotonic() + READY_S
    while not stop.wait(0.05):
        child.check()
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise HarstreamError(f"demo: the daemon was not ready within {READY_S:.0f} s")
