"""`harstream probe` against a broker: what it says when nothing, or nothing usable, is heard."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from harstream.cli import main

from ..probe import devices
from ..servers import Client, Mosquitto, Process, in_background
from ..wire import shapes


@contextmanager
def publishing(port: int, topic: str, payloads: list[bytes]) -> Iterator[None]:
    """Publish payloads in turn, some a second, until the end."""

    def send(stop: threading.Event) -> None:
        with Client(port, "nothing") as client:
            for payload in itertools.cycle(payloads):
                client.publish(topic, payload, qos=0)
                if stop.wait(0.05):
                    return

    with in_background(send):
        yield


def probe(mosquitto: Mosquitto, folder: Path, *arguments: str) -> Process:
    return Process("probe", "--broker", mosquitto.address, "--seconds", "1.5", *arguments, folder=folder)


def test_nothing_at_all(mosquitto: Mosquitto, tmp_path: Path):
    with probe(mosquitto, tmp_path) as process:
        assert process.exit_code() == 2
    assert process.out == ""
    assert process.err.splitlines()[-1] == (
        f"harstream: topic: nothing was published to # at mqtt://{mosquitto.address} within 1.5 s; is a device "
        "sending, and to this broker? --seconds listens longer"
    )


def test_nothing_on_the_topic_names_the_others(mosquitto: Mosquitto, tmp_path: Path):
    with (
        publishing(mosquitto.port, "lab/w1/imu", [b"{}"]),
        probe(mosquitto, tmp_path, "--topic", "lab/{device}/acc") as process,
    ):
        assert process.exit_code() == 2
    assert "nothing was published to lab/+/acc" in process.err
    assert process.err.endswith("; there were messages on lab/w1/imu\n")


def test_only_retained_messages_are_named(mosquitto: Mosquitto, tmp_path: Path):
    with Client(mosquitto.port, "nothing") as client:
        client.publish("lab/w1/imu", b"{}", retain=True)
        client.flush()
        with probe(mosquitto, tmp_path, "--topic", "lab/#") as process:
            assert process.exit_code() == 2
    assert "only 1 old retained messages, on lab/w1/imu" in process.err
    assert "nor to any other topic" in process.err


def test_nothing_usable_is_described(mosquitto: Mosquitto, tmp_path: Path):
    with (
        publishing(mosquitto.port, "home/temperature", [b"21.5"]),
        probe(mosquitto, tmp_path, "--out", str(tmp_path / "settings.toml")) as process,
    ):
        assert process.exit_code() == 2
    assert "home/temperature" in process.out
    assert "a single value, the number 21.5" in process.out
    assert "no message that was heard can be used" in process.err
    assert not (tmp_path / "settings.toml").exists()


def test_settings_are_printed_to_paste(mosquitto: Mosquitto, tmp_path: Path):
    (message, *_) = devices.heard(shapes.wrapped_triples, "lab/imu")
    with (
        publishing(mosquitto.port, "lab/imu", [message.payload]),
        probe(mosquitto, tmp_path, "--topic", "lab/#") as process,
    ):
        assert process.exit_code() == 0
    assert '[[source]]\nname = "source1"\ntopic = "lab/imu"\npayload = "fields"\n' in process.out
    assert "listening for 1.5 s to lab/#" in process.err


@pytest.mark.parametrize("topic", ["", "a/#/b", "a+", "a/{partitions}", "a/b#"])
def test_a_topic_that_is_no_filter(topic: str):
    done = CliRunner().invoke(main, ["probe", "--broker", "127.0.0.1:1", "--topic", topic])
    assert done.exit_code == 2
    assert "is no topic filter" in done.stderr
