"""The embedded broker: where asked for, or as near as there is room."""

from __future__ import annotations

import sys

import pytest

from harstream.embedded import EmbeddedBroker
from harstream.errors import ConfigError

from .servers import Client, free_port, http_get, occupied, wait_until


@pytest.fixture
def broker():
    pytest.importorskip("amqtt")
    started = []

    def start(port: int) -> EmbeddedBroker:
        started.append(EmbeddedBroker(port))
        started[-1].start()
        return started[-1]

    yield start
    for made in started:
        made.close()


def test_it_carries_messages_and_keeps_retained_ones(broker):
    made = broker(0)
    assert made.url == f"mqtt://127.0.0.1:{made.port}"
    with Client(made.port) as client:
        client.publish("a/b", b"1", retain=True)
        wait_until(lambda: client.messages)
        assert client.messages == [("a/b", b"1", False)]
    with Client(made.port) as client:
        wait_until(lambda: client.messages)
        assert set(client.messages) == {("a/b", b"1", True)}  # amqtt may send it twice


def test_it_takes_the_port_it_was_asked_for(broker):
    port = free_port()
    assert broker(port).port == port


def test_it_takes_the_next_free_port_where_that_one_is_taken(broker):
    port = free_port()
    with occupied(port):
        made = broker(port)
        assert port < made.port <= port + 50
        with Client(made.port):
            pass


def test_two_in_one_process_do_not_disturb_each_other(broker):
    one = broker(free_port())
    other = broker(one.port)
    assert other.port > one.port


def test_closed_it_no_longer_listens(broker):
    made = broker(0)
    made.close()
    with pytest.raises(OSError, match="refused"):
        Client(made.port)
    made.close()  # again
    assert http_get(f"http://127.0.0.1:{made.port}/") == (0, "")


def test_without_amqtt_it_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "amqtt.broker", None)
    with pytest.raises(ConfigError, match=r"pass --broker mqtt://HOST, or pip install 'harstream\[demo\]'"):
        EmbeddedBroker()


def test_a_port_without_room_after_it_is_refused(monkeypatch):
    pytest.importorskip("amqtt")
    monkeypatch.setattr("harstream.embedded._MAX_PORTS", 1)
    port = free_port()
    with occupied(port), pytest.raises(ConfigError, match=f"no free port from {port} to {port}"):
        EmbeddedBroker(port).start()
