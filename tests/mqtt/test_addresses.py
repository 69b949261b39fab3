"""Wrong schemes, ALPN, a password alone and a fixed client identifier."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

import pytest

from harstream.errors import BrokerError
from harstream.mqtt import connection as mqtt
from harstream.mqtt.connection import Connection
from harstream.mqtt.presence import Presence
from harstream.mqtt.urls import BrokerSettings, BrokerUrl

from ..servers import DEADLINE_S, Mosquitto, mosquitto_passwords, wait_until
from .brokers import Peer, scripted, web_socket_proxy


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a broker on a loaded machine the time that it needs to answer."""
    monkeypatch.setattr(mqtt, "HANDSHAKE_S", DEADLINE_S)


def refusal(address: str, **settings) -> str:
    """Return the error of a connection to an address."""
    with pytest.raises(BrokerError) as caught:
        Connection(BrokerSettings(BrokerUrl.parse(address), **settings), "test").open(threading.Event())
    return str(caught.value)


@pytest.fixture
def tls_port(certificates: Path, tmp_path: Path):
    listener = f"certfile {certificates / 'server.pem'}\nkeyfile {certificates / 'server.key'}"
    with Mosquitto(tmp_path, listener) as broker:
        yield broker.port


@pytest.mark.parametrize("scheme", ["mqtts", "ssl", "wss"])
def test_tls_to_a_port_without_it_is_an_error_that_names_the_right_scheme(mosquitto, scheme):
    error = refusal(f"{scheme}://localhost:{mosquitto.port}")
    assert f"port {mosquitto.port} speaks MQTT without TLS; use mqtt://, or another port" in error


@pytest.mark.parametrize(("scheme", "right"), [("mqtt", "mqtts"), ("tcp", "mqtts"), ("ws", "wss")])
def test_a_port_with_tls_reached_without_it_is_an_error_that_names_the_right_scheme(tls_port, scheme, right):
    error = refusal(f"{scheme}://localhost:{tls_port}")
    assert f"port {tls_port} speaks TLS; use {right}://, or another port" in error


def test_a_web_socket_to_plain_mqtt_and_the_reverse_name_the_right_scheme(mosquitto, monkeypatch):
    monkeypatch.setattr(mqtt, "HANDSHAKE_S", 0.5)  # a web server waits for more than we send
    assert "speaks MQTT without TLS; use mqtt://" in refusal(f"ws://localhost:{mosquitto.port}")
    with web_socket_proxy(mosquitto.port) as port:
        assert "speaks HTTP without TLS; use ws://" in refusal(f"mqtt://127.0.0.1:{port}")
        assert "speaks HTTP without TLS; use ws://" in refusal(f"wss://127.0.0.1:{port}")


@pytest.mark.parametrize(("ours", "agreed"), [(None, None), ("mqtt", "mqtt"), ("x-amzn-mqtt-ca", "x-amzn-mqtt-ca")])
def test_alpn_is_asked_for(certificates, ours, agreed):
    selected: list[str | None] = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    context.set_alpn_protocols(["mqtt", "x-amzn-mqtt-ca"])

    def serve(peer: Peer) -> None:
        assert isinstance(peer.sock, ssl.SSLSocket)
        selected.append(peer.sock.selected_alpn_protocol())
        peer.accept()
        peer.serve()

    with scripted(serve, context=context) as port:
        settings = BrokerSettings(BrokerUrl.parse(f"tls://localhost:{port}"), ca=certificates / "ca.pem", alpn=ours)
        connection = Connection(settings, "test")
        connection.open()
        connection.close()
    assert selected == [agreed]


def test_a_password_without_a_user_is_sent_over_mqtt_5():
    packets: list[bytes] = []
    opened = threading.Event()

    def serve(peer: Peer) -> None:
        packets.append(peer.connect)
        peer.accept()
        if len(packets) == 2:
            peer.serve()
        opened.wait(DEADLINE_S)  # a connection that is closed at once counts as refused

    with scripted(serve) as port:
        connection = Connection(BrokerSettings(BrokerUrl.parse(f":secret@127.0.0.1:{port}")), "id")
        connection.open()
        opened.set()
        wait_until(lambda: len(packets) >= 2, "the reconnect")  # the password is sent then too
        connection.close()
    head = b"\x00\x04MQTT\x05\x42\x00\x0a\x00"  # flags: password, clean start; keep-alive 10 s
    assert packets[0] == head + b"\x00\x02id" + b"\x00\x06secret"
    assert packets[1][-8:] == b"\x00\x06secret"


def test_mosquitto_reads_a_password_without_a_user(tmp_path):
    passwords = mosquitto_passwords(tmp_path / "passwords", ann="right")
    with Mosquitto(tmp_path, "", f"allow_anonymous true\npassword_file {passwords}") as broker:
        connection = Connection(BrokerSettings(BrokerUrl.parse(f":secret@{broker.address}")), "id")
        connection.open()
        assert connection.version == "5"
        connection.close()


def test_a_fixed_client_identifier_is_used_as_it_is_and_a_program_with_several_connections_adds_to_it():
    url = BrokerUrl.parse("host")
    fixed = BrokerSettings(url, client_id="thing-7")
    assert (fixed.name_client("harstream-x"), fixed.name_client("harstream-x", "-1")) == ("thing-7", "thing-7-1")
    named = BrokerSettings(url).name_client("harstream-x", "-1")
    assert (named[:12], named[-2:], len(named)) == ("harstream-x-", "-1", 22)


@pytest.mark.parametrize("closed", [3, 4])
def test_a_broker_that_comes_up_between_two_attempts_is_connected_to_and_its_will_is_not_blamed(closed):
    def serve(peer: Peer) -> None:
        peer.accept()
        peer.serve()

    # Docker's proxy, for example, accepts connections and closes them while the broker behind it starts.
    with scripted(*[lambda peer: None] * closed, serve) as port:
        settings = BrokerSettings(BrokerUrl.parse(f"127.0.0.1:{port}"))
        connection = Connection(settings, "id", presence=Presence("harstream/status"))
        connection.open(threading.Event())
        assert connection.ready
        connection.close()
