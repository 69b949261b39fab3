"""Another client with our client identifier: recognised, said with its mend, and not fought for ever."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator

import pytest

from harstream.mqtt import failures
from harstream.mqtt.connection import Connection
from harstream.mqtt.urls import BrokerSettings, BrokerUrl

from ..servers import wait_until
from .brokers import Peer, scripted

TAKEN_OVER = b"\xe0\x02\x8e\x00"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "RETRY_FIRST_S", 0.05)
    monkeypatch.setattr(failures, "TAKEN_OVER_FIRST_S", 0.05)


@pytest.fixture
def connect() -> Iterator[Callable[..., Connection]]:
    """Open connections, which are closed after the test."""
    opened: list[Connection] = []

    def begin(address: str | int, version: str = "5", client_id: str | None = None, name: str = "x") -> Connection:
        url = BrokerUrl.parse(f"127.0.0.1:{address}" if isinstance(address, int) else address)
        settings = BrokerSettings(url, version, client_id=client_id)
        opened.append(Connection(settings, settings.name_client(name), subscriptions=["a/+"]))
        opened[-1].open()
        return opened[-1]

    yield begin
    for connection in opened:
        connection.close()


def subscribed(peer: Peer) -> None:
    """Accept a connection and its subscription."""
    peer.accept()
    mid = peer.packet()[1][:2]
    peer.sock.sendall(b"\x90\x04" + mid + b"\x00\x01")


def client_id(peer: Peer) -> str:
    """Return the client identifier of a CONNECT of MQTT 5 without properties."""
    return peer.connect[13 : 13 + peer.connect[12]].decode()


def test_a_fixed_client_id_that_is_taken_over_is_one_line_with_the_mend_and_a_pause_that_grows(connect, caplog):
    seen: list[str] = []

    def take_over(peer: Peer) -> None:
        seen.append(client_id(peer))
        subscribed(peer)
        if len(seen) < 6:
            peer.sock.sendall(TAKEN_OVER)
        peer.serve()

    with scripted(take_over) as port:
        connection = connect(port, client_id="thing-7")
        wait_until(lambda: len(seen) == 6 and connection.ready, "the connection that lasts")
    assert seen == ["thing-7"] * 6
    lost = [record for record in caplog.records if "reconnecting" in record.getMessage()]
    assert len(lost) == 5
    assert {record.levelno for record in lost} == {logging.ERROR}
    pauses = []
    for record in lost:
        found = re.fullmatch(
            rf"broker mqtt://127\.0\.0\.1:{port}: connection closed \(Session taken over\): another program uses the "
            r"client id 'thing-7'; give each one of its own by --client-id; reconnecting in (\S+) s",
            record.getMessage(),
        )
        assert found, record.getMessage()
        pauses.append(float(found[1]))
    assert pauses[4] > pauses[0]  # 0.8 to 0.4 s and 0.05 to 0.025 s


def test_with_a_random_client_id_the_next_connection_has_another_one_at_once(connect, caplog):
    seen: list[str] = []

    def take_over(peer: Peer) -> None:
        seen.append(client_id(peer))
        subscribed(peer)
        if len(seen) == 1:
            peer.sock.sendall(TAKEN_OVER)
        peer.serve()

    with scripted(take_over) as port:
        connection = connect(port)
        wait_until(lambda: connection.connects == 2 and connection.ready, "the next connection")
    assert seen[1] != seen[0]
    assert seen[1].startswith(seen[0])
    [line] = [record.getMessage() for record in caplog.records if "reconnecting" in record.getMessage()]
    assert f"connection lost (Session taken over: another client uses our client id; {seen[1]!r} is the next)" in line


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_two_programs_with_one_fixed_id_at_mosquitto_are_named_and_slow_down(mosquitto, connect, version, caplog):
    """mosquitto 2.0.11 gives no reason, whatever the version."""
    for _ in range(2):
        connect(mosquitto.address, version, client_id="fixed")

    def pauses() -> list[float]:
        return [float(text) for text in re.findall(r"reconnecting in (\S+) s", caplog.text)]

    wait_until(lambda: max(pauses(), default=0) >= 0.8, "growing pauses")
    assert "or another program uses the client id 'fixed', which must differ; reconnecting" in caplog.text


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_client_that_uses_our_random_id_at_mosquitto_gets_it_and_we_take_another(mosquitto, connect, version):
    connection = connect(mosquitto.address, version)
    taken = connection._client_id
    intruder = connect(mosquitto.address, version, client_id=taken)

    def peace() -> bool:
        ours = connection._client
        return ours is not None and ours._client_id.decode() != taken and connection.ready and intruder.ready

    wait_until(peace, "both to be connected")
