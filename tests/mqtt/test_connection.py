"""The connection against mosquitto, the embedded broker, and scripted brokers for what neither of them does."""

from __future__ import annotations

import functools
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harstream.embedded import EmbeddedBroker
from harstream.errors import BrokerError, ConfigError
from harstream.mqtt import connection as mqtt
from harstream.mqtt.connection import Connection
from harstream.mqtt.presence import Presence
from harstream.mqtt.urls import BrokerSettings, BrokerUrl

from ..constants import UNREACHABLE
from ..servers import DEADLINE_S, Client, Mosquitto, mosquitto_passwords, wait_until


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a broker on a loaded machine the time that it needs to answer."""
    monkeypatch.setattr(mqtt, "HANDSHAKE_S", DEADLINE_S)


@pytest.fixture
def connect() -> Iterator[Callable[..., Connection]]:
    """Make connections, which are closed after the test."""
    connections: list[Connection] = []

    def make(*addresses: str, version: str = "auto", ca: Path | None = None, **options) -> Connection:
        url, *others = [BrokerUrl.parse(address) for address in addresses]
        settings = BrokerSettings(url, version, ca, others=tuple(others))
        connections.append(Connection(settings, f"test-{len(connections)}", **options))
        return connections[-1]

    yield make
    for connection in connections:
        connection.close()


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    pytest.importorskip("iotcore")
    broker = EmbeddedBroker(0)
    broker.start()
    yield broker
    broker.close()


@pytest.fixture
def tls_broker(certificates: Path, tmp_path: Path) -> Iterator[Mosquitto]:
    listener = f"certfile {certificates / 'server.pem'}\nkeyfile {certificates / 'server.key'}"
    with Mosquitto(tmp_path, listener) as broker:
        yield broker


class Inbox:
    """Messages that a connection received."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []

    def add(self, topic: str, payload: bytes, retained: bool) -> None:
        self.messages.append((topic, payload, retained))

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, payload, _ in self.messages]


def assert_receives(inbox: Inbox, broker_port: int, topic: str = "a/w1/imu") -> None:
    """Publish a message from another client, and wait until it arrives."""
    with Client(broker_port) as client:
        client.publish(topic, b"x")
        wait_until(lambda: inbox.messages, "the message")
    assert inbox.messages == [(topic, b"x", False)]


def scripted_broker(*scripts: Callable[[socket.socket, int], None]) -> str:
    """Serve one connection after another, each by one script, and return the address.

    A script is called with the socket and the number of the protocol version (4 is MQTT 3.1.1) after the CONNECT.
    """
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener:
            for script in scripts:
                peer, _ = listener.accept()
                with peer:
                    packet = peer.recv(1000)
                    script(peer, packet[packet.index(b"MQTT") + 4])

    threading.Thread(target=serve, daemon=True).start()
    return f"127.0.0.1:{listener.getsockname()[1]}"


def accept(peer: socket.socket, version: int) -> None:
    """Accept the connection."""
    peer.sendall(b"\x20\x03\x00\x00\x00" if version == 5 else b"\x20\x02\x00\x00")


def answer_subscription(peer: socket.socket, version: int, code: int) -> None:
    """Accept the connection, and answer a SUBSCRIBE for one filter with ``code``."""
    accept(peer, version)
    identifier = peer.recv(1000)[2:4]
    peer.sendall(
        b"\x90\x04" + identifier + bytes([0, code]) if version == 5 else b"\x90\x03" + identifier + bytes([code])
    )


def refuse_subscription(code: int) -> Callable[[socket.socket, int], None]:
    """Return a script that refuses a subscription. mosquitto accepts each one and then sends no messages."""

    def script(peer: socket.socket, version: int) -> None:
        answer_subscription(peer, version, code)
        peer.recv(1000)

    return script


# --- versions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "got"), [("auto", "5"), ("5", "5"), ("3.1.1", "3.1.1")])
def test_mqtt_5_is_used_with_mosquitto_unless_the_settings_name_another_version(mosquitto, connect, asked, got):
    inbox = Inbox()
    connection = connect(mosquitto.address, version=asked, subscriptions=["a/+/imu"], on_message=inbox.add)
    connection.open()
    assert (connection.ready, connection.version, connection.connects) == (True, got, 1)
    assert_receives(inbox, mosquitto.port)


@pytest.mark.parametrize("asked", ["auto", "3.1.1"])
def test_mqtt_3_1_1_is_used_with_a_broker_without_mqtt_5(embedded, connect, asked):
    inbox = Inbox()
    connection = connect(embedded.url, version=asked, subscriptions=["a/+/imu"], on_message=inbox.add)
    connection.open()
    assert (connection.ready, connection.version) == (True, "3.1.1")
    assert_receives(inbox, embedded.port)


