"""The client: every message is received and sent once and whole, however the bytes are cut."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.enums import _ConnectionState as ConnectionState

from harstream.mqtt import deliveries
from harstream.mqtt.client import FastClient, InboundMessage
from harstream.mqtt.network import NetworkClient

from ..servers import DEADLINE_S


def length(value: int) -> bytes:
    out = b""
    while True:
        value, byte = value >> 7, value & 127
        out += bytes([byte | (128 if value else 0)])
        if not value:
            return out


def publish(topic: str, payload: bytes, *, qos: int = 0, mid: int = 1, retain: bool = False, version: int = 4) -> bytes:
    body = struct.pack(">H", len(topic.encode())) + topic.encode()
    if qos:
        body += struct.pack(">H", mid)
    if version == 5:
        body += b"\x05\x26\x00\x00\x00\x00"  # a user property, empty
    body += payload
    return bytes([0x30 | qos << 1 | retain]) + length(len(body)) + body


class Wire:
    """Client on one end of a socket pair; the test is the broker on the other end."""

    def __init__(self, version: int = 4) -> None:
        self.version = version
        self.client: Any = FastClient(
            CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5 if version == 5 else paho.MQTTv311
        )
        self.received: list[InboundMessage] = []
        self.client.on_messages = self.received.extend
        self.client._sock, self.broker = socket.socketpair()
        self.client._sock.setblocking(False)
        self.client._state = ConnectionState.MQTT_CS_CONNECTED
        self.broker.setblocking(False)

    def feed(self, data: bytes) -> MQTTErrorCode:
        """Send ``data`` to the client at once, and let it read and write once."""
        self.broker.sendall(data)
        rc = self.client._packet_read()
        self.client._packet_write()
        return rc

    def answered(self) -> bytes:
        try:
            return self.broker.recv(65536)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.client._sock.close()
        self.broker.close()
        self.client._sock = None


@pytest.fixture(params=[4, 5])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    wire = Wire(request.param)
    yield wire
    wire.close()


@given(
    st.lists(st.tuples(st.text("ab/é", min_size=1, max_size=9), st.binary(max_size=300), st.booleans()), max_size=6),
    st.lists(st.integers(0, 2000), max_size=8),
    st.sampled_from([4, 5]),
    st.sampled_from([0, 1]),
)
def test_messages_are_whole_however_their_bytes_are_cut(
    sent: list[tuple[str, bytes, bool]], cuts: list[int], version: int, qos: int
) -> None:
    data = b"".join(
        publish(topic, payload, qos=qos, mid=number + 1, retain=retain, version=version)
        for number, (topic, payload, retain) in enumerate(sent)
    )
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    wire = Wire(version)
    answers = b""
    for start, stop in pairwise(edges):
        if stop > start:
            assert wire.feed(data[start:stop]) <= 0  # no error
            answers += wire.answered()
    assert wire.received == [(*message, 0) for message in sent]
    wanted = b"".join(struct.pack(">BBH", 0x40, 2, number + 1) for number in range(len(sent))) if qos else b""
    assert answers == wanted
    wire.close()


def test_a_message_of_a_session_is_acknowledged_when_asked_and_on_its_own_connection_only(wire: Any) -> None:
    wire.client.manual_ack = True
    flags = 0x08  # DUP
    sent = [publish("a", b"%d" % mid, qos=1, mid=mid, version=wire.version) for mid in (1, 2, 3)]
    sent[1] = bytes([sent[1][0] | flags]) + sent[1][1:]
    wire.feed(b"".join(sent))
    assert wire.answered() == b""
    numbers = [number for *_, number in wire.received]
    assert [number & deliveries.MID for number in numbers] == [1, 2, 3]
    assert [bool(number & deliveries.REPEATED) for number in numbers] == [False, True, False]
    wire.client.acknowledge(numbers[1:2])
    assert wire.answered() == struct.pack(">BBH", 0x40, 2, 2)
    wire.client._connection += 1  # as after a reconnect
    wire.client.acknowledge(numbers)
    assert wire.answered() == b""


def test_an_acknowledgement_does_not_get_into_the_next_connection(wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wire.client.manual_ack = True
    wire.client._thread = object()
    wire.feed(publish("a", b"x", qos=1, version=wire.version))
    number = wire.received[0][3]
    monkeypatch.setattr(NetworkClient, "reconnect", lambda client: client._out_packet.clear())  # as paho does first
    again = threading.Thread(target=wire.client.reconnect)

    def is_connected() -> bool:
        again.start()  # the network thread connects again between this look and the PUBACK
        again.join(0.2)
        return True

    monkeypatch.setattr(wire.client, "is_connected", is_connected)
    wire.client.acknowledge([number])
    again.join()
    assert not wire.client._out_packet


def test_a_message_larger_than_a_read_is_put_together(wire: Any) -> None:
    payload = bytes(range(256)) * 4096
    data = publish("a/w1/imu", payload, version=wire.version)
    for start in range(0, len(data), 50_000):
        wire.feed(data[start : start + 50_000])
    assert wire.received == [("a/w1/imu", payload, False, 0)]


@pytest.mark.parametrize("qos", [0, 1])
def test_a_message_that_is_too_long_takes_no_memory_and_is_still_too_long(wire: Any, qos: int) -> None:
    wire.client.limit_payload(1000)
    long = publish("a/w1/imu", bytes(range(256)) * 40_000, qos=qos, mid=7, version=wire.version)
    data = publish("b", b"1", version=wire.version) + long + publish("b", b"2", version=wire.version)
    for start in range(0, len(data), 9_999):
        wire.feed(data[start : start + 9_999])
        assert len(wire.client._incomplete._kept) < 100_000
    assert wire.received == [("b", b"1", False, 0), ("a/w1/imu", bytes(1001), False, 0), ("b", b"2", False, 0)]
    assert wire.answered() == (b"\x40\x02\x00\x07" if qos else b"")


def test_a_message_that_is_a_little_too_long_is_not_cut(wire: Any) -> None:
    wire.client.limit_payload(1000)
    data = publish("a", bytes([1]) * 2000, version=wire.version)
    wire.feed(data[:500])
    wire.feed(data[500:])
    assert wire.received == [("a", bytes([1]) * 2000, False, 0)]


def test_properties_of_any_length_do_not_hide_a_message_that_is_too_long() -> None:
    wire = Wire(5)
    wire.client.limit_payload(1000)
    properties = b"\x26\x00\x01k\xff\xff" + bytes(65535)
    body = b"\x00\x01a" + length(10 * len(properties)) + properties * 10 + b"payload"
    data = b"\x30" + length(len(body)) + body
    for start in range(0, len(data), 100_000):
        wire.feed(data[start : start + 100_000])
    assert wire.received == [("a", bytes(1001), False, 0)]
    wire.close()


def test_a_packet_of_another_type_that_is_too_long_ends_the_connection(wire: Any) -> None:
    wire.client.limit_payload(1000)
    assert wire.feed(b"\x90" + length(2**27) + bytes(100)) == MQTTErrorCode.MQTT_ERR_PROTOCOL
    assert "it has 134217733 bytes" in wire.client.end_reason


def test_other_packets_are_handled_by_paho_in_order_among_the_messages(wire: Any) -> None:
    order: list[str] = []
    wire.client.on_messages = lambda messages: order.extend(message[0] for message in messages)
    wire.client.on_unsubscribe = lambda *_: order.append("unsuback")
    wire.client._ping_t = 1.0
    unsuback = b"\xb0\x04\x00\x07\x00\x00" if wire.version == 5 else b"\xb0\x02\x00\x07"
    wire.feed(
        publish("a", b"", version=wire.version) + b"\xd0\x00" + unsuback + publish("b", b"", version=wire.version)
    )
    assert order == ["a", "unsuback", "b"]
    assert wire.client._ping_t == 0.0  # paho has handled the answer to the ping


@pytest.mark.parametrize(
    "data",
    [
        b"\x30\xff\xff\xff\xff\x01",  # a length of five bytes
        b"\x30\x04\x00\x02\xff\xfe",  # a topic that is not UTF-8
        b"\x30\x02\x00\x09",  # a topic longer than its packet
        b"\x00\x00",  # an unknown packet type
    ],
)
def test_a_malformed_packet_ends_the_connection_after_the_messages_before_it(wire: Any, data: bytes) -> None:
    assert wire.feed(publish("a", b"x", version=wire.version) + data) == MQTTErrorCode.MQTT_ERR_PROTOCOL
    assert wire.received == [("a", b"x", False, 0)]


def test_a_closed_connection_is_lost_and_nothing_to_read_is_not(wire: Any) -> None:
    assert wire.client._packet_read() == MQTTErrorCode.MQTT_ERR_AGAIN
    wire.broker.close()
    assert wire.client._packet_read() == MQTTErrorCode.MQTT_ERR_CONN_LOST


# --- writing --------------------------------------------------------------------------------------


def packets(data: bytes) -> list[tuple[int, bytes]]:
    """Split bytes into packets, and return (command, body) of each."""
    result, at = [], 0
    while at < len(data):
        size, shift, body = 0, 0, at + 1
        while True:
            byte = data[body]
            size, shift, body = size | (byte & 127) << shift, shift + 7, body + 1
            if byte < 128:
                break
        result.append((data[at], data[body : body + size]))
        at = body + size
    return result


def drained(wire: Wire) -> bytes:
    """Return everything that the client writes while the broker reads slowly."""
    out = b""
    for _ in range(10_000):
        rc = wire.client._packet_write()
        assert rc in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN)
        got = wire.answered()
        out += got
        if not got and not wire.client._out_packet:
            return out
    raise AssertionError("the client does not stop writing")


@pytest.mark.parametrize("qos", [0, 1])
def test_messages_are_sent_whole_and_in_order_through_a_small_socket_buffer(wire: Any, qos: int) -> None:
    wire.client._thread = object()  # as if its network thread were running
    wire.client._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    wire.client._max_inflight_messages = 10_000
    sent = [(f"a/w{number}/activity", bytes([number % 256]) * (37 * number % 20_000)) for number in range(300)]
    assert wire.client.publish_all(sent, qos, True, 1000) == 300
    written = packets(drained(wire))
    head = 2 * bool(qos) + (wire.version == 5)  # packet identifier, no properties
    assert {command for command, _ in written} == {0x31 | qos << 1}
    assert [(body[2 : 2 + body[1]].decode(), body[2 + body[1] + head :]) for _, body in written] == sent
    if qos:
        identifiers = [struct.unpack_from(">H", body, 2 + body[1])[0] for _, body in written]
        assert identifiers == list(range(1, 301))
    assert wire.client.outgoing == 300 * qos


@pytest.mark.parametrize("qos", [0, 1])
def test_no_more_messages_are_accepted_than_may_be_queued(wire: Any, qos: int) -> None:
    wire.client._thread = object()
    messages = [("a", bytes([number])) for number in range(10)]
    assert wire.client.publish_all(messages, qos, False, 7) == 7
    assert wire.client.publish_all(messages, qos, False, 7) == 0
    assert [body[-1] for _, body in packets(drained(wire))] == list(range(7))


@pytest.mark.parametrize("connects", [False, True])
def test_until_the_connack_qos_1_is_queued_and_qos_0_is_rejected(wire: Any, connects: bool) -> None:
    wire.client._thread = object()
    wire.client._state = ConnectionState.MQTT_CS_CONNECTING if connects else ConnectionState.MQTT_CS_NEW
    sock = wire.client._sock
    if not connects:
        wire.client._sock = None
    messages = [("a", bytes([number])) for number in range(30)]
    assert wire.client.publish_all(messages, 0, False, 100) == 0
    assert wire.client.publish_all(messages, 1, False, 100) == 30
    assert (wire.client._inflight_messages, len(wire.client._out_packet)) == (0, 0)
    wire.client._sock = sock
    wire.client._messages_reconnect_reset_out()  # as paho does when it reconnects
    connack = b"\x20\x03\x00\x00\x00" if wire.version == 5 else b"\x20\x02\x00\x00"
    wire.broker.sendall(connack)
    assert wire.client._packet_read() == MQTTErrorCode.MQTT_ERR_SUCCESS
    seen: list[int] = []
    while wire.client._out_messages:  # no more than 20 in flight, which is paho's default
        body = [body for _, body in packets(drained(wire))]
        assert 0 < len(body) <= 20
        seen += [one[-1] for one in body]
        wire.broker.sendall(b"".join(b"\x40\x02" + one[3:5] for one in body))
        assert wire.client._packet_read() == MQTTErrorCode.MQTT_ERR_SUCCESS
    assert seen == list(range(30))


def test_an_identifier_in_flight_is_not_used_again(wire: Any) -> None:
    wire.client._thread = object()
    wire.client._max_inflight_messages = 10
    wire.client.publish_all([("a", b"")] * 3, 1, False, 10)
    wire.client._last_mid = 0  # as after 65,535 further messages
    wire.client.publish_all([("a", b"")], 1, False, 10)
    assert list(wire.client._out_messages) == [1, 2, 3, 4]


def test_acknowledgements_make_room_for_further_messages_in_flight(wire: Any) -> None:
    wire.client._thread = object()
    wire.client._max_inflight_messages = 4
    assert wire.client.publish_all([("a", bytes([number])) for number in range(10)], 1, False, 20) == 10
    seen: list[int] = []
    while True:
        body = [body for _, body in packets(drained(wire))]
        if not body:
            break
        assert len(body) <= 4
        seen += [one[-1] for one in body]
        acknowledged = b"".join(b"\x40\x02" + one[3:5] for one in body)
        wire.broker.sendall(acknowledged)
        assert wire.client._packet_read() == MQTTErrorCode.MQTT_ERR_SUCCESS
    assert seen == list(range(10))
    assert (wire.client._inflight_messages, len(wire.client._out_messages)) == (0, 0)


def test_an_acknowledgement_of_an_unknown_message_is_ignored(wire: Any) -> None:
    wire.feed(b"\x40\x02\x00\x09")
    assert wire.client._inflight_messages == 0


def test_a_message_the_broker_refuses_is_not_sent_again(wire: Any) -> None:
    wire.client._thread = object()
    wire.client.publish_all([("a", b"x")], 1, False, 20)
    drained(wire)
    wire.feed(b"\x40\x03\x00\x01\x97" if wire.version == 5 else b"\x40\x02\x00\x01")  # quota exceeded
    assert (wire.client._inflight_messages, len(wire.client._out_messages)) == (0, 0)


@pytest.mark.parametrize("error", [BrokenPipeError(), ValueError("closed"), AttributeError("None")])
def test_a_socket_closed_by_another_thread_ends_the_connection_not_the_thread(wire: Any, error: Exception) -> None:
    def fail(_: bytes) -> int:
        raise error

    wire.client._thread = object()
    wire.client.publish("a", b"x", 1)
    wire.client.publish("a", b"y", 1)
    wire.client._sock_send = fail
    assert wire.client._packet_write() == MQTTErrorCode.MQTT_ERR_CONN_LOST
    assert [packet["mid"] for packet in wire.client._out_packet] == [1, 2]


def test_a_failed_tls_handshake_closes_the_socket():
    listener = socket.create_server(("127.0.0.1", 0))
    closed = threading.Event()

    def answer_without_tls() -> None:
        peer, _ = listener.accept()
        with listener, peer, suppress(ConnectionResetError):
            peer.sendall(b"this is not TLS")
            while peer.recv(1000):
                pass
        closed.set()

    threading.Thread(target=answer_without_tls, daemon=True).start()
    client = FastClient(CallbackAPIVersion.VERSION2)
    client.tls_set_context(ssl.create_default_context())
    with pytest.raises(ssl.SSLError) as caught:
        client.connect(*listener.getsockname())
    assert closed.wait(DEADLINE_S)
    assert caught.tb is not None  # it keeps the socket referenced, so that the garbage collector did not close it
