"""Look at the port of a broker to which a connection failed, to tell a wrong scheme in its address."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress

from harstream.mqtt.urls import BrokerUrl

_TIMEOUT_S = 3.0
#: CONNECT of MQTT 3.1.1 without client identifier, so that no client of the same name is disconnected.
_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x05\x00\x00"
#: Protocol that a port speaks to the schemes that are right for it.
_SCHEMES = {"TLS": ("mqtts", "wss"), "MQTT without TLS": ("mqtt",), "HTTP without TLS": ("ws",)}


def scheme_hint(url: BrokerUrl) -> str:
    """Return what the port speaks and which scheme to use; "" if the port does not show that the scheme is wrong."""
    spoken = ""
    with suppress(OSError):
        spoken = ("" if url.tls else _speaks_tls(url)) or _speaks_plainly(url)
    if not spoken or url.scheme in _SCHEMES[spoken]:
        return ""
    # TLS may carry both; take the one that is nearer to the address.
    right = next((each for each in _SCHEMES[spoken] if each.startswith(url.scheme)), _SCHEMES[spoken][0])
    return f"port {url.port} speaks {spoken}; use {right}://, or another port"


def _speaks_tls(url: BrokerUrl) -> str:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent, only the protocol looked at
    with socket.create_connection((url.host, url.port), _TIMEOUT_S) as sock:
        try:
            context.wrap_socket(sock, server_hostname=url.host).close()
        except ssl.SSLError as error:
            return "TLS" if "ALERT" in (error.reason or "") else ""
        except OSError:
            return ""
    return "TLS"


def _speaks_plainly(url: BrokerUrl) -> str:
    if _answer(url, _CONNECT)[:2] == b"\x20\x02":
        return "MQTT without TLS"
    request = f"GET / HTTP/1.1\r\nHost: {url.host}\r\nConnection: close\r\n\r\n"
    return "HTTP without TLS" if _answer(url, request.encode()) == b"HTTP/" else ""


def _answer(url: BrokerUrl, question: bytes) -> bytes:
    """Return the first bytes that the port answers to a question; b"" without an answer."""
    with socket.create_connection((url.host, url.port), _TIMEOUT_S) as sock, suppress(OSError):
        sock.sendall(question)
        return sock.recv(5)
    return b""
