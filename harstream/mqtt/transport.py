"""paho's client with the connections that harstream needs: TLS, WebSockets, several addresses, a password alone.

This module, ``network`` and ``client`` alone use private names of paho; ``paho_private`` lists them.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho

from harstream.mqtt.packets import CONNECT, add_password
from harstream.mqtt.urls import BrokerUrl
from harstream.mqtt.websocket import WebSocket


class Transport(paho.Client):
    """MQTT client that connects as a ``BrokerUrl`` says.

    Attributes:
        on_socket_error: Called in the network thread with the error that ended a connection. It must not raise.

    """

    on_socket_error: Callable[[Exception], None]

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.on_socket_error = lambda error: None
        self._url: BrokerUrl | None = None
        self._password_alone = b""  # password without a user name, which paho does not send

    # --- hooks for the connection's decisions ---------------------------------------------------------

    def set_address(self, url: BrokerUrl) -> None:
        """Set the address of the next connection. Call it in ``on_pre_connect``."""
        self._url, self._host, self._port = url, url.host, url.port

    def set_client_id(self, client_id: str) -> None:
        """Use a client identifier from the next connection on."""
        self._client_id = client_id.encode()

    def set_credentials(self, user: str | None, password: str | None) -> None:
        """Use a user and password, or one of them, from the next connection on. MQTT 3.1.1 needs the user."""
        self.username_pw_set(user, password)
        self._password_alone = b"" if user is not None or password is None else password.encode()

    def set_tls_context(self, context: ssl.SSLContext) -> None:
        """Use ``context`` from the next connection on. paho's ``tls_set_context`` works only once."""
        self._ssl_context = context

    # --- connecting -----------------------------------------------------------------------------------

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        """Do the TLS handshake, and close the socket if it fails. The context verifies the host name."""
        assert self._ssl_context is not None
        sock = tcp_sock  # wrap_socket() detaches it: from then on the TLS socket has to be closed
        try:
            sock = self._ssl_context.wrap_socket(tcp_sock, server_hostname=self._host, do_handshake_on_connect=False)
            sock.settimeout(self._connect_timeout)
            sock.do_handshake()
        except BaseException:
            sock.close()
            raise
        return sock

    def _create_socket(self) -> Any:
        """Connect, and open a WebSocket if the address asks for one."""
        sock: Any = super()._create_socket()
        if self._url is None or self._url.path is None:
            return sock
        try:
            sock.settimeout(self._connect_timeout)
            return WebSocket(sock, self._url)
        except BaseException:
            sock.close()
            raise

    def _complete(self, command: int, packet: Any) -> Any:
        """Return a packet of paho's; if it is a CONNECT, with the password that paho leaves out without a user."""
        if command == CONNECT and self._password_alone:
            return add_password(packet, self._password_alone)
        return packet

    # --- the socket -----------------------------------------------------------------------------------

    def _decrypted(self) -> bool:
        """Return True if TLS holds bytes that it has read and decrypted already."""
        return self._ssl_context is not None and self._sock is not None and self._sock.pending() > 0  # type: ignore
