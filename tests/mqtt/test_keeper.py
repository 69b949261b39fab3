"""The status topic: it says what is true, whoever else writes there."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from paho.mqtt.client import MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

from harstream.mqtt import keeper
from harstream.mqtt.client import FastClient
from harstream.mqtt.connection import Connection
from harstream.mqtt.keeper import PresenceKeeper
from harstream.mqtt.presence import Presence
from harstream.mqtt.urls import BrokerSettings, BrokerUrl

from ..fakes import Clock, replace_monotonic
from ..faults.proxy import FaultyNetwork
from ..servers import DEADLINE_S, Client, Mosquitto, wait_until
from .brokers import Peer, scripted

TOPIC = "harstream/x/status"


@pytest.fixture
def daemon(mosquitto) -> Iterator[Callable[..., Connection]]:
    """Open connections with a presence, which are closed after the test."""
    opened: list[Connection] = []
    numbers = itertools.count()  # two may be opened at the same moment

    def begin(version: str = "5", **presence) -> Connection:
        settings = BrokerSettings(BrokerUrl.parse(mosquitto.address), version)
        connection = Connection(settings, f"daemon-{next(numbers)}", presence=Presence(TOPIC, **presence))
        connection.open()
        opened.append(connection)
        wait_until(lambda: is_back(connection, 1), "its status, also after the subscription")
        return connection

    yield begin
    for connection in opened:
        connection.close()


def is_back(connection: Connection, number: int) -> bool:
    """Return True if connection ``number`` has published its status and subscribed to it."""
    keeper: Any = connection._keeper
    return connection.connects == number and keeper._subscribed and not connection.outgoing


def retained(broker: Mosquitto) -> bytes:
    """Return the retained status."""
    with Client(broker.port, TOPIC) as client:
        wait_until(lambda: client.messages, "the retained status")
        return client.messages[0][1]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("payload", [b"offline", b"stopped"], ids=["late will", "rolling update"])
def test_a_wrong_status_of_a_predecessor_is_corrected(mosquitto, daemon, version, payload, caplog):
    daemon(version)
    with Client(mosquitto.port, TOPIC) as client:
        client.publish(TOPIC, payload, retain=True)
        wait_until(lambda: client.states(TOPIC) == [b"online", payload, b"online"], "the correction")
    assert retained(mosquitto) == b"online"
    assert "two have the same name" not in caplog.text


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_status_that_was_wrong_before_the_start_is_replaced(mosquitto, daemon, version):
    with Client(mosquitto.port, TOPIC) as client:
        client.publish(TOPIC, b"offline", retain=True)
        client.flush()
        daemon(version)
        wait_until(lambda: client.states(TOPIC) == [b"offline", b"online"], "the status")


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_daemon_that_leaves_does_not_contradict_its_successor(mosquitto, daemon, version):
    first = daemon(version)
    with Client(mosquitto.port, TOPIC) as client:
        first.leave(b"stopped")
        wait_until(lambda: b"stopped" in client.payloads(TOPIC), "the end")
        client.publish(TOPIC, b"online", retain=True)
        client.publish(TOPIC, b"offline", retain=True)
        client.flush()
        assert first.flush(DEADLINE_S)
        assert client.payloads(TOPIC)[-3:] == [b"stopped", b"online", b"offline"]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_two_living_daemons_with_one_name_do_not_fight_and_one_line_tells_of_them(mosquitto, daemon, version, caplog):
    with Client(mosquitto.port, "#") as client:
        daemon(version)
        second = daemon(version)
        wait_until(lambda: "two have the same name" in caplog.text, "the line")
        second.leave(b"stopped")
        assert second.flush(DEADLINE_S)
        second.close()
        wait_until(lambda: client.payloads(TOPIC)[-2:] == [b"stopped", b"online"], "the correction by the first")
        client.publish("after", b"")
        wait_until(lambda: client.payloads("after"))
        assert client.payloads(TOPIC) == [b"online"] * 4 + [b"stopped", b"online"]
    [line] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert line.startswith(f"{TOPIC}: another daemon published online too.")
    assert "--instance" in line


@pytest.mark.parametrize("versions", [("5", "5"), ("3.1.1", "3.1.1"), ("5", "3.1.1")])
def test_two_daemons_with_one_name_that_start_at_the_same_moment_are_told_of_in_one_line(
    mosquitto, daemon, versions, caplog, monkeypatch
):
    both, watch = threading.Barrier(2), PresenceKeeper.watch

    def wait_for_the_other(own: PresenceKeeper, client: FastClient) -> None:
        both.wait(DEADLINE_S)  # each has published `online`, and none has subscribed
        watch(own, client)

    monkeypatch.setattr(PresenceKeeper, "watch", wait_for_the_other)
    threads = [threading.Thread(target=daemon, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    wait_until(lambda: "two have the same name" in caplog.text, "the line")
    assert "--instance" in caplog.text


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_one_daemon_alone_is_not_taken_for_two_whatever_it_loses(tmp_path, version, caplog):
    with (
        Mosquitto(tmp_path, "", "allow_anonymous true\nretain_available true") as broker,
        FaultyNetwork(broker.port) as net,
    ):
        connection = Connection(BrokerSettings(BrokerUrl.parse(net.address), version), "x", presence=Presence(TOPIC))
        connection.open()
        for number in range(2, 6):
            net.reset()
            wait_until(partial(is_back, connection, number), "the next connection")
        with Client(broker.port, "after") as client:
            assert connection.publish("after", b"")
            wait_until(lambda: client.messages, "a message behind the others")
        connection.close()
    assert "two have the same name" not in caplog.text


def test_whoever_contradicts_again_and_again_is_answered_in_pauses_that_double(monkeypatch, caplog):
    clock = Clock()
    replace_monotonic(monkeypatch, keeper, clock)
    own = PresenceKeeper(Presence(TOPIC))
    own.connect()
    pauses = []
    for _ in range(9):
        pause_s = own.judge(b"offline", retained=False)
        assert own.judge(b"stopped", retained=False) is None  # a correction is on its way already
        assert pause_s is not None
        pauses.append(pause_s)
        clock.now_s += pause_s
        own._due = False  # as after the publication
    assert pauses == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert sum("two have the same name" in record.getMessage() for record in caplog.records) == 1
    clock.now_s += keeper.CALM_S + 1
    assert own.judge(b"offline", retained=False) == 0


def test_a_second_daemon_is_noticed_however_often_the_connection_was_lost(caplog):
    own, client = PresenceKeeper(Presence(TOPIC)), FastClient(CallbackAPIVersion.VERSION2, protocol=MQTTv311)
    for _ in range(5):
        own.connect()
        own.announce(client)
        client._out_messages.clear()  # answered before the subscription, so it is not sent back
    own.announce(client)  # not answered yet when the subscription is sent, so it may be sent back
    own.watch(client)
    own._mid = 7
    assert own.take_suback(client, 7, [])  # publishes once more, which is sent back
    own.judge(b"online", retained=True)
    own.judge(b"online", retained=False)
    own.judge(b"online", retained=False)
    assert not caplog.messages
    own.judge(b"online", retained=False)
    assert "another daemon published online too" in caplog.text


def test_a_status_that_may_not_be_published_is_not_announced_in_the_log(caplog):
    caplog.set_level(logging.INFO)
    own = PresenceKeeper(Presence(TOPIC))
    own.may_announce = False
    assert own.judge(b"offline", retained=True) is None
    assert not caplog.messages


def test_messages_on_other_topics_are_delivered_beside_the_status(mosquitto):
    received: list[tuple[str, bytes, bool, int]] = []
    connection = Connection(
        BrokerSettings(BrokerUrl.parse(mosquitto.address), "3.1.1"),
        "daemon",
        subscriptions=["a/+"],
        presence=Presence(TOPIC),
        on_messages=received.extend,
    )
    connection.open()
    with Client(mosquitto.port, TOPIC) as client:
        for number in range(50):
            client.publish("a/1", b"%d" % number)
            client.publish(TOPIC, b"offline")
        wait_until(lambda: len(received) == 50, "the messages")
    connection.close()
    assert [payload for _, payload, *_ in received] == [b"%d" % number for number in range(50)]


def test_a_topic_that_may_not_be_read_stops_nothing_and_is_one_line(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(keeper, "READ_BACK_S", 0.1)
    (tmp_path / "acl").write_text("topic write #\n")
    with (
        Mosquitto(tmp_path, "", f"allow_anonymous true\nacl_file {tmp_path / 'acl'}") as broker,
        caplog.at_level(logging.INFO),
    ):
        connection = Connection(BrokerSettings(BrokerUrl.parse(broker.address)), "daemon", presence=Presence(TOPIC))
        connection.open()
        wait_until(lambda: "cannot read" in caplog.text, "the line")
        broker.stop()
        broker.start()
        wait_until(lambda: connection.connects == 2 and connection.ready, "the next connection")
        connection.publish("a", b"")
        assert connection.flush(DEADLINE_S)
        connection.close()
    assert caplog.text.count(f"cannot read the own status topic {TOPIC}") == 1


def test_a_broker_that_closes_the_connection_for_the_subscription_is_asked_three_times_only(caplog):
    published: list[bytes] = []

    def hang_up(peer: Peer) -> None:
        def publish(topic: str, payload: bytes) -> int:
            published.append(payload)
            return 0

        peer.accept()
        peer.serve(publish, subscribe=lambda topic: topic != TOPIC)

    with scripted(hang_up) as port, caplog.at_level(logging.INFO):
        settings = BrokerSettings(BrokerUrl.parse(f"127.0.0.1:{port}"), "3.1.1")
        connection = Connection(settings, "daemon", subscriptions=["a/+"], presence=Presence(TOPIC))
        connection.open()
        wait_until(lambda: connection.connects == 4 and connection.ready, "the connection without the subscription")
        connection.publish("labels", b"x")
        assert connection.flush(DEADLINE_S)
        connection.close()
    assert published == [b"online"] * 4 + [b"x"]
    assert caplog.text.count(f"cannot read the own status topic {TOPIC}: the broker closes the connection") == 1
    assert "probably does not allow" not in caplog.text
