"""WebSockets: against a real broker behind an independent implementation, against NATS, and frame by frame."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harstream.errors import BrokerError
from harstream.mqtt import websocket
from harstream.mqtt.connection import Connection
from harstream.mqtt.urls import BrokerSettings, BrokerUrl
from harstream.mqtt.websocket import WebSocket

from ..servers import DEADLINE_S, Client, Mosquitto, free_port, program, wait_until
from .brokers import web_socket_proxy

SIZES = (0, 1, 125, 126, 5000, 65535, 65536, 300_000)


def exchange(address: str, broker: Mosquitto, ca: Path | None = None, version: str = "auto") -> Connection:
    """Publish and receive messages of many sizes through a WebSocket; return the open connection."""
    received: list[tuple[str, bytes]] = []
    connection = Connection(
        BrokerSettings(BrokerUrl.parse(address), version, ca),
        "web",
        subscriptions=["a/+/imu"],
        on_messages=lambda messages: received.extend((topic, payload) for topic, payload, *_ in messages),
    )
    connection.open()
    with Client(broker.port, "labels/#") as client:
        sent = [(f"a/{number}/imu", bytes([number]) * size) for number, size in enumerate(SIZES)]
        for topic, payload in sent:
            client.publish(topic, payload)
        wait_until(lambda: len(received) == len(sent), "every message through the WebSocket")
        assert received == sent
        labels = [(f"labels/{number}", payload) for number, (_, payload) in enumerate(sent)] * 20
        assert connection.publish_all(labels) == len(labels)
        wait_until(lambda: len(client.messages) == len(labels), "every label")
        assert [(topic, payload) for topic, payload, _ in client.messages] == labels
        assert connection.flush(DEADLINE_S)
    return connection


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_messages_of_every_size_pass_in_both_directions(mosquitto, version):
    with web_socket_proxy(mosquitto.port) as port:
        connection = exchange(f"ws://127.0.0.1:{port}/mqtt", mosquitto, version=version)
        assert connection.version == version
        connection.close()


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_they_pass_over_tls(mosquitto, certificates, version):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    with web_socket_proxy(mosquitto.port, context, path="/a/b?token=1") as port:
        exchange(f"wss://localhost:{port}/a/b?token=1", mosquitto, certificates / "ca.pem", version).close()


def test_it_reconnects_after_a_loss(tmp_path):
    with Mosquitto(tmp_path) as broker, web_socket_proxy(broker.port) as port:
        connection = Connection(BrokerSettings(BrokerUrl.parse(f"ws://127.0.0.1:{port}")), "web", subscriptions=["a"])
        connection.open()
        broker.stop()
        wait_until(lambda: not connection.ready, "the loss")
        broker.start()
        wait_until(lambda: connection.ready and connection.connects == 2, "the connection again")
        connection.close()


def test_nats_serves_mqtt_in_a_web_socket(tmp_path):
    port, http = free_port(), free_port()
    (tmp_path / "nats.conf").write_text(
        f"listen: 127.0.0.1:{free_port()}\njetstream {{ store_dir: {tmp_path}/data }}\nserver_name: one\n"
        f"mqtt {{ listen: 127.0.0.1:{http} }}\nwebsocket {{ listen: 127.0.0.1:{port}, no_tls: true }}\n"
    )
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([program("nats-server"), "-c", str(tmp_path / "nats.conf")], stdout=log, stderr=log)
    try:
        connection = Connection(
            BrokerSettings(BrokerUrl.parse(f"ws://127.0.0.1:{port}/mqtt")), "web", subscriptions=["a/+"]
        )
        stop = threading.Event()
        connection.open(stop)  # waits until NATS listens
        assert (connection.ready, connection.version) == (True, "3.1.1")
        assert connection.publish("a/b", b"x")
        assert connection.flush(DEADLINE_S)
        connection.close()
    finally:
        server.kill()
        server.wait()


def test_another_path_is_an_error_that_names_it(mosquitto):
    with web_socket_proxy(mosquitto.port) as port:
        connection = Connection(BrokerSettings(BrokerUrl.parse(f"ws://127.0.0.1:{port}/other?token=secret")), "web")
        with pytest.raises(BrokerError, match="answered 404 Not Found to the path /other, expected 101") as caught:
            connection.open(threading.Event())
    assert "secret" not in str(caught.value)


# --- frames -----------------------------------------------------------------------------------------


def opened() -> tuple[WebSocket, socket.socket]:
    """Return a WebSocket without its handshake, and the server's end."""
    ours, theirs = socket.socketpair()
    web = object.__new__(WebSocket)
    web._sock, web._received, web._payload_left = ours, bytearray(), 0
    web._unsent, web._framed, web._closed = bytearray(), 0, False
    ours.setblocking(False)
    theirs.settimeout(DEADLINE_S)
    return web, theirs


