"""The daemon over a faulty network, and with a broker that stands still or restarts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from harstream.classifier import Classifier
from harstream.datasets.base import Recording
from harstream.mqtt import connection as mqtt
from harstream.mqtt import failures, network
from harstream.serve.daemon import Daemon

from ..live_streams import assert_labels, expected
from ..serve.daemons import exposed, make_config, publish_all, running, wait_for_labels
from ..servers import Client, Mosquitto, metric, wait_until
from .processes import StoringMosquitto, stopped
from .proxy import FaultyNetwork


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten what the daemon waits for, and let no connection count as one that ended early."""
    monkeypatch.setattr(network, "PING_EVERY_S", 0.2)
    monkeypatch.setattr(network, "SILENCE_S", 2.0)
    monkeypatch.setattr(mqtt, "HANDSHAKE_S", 2.0)
    monkeypatch.setattr(failures, "EARLY_S", 0.0)
    monkeypatch.setattr(failures, "RETRY_FIRST_S", 0.1)


@pytest.fixture
def link(mosquitto: Mosquitto) -> Iterator[FaultyNetwork]:
    with FaultyNetwork(mosquitto.port) as between:
        yield between


def connects(daemon: Daemon) -> int:
    return 0 if daemon.connection is None else daemon.connection.connects


def is_back(daemon: Daemon, number: int) -> bool:
    """Return True if the daemon uses its connection ``number``."""
    return connects(daemon) == number and daemon.connected


def assert_it_labels(daemon: Daemon, port: int, classifier: Classifier, subjects: list[Recording]) -> None:
    """Publish samples to the broker, and wait for all their labels."""
    wanted = expected(subjects, classifier)
    with Client(port) as client:
        publish_all(client, subjects)
        wait_for_labels(client, len(wanted))
        assert_labels(client.labels(), wanted)


@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_a_lost_connection_is_made_again_at_once(mosquitto, link, classifier, subjects, fault, caplog):
    with running(Daemon(make_config(link.port), classifier)) as daemon:
        for number in range(2, 6):
            getattr(link, fault)()
            wait_until(partial(is_back, daemon, number), "the connection")
        assert link.connections == 5  # every first attempt succeeded
        assert_it_labels(daemon, mosquitto.port, classifier, subjects)
        assert metric(exposed(daemon), "harstream_mqtt_reconnects_total") == 4
    lost = [line for line in caplog.messages if "connection lost" in line]
    assert len(lost) == 4
    assert all(line.endswith("; reconnecting at once") for line in lost)
    if fault == "reset":
        assert all("Connection reset by peer" in line for line in lost)


def test_a_half_open_link_is_noticed_and_left(mosquitto, link, classifier, subjects, caplog):
    with running(Daemon(make_config(link.port), classifier)) as daemon:
        link.half_open()
        wait_until(lambda: connects(daemon) == 2 and daemon.connected, "the next connection")
        assert_it_labels(daemon, mosquitto.port, classifier, subjects)
    assert "connection lost (no answer to a ping within 2 s); reconnecting at once" in caplog.text


def test_while_nothing_gets_through_the_daemon_is_not_ready_and_then_it_is_again(
    mosquitto, link, classifier, subjects, caplog
):
    with running(Daemon(make_config(link.port), classifier)) as daemon:
        link.half_open(new=True)
        wait_until(lambda: "no answer within 2 s" in caplog.text, "an attempt that gets no answer")
        assert not daemon.status().ready
        assert metric(exposed(daemon), "harstream_mqtt_connected") == 0
        link.heal()
        wait_until(lambda: daemon.status().ready, "the connection")
        assert_it_labels(daemon, mosquitto.port, classifier, subjects)


def test_a_network_that_refuses_for_a_while_is_a_few_lines(mosquitto, link, classifier, subjects, caplog):
    with running(Daemon(make_config(link.port), classifier)) as daemon:
        link.refuse()
        wait_until(lambda: link.connections >= 6, "several attempts")
        link.heal()
        wait_until(lambda: daemon.status().ready, "the connection")
        assert_it_labels(daemon, mosquitto.port, classifier, subjects)
    assert len([line for line in caplog.messages if "connection lost" in line]) == 1
    assert len([line for line in caplog.messages if "trying again" in line]) <= 2  # refused, or reset right after


def test_a_slow_and_narrow_link_is_no_dead_one(mosquitto, link, classifier, subjects):
    with running(Daemon(make_config(link.port), classifier)) as daemon:
        link.delay_s, link.bytes_s = 0.1, 400_000
        assert_it_labels(daemon, mosquitto.port, classifier, subjects)
        assert connects(daemon) == 1


@pytest.mark.parametrize("keep", [True, False])
def test_a_broker_that_stands_still_and_one_that_restarts_are_followed(tmp_path: Path, classifier, subjects, keep):
    with StoringMosquitto(tmp_path) as broker, running(Daemon(make_config(broker.port), classifier)) as daemon:
        with stopped(broker.pid):
            wait_until(lambda: not daemon.connected, "the silence to be noticed")
        wait_until(lambda: daemon.connected, "the connection")
        before = connects(daemon)
        broker.restart(keep=keep)
        wait_until(lambda: connects(daemon) > before and daemon.connected, "the connection")
        assert_it_labels(daemon, broker.port, classifier, subjects)
