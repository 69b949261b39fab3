"""The network thread: whatever a broker sends and whatever is raised, it lives, and notices a dead link."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from harstream.errors import BrokerError
from harstream.mqtt import client as client_module
from harstream.mqtt import connection as mqtt
from harstream.mqtt import failures, network
from harstream.mqtt.client import FastClient
from harstream.mqtt.connection import Connection
from harstream.mqtt.network import PING_EVERY_S, PONG_S, SILENCE_S
from harstream.mqtt.urls import BrokerSettings, BrokerUrl

from ..fakes import Clock, replace_monotonic
from ..servers import DEADLINE_S, Client, wait_until
from .brokers import Peer, scripted
from .test_client import Wire

#: Packets that no broker should send, or only in another situation, by what is odd about them.
ODD = {
    "DISCONNECT, unknown reason": "e0 02 ee 00",
    "DISCONNECT, properties cut off": "e0 03 00 ff 01",
    "DISCONNECT, length of properties cut off": "e0 02 00 80",
    "DISCONNECT without a reason": "e0 00",
    "UNSUBACK, empty": "b0 00",
    "UNSUBACK, unknown reason": "b0 04 00 01 00 ee",
    "UNSUBACK that nobody asked for": "b0 04 00 01 00 00",
    "SUBACK, empty": "90 00",
    "SUBACK, unknown reason": "90 04 00 01 00 ee",
    "SUBACK, two codes": "90 05 00 01 00 01 01",
    "SUBACK that nobody asked for": "90 04 7f ff 00 87",
    "SUBACK, properties cut off": "90 05 00 01 05 00 00",
    "CONNACK, empty": "20 00",
    "CONNACK, unknown reason": "20 03 00 ee 00",
    "CONNACK, properties cut off": "20 03 00 00 99",
    "CONNACK again": "20 03 00 00 00",
    "CONNACK again, refusing": "20 03 00 87 00",
    "PUBACK, empty": "40 00",
    "PUBACK, half an identifier": "40 01 00",
    "PUBACK, unknown reason": "40 03 00 01 ee",
    "PUBREC, empty": "50 00",
    "PUBREC, unknown reason": "50 03 00 01 ee",
    "PUBREL, empty": "62 00",
    "PUBCOMP, empty": "70 00",
    "PINGRESP with a body": "d0 01 00",
    "PINGRESP that nobody asked for": "d0 00",
    "PINGREQ": "c0 00",
    "AUTH": "f0 00",
    "type 0": "00 00",
    "CONNECT": "10 00",
    "SUBSCRIBE": "82 00",
    "PUBLISH, empty": "30 00",
    "PUBLISH, topic longer than the packet": "30 02 00 09",
    "PUBLISH, topic not UTF-8": "30 04 00 02 ff fe",
    "PUBLISH, properties cut off": "30 03 00 01 61",
    "PUBLISH, properties longer than the packet": "30 04 00 01 61 09",
    "PUBLISH at QoS 1, no identifier": "32 03 00 01 61",
    "PUBLISH at QoS 2, cut off": "34 02 00 09",
    "PUBLISH at QoS 3": "36 05 00 01 61 00 01",
    "length of five bytes": "30 ff ff ff ff 01",
}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a loaded machine the time that it needs to answer, and wait for little between two attempts."""
    monkeypatch.setattr(mqtt, "HANDSHAKE_S", DEADLINE_S)
    monkeypatch.setattr(failures, "RETRY_FIRST_S", 0.01)


@pytest.fixture
def connect() -> Iterator[Callable[..., Connection]]:
    """Make connections, which are closed after the test."""
    connections: list[Connection] = []

    def make(port: int, version: str = "5", **options) -> Connection:
        settings = BrokerSettings(BrokerUrl.parse(f"127.0.0.1:{port}"), version)
        connections.append(Connection(settings, "x", **options))
        return connections[-1]

    yield make
    for connection in connections:
        connection.close()


class OddBroker:
    """Script that sends an odd packet behind its first SUBACK, and a message on ``marker`` in every case.

    Attributes:
        on: Set it to let the odd packet be sent.

    """

    def __init__(self, odd: bytes) -> None:
        self.on = threading.Event()
        self._odd = odd

    def __call__(self, peer: Peer) -> None:
        peer.accept()
        kind, body = peer.packet()
        assert kind == 0x80
        version_5 = peer.version == 5
        peer.sock.sendall(b"\x90\x04" + body[:2] + b"\0\1" if version_5 else b"\x90\x03" + body[:2] + b"\1")
        assert self.on.wait(DEADLINE_S)
        odd, self._odd = self._odd, b""
        peer.sock.sendall(odd)
        peer.sock.sendall(b"\x30\x09\x00\x06marker\x00" if version_5 else b"\x30\x08\x00\x06marker")
        peer.serve()


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_after_an_odd_packet_messages_come_again_and_at_most_one_line_tells_of_it(connect, odd, version, caplog):
    received: list[Any] = []
    broker = OddBroker(bytes.fromhex(odd))
    with scripted(broker) as port:
        connection = connect(port, version, subscriptions=["marker"], on_messages=received.extend)
        connection.open()
        broker.on.set()
        wait_until(lambda: received, "the message after it")
        wait_until(lambda: connection.ready, "the connection")
        assert connection.failure is None
        assert connection.publish("a", b"x")
        assert connection.flush(DEADLINE_S)
    lines = [record.getMessage() for record in caplog.records]
    assert len([line for line in lines if "reconnected" not in line]) == connection.connects - 1 <= 1
    assert "Traceback" not in caplog.text


