"""`harstream simulate`, `replay` and `watch` against a broker."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import tty
from pathlib import Path

import numpy as np
import pytest

from harstream.simulate.source import sources
from harstream.wire.payloads import decode
from harstream.wire.samples import Units

from ..constants import UNREACHABLE
from ..servers import DEADLINE_S, Client, Mosquitto, Process, wait_until


def received(client: Client, device: str):
    return [decode(payload, Units()) for payload in client.payloads(f"wearables/{device}/imu")]


def wait_for_messages(client: Client, device: str, number: int) -> None:
    wait_until(lambda: len(received(client, device)) >= number, f"{number} messages of {device}")


@pytest.mark.parametrize("payload", ["json", "packed"])
def test_simulate_publishes_so_many_wearables_for_so_long(mosquitto, tmp_path, payload):
    arguments = ["--devices", "3", "--duration", "4", "--speed", "0", "--seed", "7", "--payload", payload]
    with (
        Client(mosquitto.port) as client,
        Process("simulate", "--broker", mosquitto.address, *arguments, folder=tmp_path) as process,
    ):
        assert process.exit_code() == 0, process.err
        wait_until(lambda: sum(len(received(client, f"sim-{i:04d}")) for i in (1, 2, 3)) >= 22)
        for source in sources(3, 7):
            messages = received(client, source.device)
            assert len(messages) in (7, 8)  # wearables that begin later end before their eighth message
            times = [message.t_ns for message in messages]
            assert np.abs(np.diff(np.array(times, np.int64)) - 500_000_000).max() <= 1000
            samples = np.concatenate([np.hstack([m.acc, m.gyro]) for m in messages if m.gyro is not None])
            np.testing.assert_allclose(samples, source.read(len(samples)), atol=2e-6)
        assert {topic.split("/")[1] for topic, _, _ in client.messages} == {"sim-0001", "sim-0002", "sim-0003"}
    assert "published 22 messages, 550 samples" in process.err


def test_samples_that_the_broker_refuses_are_an_error(tmp_path):
    (tmp_path / "acl").write_text("topic write wearables/sim-0001/imu\n")
    arguments = ["--devices", "2", "--duration", "4", "--speed", "0"]
    lines = f"allow_anonymous true\nacl_file {tmp_path / 'acl'}"
    with (
        Mosquitto(tmp_path, "max_queued_messages 1000", lines) as broker,
        Process("simulate", "--broker", broker.address, *arguments, folder=tmp_path) as process,
    ):
        assert process.exit_code() == 4
    assert process.err.endswith(
        "harstream: the broker refused 7 of them: Not authorized; let this client publish to wearables/{device}/imu in "
        "the broker's access list\n"
    )


def test_simulated_devices_have_faults_in_turn(mosquitto, tmp_path):
    arguments = ["--devices", "3", "--duration", "3", "--speed", "0", "--fault", "coarse", "--fault", "loop"]
    with (
        Client(mosquitto.port) as client,
        Process("simulate", "--broker", mosquitto.address, *arguments, folder=tmp_path) as process,
    ):
        assert process.exit_code() == 0, process.err
        wait_for_messages(client, "sim-0002-loop", 200)
        assert {len(message.acc) for message in received(client, "sim-0002-loop")} == {1}
        for device in ("sim-0001-coarse", "sim-0003-coarse"):
            wait_for_messages(client, device, 5)
            assert {(message.t_ns or 1) % 10**9 for message in received(client, device)} == {0}


def test_a_signal_stops_simulate(mosquitto, tmp_path):
    with (
        Client(mosquitto.port) as client,
        Process("simulate", "--broker", mosquitto.address, folder=tmp_path) as process,
    ):
        wait_until(lambda: client.messages)
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0
    assert "published" in process.err


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Folder of two synthetic sessions in the format of the data set's publisher."""
    folder = tmp_path / "RawData"
    folder.mkdir()
    (tmp_path / "activity_labels.txt").write_text("1 WALKING\n")
    (folder / "labels.txt").write_text("1 1 1 1 60\n2 1 1 1 60\n")
    for number in (1, 2):
        for sensor in ("acc", "gyro"):
            rows = np.random.default_rng(number).normal(size=(60, 3)).round(3)
            np.savetxt(folder / f"{sensor}_exp{number:02d}_user01.txt", rows, fmt="%.3f")
    return tmp_path


