"""The daemon: start, loop, drain. The page to read first.

    MQTT -> inbox -> decode -> engine.feed -> [hand-over] -> classifier.predict -> smooth -> encode -> MQTT

The network thread (paho's) only stamps and enqueues. The loop decodes and makes windows. A second thread
classifies and publishes, so that inference runs beside decoding; it takes whatever windows are there, as
one batch, and nothing waits for a batch to fill.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import secrets
import signal
import threading
import time
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np

from harstream import __version__
from harstream.classifier import Classifier
from harstream.config import RunConfig
from harstream.core.batches import WindowBatch
from harstream.core.changes import Event
from harstream.core.engine import Engine
from harstream.embedded import EmbeddedBroker
from harstream.golden import load_classifier
from harstream.mqtt import BrokerSettings, BrokerUrl, Connection, Will
from harstream.serve import page
from harstream.serve.http import HttpServer
from harstream.serve.inbox import Inbox
from harstream.serve.metrics import Metrics, Totals
from harstream.signals import on_stop
from harstream.wire import labels
from harstream.wire.payloads import Units
from harstream.wire.reject import Rejection
from harstream.wire.samples import Decoder, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harstream.client import Received

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
        self.connection: Connection | None = None
        self.failure: BaseException | None = None
        self.stopping = threading.Event()
        self._labels_topic = config.labels_template.topic
        events = config.events_template
        self._events_topic = None if events is None else events.topic
        self._handover: queue.Queue[WindowBatch | list[str] | None] = queue.Queue(MAX_HANDOVER)
        self._classifying = threading.Thread(target=self._classify_all, name="classify", daemon=True)
        self._activity: dict[str, str] = {}  # device to its last label; the classifying thread's
        self._totals = Totals()
        self._beat_s = math.inf  # until the loop begins: waiting for the broker is healthy
        self._evict_at_s = time.monotonic() + EVICT_EVERY_S
        self._log_rejections_at_s = 0.0
        self._rejected: Counter[str] = Counter()  # by reason, since the log last told
        self._uncleared: dict[str, None] = {}  # evicted devices whose retained label is still there
        self.metrics.watch(
            inbox=lambda: len(self.inbox), devices=lambda: self.engine.n_devices, connected=lambda: self.connected
        )

    # --- start --------------------------------------------------------------------------------

    def connect(self, settings: BrokerSettings) -> None:
        """Connect and subscribe, waiting for an unreachable broker. Raises BrokerError where it refuses us."""
        self.connection = Connection(
            settings,
            f"harstream-{self.config.instance}-{secrets.token_hex(4)}",
            subscription=self.config.samples_template.subscription,
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

    def receive(self, messages: Sequence[Received]) -> None:
        """In the network thread: stamp and enqueue, nothing else.

        Of what is too large only so much as shows it: it will be rejected, and may not push others out of the inbox.
        """
        now, most = self.clock(), self.config.max_payload_bytes + 1
        self.inbox.put([Message(topic, payload[:most], now, retained) for topic, payload, retained in messages])

    def _connection_changed(self, connected: bool) -> None:
        """In the network thread."""
        if connected and self.connection is not None:
            if self.connection.connects > 1:
                self.metrics.mqtt_reconnects.inc()
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
        if messages:
            self._take(messages)
        if now_s >= self._evict_at_s:
            self._evict_at_s = now_s + EVICT_EVERY_S
            self._evict()

    def _take(self, messages: list[Message]) -> None:
        metrics, now = self.metrics, self.clock()
        batch, rejections = self.decoder.decode(messages)
        windows = self.engine.feed(batch)
        if len(windows):
            self._handover.put(windows)

        metrics.messages_received.inc(len(messages))
        metrics.samples_received.inc(len(batch.samples))
        metrics.last_message_timestamp.set(messages[-1].arrival_s)
        metrics.queue_wait.observe(np.maximum(now - np.array([message.arrival_s for message in messages]), 0))
        rate_hz = np.where(batch.rate_hz > 0, batch.rate_hz, self.engine.spec.sample_rate_hz)
        last_s = batch.t_ns / 1e9 + (batch.counts - 1) / rate_hz
        metrics.lag.observe(np.maximum(batch.arrival_s - last_s, 0)[batch.stamped])
        stats = self.engine.stats
        for counter, total in (
            (metrics.samples_dropped.labels("late"), stats.samples_late),
            (metrics.samples_dropped.labels("rate"), stats.samples_rate),
            (metrics.samples_dropped.labels("devices"), stats.samples_devices),
            (metrics.messages_dropped.labels("inbox"), self.inbox.dropped),
            (metrics.gaps, stats.gaps),
            (metrics.rates_measured, stats.rates_measured),
        ):
            self._totals.update(counter, total)
        for rejection in rejections:
            metrics.messages_rejected.labels(rejection.reason).inc()
            self._rejected[rejection.reason] += 1
        if rejections and time.monotonic() >= self._log_rejections_at_s:
            self._log_rejections(rejections)

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

    # --- the classifying thread ---------------------------------------------------------------

    def _classify_all(self) -> None:
        try:
            while (item := self._handover.get()) is not None:
                if isinstance(item, list):
                    self._clear(item)
                else:
                    self.classify(self._join(item))
        except BaseException as error:  # a bug: raised again by the loop
            self.failure = error
            self.stop()
            while self._handover.get() is not None:  # the loop must not hang on a full hand-over
                pass

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
        with self.connection.gathered() if self.connection is not None else nullcontext():
            for device, label, payload in labels.encode(windows, predictions, beliefs, bundle.labels, bundle.id):
                if not self._publish(self._labels_topic(device), payload):
                    metrics.windows_dropped.labels("outgoing").inc()
                metrics.windows_classified.labels(label).inc()
                before = self._activity.get(device)
                if before != label:
                    self._activity[device] = label
                    metrics.devices_by_activity.labels(label).inc()
                    if before is not None:
                        metrics.devices_by_activity.labels(before).dec()
                        metrics.activity_changes.labels(label).inc()
        metrics.latency.observe(np.maximum(self.clock() - windows.arrival_s, 0))
        metrics.confidence.observe(beliefs.confidence, beliefs.label % (len(bundle.labels) + 1))  # UNKNOWN is last
        self._tell(events)

    def _tell(self, events: list[Event]) -> None:
        if self._events_topic is not None:
            bundle = self.classifier.bundle
            for event in events:
                payload = labels.encode_event(event, bundle.labels, bundle.id)
                if not self._publish(self._events_topic(event.device), payload, retain=False):
                    self.metrics.events_dropped.labels("outgoing").inc()

    def _clear(self, devices: list[str]) -> None:
        """Take back the retained labels of evicted devices: nobody knows what they do now. They exit what they did.

        What the broker does not take now is tried again at the next eviction.
        """
        self._tell(self.smoother.evict(devices))
        for device in devices:
            label = self._activity.pop(device, None)
            if label is not None:
                self.metrics.devices_by_activity.labels(label).dec()
                self._uncleared[device] = None
        while self._uncleared:
            device = next(iter(self._uncleared))
            # One that came back meanwhile has a new label.
            if device not in self._activity and not self._publish(self._labels_topic(device), b""):
                return
            del self._uncleared[device]

    def _publish(self, topic: str, payload: bytes, retain: bool = True) -> bool:
        connection = self.connection
        return connection is not None and connection.publish(topic, payload, qos=self.config.qos, retain=retain)

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
                self._take(messages)
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


def serve(config: RunConfig) -> None:
    """`harstream run`, from start to a drained end. Raises HarstreamError where the start is refused."""
    classifier = load_classifier(config.model, config.backend)
    daemon = Daemon(config, classifier)
    _stop_on_signals(daemon)
    address = config.http_address
    http = None if address is None else HttpServer(address, page.routes(daemon))
    broker = EmbeddedBroker() if config.broker_settings is None else None
    try:
        if http is not None:
            http.start()
        settings = config.broker_settings
        if broker is not None:
            broker.start()
            settings = BrokerSettings(BrokerUrl.parse(broker.url), "3.1.1")
        assert settings is not None
        daemon.connect(settings)
        if daemon.connection is not None and daemon.connected:
            log.info(
                "harstream %s ready: model %s (%s), broker %s%s (MQTT %s), samples %s, labels %s, http %s",
                __version__,
                classifier.bundle.id,
                classifier.backend,
                "embedded, wearables publish to " if broker is not None else "",
                settings.url,
                daemon.connection.version,
                config.samples_template.subscription,
                config.labels_topic,
                http.url if http is not None else "off",
            )
        daemon.run()
        log.info("stopped")
    finally:
        if broker is not None:
            broker.close()
        if http is not None:
            http.close()


def _stop_on_signals(daemon: Daemon) -> None:
    def stop(number: signal.Signals) -> None:
        if daemon.stopping.is_set():
            os._exit(128 + number)  # asked twice: at once
        log.info("%s: draining", number.name)
        daemon.stop()

    on_stop(stop)
