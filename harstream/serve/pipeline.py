"""Pipeline: the objects that serve one source of samples, from its messages to its labels."""

from __future__ import annotations

import logging
import queue
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harstream.bundle import Bundle
from harstream.classifier import Classifier
from harstream.config import RunConfig
from harstream.core.batches import Predictions, SampleBatch, WindowBatch
from harstream.core.engine import Engine
from harstream.core.events import ActivityEvent
from harstream.core.problems import Problem
from harstream.core.smoothing import SmoothedLabels, Smoother
from harstream.core.smoothing_section import Smoothing
from harstream.errors import ConfigError
from harstream.serve.durable.durability import Restored
from harstream.serve.label_history import LabelHistory
from harstream.serve.label_state import LabelState, PartitionState, part
from harstream.serve.last_labels import LastLabels
from harstream.serve.rejections import RejectionLog
from harstream.source_config import SourceConfig
from harstream.wire import labels
from harstream.wire.decoder import Decoder, Message
from harstream.wire.reject import Rejection

log = logging.getLogger("harstream")

#: A topic and a payload.
Publication = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class LabelledWindows:
    """Labels of a batch of windows, and what is to be published about them."""

    windows: WindowBatch
    predictions: Predictions  # uniform where a window is untrusted
    smoothed: SmoothedLabels
    changes: Counter[str]  # label to the number of devices that changed to it
    labels: list[Publication]  # one for each window, in order
    events: list[Publication]


@dataclass(frozen=True, slots=True)
class UnfamiliarChanged:
    """A device whose windows are mostly unfamiliar from now on, or not any more."""

    device: str
    detail: str | None  # one line for people about the problem; None: it has ended


