"""The harness itself: the faults that it promises are the ones that a client sees."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..servers import DEADLINE_S, Client, Process, wait_until
from .processes import StoringMosquitto, kill, stopped
from .proxy import FaultyNetwork


@pytest.fixture
def echo() -> Iterator[int]:
    """Serve connections that send back what they get; yield the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(peer: socket.socket) -> None:
        with peer:
            try:
                while data := peer.recv(65536):
                    peer.sendall(data)
            except OSError:
                pass

    def serve() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(peer,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), DEADLINE_S)


def exchange(sock: socket.socket, data: bytes) -> None:
    """Send data and read them back."""
    sock.sendall(data)
    got = b""
    while len(got) < len(data):
        part = sock.recv(65536)
        assert part
        got += part
    assert got == data


def test_without_a_fault_it_forwards_everything(echo):
    with FaultyNetwork(echo) as network, dial(network.port) as one, dial(network.port) as two:
        for number in range(20):
            exchange(one, bytes([number]) * 5000 * number)
            exchange(two, b"x")
        assert network.connections == 2


def test_a_cut_is_the_end_of_the_data_and_a_reset_an_error(echo):
    with FaultyNetwork(echo) as network:
        with dial(network.port) as sock:
            exchange(sock, b"x")
            network.cut()
            assert sock.recv(1) == b""
        with dial(network.port) as sock:
            exchange(sock, b"x")
            network.reset()
            with pytest.raises(ConnectionResetError):
                sock.recv(1)


def test_a_half_open_connection_takes_data_and_gives_none_until_it_heals(echo):
    with FaultyNetwork(echo) as network, dial(network.port) as old:
        exchange(old, b"x")
        network.half_open()
        with dial(network.port) as new:
            exchange(new, b"new connections work")
        network.half_open(new=True)
        with dial(network.port) as new:
            for sock in (old, new):
                sock.sendall(b"swallowed")
                sock.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    sock.recv(1)
            network.heal()
            for sock in (old, new):
                sock.settimeout(DEADLINE_S)
                assert sock.recv(100) == b"swallowed"


def test_delays_and_rates_slow_it_down(echo):
    with FaultyNetwork(echo) as network, dial(network.port) as sock:
        network.delay_s = 0.1
        began_s = time.monotonic()
        exchange(sock, b"x")
        assert time.monotonic() - began_s >= 0.2  # there and back
        network.delay_s, network.bytes_s = 0, 200_000
        began_s = time.monotonic()
        exchange(sock, bytes(60_000))
        assert time.monotonic() - began_s >= 0.3
        network.heal()
        exchange(sock, bytes(1_000_000))


def test_a_network_that_refuses_resets_old_and_new_connections(echo):
    with FaultyNetwork(echo) as network, dial(network.port) as old:
        exchange(old, b"x")
        network.refuse()
        with pytest.raises(ConnectionResetError):
            old.recv(1)
        with pytest.raises(ConnectionResetError), dial(network.port) as new:
            new.recv(1)
        network.heal()
        with dial(network.port) as new:
            exchange(new, b"x")


@pytest.mark.parametrize("keep", [True, False])
def test_a_broker_restarts_with_and_without_what_it_had_stored(tmp_path, keep):
    with StoringMosquitto(tmp_path) as broker:
        with Client(broker.port) as client:
            client.publish("a", b"kept", retain=True)
            client.flush()
        broker.restart(keep=keep)
        with Client(broker.port) as client:
            client.publish("b", b"")
            wait_until(lambda: client.payloads("b"), "a message behind the retained one")
            assert client.payloads("a") == ([b"kept"] if keep else [])


def test_a_process_is_killed_and_one_is_stopped_for_a_while(tmp_path: Path):
    with Process(folder=tmp_path, code="import time\nprint(1, flush=True)\nwhile True: time.sleep(0.01)") as process:
        wait_until(lambda: process.out, "its output")
        with stopped(process.group):
            wait_until(lambda: _state(process.group) == "T", "the stop")
        wait_until(lambda: _state(process.group) in "SR", "its going on")
        kill(process)
        assert process.exit_code() == -9


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
