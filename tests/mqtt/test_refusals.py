"""Refused messages, subscriptions and wills: counted, named, and never a fast loop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harstream.errors import BrokerError
from harstream.mqtt import connection as mqtt
from harstream.mqtt import failures
from harstream.mqtt.connection import Connection
from harstream.mqtt.link import Refusal
from harstream.mqtt.presence import Presence
from harstream.mqtt.urls import BrokerSettings, BrokerUrl

from ..servers import DEADLINE_S, Client, Mosquitto, wait_until
from .brokers import Peer, scripted

STATUS = Presence("harstream/x/status")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a broker on a loaded machine the time that it needs to answer."""
    monkeypatch.setattr(mqtt, "HANDSHAKE_S", DEADLINE_S)
    monkeypatch.setattr(failures, "RETRY_FIRST_S", 0.01)  # between two attempts at the start


class Answers:
    """Reports of a connection about its messages."""

    def __init__(self) -> None:
        self.accepted: list[str] = []
        self.refused: list[Refusal] = []

    def add(self, accepted: list[str], refused: list[Refusal]) -> None:
        self.accepted += accepted
        self.refused += refused


@pytest.fixture
def connect() -> Iterator[Callable[..., Connection]]:
    """Make connections, which are closed after the test."""
    connections: list[Connection] = []

    def make(address: str | int, version: str = "auto", **options) -> Connection:
        url = BrokerUrl.parse(f"127.0.0.1:{address}" if isinstance(address, int) else address)
        connections.append(Connection(BrokerSettings(url, version), f"test-{len(connections)}", **options))
        return connections[-1]

    yield make
    for connection in connections:
        connection.close()


def restricted(folder: Path, *rules: str, drops: bool) -> Mosquitto:
    """Return a mosquitto with an access list.

    Args:
        folder: Place of its files.
        rules: Lines of the access list.
        drops: Whether it closes the connection after each refused message, as mosquitto 2.0.11 does with
            ``max_queued_messages 0``.

    """
    (folder / "acl").write_text("".join(f"topic {rule}\n" for rule in rules))
    lines = f"allow_anonymous true\nacl_file {folder / 'acl'}\n"
    return Mosquitto(folder, "" if drops else "max_queued_messages 1000", lines)


# --- labels -------------------------------------------------------------------------------------------


def test_a_refused_message_is_reported_and_leaves_room_in_flight(tmp_path, connect):
    answers = Answers()
    with restricted(tmp_path, "write good/#", drops=False) as broker, Client(broker.port) as _:
        connection = connect(broker.port, "5", on_answers=answers.add)
        connection.open()
        sent = [(f"{'bad' if number % 3 else 'good'}/{number}", b"%d" % number) for number in range(3000)]
        assert connection.publish_all(sent) == len(sent)
        assert connection.flush(DEADLINE_S)
        assert answers.refused == [Refusal(topic, payload, "Not authorized") for topic, payload in sent if topic < "g"]
        assert answers.accepted == []  # nobody has asked for them
        assert connection.outgoing == 0
        assert connection.connects == 1
        connection.report_accepted(True)
        connection.publish("good/x", b"")
        assert connection.flush(DEADLINE_S)
        wait_until(lambda: answers.accepted == ["good/x"], "the accepted message")


def test_mqtt_3_1_1_and_qos_0_have_no_refusals(tmp_path, connect):
    answers = Answers()
    with restricted(tmp_path, "write good/#", drops=False) as broker:
        for version, qos in (("3.1.1", 1), ("5", 0)):
            connection = connect(broker.port, version, on_answers=answers.add)
            connection.open()
            connection.publish("bad/x", b"", qos=qos)
            assert connection.flush(DEADLINE_S)
            assert connection.ready
    assert answers.refused == []


# --- status at the start ------------------------------------------------------------------------------


@pytest.mark.parametrize("drops", [False, True])
def test_a_refused_status_is_an_error_at_the_start(tmp_path, connect, drops):
    with restricted(tmp_path, "read #", drops=drops) as broker:
        connection = connect(broker.port, "5", subscriptions=["a/+"], presence=STATUS)
        with pytest.raises(BrokerError) as caught:
            connection.open(threading.Event())
    assert str(caught.value) == (
        f"broker mqtt://127.0.0.1:{broker.port}: refused the status message to harstream/x/status: Not authorized; "
        "let this client publish to harstream/x/status in the broker's access list"
    )


@pytest.mark.parametrize(("version", "qos"), [("3.1.1", 1), ("5", 0), ("3.1.1", 0)])
def test_a_broker_that_closes_the_connection_for_the_status_is_an_error_after_three_times(
    tmp_path, connect, version, qos, caplog
):
    with restricted(tmp_path, "read #", drops=True) as broker:
        connection = connect(f"ann@127.0.0.1:{broker.port}", version, presence=Presence(STATUS.topic, qos))
        with pytest.raises(BrokerError, match="closed the connection right after the status message") as caught:
            connection.open(threading.Event())
    assert "let user 'ann' publish to harstream/x/status" in str(caught.value)
    [warning] = [record.getMessage() for record in caplog.records]  # of the first time; the third is the error
    assert "trying again in 0.0 s" in warning


def test_a_broker_that_closes_it_at_once_is_the_same(connect):
    def hang_up(peer: Peer) -> None:
        peer.accept()
        peer.serve(lambda topic, payload: None)

    with scripted(hang_up) as port:
        connection = connect(port, "3.1.1", subscriptions=["a/+"], presence=STATUS)
        with pytest.raises(BrokerError, match="closed the connection right after the status message"):
            connection.open(threading.Event())


