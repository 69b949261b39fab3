"""One connection, kept: against a real mosquitto and the embedded broker, as they are."""

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
from harstream.mqtt.connection import Connection, Will
from harstream.mqtt.urls import BrokerSettings, BrokerUrl

from ..servers import DEADLINE_S, Client, Mosquitto, free_port, program, wait_until


@pytest.fixture
def connect() -> Iterator[Callable[..., Connection]]:
    """Make connections that are closed in the end."""
    made: list[Connection] = []

    def make(address: str, *, version: str = "auto", ca: Path | None = None, **options) -> Connection:
        settings = BrokerSettings(BrokerUrl.parse(address), version, ca)
        made.append(Connection(settings, f"test-{len(made)}", **options))
        return made[-1]

    yield make
    for connection in made:
        connection.close()


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    pytest.importorskip("amqtt")
    broker = EmbeddedBroker(0)
    broker.start()
    yield broker
    broker.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities, and a server's certificate by one of them for `localhost` only."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run([program("openssl"), *arguments], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "other"):
        # Python 3.13 holds authorities to RFC 5280: they must say what their key is for.
        subject = ["-subj", f"/CN={name}", "-days", "2", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem", *subject
        )
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=x")
    (folder / "names").write_text("subjectAltName=DNS:localhost\nauthorityKeyIdentifier=keyid\n")
    sign = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
    openssl("x509", "-req", "-in", "server.csr", "-out", "server.pem", *sign)
    return folder


@pytest.fixture
def tls_broker(certificates: Path, tmp_path: Path) -> Iterator[Mosquitto]:
    listener = f"certfile {certificates / 'server.pem'}\nkeyfile {certificates / 'server.key'}"
    with Mosquitto(tmp_path, listener) as broker:
        yield broker


def received(connection: Connection, broker_port: int, topic: str = "a/w1/imu") -> None:
    """A message published by somebody else comes in."""
    seen: list[tuple[str, bytes, bool]] = []
    connection._on_message = lambda *message: seen.append(message)
    with Client(broker_port) as client:
        client.publish(topic, b"x")
        wait_until(lambda: seen, "the message")
    assert seen == [(topic, b"x", False)]


# --- versions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "got"), [("auto", "5"), ("5", "5"), ("3.1.1", "3.1.1")])
def test_mosquitto_is_spoken_to_in_mqtt_5_unless_told(mosquitto, connect, asked, got):
    connection = connect(mosquitto.address, version=asked, subscriptions=["a/+/imu"])
    connection.open()
    assert (connection.ready, connection.version, connection.connects) == (True, got, 1)
    received(connection, mosquitto.port)


@pytest.mark.parametrize("asked", ["auto", "3.1.1"])
def test_a_broker_without_mqtt_5_is_spoken_to_in_3_1_1(embedded, connect, asked):
    connection = connect(embedded.url, version=asked, subscriptions=["a/+/imu"])
    connection.open()
    assert (connection.ready, connection.version) == (True, "3.1.1")
    received(connection, embedded.port)


def answering(reply: bytes) -> int:
    """A listener that answers every MQTT 5 CONNECT with ``reply`` and an MQTT 3.1.1 one with acceptance."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        version = 0
        with listener:
            while version != 4:
                peer, _ = listener.accept()
                with peer:
                    packet = peer.recv(1000)
                    version = packet[packet.index(b"MQTT") + 4]
                    peer.sendall(b"\x20\x02\x00\x00" if version == 4 else reply)
                    if version == 4:
                        peer.recv(1000)

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


@pytest.mark.parametrize("reply", [b"", b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00"], ids=["hangs up", "3.1.1", "5"])
def test_however_a_broker_refuses_mqtt_5_the_older_one_is_tried(connect, reply):
    connection = connect(f"127.0.0.1:{answering(reply)}")
    connection.open()
    assert connection.version == "3.1.1"


# --- refusals ---------------------------------------------------------------------------------------


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Mosquitto]:
    """Knows ann, with the password `right`, who may read a/# only."""
    passwords, acl = tmp_path / "passwords", tmp_path / "acl"
    subprocess.run(
        [program("mosquitto_passwd"), "-b", "-c", passwords, "ann", "right"], check=True, capture_output=True
    )
    acl.write_text("user ann\ntopic readwrite a/#\n")
    passwords.chmod(0o644)
    with Mosquitto(tmp_path, "", f"allow_anonymous false\npassword_file {passwords}\nacl_file {acl}") as broker:
        yield broker


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_the_right_password_is_let_in(guarded, connect, version):
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


