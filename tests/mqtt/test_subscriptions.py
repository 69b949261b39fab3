"""Topic filters that change while the connection lasts, against mosquitto and a scripted broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from harstream.mqtt.connection import Connection
from harstream.mqtt.subscriptions import Subscriptions
from harstream.mqtt.urls import BrokerSettings, BrokerUrl

from ..servers import Client, wait_until
from .brokers import Peer, scripted


class Receiver:
    """Connection whose subscriptions change; it keeps what it receives."""

    def __init__(self, port: int, version: str, fixed: tuple[str, ...] = ()) -> None:
        self.topics: list[str] = []
        self.subscriptions = Subscriptions(qos=1)
        settings = BrokerSettings(BrokerUrl.parse(f"127.0.0.1:{port}"), version)
        self.connection = Connection(
            settings,
            "receiver",
            subscriptions=fixed,
            changing=self.subscriptions,
            on_message=lambda topic, payload, retained: self.topics.append(topic),
        )

    def wait_for(self, *filters: str) -> None:
        """Wait until these filters are accepted and no others deliver."""
        wanted, these = frozenset(filters), self.subscriptions
        wait_until(lambda: these.accepted == these.delivering == wanted, f"the subscriptions to {filters}")


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    made: list[Receiver] = []

    def make(port: int, version: str = "5", **settings) -> Receiver:
        made.append(Receiver(port, version, **settings))
        made[-1].connection.open()
        return made[-1]

    yield make
    for receiver in made:
        receiver.connection.close()


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_filters_are_added_and_removed_while_connected(mosquitto, receive, version):
    receiver = receive(mosquitto.port, version, fixed=("fixed/+",))
    receiver.subscriptions.change(add=["a/+", "b/+"])
    receiver.wait_for("a/+", "b/+")
    receiver.subscriptions.change(add=["c/+"], remove=["a/+"])
    receiver.wait_for("b/+", "c/+")
    with Client(mosquitto.port) as client:
        for topic in ("a/1", "b/1", "c/1", "fixed/1"):
            client.publish(topic, b"x")
        wait_until(lambda: "fixed/1" in receiver.topics, "the messages")
    assert receiver.topics == ["b/1", "c/1", "fixed/1"]


def test_all_messages_before_the_end_of_a_filter_are_received_before_it_is_told(mosquitto, receive):
    receiver = receive(mosquitto.port)
    receiver.subscriptions.change(add=["a/+"])
    receiver.wait_for("a/+")
    with Client(mosquitto.port, "none") as client:
        for _ in range(500):
            client.publish("a/1", bytes(1000))
        client.flush()
        receiver.subscriptions.change(remove=["a/+"])
        receiver.wait_for()
        assert len(receiver.topics) == 500


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_after_a_reconnect_the_wanted_filters_are_subscribed_to(mosquitto, receive, version):
    receiver = receive(mosquitto.port, version)
    receiver.subscriptions.change(add=["a/+", "b/+"])
    receiver.wait_for("a/+", "b/+")
    mosquitto.stop()
    wait_until(lambda: not receiver.connection.ready, "the loss")
    assert receiver.subscriptions.delivering == frozenset()
    receiver.subscriptions.change(add=["c/+"], remove=["a/+"])
    assert receiver.subscriptions.accepted == frozenset()
    mosquitto.start()
    receiver.wait_for("b/+", "c/+")
    with Client(mosquitto.port) as client:
        for topic in ("a/1", "b/1", "c/1"):
            client.publish(topic, b"x")
        wait_until(lambda: len(receiver.topics) >= 2, "the messages")
    assert receiver.topics == ["b/1", "c/1"]


def test_unsubscribe_ends_them_too(mosquitto, receive):
    receiver = receive(mosquitto.port)
    receiver.subscriptions.change(add=["a/+"])
    receiver.wait_for("a/+")
    receiver.connection.unsubscribe(10)
    with Client(mosquitto.port) as client:
        client.publish("a/1", b"x")
        wait_until(lambda: client.payloads("a/1"), "the message elsewhere")
    assert receiver.topics == []


def test_many_filters_are_asked_for_in_several_packets(mosquitto, receive):
    receiver = receive(mosquitto.port)
    names = [f"p/{number}/+" for number in range(1_300)]
    receiver.subscriptions.change(add=names)
    receiver.wait_for(*names)


def test_a_refused_filter_is_told_and_asked_for_again(receive):
    refuse = [True]
    asked: list[str] = []

    def script(peer: Peer) -> None:
        peer.accept()
        while True:
            kind, body = peer.packet()
            if kind == 0x80:
                asked.append(body[5:-1].decode())
                peer.sock.sendall(b"\x90\x04" + body[:2] + b"\x00" + (b"\x87" if refuse[0] else b"\x01"))
            elif kind == 0xC0:
                peer.sock.sendall(b"\xd0\x00")
            elif kind in (0, 0xE0):
                return

    with scripted(script) as port:
        receiver = receive(port)
        receiver.subscriptions.change(add=["a/+"])
        wait_until(lambda: receiver.subscriptions.refused, "the refusal")
        assert receiver.subscriptions.refused == {"a/+": "Not authorized"}
        assert receiver.subscriptions.accepted == receiver.subscriptions.delivering == frozenset()
        assert receiver.connection.ready
        receiver.subscriptions.change()
        wait_until(lambda: len(asked) == 2, "another attempt")
        assert receiver.subscriptions.refused == {"a/+": "Not authorized"}
        wait_until(lambda: not receiver.subscriptions.delivering, "the answer")
        refuse[0] = False
        receiver.subscriptions.change()
        receiver.wait_for("a/+")
        assert receiver.subscriptions.refused == {}
        assert asked == ["a/+"] * 3
