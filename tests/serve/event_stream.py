"""Reader of server-sent events."""

from __future__ import annotations

import json
import socket
import urllib.parse
from collections.abc import Iterator
from typing import Any, Self

from ..servers import DEADLINE_S


class EventStream:
    """Connection to a stream of server-sent events.

    Args:
        url: Address of the stream.
        buffer: Size of the receive buffer in bytes; 0: the usual one.

    """

    def __init__(self, url: str, buffer: int = 0) -> None:
        parts = urllib.parse.urlsplit(url)
        assert parts.hostname is not None
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect((parts.hostname, parts.port))
        self.socket.sendall(f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self._file = self.socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(": ")
            self.headers[name] = value

    def events(self) -> Iterator[tuple[str, Any]]:
        """Yield the name and the content of each event until the end of the stream."""
        name = ""
        for line in self._file:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)

    def next(self, name: str) -> Any:
        """Return the content of the next event of a name."""
        return next(content for found, content in self.events() if found == name)

    def drain(self) -> None:
        """Read to the end."""
        while self._file.read(65536):
            pass

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