def subscription_refusing(code: int) -> int:
    """A broker that lets everybody in and refuses every subscription; mosquitto's ACL grants it and sends nothing."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener:
            peer, _ = listener.accept()
        with peer:
            packet = peer.recv(1000)
            five = packet[packet.index(b"MQTT") + 4] == 5
            peer.sendall(b"\x20\x03\x00\x00\x00" if five else b"\x20\x02\x00\x00")
            packet = peer.recv(1000)
            peer.sendall(
                bytes([0x90, 4, packet[2], packet[3], 0, code] if five else [0x90, 3, packet[2], packet[3], code])
            )
            peer.recv(1000)

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


@pytest.mark.parametrize(("version", "code"), [("auto", 0x87), ("5", 0x8F), ("3.1.1", 0x80)])
def test_a_refused_subscription_is_an_error_that_names_it(connect, version, code):
    connection = connect(f"127.0.0.1:{subscription_refusing(code)}", version=version, subscriptions=["a/+/imu"])
    with pytest.raises(BrokerError, match=r"refused the subscription to a/\+/imu: "):
        connection.open(threading.Event())
    assert not connection.ready


def test_a_subscription_refused_after_a_loss_is_asked_for_again_on_a_new_connection(connect):
    """As by a cluster that has just lost a node."""
    over = threading.Event()

    def serve() -> None:
        with listener:
            for code in (0, 0x80, 0):
                peer, _ = listener.accept()
                with peer:
                    peer.recv(1000)
                    peer.sendall(b"\x20\x02\x00\x00")
                    packet = peer.recv(1000)
                    peer.sendall(bytes([0x90, 3, packet[2], packet[3], code]))
                    if code:
                        assert peer.recv(1000) == b""  # it hangs up
                    elif connection.connects == 3:
                        over.wait(DEADLINE_S)

    listener = socket.create_server(("127.0.0.1", 0))
    connection = connect(f"127.0.0.1:{listener.getsockname()[1]}", version="3.1.1", subscriptions=["a/+/imu"])
    threading.Thread(target=serve, daemon=True).start()
    connection.open()
    wait_until(lambda: connection.connects == 3 and connection.ready, "the third try")
    over.set()


# --- TLS --------------------------------------------------------------------------------------------


def test_tls_with_our_own_authority(tls_broker, certificates, connect):
    connection = connect(f"mqtts://localhost:{tls_broker.port}", ca=certificates / "ca.pem")
    connection.open()
    assert connection.ready


@pytest.mark.parametrize(
    ("host", "ca", "told"),
    [
        ("localhost", "other.pem", "(?i:certificate|signature)"),
        ("localhost", None, "(?i:certificate)"),
        ("127.0.0.1", "ca.pem", "(?i:address mismatch)"),
    ],
    ids=["wrong authority", "the system's authorities", "wrong name"],
)
def test_a_certificate_that_does_not_hold_is_an_error(tls_broker, certificates, connect, host, ca, told):
    connection = connect(f"mqtts://{host}:{tls_broker.port}", ca=certificates / ca if ca else None)
    with pytest.raises(BrokerError, match=f"TLS: .*{told}"):
        connection.open(threading.Event())


def test_tls_to_a_port_without_is_an_error(mosquitto, connect):
    with pytest.raises(BrokerError):
        connect(f"mqtts://localhost:{mosquitto.port}").open()


def test_files_that_are_no_certificates_are_an_error(certificates, tmp_path, connect):
    (tmp_path / "junk.pem").write_text("junk")
    with pytest.raises(ConfigError, match="TLS files"):
        connect("mqtts://localhost", ca=tmp_path / "junk.pem").open()


# --- outages ----------------------------------------------------------------------------------------


def test_without_an_event_an_unreachable_broker_is_an_error(connect):
    port = free_port()
    with pytest.raises(BrokerError, match=f"127.0.0.1:{port}: cannot connect"):
        connect(f"127.0.0.1:{port}").open()


def test_a_broker_that_comes_up_later_is_waited_for(tmp_path, connect, monkeypatch):
    monkeypatch.setattr(mqtt, "RETRY_MAX_S", 1)
    broker = Mosquitto(tmp_path)
    connection = connect(broker.address, subscriptions=["a/+/imu"])
    thread = threading.Thread(target=connection.open, args=(threading.Event(),))
    thread.start()
    with broker:
        thread.join(DEADLINE_S)
        assert connection.ready
        received(connection, broker.port)


def test_waiting_for_a_broker_ends_with_the_event(connect):
    stop = threading.Event()
    connection = connect(f"127.0.0.1:{free_port()}")
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
    with Mosquitto(tmp_path) as broker:
        connection = connect(broker.address, version=version, subscriptions=["a/+/imu"], on_change=changes.append)
        connection.open()
        broker.stop()
        wait_until(lambda: not connection.ready, "the loss to be noticed")
        assert connection.publish("late", b"1") is True
        assert connection.publish("late", b"2", qos=0) is False
        assert connection.outgoing == 1
        broker.start()
        with Client(broker.port) as client:
            wait_until(lambda: client.payloads("late"), "what was published in between")
            wait_until(lambda: connection.ready, "the connection")
            assert client.payloads("late") == [b"1"]
        received(connection, broker.port)
        assert connection.connects == 2
        assert changes == [True, False, True]
        assert connection.flush(DEADLINE_S)


WILLING = """
import sys, time
from harstream.mqtt.connection import Connection, Will
from harstream.mqtt.urls import BrokerSettings, BrokerUrl
c = Connection(BrokerSettings(BrokerUrl.parse(sys.argv[1]), sys.argv[2]), "w", will=Will("status", b"offline"))
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
        wait_until(lambda: client.payloads("status"), "the will")
    with Client(mosquitto.port) as client:
        wait_until(lambda: client.messages)
        assert client.messages == [("status", b"offline", True)]


