"""IP addresses and ports of servers on this machine."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable

from harstream.errors import ConfigError

LOOPBACK = "127.0.0.1"
#: IP address with or without a port. IPv6 with a port is in brackets.
_LISTEN = re.compile(r"(?:\[(?P<v6>[^]]+)\]|(?P<v4>[0-9.]+))(?::(?P<port>[0-9]{1,5}))?|(?P<bare>[^][]+)")


def parse_listen(text: str) -> tuple[str, int | None]:
    """Return the IP address and the port that a server shall listen on; None for any port.

    Raises:
        ConfigError: ``text`` is not such an address.

    """
    match = _LISTEN.fullmatch(text)
    try:
        if match is None:
            raise ValueError(text)
        address = ipaddress.ip_address(match["v6"] or match["v4"] or match["bare"])
        port = None if match["port"] is None else int(match["port"])
        if port is not None and not 1 <= port <= 65535:
            raise ValueError(text)
    except ValueError:
        raise ConfigError(
            f"listen: {text!r} is not an IP address with or without a port, such as 0.0.0.0, 0.0.0.0:1883 or [::]:1883"
        ) from None
    return str(address), port


def is_loopback(host: str) -> bool:
    """Return whether only programs on this machine reach an IP address."""
    return ipaddress.ip_address(host).is_loopback


def family(host: str) -> socket.AddressFamily:
    """Return the family of an IP address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def in_brackets(host: str) -> str:
    """Return a host as addresses have it: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def reachable(host: str) -> str:
    """Return the address by which programs on this machine reach a server that listens on ``host``."""
    address = ipaddress.ip_address(host)
    if not address.is_unspecified:
        return host
    return LOOPBACK if address.version == 4 else "::1"


def first_free_port(candidates: Iterable[int], host: str = LOOPBACK) -> int | None:
    """Return the first of these ports of ``host`` on which nobody listens (0: any), or None."""
    for port in candidates:
        with socket.socket(family(host)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return None


def own_address(host: str) -> str:
    """Return the address by which others in the network reach a server that listens on ``host``.

    For 0.0.0.0 and :: it is the address of the default route's interface, or ``host`` itself if there is no route.
    """
    address = ipaddress.ip_address(host)
    if not address.is_unspecified:
        return host
    documentation = "192.0.2.1" if address.version == 4 else "2001:db8::1"
    with socket.socket(family(host), socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((documentation, 9))  # chooses an interface; nothing is sent
        except OSError:
            return host
        return str(probe.getsockname()[0])
