"""Pipeline: the objects that serve one source of samples, from its messages to its labels."""

from __future__ import annotations

import logging
import queue
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

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
from harstream.serve.rejections import RejectionLog
from harstream.wire import labels
from harstream.wire.decoder import Decoder, Message
from harstream.wire.labels import are_in_a_row
from harstream.wire.reject import Rejection
from harstream.wire.samples import Units

log = logging.getLogger("harstream")

#: A topic and a payload.
Publication = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class LabelledWindows:
    """Labels of a batch of windows, and what is to be published about them."""

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

    def __init__(self, config: RunConfig, classifier: Classifier) -> None:
        bundle = classifier.bundle
        self.source = "source1"  # name in the API
        # Used by the main loop.
        self.decoder = Decoder(
            config.samples_template,
            needs_gyro=bundle.spec.uses_gyro,
            units=Units(config.acc_unit, config.gyro_unit),
            max_payload_bytes=config.max_payload_bytes,
            payload=config.payload_config,
        )
        self.engine = Engine(bundle.spec, max_devices=config.max_devices)
        self._rejection_log = RejectionLog()
        # Used by the labelling thread.
        self.classifier = classifier
        self.smoother = bundle.smoother(config.smoothing_of(bundle.smoothing))
        self.last_labels = LastLabels(bundle.published_labels)
        # From the labelling thread to the main loop, which empties it once a second. It has the changes of that time.
        self._unfamiliar: queue.SimpleQueue[UnfamiliarChanged] = queue.SimpleQueue()
        self._labels_topic = config.labels_template.topic
        self._events_topic = None if config.events_template is None else config.events_template.topic

    # --- main loop ----------------------------------------------------------------------------

    def decode(self, messages: Sequence[Message]) -> tuple[SampleBatch, list[Rejection]]:
        """Decode messages. Malformed ones are returned as rejections, and logged from time to time."""
        batch, rejections = self.decoder.decode(messages)
        if rejections:
            self._rejection_log.add(rejections)
        for note in self.decoder.take_notes():
            log.warning("%s", note)
        return batch, rejections

    def restore(self, restored: Restored, now_s: float) -> list[Publication]:
        """Take over the state of an earlier daemon, before any other call.

        Labels, states or smoothing may differ, as if the model had changed: every activity then ends. The events that
        tell so are returned.

        Raises:
            ConfigError: The state is of a model with other windows.

        """
        facts, arrays, bundle = restored.facts, restored.arrays, self.classifier.bundle
        try:
            self.engine.restore(_part(arrays, "engine"), now_s)
        except ValueError as error:
            raise ConfigError(
                f"state-dir: its windows are those of {facts['model']}, but {bundle.id} needs others ({error}); start "
                "with the old model, or move the folder away and begin without state"
            ) from error
        self.last_labels.restore(facts["last_labels"], facts["to_clear"])
        names, states = tuple(facts["labels"]), tuple(facts["states"])
        old = replace(bundle, labels=names, states=states).smoother(Smoothing.from_dict(facts["smoothing"]))
        old.restore(_part(arrays, "smoother"))
        if facts["model"] != bundle.id:  # it may know other signals
            old.forget_unfamiliar()
        self._restore_unfamiliar(old)
        if (names, states) == (bundle.labels, bundle.states) and old.smoothing == self.smoother.smoothing:
            self.smoother = old
            return []
        self.smoother.adopt_unfamiliar(old)
        log.warning(
            "state-dir: it is of %s, whose labels or smoothing differ from those of %s; every activity ends",
            facts["model"],
            bundle.id,
        )
        return self._encode_events(old.evict(self.last_labels.devices), (*names, *states), facts["model"])

    def _restore_unfamiliar(self, smoother: Smoother) -> None:
        """Let the engine agree with the smoother on unfamiliar devices; a change may have been on its way to it."""
        detail = _describe_unfamiliar(self.classifier.bundle)
        found = smoother.unfamiliar_devices()
        for device in set(self.engine.devices_with(Problem.UNFAMILIAR)) - set(found):
            self._unfamiliar.put(UnfamiliarChanged(device, None))
        for device in found:
            self._unfamiliar.put(UnfamiliarChanged(device, detail))

    def take_unfamiliar(self) -> list[UnfamiliarChanged]:
        """Return the changes since the last call, in order."""
        return [self._unfamiliar.get() for _ in range(self._unfamiliar.qsize())]  # only the main loop takes

    # --- labelling thread ---------------------------------------------------------------------

    def label(self, windows: WindowBatch, predictions: Predictions) -> LabelledWindows:
        """Smooth the predictions of ``windows`` and encode the labels and events."""
        bundle = self.classifier.bundle
        labelled = self.smoother.label(windows, predictions)
        for device, begins in labelled.changed.items():
            self._unfamiliar.put(UnfamiliarChanged(device, _describe_unfamiliar(bundle) if begins else None))
        windows, smoothed = labelled.windows, labelled.smoothed
        payloads = labels.encode(windows, labelled.predictions, smoothed, bundle.published_labels, bundle.id)
        names = [bundle.published_labels[index] for index in smoothed.label.tolist()]
        return LabelledWindows(
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

    def give_up(self, devices: Sequence[str]) -> list[Publication]:
        """Forget the labels of devices that have another worker from now on, and return the events as above.

        Their retained labels stay: they are the other worker's.
        """
        self._end_unfamiliar(devices)
        self.last_labels.give_up(devices)
        return self._encode_events(self.smoother.evict(devices))

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

    def snapshot_labels(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the state of the labelling thread: JSON values, and arrays by name."""
        bundle = self.classifier.bundle
        facts = {
            "model": bundle.id,
            "labels": bundle.labels,
            "states": bundle.states,
            "smoothing": self.smoother.smoothing.to_dict(),
            "last_labels": self.last_labels.to_list(),
            "to_clear": list(self.last_labels.to_clear),
        }
        return facts, {f"smoother {name}": array for name, array in self.smoother.snapshot().items()}

    def _end_unfamiliar(self, devices: Sequence[str] | None) -> None:
        for device in self.smoother.forget_unfamiliar(devices):
            self._unfamiliar.put(UnfamiliarChanged(device, None))

    def _encode_events(
        self, events: Sequence[ActivityEvent], outputs: Sequence[str] | None = None, model: str = ""
    ) -> list[Publication]:
        """Return the messages of events, by the outputs of the bundle in use or of another model."""
        if self._events_topic is None:
            return []
        bundle = self.classifier.bundle
        outputs, model = (bundle.outputs, bundle.id) if outputs is None else (outputs, model)
        return [(self._events_topic(event.device), labels.encode_event(event, outputs, model)) for event in events]


def _describe_unfamiliar(bundle: Bundle) -> str:
    place = f" ({bundle.placement})" if bundle.placement else ""
    return (
        f"most of its windows are unlike everything that {bundle.id} was trained on; wear it as the training data were "
        f"recorded{place}, check its axes and units, or use another model"
    )


def _part(arrays: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return the arrays of one part of a checkpoint, by their names in it."""
    return {name.removeprefix(f"{part} "): array for name, array in arrays.items() if name.startswith(f"{part} ")}


class LastLabel(NamedTuple):
    """Last published label of a device."""

    label: str
    confidence: float
    since_ns: int  # event time of the first of the equal labels in a row
    t_ns: int  # event time of the label


class LastLabels:
    """Last published label of each device of a source. The broker retains it until it is cleared.

    It belongs to one thread. Other threads may call `get`, and may copy `counts`.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self.counts: dict[str, int] = dict.fromkeys(labels, 0)  # label to the number of devices that have it
        self.to_clear: dict[str, None] = {}  # evicted devices whose label the broker still retains, in order
        self._labels: dict[str, LastLabel] = {}  # by device; an entry is replaced, never changed

    @property
    def devices(self) -> list[str]:
        """Devices that have a label."""
        return list(self._labels)

    def get(self, device: str) -> LastLabel | None:
        """Return the last label of a device; None before its first."""
        return self._labels.get(device)

    def add_labels(self, labels: Iterable[str]) -> None:
        """Add the labels of another model."""
        for label in labels:
            self.counts.setdefault(label, 0)

    def update(
        self, devices: Sequence[str], labels: Sequence[str], confidences: Sequence[float], end_ns: Sequence[int]
    ) -> Counter[str]:
        """Set the labels of devices, in order, and count the changes by new label. A first label is no change."""
        changes: Counter[str] = Counter()
        for device, label, confidence, t_ns in zip(devices, labels, confidences, end_ns, strict=True):
            before = self._labels.get(device)
            if before is not None and before.label == label:
                since_ns = before.since_ns if are_in_a_row(before.t_ns / 1e9, t_ns / 1e9) else t_ns
                self._labels[device] = LastLabel(label, confidence, since_ns, t_ns)
                continue
            self._labels[device] = LastLabel(label, confidence, t_ns, t_ns)
            self.counts[label] += 1
            if before is None:
                self.to_clear.pop(device, None)  # the device is back, and its new label replaces the old one
            else:
                self.counts[before.label] -= 1
                changes[label] += 1
        return changes

    def remove(self, devices: Iterable[str]) -> None:
        """Remove evicted devices. Their retained labels are then to be cleared."""
        n_before = len(self._labels)
        for device in devices:
            last = self._labels.pop(device, None)
            if last is not None:
                self.counts[last.label] -= 1
                self.to_clear[device] = None
        if 2 * len(self._labels) < n_before:  # a dict gives no memory back
            self._labels = dict(self._labels)

    def to_list(self) -> list[Any]:
        """Return the labels as JSON: device, label, confidence, beginning, and time."""
        return [[device, *last] for device, last in self._labels.items()]

    def restore(self, labels: Iterable[Any], to_clear: Iterable[str]) -> None:
        """Take over what ``to_list`` returned, and the devices whose labels were to be cleared."""
        for device, label, confidence, since_ns, t_ns in labels:
            self._labels[device] = LastLabel(label, confidence, since_ns, t_ns)
            self.counts[label] = self.counts.get(label, 0) + 1
        self.to_clear = dict.fromkeys(to_clear)

    def give_up(self, devices: Sequence[str]) -> None:
        """Remove devices whose retained labels are not ours any more."""
        self.remove(devices)
        for device in devices:
            self.to_clear.pop(device, None)

    def mark_cleared(self, number: int) -> None:
        """Note that the broker has cleared the labels of the first ``number`` devices of ``to_clear``."""
        self.to_clear = dict.fromkeys(list(self.to_clear)[number:])
