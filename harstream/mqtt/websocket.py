"""WebSocket that carries MQTT (RFC 6455; MQTT 5, section 6), used by ``FastClient`` like a socket.

paho's own one reads one frame at a time and masks byte by byte, which limits it to some hundred messages a second.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from contextlib import suppress

from harstream.mqtt.urls import BrokerUrl

#: Constant of the protocol, from which the server makes the answer to our key.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_MAX_RESPONSE_BYTES = 16 * 1024


class WebSocketError(ConnectionError):
    """The server did not open a WebSocket.

    Attributes:
        status: HTTP status of its answer, such as 404; 0 if it did not answer in HTTP.

    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class WebSocket:
    """Client's end of a WebSocket over a connected socket. The constructor does the handshake.

    It has the methods of a socket that paho calls. ``send`` and ``recv`` deal in the bytes of MQTT, not of frames.

    Args:
        sock: TCP or TLS socket, in blocking mode with a timeout.
        url: Address that the socket is connected to. Its path holds the query.

    Raises:
        WebSocketError: The server refused, or speaks another protocol.
        OSError: The connection was lost, or the server did not answer in time.

    """

    def __init__(self, sock: socket.socket, url: BrokerUrl) -> None:
        self._sock = sock
        self._received = bytearray()  # bytes of frames, not yet unpacked
        self._payload_left = 0  # bytes of the present data frame that have not arrived yet
        self._unsent = bytearray()  # rest of frames that the socket did not accept yet
        self._framed = 0  # bytes of MQTT in ``_unsent`` that ``send`` has not reported yet
        self._closed = False  # the server has said that nothing follows
        self._open(url)

    # --- handshake ------------------------------------------------------------------------------

    def _open(self, url: BrokerUrl) -> None:
        host = f"[{url.host}]" if ":" in url.host else url.host
        if url.port != (443 if url.tls else 80):
            host += f":{url.port}"
        key = base64.b64encode(os.urandom(16))
        lines = [
            f"GET {url.path} HTTP/1.1",
            f"Host: {host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key.decode()}",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: mqtt",
        ]
        self._sock.sendall("\r\n".join([*lines, "", ""]).encode())
        head = self._read_response()
        status_line, *fields = head.decode("latin-1").split("\r\n")
        if not status_line.startswith("HTTP/"):
            raise WebSocketError("the server does not speak HTTP, which WebSockets begin with")
        code, _, reason = status_line.partition(" ")[2].partition(" ")
        if code != "101":
            status = int(code) if code.isdecimal() else 0
            path = (url.path or "").partition("?")[0]
            raise WebSocketError(f"the server answered {code} {reason} to the path {path}, expected 101", status)
        headers = {name.strip().lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}
        wanted = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
        if headers.get("sec-websocket-accept") != wanted:
            raise WebSocketError("the server's answer to the WebSocket handshake has a wrong Sec-WebSocket-Accept")

    def _read_response(self) -> bytes:
        """Return the head of the server's answer; what follows it is kept."""
        while b"\r\n\r\n" not in self._received:
            data = self._sock.recv(4096)
            if not data:
                raise WebSocketError("the server closed the connection during the WebSocket handshake")
            self._received += data
            if len(self._received) > _MAX_RESPONSE_BYTES or not b"HTTP/".startswith(self._received[:5]):
                break
        head, _, rest = bytes(self._received).partition(b"\r\n\r\n")
        self._received = bytearray(rest)
        return head

    # --- reading --------------------------------------------------------------------------------

    def recv(self, size: int) -> bytes:
        """Read once, and return the payload that arrived; b"" at the end of the connection.

        Raises:
            BlockingIOError: No payload has arrived.
            OSError: The connection was lost.

        """
        data = b"" if self._closed else self._sock.recv(size)
        if not data:
            return b""
        self._received += data
        payload = self._unpack()
        if not payload and not self._closed:
            raise BlockingIOError
        return payload

    def _unpack(self) -> bytes:
        """Return the payload of all data frames received. Answer pings, and note whether the server closes."""
        received, at, parts = self._received, 0, list[bytes]()
        while True:
            if self._payload_left:
                part = bytes(received[at : at + self._payload_left])
                if not part:
                    break
                parts.append(part)
                at += len(part)
                self._payload_left -= len(part)
                continue
            head = _parse_head(received, at)
            if head is None:
                break
            opcode, start, length = head
            if opcode in (_BINARY, _CONTINUATION):
                at, self._payload_left = start, length
                continue
            if opcode not in (_CLOSE, _PING, _PONG):
                raise ConnectionError(f"the server sent a WebSocket frame of type {opcode}, expected binary data")
            if start + length > len(received):
                break
            if opcode in (_CLOSE, _PING):
                answer = _frame(_PONG if opcode == _PING else _CLOSE, bytes(received[start : start + length]))
                self._unsent += answer
                with suppress(OSError):  # what is left follows with the next message
                    self._flush()
            at = start + length
            if opcode == _CLOSE:
                self._closed = True
                break
        del received[:at]
        return b"".join(parts)

    # --- writing --------------------------------------------------------------------------------

    def send(self, data: bytes | bytearray) -> int:
        """Send ``data`` as one frame, and return how many bytes of it are sent: all.

        Raises:
            BlockingIOError: The socket accepted a part only. Call it again with the same bytes, more may follow them;
                it then returns the number of bytes of the first call.
            OSError: The connection was lost.

        """
        if not self._framed:
            self._unsent += _frame(_BINARY, data)
            self._framed = len(data)
        self._flush()
        if self._unsent:
            raise BlockingIOError
        sent, self._framed = self._framed, 0
        return sent

    def _flush(self) -> None:
        while self._unsent:
            sent = self._sock.send(self._unsent)
            del self._unsent[:sent]

    # --- as of a socket -------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def fileno(self) -> int:
        """Return the file descriptor, for ``select``."""
        return self._sock.fileno()

    def pending(self) -> int:
        """Return the bytes that a TLS socket has decrypted already, of which ``select`` knows nothing."""
        pending = getattr(self._sock, "pending", None)
        return 0 if pending is None else int(pending())

    def setblocking(self, flag: bool) -> None:
        """Set blocking or non-blocking mode."""
        self._sock.setblocking(flag)

    def setsockopt(self, level: int, name: int, value: int) -> None:
        """Set an option of the socket."""
        self._sock.setsockopt(level, name, value)


def _parse_head(data: bytearray, at: int) -> tuple[int, int, int] | None:
    """Return type, index of the payload and length of the frame at ``at``; None if its head is incomplete.

    Raises:
        ConnectionError: The frame is masked, which a server must not do.

    """
    if len(data) < at + 2:
        return None
    opcode, length = data[at] & 0x0F, data[at + 1]
    if length & 0x80:
        raise ConnectionError("the server sent a masked WebSocket frame")
    size = {126: 2, 127: 8}.get(length, 0)
    start = at + 2 + size
    if len(data) < start:
        return None
    return opcode, start, int.from_bytes(data[at + 2 : start], "big") if size else length


def _frame(opcode: int, payload: bytes | bytearray) -> bytes:
    """Return a masked frame, as a client must send it."""
    size, key = len(payload), os.urandom(4)
    if size < 126:
        head = bytes([0x80 | opcode, 0x80 | size])
    elif size < 2**16:
        head = bytes([0x80 | opcode, 0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([0x80 | opcode, 0x80 | 127]) + size.to_bytes(8, "big")
    mask = (key * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")
    return head + key + masked
