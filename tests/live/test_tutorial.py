"""docs/tutorial.md: its commands and payloads are valid, and its steps succeed with synthetic subjects."""

from __future__ import annotations

import json
import re
import shlex
import signal
from pathlib import Path

import click
import numpy as np
import pytest

from harstream import bundle as bundles
from harstream.cli import main
from harstream.mqtt.urls import BrokerSettings, BrokerUrl
from harstream.record import Recorder
from harstream.simulate.source import sources
from harstream.wire.canonical import encode_json
from harstream.wire.payloads import decode
from harstream.wire.samples import Units
from harstream.wire.topics import TopicTemplate

from ..servers import Client, Process, wait_until

TUTORIAL = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
LABELS = ("SITTING", "WALKING")


def commands() -> list[list[str]]:
    """Return the arguments of every `harstream` command in an indented block, split like in a shell."""
    lines = TUTORIAL.replace("\\\n", " ").splitlines()
    matches = [re.search(r"^ {4}\s*harstream (.*?)(?: <.*)?(?: 2>+ ?\S+)?(?: &.*)?$", line) for line in lines]
    return [shlex.split(match[1]) for match in matches if match]


def test_every_command_of_the_tutorial_is_valid():
    assert [arguments[0] for arguments in commands()] == [
        *["simulate", "record", "simulate", "record", "data", "train", "evaluate", "run"]
    ]
    for name, *arguments in commands():
        command = main.commands[name]
        if isinstance(command, click.Group):
            name, *arguments = arguments
            command = command.commands[name]
        command.make_context(name, arguments)  # raises an error for an unknown option


def test_the_payloads_of_the_tutorial_are_decoded_alike():
    payloads = [line.strip().replace(", ...", "") for line in TUTORIAL.splitlines() if line.startswith('    {"t')]
    assert len(payloads) == 2
    many, one = (decode(payload.encode(), Units()) for payload in payloads)
    np.testing.assert_array_equal(many.acc, one.acc)
    assert many.t_ns == one.t_ns


def record(broker: str, out: Path, subjects: dict[str, int]) -> None:
    """Record 20 s of each activity of each subject, given by the number of its simulated device."""
    for label in LABELS:
        devices = {f"sim-{number:04d}": subject for subject, number in subjects.items()}
        for source in sources(5, 0, activity=label):
            if source.device not in devices:
                continue
            recorder = Recorder(
                BrokerSettings(BrokerUrl.parse(broker)),
                "test",
                TopicTemplate("wearables/{device}/imu"),
                [source.device],
                devices[source.device],
                out,
            )
            recorder.begin(label)
            for second in range(20):
                payload = encode_json(10**18 + second * 10**9, 50.0, source.read(50))
                recorder.receive(f"wearables/{source.device}/imu", payload, False)
            assert [done.samples for done in recorder.end()] == [1000]


@pytest.mark.slow
def test_new_labels_are_recorded_trained_evaluated_and_served(mosquitto, tmp_path):
    pytest.importorskip("tensorflow")
    for folder, subjects in (("recordings", {"anna": 1, "ben": 2, "cleo": 3}), ("newcomer", {"eva": 5})):
        (tmp_path / folder).mkdir()
        record(mosquitto.address, tmp_path / folder, subjects)
    model = tmp_path / "mine"
    data = [f"csv:{tmp_path / folder}" for folder in ("recordings", "newcomer")]
    quick = ["--epochs", "2", "--arch", "mlp", "--set", "units=50"]
    with Process("train", "--data", data[0], "--out", str(model), *quick, folder=tmp_path) as train:
        assert train.exit_code() == 0, train.err
    assert bundles.load(model).labels == LABELS
    scores = ["--json", str(tmp_path / "scores.json"), "--report", str(tmp_path / "report")]
    with Process("evaluate", "--data", data[1], "--model", str(model), *scores, folder=tmp_path) as evaluate:
        assert evaluate.exit_code() == 0, evaluate.err
    assert json.loads((tmp_path / "scores.json").read_text())["accuracy"] > 0.9
    assert "eva" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    run = ["run", "--broker", mosquitto.address, "--model", str(model), "--http", "off"]
    simulate = ["simulate", "--broker", mosquitto.address, "--devices", "2", "--activity", "WALKING"]
    with Client(mosquitto.port, "wearables/+/activity") as client, Process(*run, folder=tmp_path) as daemon:
        daemon.wait_for(" ready: ")
        with Process(*simulate, "--duration", "8", "--speed", "0", folder=tmp_path) as process:
            assert process.exit_code() == 0, process.err
        wait_until(lambda: {device for device, _ in client.labels()} == {"sim-0001", "sim-0002"}, "labels")
        daemon.send(signal.SIGTERM)
        assert daemon.exit_code() == 0
    assert {label["label"] for _, label in client.labels()} == {"WALKING"}
