"""Announcement of devices to Home Assistant, in a thread and over a connection of its own, which all sources share."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial
from logging import getLogger

from harstream import __version__
from harstream.config import RunConfig
from harstream.mqtt.connection import Connection
from harstream.mqtt.failures import RareLine, publish_mend, with_mend
from harstream.mqtt.link import Refusal
from harstream.mqtt.urls import BrokerSettings
from harstream.serve.announcements import Announcements
from harstream.wire.homeassistant import BIRTH, BIRTH_TOPIC, SENSORS, Discovery

log = getLogger("harstream")

_TICK_S = 1.0
#: Devices whose messages are handed to the connection at once, and messages on their way from which on none is.
_CHUNK, _MAX_OUTGOING = 50, 500


class HomeAssistant:
    """Sensors of the labelled devices of all sources in Home Assistant.

    Args:
        config: Settings.
        models: Labels that are published and id of the model, of each source.
        monotonic: Clock.
        on_failure: Called when an error has ended a thread, which is then in ``failure``.

    """

    def __init__(
        self,
        config: RunConfig,
        models: Sequence[tuple[Sequence[str], str]],
        monotonic: Callable[[], float],
        on_failure: Callable[[], None],
    ) -> None:
        self._config, self._on_failure = config, on_failure
        self._sources = {
            source.name: Announcements(
                discovery,
                labels,
                model,
                max_devices=config.max_devices,
                idle_s=config.idle_s,
                monotonic=monotonic,
            )
            for source, discovery, (labels, model) in zip(config.sources, _discoveries(config), models, strict=True)
        }
        self._by_topics = {source.discovery.topics: source for source in self._sources.values()}
        self._own_topics = f"{config.homeassistant_prefix}/sensor/+/+/config"
        self._failure: BaseException | None = None
        self._labelled: dict[str, set[str]] = {name: set() for name in self._sources}  # of the labelling thread
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()  # what the thread is to do
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="homeassistant", daemon=True)
        self._stopping = threading.Event()
        self._rare = RareLine()

    # --- labelling thread ---------------------------------------------------------------------

    def note_labelled(self, source: str, devices: Sequence[str]) -> None:
        """Announce devices of a source that had no label before. It is called for every batch of windows."""
        new = set(devices) - self._labelled[source]
        if new:
            self._labelled[source] |= new
            self._queue.put(partial(self._sources[source].note_labelled, sorted(new)))

    def note_gone(self, source: str, devices: Sequence[str], *, for_good: bool) -> None:
        """Remove devices of a source that were forgotten for good, or leave them to another daemon."""
        self._labelled[source].difference_update(devices)
        self._queue.put(partial(self._sources[source].note_gone, tuple(devices), for_good=for_good))

    def change_model(self, source: str, labels: Sequence[str], model: str) -> None:
        """Announce all devices of a source with the labels of another model."""
        self._queue.put(partial(self._sources[source].change_model, labels, model))

    # --- main thread --------------------------------------------------------------------------

    def open(self, settings: BrokerSettings, client_id: str, stop: threading.Event) -> None:
        """Connect. Wait for the broker until ``stop`` is set.

        Raises:
            BrokerError: The broker refused the connection or a subscription.

        """
        topics = dict.fromkeys([BIRTH_TOPIC, f"{self._config.homeassistant_prefix}/status"])
        self._connection = Connection(
            settings,
            f"{client_id}-homeassistant",
            subscriptions=[*topics, *(source.discovery.subscription for source in self._sources.values())],
            retained=True,
            kind_of=lambda topic: self._own_topics,
            on_message=lambda topic, payload, _: self._queue.put(partial(self._hear, topic, payload)),
            on_change=lambda ready: self._queue.put(self._connect) if ready else None,
            on_answers=self._note_refusals,
            on_death=self._on_failure,
        )
        self._connection.open(stop)
        self._thread.start()

    @property
    def failure(self) -> BaseException | None:
        """Error that has ended one of the two threads."""
        return self._failure or (None if self._connection is None else self._connection.failure)

    def change_idle(self, idle_s: float) -> None:
        """Use another time after which devices are forgotten, in what is announced from now on."""
        for source in self._sources.values():
            self._queue.put(partial(source.change_idle, idle_s))

    def replace_credentials(self, settings: BrokerSettings) -> None:
        """Use other credentials from the next connection on.

        Raises:
            ConfigError: A TLS file is unusable. The old ones stay in use.

        """
        if self._connection is not None:
            self._connection.replace_credentials(settings)

    def close(self, timeout_s: float) -> None:
        """Publish what is due if the broker takes it within ``timeout_s``, and disconnect. The announcements stay."""
        self._stopping.set()
        self._queue.put(lambda: None)
        connection = self._connection
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if connection is not None:
            connection.flush(timeout_s if connection.ready else 0)
            connection.close()

    def _note_refusals(self, _: Sequence[str], refused: Sequence[Refusal]) -> None:
        """Log that the broker refuses announcements. The network thread calls this."""
        if refused and self._rare.due(refused[0].reason):
            assert self._connection is not None
            log.error(
                "homeassistant: the broker refuses to retain %s: %s; %s",
                refused[0].topic,
                with_mend(refused[0].reason),
                publish_mend(self._connection.settings.url.user, self._own_topics),
            )

    # --- thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping.is_set() or self._due:
                self.step(self._wait_s)
                if self._stopping.is_set() and (self._connection is None or not self._connection.ready):
                    return
        except BaseException as error:  # a bug; the main loop raises it again
            self._failure = error
            self._on_failure()

    @property
    def _due(self) -> list[Announcements]:
        """Sources of which devices are due."""
        return [source for source in self._sources.values() if source.due]

    @property
    def _wait_s(self) -> float:
        return 0.01 if self._due and self._connection is not None and self._connection.ready else _TICK_S

    def step(self, timeout_s: float) -> None:
        """Take in what has happened, wait for it at most ``timeout_s``, and publish what is due."""
        try:
            take = self._queue.get(timeout=timeout_s)
            while True:
                take()
                take = self._queue.get_nowait()
        except queue.Empty:
            pass
        for source in self._sources.values():
            source.take_later()
        self._publish()

    def _connect(self) -> None:
        """Announce all devices, because the broker may have forgotten what it retained."""
        for source in self._sources.values():
            source.connect()

    def _announce_all(self) -> None:
        """Announce all devices, because Home Assistant has started."""
        for source in self._sources.values():
            source.announce_all()

    def _hear(self, topic: str, payload: bytes) -> None:
        """Note what Home Assistant says, or what the broker retains now about a device."""
        if topic.count("/") == 1:
            if payload == BIRTH:
                self._announce_all()
            return
        source = self._by_topics.get(topic.rsplit("/", 2)[0])
        if source is not None:
            source.hear(topic, payload)

    def _publish(self) -> None:
        """Publish what is due, some devices of each source in turn."""
        connection = self._connection
        while connection is not None and (due := self._due):
            for source in due:
                if not connection.ready or connection.outgoing >= _MAX_OUTGOING:
                    return
                keys = list(source.due)[:_CHUNK]
                n = connection.publish_all(source.messages(keys), qos=1, retain=True) // len(SENSORS)
                source.note_published(keys[:n])
                if n < len(keys):
                    return


def _discoveries(config: RunConfig) -> list[Discovery]:
    """Return topics and messages of each source."""
    templates = [source.labels_template.text for source in config.sources]
    return [
        Discovery(
            config.homeassistant_prefix,
            source.labels_template,
            config.status_topic,
            owner="\n".join([config.instance, source.samples_topics, config.partitions or "", config.worker or ""]),
            version=__version__,
            source=source.name if config.source else "",
            apart=source.labels_template.text in templates[:number],
        )
        for number, source in enumerate(config.sources)
    ]
