"""Parts of brokers for tests: packets, a broker made of scripts, and a WebSocket in front of a real broker."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from ..servers import DEADLINE_S

Script = Callable[["Peer"], None]


class Peer:
    """Client of a scripted broker, after its CONNECT."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(DEADLINE_S)
        self._data = b""
        self.connect = self.packet()[1]
        self.version = self.connect[6]

    def packet(self) -> tuple[int, bytes]:
        """Return the type, in the upper half, and the body of the next packet; (0, b"") at the end."""
        while True:
            size, shift, at = 0, 0, 1
            while at < len(self._data):
                byte = self._data[at]
                size, shift, at = size | (byte & 127) << shift, shift + 7, at + 1
                if byte < 128:
                    if len(self._data) < at + size:
                        break
                    first, body, self._data = self._data[0], self._data[at : at + size], self._data[at + size :]
                    return first & 0xF0, body
            data = b""
            with suppress(ConnectionError):
                data = self.sock.recv(65536)
            if not data:
                return 0, b""
            self._data += data

    def accept(self) -> None:
        """Send a CONNACK."""
        self.sock.sendall(b"\x20\x03\x00\x00\x00" if self.version == 5 else b"\x20\x02\x00\x00")

    def serve(
        self,
        publish: Callable[[str, bytes], int | None] = lambda topic, payload: 0,
        subscribe: Callable[[str], bool] = lambda topic: True,
    ) -> list[tuple[str, bytes]]:
        """Answer every packet until the end, and return what was published.

        Args:
            publish: Gets topic and payload of a message at QoS 1, and returns the reason code of its PUBACK; None
                closes the connection.
            subscribe: Gets the one topic filter of a SUBSCRIBE; False closes the connection.

        """
        published: list[tuple[str, bytes]] = []
        while True:
            kind, body = self.packet()
            if kind == 0x80:
                head = body[:2] + (b"\x00" if self.version == 5 else b"")
                if not subscribe(body[len(head) + 2 : -1].decode()):
                    return published
                self.sock.sendall(bytes([0x90, len(head) + 1]) + head + b"\x01")
            elif kind == 0x30:
                (length,) = struct.unpack_from(">H", body)
                topic, mid = body[2 : 2 + length].decode(), body[2 + length : 4 + length]
                payload = body[4 + length + (self.version == 5) :]
                published.append((topic, payload))
                code = publish(topic, payload)
                if code is None:
                    return published
                self.sock.sendall(b"\x40\x03" + mid + bytes([code]) if code else b"\x40\x02" + mid)
            elif kind == 0xC0:
                self.sock.sendall(b"\xd0\x00")
            elif kind == 0xA0:
                self.sock.sendall(b"\xb0\x04" + body[:2] + b"\x00\x00" if self.version == 5 else b"\xb0\x02" + body[:2])
            elif kind in (0, 0xE0):
                return published


@contextmanager
def scripted(*scripts: Script, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve one connection after another, each by one script and the last script for all others; yield the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        number = 0
        while not over.is_set():
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            script = scripts[min(number, len(scripts) - 1)]
            number += 1
            with sock, suppress(OSError, IndexError):  # IndexError: no CONNECT, but a look at the port
                script(Peer(sock if context is None else context.wrap_socket(sock, server_side=True)))

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    over.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@contextmanager
def web_socket_proxy(port: int, context: ssl.SSLContext | None = None, path: str = "/mqtt") -> Iterator[int]:
    """Carry the bytes of WebSockets at one path to and from a broker's port; yield the port of the proxy."""
    server_module = pytest.importorskip("websockets.sync.server")
    from websockets.exceptions import ConnectionClosed

    def carry(web: object) -> None:
        broker = socket.create_connection(("127.0.0.1", port))

        def back() -> None:
            with suppress(OSError, ConnectionClosed):
                number = 0
                while data := broker.recv(65536):
                    number += 1
                    web.send(data[:1])  # type: ignore[attr-defined]
                    if number % 3 == 0:
                        web.ping()  # type: ignore[attr-defined]
                    if data[1:]:
                        web.send(iter([data[1:2], data[2:]]) if data[2:] else data[1:])  # type: ignore[attr-defined]
            web.close()  # type: ignore[attr-defined]

        threading.Thread(target=back, daemon=True).start()
        with broker, suppress(OSError, ConnectionClosed):
            for message in web:  # type: ignore[attr-defined]
                broker.sendall(message)

    def check(connection: object, request: object) -> object:
        if request.path != path:  # type: ignore[attr-defined]
            return connection.respond(404, "no such path\n")  # type: ignore[attr-defined]
        return None

    server = server_module.serve(
        carry, "127.0.0.1", 0, ssl=context, subprotocols=["mqtt"], process_request=check, compression=None
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.socket.getsockname()[1]
    server.shutdown()
