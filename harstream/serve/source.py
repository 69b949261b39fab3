"""Sources in the main loop: each with its pipeline, the health of its devices and its totals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from harstream.classifier import Classifier
from harstream.config import RunConfig
from harstream.core.batches import SampleBatch
from harstream.errors import BundleError
from harstream.serve.devices import Devices, Snapshot
from harstream.serve.durable.durability import Checkpoint, Restored
from harstream.serve.farewell import Farewell, say_farewell
from harstream.serve.inbox import Inbox
from harstream.serve.label_state import part
from harstream.serve.labelling import PipelineWindows
from harstream.serve.metrics import DaemonMetrics
from harstream.serve.pipeline import Pipeline
from harstream.serve.status import SourceStatus
from harstream.source_config import SourceConfig
from harstream.wire.decoder import Message

log = logging.getLogger("harstream")

#: Bytes of the topics whose source is remembered; beyond these all are forgotten.
_MAX_TOPIC_BYTES = 64 * 2**20
#: Devices in a batch up to which its cost is mostly that of the batch, so that waiting for others pays.
_FEW_DEVICES = 16
#: Messages from which on a batch costs what they do, whoever sends them.
_MANY_MESSAGES = 128
#: Factor by which a message may be longer than the one before, and still count as no longer: numbers vary.
_AS_LONG = 1.2
#: Bytes of an entry beside its topic.
_ENTRY_BYTES = 150


class Source:
    """One source: its pipeline, the health of its devices and its totals. It belongs to the main loop.

    Args:
        config: Settings of the source.
        pipeline: Its pipeline.
        metrics: Observes each batch.
        clock: Returns seconds since the epoch.
        monotonic: Returns monotonic seconds.
        wake: Lets the main loop refresh the health soon. Any thread may call it.
        inbox: Is told how many further messages of a topic should complete no window; None: every message is wanted at
            once.

    """

    def __init__(
        self,
        config: SourceConfig,
        pipeline: Pipeline,
        metrics: DaemonMetrics,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        wake: Callable[[], None],
        inbox: Inbox | None = None,
    ) -> None:
        self.config, self.pipeline, self._metrics = config, pipeline, metrics
        self._inbox = inbox
        self.devices = Devices(pipeline, clock, monotonic, wake)
        self._messages_received = self._samples_received = 0
        # Time of arrival of the messages that have samples pending in the engine: since the epoch to monotonic.
        self._pending_received_s: dict[float, float] = {}

    def make_windows(
        self, messages: Sequence[Message], now_s: float, max_windows: int, wanted_since_s: float
    ) -> PipelineWindows:
        """Decode messages and feed them to the engine. Return the windows that fell due; see ``Sources``."""
        engine = self.pipeline.engine
        batch, rejections = self.pipeline.decode(messages)
        if rejections:
            self.devices.reject(rejections)
        windows = engine.feed(batch, now_s, max_windows)
        self._messages_received += len(messages)
        self._samples_received += len(batch.samples)
        if messages:
            self._metrics.observe_decoded(
                self.config.name,
                messages[-1].arrival_s,
                now_s - np.minimum(np.maximum([message.received_s for message in messages], wanted_since_s), now_s),
                batch,
                rejections,
                default_rate_hz=engine.spec.sample_rate_hz,
            )
        if self._inbox is not None:
            self._note_patient(self._inbox, messages, batch)
        received_s = self._pending_received_s | {message.arrival_s: message.received_s for message in messages}
        # A message that waited in the engine for the next one of its device is completed by one of this batch.
        first_s = messages[0].received_s if messages else now_s
        completed_s = [received_s.get(arrival_s, first_s) for arrival_s in windows.arrival_s.tolist()]
        self._pending_received_s = {at_s: received_s.get(at_s, first_s) for at_s in engine.pending_arrivals_s}
        return PipelineWindows(self.pipeline, windows, np.array(completed_s, np.float64))

    def _note_patient(self, inbox: Inbox, messages: Sequence[Message], batch: SampleBatch) -> None:
        """Tell the inbox how many further messages of each device should complete no window, if they are as long.

        In batches of many devices no message has to wait for others.
        """
        few = messages if len(messages) <= _MANY_MESSAGES else ()
        newest = {message.topic: len(message.payload) for message in few}
        if len(newest) > _FEW_DEVICES or not few:
            inbox.forget_patient()
            return
        engine, device_of = self.pipeline.engine, self.pipeline.decoder.device_of
        counts = dict(zip(batch.devices, batch.counts.tolist(), strict=True))  # of the newest message of each
        patient = {}
        for topic, n_bytes in newest.items():
            device, number = device_of(topic), 0
            if device is not None and device in counts:  # else nothing of it was understood
                number = max(engine.samples_until_window(device) - 1, 0) // counts[device]
            patient[topic] = number, round(_AS_LONG * n_bytes)
        inbox.set_patient(patient)

    def evict(self, before_s: float, idle_s: float) -> list[str]:
        """Forget the devices of which no sample was accepted since the monotonic time ``before_s``, and return them."""
        evicted = self.pipeline.engine.evict(before_s)
        self.devices.forget(evicted)
        if evicted:
            log.info(
                "%sevicted %d devices of which no sample was accepted for %g s", self.config.where, len(evicted), idle_s
            )
        return evicted

    def forget_idle_topics(self) -> None:
        """Forget topics of devices that were evicted long ago."""
        engine = self.pipeline.engine
        self.pipeline.decoder.forget_idle_topics(engine.n_devices, lambda: engine.devices)

    def check_windows(self, classifier: Classifier) -> None:
        """Raise BundleError if a model needs other windows than the one in use."""
        current, new = self.pipeline.engine.spec.to_dict(), classifier.bundle.spec.to_dict()
        for name in current:
            # The normalisation is applied by the classifier, so the windows stay the same.
            if name != "normalisation" and current[name] != new[name]:
                raise BundleError(
                    f"{self.config.where}{classifier.bundle.path}: signal: {name} is {new[name]}, but the running "
                    f"model has {current[name]}; restart harstream to change it"
                )

    def status(self) -> SourceStatus:
        """Return a snapshot of state and totals. Any thread may call this."""
        classifier, stats = self.pipeline.classifier, self.pipeline.engine.stats
        return SourceStatus(
            name=self.config.name,
            model=classifier.bundle.id,
            backend=classifier.backend,
            labels=classifier.bundle.published_labels,
            devices=self.pipeline.engine.n_devices,
            devices_by_label=self.pipeline.last_labels.counts.copy(),
            devices_by_problem=self.devices.counts,
            messages_received=self._messages_received,
            samples_received=self._samples_received,
            samples_late=stats.samples_late,
            pairing=stats.pairing,
            samples_rate=stats.samples_rate,
            samples_devices=stats.samples_devices,
            gaps=stats.gaps,
            rates_measured=stats.rates_measured,
        )


class Sources:
    """All sources of a daemon, in the order of the settings. It belongs to the main loop.

    Args:
        config: Settings of the daemon.
        classifiers: Classifier of each source. Sources with the same bundle may share one.
        metrics: Observes each batch.
        clock: Returns seconds since the epoch.
        monotonic: Returns monotonic seconds.
        wake: Lets the main loop refresh the health of devices soon.
        inbox: Is told which messages can wait, see ``Source``.

    """

    def __init__(
        self,
        config: RunConfig,
        classifiers: Sequence[Classifier],
        metrics: DaemonMetrics,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        wake: Callable[[], None],
        inbox: Inbox | None = None,
    ) -> None:
        self._all = tuple(
            Source(source, Pipeline(config, source, classifier, clock), metrics, clock, monotonic, wake, inbox)
            for source, classifier in zip(config.sources, classifiers, strict=True)
        )
        for source in self._all:
            classifier = source.pipeline.classifier
            metrics.set_model(source.config.name, classifier.bundle, classifier.backend)
        self._monotonic = monotonic
        self._by_topic: dict[str, Source] = {}
        self._topic_bytes = 0

    def __getitem__(self, position: int) -> Source:
        return self._all[position]

    def __iter__(self) -> Iterator[Source]:
        return iter(self._all)

    @property
    def pipelines(self) -> list[Pipeline]:
        """The pipeline of each source."""
        return [source.pipeline for source in self._all]

    @property
    def classifiers(self) -> list[Classifier]:
        """The classifier that each source uses."""
        return [source.pipeline.classifier for source in self._all]

    def find(self, name: str) -> Source | None:
        """Return the source with a name; None if there is none."""
        return next((source for source in self._all if source.config.name == name), None)

    # --- messages and windows -----------------------------------------------------------------

    @property
    def n_pending(self) -> int:
        """Samples that are pending in the engines."""
        return sum([source.pipeline.engine.n_pending for source in self._all])

    def busy(self) -> Callable[[str], bool]:
        """Return a function that tells whether samples of the device that a topic names are pending now."""
        busy = {source: source.pipeline.engine.busy for source in self._all}

        def is_busy(topic: str) -> bool:
            source = self._source_of(topic)
            return source.pipeline.decoder.device_of(topic) in busy[source]

        return is_busy

    def make_windows(
        self, messages: Sequence[Message], max_windows: int, wanted_since_s: float = 0.0
    ) -> list[PipelineWindows]:
        """Decode messages and feed them to the engines. Return the windows of each source that has some.

        Args:
            messages: The messages. Without any, windows are made of samples that are pending.
            max_windows: Work to stop at, see ``Engine.feed``. Each source has an equal share of it.
            wanted_since_s: Monotonic time before which the messages did not wait for the main loop, but for others.

        """
        now_s = self._monotonic()
        most = max(max_windows // len(self._all), 1)
        parts = []
        for source, own in self._split(messages):
            if own or source.pipeline.engine.n_pending:
                due = source.make_windows(own, now_s, most, wanted_since_s)
                if len(due.windows):
                    parts.append(due)
        return parts

    def _split(self, messages: Sequence[Message]) -> list[tuple[Source, Sequence[Message]]]:
        """Return the messages of each source, in order."""
        if len(self._all) == 1:
            return [(self._all[0], messages)]
        own: dict[Source, list[Message]] = {source: [] for source in self._all}
        by_topic, find = self._by_topic, self._source_of
        for message in messages:
            topic = message[0]
            own[by_topic.get(topic) or find(topic)].append(message)
        return list(own.items())

    def _source_of(self, topic: str) -> Source:
        """Return the source of the messages on a topic. The first one rejects those that no source asked for."""
        if len(self._all) == 1:
            return self._all[0]
        source = self._by_topic.get(topic)
        if source is not None:
            return source
        fits = (source for source in self._all if source.pipeline.decoder.matches(topic))
        source = next(fits, self._all[0])
        self._topic_bytes += len(topic.encode()) + _ENTRY_BYTES
        if self._topic_bytes > _MAX_TOPIC_BYTES:
            self._by_topic.clear()
            self._topic_bytes = len(topic.encode()) + _ENTRY_BYTES
        self._by_topic[topic] = source
        return source

    # --- devices ------------------------------------------------------------------------------

    @property
    def wanted(self) -> bool:
        """True while somebody waits for a snapshot of devices."""
        return any(source.devices.wanted for source in self._all)

    def refresh(self, idle_s: float) -> None:
        """Log and count the problems of devices, and make a snapshot if somebody asked for one.

        Args:
            idle_s: Seconds after which rejected messages are forgotten.

        """
        for source in self._all:
            source.devices.refresh(idle_s, partial(self._find_namesakes, source))

    def _find_namesakes(self, source: Source) -> Mapping[str, str]:
        """Return the devices whose labels go to the same topics as those of another source, and one line about each."""
        found: dict[str, str] = {}
        template = source.pipeline.labels_template
        for other in self._all:
            if other is source or other.pipeline.labels_template.text != template.text:
                continue
            for device in set(source.pipeline.engine.devices).intersection(other.pipeline.engine.devices):
                found[device] = (
                    f"the source {other.config.name!r} has a device of this name too, and both publish their labels to "
                    f"{template.topic(device)}; give the sources labels topics of their own, or each device its own "
                    "name"
                )
        return found

    def snapshots(self, timeout_s: float) -> list[Snapshot]:
        """Return what is known of the devices of each source. Any thread may call this.

        Args:
            timeout_s: How long to wait for the main loop, for each source.

        """
        return [source.devices.snapshot(timeout_s) for source in self._all]

    # --- state --------------------------------------------------------------------------------

    def restore(self, restored: Restored) -> Farewell:
        """Take over the state of an earlier daemon, before any other call.

        Returns:
            What tells the end of activities because labels, states or smoothing differ, or a source is not configured.

        Raises:
            ConfigError: The state is of a model with other windows.

        """
        farewell = Farewell()
        for name, facts in restored.facts["sources"].items():
            own, source = Restored(facts, part(restored.arrays, name)), self.find(name)
            if source is not None:
                farewell.events += source.pipeline.restore(own, self._monotonic())
            else:
                left = say_farewell(own)
                farewell.events += left.events
                farewell.clearing += left.clearing
                log.warning(
                    "state-dir: it has the state of the source %r, which is not configured any more; the activities of "
                    "its devices end, and the labels of %d are cleared",
                    name,
                    len(left.clearing),
                )
        return farewell

    def save(self, checkpoint: Checkpoint) -> None:
        """Add the state of the engines to a checkpoint. No samples are pending in them."""
        for source in self._all:
            engine = source.pipeline.engine.snapshot()
            checkpoint.add(source.config.name, {}, {f"engine {key}": array for key, array in engine.items()})
