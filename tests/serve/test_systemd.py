"""What systemd hears of us: a socket of the test in its place."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from harstream.serve.systemd import Service

from ..servers import Client, Mosquitto, Process


@pytest.fixture
def listener(tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(60)
        yield sock


def heard(listener: socket.socket) -> str:
    return listener.recv(4096).decode()


def hear_all(listener: socket.socket) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        heard(listener)


def test_without_systemd_nothing_is_told():
    service = Service({})
    service.ready("x")
    service.beat(1.0)


def test_lines_arrive_together(listener, tmp_path):
    Service({"NOTIFY_SOCKET": str(tmp_path / "notify")}).ready("waist@1.0.0")
    assert heard(listener) == "READY=1\nSTATUS=waist@1.0.0"


def test_the_watchdog_hears_of_every_half_of_its_time_and_not_more_often(listener, tmp_path):
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
    service = Service({**environment, "WATCHDOG_PID": str(os.getpid())})
    for now_s in (100.0, 100.5, 114.9, 115.0, 120.0, 131.0):
        service.beat(now_s)
    listener.settimeout(0.1)
    assert [heard(listener) for _ in range(3)] == ["WATCHDOG=1"] * 3
    with pytest.raises(TimeoutError):
        heard(listener)
    Service({**environment, "WATCHDOG_PID": "1"}).beat(0.0)  # it is another's
    with pytest.raises(TimeoutError):
        heard(listener)


def test_a_daemons_life_as_systemd_hears_it(listener, tmp_path, random_bundle):
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    broker = Mosquitto(tmp_path)
    arguments = ["--model", str(random_bundle), "--http", "off", "--broker", broker.address]
    with Process("run", *arguments, folder=tmp_path, environment=environment) as daemon:
        assert heard(listener) == "STATUS=waiting for the broker"
        with broker:
            assert heard(listener) == "READY=1\nSTATUS=random@0.0.1"
            for _ in range(3):
                assert heard(listener) == "WATCHDOG=1"
            daemon.send(signal.SIGHUP)
            while not (told := heard(listener)).startswith("RELOADING=1\nMONOTONIC_USEC="):
                assert told == "WATCHDOG=1"
            while (told := heard(listener)) != "READY=1\nSTATUS=random@0.0.1":
                assert told == "WATCHDOG=1"
            daemon.send(signal.SIGTERM)
            while (told := heard(listener)) != "STOPPING=1":
                assert told == "WATCHDOG=1"
            assert daemon.exit_code() == 0


def test_a_loop_that_stands_still_is_not_covered_up(listener, tmp_path, random_bundle, mosquitto):
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    code = (
        "import sys, time; from harstream.serve.daemon import Daemon;"
        "Daemon.take = lambda self, messages: time.sleep(3600);"
        "from harstream.cli import main; main(sys.argv[1:])"
    )
    arguments = ["run", "--model", str(random_bundle), "--http", "off", "--broker", mosquitto.address]
    with Process(*arguments, folder=tmp_path, environment=environment, code=code) as daemon:
        while heard(listener) != "WATCHDOG=1":
            pass
        with Client(mosquitto.port) as client:
            client.publish("wearables/a/imu", b"{}")
            client.flush()
            listener.settimeout(1.0)  # five times what the watchdog would wait
            with pytest.raises(TimeoutError):
                hear_all(listener)
        assert daemon.running()
