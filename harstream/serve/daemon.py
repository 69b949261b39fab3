"""Main loop of the daemon: from messages to due windows.

    MQTT -> connection -> inbox -> source.make_windows -> labelling thread -> MQTT
            (network thread)      (main loop; each source its own messages)

The network thread only notes the arrival time and fills the inbox. The main loop gives the messages to their sources,
which decode them and make windows (see ``source``), and hands these to the labelling thread, which classifies and
publishes (see ``labelling``).
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from harstream import logs
from harstream.classifier import Classifier
from harstream.config import RunConfig
from harstream.errors import BrokerError
from harstream.memory import return_free_memory
from harstream.mqtt.client import InboundMessage
from harstream.mqtt.connection import Connection
from harstream.mqtt.urls import BrokerSettings
from harstream.serve.devices import Snapshot
from harstream.serve.durable.durability import Durability
from harstream.serve.durable.journal import Evicted
from harstream.serve.durable.partition_files import PartitionFiles
from harstream.serve.durable.partition_store import PartitionStore
from harstream.serve.exchange import DRAIN_TIMEOUT_S, Exchange
from harstream.serve.farewell import Farewell
from harstream.serve.homeassistant import HomeAssistant
from harstream.serve.inbox import Inbox
from harstream.serve.labelling import CheckpointDue, DevicesEvicted, Labelling, WindowsDue
from harstream.serve.metrics import DaemonMetrics
from harstream.serve.partition_states import PartitionStates
from harstream.serve.pipeline import Publication
from harstream.serve.questions import Questions
from harstream.serve.refusals import EVENTS, LABELS
from harstream.serve.source import Sources
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
#: Samples of long messages that may be pending in the engines (24 bytes each): above the first limit no further long
#: message is taken, above the second limit no message at all.
MAX_PENDING_OF_LONG, MAX_PENDING = 500_000, 1_000_000
#: Bytes from which on a message is long.
LONG_MESSAGE_BYTES = 16 * 1024
IDLE_WAIT_S = 0.5
REFRESH_EVERY_S = 1.0
EVICT_EVERY_S = 5.0
READ_TIMEOUT_S = 2.0
#: Pause of a main loop that waits for room in the journal, seconds.
_ROOM_WAIT_S = 0.01
UNSUBSCRIBE_TIMEOUT_S = 2.0
_SETTLE_S = 0.02
#: The main loop counts as alive if it began its last step within this time.
HEARTBEAT_S = 10.0


class Daemon:
    """Main loop, and the connection, inbox, sources and labelling thread that it works with.

    Args:
        config: Settings.
        classifiers: Classifier of each source, in their order; sources with the same bundle may share one.
        clock: Returns seconds since the epoch, for event times and the lag.
        monotonic: Returns monotonic seconds, for everything else: the clock of the machine may be set while the daemon
            runs.

    Raises:
        ConfigError: The state folder cannot be used.

    """

    def __init__(
        self,
        config: RunConfig,
        *classifiers: Classifier,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config, self.clock, self.monotonic = config, clock, monotonic
        # In durable mode the broker waits for the acknowledgement of every message, and may send no other before. So
        # none is patient, and none waits for others.
        durable = config.durable_dir is not None
        self.inbox = Inbox(gather_s=0.0 if durable else config.gather_s, holds_qos_1=durable)
        self.questions = Questions(self.inbox.wake)
        names = [source.name for source in config.sources]
        self.metrics = DaemonMetrics(names, self.status, named=bool(config.source))
        inbox = None if durable else self.inbox
        self.sources = Sources(config, classifiers, self.metrics, clock, monotonic, self.inbox.wake, inbox)
        self.durability: Durability | None = None
        self._farewell = Farewell()  # what the restored state leaves to be told
        if config.durable_dir is not None:
            self.durability = Durability(config.durable_dir, monotonic, self.stop)
            if (state := self.durability.take_restored()) is not None:
                try:
                    self._farewell = self.sources.restore(state)
                except BaseException:
                    self.durability.finish()  # unlocks the folder
                    raise
        self.homeassistant: HomeAssistant | None = None
        if config.homeassistant:
            bundles = [classifier.bundle for classifier in self.sources.classifiers]
            models = [(bundle.published_labels, bundle.id) for bundle in bundles]
            self.homeassistant = HomeAssistant(config, models, monotonic, self.stop)
        self.labelling = Labelling(
            self.publish, self.metrics, monotonic, self.stop, self.durability, self.homeassistant
        )
        self.takeover: Takeover | None = None
        self.workers: Workers | None = None
        if config.worker_of is not None:
            source = self.sources[0]  # workers have no other
            self.takeover = Takeover(
                source.pipeline, self.labelling, self.inbox, source.devices.forget, self._hand_over_pending, monotonic
            )
            self._share_states(self.takeover)
            self.workers = Workers(config, self.takeover, self._is_able, monotonic, on_failure=self.stop)
        self.notifier = Notifier()
        self.stopping = threading.Event()
        self.exchange = Exchange(
            config, self.metrics, self.durability, self.stopping, receive=self.receive, on_death=self.stop
        )
        self._failure: BaseException | None = None
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
            read, wake = self.sources[0].pipeline.read_partition, self.inbox.wake
            takeover.share(PartitionStore(files, count, read, wake, self.monotonic, self.stop), count)

    # --- connection ---------------------------------------------------------------------------

    def connect(self, settings: BrokerSettings) -> None:
        """Connect and subscribe. If the broker is unreachable, wait for it until `stop` is called.

        Raises:
            BrokerError: The broker refused the connection, a subscription or the daemon's status.

        """
        workers, client_id = self.workers, settings.name_client(f"harstream-{self.config.instance}")
        self.exchange.open(
            settings,
            client_id,
            subscriptions=self._subscriptions if workers is None else (),
            changing=None if workers is None else workers.subscriptions,
        )
        if self.stopping.is_set():
            return
        try:
            if self.homeassistant is not None:
                self.homeassistant.open(settings, client_id, self.stopping)
            if workers is not None:
                self._join(workers, settings, client_id)
        except BrokerError:
            if self.homeassistant is not None:
                self.homeassistant.close(0)
            assert self.connection is not None
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

    @property
    def connection(self) -> Connection | None:
        """Connection to the broker; None before `connect`."""
        return self.exchange.connection

    @property
    def connected(self) -> bool:
        """True while the daemon is connected to the broker and subscribed."""
        return self.connection is not None and self.connection.ready

    def receive(self, messages: Sequence[InboundMessage]) -> None:
        """Put messages into the inbox. The network threads call this, so it does nothing else.

        A payload above the limit is cut to one byte more than that. It is still rejected as too large, but cannot push
        other messages out of the inbox.
        """
        arrival_s, received_s, max_bytes = self.clock(), self.monotonic(), self.config.max_payload_bytes + 1
        make = Message._make
        self.inbox.put(
            [make((topic, data[:max_bytes], arrival_s, kept, received_s, mark)) for topic, data, kept, mark in messages]
        )

    def publish(self, messages: Sequence[Publication], *, retain: bool) -> int:
        """Publish messages, and return how many were accepted, always the first ones."""
        return self.exchange.publish(messages, retain=retain)

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
        self.publish(self._farewell.events, retain=False)
        self.publish(self._farewell.clearing, retain=True)
        for record, known in durability.records():
            self._heartbeat_s = now_s = self.monotonic()
            self.notifier.heartbeat(now_s)
            if isinstance(record, Evicted):
                if (source := self.sources.find(record.source)) is not None:
                    source.pipeline.engine.forget(record.devices)
                    self._hand_over(DevicesEvicted(source.pipeline, record.devices, known))
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
        elif messages or self.sources.n_pending:
            self._hand_over(self.make_windows(messages))
        if takeover is not None:
            takeover.step(now_s)
        if self.questions.waiting:
            self.questions.answer()
        if now_s >= self._next_refresh_s or self.sources.wanted:
            self._next_refresh_s = now_s + REFRESH_EVERY_S
            self.sources.refresh(self.config.idle_s)
        if now_s >= self._next_eviction_s:
            self._next_eviction_s = now_s + EVICT_EVERY_S
            self._evict()

    def _process_durably(self, durability: Durability, messages: Sequence[Message]) -> None:
        """Process a batch of which the broker may have sent messages before, and make a checkpoint if it is time."""
        new = durability.admit(messages) if messages else ()
        if new or self.sources.n_pending:
            due = self.make_windows(new)
            # Only when all windows of the messages are made, these are labelled.
            self._hand_over(due if self.sources.n_pending else replace(due, position=durability.position))
        if not self.sources.n_pending and durability.checkpoint_due(self.monotonic() - self._heartbeat_s):
            self._hand_over(self._make_checkpoint(durability))

    def _hand_over_pending(self, *, known: bool = False) -> None:
        """Make the windows that are pending in the engines, without further messages."""
        while self.sources.n_pending:
            self._hand_over(replace(self.make_windows([]), known=known))

    def _make_checkpoint(self, durability: Durability) -> CheckpointDue:
        checkpoint = durability.begin_checkpoint(self._subscriptions)
        self.sources.save(checkpoint)
        return CheckpointDue(self.sources.pipelines, checkpoint)

    def _take_messages(self, timeout_s: float) -> list[Message]:
        """Return the messages of the next batch. Wait for them at most ``timeout_s`` if there is nothing else to do.

        While samples of a device are pending in the engine, its further messages stay in the inbox, which is bounded.
        """
        if self.durability is not None and not self.durability.has_room:
            self.stopping.wait(min(timeout_s, _ROOM_WAIT_S))
            return []
        n_pending = self.sources.n_pending
        if not n_pending:
            return self.inbox.get(MAX_BATCH_MESSAGES, timeout_s, MAX_BATCH_BYTES)
        if n_pending > MAX_PENDING:
            return []
        is_busy = self.sources.busy()
        longest = LONG_MESSAGE_BYTES if n_pending > MAX_PENDING_OF_LONG else math.inf

        def waits(message: Message) -> bool:
            return len(message.payload) > longest or is_busy(message.topic)

        return self.inbox.get(MAX_BATCH_MESSAGES, 0, MAX_BATCH_BYTES, waits)

    def make_windows(self, messages: Sequence[Message]) -> WindowsDue:
        """Decode messages and feed them to the engines. Return the windows that fell due."""
        return WindowsDue(self.sources.make_windows(messages, MAX_BATCH_WINDOWS, self.inbox.wanted_since_s))

    def _hand_over(self, item: WindowsDue | CheckpointDue | DevicesEvicted) -> None:
        """Hand an item to the labelling thread. While that waits for the broker, the daemon lives."""
        if isinstance(item, WindowsDue) and not item.parts and not item.position:
            return
        while not self.labelling.hand_over(item, IDLE_WAIT_S):
            self._heartbeat_s = self.monotonic()
            self.notifier.heartbeat(self._heartbeat_s)

    def _evict(self) -> None:
        idle_s = self.config.idle_s
        for source in self.sources:
            evicted = source.evict(self.monotonic() - idle_s, idle_s)
            if self.durability is not None:
                self.durability.note_evicted(source.config.name, evicted)
            if self.takeover is not None:
                self.takeover.note_evicted(evicted)
            source.forget_idle_topics()
            if evicted or source.pipeline.last_labels.to_clear:
                self._hand_over(DevicesEvicted(source.pipeline, evicted))
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
            while (messages := self._take_messages(0)) or self.sources.n_pending:
                self._hand_over(self.make_windows(messages))
            if self.takeover is not None and self.config.partition_count is not None:
                self.takeover.lose_all(self.config.partition_count)
        self.labelling.finish()
        if self.failure is None:
            self.sources.refresh(self.config.idle_s)
            for pipeline in self.sources.pipelines if self.durability is None else ():  # else the next daemon goes on
                self.labelling.flush_events(pipeline)
        self.exchange.leave(b"stopped" if self.failure is None else b"offline")
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

    @property
    def served_partitions(self) -> Collection[int]:
        """Partitions that are served now; empty if the topic has none."""
        return self.config.served_partitions if self.workers is None else self.workers.served

    def read_devices(self) -> list[Snapshot]:
        """Return what is known of the devices of each source, at most a second ago if the loop moves.

        Any thread may call this.
        """
        return self.sources.snapshots(READ_TIMEOUT_S)

    def status(self) -> DaemonStatus:
        """Return a snapshot of state and totals. Any thread may call this."""
        connected = self.connected
        refused = self.exchange.refused
        works = connected and not refused.keys() & {LABELS, EVENTS}
        return DaemonStatus(
            sources=tuple(source.status() for source in self.sources),
            alive=self.monotonic() - self._heartbeat_s < HEARTBEAT_S,
            ready=works and self.inbox.below_high_water and not self.stopping.is_set(),
            connected=connected,
            refused=refused,
            partitions=len(self.served_partitions),
            partitions_gained=0 if self.workers is None else self.workers.gained,
            partitions_lost=0 if self.workers is None else self.workers.lost,
            messages_waiting=len(self.inbox),
            messages_dropped=self.inbox.dropped,
            messages_foreign=0 if self.takeover is None else self.takeover.dropped,
            windows_classified=self.labelling.windows_classified,
            durability=next((part.stats for part in (self.durability, self.states) if part), DurabilityStats()),
            log_lines_dropped=logs.lines_dropped(),
        )
