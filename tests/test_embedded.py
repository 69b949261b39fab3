"""The embedded broker: its ports, its life beside this process, and what damaged packets do to it."""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import threading

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from harstream.embedded import EmbeddedBroker
from harstream.errors import ConfigError

from .servers import DEADLINE_S, Client, Process, free_port, http_get, listens, occupied, wait_until


@pytest.fixture
def start():
    pytest.importorskip("iotcore")
    brokers = []

    def start(port: int, host: str = "127.0.0.1", **options) -> EmbeddedBroker:
        brokers.append(EmbeddedBroker(port, host, **options))
        brokers[-1].start()
        return brokers[-1]

    yield start
    for each in brokers:
        each.close()


def test_it_delivers_messages_and_keeps_retained_ones(start):
    broker = start(0)
    assert broker.url == f"mqtt://127.0.0.1:{broker.port}"
    with Client(broker.port) as client:
        client.publish("a/b", b"1", retain=True)
        wait_until(lambda: client.messages)
        assert client.messages == [("a/b", b"1", False)]
    with Client(broker.port) as client:
        wait_until(lambda: client.messages)
        assert client.messages == [("a/b", b"1", True)]


def test_it_listens_on_the_desired_port(start):
    port = free_port()
    assert start(port).port == port


def test_it_listens_on_the_next_free_port_if_that_one_is_occupied(start):
    with occupied() as port:
        broker = start(port)
        assert port < broker.port <= port + 50
        with Client(broker.port):
            pass


def test_two_in_one_process_do_not_disturb_each_other(start):
    first = start(0)
    second = start(first.port)
    assert second.port > first.port


def test_after_close_it_does_not_listen(start):
    broker = start(0)
    broker.close()
    with pytest.raises(OSError, match="refused"):
        Client(broker.port)
    broker.close()  # a second call does nothing
    assert http_get(f"http://127.0.0.1:{broker.port}/") == (0, "")


def test_an_exact_port_that_is_occupied_is_an_error(start):
    with occupied() as port, pytest.raises(ConfigError, match=f"listen: port {port} of 127.0.0.1 is occupied; give"):
        start(port, exact=True)


def test_an_address_of_another_machine_is_an_error(start):
    with pytest.raises(ConfigError, match=r"listen: 192\.0\.2\.77 is no address of this machine; listen on 0\.0\.0\.0"):
        start(free_port(), "192.0.2.77", exact=True)


def test_on_all_addresses_it_is_reached_by_each_of_them(start):
    broker = start(free_port(), "0.0.0.0")
    assert broker.url == f"mqtt://127.0.0.1:{broker.port}"
    with socket.create_connection(("127.0.0.2", broker.port)):
        pass


def test_it_listens_on_the_loopback_only_by_default(start):
    broker = start(0)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.2", broker.port)) != 0
    assert broker.websocket_port == 0


def test_websockets_reach_the_same_broker(start):
    with occupied() as taken:
        broker = start(0, websocket_port=taken)
        assert taken < broker.websocket_port <= taken + 50
    client = paho.Client(CallbackAPIVersion.VERSION2, transport="websockets")
    client.ws_set_options("/mqtt")
    client.connect("127.0.0.1", broker.websocket_port)
    client.loop_start()
    with Client(broker.port) as other:
        client.publish("phone/imu", b"1", 1)
        wait_until(lambda: other.payloads("phone/imu") == [b"1"], "the message of the WebSocket")
    client.disconnect()
    client.loop_stop()


def test_it_keeps_the_session_of_a_client_that_is_away(start):
    broker = start(0)
    received, subscribed, present = [], threading.Event(), []

    def client() -> paho.Client:
        made = paho.Client(CallbackAPIVersion.VERSION2, "stays", clean_session=False)
        made.on_message = lambda _, __, message: received.append(message.payload)
        made.on_subscribe = lambda *_: subscribed.set()
        made.on_connect = lambda _, __, flags, *___: present.append(flags.session_present)
        made.connect("127.0.0.1", broker.port)
        made.loop_start()
        return made

    first = client()
    first.subscribe("s/#", qos=1)
    assert subscribed.wait(DEADLINE_S)
    first.disconnect()
    first.loop_stop()
    with Client(broker.port) as other:
        for number in range(20):
            other.publish(f"s/{number}", b"%d" % number)
        other.flush()
    again = client()
    wait_until(lambda: len(received) == 20, "what was published meanwhile")
    assert (present, received) == ([False, True], [b"%d" % number for number in range(20)])
    again.disconnect()
    again.loop_stop()


