"""Brokers, clients and processes for tests: on free ports of 127.0.0.1, each ended by the test that began it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

#: Far beyond what anything here takes: a loaded machine is slow, not wrong.
DEADLINE_S = 180.0
#: What holds a port for longer than this is no other test.
PASSING_S = 30.0


def program(name: str) -> str:
    """A program of the system, in sbin too; the test is skipped without it."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def recorded(name: str) -> Path:
    """A data set as its publisher ships it, from the folder HARSTREAM_DATA; the test is skipped without."""
    folder = os.environ.get("HARSTREAM_DATA")
    if not folder:
        pytest.skip("HARSTREAM_DATA is not set")
    if not (Path(folder) / name).is_file():
        pytest.skip(f"no {name} in HARSTREAM_DATA")
    return Path(folder) / name


def wait_until(condition: Callable[[], object], what: str = "it", timeout_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def http_get(url: str) -> tuple[int, str]:
    """Status and body, also of answers that are errors; (0, "") where nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def metric(text: str, series: str) -> float:
    """The value of one series in Prometheus' text format."""
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.rpartition(" ")[0] == series)


class Mosquitto:
    """A real broker with the given lines of configuration, listening at ``port``."""

    def __init__(self, folder: Path, listener: str = "", lines: str = "allow_anonymous true", port: int = 0) -> None:
        self._program = program("mosquitto")
        self.port = port or free_port()
        self._config = folder / f"mosquitto-{self.port}.conf"
        self._log = folder / f"mosquitto-{self.port}.log"
        # A burst of a test may not be thrown away because the subscriber is a moment behind.
        common = "max_queued_messages 0\nmax_inflight_messages 0\n"
        if os.getuid() == 0:
            common += "user root\n"
        self._config.write_text(f"{common}listener {self.port} 127.0.0.1\n{listener}\n{lines}\n")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> Mosquitto:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([self._program, "-c", str(self._config)], stdout=log, stderr=log)
        wait_until(self._listens, "mosquitto to listen")
        return self

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """At once, without a goodbye to its clients."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Mosquitto:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class Client:
    """Somebody else at the broker: hears everything, publishes anything."""

    def __init__(self, port: int, subscription: str = "#", **credentials: str) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []  # topic, payload, whether it was retained
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
        self._client.max_inflight_messages_set(1000)
        self._client.reconnect_delay_set(1, 1)
        if credentials:
            self._client.username_pw_set(credentials["user"], credentials["password"])
        self._client.on_message = lambda _, __, message: self.messages.append(
            (message.topic, bytes(message.payload), message.retain)
        )
        self._client.on_connect = lambda client, *_: client.subscribe(subscription, qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos, retain)

    def flush(self) -> None:
        """Wait until the broker has acknowledged everything."""
        wait_until(lambda: not self._client._out_messages, "the broker's acknowledgements")

    def payloads(self, topic: str) -> list[bytes]:
        return [payload for at, payload, _ in list(self.messages) if at == topic]

    def labels(self) -> list[tuple[str, dict[str, Any]]]:
        """(device, message) of every label heard."""
        return [
            (topic.split("/")[1], json.loads(payload))
            for topic, payload, _ in list(self.messages)
            if topic.startswith("wearables/") and topic.endswith("/activity") and payload
        ]

    def __enter__(self) -> Client:
        assert self._subscribed.wait(DEADLINE_S), "no subscription"
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Process:
    """``python -m harstream ...``, in a process group of its own."""

    def __init__(
        self, *arguments: str, folder: Path, environment: Mapping[str, str] | None = None, code: str = ""
    ) -> None:
        command = [sys.executable, *(["-c", code] if code else ["-m", "harstream"]), *arguments]
        self._paths = folder / f"out-{time.monotonic_ns()}", folder / f"err-{time.monotonic_ns()}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HARSTREAM_")}
        with self._paths[0].open("wb") as out, self._paths[1].open("wb") as err:
            self._process = subprocess.Popen(
                command, stdout=out, stderr=err, env={**kept, **(environment or {})}, start_new_session=True
            )

    @property
    def out(self) -> str:
        return self._paths[0].read_text(errors="replace")

    @property
    def err(self) -> str:
        return self._paths[1].read_text(errors="replace")

    @property
    def told(self) -> str:
        """Standard error, less the greeting that LiteRT's native code writes there."""
        return "".join(line for line in self.err.splitlines(keepends=True) if "XNNPACK delegate" not in line)

    @property
    def group(self) -> int:
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def running(self) -> bool:
        return self._process.poll() is None

    def wait_for(self, text: str) -> None:
        """Until standard error holds ``text``."""

        def said() -> bool:
            assert text in self.err or self.running(), f"ended without saying {text!r}: {self.err}"
            return text in self.err

        wait_until(said, f"{text!r} in {self.err!r}")

    def exit_code(self) -> int:
        return self._process.wait(DEADLINE_S)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self.running():
            self._process.kill()
            self._process.wait()


def processes_of_group(group: int) -> list[int]:
    """Whoever still runs in a process group, from /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


@contextmanager
def occupied(port: int) -> Iterator[None]:
    """Something listens at ``port`` of 127.0.0.1, whether we or somebody else."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deadline = time.monotonic() + PASSING_S
        while True:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                if time.monotonic() > deadline:
                    break  # by something that stays: as good
                time.sleep(0.05)
            else:
                listener.listen(1)
                break
        yield
