"""Brokers, clients and processes for tests. They listen on 127.0.0.1; the test that starts one ends it."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Self

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

#: Limit of every wait, far longer than anything takes. A loaded machine is slow, and no test may fail for that.
DEADLINE_S = 180.0
#: Ports for tests, below those that the system gives to outgoing connections and to listeners on port 0.
_PORTS = range(20_000, 32_000)
#: Distance of two ports given away one after the other, so that neighbours stay free. It shares no factor with 12,000.
_PORT_STEP = 61


def program(name: str) -> str:
    """Return the path of a program, also from sbin. Skip the test if it is not installed."""
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def recorded(name: str) -> Path:
    """Return the path of a data set in the folder HARSTREAM_DATA. Skip the test if it is not there."""
    folder = os.environ.get("HARSTREAM_DATA")
    if not folder:
        pytest.skip("HARSTREAM_DATA is not set")
    if not (Path(folder) / name).is_file():
        pytest.skip(f"no {name} in HARSTREAM_DATA")
    return Path(folder) / name


def wait_until(condition: Callable[[], object], what: str = "the condition", timeout_s: float = DEADLINE_S) -> None:
    """Wait until ``condition`` returns something true; fail with the name ``what`` after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(0.01)


@contextmanager
def _locked_file(name: str) -> Iterator[IO[str]]:
    """Open a file that all tests on this machine share, and keep the other ones out meanwhile."""
    path = Path(tempfile.gettempdir()) / f"harstream-tests-{os.getuid()}-{name}"
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def listens(port: int) -> bool:
    """Return True if somebody listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens, and which neither other tests nor the system take meanwhile.

    A port that ``bind`` chooses is one that the system may also give to an outgoing connection, for example while a
    broker restarts. Even a client that tries again and again to connect to it may be connected to itself.
    """
    with _locked_file("port") as file:
        file.seek(0)
        last = int(file.read() or _PORTS[0])
        for step in range(1, len(_PORTS)):
            port = _PORTS[(last - _PORTS[0] + step * _PORT_STEP) % len(_PORTS)]
            if not listens(port):
                file.truncate(0)
                file.write(str(port))
                return port
    raise AssertionError("no port is free")


def http_get(url: str) -> tuple[int, str]:
    """Return status and body of the answer, whatever the status; (0, "") if there is no answer."""
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def metric(text: str, series: str) -> float:
    """Return the value of one series from a text in the format of Prometheus."""
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.rpartition(" ")[0] == series)


def mosquitto_passwords(file: Path, **users: str) -> Path:
    """Write or change the passwords of users in a password file of mosquitto."""
    for user, password in users.items():
        create = [] if file.exists() else ["-c"]
        command = [program("mosquitto_passwd"), "-b", *create, str(file), user, password]
        subprocess.run(command, check=True, capture_output=True)
    file.chmod(0o644)  # mosquitto may run as another user
    return file


class Mosquitto:
    """Process of mosquitto with the given lines of configuration, listening on ``port`` or a free one."""

    def __init__(self, folder: Path, listener: str = "", lines: str = "allow_anonymous true", port: int = 0) -> None:
        self._program = program("mosquitto")
        self.port = port or free_port()
        self._config = folder / f"mosquitto-{self.port}.conf"
        self._log = folder / f"mosquitto-{self.port}.log"
        # Without a limit, because mosquitto drops messages of a burst that the subscriber has not read yet.
        common = "max_queued_messages 0\nmax_inflight_messages 0\n"
        if os.getuid() == 0:
            common += "user root\n"
        self._config.write_text(f"{common}listener {self.port} 127.0.0.1\n{listener}\n{lines}\n")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([self._program, "-c", str(self._config)], stdout=log, stderr=log)
        wait_until(self._listens, "mosquitto to listen")
        return self

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        return listens(self.port)

    def reload(self) -> None:
        """Let it read its passwords and access list again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """Kill it. Its clients get no DISCONNECT."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextmanager
def in_background(run: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run a function in a thread; it gets an event that is set at the end of the block, when it must return."""
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class Client:
    """Plain MQTT client beside the one under test. It keeps all messages that it receives."""

    def __init__(self, port: int, subscription: str = "#", **credentials: str) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []  # topic, payload, whether it was retained
        self._published: list[paho.MQTTMessageInfo] = []
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
        self._published.append(self._client.publish(topic, payload, qos, retain))

    def flush(self) -> None:
        """Wait until the broker has acknowledged every message."""
        while self._published:
            self._published[-1].wait_for_publish(DEADLINE_S)
            assert self._published.pop().is_published(), "the broker has not acknowledged a message"

    def states(self, topic: str) -> list[bytes]:
        """Return the payloads of a topic that differ from the one before; a status may be repeated at any time."""
        return [payload for payload, _ in itertools.groupby(self.payloads(topic))]

    def payloads(self, topic: str) -> list[bytes]:
        """Return the payloads received on one topic."""
        return [payload for at, payload, _ in list(self.messages) if at == topic]

    def labels(self) -> list[tuple[str, dict[str, Any]]]:
        """Return device and decoded message of every label received."""
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
    """``python -m harstream ...`` or Python ``code``, in a process group of its own, with its output in files."""

    def __init__(
        self, *arguments: str, folder: Path, environment: Mapping[str, str] | None = None, code: str = ""
    ) -> None:
        command = [sys.executable, *(["-c", code] if code else ["-m", "harstream"]), *arguments]
        self._paths = folder / f"out-{time.monotonic_ns()}", folder / f"err-{time.monotonic_ns()}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HARSTREAM_")}
        with self._paths[0].open("wb") as out, self._paths[1].open("wb") as err:
            self._process = subprocess.Popen(
                command, stdout=out, stderr=err, env={**inherited, **(environment or {})}, start_new_session=True
            )

    @property
    def out(self) -> str:
        """Standard output so far."""
        return self._paths[0].read_text(errors="replace")

    @property
    def err(self) -> str:
        """Standard error so far, without the line that LiteRT's native code writes there at its start."""
        text = self._paths[1].read_text(errors="replace")
        return "".join(line for line in text.splitlines(keepends=True) if "XNNPACK delegate" not in line)

    @property
    def group(self) -> int:
        """Number of its process group."""
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def running(self) -> bool:
        return self._process.poll() is None

    def wait_for(self, text: str) -> None:
        """Wait until standard error contains ``text``."""

        def is_written() -> bool:
            running = self.running()  # asked first: the text may be written between the two questions
            if text in self.err:
                return True
            assert running, f"the process ended without writing {text!r}: {self.err}"
            return False

        wait_until(is_written, f"{text!r} on standard error")

    def exit_code(self) -> int:
        """Wait for the end of the process, and return its exit code."""
        return self._process.wait(DEADLINE_S)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self.running():
            os.killpg(self.group, signal.SIGKILL)  # with the processes that it has started
            self._process.wait()


def processes_of_group(group: int) -> list[int]:
    """Return the processes of a group that still run, from /proc."""
    running = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            running.append(int(path.parent.name))
    return running


@contextmanager
def occupied(port: int = 0) -> Iterator[int]:
    """Listen on a port of 127.0.0.1, 0 for any; yield its number. Another program that listens there serves as well."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            listener.bind(("127.0.0.1", port))
            listener.listen(1)
        yield port or int(listener.getsockname()[1])


@contextmanager
def default_ports() -> Iterator[None]:
    """Keep the default ports 1883 and 9464 from other tests, which wait for their turn."""
    with _locked_file("default-ports"):
        yield
