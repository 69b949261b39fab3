"""Demo: a broker, simulated wearables and the daemon in processes of their own, shown in a live table."""

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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harstream.addresses import first_free_port
from harstream.config import DEFAULT_HTTP, DEFAULT_LABELS_TOPIC
from harstream.embedded import EmbeddedBroker
from harstream.errors import HarstreamError
from harstream.mqtt.urls import BrokerSettings, BrokerUrl
from harstream.signals import on_stop
from harstream.source_config import DEFAULT_TOPIC
from harstream.watch.devices import Watch
from harstream.watch.table import render
from harstream.watch.view import View
from harstream.wire.topics import TopicTemplate

if TYPE_CHECKING:
    from rich.console import Console

READY_S = 60.0
STOP_S = 15.0
ROWS = 20
#: Divisor of the durations of activities, so that a short look sees them change.
PACE = 6.0
_REFRESH_S = 0.25


@dataclass(frozen=True, slots=True)
class Summary:
    """Result of a demo."""

    devices: int
    samples: int
    labels: int
    activities: dict[str, int]  # number of devices by their last label, most frequent first
    latency_median_s: float  # from the arrival of samples to the arrival of their label; 0 without labels


def run(devices: int, duration_s: float | None, model: str, seed: int) -> Summary:
    """Run the demo for ``duration_s`` or, if it is None, until a signal arrives.

    Args:
        devices: Number of simulated wearables.
        duration_s: Length of the demo, without its start.
        model: Model of the daemon, as `harstream run --model` takes it.
        seed: Seed of the simulation.

    Raises:
        HarstreamError: The broker cannot start, or one of the processes has ended.

    """
    from rich.console import Console

    console = Console()
    stop = threading.Event()
    on_stop(lambda _: stop.set(), signal.SIGHUP)  # SIGHUP: the terminal was closed, and the processes have to end too
    broker = EmbeddedBroker()
    broker.start()
    host, _, port = DEFAULT_HTTP.rpartition(":")
    http = f"{host}:{first_free_port((int(port), 0))}"
    settings = BrokerSettings(BrokerUrl.parse(broker.url), "3.1.1")
    samples, labels = TopicTemplate(DEFAULT_TOPIC), TopicTemplate(DEFAULT_LABELS_TOPIC)
    watch = Watch(settings, f"harstream-demo-{os.getpid()}", samples, labels)
    children: list[_Child] = []
    try:
        watch.open()
        daemon = ["run", "--broker", broker.url, "--mqtt-version", "3.1.1", "--http", http, "--model", model]
        children.append(_Child(*daemon, "--log-level", "warning"))
        _wait_until_ready(children[0], f"http://{http}/readyz", stop)
        simulate = ["simulate", "--broker", broker.url, "--devices", str(devices)]
        children.append(_Child(*simulate, "--pace", str(PACE), "--seed", str(seed)))
        for name, value in (
            ("broker", broker.url),
            ("labels", f"mosquitto_sub -p {broker.port} -t 'wearables/+/activity' -v"),
            ("metrics", f"http://{http}/metrics"),
            ("live page", f"http://{http}/"),
        ):
            console.print(f"{name:<10}{value}", highlight=False, soft_wrap=True)
        _show(watch, children, console, duration_s, stop)
        return Summary(
            len(watch.devices),
            watch.n_samples,
            watch.n_labels,
            dict(Counter(device.label for device in watch.devices.values() if device.label).most_common()),
            statistics.median(watch.latencies_s) if watch.latencies_s else 0.0,
        )
    finally:
        # Wearables first, so that the daemon has nothing left to wait for. The broker ends last.
        for child in reversed(children):
            child.end()
        watch.close()
        broker.close()


def _show(
    watch: Watch, children: Sequence[_Child], console: Console, duration_s: float | None, stop: threading.Event
) -> None:
    """Show the live table until ``duration_s`` is over, ``stop`` is set or a child ends."""
    from rich.live import Live

    started_s, view = time.monotonic(), View()
    with Live(console=console, refresh_per_second=1 / _REFRESH_S, transient=False) as live:
        while not stop.is_set():
            left_s = None if duration_s is None else duration_s - (time.monotonic() - started_s)
            if left_s is not None and left_s <= 0:
                break
            for child in children:
                child.check()
            footer = "Ctrl-C ends it" if left_s is None else f"ends in {left_s:.0f} s"
            footer = f"{watch.n_labels} labels, {watch.n_samples:,} samples; {footer}"
            live.update(render(watch.overview(view, ROWS), view, console.width, footer))
            stop.wait(_REFRESH_S if left_s is None else min(_REFRESH_S, left_s))
    console.print()  # without a terminal, rich ends the table without a line break


class _Child:
    """Process that runs ``harstream`` with the given arguments.

    Its standard error goes to a file, because a pipe that nobody reads would fill up and block it.
    """

    def __init__(self, *arguments: str) -> None:
        self.name = arguments[0]
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the child runs)
        command = [sys.executable, "-m", "harstream", *arguments]
        # Settings of the user's own daemon are not for this one.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HARSTREAM_")}
        # Ctrl-C reaches the whole process group. The children ignore it, so that they can be ended in order.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self._stderr, env=environment)
        finally:
            signal.signal(signal.SIGINT, handler)

    def check(self) -> None:
        """Raise HarstreamError if the process has ended."""
        if self._process.poll() is not None:
            self._stderr.seek(0)
            output = self._stderr.read().decode(errors="replace").strip()
            raise HarstreamError(f"demo: {self.name} ended with exit code {self._process.returncode}: {output}")

    def end(self) -> None:
        """Terminate the process if it still runs, and wait for its end."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._stderr.close()


def _wait_until_ready(child: _Child, url: str, stop: threading.Event) -> None:
    """Wait until ``url`` answers with status 200, or ``stop`` is set.

    Raises:
        HarstreamError: The child has ended, or is not ready after ``READY_S``.

    """
    deadline_s = time.monotonic() + READY_S
    while not stop.wait(0.05):
        child.check()
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 (an http address made above)
                if answer.status == 200:
                    return
        except OSError:
            pass
        if time.monotonic() > deadline_s:
            raise HarstreamError(
                f"demo: the daemon was not ready within {READY_S:.0f} s; run `harstream run` to see why"
            )
