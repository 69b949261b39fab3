"""HTTP server of the daemon: live page, devices, metrics, health and readiness."""

from __future__ import annotations

import logging
import selectors
import socket
import sys
import threading
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from harstream.errors import ConfigError
from harstream.serve import api
from harstream.serve.devices import Snapshot
from harstream.serve.metrics import CONTENT_TYPE
from harstream.serve.status import DaemonStatus

log = logging.getLogger("harstream.http")

#: Status code, media type and body.
Response = tuple[int, str, bytes]

#: Sent with every answer. The live page loads nothing from elsewhere and runs no script but its own, is shown in no
#: other page, and tells no other site where it was.
_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Stream:
    """Answer that goes on: after the headers, ``accept`` gets the socket, which then belongs to it."""

    media_type: str
    accept: Callable[[socket.socket], None]


Answer = Response | Stream


@dataclass(frozen=True, slots=True)
class Request:
    """Name and query of a GET, beside the path of its route."""

    name: str  # last level of the path, decoded, where the route has {name}; else ""
    query: Mapping[str, str]  # decoded; of a parameter given twice the last value


#: Path to the function that answers a GET of it. The last level of a path may be {name}, which stands for any text.
Routes = Mapping[str, Callable[[Request], Answer]]


def daemon_routes(
    read_status: Callable[[], DaemonStatus],
    expose_metrics: Callable[[], bytes],
    read_devices: Callable[[], Sequence[Snapshot]],
) -> Routes:
    """Return the paths that a daemon answers, without those of the live page."""
    return {
        "/api/devices": lambda request: api.list_devices(read_devices, request.query),
        "/api/devices/{name}": lambda request: api.show_device(read_devices, request.name, request.query),
        "/metrics": lambda _: (200, CONTENT_TYPE, expose_metrics()),
        "/healthz": lambda _: _health(read_status().alive, "the main loop does not move"),
        "/readyz": lambda _: _readiness(read_status()),
    }


def respond(routes: Routes, target: str) -> Answer:
    """Return the answer to a GET of ``target``: a path, and a query after ``?``."""
    # http.server decodes the request line as Latin-1, but clients send UTF-8, percent-encoded or not.
    path, _, query = target.encode("latin-1", "replace").decode("utf-8", "replace").partition("?")
    parameters = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    if (route := routes.get(path)) is not None:
        return route(Request("", parameters))
    parent, _, name = path.rpartition("/")
    if name and (route := routes.get(f"{parent}/{{name}}")) is not None:
        return route(Request(urllib.parse.unquote(name), parameters))
    return 404, "text/plain", b"not found\n"


def _readiness(status: DaemonStatus) -> Response:
    return _health(status.ready, status.state)


def _health(good: bool, problem: str) -> Response:
    return (200, "text/plain", b"ok\n") if good else (503, "text/plain", f"{problem}\n".encode())


class HttpServer:
    """Server that answers GET, in threads of its own.

    The constructor binds the address.

    Raises:
        ConfigError: The address cannot be bound; for example, the port is in use.

    """

    def __init__(self, address: tuple[str, int], routes: Routes) -> None:
        kept: set[socket.socket] = set()  # sockets that a stream has taken over

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            server_version = "harstream"
            sys_version = ""
            timeout = 30  # seconds, after which a silent client is disconnected and its thread ends

            def do_GET(self) -> None:
                """Answer a request."""
                try:
                    answer = respond(routes, self.path)
                except Exception:
                    log.exception("GET %s failed", self.path)
                    answer = 500, "text/plain", b"internal error\n"
                if isinstance(answer, Stream):
                    self._send_head(200, answer.media_type, {"Connection": "close", "X-Accel-Buffering": "no"})
                    self.connection.settimeout(None)
                    kept.add(self.connection)
                    try:
                        answer.accept(self.connection)
                    except BaseException:
                        kept.discard(self.connection)  # it is closed as others are
                        raise
                    return
                status, media_type, body = answer
                self._send_head(status, media_type, {"Content-Length": str(len(body))})
                self.wfile.write(body)

            def _send_head(self, status: int, media_type: str, headers: Mapping[str, str]) -> None:
                self.send_response(status)
                for name, value in {
                    "Content-Type": media_type,
                    "Cache-Control": "no-store",
                    **_SECURITY_HEADERS,
                    **headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Log a request at level debug, not on standard error as the base class does."""
                log.debug(format, *args)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET

            def shutdown_request(self, request: Any) -> None:
                """Close a connection, unless a stream goes on with it."""
                if request in kept:
                    kept.discard(request)
                else:
                    super().shutdown_request(request)

            def handle_error(self, request: object, client_address: object) -> None:
                """Log what ended a connection, such as a client that left early; the base class prints a traceback."""
                log.debug("connection of %s ended: %r", client_address, sys.exception())

        try:
            self._server = Server(address, Handler)
        except OSError as error:
            raise ConfigError(
                f"http: cannot listen on {address[0]}:{address[1]}: {error.strerror}; choose another address"
            ) from error
        self._server.timeout = 0  # of a connection that is gone before it is accepted
        self._woken, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    @property
    def url(self) -> str:
        """Address of the server, with the port that the system chose if 0 was given."""
        host, port = self._server.server_address[:2]
        text = host if isinstance(host, str) else host.decode()
        return f"http://[{text}]:{port}" if ":" in text else f"http://{text}:{port}"

    def start(self) -> None:
        """Start answering."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering and release the address, also if the server was never started."""
        if self._thread.is_alive():
            self._waker.send(b"\0")
            self._thread.join()
        self._server.server_close()
        self._woken.close()
        self._waker.close()

    def _serve(self) -> None:
        """Answer until ``close`` wakes the thread. ``serve_forever`` wakes by itself to see whether it shall end."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._server, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not any(key.fileobj is self._woken for key, _ in selector.select()):
                self._server.handle_request()