def test_the_line_about_an_odd_packet_shows_it_and_what_is_wrong_with_it(connect, caplog):
    broker = OddBroker(bytes.fromhex(ODD["DISCONNECT, unknown reason"]))
    with scripted(broker) as port:
        connection = connect(port, subscriptions=["marker"])
        connection.open()
        broker.on.set()
        wait_until(lambda: connection.connects == 2 and connection.ready, "the next connection")
    [line] = [record.getMessage() for record in caplog.records if "reconnected" not in record.getMessage()]
    start = f"broker mqtt://127.0.0.1:{port}: connection lost (cannot handle the packet e0 02 ee 00 "
    assert line.startswith(start)
    assert "MalformedPacket: 238" in line


def test_an_odd_packet_during_the_start_is_a_refusal_that_names_it(connect):
    with (
        scripted(lambda peer: peer.sock.sendall(bytes.fromhex("20 03 00 ee 00"))) as port,
        pytest.raises(BrokerError, match="cannot handle the packet 20 03 00 ee 00"),
    ):
        connect(port).open()


@pytest.mark.parametrize("error", [MemoryError("no room"), ZeroDivisionError("a bug"), RecursionError()])
def test_whatever_a_receiver_of_messages_raises_costs_one_connection(mosquitto, connect, error, caplog):
    received: list[Any] = []

    def receive(messages: list[Any]) -> None:
        if messages[0][1] == b"bad":
            raise error
        received.extend(messages)

    connection = connect(mosquitto.port, subscriptions=["a"], on_messages=receive)
    connection.open()
    with Client(mosquitto.port) as other:
        other.publish("a", b"bad")
        wait_until(lambda: connection.connects == 2 and connection.ready, "the next connection")
        other.publish("a", b"good")
        wait_until(lambda: received, "the next message")
    assert received == [("a", b"good", False, 0)]
    lost = [record.getMessage() for record in caplog.records if "reconnected" not in record.getMessage()]
    assert len(lost) == 1
    assert f"({type(error).__name__}" in lost[0]
    assert " at test_network.py:" in lost[0]


def test_a_lack_of_memory_while_a_message_is_read_costs_one_connection(mosquitto, connect, caplog):
    received: list[Any] = []
    connection = connect(mosquitto.port, subscriptions=["a"], on_messages=received.extend)
    connection.open()
    client: Any = connection._client
    add = client._incomplete.add

    def fail_once(data: bytes) -> bytes | None:
        client._incomplete.add = add
        raise MemoryError

    client._incomplete.add = fail_once
    with Client(mosquitto.port, "b") as other:
        other.publish("a", bytes(1_000_000))
        wait_until(lambda: connection.connects == 2 and connection.ready, "the next connection")
        other.publish("a", b"good")
        wait_until(lambda: received, "the next message")
    assert received == [("a", b"good", False, 0)]
    assert "connection lost (MemoryError at test_network.py:" in caplog.text


