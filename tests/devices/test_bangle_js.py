"""The program of the Bangle.js, run in node with a walk for its accelerometer, and the bridge that publishes it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from ..constants import T0_NS
from ..servers import Client, Mosquitto, program
from .walks import assert_walking, labels_of, walk

BANGLE_JS = Path(__file__).parents[2] / "deploy" / "devices" / "bangle-js"
RUN_WATCH = Path(__file__).parent / "bangle_js" / "run_watch.js"
RATE_HZ, SECONDS = 50, 20


@pytest.fixture(scope="module")
def bridge() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bridge", BANGLE_JS / "bridge.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_walk_with_the_watch_is_labelled_walking(mosquitto: Mosquitto, bridge: ModuleType) -> None:
    acc = walk(RATE_HZ, SECONDS)[:, :3].tolist()
    command = [program("node"), str(RUN_WATCH), str(BANGLE_JS / "imu.js"), str(T0_NS // 10**6)]
    done = subprocess.run(command, input=json.dumps(acc).encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()

    def publish(client: Client) -> None:
        lines = bridge.Lines()
        for first in range(0, len(done.stdout), 20):  # the bytes of a notification without a larger MTU
            for message in lines.feed(done.stdout[first : first + 20]):
                client.publish("wearables/bangle-1/imu", message)

    labels = labels_of(mosquitto.port, publish, T0_NS / 1e9 + SECONDS, "bangle-1")
    assert_walking(labels)
    assert len(labels) >= (SECONDS - 3.5 - 2.56) // 1.28  # it is connected after 3 s


def test_the_bridge_passes_over_what_is_no_message(bridge: ModuleType) -> None:
    lines = bridge.Lines()
    assert list(lines.feed(b'>Bangle.setPollInterval(20)\r\n=undefined\r\n{"t":1}\r\n')) == []
    assert list(lines.feed(b',0]]}\r\n>\x1b[J{"acc":[[0,')) == []
    assert list(lines.feed(b'0,1000]]}\r\n>{"acc"')) == [b'{"acc":[[0,0,1000]]}']
