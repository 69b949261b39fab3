"""What `harstream run` is told, checked before anything is started.

A TOML file is overruled by HARSTREAM_RUN_* variables, and they by flags. A key or variable that does not
exist is an error: a typo must not leave a default in force.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import socket
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harstream import partitions
from harstream.bundle import BACKEND_FILES, DEFAULT_MODEL
from harstream.core.smoothing import MAX_UNKNOWN_BELOW, Smoothing
from harstream.errors import ConfigError
from harstream.mqtt.urls import MQTT_VERSIONS, BrokerSettings, BrokerUrl
from harstream.wire.payloads import ACC_UNITS, GYRO_UNITS
from harstream.wire.topics import TopicTemplate

DEFAULT_TOPIC = "wearables/{device}/imu"
DEFAULT_LABELS_TOPIC = "wearables/{device}/activity"
DEFAULT_EVENTS_TOPIC = "wearables/{device}/activity/event"
DEFAULT_HTTP = "127.0.0.1:9464"
ENV_PREFIX = "HARSTREAM_RUN_"
PASSWORD = f"{ENV_PREFIX}PASSWORD"
SMOOTHINGS = ("bundle", "none")
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Every setting of `harstream run`, by the name of its flag. Raises ConfigError where one makes no sense."""

    broker: str | None = field(default=None, repr=False)  # one address or several; they may hold a password
    model: str = DEFAULT_MODEL
    backend: str = "auto"
    topic: str = DEFAULT_TOPIC
    labels_topic: str = DEFAULT_LABELS_TOPIC
    events_topic: str = DEFAULT_EVENTS_TOPIC
    smoothing: str = "bundle"
    unknown_below: float | None = None
    partitions: str | None = None
    worker: str | None = None
    partition_count: int | None = None
    qos: int = 1
    http: str = DEFAULT_HTTP
    instance: str = ""
    mqtt_version: str = "auto"
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)  # in the environment only
    password_file: Path | None = None
    acc_unit: str = "g"
    gyro_unit: str = "rad/s"
    max_payload_bytes: int = 256 * 1024
    max_devices: int = 100_000
    idle_s: float = 300.0
    log_level: str = "info"
    log_format: str = "text"

    def __post_init__(self) -> None:
        for name in _PATHS:
            if isinstance(path := getattr(self, name), str):
                object.__setattr__(self, name, Path(path))
        if not self.instance:
            object.__setattr__(self, "instance", re.sub(r"[/+#\s]", "-", socket.gethostname()) or "harstream")
        if re.search(r"[/+#]", self.instance) or not self.instance.isprintable():
            raise ConfigError(f"instance: {self.instance!r} may hold no /, +, # or control character")
        for name, choices in (
            ("backend", ("auto", *BACKEND_FILES)),
            ("smoothing", SMOOTHINGS),
            ("mqtt_version", MQTT_VERSIONS),
            ("qos", (0, 1)),
            ("acc_unit", tuple(ACC_UNITS)),
            ("gyro_unit", tuple(GYRO_UNITS)),
            ("log_level", LOG_LEVELS),
            ("log_format", LOG_FORMATS),
        ):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{flag(name)}: {getattr(self, name)!r} is not one of {', '.join(map(str, choices))}")
        for name, least in (("max_payload_bytes", 64), ("max_devices", 1), ("idle_s", 1)):
            if not getattr(self, name) >= least:
                raise ConfigError(f"{flag(name)}: {getattr(self, name)!r} is less than {least}")
        if self.samples_template.overlaps(self.labels_template):
            raise ConfigError(
                f"labels-topic: {self.labels_topic!r} would be received again as samples ({self.topic!r})"
            )
        templates = {"topic": self.samples_template, "labels-topic": self.labels_template}
        if self.events_template is not None:
            for name, template in templates.items():
                if template.overlaps(self.events_template):
                    raise ConfigError(f"events-topic: {self.events_topic!r} is in the way of {name} {template.text!r}")
            templates["events-topic"] = self.events_template
        for name, template in templates.items():
            if template.device(self.status_topic) is not None:
                raise ConfigError(f"{name}: {template.text!r} holds the daemon's own {self.status_topic!r}")
        if self.unknown_below is not None and not 0 <= self.unknown_below <= MAX_UNKNOWN_BELOW:
            raise ConfigError(f"unknown-below: {self.unknown_below!r} is not between 0 and {MAX_UNKNOWN_BELOW}")
        if self.serves and not self.samples_template.has_partition:
            raise ConfigError(f"partitions: the topic {self.topic!r} has no level {{partition}}")
        self.http_address  # noqa: B018 (raises where it is none)
        self.broker_settings  # noqa: B018

    @property
    def samples_template(self) -> TopicTemplate:
        return TopicTemplate(self.topic, "topic", may_partition=True)

    @property
    def serves(self) -> tuple[int, ...]:
        """The partitions served; none: all there are."""
        if self.partitions is not None:
            if self.worker is not None or self.partition_count is not None:
                raise ConfigError("partitions: say which, or how many there are and which worker this is; not both")
            return partitions.parse(self.partitions)
        if self.worker is None and self.partition_count is None:
            return ()
        if self.worker is None or self.partition_count is None:
            raise ConfigError("worker and partition-count: the one needs the other")
        return partitions.of_worker(self.worker, self.partition_count, socket.gethostname())

    @property
    def labels_template(self) -> TopicTemplate:
        return TopicTemplate(self.labels_topic, "labels-topic")

    @property
    def events_template(self) -> TopicTemplate | None:
        """None for ``off``."""
        return None if self.events_topic == "off" else TopicTemplate(self.events_topic, "events-topic")

    def smoothing_of(self, bundle: Smoothing) -> Smoothing:
        """The bundle's smoothing, or what overrules it; ``none`` never abstains, unless told below what."""
        smoothing = bundle if self.smoothing == "bundle" else Smoothing()
        if self.unknown_below is not None:
            smoothing = dataclasses.replace(smoothing, unknown_below=self.unknown_below)
        return smoothing

    @property
    def status_topic(self) -> str:
        return f"harstream/{self.instance}/status"

    @property
    def http_address(self) -> tuple[str, int] | None:
        """Host and port to serve HTTP on; None for ``off``."""
        if self.http == "off":
            return None
        host, colon, port = self.http.rpartition(":")
        if not colon or not host or not port.isdecimal() or int(port) > 65535:
            raise ConfigError(f"http: {self.http!r} is not HOST:PORT, or off")
        return host.strip("[]"), int(port)

    @property
    def broker_settings(self) -> BrokerSettings | None:
        """None: start the embedded broker."""
        if self.broker is None:
            return None
        urls = [BrokerUrl.parse(address) for address in self.broker.split()]
        if not urls:
            raise ConfigError("broker: an empty address")
        said = {(url.user, url.password) for url in urls if (url.user, url.password) != (None, None)}
        if len(said) > 1:
            raise ConfigError("broker: several addresses are of one broker, but users or passwords differ")
        user, password = said.pop() if said else (None, None)
        user = user if self.user is None else self.user
        password = password if self._password is None else self._password
        if password is not None and user is None:
            raise ConfigError("a password is given, but no user")
        urls = [dataclasses.replace(url, user=user, password=password) for url in urls]
        return BrokerSettings(urls[0], self.mqtt_version, self.ca, self.cert, self.key, tuple(urls[1:]))

    @property
    def _password(self) -> str | None:
        """What overrules that of an address."""
        if self.password_file is None:
            return self.password
        if self.password is not None:
            raise ConfigError("password-file: the environment has a password too")
        try:
            return self.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise ConfigError(f"password-file: {self.password_file}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"password-file: {self.password_file}: no text") from error


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(RunConfig)}
#: What a TOML value must be, by the type of the default; all others are texts.
_KINDS: dict[type, tuple[type, ...]] = {int: (int,), float: (int, float)}
#: And where the default is none.
_KINDS_BY_NAME = {"unknown_below": _KINDS[float], "partition_count": (int,)}
_PATHS = ("ca", "cert", "key", "password_file")
#: What only the environment may hold: others may read a file of settings, and everybody the list of processes.
_SECRET = "password"
KEYS = tuple(setting.name for setting in dataclasses.fields(RunConfig) if setting.name != _SECRET)