def test_a_closed_connection_leaves_no_will(mosquitto, connect):
    with Client(mosquitto.port) as client:
        connection = connect(mosquitto.address, will=Will("status", b"offline"))
        connection.open()
        connection.close()
        client.publish("after", b"x")
        wait_until(lambda: client.payloads("after"))
        assert client.payloads("status") == []


# --- messages ---------------------------------------------------------------------------------------


def test_mqtt_5_is_not_even_sent_retained_messages_and_3_1_1_is_told_that_they_are(mosquitto, connect):
    with Client(mosquitto.port) as client:
        client.publish("a/w1/imu", b"old", retain=True)
        client.flush()
        for version, expected in (("5", [(b"new", False)]), ("3.1.1", [(b"old", True), (b"new", False)])):
            seen: list[tuple[bytes, bool]] = []
            connection = connect(
                mosquitto.address,
                version=version,
                subscriptions=["a/+/imu"],
                on_message=lambda _, payload, retained, seen=seen: seen.append((payload, retained)),
            )
            connection.open()
            client.publish("a/w1/imu", b"new")
            wait_until(functools.partial(seen.__contains__, (b"new", False)))
            assert seen == expected
            connection.close()


def test_a_callback_that_raises_loses_its_message_and_nothing_else(mosquitto, connect, caplog):
    seen: list[bytes] = []

    def on_message(_: str, payload: bytes, __: bool) -> None:
        if payload == b"poison":
            raise ZeroDivisionError
        seen.append(payload)

    connection = connect(mosquitto.address, subscriptions=["a/+/imu"], on_message=on_message)
    connection.open()
    with Client(mosquitto.port) as client:
        for payload in (b"1", b"poison", b"2"):
            client.publish("a/w1/imu", payload)
        wait_until(lambda: len(seen) == 2)
    assert seen == [b"1", b"2"]
    assert "ZeroDivisionError" in caplog.text
    assert connection.ready


def test_after_unsubscribing_nothing_comes_any_more_and_everything_before_has_come(mosquitto, connect):
    seen: list[bytes] = []
    connection = connect(
        mosquitto.address, subscriptions=["a/+/imu"], on_message=lambda _, payload, __: seen.append(payload)
    )
    connection.open()
    with Client(mosquitto.port) as client:
        for number in range(300):
            client.publish("a/w1/imu", b"%d" % number)
        client.flush()
        connection.unsubscribe(DEADLINE_S)
        before = len(seen)
        client.publish("a/w1/imu", b"after")
        client.flush()
    assert before == 300
    assert b"after" not in seen


