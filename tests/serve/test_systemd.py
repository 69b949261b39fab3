"""Notifications to systemd, whose socket the tests provide."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from harstream.serve.systemd import Notifier

from ..servers import DEADLINE_S, Client, Mosquitto, Process


@pytest.fixture
def listener(tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(DEADLINE_S)
        yield sock


def receive(listener: socket.socket) -> str:
    return listener.recv(4096).decode()


def receive_all(listener: socket.socket) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        receive(listener)


def test_without_systemd_nothing_is_sent():
    notifier = Notifier({})
    notifier.ready("x")
    notifier.heartbeat(1.0)


def test_lines_arrive_together(listener, tmp_path):
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}).ready("waist@1.0.0")
    assert receive(listener) == "READY=1\nSTATUS=waist@1.0.0"


def test_the_watchdog_is_notified_at_half_of_its_timeout_and_not_more_often(listener, tmp_path):
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
    notifier = Notifier({**environment, "WATCHDOG_PID": str(os.getpid())})
    for now_s in (100.0, 100.5, 114.9, 115.0, 120.0, 131.0):
        notifier.heartbeat(now_s)
    listener.setblocking(False)  # a notification is there as soon as it is sent
    assert [receive(listener) for _ in range(3)] == ["WATCHDOG=1"] * 3
    with pytest.raises(BlockingIOError):
        receive(listener)
    Notifier({**environment, "WATCHDOG_PID": "1"}).heartbeat(0.0)  # another process is watched
    with pytest.raises(BlockingIOError):
        receive(listener)


def test_the_notifications_of_a_daemons_life(listener, tmp_path, random_bundle):
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    broker = Mosquitto(tmp_path)
    arguments = ["--model", str(random_bundle), "--http", "off", "--broker", broker.address]
    with Process("run", *arguments, folder=tmp_path, environment=environment) as daemon:
        assert receive(listener) == "STATUS=waiting for the broker"
        with broker:
            assert receive(listener) == "READY=1\nSTATUS=random@0.0.1"
            for _ in range(3):
                assert receive(listener) == "WATCHDOG=1"
            daemon.send(signal.SIGHUP)
            while not (line := receive(listener)).startswith("RELOADING=1\nMONOTONIC_USEC="):
                assert line == "WATCHDOG=1"
            while (line := receive(listener)) != "READY=1\nSTATUS=random@0.0.1":
                assert line == "WATCHDOG=1"
            daemon.send(signal.SIGTERM)
            while (line := receive(listener)) != "STOPPING=1":
                assert line == "WATCHDOG=1"
            assert daemon.exit_code() == 0


def test_a_loop_that_stands_still_does_not_notify_the_watchdog(listener, tmp_path, random_bundle, mosquitto):
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    code = (
        "import sys, time; from harstream.serve.daemon import Daemon;"
        "Daemon.make_windows = lambda self, messages: time.sleep(3600);"
        "from harstream.cli import main; main(sys.argv[1:])"
    )
    arguments = ["run", "--model", str(random_bundle), "--http", "off", "--broker", mosquitto.address]
    with Process(*arguments, folder=tmp_path, environment=environment, code=code) as daemon:
        while receive(listener) != "WATCHDOG=1":
            pass
        with Client(mosquitto.port) as client:
            client.publish("wearables/a/imu", b"{}")
            client.flush()
            listener.settimeout(1.0)  # five times what the watchdog would wait
            with pytest.raises(TimeoutError):
                receive_all(listener)
        assert daemon.running()