def flag(key: str) -> str:
    """The flag of a key, without dashes in front."""
    return key.replace("_", "-")


def _unknown(what: str, name: str, known: Iterable[str]) -> ConfigError:
    close = difflib.get_close_matches(name, list(known), n=1)
    return ConfigError(f"{what}: {name!r} does not exist" + (f"; did you mean {close[0]!r}?" if close else ""))


def read_file(path: Path) -> dict[str, Any]:
    """A TOML file of settings, keys spelt like the flags with - or _. Raises ConfigError for an unknown one."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config: {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config: {path}: {error}") from error
    settings: dict[str, Any] = {}
    for key, value in data.items():
        name = key.replace("-", "_")
        if name == _SECRET:
            raise ConfigError(f"config: {path}: {key}: others may read this file; use password-file, or {PASSWORD}")
        if name == "broker" and isinstance(value, list) and all(isinstance(each, str) for each in value):
            value = " ".join(value)
        if name not in KEYS:
            raise _unknown(f"config: {path}", key, KEYS)
        if name in settings:
            raise ConfigError(f"config: {path}: {key!r} is there twice, once with - and once with _")
        kinds = _KINDS_BY_NAME.get(name) or _KINDS.get(type(_DEFAULTS[name]), (str,))
        if isinstance(value, bool) or not isinstance(value, kinds):
            got = type(value).__name__ if name == "broker" else repr(value)  # it may hold a password
            raise ConfigError(f"config: {path}: {key}: expected {' or '.join(k.__name__ for k in kinds)}, got {got}")
        settings[name] = value
    return settings


def check_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Raises ConfigError for a HARSTREAM_RUN_* variable that is no setting, or empty: a forgotten value, surely."""
    known = [ENV_PREFIX + key.upper() for key in (*KEYS, _SECRET, "config")]
    for name in environment:
        if name.startswith(ENV_PREFIX) and name not in known:
            raise _unknown("environment", name, known)
        if name.startswith(ENV_PREFIX) and not environment[name]:
            raise ConfigError(f"environment: {name} is empty; unset it for the default")


def without_passwords(addresses: str) -> str:
    """One or several brokers' addresses, to be shown: passwords hidden."""
    shown = []
    for address in addresses.split():
        user_info, at, host = address.rpartition("@")
        scheme, _, user = user_info.rpartition("://")
        start = f"{scheme}://" if scheme else ""
        shown.append(f"{start}{user.partition(':')[0]}{':***' if ':' in user else ''}{at}{host}" if at else address)
    return " ".join(shown)
