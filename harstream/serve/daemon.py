"""The daemon: start, loop, drain. The page to read first.

    MQTT -> inbox -> decode -> engine.feed -> [hand-over] -> classifier.predict -> smooth -> encode -> MQTT

The network thread (paho's) only stamps and enqueues. The loop decodes and makes windows. A second thread
classifies and publishes, so that inference runs beside decoding; it takes whatever windows are there, as
one batch, and nothing waits for a batch to fill. Few messages make small batches; of many, more come together
while the ones before are worked on.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import math
import os
import queue
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from harstream import __version__
from harstream.classifier import Classifier, load_classifier
from harstream.config import RunConfig
from harstream.core.batches import WindowBatch
from harstream.core.engine import Engine
from harstream.core.events import ActivityEvent
from harstream.embedded import EmbeddedBroker
from harstream.errors import BundleError
from harstream.mqtt.connection import Connection, Will
from harstream.mqtt.urls import BrokerSettings, BrokerUrl
from harstream.serve import page
from harstream.serve.http import HttpServer
from harstream.serve.inbox import Inbox
from harstream.serve.metrics import Metrics
from harstream.serve.reload import Reloader, stamps
from harstream.serve.systemd import Service
from harstream.signals import on_reload, on_stop
from harstream.wire import labels
from harstream.wire.payloads import Units
from harstream.wire.reject import Rejection
from harstream.wire.samples import Decoder, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harstream.mqtt.client import InboundMessage

log = logging.getLogger("harstream")

#: Messages decoded at once: some ten milliseconds' work, so that the first of them does not wait long.
MAX_TAKE = 2048
#: Or fewer, if they are large: decoded and cut into windows, a megabyte becomes twenty.
MAX_TAKE_BYTES = 2 * 2**20
#: Batches of windows between the loop and the classifying thread: one being classified, one next. More
#: would only hide that inference does not keep up; the inbox is where waiting is bounded and counted.
MAX_HANDOVER = 2
IDLE_WAIT_S = 0.5
EVICT_EVERY_S = 5.0
UNSUBSCRIBE_S = 2.0
DRAIN_S = 10.0
#: The loop is alive if it came round within this time.
HEARTBEAT_S = 10.0
_LOG_REJECTIONS_EVERY_S = 10.0
_LOGGED_CHARACTERS = 300  # of a topic, and of what is wrong: both may repeat what was sent


class Daemon:
    """Everything between the inbox and the labels' topics."""

    def __init__(self, config: RunConfig, classifier: Classifier, clock: Callable[[], float] = time.time) -> None:
        bundle = classifier.bundle
        self.config = config
        self.classifier = classifier
        self.clock = clock
        self.engine = Engine(bundle.spec, max_devices=config.max_devices)
        self.smoother = bundle.smoother(config.smoothing_of(bundle.smoothing))  # the classifying thread's
        self.inbox = Inbox()
        self.metrics = Metrics(bundle, classifier.backend)
        self.decoder = Decoder(
            config.samples_template,
            needs_gyro=bundle.spec.uses_gyro,
            units=Units(config.acc_unit, config.gyro_unit),
            max_payload_bytes=config.max_payload_bytes,
        )
        self.service = Service()
        self.connection: Connection | None = None
        self.failure: BaseException | None = None
        self.stopping = threading.Event()
        self.messages = 0  # taken from the inbox, since the start
        self.windows = 0  # classified
        self._labels_topic = config.labels_template.topic
        events = config.events_template
        self._events_topic = None if events is None else events.topic
        self._handover: queue.Queue[WindowBatch | list[str] | Classifier | None] = queue.Queue(MAX_HANDOVER)
        self._classifying = threading.Thread(target=self._classify_all, name="classify", daemon=True)
        self._activity: dict[str, str] = {}  # device to its last label; the classifying thread's
        self._slots = self.metrics.confidence.know(bundle.published_labels)  # by label; UNKNOWN is last
        self._beat_s = math.inf  # until the loop begins: waiting for the broker is healthy
        self._evict_at_s = time.monotonic() + EVICT_EVERY_S
        self._log_rejections_at_s = 0.0
        self._rejected: Counter[str] = Counter()  # by reason, since the log last told
        self._uncleared: dict[str, None] = {}  # evicted devices whose retained label is still there
        self._watch()

    def _watch(self) -> None:
        """What is counted anyway is read when somebody asks."""
        metrics, engine = self.metrics, self.engine
        metrics.inbox_messages.watch(lambda: len(self.inbox))
        metrics.devices.watch(lambda: self.engine.n_devices)
        metrics.mqtt_connected.watch(lambda: self.connected)
        metrics.messages_received.watch(lambda: self.messages)
        metrics.messages_dropped.watch(lambda: self.inbox.dropped, "inbox")
        metrics.samples_dropped.watch(lambda: engine.stats.samples_late, "late")
        metrics.samples_dropped.watch(lambda: engine.stats.samples_rate, "rate")
        metrics.samples_dropped.watch(lambda: engine.stats.samples_devices, "devices")
        metrics.gaps.watch(lambda: engine.stats.gaps)
        metrics.rates_measured.watch(lambda: engine.stats.rates_measured)

    # --- start --------------------------------------------------------------------------------

    def connect(self, settings: BrokerSettings) -> None:
        """Connect and subscribe, waiting for an unreachable broker. Raises BrokerError where it refuses us."""
        self.connection = Connection(
            settings,
            f"harstream-{self.config.instance}-{secrets.token_hex(4)}",
            subscriptions=self.config.samples_template.subscriptions(self.config.served_partitions),
            qos=self.config.qos,
            will=Will(self.config.status_topic, b"offline"),
            on_messages=self.receive,
            on_change=self._connection_changed,
        )
        self.connection.open(self.stopping)

    @property
    def connected(self) -> bool:
        return self.connection is not None and self.connection.ready

    @property
    def ready(self) -> bool:
        return self.connected and self.inbox.below_high_water and not self.stopping.is_set()

    @property
    def alive(self) -> bool:
        return time.monotonic() - self._beat_s < HEARTBEAT_S

    def receive(self, messages: Sequence[InboundMessage]) -> None:
        """In the network thread: stamp and enqueue, nothing else.

        Of what is too large only so much as shows it: it will be rejected, and may not push others out of the inbox.
        """
        now, most = self.clock(), self.config.max_payload_bytes + 1
        made = Message._make
        self.inbox.put([made((topic, payload[:most], now, retained)) for topic, payload, retained in messages])

    def _connection_changed(self, connected: bool) -> None:
        """In the network thread."""
        if connected and self.connection is not None:
            if self.connection.connects > 1:
                self.metrics.mqtt_reconnects.add()
            self.connection.publish(self.config.status_topic, b"online", retain=True)

    # --- loop ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Take, decode, feed, hand over, until told to stop; then drain. Raises what the classifying thread raised."""
        self._classifying.start()
        try:
            while not self.stopping.is_set():
                self.step(IDLE_WAIT_S)
        except BaseException as error:  # a bug: say so after what can be saved is saved
            self.failure = error
        self.drain()
        if self.failure is not None:
            raise self.failure

    def step(self, timeout_s: float) -> None:
        """Once round the loop."""
        messages = self.inbox.take(MAX_TAKE, timeout_s, MAX_TAKE_BYTES)
        self._beat_s = now_s = time.monotonic()
        self.service.beat(now_s)
        if messages:
            self._hand_over(self.take(messages))
        if now_s >= self._evict_at_s:
            self._evict_at_s = now_s + EVICT_EVERY_S
            self._evict()

    def _hand_over(self, windows: WindowBatch) -> None:
        if len(windows):
            self._handover.put(windows)

    def take(self, messages: Sequence[Message]) -> WindowBatch:
        """Decode, feed, count; the windows that fell due."""
        metrics, now = self.metrics, self.clock()
        batch, rejections = self.decoder.decode(messages)
        windows = self.engine.feed(batch)
        self.messages += len(messages)
        arrival_s = np.array([message[2] for message in messages])
        metrics.samples_received.add(len(batch.samples))
        metrics.last_message_timestamp.set(arrival_s[-1])
        metrics.queue_wait.observe(np.maximum(now - arrival_s, 0))
        rate_hz = np.where(batch.rate_hz > 0, batch.rate_hz, self.engine.spec.sample_rate_hz)
        last_s = batch.t_ns / 1e9 + (batch.counts - 1) / rate_hz
        metrics.lag.observe(np.maximum(batch.arrival_s - last_s, 0)[batch.stamped])
        for rejection in rejections:
            metrics.messages_rejected.add(1, rejection.reason)
            self._rejected[rejection.reason] += 1
        if rejections and time.monotonic() >= self._log_rejections_at_s:
            self._log_rejections(rejections)
        return windows

    def _log_rejections(self, rejections: list[Rejection]) -> None:
        """How many since the last time and why, and one of them in full."""
        self._log_rejections_at_s = time.monotonic() + _LOG_REJECTIONS_EVERY_S
        counts = ", ".join(f"{reason} {count}" for reason, count in self._rejected.most_common())
        last = rejections[-1]
        topic, detail = last.topic[:_LOGGED_CHARACTERS], last.detail[:_LOGGED_CHARACTERS]
        log.warning("rejected messages: %s; the last on %r: %s: %s", counts, topic, last.reason, detail)
        self._rejected.clear()

    def _evict(self) -> None:
        evicted = self.engine.evict(self.clock() - self.config.idle_s)
        if evicted:
            log.info("forgot %d idle devices", len(evicted))
        if evicted or self._uncleared:
            # Through the hand-over, behind the last labels of theirs that are still on their way.
            self._handover.put(evicted)
        _give_back()

    # --- another model ------------------------------------------------------------------------

    def exchange(self, config: RunConfig, classifier: Classifier) -> None:
        """From any thread: these settings and this model, verified, from now on. No window is lost.

        Those that are due already are classified by the old one. Raises BundleError where it would need other windows,
        ConfigError for unusable files.
        """
        here, there = self.engine.spec.to_dict(), classifier.bundle.spec.to_dict()
        for name in here:
            # Normalisation is part of the network: the windows are the same.
            if name != "normalisation" and here[name] != there[name]:
                raise BundleError(f"{classifier.bundle.path}: signal: {name} is {there[name]}, served is {here[name]}")
        if self.connection is not None and (settings := config.read_broker_settings()) is not None:
            self.connection.replace_credentials(settings)
        self.config = config
        self.decoder.max_payload_bytes = config.max_payload_bytes
        handed_over = False
        while not handed_over and not self.stopping.is_set():
            with suppress(queue.Full):
                self._handover.put(classifier, timeout=IDLE_WAIT_S)
                handed_over = True

    # --- the classifying thread ---------------------------------------------------------------

    def _classify_all(self) -> None:
        try:
            while (item := self._handover.get()) is not None:
                if isinstance(item, list):
                    self._clear(item)
                elif isinstance(item, Classifier):
                    self._serve(item)
                else:
                    self.classify(self._join(item))
        except BaseException as error:  # a bug: raised again by the loop
            self.failure = error
            self.stop()
            while self._handover.get() is not None:  # the loop must not hang on a full hand-over
                pass

    def _serve(self, classifier: Classifier) -> None:
        """With another model from now on."""
        bundle, metrics = classifier.bundle, self.metrics
        smoothing = self.config.smoothing_of(bundle.smoothing)
        if bundle.labels != self.classifier.bundle.labels or smoothing != self.smoother.smoothing:
            # What is believed of a device is in the old one's terms: it exits what it did, and begins anew.
            self._tell(self.smoother.evict(list(self._activity)))
            self.smoother = bundle.smoother(smoothing)
        self.classifier = classifier
        metrics.serve(bundle, classifier.backend)
        self._slots = metrics.confidence.know(bundle.published_labels)

    def _join(self, first: WindowBatch) -> WindowBatch:
        """With what else is waiting: it costs hardly more to classify."""
        batches = [first]
        while self._handover.queue and isinstance(self._handover.queue[0], WindowBatch):
            following = self._handover.get()
            assert isinstance(following, WindowBatch)
            batches.append(following)
        return WindowBatch.concatenate(batches)

    def classify(self, windows: WindowBatch) -> None:
        """Predict, smooth, encode, publish."""
        metrics, bundle = self.metrics, self.classifier.bundle
        began = time.perf_counter()
        predictions = self.classifier.predict(windows.windows)
        metrics.inference_duration.observe(time.perf_counter() - began)
        metrics.inference_batch_size.observe(len(windows))
        beliefs, events = self.smoother.feed(
            windows.devices, predictions.probabilities, windows.start_ns, windows.end_ns
        )
        published_labels = bundle.published_labels
        payloads = labels.encode(windows, predictions, beliefs, published_labels, bundle.id)
        taken = self._publish(list(zip(map(self._labels_topic, windows.devices), payloads, strict=True)))
        metrics.windows_dropped.add(len(windows) - taken, "outgoing")
        metrics.latency.observe(np.maximum(self.clock() - windows.arrival_s, 0))
        metrics.confidence.observe(beliefs.confidence, self._slots[beliefs.label])
        names = [published_labels[index] for index in beliefs.label.tolist()]
        for name, n_windows in Counter(names).items():
            metrics.windows_classified.add(n_windows, name)
        self._count_changes(windows.devices, names)
        self._tell(events)
        self.windows += len(windows)

    def _count_changes(self, devices: Sequence[str], names: Sequence[str]) -> None:
        metrics, activity = self.metrics, self._activity
        for device, name in zip(devices, names, strict=True):
            before = activity.get(device)
            if before != name:
                activity[device] = name
                metrics.devices_by_activity.add(1, name)
                if before is not None:
                    metrics.devices_by_activity.add(-1, before)
                    metrics.activity_changes.add(1, name)

    def _tell(self, events: list[ActivityEvent]) -> None:
        if self._events_topic is not None and events:
            bundle = self.classifier.bundle
            messages = [
                (self._events_topic(event.device), labels.encode_event(event, bundle.published_labels, bundle.id))
                for event in events
            ]
            self.metrics.events_dropped.add(len(messages) - self._publish(messages, retain=False), "outgoing")

    def _clear(self, devices: list[str]) -> None:
        """Take back the retained labels of evicted devices: nobody knows what they do now. They exit what they did.

        What the broker does not take now is tried again at the next eviction.
        """
        self._tell(self.smoother.evict(devices))
        for device in devices:
            label = self._activity.pop(device, None)
            if label is not None:
                self.metrics.devices_by_activity.add(-1, label)
                self._uncleared[device] = None
        # One that came back meanwhile has a new label.
        gone = [device for device in self._uncleared if device not in self._activity]
        taken = self._publish([(self._labels_topic(device), b"") for device in gone])
        self._uncleared = dict.fromkeys(gone[taken:])

    def _publish(self, messages: Sequence[tuple[str, bytes]], retain: bool = True) -> int:
        """How many of them were taken: the first ones."""
        connection = self.connection
        return 0 if connection is None else connection.publish_all(messages, qos=self.config.qos, retain=retain)

    # --- drain --------------------------------------------------------------------------------

    def stop(self) -> None:
        """From any thread: finish what is there, then return from ``run``."""
        self.stopping.set()
        self.inbox.wake()

    def drain(self) -> None:
        """Label what has arrived, publish it and the events held back, say goodbye."""
        connection = self.connection
        if connection is not None:
            connection.unsubscribe(UNSUBSCRIBE_S)
        if self.failure is None:
            while messages := self.inbox.take(MAX_TAKE, 0, MAX_TAKE_BYTES):
                self._hand_over(self.take(messages))
        self._handover.put(None)
        self._classifying.join()
        if self.failure is None:
            self._tell(self.smoother.flush())
        if connection is not None:
            status = b"stopped" if self.failure is None else b"offline"
            connection.publish(self.config.status_topic, status, retain=True)
            # Without a broker there is nobody to wait for.
            if not connection.flush(DRAIN_S if connection.ready else 0):
                log.warning("stopped before the broker acknowledged %d messages", connection.outgoing)
            connection.close()


