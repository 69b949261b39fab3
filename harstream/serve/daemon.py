"""Main loop of the daemon: from messages to due windows.

    MQTT -> connection -> inbox -> pipeline.decode -> engine.feed -> labelling thread -> MQTT
            (network thread)      (main loop)

The network thread only notes the arrival time and fills the inbox. The main loop decodes and makes windows, and hands
them to the labelling thread, which classifies and publishes (see `labelling`).
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np

from harstream import logs
from harstream.classifier import Classifier
from harstream.config import RunConfig
from harstream.errors import BrokerError, BundleError
from harstream.memory import return_free_memory
from harstream.mqtt.client import InboundMessage
from harstream.mqtt.connection import Connection
from harstream.mqtt.link import Refusal
from harstream.mqtt.presence import Presence
from harstream.mqtt.urls import BrokerSettings
from harstream.serve.devices import Devices, Snapshot
from harstream.serve.durable.durability import Durability
from harstream.serve.durable.journal import Evicted
from harstream.serve.durable.partition_files import PartitionFiles
from harstream.serve.durable.partition_store import PartitionStore
from harstream.serve.homeassistant import HomeAssistant
from harstream.serve.inbox import Inbox
from harstream.serve.labelling import CheckpointDue, DevicesEvicted, Labelling, ModelChanged, WindowsDue
from harstream.serve.metrics import DaemonMetrics
from harstream.serve.partition_states import PartitionStates
from harstream.serve.pipeline import Pipeline, Publication
from harstream.serve.refusals import EVENTS, LABELS, Refusals
from harstream.serve.status import DaemonStatus, DurabilityStats
from harstream.serve.systemd import Notifier
from harstream.serve.takeover import Takeover
from harstream.serve.workers import Workers
from harstream.wire.decoder import Message

log = logging.getLogger("harstream")

#: Messages in a batch: some ten milliseconds of work, so that the first of them does not wait long.
MAX_BATCH_MESSAGES = 2048
#: Bytes in a batch, for large messages: one megabyte becomes four when it is decoded.
MAX_BATCH_BYTES = 2 * 2**20
#: Windows in a batch, beside up to two of each device. A message of 256 KiB may make 5,000; it then takes several
#: batches, in which the other devices have their share.
MAX_BATCH_WINDOWS = 512
#: Samples of such messages that may be pending in the engine (24 bytes each): above the first limit no further long
#: message is taken, above the second limit no message at all.
MAX_PENDING_OF_LONG, MAX_PENDING = 500_000, 1_000_000
#: Bytes from which on a message is long.
LONG_MESSAGE_BYTES = 16 * 1024
IDLE_WAIT_S = 0.5
REFRESH_EVERY_S = 1.0
EVICT_EVERY_S = 5.0
READ_TIMEOUT_S = 2.0
#: Pause before another attempt to publish when the queue to the broker is full, in durable mode.
_ROOM_WAIT_S = 0.01
UNSUBSCRIBE_TIMEOUT_S = 2.0
DRAIN_TIMEOUT_S = 10.0
_SETTLE_S = 0.02
#: The main loop counts as alive if it began its last step within this time.
HEARTBEAT_S = 10.0


class Daemon:
    """Main loop, and the connection, inbox, pipeline and labelling thread that it works with."""

    def __init__(
        self,
        config: RunConfig,
        classifier: Classifier,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.clock = clock  # returns seconds since the epoch, for event times and the lag
        self.monotonic = monotonic  # for everything else: the clock of the machine may be set while the daemon runs
        self.inbox = Inbox(holds_qos_1=config.durable_dir is not None)
        self.pipeline = Pipeline(config, classifier)
        self.metrics = DaemonMetrics(classifier.bundle, classifier.backend, self.status)
        self.devices = Devices(self.pipeline, clock, monotonic, self.inbox.wake)
        self.durability: Durability | None = None
        restored: list[Publication] = []  # events that end activities of another model
        if config.durable_dir is not None:
            self.durability = Durability(config.durable_dir, monotonic, self.stop)
            if (state := self.durability.take_restored()) is not None:
                try:
                    restored = self.pipeline.restore(state, monotonic())
                except BaseException:
                    self.durability.finish()  # unlocks the folder
                    raise
        self._first_events = restored
        self.homeassistant: HomeAssistant | None = None
        if config.homeassistant:
            bundle = classifier.bundle
            self.homeassistant = HomeAssistant(config, bundle.published_labels, bundle.id, monotonic, self.stop)
        self.labelling = Labelling(
            self.publish, self.metrics, monotonic, self.stop, self.durability, self.homeassistant
        )
        self.takeover: Takeover | None = None
        self.workers: Workers | None = None
        if config.worker_of is not None:
            self.takeover = Takeover(
                self.pipeline, self.labelling, self.inbox, self.devices.forget, self._hand_over_pending, monotonic
            )
            self._share_states(self.takeover)
            self.workers = Workers(config, self.takeover, self._is_able, monotonic, on_failure=self.stop)
        self.notifier = Notifier()
        self.connection: Connection | None = None
        self.refusals: Refusals | None = None
        self.stopping = threading.Event()
        self._failure: BaseException | None = None
        self._messages_received = self._samples_received = 0
        # Time of arrival of the messages that have samples pending in the engine: since the epoch to monotonic.
        self._pending_received_s: dict[float, float] = {}
        # Monotonic time of the last step. Infinite before the first one: a daemon that waits for the broker is healthy.
        self._heartbeat_s = math.inf
        self._next_refresh_s = monotonic()
        self._next_eviction_s = monotonic() + EVICT_EVERY_S

    def _share_states(self, takeover: Takeover) -> None:
        """Keep the state of partitions in the folder that the group shares, if there is one.

        Raises:
            ConfigError: It cannot be made or written.

        """
        folder, count = self.config.shared_dir, self.config.partition_count
        if folder is not None and count is not None:
            files = PartitionFiles(folder)
            read, wake = self.pipeline.read_partition, self.inbox.wake
            takeover.share(PartitionStore(files, count, read, wake, self.monotonic, self.stop), count)

    # --- connection ---------------------------------------------------------------------------

    def connect(self, settings: BrokerSettings) -> None:
        """Connect and subscribe. If the broker is unreachable, wait for it until `stop` is called.

        Raises:
            BrokerError: The broker refused the connection, a subscription or the daemon's status.

        """
        config = self.config
        templates = {LABELS: [config.labels_template]}
        if config.events_template is not None:
            templates[EVENTS] = [config.events_template]
        durability = self.durability
        self.refusals = Refusals(templates, config.status_topic, settings.url.user, self.metrics.observe_refused)
        workers = self.workers
        client_id = settings.name_client(f"harstream-{config.instance}")
        self.connection = Connection(
            settings,
            client_id,
            subscriptions=self._subscriptions if workers is None else (),
            changing=None if workers is None else workers.subscriptions,
            qos=config.qos,
            session=durability is not None,
            earlier=None if durability is None else durability.subscriptions,
            presence=Presence(config.status_topic, qos=config.qos, retain=config.retain, will=config.will),
            kind_of=self.refusals.template_of,
            on_messages=self.receive,
            on_change=self._connection_changed,
            on_answers=self._publishes_answered,
            on_settled=None if durability is None else durability.note_answers,
            on_death=self.stop,
            max_payload_bytes=config.max_payload_bytes,
            silence_s=config.silence_s,
            on_silence=self.metrics.observe_silence,
        )
        self.connection.open(self.stopping)
        if not self.connected:
            return
        try:
            if self.homeassistant is not None:
                self.homeassistant.open(settings, client_id, self.stopping)
            if workers is not None:
                self._join(workers, settings, client_id)
        except BrokerError:
            if self.homeassistant is not None:
                self.homeassistant.close(0)
            self.connection.close()
            raise

    def _join(self, workers: Workers, settings: BrokerSettings, client_id: str) -> None:
        """Join the group of workers, and wait until this one serves its partitions."""
        assert self.takeover is not None
        workers.open(settings, client_id, self.receive, self.stopping)
        while not workers.settled and not self.stopping.is_set():
            self.takeover.step(self.monotonic())
            time.sleep(_SETTLE_S)

    def _is_able(self) -> bool:
        """Return whether samples can be received and labelled. The thread of the workers calls this."""
        return self.connected and self.monotonic() - self._heartbeat_s < HEARTBEAT_S

    @property
    def _subscriptions(self) -> tuple[str, ...]:
        return self.config.samples_filters(self.config.served_partitions)

    def receive(self, messages: Sequence[InboundMessage]) -> None:
        """Put messages into the inbox. The network thread calls this, so it does nothing else.

        A payload above the limit is cut to one byte more than that. It is still rejected as too large, but cannot push
        other messages out of the inbox.
        """
        arrival_s, received_s, max_bytes = self.clock(), self.monotonic(), self.config.max_payload_bytes + 1
        make = Message._make
        self.inbox.put(
            [
                make((topic, payload[:max_bytes], arrival_s, retained, received_s, delivery))
                for topic, payload, retained, delivery in messages
            ]
        )

    def publish(self, messages: Sequence[Publication], *, retain: bool) -> int:
        """Publish messages, and return how many were accepted, always the first ones.

        In durable mode, wait until all are accepted, or the daemon stops and the broker is away or takes no more.
        """
        connection = self.connection
        if connection is None:
            return 0
        if retain and not self.config.retain:
            if messages and not messages[0][1]:  # they clear retained labels, and there are none
                return len(messages)
            retain = False
        n = connection.publish_all(messages, qos=self.config.qos, retain=retain)
        if self.durability is not None and n < len(messages):
            n += self._publish_rest(self.durability, connection, messages[n:], retain=retain)
        return n

    def _publish_rest(
        self, durability: Durability, connection: Connection, messages: Sequence[Publication], *, retain: bool
    ) -> int:
        """Publish messages as soon as there is room. Return how many were published before a stop gave up the rest."""
        n, give_up_s = 0, math.inf
        while n < len(messages):
            if self.stopping.is_set():
                give_up_s = min(give_up_s, self.monotonic() + DRAIN_TIMEOUT_S)
                if durability.is_cut_short or not self.connected or self.monotonic() >= give_up_s:
                    durability.cut_short()
                    break
            time.sleep(_ROOM_WAIT_S)
            n += connection.publish_all(messages[n:], qos=self.config.qos, retain=retain)
        return n

    def _connection_changed(self, connected: bool) -> None:
        """Count a reconnect. The network thread calls this."""
        if connected and self.connection is not None and self.connection.connects > 1:
            self.metrics.observe_reconnect()

    def _publishes_answered(self, accepted: Sequence[str], refused: Sequence[Refusal]) -> None:
        """Note what the broker refused, and what it accepts again. The network thread calls this."""
        assert self.refusals is not None
        assert self.connection is not None
        self.refusals.add(accepted, refused)
        self.connection.report_accepted(bool(self.refusals.current))

    # --- main loop ----------------------------------------------------------------------------

    def run(self) -> None:
        """Label samples until `stop` is called, then drain. Raise the error that ended a thread, if one did."""
        self.labelling.start()
        try:
            if self.durability is not None and self.connection is not None:
                self._resume(self.durability, self.connection)
            while not self.stopping.is_set():
                self.step(IDLE_WAIT_S)
        except BaseException as error:  # a bug; raised again after the windows handed over so far are published
            self._failure = error
        self.drain()
        if self.failure is not None:
            raise self.failure

    def _resume(self, durability: Durability, connection: Connection) -> None:
        """Feed what came after the last checkpoint again, and begin to write the journal.

        Raises:
            ConfigError: A journal cannot be read.

        """
        durability.connect(connection)
        self.publish(self._first_events, retain=False)
        for record, known in durability.records():
            self._heartbeat_s = now_s = self.monotonic()
            self.notifier.heartbeat(now_s)
            if isinstance(record, Evicted):
                self.pipeline.engine.forget(record.devices)
                self._hand_over(DevicesEvicted(self.pipeline, record.devices, known))
            else:
                messages = [message._replace(received_s=now_s) for message in record.messages]
                self._hand_over(replace(self.make_windows(messages), known=known))
                self._hand_over_pending(known=known)
                self._hand_over(replace(self.make_windows([]), position=record.position))
        durability.start()
        if durability.stats.restored:
            log.info("state-dir: fed %d messages again that came after the last checkpoint", durability.stats.restored)

    def step(self, timeout_s: float) -> None:
        """Process one batch of messages. Wait for it at most ``timeout_s``."""
        takeover = self.takeover
        messages = self._take_messages(timeout_s if takeover is None else takeover.longest_wait_s(timeout_s))
        self._heartbeat_s = now_s = self.monotonic()
        if takeover is not None:
            messages = takeover.admit(messages, now_s)
        self.notifier.heartbeat(now_s)
        if self.durability is not None:
            self._process_durably(self.durability, messages)
        elif messages or self.pipeline.engine.n_pending:
            self._hand_over(self.make_windows(messages))
        if takeover is not None:
            takeover.step(now_s)
        if now_s >= self._next_refresh_s or self.devices.wanted:
            self._next_refresh_s = now_s + REFRESH_EVERY_S
            self.devices.refresh(self.config.idle_s)
        if now_s >= self._next_eviction_s:
            self._next_eviction_s = now_s + EVICT_EVERY_S
            self._evict()

    def _process_durably(self, durability: Durability, messages: Sequence[Message]) -> None:
        """Process a batch of which the broker may have sent messages before, and make a checkpoint if it is time."""
        engine = self.pipeline.engine
        new = durability.admit(messages) if messages else ()
        if new or engine.n_pending:
            due = self.make_windows(new)
            # Only when all windows of the messages are made, these are labelled.
            self._hand_over(due if engine.n_pending else replace(due, position=durability.position))
        if not engine.n_pending and durability.checkpoint_due(self.monotonic() - self._heartbeat_s):
            self._hand_over(self._make_checkpoint(durability))

    def _hand_over_pending(self, *, known: bool = False) -> None:
        """Make the windows that are pending in the engine, without further messages."""
        while self.pipeline.engine.n_pending:
            self._hand_over(replace(self.make_windows([]), known=known))

    def _make_checkpoint(self, durability: Durability) -> CheckpointDue:
        checkpoint = durability.begin_checkpoint(self.pipeline.engine.snapshot(), self._subscriptions)
        return CheckpointDue(self.pipeline, checkpoint)

    def _take_messages(self, timeout_s: float) -> list[Message]:
        """Return the messages of the next batch. Wait for them at most ``timeout_s`` if there is nothing else to do.

        While samples of a device are pending in the engine, its further messages stay in the inbox, which is bounded.
        """
        if self.durability is not None and not self.durability.has_room:
            self.stopping.wait(min(timeout_s, _ROOM_WAIT_S))
            return []
        engine, device_of = self.pipeline.engine, self.pipeline.decoder.device_of
        n_pending = engine.n_pending
        if not n_pending:
            return self.inbox.get(MAX_BATCH_MESSAGES, timeout_s, MAX_BATCH_BYTES)
        if n_pending > MAX_PENDING:
            return []
        busy = engine.busy
        longest = LONG_MESSAGE_BYTES if n_pending > MAX_PENDING_OF_LONG else math.inf

        def waits(message: Message) -> bool:
            return len(message.payload) > longest or device_of(message.topic) in busy

        return self.inbox.get(MAX_BATCH_MESSAGES, 0, MAX_BATCH_BYTES, waits)

    def make_windows(self, messages: Sequence[Message]) -> WindowsDue:
        """Decode messages and feed them to the engine. Return the windows that fell due."""
        now_s = self.monotonic()
        engine = self.pipeline.engine
        batch, rejections = self.pipeline.decode(messages)
        if rejections:
            self.devices.reject(rejections)
        windows = engine.feed(batch, now_s, MAX_BATCH_WINDOWS)
        self._messages_received += len(messages)
        self._samples_received += len(batch.samples)
        if messages:
            self.metrics.observe_decoded(
                messages[-1].arrival_s,
                now_s - np.array([message.received_s for message in messages]),
                batch,
                rejections,
                default_rate_hz=engine.spec.sample_rate_hz,
            )
        received_s = self._pending_received_s | {message.arrival_s: message.received_s for message in messages}
        # A message that waited in the engine for the next one of its device is completed by one of this batch.
        first_s = messages[0].received_s if messages else now_s
        completed_s = [received_s.get(arrival_s, first_s) for arrival_s in windows.arrival_s.tolist()]
        self._pending_received_s = {at_s: received_s.get(at_s, first_s) for at_s in engine.pending_arrivals_s}
        return WindowsDue(self.pipeline, windows, np.array(completed_s, np.float64))

    def _hand_over(self, item: WindowsDue | CheckpointDue | DevicesEvicted) -> None:
        """Hand an item to the labelling thread. While that waits for the broker, the daemon lives."""
        if isinstance(item, WindowsDue) and not len(item.windows) and not item.position:
            return
        while not self.labelling.hand_over(item, IDLE_WAIT_S):
            self._heartbeat_s = self.monotonic()
            self.notifier.heartbeat(self._heartbeat_s)

    def _evict(self) -> None:
        evicted = self.pipeline.engine.evict(self.monotonic() - self.config.idle_s)
        self.devices.forget(evicted)
        if self.durability is not None:
            self.durability.note_evicted(evicted)
        if self.takeover is not None:
            self.takeover.note_evicted(evicted)
        engine = self.pipeline.engine
        self.pipeline.decoder.forget_idle_topics(engine.n_devices, lambda: engine.devices)
        if evicted:
            log.info("evicted %d devices of which no sample was accepted for %g s", len(evicted), self.config.idle_s)
        if evicted or self.pipeline.last_labels.to_clear:
            self._hand_over(DevicesEvicted(self.pipeline, evicted))
        return_free_memory()

    # --- stop ---------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask the main loop to drain and return. Any thread may call this."""
        self.stopping.set()
        self.inbox.wake()

    def drain(self) -> None:
        """Label and publish what has arrived, publish the events held back, and disconnect."""
        connection = self.connection
        if self.workers is not None:
            self.workers.leave(UNSUBSCRIBE_TIMEOUT_S)
        if connection is not None:
            connection.unsubscribe(UNSUBSCRIBE_TIMEOUT_S)
        if self.failure is None and self.durability is not None:  # the broker sends again what waits in the inbox
            self._hand_over_pending()
            self._hand_over(self._make_checkpoint(self.durability))
        elif self.failure is None:
            while (messages := self._take_messages(0)) or self.pipeline.engine.n_pending:
                self._hand_over(self.make_windows(messages))
            if self.takeover is not None and self.config.partition_count is not None:
                self.takeover.lose_all(self.config.partition_count)
        self.labelling.finish()
        if self.failure is None:
            self.devices.refresh(self.config.idle_s)
            if self.durability is None:  # else the next daemon goes on with them
                self.labelling.flush_events(self.pipeline)
        if connection is not None:
            status = b"stopped" if self.failure is None else b"offline"
            connection.leave(status)
            # Without a connection no acknowledgement can arrive, so there is nothing to wait for.
            if not connection.flush(DRAIN_TIMEOUT_S if connection.ready else 0):
                log.warning("stopped before the broker acknowledged %d messages", connection.outgoing)
        if self.durability is not None:
            self.durability.finish()
        if self.homeassistant is not None:
            self.homeassistant.close(DRAIN_TIMEOUT_S)
        if connection is not None:
            connection.close()
        if self.workers is not None:
            self.workers.close()
        if self.takeover is not None:
            self.takeover.close()

    @property
    def failure(self) -> BaseException | None:
        """Error that ended the main loop or another thread."""
        network = None if self.connection is None else self.connection.failure
        durability = None if self.durability is None else self.durability.failure
        workers = None if self.workers is None else self.workers.failure
        states = None if self.states is None else self.states.store.failure
        home = None if self.homeassistant is None else self.homeassistant.failure
        return self._failure or self.labelling.failure or network or durability or workers or states or home

    @property
    def states(self) -> PartitionStates | None:
        """State of partitions in the folder that a group of workers shares."""
        return None if self.takeover is None else self.takeover.states

    # --- other threads ------------------------------------------------------------------------

    def change_model(self, config: RunConfig, classifier: Classifier) -> None:
        """Use other settings and another, verified model from now on. Any thread may call this.

        No window is lost: the present model still classifies the windows that are already due.

        Raises:
            BundleError: The model needs other windows.
            ConfigError: A certificate or key file cannot be used.

        """
        current, new = self.pipeline.engine.spec.to_dict(), classifier.bundle.spec.to_dict()
        for name in current:
            # The normalisation is applied by the classifier, so the windows stay the same.
            if name != "normalisation" and current[name] != new[name]:
                raise BundleError(
                    f"{classifier.bundle.path}: signal: {name} is {new[name]}, but the running model has "
                    f"{current[name]}; restart harstream to change it"
                )
        if self.connection is not None and (settings := config.read_broker_settings()) is not None:
            self.connection.replace_credentials(settings)
            for part in (self.workers, self.homeassistant):
                if part is not None:
                    part.replace_credentials(settings)
        self.config = config
        self.pipeline.decoder.max_payload_bytes = config.max_payload_bytes
        if self.connection is not None:
            self.connection.limit_payload(config.max_payload_bytes)
        item = ModelChanged(self.pipeline, classifier, config.smoothing_of(classifier.bundle.smoothing))
        while not self.stopping.is_set() and not self.labelling.hand_over(item, IDLE_WAIT_S):
            pass
        if self.durability is not None:
            self.durability.ask_for_checkpoint()

    @property
    def connected(self) -> bool:
        """True while the daemon is connected to the broker and subscribed."""
        return self.connection is not None and self.connection.ready

    @property
    def served_partitions(self) -> Collection[int]:
        """Partitions that are served now; empty if the topic has none."""
        return self.config.served_partitions if self.workers is None else self.workers.served

    def read_devices(self) -> Snapshot:
        """Return what is known of each device, at most a second ago if the loop moves. Any thread may call this."""
        return self.devices.snapshot(READ_TIMEOUT_S)

    def status(self) -> DaemonStatus:
        """Return a snapshot of state and totals. Any thread may call this."""
        bundle, stats = self.pipeline.classifier.bundle, self.pipeline.engine.stats
        connected = self.connected
        refused = {} if self.refusals is None else self.refusals.current
        works = connected and not refused.keys() & {LABELS, EVENTS}
        return DaemonStatus(
            model=bundle.id,
            backend=self.pipeline.classifier.backend,
            labels=bundle.published_labels,
            alive=self.monotonic() - self._heartbeat_s < HEARTBEAT_S,
            ready=works and self.inbox.below_high_water and not self.stopping.is_set(),
            connected=connected,
            refused=refused,
            partitions=len(self.served_partitions),
            partitions_gained=0 if self.workers is None else self.workers.gained,
            partitions_lost=0 if self.workers is None else self.workers.lost,
            devices=self.pipeline.engine.n_devices,
            devices_by_label=self.pipeline.last_labels.counts.copy(),
            devices_by_problem=self.devices.counts,
            messages_received=self._messages_received,
            messages_waiting=len(self.inbox),
            messages_dropped=self.inbox.dropped,
            messages_foreign=0 if self.takeover is None else self.takeover.dropped,
            samples_received=self._samples_received,
            samples_late=stats.samples_late,
            samples_rate=stats.samples_rate,
            samples_devices=stats.samples_devices,
            pairing=stats.pairing,
            gaps=stats.gaps,
            rates_measured=stats.rates_measured,
            windows_classified=self.labelling.windows_classified,
            latency_sum_s=self.labelling.latency_sum_s,
            durability=next((part.stats for part in (self.durability, self.states) if part), DurabilityStats()),
            log_lines_dropped=logs.lines_dropped(),
        )