@pytest.mark.parametrize("qos", [0, 1])
def test_a_broker_that_stops_reading_fills_a_bounded_queue_and_then_messages_are_refused(connect, monkeypatch, qos):
    monkeypatch.setattr(mqtt, "MAX_OUTGOING", 50)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    held: list[socket.socket] = []

    def accept() -> None:
        peer, _ = listener.accept()
        peer.recv(1000)
        peer.sendall(b"\x20\x02\x00\x00")
        held.append(peer)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    connection = connect(f"127.0.0.1:{listener.getsockname()[1]}", version="3.1.1")
    connection.open()
    taken = [connection.publish("a", bytes(200_000), qos=qos) for _ in range(300)]
    outgoing = connection.outgoing
    for opened in (*held, listener):
        opened.close()
    assert outgoing <= 2 * 50
    assert taken[0] is True
    assert taken[-1] is False


# --- several addresses --------------------------------------------------------------------------------


def test_where_one_address_is_lost_the_next_is_tried_and_subscribed_to(tmp_path):
    one, two = Mosquitto(tmp_path).start(), Mosquitto(tmp_path).start()
    seen: list[bytes] = []
    settings = BrokerSettings(BrokerUrl.parse(one.address), others=(BrokerUrl.parse(two.address),))
    connection = Connection(
        settings, "two", subscriptions=["a/+/imu", "b/#"], on_message=lambda _, payload, __: seen.append(payload)
    )
    try:
        connection.open()
        assert str(connection.url) == f"mqtt://{one.address}"
        one.stop()
        wait_until(lambda: connection.connects == 2 and connection.ready, "the other")
        assert str(connection.url) == f"mqtt://{two.address}"
        with Client(two.port) as client:
            client.publish("a/x/imu", b"1")
            client.publish("b/y", b"2")
            wait_until(lambda: len(seen) == 2, "both subscriptions")
        one.start()
        two.stop()
        wait_until(lambda: connection.connects == 3 and connection.ready, "the first again")
        assert str(connection.url) == f"mqtt://{one.address}"
    finally:
        connection.close()
        one.stop()
        two.stop()


def test_an_address_that_is_down_at_the_start_is_passed_over(mosquitto):
    settings = BrokerSettings(BrokerUrl.parse(f"127.0.0.1:{free_port()}"), others=(BrokerUrl.parse(mosquitto.address),))
    connection = Connection(settings, "two")
    connection.open()
    assert str(connection.url) == f"mqtt://{mosquitto.address}"
    connection.close()


def test_an_address_that_refuses_is_passed_over_while_another_takes_us_and_refusal_by_all_ends_it(tmp_path):
    refuses = [BrokerUrl.parse(f"127.0.0.1:{subscription_refusing(0x80)}") for _ in range(3)]
    with Mosquitto(tmp_path) as broker:
        settings = BrokerSettings(refuses[0], "3.1.1", others=(BrokerUrl.parse(broker.address),))
        connection = Connection(settings, "two", subscriptions=["a/+/imu"])
        connection.open()
        assert connection.ready
        connection.close()
    with pytest.raises(BrokerError, match="refused the subscription"):
        Connection(BrokerSettings(refuses[1], "3.1.1", others=(refuses[2],)), "x", subscriptions=["a/+/imu"]).open()


def test_a_name_that_cannot_be_one_is_an_error():
    for host in ("nats..svc", f"{'a' * 64}.svc"):
        with pytest.raises(ConfigError, match="not a valid host name"):
            BrokerUrl.parse(f"mqtt://{host}:1883")


def test_credentials_are_renewed_for_the_next_connection(tmp_path):
    passwords = tmp_path / "passwords"
    tool = program("mosquitto_passwd")
    subprocess.run([tool, "-b", "-c", str(passwords), "ann", "old"], check=True)
    broker = Mosquitto(tmp_path, "", f"allow_anonymous false\npassword_file {passwords}").start()
    try:
        connection = Connection(BrokerSettings(BrokerUrl.parse(f"ann:old@{broker.address}")), "ann")
        connection.open()
        subprocess.run([tool, "-b", str(passwords), "ann", "new"], check=True)
        connection.replace_credentials(BrokerSettings(BrokerUrl.parse(f"ann:new@{broker.address}")))
        broker.stop()
        broker.start()
        wait_until(lambda: connection.connects == 2 and connection.ready, "the new password")
        connection.close()
    finally:
        broker.stop()