def serve(
    config: RunConfig,
    started: Callable[[Daemon], None] = lambda daemon: None,
    reread: Callable[[], RunConfig] | None = None,
) -> None:
    """`harstream run`, from start to a drained end. Raises HarstreamError where the start is refused.

    ``started`` is called with the daemon once it is connected; ``reread`` gives the settings as they are by then.
    """
    served = stamps(config.model)
    classifier = load_classifier(config.model, config.backend)
    daemon = Daemon(config, classifier)
    reloader = Reloader(daemon, reread, served)
    _stop_on_signals(daemon)
    on_reload(reloader.ask)
    address = config.http_address
    http = None if address is None else HttpServer(address, page.routes(daemon))
    settings = config.read_broker_settings()
    broker = EmbeddedBroker() if settings is None else None
    try:
        if http is not None:
            http.start()
        if broker is not None:
            broker.start()
            settings = BrokerSettings(BrokerUrl.parse(broker.url), "3.1.1")
        assert settings is not None
        daemon.service.tell("STATUS=waiting for the broker")
        daemon.connect(settings)
        if daemon.connection is not None and daemon.connected:
            log.info(
                "harstream %s ready: model %s (%s), broker %s%s (MQTT %s), samples %s, labels %s, http %s",
                __version__,
                classifier.bundle.id,
                classifier.backend,
                "embedded, wearables publish to " if broker is not None else "",
                daemon.connection.url,
                daemon.connection.version,
                _shortened(config.samples_template.subscriptions(config.served_partitions)),
                config.labels_topic,
                http.url if http is not None else "off",
            )
        _collect_seldom()
        started(daemon)
        reloader.start()
        daemon.service.ready(classifier.bundle.id)
        daemon.run()
        log.info("stopped")
    finally:
        reloader.close()
        if broker is not None:
            broker.close()
        if http is not None:
            http.close()


def _shortened(subscriptions: Sequence[str]) -> str:
    first, *others = subscriptions
    return f"{first} and {len(others)} more" if others else first


def _collect_seldom() -> None:
    """What is there stays, and of what a take makes hardly anything is a cycle: not worth looking through each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def _give_back() -> None:
    """Memory of takes gone by, to the system: glibc would keep what a burst took for months."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def _stop_on_signals(daemon: Daemon) -> None:
    def stop(number: signal.Signals) -> None:
        if daemon.stopping.is_set():
            os._exit(128 + number)  # asked twice: at once
        log.info("%s: draining", number.name)
        daemon.service.tell("STOPPING=1")
        daemon.stop()

    on_stop(stop)
