"""The embedded broker: on the desired port, or on the next free one."""

from __future__ import annotations

import sys

import pytest

from harstream.embedded import EmbeddedBroker
from harstream.errors import ConfigError

from .servers import Client, free_port, http_get, occupied, wait_until


@pytest.fixture
def start():
    pytest.importorskip("amqtt")
    brokers = []

    def start(port: int) -> EmbeddedBroker:
        brokers.append(EmbeddedBroker(port))
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
        assert set(client.messages) == {("a/b", b"1", True)}  # amqtt may send it more than once


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


def test_without_amqtt_the_error_names_both_remedies(monkeypatch):
    monkeypatch.setitem(sys.modules, "amqtt.broker", None)
    with pytest.raises(ConfigError, match=r"pass --broker mqtt://HOST, or pip install '\.\[demo\]' in a checkout"):
        EmbeddedBroker()


def test_no_free_port_is_an_error(monkeypatch):
    pytest.importorskip("amqtt")
    monkeypatch.setattr("harstream.embedded._MAX_PORTS", 1)
    with occupied() as port, pytest.raises(ConfigError, match=f"no free port from {port} to {port}"):
        EmbeddedBroker(port).start()