@pytest.mark.parametrize("where", ["_loop", "reconnect", "on_connect", "on_disconnect", "on_subscribe"])
def test_an_error_anywhere_in_the_thread_is_survived(mosquitto, connect, where, caplog):
    connection = connect(mosquitto.port, subscriptions=["a"])
    connection.open()
    client: Any = connection._client
    original, failed = getattr(client, where), threading.Event()

    def fail_once(*arguments: Any, **named: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise ZeroDivisionError("a bug")
        return original(*arguments, **named)

    setattr(client, where, fail_once)
    client._sock.shutdown(2)
    wait_until(lambda: failed.is_set() and connection.ready and connection.connects > 1, "the connection again")
    assert "ZeroDivisionError: a bug" in caplog.text
    connection.publish("a", b"x")
    assert connection.flush(DEADLINE_S)


def test_an_error_that_ends_the_thread_is_told_and_nothing_waits_for_it(mosquitto, connect):
    dead = threading.Event()
    connection = connect(mosquitto.port, subscriptions=["a"], on_death=dead.set)
    connection.open()

    class EndOfAllError(BaseException):
        pass

    def fail(*_: Any) -> None:
        raise EndOfAllError

    client: Any = connection._client
    client.on_messages = fail
    connection.publish("a", b"x")
    assert dead.wait(DEADLINE_S)
    assert isinstance(connection.failure, EndOfAllError)
    assert not connection.ready
    assert client._sock is None
    connection.close()


def test_a_stop_while_the_client_waits_for_its_next_attempt_is_not_delayed(mosquitto, connect, monkeypatch, caplog):
    monkeypatch.setattr(failures, "RETRY_FIRST_S", 10 * DEADLINE_S)
    monkeypatch.setattr(failures, "RETRY_MAX_S", 10 * DEADLINE_S)
    connection = connect(mosquitto.port)
    connection.open()
    mosquitto.stop()
    wait_until(lambda: "reconnecting in" in caplog.text, "the loss")
    ended = threading.Event()

    def close() -> None:
        connection.close()
        ended.set()

    threading.Thread(target=close, daemon=True).start()
    assert ended.wait(DEADLINE_S)


# --- dead links ---------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (network, client_module):
        replace_monotonic(monkeypatch, module, clock)
    return clock


@pytest.fixture
def wire(clock: Clock) -> Iterator[Any]:
    wire = Wire(5)
    wire.client.begin_pings()
    yield wire
    wire.close()


def tick(wire: Any, clock: Clock, seconds: float = 0.25) -> bytes:
    """Let time pass and the client do what is due; return what it has sent."""
    clock.now_s += seconds
    wire.client._run_timers()
    wire.client._packet_write()
    return wire.answered()


@pytest.mark.parametrize("dies_s", [10.0, 11.0, 12.5, 14.75])
def test_a_link_over_which_nothing_comes_any_more_is_dropped_within_fifteen_seconds(wire, clock, dies_s):
    start_s = clock.now_s
    while not wire.client.dropped:
        alive = clock.now_s - start_s < dies_s
        if b"\xc0\x00" in tick(wire, clock) and alive:
            wire.feed(b"\xd0\x00")
        assert clock.now_s - start_s < dies_s + 15
    assert clock.now_s - start_s > dies_s + SILENCE_S - PING_EVERY_S
    assert wire.client.end_reason == f"no answer to a ping within {SILENCE_S:.0f} s"


def test_a_broker_that_answers_late_and_one_that_sends_only_messages_are_alive(wire, clock):
    for _ in range(200):
        sent = tick(wire, clock)
        if sent:
            clock.now_s += SILENCE_S - 1
            wire.feed(b"\xd0\x00")
    assert not wire.client.dropped
    wire.client._pings.clear()
    start_s = clock.now_s
    while not wire.client.dropped:  # messages, but never an answer: nothing of ours arrives there
        tick(wire, clock)
        wire.feed(b"\x30\x04\x00\x01a\x00")
        assert clock.now_s - start_s < PING_EVERY_S + PONG_S + 1
    assert clock.now_s - start_s > PONG_S


def test_a_process_that_was_stopped_for_a_while_reads_before_it_judges(wire, clock, monkeypatch):
    """The answer to the ping arrived meanwhile."""
    client = wire.client
    tick(wire, clock, PING_EVERY_S)
    assert client._pings
    wire.broker.sendall(b"\xd0\x00")
    clock.now_s += 3600
    original = client._run_timers

    def run_once() -> None:
        original()
        client._stop_by_s = 0

    monkeypatch.setattr(client, "_run_timers", run_once)
    client._exchange()
    assert not client.dropped


def test_the_broker_may_ask_for_more_frequent_signs_of_life(wire, clock):
    wire.client.on_connect = lambda client, *_: client.begin_pings()
    wire.feed(b"\x20\x06\x00\x00\x03\x13\x00\x04")  # server keep alive of 4 s
    assert tick(wire, clock, 2.1) == b"\xc0\x00"


def test_timers_are_called_in_order_once_and_one_name_has_one(clock):
    client: Any = FastClient(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    called: list[str] = []
    client.call_after("b", 2, lambda: called.append("b"))
    client.call_after("a", 1, lambda: called.append("a"))
    client.call_after("b", 3, lambda: called.append("later b"))
    client.call_after("c", 2, lambda: client.call_after("c", 1, lambda: called.append("c again")))
    client._run_timers()
    assert called == []
    clock.now_s += 2.5
    client._run_timers()
    clock.now_s += 10
    client._run_timers()
    client._run_timers()
    assert called == ["a", "later b", "c again"]
    assert client._next_timer_s == float("inf")


# --- last words -----------------------------------------------------------------------------------------


def test_a_reason_that_the_broker_gave_before_it_closed_is_read_even_if_a_write_fails_first() -> None:
    wire = Wire(5)
    client, ends = wire.client, list[tuple[bool, str]]()
    client.on_disconnect = lambda _, __, flags, reason, ___: ends.append(
        (flags.is_disconnect_packet_from_server, str(reason))
    )
    client._thread = object()  # as if its network thread were running
    client.publish_all([("a", b"x")], 1, False, 10)
    wire.broker.sendall(b"\x30\x04\x00\x01a\x00\xe0\x02\x97\x00")
    wire.broker.close()
    client.loop_write()
    assert ends == [(True, "Quota exceeded")]
    assert wire.received == [("a", b"", False, 0)]
    assert not client.is_connected()
