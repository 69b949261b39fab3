"""Announcement of devices to Home Assistant, in a thread and over a connection of its own.

The messages are retained, so they outlive the daemon. It reads them back: one that this daemon has published, in this
life or an earlier one, about a device that it does not label, is removed after the time after which it forgets devices.
Announcements of other daemons are theirs. A device that comes here from another daemon is announced again, which makes
this one the owner, and the other one leaves it alone.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from logging import getLogger

from harstream import __version__
from harstream.config import RunConfig
from harstream.mqtt.connection import Connection
from harstream.mqtt.failures import RareLine, publish_mend, with_mend
from harstream.mqtt.link import Refusal
from harstream.mqtt.urls import BrokerSettings
from harstream.wire.homeassistant import BIRTH, BIRTH_TOPIC, SENSORS, Discovery

log = getLogger("harstream")

_TICK_S = 1.0
#: Time after which a device that is labelled is announced again if somebody has removed it, seconds. Home Assistant
#: removes one sensor after the other.
_AGAIN_S = 5.0
#: Devices whose messages are handed to the connection at once, and messages on their way from which on none is.
_CHUNK, _MAX_OUTGOING = 50, 500


@dataclass(frozen=True, slots=True)
class _Labelled:
    devices: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Gone:
    devices: Sequence[str]
    for_good: bool  # not for another daemon


@dataclass(frozen=True, slots=True)
class _Model:
    labels: list[str]
    id: str


@dataclass(frozen=True, slots=True)
class _Heard:
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class _AnnounceAll:
    """Home Assistant has started, or the broker may have forgotten what it retained."""


class HomeAssistant:
    """Sensors of the labelled devices in Home Assistant.

    Args:
        config: Settings.
        labels: Labels that are published.
        model: Id of the model.
        monotonic: Clock.
        on_failure: Called when an error has ended a thread, which is then in ``failure``.

    """

    def __init__(
        self,
        config: RunConfig,
        labels: Sequence[str],
        model: str,
        monotonic: Callable[[], float],
        on_failure: Callable[[], None],
    ) -> None:
        self._config, self._monotonic, self._on_failure = config, monotonic, on_failure
        self._discovery = Discovery(
            config.homeassistant_prefix,
            config.sources[0].labels_template,
            config.status_topic,
            owner="\n".join(
                [config.instance, config.sources[0].samples_topics, config.partitions or "", config.worker or ""]
            ),
            version=__version__,
            idle_s=config.idle_s,
        )
        self._model = _Model(list(labels), model)
        self._max_devices = config.max_devices
        self._failure: BaseException | None = None
        self._labelled: set[str] = set()  # of the labelling thread
        self._queue: queue.SimpleQueue[_Labelled | _Gone | _Model | _Heard | _AnnounceAll] = queue.SimpleQueue()
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="homeassistant", daemon=True)
        self._stopping = threading.Event()
        self._rare = RareLine()
        # By key of the device:
        self._devices: dict[str, str] = {}  # those that are labelled here, and their ids
        self._own: set[str] = set()  # those that the broker retains as ours
        self._due: dict[str, None] = {}  # those to be announced or, if they are not labelled here, removed
        self._later_s: dict[str, float] = {}  # those to be due later, and when
        self._elsewhere: set[str] = set()  # those labelled here that another daemon has announced since

    # --- labelling thread ---------------------------------------------------------------------

    def note_labelled(self, devices: Sequence[str]) -> None:
        """Announce devices that had no label before. It is called for every batch of windows."""
        new = set(devices) - self._labelled
        if new:
            self._labelled |= new
            self._queue.put(_Labelled(sorted(new)))

    def note_gone(self, devices: Sequence[str], *, for_good: bool) -> None:
        """Remove devices that were forgotten for good, or leave them to another daemon."""
        self._labelled.difference_update(devices)
        self._queue.put(_Gone(tuple(devices), for_good))

    def change_model(self, labels: Sequence[str], model: str) -> None:
        """Announce all devices with the labels of another model."""
        self._queue.put(_Model(list(labels), model))

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
            subscriptions=[*topics, self._discovery.subscription],
            retained=True,
            kind_of=lambda topic: self._discovery.subscription,
            on_message=lambda topic, payload, _: self._queue.put(_Heard(topic, payload)),
            on_change=lambda ready: self._queue.put(_AnnounceAll()) if ready else None,
            on_answers=self._note_refusals,
            on_death=self._on_failure,
        )
        self._connection.open(stop)
        self._thread.start()

    @property
    def failure(self) -> BaseException | None:
        """Error that has ended one of the two threads."""
        return self._failure or (None if self._connection is None else self._connection.failure)

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
        self._queue.put(_Labelled(()))
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
                publish_mend(self._connection.settings.url.user, self._discovery.subscription),
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
    def _wait_s(self) -> float:
        return 0.01 if self._due and self._connection is not None and self._connection.ready else _TICK_S

    def step(self, timeout_s: float) -> None:
        """Take in what has happened, wait for it at most ``timeout_s``, and publish what is due."""
        try:
            item = self._queue.get(timeout=timeout_s)
            while True:
                self._take(item)
                item = self._queue.get_nowait()
        except queue.Empty:
            pass
        now_s = self._monotonic()
        for key in [key for key, due_s in self._later_s.items() if now_s >= due_s]:
            del self._later_s[key]
            self._due[key] = None
        self._publish()

    def _take(self, item: _Labelled | _Gone | _Model | _Heard | _AnnounceAll) -> None:
        match item:
            case _Labelled(devices):
                for device in devices:
                    key = self._discovery.key(device)
                    self._devices[key] = device
                    self._due[key] = None
                    self._later_s.pop(key, None)
                    self._elsewhere.discard(key)
            case _Gone(devices, for_good):
                for device in devices:
                    key = self._discovery.key(device)
                    self._devices.pop(key, None)
                    for part in (self._due, self._later_s):
                        part.pop(key, None)
                    self._elsewhere.discard(key)
                    if key in self._own and for_good:
                        self._due[key] = None
                    elif key in self._own:
                        self._leave(key)
            case _Model():
                self._model = item
                self._announce_all()
            case _AnnounceAll():
                self._announce_all()
            case _Heard(topic, payload):
                self._hear(topic, payload)

    def _announce_all(self) -> None:
        self._due |= dict.fromkeys(key for key in self._devices if key not in self._elsewhere)

    def _hear(self, topic: str, payload: bytes) -> None:
        """Note what Home Assistant says, or what the broker retains now about a device."""
        if topic.count("/") == 1:
            if payload == BIRTH:
                self._announce_all()
            return
        said = self._discovery.read(topic, payload)
        key, here = said.key, said.key in self._devices
        if said.owner == self._discovery.owner:
            if here:
                self._later_s.pop(key, None)
                self._elsewhere.discard(key)
            elif key not in self._due and key not in self._later_s:
                if key not in self._own and len(self._own) >= 2 * self._max_devices:
                    return  # somebody else has published them
                self._leave(key)
            self._own.add(key)
            return
        self._own.discard(key)
        if not here:
            self._due.pop(key, None)
            self._later_s.pop(key, None)
        elif said.owner is None:
            self._later_s[key] = self._monotonic() + _AGAIN_S
        elif key not in self._due:  # else ours is about to be the last one
            self._elsewhere.add(key)

    def _leave(self, key: str) -> None:
        """Remove a device later, unless it gets a label here or another owner meanwhile."""
        self._later_s[key] = self._monotonic() + self._config.idle_s

    def _publish(self) -> None:
        connection = self._connection
        while self._due and connection is not None and connection.ready and connection.outgoing < _MAX_OUTGOING:
            keys = list(self._due)[:_CHUNK]
            messages = [message for key in keys for message in self._messages(key)]
            n = connection.publish_all(messages, qos=1, retain=True) // len(SENSORS)
            for key in keys[:n]:
                del self._due[key]
                if key in self._devices:
                    self._own.add(key)
                else:
                    self._own.discard(key)
            if n < len(keys):
                return

    def _messages(self, key: str) -> list[tuple[str, bytes]]:
        device = self._devices.get(key)
        if device is None:
            return self._discovery.remove(key)
        return self._discovery.announce(device, self._model.labels, self._model.id)
