"""Configuration of `harstream run`: its options and their validation. ``settings_file`` reads the file."""

from __future__ import annotations

import dataclasses
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harstream import partitions
from harstream.addresses import parse_listen
from harstream.bundle import BACKEND_FILES
from harstream.core.smoothing_section import MAX_UNKNOWN_BELOW, Smoothing
from harstream.errors import ConfigError
from harstream.mqtt.urls import MQTT_VERSIONS, BrokerSettings, BrokerUrl
from harstream.options import ENV_PREFIX, Option, option, options_of
from harstream.shipped import DEFAULT_MODEL
from harstream.source_config import (
    DEFAULT_TOPIC,
    SAMPLES_TOPICS,
    SOURCE_SETTINGS,
    SourceConfig,
    check_own_topic,
    check_tables,
    check_together,
    default_name,
)
from harstream.wire.fields import Fields
from harstream.wire.payloads import AUTO_PAYLOAD, PAYLOADS
from harstream.wire.samples import ACC_UNITS, AUTO, GYRO_UNITS
from harstream.wire.topics import is_topic_level

DEFAULT_LABELS_TOPIC = "wearables/{device}/activity"
DEFAULT_EVENTS_TOPIC = "wearables/{device}/activity/event"
DEFAULT_HTTP = "127.0.0.1:9464"
BROKER_HELP = (
    "Address of the broker: mqtt://[user:password@]host[:port], mqtts://… for TLS, ws://…/path or wss://…/path for "
    "WebSockets, or host[:port]."
)
PASSWORD = f"{ENV_PREFIX}PASSWORD"


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Settings of `harstream run`, each declared with its option, and the ``[[source]]`` tables of the settings file.

    Creating an instance reads no file; `read_broker_settings` does.

    Raises:
        ConfigError: A value is not allowed, or two values contradict each other.

    """

    broker: str | None = option(
        f"{BROKER_HELP} Several addresses are the nodes of one cluster; if one is lost, the next is tried.",
        default_text="an embedded broker",
        multiple=True,
        secret=True,
    )
    listen: str | None = option(
        "IP address and port on which the embedded broker listens, such as 0.0.0.0 for all wearables in the same "
        "network. It has no passwords. WebSockets have port 8083, or the next free one.",
        default_text="127.0.0.1, port 1883 or the next free one",
        metavar="HOST[:PORT]",
    )
    model: str = option(
        "Name of a shipped model, or folder of a bundle.", DEFAULT_MODEL, metavar="NAME|DIR", reloadable=True
    )
    backend: str = option(
        "Runtime of the model: LiteRT in float32 (litert) or int8, or TensorFlow; auto takes int8 if it is about as "
        "right by the bundle's own validation, else litert, else tensorflow.",
        "auto",
        choices=("auto", *BACKEND_FILES),
        reloadable=True,
    )
    topic: str = option(
        "Topic template of the samples; the level {device} is the name of the device, and a level {partition} a "
        "number. Without a level {device} the payload names the device.",
        DEFAULT_TOPIC,
        metavar="TEMPLATE",
    )
    acc_topic: str | None = option(
        "In place of --topic, for wearables whose two sensors have messages of their own: topic template of the "
        "accelerometer. If that of the gyroscope is the same, each message tells what it holds.",
        metavar="TEMPLATE",
    )
    gyro_topic: str | None = option(
        "Topic template of the gyroscope, with --acc-topic. A model that needs no gyroscope passes its messages over.",
        metavar="TEMPLATE",
    )
    payload: str = option(
        "Format of the samples; auto tells JSON, packed, CBOR, MessagePack, sensor-logger, senml and common names of "
        "fields from each message.",
        AUTO_PAYLOAD,
        choices=PAYLOADS,
    )
    fields: Fields | None = option(
        "Where things are in a message with the payload fields, csv or phyphox: a table of the settings file, or its "
        "text in TOML.",
        default_text="none",
        metavar="TOML",
        is_table=True,
    )
    axes: str = option(
        "The model's axes in terms of the device's, such as -y x z.", "x y z", metavar="AXES", joined=True
    )
    labels_topic: str = option(
        "Topic template to which labels are published.", DEFAULT_LABELS_TOPIC, metavar="TEMPLATE"
    )
    events_topic: str = option(
        "Topic template to which enter and exit events are published; off publishes none.",
        DEFAULT_EVENTS_TOPIC,
        metavar="TEMPLATE",
    )
    smoothing: str = option(
        "Smoothing of labels over time: bundle uses the settings of the bundle; none publishes the label of each "
        "window by itself.",
        "bundle",
        choices=("bundle", "none"),
        reloadable=True,
    )
    unknown_below: float | None = option(
        "Publish UNKNOWN if the highest probability is below this value; 0 never publishes it for that reason.",
        default_text="the bundle's",
        minimum=0.0,
        maximum=MAX_UNKNOWN_BELOW,
        reloadable=True,
    )
    partitions: str | None = option("Partitions to serve, such as 0-7,12.", default_text="all", metavar="LIST")
    worker: str | None = option(
        "In place of --partitions: the number of this worker, counted from 0, and the number of workers, such as 3/8; "
        "auto/8 takes the number at the end of the host name. If one is lost, the others serve its partitions.",
        metavar="N/WORKERS",
    )
    partition_count: int | None = option("Number of partitions that the workers share; --worker needs it.", minimum=1)
    worker_group: str = option(
        "Name of the workers that share the partitions. They know of each other by harstream/GROUP/workers/N.",
        "harstream",
        metavar="GROUP",
    )
    qos: int = option(
        "MQTT quality of service of samples, labels, events and status. With 0 the broker cannot tell what it refuses.",
        1,
        minimum=0,
        maximum=1,
    )
    retain: bool = option(
        "Let the broker keep the last label of each device and the status for later subscribers. Some brokers refuse "
        "retained messages.",
        True,
    )
    will: bool = option("Let the broker publish the status offline if this daemon dies. Some brokers refuse it.", True)
    homeassistant: bool = option(
        "Announce each labelled device to Home Assistant by MQTT discovery: activity, confidence and last seen.", False
    )
    homeassistant_prefix: str = option(
        "Prefix of Home Assistant's discovery topics.", "homeassistant", metavar="PREFIX"
    )
    http: str = option(
        "Address of the HTTP server with metrics, health checks, devices and the live page; off starts none.",
        DEFAULT_HTTP,
        metavar="HOST:PORT",
    )
    page: bool = option(
        "Show the live page at / of the HTTP server. Without it, the daemon keeps no history of labels.", True
    )
    instance: str = option(
        "Name of this daemon in its status topic, harstream/INSTANCE/status.", "", default_text="the host name"
    )
    state_dir: Path | None = option(
        "Folder for the state of the daemon. With it, no label is lost or changed when the daemon is killed or the "
        "broker is away (durable mode), if wearables publish at QoS 1. With --worker, a folder that all workers of the "
        "group share: windows, activities and health go on with the next worker of a partition, but messages are not "
        "kept, so those of the time in between are lost.",
        metavar="DIR",
    )
    client_id: str | None = option(
        "Client identifier at the broker, for one that admits only certain ones. No two programs may have the same.",
        default_text="harstream-INSTANCE- and eight random digits; in durable mode without the digits",
    )
    mqtt_version: str = option("MQTT version; auto tries 5, then 3.1.1.", "auto", choices=MQTT_VERSIONS)
    ca: Path | None = option(
        "PEM file with the certificate authorities that may have signed the broker's certificate.",
        default_text="the system's",
        reloadable=True,
    )
    cert: Path | None = option("PEM file with the client certificate, if the broker asks for one.", reloadable=True)
    key: Path | None = option("PEM file with the private key of the client certificate.", reloadable=True)
    alpn: str | None = option(
        "Protocol to ask for in the TLS handshake (ALPN), for a broker that shares port 443 with others, "
        "such as mqtt or x-amzn-mqtt-ca.",
        metavar="PROTOCOL",
        reloadable=True,
    )
    user: str | None = option("User name at the broker.", reloadable=True)
    password: str | None = option("Password at the broker.", reloadable=True, secret=True, environment_only=True)
    password_file: Path | None = option("File with the password at the broker.", default_text=PASSWORD, reloadable=True)
    acc_unit: str = option(
        "Unit of accelerations in messages that do not name it; auto tells it from gravity, for each device.",
        AUTO,
        choices=(AUTO, *ACC_UNITS),
    )
    gyro_unit: str = option(
        "Unit of angular velocities in messages that do not name it.", "rad/s", choices=tuple(GYRO_UNITS)
    )
    max_payload_bytes: int = option(
        "Largest accepted message in bytes; larger ones are rejected.", 256 * 1024, minimum=64, reloadable=True
    )
    max_devices: int = option(
        "Largest number of devices with state at the same time, of each source; samples of further devices are "
        "dropped.",
        100_000,
        minimum=1,
    )
    idle_s: float = option(
        "Seconds without samples after which a device is forgotten and its label cleared.",
        300.0,
        minimum=1.0,
        reloadable=True,
    )
    gather_s: float = option(
        "Longest time in seconds for which a message that completes a window waits for others, until six are there. "
        "It saves a third of the processor time with 10 devices and half with 50; with more devices the wait is "
        "shorter. With 0 such a message waits for no other. In durable mode no message waits.",
        0.1,
        minimum=0.0,
        maximum=0.2,  # below the 0.25 s of the alert HarstreamLatencyHigh, and below IDLE_WAIT_S
    )
    silence_s: float = option(
        "Seconds without a message after which a topic of samples that had some is subscribed to again; after twice "
        "that time the connection is made again. 0 never does either.",
        120.0,
        minimum=0.0,
    )
    log_level: str = option(
        "Lowest severity of log lines.", "info", choices=("debug", "info", "warning", "error"), reloadable=True
    )
    log_format: str = option(
        "Format of log lines: text for people, json for programs.", "text", choices=("text", "json"), reloadable=True
    )
    #: The ``[[source]]`` tables, each with some of ``SOURCE_KEYS``; what it leaves out is as at the top level.
    source: tuple[Mapping[str, Any], ...] = ()
    #: The sources: one for each table; without tables the one of the top level.
    sources: tuple[SourceConfig, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for declared in OPTIONS.values():
            object.__setattr__(self, declared.name, declared.check(getattr(self, declared.name)))
        object.__setattr__(self, "source", check_tables(self.source, OPTIONS))
        object.__setattr__(self, "sources", self._fill_in_sources())
        if not self.instance:
            object.__setattr__(self, "instance", re.sub(r"[/+#\s]", "-", socket.gethostname()) or "harstream")
        if not is_topic_level(self.instance):
            raise ConfigError(
                f"instance: {self.instance!r} is not one level of a topic; leave out /, +, # and control characters"
            )
        if not (self.worker_group and is_topic_level(self.worker_group)):
            raise ConfigError(
                f"worker-group: {self.worker_group!r} is not one level of a topic; leave out /, +, # and control "
                "characters"
            )
        self._check_topics()
        self._check_homeassistant()
        if self.durable_dir is not None:
            self._check_durable()
        _ = self.http_address, self.listen_address, self._broker_urls()  # each raises ConfigError if it is wrong

    def _check_durable(self) -> None:
        """Raise ConfigError if nothing can be durable."""
        if self.broker is None:
            raise ConfigError("state-dir: the embedded broker keeps no session; give a broker, such as a mosquitto")
        if self.qos == 0:
            raise ConfigError("state-dir: qos 0 means that the broker keeps nothing; leave out qos, or set it to 1")

    def _fill_in_sources(self) -> tuple[SourceConfig, ...]:
        """Return the sources, with the settings of the top level for what a table leaves out."""
        top = {name: getattr(self, name) for name in SOURCE_SETTINGS}
        if not self.source:
            return (SourceConfig(name=default_name(1), where="", **top),)
        has_topic = [not SAMPLES_TOPICS.isdisjoint(table) for table in self.source]
        for name in SAMPLES_TOPICS:
            if top[name] != OPTIONS[name].default and all(has_topic):
                raise ConfigError(
                    f"{name.replace('_', '-')}: no source uses {top[name]!r}, because each has a topic of its own; "
                    "leave it out, or add a [[source]] for it"
                )
        no_topics = {name: OPTIONS[name].default for name in SAMPLES_TOPICS}
        sources = []
        for number, table in enumerate(self.source, 1):
            name = table.get("name", default_name(number))
            above = {**top, **no_topics} if has_topic[number - 1] else top  # one of the three stands for all
            sources.append(SourceConfig(where=f"source {name}: ", **{**above, **table, "name": name}))
        return tuple(sources)

    def _check_topics(self) -> None:
        """Raise ConfigError if the daemon would receive what it publishes, or topics of different use overlap."""
        check_together(self.sources)
        check_own_topic(self.sources, "status topic", self.status_topic, "instance")
        if self.worker_of is not None:
            own = f"{self.workers_topic}/{self.worker_of[0]}"
            check_own_topic(self.sources, "topic of the workers", own, "worker-group")
            if len(self.sources) > 1:
                raise ConfigError(
                    "worker: workers share the partitions of one source, but there are "
                    f"{len(self.sources)} [[source]] tables; start workers for each source, with a --worker-group of "
                    "their own"
                )
        for source in self.sources if self.served_partitions else ():
            if not source.samples_template.has_partition:
                raise ConfigError(
                    f"{source.where}partitions: the topic {source.samples_template.text!r} has no level {{partition}}; "
                    "add it"
                )

    def _check_homeassistant(self) -> None:
        """Raise ConfigError if the devices cannot be announced to Home Assistant."""
        if not is_topic_level(self.homeassistant_prefix) or not self.homeassistant_prefix:
            raise ConfigError(
                f"homeassistant-prefix: {self.homeassistant_prefix!r} is not one level of a topic; leave out /, +, # "
                "and control characters"
            )
        if self.homeassistant and not self.retain:
            raise ConfigError("homeassistant: it needs retained messages; leave out no-retain")

    @property
    def durable_dir(self) -> Path | None:
        """Folder of durable mode; None without it."""
        return None if self.worker_of is not None else self.state_dir

    @property
    def shared_dir(self) -> Path | None:
        """Folder with the state of the partitions of the group of workers; None without one."""
        if self.state_dir is None or self.worker_of is None:
            return None
        return self.state_dir / f"workers-{self.worker_group}"

    def samples_filters(self, partitions: Sequence[int] = ()) -> tuple[str, ...]:
        """Return the filters of the topics of samples, of these partitions or, without any, of all devices."""
        return tuple(name for source in self.sources for name in source.samples_filters(partitions))

    @property
    def status_topic(self) -> str:
        """Topic of the daemon's own status."""
        return f"harstream/{self.instance}/status"

    @property
    def workers_topic(self) -> str:
        """Topic below which the workers of the group tell each other what they serve."""
        return f"harstream/{self.worker_group}/workers"

    @property
    def worker_of(self) -> tuple[int, int] | None:
        """Number of this worker and number of workers; None if the daemon is no worker of a group."""
        if self.worker is None and self.partition_count is None:
            return None
        if self.worker is None or self.partition_count is None:
            raise ConfigError("worker: worker and partition-count need each other; give both or neither")
        return partitions.parse_worker(self.worker, self.partition_count, socket.gethostname())

    @property
    def served_partitions(self) -> tuple[int, ...]:
        """Partitions that are served whatever others do, or by a worker unless it is lost; empty if all are served."""
        if self.partitions is not None:
            if self.worker is not None or self.partition_count is not None:
                raise ConfigError("partitions: give either partitions, or worker and partition-count, not both")
            return partitions.parse(self.partitions)
        if self.worker_of is None or self.partition_count is None:
            return ()
        return partitions.homes(*self.worker_of, self.partition_count)

    @property
    def http_address(self) -> tuple[str, int] | None:
        """Host and port of the HTTP server; None for ``off``."""
        if self.http == "off":
            return None
        host, colon, port = self.http.rpartition(":")
        if not colon or not host or not port.isdecimal() or int(port) > 65535:
            raise ConfigError(f"http: {self.http!r} is not HOST:PORT, such as {DEFAULT_HTTP}, or off")
        return host.strip("[]"), int(port)

    @property
    def listen_address(self) -> tuple[str, int | None] | None:
        """IP address and port of the embedded broker, without a port if any will do; None if no address is given."""
        if self.listen is None:
            return None
        if self.broker is not None:
            raise ConfigError("listen: it is for the embedded broker, but broker names another; leave out one of them")
        return parse_listen(self.listen)

    def smoothing_of(self, bundle: Smoothing) -> Smoothing:
        """Return the smoothing of the bundle with the overrides of this configuration.

        ``none`` abstains only if ``unknown_below`` is given.
        """
        smoothing = bundle if self.smoothing == "bundle" else Smoothing()
        if self.unknown_below is not None:
            smoothing = dataclasses.replace(smoothing, unknown_below=self.unknown_below)
        return smoothing

    def read_broker_settings(self) -> BrokerSettings | None:
        """Read the password file and return how to reach the broker; None for the embedded broker.

        This is called before the first connection and again on a reload, when the file may have another content.

        Raises:
            ConfigError: A file is missing or unusable, or the settings of the connection contradict each other.

        """
        urls = self._broker_urls()
        if not urls:
            return None
        if self.password_file is not None:
            password = _read_password(self.password_file)
            urls = [dataclasses.replace(url, password=password) for url in urls]
        return BrokerSettings(
            urls[0],
            self.mqtt_version,
            self.ca,
            self.cert,
            self.key,
            others=tuple(urls[1:]),
            alpn=self.alpn,
            client_id=self.client_id or (None if self.durable_dir is None else f"harstream-{self.instance}"),
        )

    def _broker_urls(self) -> list[BrokerUrl]:
        """Return the broker's addresses, each with the user and password that hold for all; empty without a broker."""
        if self.broker is None:
            return []
        urls = [BrokerUrl.parse(address) for address in self.broker.split()]
        if not urls:
            raise ConfigError("broker: the address is empty; leave the option out for the embedded broker")
        credentials = {(url.user, url.password) for url in urls} - {(None, None)}
        if len(credentials) > 1:
            raise ConfigError("broker: the addresses have different users or passwords, but must be one broker's")
        user, password = credentials.pop() if credentials else (None, None)
        user = user if self.user is None else self.user
        if self.password is not None and self.password_file is not None:
            raise ConfigError(f"password-file: {PASSWORD} holds a password too; give only one of the two")
        password = password if self.password is None else self.password
        return [dataclasses.replace(url, user=user, password=password) for url in urls]


#: The option of each setting, by name.
OPTIONS = options_of(RunConfig)
#: Path of the settings file. It is an option like the others, but no setting in the file itself.
CONFIG_FILE = Option(
    "config",
    Path,
    None,
    "TOML file with these options; HARSTREAM_RUN_* variables override it, and flags override both.",
)
#: Names of the settings that the settings file may hold.
KEYS = tuple(declared.name for declared in OPTIONS.values() if not declared.environment_only)


def hide_passwords(addresses: str) -> str:
    """Return broker addresses, separated by spaces, with ``***`` in place of passwords and queries."""
    shown = []
    for address in addresses.split():
        user_info, at, host = address.rpartition("@")
        scheme, separator, user = user_info.rpartition("://")
        user = user.partition(":")[0] + (":***" if ":" in user else "")
        host, question, _ = host.partition("?")
        shown.append(f"{scheme}{separator}{user}{at}{host}{'?***' if question else ''}")
    return " ".join(shown)


def _read_password(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"password-file: {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"password-file: {path}: the file is not UTF-8 text") from error