@pytest.mark.parametrize("reply", [b"", b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00"], ids=["hangs up", "3.1.1", "5"])
def test_however_a_broker_refuses_mqtt_5_the_older_version_is_tried(connect, reply):
    def accept_until_closed(peer: socket.socket, version: int) -> None:
        assert version == 4
        accept(peer, version)
        peer.recv(1000)

    connection = connect(scripted_broker(lambda peer, _: peer.sendall(reply), accept_until_closed))
    connection.open()
    assert connection.version == "3.1.1"


# --- refusals ---------------------------------------------------------------------------------------


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Mosquitto]:
    """Start a broker that accepts only the user ann with the password `right`."""
    passwords, acl = mosquitto_passwords(tmp_path / "passwords", ann="right"), tmp_path / "acl"
    acl.write_text("user ann\ntopic readwrite a/#\n")
    with Mosquitto(tmp_path, "", f"allow_anonymous false\npassword_file {passwords}\nacl_file {acl}") as broker:
        yield broker


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_the_right_password_is_accepted(guarded, connect, version):
    connection = connect(f"mqtt://ann:right@{guarded.address}", version=version, subscriptions=["a/+/imu"])
    connection.open()
    assert connection.ready


@pytest.mark.parametrize("version", ["auto", "5", "3.1.1"])
@pytest.mark.parametrize("user", ["ann:wrong-horse@", "bob:wrong-horse@", ""])
def test_a_wrong_password_is_an_error_at_once_that_does_not_repeat_it(guarded, connect, version, user):
    connection = connect(f"mqtt://{user}{guarded.address}", version=version)
    with pytest.raises(BrokerError, match=r"refused the connection: .*(?i:authori[sz]ed)") as caught:
        connection.open(threading.Event())
    assert guarded.address in str(caught.value)
    assert "wrong-horse" not in str(caught.value)
    assert not connection.ready


@pytest.mark.parametrize(("version", "code"), [("auto", 0x87), ("5", 0x8F), ("3.1.1", 0x80)])
def test_a_refused_subscription_is_an_error_that_names_it(connect, version, code):
    connection = connect(scripted_broker(refuse_subscription(code)), version=version, subscriptions=["a/+/imu"])
    with pytest.raises(BrokerError, match=r"refused the subscription to a/\+/imu: "):
        connection.open(threading.Event())
    assert not connection.ready


def test_a_subscription_refused_after_a_loss_is_tried_again_on_a_new_connection(connect):
    """A cluster that has just lost a node refuses subscriptions for a while."""
    opened, over = threading.Event(), threading.Event()

    def accept_and_hang_up(peer: socket.socket, version: int) -> None:
        answer_subscription(peer, version, 0)
        opened.wait(DEADLINE_S)

    def refuse(peer: socket.socket, version: int) -> None:
        answer_subscription(peer, version, 0x80)
        assert peer.recv(1000) == b""  # the client closes the connection

    def accept_and_stay(peer: socket.socket, version: int) -> None:
        answer_subscription(peer, version, 0)
        over.wait(DEADLINE_S)

    address = scripted_broker(accept_and_hang_up, refuse, accept_and_stay)
    connection = connect(address, version="3.1.1", subscriptions=["a/+/imu"])
    connection.open()
    opened.set()
    wait_until(lambda: connection.connects == 3 and connection.ready, "the third connection")
    over.set()


# --- TLS --------------------------------------------------------------------------------------------


def test_tls_with_an_authority_of_our_own(tls_broker, certificates, connect):
    connection = connect(f"mqtts://localhost:{tls_broker.port}", ca=certificates / "ca.pem")
    connection.open()
    assert connection.ready


@pytest.mark.parametrize(
    ("host", "ca", "reason"),
    [
        ("localhost", "other.pem", "(?i:certificate|signature)"),
        ("localhost", None, "(?i:certificate)"),
        ("127.0.0.1", "ca.pem", "(?i:address mismatch)"),
    ],
    ids=["wrong authority", "the system's authorities", "wrong name"],
)
def test_a_certificate_that_cannot_be_verified_is_an_error(tls_broker, certificates, connect, host, ca, reason):
    connection = connect(f"mqtts://{host}:{tls_broker.port}", ca=certificates / ca if ca else None)
    with pytest.raises(BrokerError, match=f"TLS: .*{reason}"):
        connection.open(threading.Event())


def test_tls_to_a_port_without_tls_is_an_error(mosquitto, connect):
    with pytest.raises(BrokerError):
        connect(f"mqtts://localhost:{mosquitto.port}").open()


def test_files_that_are_not_certificates_are_an_error(certificates, tmp_path, connect):
    (tmp_path / "junk.pem").write_text("junk")
    junk = tmp_path / "junk.pem"
    with pytest.raises(ConfigError, match=f"ca: {junk}: expected certificates in PEM"):
        connect("mqtts://localhost", ca=junk).open()
    with pytest.raises(ConfigError, match=f"cert: {junk}: expected a certificate and its private key in PEM"):
        BrokerSettings(BrokerUrl.parse("mqtts://localhost"), cert=junk).tls_context()


# --- outages ----------------------------------------------------------------------------------------


def test_without_an_event_an_unreachable_broker_is_an_error(connect):
    with pytest.raises(BrokerError, match=f"{UNREACHABLE}: cannot connect"):
        connect(UNREACHABLE).open()


def test_a_broker_that_comes_up_later_is_waited_for(tmp_path, connect):
    broker = Mosquitto(tmp_path)
    inbox = Inbox()
    connection = connect(broker.address, subscriptions=["a/+/imu"], on_message=inbox.add)
    thread = threading.Thread(target=connection.open, args=(threading.Event(),))
    thread.start()
    with broker:
        thread.join(DEADLINE_S)
        assert connection.ready
        assert_receives(inbox, broker.port)


def test_waiting_for_a_broker_ends_with_the_event(connect):
    stop = threading.Event()
    connection = connect(UNREACHABLE)
    thread = threading.Thread(target=connection.open, args=(stop,))
    thread.start()
    stop.set()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    assert not connection.ready
    assert connection.publish("a", b"x") is False


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_after_an_outage_the_subscription_is_renewed_and_what_was_published_arrives(tmp_path, connect, version):
    changes: list[bool] = []
    inbox = Inbox()
    callbacks = {"on_message": inbox.add, "on_change": changes.append}
    with Mosquitto(tmp_path) as broker:
        connection = connect(broker.address, version=version, subscriptions=["a/+/imu"], **callbacks)
        connection.open()
        broker.stop()
        wait_until(lambda: not connection.ready, "the loss of the connection")
        assert connection.publish("late", b"1") is True
        assert connection.publish("late", b"2", qos=0) is False
        assert connection.outgoing == 1
        broker.start()
        with Client(broker.port) as client:
            wait_until(lambda: client.payloads("late"), "the message published during the outage")
            wait_until(lambda: connection.ready, "the connection")
            assert client.payloads("late") == [b"1"]
        assert_receives(inbox, broker.port)
        assert connection.connects == 2
        assert changes == [True, False, True]
        assert connection.flush(DEADLINE_S)


WILLING = """
import sys, time
from harstream.mqtt.connection import Connection
from harstream.mqtt.presence import Presence
from harstream.mqtt.urls import BrokerSettings, BrokerUrl
c = Connection(BrokerSettings(BrokerUrl.parse(sys.argv[1]), sys.argv[2]), "w", presence=Presence("status"))
c.open()
print("open", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_killed_process_leaves_its_will_and_it_is_retained(mosquitto, version):
    with Client(mosquitto.port) as client:
        process = subprocess.Popen([sys.executable, "-c", WILLING, mosquitto.address, version], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        wait_until(lambda: b"offline" in client.payloads("status"), "the will")
    with Client(mosquitto.port) as client:
        wait_until(lambda: client.messages)
        assert client.messages == [("status", b"offline", True)]


def test_a_closed_connection_leaves_no_will(mosquitto, connect):
    with Client(mosquitto.port) as client:
        connection = connect(mosquitto.address, presence=Presence("status"))
        connection.open()
        connection.close()
        client.publish("after", b"x")
        wait_until(lambda: client.payloads("after"))
        assert client.states("status") == [b"online"]


# --- messages ---------------------------------------------------------------------------------------


def test_retained_messages_are_not_sent_over_mqtt_5_and_marked_over_3_1_1(mosquitto, connect):
    with Client(mosquitto.port) as client:
        client.publish("a/w1/imu", b"old", retain=True)
        client.flush()
        for version, expected in (("5", [(b"new", False)]), ("3.1.1", [(b"old", True), (b"new", False)])):
            inbox = Inbox()
            connection = connect(mosquitto.address, version=version, subscriptions=["a/+/imu"], on_message=inbox.add)
            connection.open()
            client.publish("a/w1/imu", b"new")
            wait_until(functools.partial(inbox.messages.__contains__, ("a/w1/imu", b"new", False)))
            assert inbox.messages == [("a/w1/imu", payload, retained) for payload, retained in expected]
            connection.close()


def test_a_callback_that_raises_loses_its_message_and_nothing_else(mosquitto, connect, caplog):
    inbox = Inbox()

    def on_message(topic: str, payload: bytes, retained: bool) -> None:
        if payload == b"poison":
            raise ZeroDivisionError
        inbox.add(topic, payload, retained)

    connection = connect(mosquitto.address, subscriptions=["a/+/imu"], on_message=on_message)
    connection.open()
    with Client(mosquitto.port) as client:
        for payload in (b"1", b"poison", b"2"):
            client.publish("a/w1/imu", payload)
        wait_until(lambda: len(inbox.messages) == 2)
    assert inbox.payloads == [b"1", b"2"]
    assert "ZeroDivisionError" in caplog.text
    assert connection.ready


def test_after_unsubscribing_every_earlier_message_has_arrived_and_no_later_one_does(mosquitto, connect):
    inbox = Inbox()
    connection = connect(mosquitto.address, subscriptions=["a/+/imu"], on_message=inbox.add)
    connection.open()
    with Client(mosquitto.port) as client:
        for number in range(300):
            client.publish("a/w1/imu", b"%d" % number)
        client.flush()
        connection.unsubscribe(DEADLINE_S)
        before = len(inbox.messages)
        client.publish("a/w1/imu", b"after")
        client.flush()
    assert before == 300
    assert b"after" not in inbox.payloads


@pytest.mark.parametrize("qos", [0, 1])
def test_a_broker_that_stops_reading_fills_a_bounded_queue_and_then_messages_are_rejected(connect, monkeypatch, qos):
    monkeypatch.setattr(mqtt, "MAX_OUTGOING", 50)
    over = threading.Event()

    def stop_reading(peer: socket.socket, version: int) -> None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        accept(peer, version)
        over.wait(DEADLINE_S)

    connection = connect(scripted_broker(stop_reading), version="3.1.1")
    connection.open()
    accepted = [connection.publish("a", bytes(200_000), qos=qos) for _ in range(300)]
    outgoing = connection.outgoing
    over.set()
    assert outgoing <= 2 * 50
    assert accepted[0] is True
    assert accepted[-1] is False


# --- several addresses --------------------------------------------------------------------------------


def test_when_one_address_is_lost_the_next_is_connected_and_subscribed_to(tmp_path, connect):
    first, second = Mosquitto(tmp_path).start(), Mosquitto(tmp_path).start()
    inbox = Inbox()
    connection = connect(first.address, second.address, subscriptions=["a/+/imu", "b/#"], on_message=inbox.add)
    try:
        connection.open()
        assert str(connection.url) == f"mqtt://{first.address}"
        first.stop()
        wait_until(lambda: connection.connects == 2 and connection.ready, "the second broker")
        assert str(connection.url) == f"mqtt://{second.address}"
        with Client(second.port) as client:
            client.publish("a/x/imu", b"1")
            client.publish("b/y", b"2")
            wait_until(lambda: len(inbox.messages) == 2, "messages of both subscriptions")
        first.start()
        second.stop()
        wait_until(lambda: connection.connects == 3 and connection.ready, "the first broker again")
        assert str(connection.url) == f"mqtt://{first.address}"
    finally:
        first.stop()
        second.stop()


def test_an_address_that_cannot_be_reached_at_the_start_is_skipped(mosquitto, connect):
    connection = connect(UNREACHABLE, mosquitto.address)
    connection.open()
    assert str(connection.url) == f"mqtt://{mosquitto.address}"


def test_an_address_that_refuses_is_skipped_while_another_accepts(mosquitto, connect, caplog):
    refusing = scripted_broker(refuse_subscription(0x80))
    connection = connect(refusing, mosquitto.address, version="3.1.1", subscriptions=["a/+/imu"])
    connection.open()
    assert connection.ready
    [warning] = [record.getMessage() for record in caplog.records]
    assert warning.startswith(f"broker mqtt://{refusing}: refused the subscription to a/+/imu: ")
    assert warning.endswith("; trying the next address")


def test_a_refusal_by_every_address_is_an_error(connect):
    addresses = [scripted_broker(refuse_subscription(0x80)) for _ in range(2)]
    connection = connect(*addresses, version="3.1.1", subscriptions=["a/+/imu"])
    with pytest.raises(BrokerError, match="refused the subscription"):
        connection.open()


def test_a_malformed_host_name_is_an_error():
    for host in ("nats..svc", f"{'a' * 64}.svc"):
        with pytest.raises(ConfigError, match="not a valid host name"):
            BrokerUrl.parse(f"mqtt://{host}:1883")


def test_new_credentials_are_used_for_the_next_connection(tmp_path, connect):
    passwords = mosquitto_passwords(tmp_path / "passwords", ann="old")
    with Mosquitto(tmp_path, "", f"allow_anonymous false\npassword_file {passwords}") as broker:
        connection = connect(f"ann:old@{broker.address}")
        connection.open()
        mosquitto_passwords(passwords, ann="new")
        connection.replace_credentials(BrokerSettings(BrokerUrl.parse(f"ann:new@{broker.address}")))
        broker.stop()
        broker.start()
        wait_until(lambda: connection.connects == 2 and connection.ready, "the connection with the new password")
