"""The programs for the ESP32 with an MPU-6050, run on this machine with a stand-in for the sensor that plays a walk.

The sensor runs at 50.4 Hz, as its clock is never exact. Meanwhile the broker cannot be reached for 17 s, and the
program is kept from running for 1 s, and for 3 s, which is longer than the sensor's buffer lasts.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harstream.core.batches import Float32
from harstream.embedded import EmbeddedBroker

from ..constants import T0_NS
from ..servers import Client, Mosquitto, program
from .walks import assert_walking, labels_of, walk

ESP32 = Path(__file__).parents[2] / "deploy" / "devices" / "esp32"
STAND_INS = Path(__file__).parent / "esp32"
RATE_HZ, SECONDS = 50.4, 60
#: Programs start the sensor 0.1 s after they start.
END_S = T0_NS / 1e9 + SECONDS
TOPIC = "wearables/esp32-1/imu"


@pytest.fixture(scope="module")
def samples() -> Float32:
    return walk(RATE_HZ, SECONDS)


@pytest.fixture(scope="module")
def counts(samples: Float32) -> bytes:
    """Return what an MPU-6050 measures at ranges of 8 g and 1000 deg/s: big-endian int16, six a sample."""
    scaled = np.c_[samples[:, :3] * 4096, np.degrees(samples[:, 3:]) * 32.8]
    return np.clip(np.rint(scaled), -32768, 32767).astype(">i2").tobytes()


def assert_one_gap(labels: list[dict[str, Any]]) -> None:
    """Assert that labels come every 1.28 s through the outage, and that only the overflow at 40 s interrupts them."""
    times = np.array([label["t"] for label in labels]) - T0_NS / 1e9
    before, after = times[times < 40.5], times[times > 40.5]
    assert before[0] == pytest.approx(2.7, abs=0.2)
    assert np.diff(before) == pytest.approx(1.28, abs=0.06)
    assert before[-1] > 37
    assert after[0] == pytest.approx(43 + 2.7, abs=0.2)
    assert np.diff(after) == pytest.approx(1.28, abs=0.06)


def micropython() -> str:
    """Return the path of MicroPython: that of the virtual environment, else of the system."""
    beside = Path(sys.executable).parent / "micropython"
    return str(beside) if beside.exists() else program("micropython")


def test_the_micropython_program_publishes_a_walk(tmp_path: Path, counts: bytes) -> None:
    (tmp_path / "counts").write_bytes(counts)
    broker = EmbeddedBroker(0)
    broker.start()

    def run(_: Client) -> None:
        command = [micropython(), str(STAND_INS / "run_board.py"), str(ESP32), str(broker.port)]
        command += [str(tmp_path / "counts"), str(RATE_HZ), str(T0_NS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("no broker: an outage") == 4  # it tries every 5 s
        kept = int(done.stdout.rpartition("most kept ")[2])
        assert 30 <= kept <= 45

    try:
        labels = labels_of(broker.port, run, END_S, "esp32-1")
    finally:
        broker.close()
    assert_walking(labels)
    assert_one_gap(labels)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sketch, compiled for this machine with stand-ins for its libraries."""
    folder = tmp_path_factory.mktemp("arduino")
    shutil.copy(ESP32 / "esp32_mpu6050" / "esp32_mpu6050.ino", folder / "sketch.cpp")
    sources = [folder / "sketch.cpp", STAND_INS / "arduino" / "board.cpp"]
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-I", STAND_INS / "arduino", "-include", "Arduino.h"]
    environment = {**os.environ, "LC_ALL": "C"}
    command = [program("g++"), *map(str, [*flags, *sources]), "-o", str(folder / "board")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return folder / "board"


def test_the_arduino_sketch_publishes_a_walk(mosquitto: Mosquitto, board: Path, counts: bytes) -> None:
    done = subprocess.run([str(board), str(T0_NS), str(RATE_HZ)], input=counts, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(b"no broker") == 4

    def publish(client: Client) -> None:
        rest = done.stdout
        while rest:
            (n,) = struct.unpack_from("<H", rest)
            client.publish(TOPIC, rest[2 : 2 + n])
            rest = rest[2 + n :]

    labels = labels_of(mosquitto.port, publish, END_S, "esp32-1")
    assert_walking(labels)
    assert_one_gap(labels)
