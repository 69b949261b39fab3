"""HTTP beside the daemon: metrics, health, readiness, and a page to look at."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harstream.errors import ConfigError

log = logging.getLogger("harstream.http")

#: Path to what answers it: status, content type, body.
Routes = Mapping[str, Callable[[], tuple[int, str, bytes]]]


class HttpServer:
    """Serves GET on a few fixed paths from a thread of its own."""

    def __init__(self, address: tuple[str, int], routes: Routes) -> None:
        """Bind at once. Raises ConfigError where that fails, as when the port is in use."""

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            server_version = "harstream"
            sys_version = ""
            timeout = 30  # a client that says nothing does not keep a thread

            def do_GET(self) -> None:
                route = routes.get(self.path.partition("?")[0])
                try:
                    status, kind, body = route() if route else (404, "text/plain", b"not found\n")
                except Exception:
                    log.exception("GET %s", self.path)
                    status, kind, body = 500, "text/plain", b"internal error\n"
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                log.debug(format, *args)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET

        try:
            self._server = Server(address, Handler)
        except OSError as error:
            raise ConfigError(f"http: cannot listen on {address[0]}:{address[1]}: {error.strerror}") from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True)

    @property
    def url(self) -> str:
        """With the real port, also where 0 was asked for."""
        host, port = self._server.server_address[:2]
        text = host if isinstance(host, str) else host.decode()
        return f"http://[{text}]:{port}" if ":" in text else f"http://{text}:{port}"

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