def test_a_broker_that_closes_the_connection_for_a_subscription_is_an_error(connect):
    def hang_up(peer: Peer) -> None:
        peer.accept()
        peer.packet()

    with scripted(hang_up) as port:
        connection = connect(port, "3.1.1", subscriptions=["a/+"], presence=STATUS)
        with pytest.raises(BrokerError, match=r"closed the connection right after the subscription to a/\+"):
            connection.open(threading.Event())


@pytest.mark.parametrize(
    ("connack", "mend"),
    [(b"\x20\x05\x00\x00\x02\x25\x00", "--no-retain"), (b"\x20\x05\x00\x00\x02\x24\x00", "--qos 0")],
    ids=["no retained messages", "QoS 0 only"],
)
def test_what_the_broker_does_not_support_is_an_error_with_the_option_that_avoids_it(connect, connack, mend):
    with (
        scripted(lambda peer: peer.sock.sendall(connack)) as port,
        pytest.raises(BrokerError, match=f"not supported; use {mend}"),
    ):
        connect(port, "5", presence=STATUS).open(threading.Event())


def test_a_disconnect_that_names_a_reason_is_shown(connect):
    def refuse_retained(peer: Peer) -> None:
        peer.accept()
        peer.packet()
        peer.sock.sendall(b"\xe0\x02\x9a\x00")

    with scripted(refuse_retained) as port, pytest.raises(BrokerError, match="Retain not supported; use --no-retain"):
        connect(port, "5", presence=STATUS).open(threading.Event())


# --- will ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "connack"), [("5", b"\x20\x03\x00\x87\x00"), ("3.1.1", b"\x20\x02\x00\x05"), ("5", b"")]
)
def test_a_refused_will_is_told_from_a_refused_client(connect, version, connack):
    def refuse_wills(peer: Peer) -> None:
        if peer.connect[7] & 0x04:
            peer.sock.sendall(connack)
        else:
            peer.accept()
            peer.serve()

    with scripted(refuse_wills) as port:
        with pytest.raises(BrokerError, match=r"refused our will: .*or use --no-will"):
            connect(port, version, presence=STATUS).open(threading.Event())
        connection = connect(port, version, presence=Presence(STATUS.topic, will=False))
        connection.open(threading.Event())
        assert connection.ready


@pytest.mark.parametrize(("qos", "retain"), [(0, True), (1, True), (1, False)])
def test_the_will_has_the_qos_and_the_retain_flag_of_the_presence(connect, qos, retain):
    flags: list[int] = []

    def note(peer: Peer) -> None:
        flags.append(peer.connect[7])
        peer.accept()
        peer.serve()

    with scripted(note) as port:
        connect(port, "3.1.1", presence=Presence(STATUS.topic, qos, retain)).open(threading.Event())
    assert flags == [0x02 | 0x04 | qos << 3 | retain << 5]


# --- while it runs ------------------------------------------------------------------------------------


def test_a_connection_that_dies_behind_the_same_message_is_named_backs_off_and_gives_it_up(
    connect, caplog, monkeypatch
):
    seen: list[str] = []

    def refuse_bad(peer: Peer) -> None:
        def publish(topic: str, payload: bytes) -> int | None:
            seen.append(topic)
            return None if topic.startswith("bad/") else 0

        peer.accept()
        peer.serve(publish)

    monkeypatch.setattr(failures, "RETRY_FIRST_S", 0.2)
    answers = Answers()
    with scripted(refuse_bad) as port, caplog.at_level(logging.INFO):
        connection = connect(
            f"ann@127.0.0.1:{port}",
            "3.1.1",
            kind_of=lambda topic: f"{topic.partition('/')[0]}/{{device}}",
            on_answers=answers.add,
        )
        connection.open()
        connection.publish_all([("bad/1", b"x"), ("good/2", b"y")])
        wait_until(lambda: "good/2" in seen, "the message behind the refused one")
        assert connection.flush(DEADLINE_S)
    assert seen == ["bad/1", "bad/1", "bad/1", "good/2"]
    assert answers.refused == [Refusal("bad/1", b"x", "Connection closed")]
    lost = [record.getMessage() for record in caplog.records if "reconnecting" in record.getMessage()]
    pauses = [float(line.rpartition("reconnecting in ")[2].removesuffix(" s")) for line in lost]
    for pause_s, longest_s in zip(pauses, [0.2, 0.4, 0.8], strict=True):
        assert longest_s / 2 - 0.05 <= pause_s <= longest_s
    assert (
        "closed 3 times in a row right after a message to bad/1 (bad/{device}), so the broker probably does not allow "
        "it; let user 'ann' publish to bad/{device} in the broker's access list" in lost[2]
    )


def test_without_its_status_a_daemon_goes_on_when_the_access_list_forbids_it_later(tmp_path, connect):
    """mosquitto acknowledges the status over MQTT 3.1.1, and closes the connection."""
    answers = Answers()
    with restricted(tmp_path, "readwrite #", drops=True) as broker:
        connection = connect(broker.port, "3.1.1", presence=STATUS, on_answers=answers.add)
        connection.open()
        broker.stop()
        (tmp_path / "acl").write_text("topic read #\ntopic write labels/#\n")
        broker.start()
        wait_until(lambda: answers.refused, "the refusal")
        assert answers.refused == [Refusal(STATUS.topic, b"online", "Connection closed")]
        wait_until(lambda: connection.ready, "the connection without the status")
        connection.publish("labels/a", b"x")
        assert connection.flush(DEADLINE_S)