def test_replay_publishes_recordings_under_their_names(mosquitto, tmp_path, recordings):
    arguments = ["--data", f"hapt:{recordings}", "--speed", "0", "--samples-per-message", "10"]
    with (
        Client(mosquitto.port) as client,
        Process("replay", "--broker", mosquitto.address, *arguments, folder=tmp_path) as process,
    ):
        assert process.exit_code() == 0, process.err
        for number in (1, 2):
            device = f"exp{number:02d}_user01"
            wait_for_messages(client, device, 6)
            messages = received(client, device)
            acc = np.loadtxt(recordings / "RawData" / f"acc_exp{number:02d}_user01.txt")
            np.testing.assert_allclose(np.concatenate([message.acc for message in messages]), acc, atol=1e-6)


def test_replay_of_chosen_recordings_only(mosquitto, tmp_path, recordings):
    chosen = ["--data", f"hapt:{recordings}", "--speed", "0", "--recordings"]
    with Client(mosquitto.port) as client:
        with Process("replay", "--broker", mosquitto.address, *chosen, "exp02_user01", folder=tmp_path) as process:
            assert process.exit_code() == 0
        wait_for_messages(client, "exp02_user01", 3)
        assert received(client, "exp01_user01") == []
    with Process("replay", "--broker", mosquitto.address, *chosen, "exp09", folder=tmp_path) as process:
        assert process.exit_code() == 2
    assert "no recording is called 'exp09'; the first one is 'exp01_user01'" in process.err


def test_watch_shows_a_table_until_a_signal_stops_it(mosquitto, tmp_path):
    pytest.importorskip("rich")
    label = b'{"t": 1, "label": "WALKING", "confidence": 0.5}'
    with Client(mosquitto.port) as client:
        client.publish("wearables/w1/activity", label, retain=True)
        with Process(
            "watch", "--broker", mosquitto.address, folder=tmp_path, environment={"COLUMNS": "120", "FORCE_COLOR": "1"}
        ) as process:
            wait_until(lambda: "WALKING" in process.out or not process.running(), "the table")
            process.send(signal.SIGTERM)
            assert process.exit_code() == 0, process.err
    assert "w1" in process.out
    assert "WALKING" in process.out


def test_watch_at_a_terminal_obeys_keys_and_leaves_the_terminal_as_it_was(mosquitto):
    pytest.importorskip("rich")
    theirs, ours = pty.openpty()
    tty.setcbreak(ours)
    before = termios.tcgetattr(ours)
    environment = {**os.environ, "COLUMNS": "100", "LINES": "30", "TERM": "xterm"}
    shown = b""

    def wait_for(text: bytes) -> None:
        nonlocal shown
        while text not in shown:
            assert select.select([theirs], [], [], DEADLINE_S)[0], shown
            shown += os.read(theirs, 65536)

    with Client(mosquitto.port) as client:
        client.publish("wearables/w1/activity", b'{"t": 1, "label": "WALKING", "confidence": 0.5}', retain=True)
        client.flush()
        command = [sys.executable, "-m", "harstream", "watch", "--broker", mosquitto.address]
        with subprocess.Popen(command, stdin=ours, stdout=ours, stderr=ours, env=environment) as process:
            try:
                wait_for(b"WALKING")
                os.write(theirs, b"p")
                wait_for(b"with a problem: 0 of 1 devices")
                os.write(theirs, b"q")
                assert process.wait(DEADLINE_S) == 0
            finally:
                process.kill()
    assert termios.tcgetattr(ours) == before
    os.close(theirs)
    os.close(ours)


def test_simulated_subjects_do_only_the_given_activity(mosquitto, tmp_path):
    arguments = ["--devices", "2", "--duration", "300", "--speed", "0", "--samples-per-message", "1000"]
    with (
        Client(mosquitto.port) as client,
        Process("simulate", "--broker", mosquitto.address, *arguments, "--activity", "LAYING", folder=tmp_path) as it,
    ):
        assert it.exit_code() == 0, it.err
        for device in ("sim-0001", "sim-0002"):
            wait_for_messages(client, device, 14)
        for device in ("sim-0001", "sim-0002"):
            upwards = np.concatenate([message.acc for message in received(client, device)])[:, 0]
            assert upwards.max() < 0.6


def test_an_activity_nobody_can_simulate_is_refused(tmp_path):
    with Process("simulate", "--broker", UNREACHABLE, "--activity", "FLYING", folder=tmp_path) as it:
        assert it.exit_code() == 2
    assert "activity: 'FLYING' is not one of WALKING, " in it.err