def test_a_signal_for_the_whole_group_leaves_it_to_who_started_it(start):
    broker = start(0)
    process = broker._process
    assert os.getpgid(process.pid) != os.getpgid(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        process.send_signal(number)
    with Client(broker.port) as client:
        client.publish("a", b"1")
        wait_until(lambda: client.messages, "a message")
    assert process.poll() is None


def test_it_ends_when_who_started_it_is_killed(tmp_path):
    pytest.importorskip("iotcore")
    code = "from harstream.embedded import EmbeddedBroker\nimport signal, sys\nbroker = EmbeddedBroker(0)\n"
    code += "broker.start()\nprint(broker.port, file=sys.stderr, flush=True)\nsignal.pause()"
    with Process(folder=tmp_path, code=code) as process:
        wait_until(lambda: process.err.endswith("\n"), "the port")
        port = int(process.err)
        assert listens(port)
        process.send(signal.SIGKILL)
        wait_until(lambda: not listens(port), "the end of the broker")


def test_when_it_fails_it_is_started_again_on_the_same_ports(start, caplog):
    broker = start(0)
    before = broker._process.pid
    broker._process.kill()
    wait_until(lambda: broker._process.pid != before and listens(broker.port), "another process")
    with Client(broker.port) as client:
        client.publish("a", b"1")
        wait_until(lambda: client.messages, "a message")
    assert "the embedded broker ended with exit code -9, and is started again" in caplog.text


CONNECT = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x0a\x00\x04fuzz"
PACKETS = [
    *(
        CONNECT,
        b"\x32\x08\x00\x03a/b\x00\x01x",
        b"\x34\x08\x00\x03a/b\x00\x01x",
        b"\x30\x05\x00\x03#/#",
        b"\x30\x02\x00\x00",
    ),
    *(b"\x82\x08\x00\x01\x00\x03a/#\x01", b"\xa2\x07\x00\x01\x00\x03a/#", b"\x40\x02\x00\x01", b"\x50\x02\x00\x01"),
    *(b"\x62\x02\x00\x01", b"\x70\x02\x00\x01", b"\x20\x02\x00\x00", b"\x90\x03\x00\x01\x01", b"\xb0\x02\x00\x01"),
    *(
        b"\xc0\x00",
        b"\xd0\x00",
        b"\xe0\x00",
        b"\xf0\x00",
        b"\x00\x00",
        b"\x30\xff\xff\xff\xff",
        b"\x30\xff\xff\xff\x7f",
    ),
]


def damaged(packet: bytes, generator: random.Random) -> bytes:
    """Return a packet with up to four bytes changed, added or removed."""
    data = bytearray(packet)
    for _ in range(generator.randint(0, 4)):
        place = generator.randrange(len(data) + 1)
        data[place : place + generator.randint(0, 1)] = generator.randbytes(generator.randint(0, 2))
    return bytes(data)


def test_damaged_packets_do_not_disturb_the_other_clients(start, caplog):
    broker, generator = start(0), random.Random(4)
    with Client(broker.port) as client:
        for number in range(600):
            with socket.create_connection(("127.0.0.1", broker.port)) as peer:
                own = CONNECT.replace(b"fuzz", b"%04x" % number)
                packets = [own] * generator.randint(0, 1) + generator.choices(PACKETS, k=3)
                peer.sendall(b"".join([packets[0], *(damaged(packet, generator) for packet in packets[1:])]))
        client.publish("healthy", b"1")
        wait_until(lambda: client.payloads("healthy"), "a message after all that")
    with Client(broker.port) as another:
        another.publish("healthy", b"2")
        wait_until(lambda: another.payloads("healthy"), "a message of a new client")
    assert caplog.text == ""


def test_without_iotcore_the_error_names_both_remedies(monkeypatch):
    monkeypatch.setitem(sys.modules, "iotcore", None)
    with pytest.raises(ConfigError, match=r"pass --broker mqtt://HOST, or pip install '\.\[demo\]' in a checkout"):
        EmbeddedBroker()


def test_no_free_port_is_an_error(monkeypatch):
    pytest.importorskip("iotcore")
    monkeypatch.setattr("harstream.embedded._MAX_PORTS", 1)
    with occupied() as port, pytest.raises(ConfigError, match=f"no free port from {port} to {port}"):
        EmbeddedBroker(port).start()