class Pipeline:
    """Decoder, engine, classifier, smoother and topics of one source.

    Two threads use a pipeline. The main loop decodes messages, makes windows and evicts devices; the labelling thread
    uses everything that comes after the classifier. Sources with the same bundle may share one classifier.
    """

    def __init__(
        self,
        config: RunConfig,
        source: SourceConfig,
        classifier: Classifier,
        clock: Callable[[], float] = time.time,
    ) -> None:
        bundle = classifier.bundle
        self.source = source.name
        self.where = source.where  # begins what is logged about the source
        # Used by the main loop.
        self.decoder = Decoder(
            source.samples_template,
            needs_gyro=bundle.spec.uses_gyro,
            units=source.units,
            max_payload_bytes=config.max_payload_bytes,
            payload=source.payload_config,
            gyro_template=source.gyro_template,
        )
        self.engine = Engine(bundle.spec, max_devices=config.max_devices, paired=source.gyro_template is not None)
        self._rejection_log = RejectionLog(source.where)
        # Used by the labelling thread.
        self.classifier = classifier
        self.smoother = bundle.smoother(config.smoothing_of(bundle.smoothing))
        self.history = LabelHistory(clock) if config.page and config.http_address is not None else None
        self.last_labels = LastLabels(bundle.published_labels, self.history)
        # From the labelling thread to the main loop, which empties it once a second. It has the changes of that time.
        self._unfamiliar: queue.SimpleQueue[UnfamiliarChanged] = queue.SimpleQueue()
        self.labels_template, self._events_template = source.labels_template, source.events_template
        self._labels_topic = self.labels_template.topic

    # --- main loop ----------------------------------------------------------------------------

    def decode(self, messages: Sequence[Message]) -> tuple[SampleBatch, list[Rejection]]:
        """Decode messages. Malformed ones are returned as rejections, and logged from time to time."""
        batch, rejections = self.decoder.decode(messages)
        if rejections:
            self._rejection_log.add(rejections)
        for note in self.decoder.take_notes():
            log.warning("%s%s", self.where, note)
        return batch, rejections

    def restore(self, restored: Restored, now_s: float) -> list[Publication]:
        """Take over the state of the source in an earlier daemon, before any other call.

        Labels, states or smoothing may differ, as if the model had changed: every activity then ends. The events that
        tell so are returned.

        Raises:
            ConfigError: The state is of a model with other windows.

        """
        facts, arrays, bundle = restored.facts, restored.arrays, self.classifier.bundle
        try:
            self.engine.restore(part(arrays, "engine"), now_s)
        except ValueError as error:
            raise ConfigError(
                f"{self.where}state-dir: its windows are those of {facts['model']}, but {bundle.id} needs others "
                f"({error}); start with the old model and topics, or move the folder away and begin without state"
            ) from error
        state = LabelState.read(facts, arrays, bundle.id)
        self.last_labels.restore(state.last_labels, state.to_clear)
        self._restore_unfamiliar(state.smoother)
        if state.fits(bundle, self.smoother.smoothing):
            self.smoother = state.smoother
            return []
        self.smoother.adopt_unfamiliar(state.smoother)
        log.warning(
            "%sstate-dir: it is of %s, whose labels or smoothing differ from those of %s; every activity ends",
            self.where,
            state.model,
            bundle.id,
        )
        return self._end_activities_of(state, self.last_labels.devices)

    def _restore_unfamiliar(self, smoother: Smoother) -> None:
        """Let the engine agree with the smoother on unfamiliar devices; a change may have been on its way to it."""
        detail = describe_unfamiliar(self.classifier.bundle)
        found = smoother.unfamiliar_devices()
        for device in set(self.engine.devices_with(Problem.UNFAMILIAR)) - set(found):
            self._unfamiliar.put(UnfamiliarChanged(device, None))
        for device in found:
            self._unfamiliar.put(UnfamiliarChanged(device, detail))

    def take_unfamiliar(self) -> list[UnfamiliarChanged]:
        """Return the changes since the last call, in order."""
        return [self._unfamiliar.get() for _ in range(self._unfamiliar.qsize())]  # only the main loop takes

    # --- any thread ---------------------------------------------------------------------------

    def read_partition(self, path: Path, facts: Mapping[str, Any], arrays: Mapping[str, Any]) -> PartitionState:
        """Return the state of the devices of a partition, which a worker wrote to the file ``path``.

        The whole state is checked here, so that it can be taken over without an error later. A state of other windows,
        labels or smoothing is logged.

        Raises:
            ValueError: It is malformed.
            KeyError: A part of it is missing.

        """
        bundle, smoothing = self.classifier.bundle, self.smoother.smoothing
        labels = LabelState.read(facts, arrays, bundle.id)
        engine: Engine | None = Engine(bundle.spec, max_devices=self.engine.max_devices, paired=self.decoder.is_paired)
        assert engine is not None
        try:
            engine.restore(part(arrays, "engine"), 0.0)
        except ValueError as error:
            engine = None
            log.warning(
                "state-dir: %s: its windows are those of %s, but %s needs others (%s); its devices begin anew, and "
                "their activities end",
                path,
                labels.model,
                bundle.id,
                error,
            )
        else:
            if not labels.fits(bundle, smoothing):
                log.warning(
                    "state-dir: %s: it is of %s, whose labels or smoothing differ from those of %s; its activities end",
                    path,
                    labels.model,
                    bundle.id,
                )
        state = PartitionState(path, engine, labels)
        state.agree_on_unfamiliar(describe_unfamiliar(bundle))
        return state

    # --- labelling thread ---------------------------------------------------------------------

    def label(self, windows: WindowBatch, predictions: Predictions) -> LabelledWindows:
        """Smooth the predictions of ``windows`` and encode the labels and events."""
        bundle = self.classifier.bundle
        labelled = self.smoother.label(windows, predictions)
        for device, begins in labelled.changed.items():
            self._unfamiliar.put(UnfamiliarChanged(device, describe_unfamiliar(bundle) if begins else None))
        windows, smoothed = labelled.windows, labelled.smoothed
        payloads = labels.encode(windows, labelled.predictions, smoothed, bundle.published_labels, bundle.id)
        names = [bundle.published_labels[index] for index in smoothed.label.tolist()]
        return LabelledWindows(
            windows,
            labelled.predictions,
            smoothed,
            self.last_labels.update(windows.devices, names, smoothed.confidence.tolist(), windows.end_ns.tolist()),
            list(zip(map(self._labels_topic, windows.devices), payloads, strict=True)),
            self._encode_events(labelled.events),
        )

    def end_activities(self, devices: Sequence[str]) -> list[Publication]:
        """Forget the labels of evicted devices, and return the events that end their activities."""
        self._end_unfamiliar(devices)  # one that is back already begins without the problem
        self.last_labels.remove(devices)
        return self._encode_events(self.smoother.evict(devices))

    def give_up(self, devices: Sequence[str], *, go_on: bool = False) -> list[Publication]:
        """Forget the labels of devices that have another worker from now on, and return the events as above.

        Their retained labels stay: they are the other worker's. If it goes on with their activities, there is no event.
        """
        self._end_unfamiliar(devices)
        self.last_labels.give_up(devices)
        events = self.smoother.evict(devices)
        return [] if go_on else self._encode_events(events)

    def adopt(self, state: LabelState, devices: Sequence[str]) -> list[Publication]:
        """Go on with devices of another worker, whose state in the engine was taken over, and return the events.

        The activities of the other devices end, and those of all if labels, states or smoothing differ, as if the model
        had changed.
        """
        adopted = set(devices)
        last_labels = [entry for entry in state.last_labels if entry[0] in adopted]
        events = self._end_activities_of(state, [entry[0] for entry in state.last_labels if entry[0] not in adopted])
        if not adopted:
            return events
        if state.fits(self.classifier.bundle, self.smoother.smoothing):
            self.smoother.adopt(state.smoother)
        else:
            self.smoother.adopt_unfamiliar(state.smoother)
            events += self._end_activities_of(state, [entry[0] for entry in last_labels])
        self.last_labels.add(last_labels)
        return events

    def _end_activities_of(self, state: LabelState, devices: Sequence[str]) -> list[Publication]:
        """Return the events that end the activities of devices in a saved state, by the labels of its model."""
        return self._encode_events(state.smoother.evict(devices), state.outputs, state.model)

    def clearing_messages(self) -> list[Publication]:
        """Return the empty messages that clear the retained labels of evicted devices, in the order of eviction."""
        return [(self._labels_topic(device), b"") for device in self.last_labels.to_clear]

    def flush_events(self) -> list[Publication]:
        """Return the events that the smoother holds back. No activity ends."""
        return self._encode_events(self.smoother.flush())

    def change_model(self, classifier: Classifier, smoothing: Smoothing) -> list[Publication]:
        """Use another classifier, whose bundle needs the same windows, from the next window on.

        If labels, states or smoothing differ, what the smoother remembers of activities has no meaning for the new
        model. Every activity then ends; the returned events are these ends. A model that knows other signals judges
        every device anew.
        """
        bundle, before = classifier.bundle, self.classifier.bundle
        if bundle.familiar != before.familiar:
            self._end_unfamiliar(None)
        events: list[Publication] = []
        if (bundle.labels, bundle.states) != (before.labels, before.states) or smoothing != self.smoother.smoothing:
            old, self.smoother = self.smoother, bundle.smoother(smoothing)
            self.smoother.adopt_unfamiliar(old)
            events = self._encode_events(old.evict(self.last_labels.devices))
        self.classifier = classifier
        self.last_labels.add_labels(bundle.published_labels)
        return events

    def snapshot_labels(self, devices: Sequence[str] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the state of the labelling thread, of some devices or all: JSON values, and arrays by name."""
        bundle = self.classifier.bundle
        facts = {
            "model": bundle.id,
            "labels": bundle.labels,
            "states": bundle.states,
            "smoothing": self.smoother.smoothing.to_dict(),
            "last_labels": self.last_labels.to_list(devices),
            "to_clear": list(self.last_labels.to_clear) if devices is None else [],
            "labels_topic": self.labels_template.text,
            "events_topic": None if self._events_template is None else self._events_template.text,
        }
        return facts, {f"smoother {name}": array for name, array in self.smoother.snapshot(devices).items()}

    def _end_unfamiliar(self, devices: Sequence[str] | None) -> None:
        for device in self.smoother.forget_unfamiliar(devices):
            self._unfamiliar.put(UnfamiliarChanged(device, None))

    def _encode_events(
        self, events: Sequence[ActivityEvent], outputs: Sequence[str] | None = None, model: str = ""
    ) -> list[Publication]:
        """Return the messages of events, by the outputs of the bundle in use or of another model."""
        bundle = self.classifier.bundle
        outputs, model = (bundle.outputs, bundle.id) if outputs is None else (outputs, model)
        if self.history is not None:
            self.history.add_events(events, outputs)
        if self._events_template is None:
            return []
        topic = self._events_template.topic
        return [(topic(event.device), labels.encode_event(event, outputs, model)) for event in events]


def describe_unfamiliar(bundle: Bundle) -> str:
    """Return one line for people about a device whose windows are mostly unfamiliar."""
    place = f" ({bundle.placement})" if bundle.placement else ""
    return (
        f"most of its windows are unlike everything that {bundle.id} was trained on; wear it as the training data were "
        f"recorded{place}, check its axes and units, or use another model"
    )
