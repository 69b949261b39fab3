"""Broker addresses and TLS settings. Importing this module does not import paho."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from harstream.errors import ConfigError

#: Accepted settings for the protocol version; "auto" tries 5 first, then 3.1.1.
MQTT_VERSIONS = ("auto", "5", "3.1.1")
_DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}
_FORMS = "mqtt://[user:password@]host[:port], mqtts://… or host[:port]"


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """Address of a broker: ``mqtt://[user:password@]host[:port]``, ``mqtts://…`` or ``host[:port]``."""

    host: str
    port: int
    tls: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> BrokerUrl:
        """Parse an address.

        Raises:
            ConfigError: ``text`` is not an address. The message never repeats a password.

        """
        try:
            parts = urlsplit(text if "://" in text else f"mqtt://{text}")
            port = parts.port
        except ValueError:
            # The text of this error may hold part of a password that contains "/" or "#".
            raise ConfigError(
                f"broker: expected {_FORMS}, but the port is not a number; "
                "percent-encode special characters in user and password"
            ) from None
        if parts.scheme not in _DEFAULT_PORTS:
            raise ConfigError(f"broker: expected mqtt:// or mqtts://, got {parts.scheme}://")
        if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ConfigError(f"broker: expected {_FORMS}")
        try:
            parts.hostname.encode("idna")
        except ValueError:
            raise ConfigError(f"broker: {parts.hostname!r} is not a valid host name") from None
        if port == 0:
            raise ConfigError("broker: expected a port from 1 to 65535, got 0")
        return cls(
            parts.hostname,
            _DEFAULT_PORTS[parts.scheme] if port is None else port,
            parts.scheme == "mqtts",
            unquote(parts.username) if parts.username else None,
            None if parts.password is None else unquote(parts.password),
        )

    def __str__(self) -> str:
        """Return the address without user and password, so that it can be logged."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Addresses, protocol version and TLS files of one broker or cluster.

    Raises:
        ConfigError: The settings contradict each other, or a file does not exist.

    """

    url: BrokerUrl
    version: str = "auto"  # one of MQTT_VERSIONS
    ca: Path | None = None  # certificates of the authorities to trust, PEM; None: those of the system
    cert: Path | None = None  # client certificate, PEM
    key: Path | None = None  # private key of the client certificate, PEM; None: it is in the file ``cert``
    others: tuple[BrokerUrl, ...] = ()  # further nodes of the same cluster, tried in turn when one is lost

    def __post_init__(self) -> None:
        if self.version not in MQTT_VERSIONS:
            raise ConfigError(f"mqtt-version: {self.version!r} is not one of {', '.join(MQTT_VERSIONS)}")
        if any(other.tls != self.url.tls for other in self.others):
            raise ConfigError("broker: mqtt:// and mqtts:// are mixed; use the same scheme for every address")
        if not self.url.tls and (self.ca or self.cert or self.key):
            raise ConfigError("broker: ca, cert and key need an mqtts:// address, got mqtt://")
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
        return context