def frame(opcode: int, payload: bytes, final: bool = True) -> bytes:
    """Return a frame as a server sends it."""
    size = len(payload)
    if size < 126:
        head = bytes([size])
    elif size < 65536:
        head = b"\x7e" + size.to_bytes(2, "big")
    else:
        head = b"\x7f" + size.to_bytes(8, "big")
    return bytes([0x80 * final | opcode]) + head + payload


@given(
    st.lists(st.tuples(st.sampled_from([0, 2, 9, 10]), st.binary(max_size=125)), max_size=8),
    st.lists(st.integers(0, 1200), max_size=12),
)
def test_the_payload_is_whole_however_frames_are_cut_and_mixed_with_pings(frames, cuts):
    web, server = opened()
    data = b"".join(frame(opcode, payload) for opcode, payload in frames)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    received = b""
    for start, stop in pairwise(edges):
        if stop > start:
            server.sendall(data[start:stop])
            with suppress(BlockingIOError):
                received += web.recv(65536)
    assert received == b"".join(payload for opcode, payload in frames if opcode in (0, 2))
    pings = [payload for opcode, payload in frames if opcode == 9]
    expected = sum(6 + len(payload) for payload in pings)  # a pong: head, mask and payload
    answered = b""
    while len(answered) < expected:
        answered += server.recv(65536)
    assert len(answered) == expected
    web.close()
    server.close()


@pytest.mark.parametrize("data", [frame(1, b"text"), b"\x82\x81\x00\x00\x00\x00x"], ids=["text", "masked"])
def test_a_frame_that_no_mqtt_server_sends_ends_the_connection(data):
    web, server = opened()
    server.sendall(data)
    with pytest.raises(ConnectionError):
        web.recv(100)
    server.close()
    web.close()


def test_a_close_frame_is_answered_and_is_the_end_of_what_came_before_it():
    web, server = opened()
    server.sendall(frame(2, b"x") + frame(8, b""))
    assert web.recv(100) == b"x"
    assert web.recv(100) == b""
    assert server.recv(100)[:1] == b"\x88"
    server.close()
    web.close()


def test_what_a_slow_server_does_not_take_yet_is_sent_later():
    web, server = opened()
    web._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    data = bytes(range(256)) * 2000
    read = bytearray()
    server.setblocking(False)
    for more in range(10_000):
        try:
            assert web.send(data + b"more" * bool(more)) == len(data)
            break
        except BlockingIOError:
            read += server.recv(65536)
    server.settimeout(DEADLINE_S)
    size = 2 + 8 + 4 + len(data)
    while len(read) < size:
        read += server.recv(65536)
    key = read[10:14]
    assert bytes(byte ^ key[i % 4] for i, byte in enumerate(read[14:])) == data
    server.close()
    web.close()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n\r\n", "wrong Sec-WebSocket-Accept"),
        (b"\x20\x02\x00\x00", "does not speak HTTP"),
        (b"", "closed the connection during the WebSocket handshake"),
        (b"HTTP/1.1 200 OK\r\n" + b"x" * 20_000, "answered 200 OK"),
    ],
)
def test_a_server_that_opens_no_web_socket_is_an_error(answer, message):
    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE_S)
    theirs.sendall(answer)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(websocket.WebSocketError, match=message):
        WebSocket(ours, BrokerUrl.parse("ws://host"))
    ours.close()
    theirs.close()
