"""Broker addresses and TLS settings. Importing this module does not import paho."""

from __future__ import annotations

import secrets
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from harstream.errors import ConfigError

#: Accepted settings for the protocol version; "auto" tries 5 first, then 3.1.1.
MQTT_VERSIONS = ("auto", "5", "3.1.1")
#: Scheme to (default port, whether TLS is used, whether MQTT runs in a WebSocket).
_SCHEMES = {
    "mqtt": (1883, False, False),
    "tcp": (1883, False, False),
    "mqtts": (8883, True, False),
    "ssl": (8883, True, False),
    "tls": (8883, True, False),
    "ws": (80, False, True),
    "wss": (443, True, True),
}
_FORMS = "mqtt://[user:password@]host[:port], mqtts://…, ws://…/path, wss://…/path or host[:port]"
#: Path of a ws:// or wss:// address without one, which most brokers expect.
DEFAULT_PATH = "/mqtt"


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """Address of a broker, such as ``mqtts://user:password@host:port`` or ``wss://host/path``."""

    host: str
    port: int
    tls: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    path: str | None = field(default=None, repr=False)  # of the WebSocket, with the query; None: none, plain MQTT

    @classmethod
    def parse(cls, text: str) -> BrokerUrl:
        """Parse an address.

        Raises:
            ConfigError: ``text`` is not an address. The message never repeats a password.

        """
        text = text.rstrip("\r\n")
        try:
            parts = urlsplit(text if "://" in text else f"mqtt://{text}")
            port = parts.port
        except ValueError:
            # The text of this error may hold part of a password that contains "/" or "#".
            raise ConfigError(
                f"broker: expected {_FORMS}, but the port is not a number; "
                "percent-encode special characters in user and password"
            ) from None
        if parts.scheme not in _SCHEMES:
            raise ConfigError(f"broker: expected mqtt://, mqtts://, ws:// or wss://, got {parts.scheme}://")
        default_port, tls, websocket = _SCHEMES[parts.scheme]
        if not parts.hostname or parts.fragment or (not websocket and (parts.path not in ("", "/") or parts.query)):
            raise ConfigError(f"broker: expected {_FORMS}")
        try:
            parts.hostname.encode("idna")
        except ValueError:
            raise ConfigError(f"broker: {parts.hostname!r} is not a valid host name") from None
        if port == 0:
            raise ConfigError("broker: expected a port from 1 to 65535, got 0")
        path = (parts.path or DEFAULT_PATH) + (f"?{parts.query}" if parts.query else "")
        return cls(
            parts.hostname,
            default_port if port is None else port,
            tls,
            unquote(parts.username) if parts.username else None,
            None if parts.password is None else unquote(parts.password),
            path if websocket else None,
        )

    @property
    def scheme(self) -> str:
        """Scheme of the address, in the spelling that log lines use."""
        return ("mqtt" if self.path is None else "ws") + ("s" if self.tls else "")

    def __str__(self) -> str:
        """Return the address without user, password and query, which may hold a token, so that it can be logged."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{(self.path or '').partition('?')[0]}"


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Addresses, protocol version, client identifier and TLS settings of one broker or cluster.

    Raises:
        ConfigError: The settings contradict each other, or a file does not exist.

    """

    url: BrokerUrl
    version: str = "auto"  # one of MQTT_VERSIONS
    ca: Path | None = None  # certificates of the authorities to trust, PEM; None: those of the system
    cert: Path | None = None  # client certificate, PEM
    key: Path | None = None  # private key of the client certificate, PEM; None: it is in the file ``cert``
    others: tuple[BrokerUrl, ...] = ()  # further nodes of the same cluster, tried in turn when one is lost
    alpn: str | None = None  # protocol to ask for in the TLS handshake, such as "mqtt"; None: none
    client_id: str | None = None  # fixed client identifier; None: one with a random end

    def __post_init__(self) -> None:
        if self.version not in MQTT_VERSIONS:
            raise ConfigError(f"mqtt-version: {self.version!r} is not one of {', '.join(MQTT_VERSIONS)}")
        for other in self.others:
            if other.scheme != self.url.scheme:
                raise ConfigError(
                    f"broker: {self.url.scheme}:// and {other.scheme}:// are mixed; "
                    "use the same scheme for every address"
                )
        if not self.url.tls and (self.ca or self.cert or self.key or self.alpn):
            raise ConfigError(
                f"broker: ca, cert, key and alpn need an mqtts:// or wss:// address, got {self.url.scheme}://"
            )
        if self.alpn is not None and not 1 <= len(self.alpn.encode()) <= 255:
            raise ConfigError(f"alpn: expected a name of 1 to 255 bytes, such as mqtt, got {self.alpn!r}")
        if self.client_id is not None and not (self.client_id and self.client_id.isprintable()):
            raise ConfigError(f"client-id: expected printable characters, got {self.client_id!r}")
        if self.password_alone and self.version == "3.1.1":
            raise ConfigError("user: a password without a user needs MQTT 5; give the user too, or use mqtt-version 5")
        if self.key and not self.cert:
            raise ConfigError("key: a client key needs its certificate; set cert too")
        for name in ("ca", "cert", "key"):
            path = getattr(self, name)
            try:
                exists = path is None or path.is_file()
            except OSError as error:
                raise ConfigError(f"{name}: {path}: {error.strerror}") from error
            if not exists:
                raise ConfigError(f"{name}: {path}: no such file")

    @property
    def urls(self) -> tuple[BrokerUrl, ...]:
        """Addresses in the order in which they are tried."""
        return (self.url, *self.others)

    @property
    def password_alone(self) -> bool:
        """True if there is a password, but no user, which MQTT 3.1.1 does not allow."""
        return self.url.user is None and self.url.password is not None

    @property
    def versions(self) -> tuple[str, ...]:
        """MQTT versions to try, in order."""
        if self.version != "auto":
            return (self.version,)
        return ("5",) if self.password_alone else ("5", "3.1.1")

    def name_client(self, prefix: str, suffix: str = "") -> str:
        """Return a client identifier: the fixed one, or ``prefix`` with a random end. ``suffix`` follows in any case.

        A broker keeps one connection for each identifier, so several connections of one program differ by the suffix.
        """
        return f"{self.client_id or f'{prefix}-{secrets.token_hex(4)}'}{suffix}"

    def tls_context(self) -> ssl.SSLContext | None:
        """Read the TLS files; None without TLS.

        The context always verifies the broker's certificate and host name.

        Raises:
            ConfigError: A file cannot be read, or is not the certificate or key that it should be.

        """
        if not self.url.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(f"ca: {self.ca}: expected certificates in PEM: {error}") from error
        try:
            if self.cert:
                context.load_cert_chain(self.cert, self.key)
        except (ssl.SSLError, OSError) as error:
            files = f"cert: {self.cert}" + (f", key: {self.key}" if self.key else "")
            raise ConfigError(f"{files}: expected a certificate and its private key in PEM: {error}") from error
        if self.alpn is not None:
            context.set_alpn_protocols([self.alpn])
        return context
