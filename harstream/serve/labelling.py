"""Labelling thread: classifies due windows and publishes their labels and events.

Inference runs in a thread of its own, so that the main loop decodes meanwhile. The thread takes all windows that wait
as one batch; it never waits for a batch to fill. Batches are small when there are few messages. When there are many,
the next batch grows while the present one is classified.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from harstream.classifier import Classifier
from harstream.core.batches import Float64, Predictions, WindowBatch
from harstream.core.smoothing_section import Smoothing
from harstream.serve.durable.durability import Checkpoint, Durability
from harstream.serve.durable.partition_store import Save
from harstream.serve.homeassistant import HomeAssistant
from harstream.serve.label_state import LabelState
from harstream.serve.metrics import DaemonMetrics
from harstream.serve.pipeline import LabelledWindows, Pipeline, Publication

#: Messages that may wait for the thread: while one batch of windows is classified, the next is ready. More would only
#: hide that inference does not keep up; the inbox is the place to wait, where waiting is bounded and counted.
_MAX_WAITING = 2
#: Windows up to which the main loop labels a batch itself if the thread has nothing to do: another thread would take
#: longer to wake up than it saves. While they are labelled, messages gather for a larger batch, which is the thread's.
_FEW_WINDOWS = 8


@dataclass(frozen=True, slots=True)
class PipelineWindows:
    """Windows of one pipeline that fell due."""

    pipeline: Pipeline
    windows: WindowBatch
    completed_s: Float64  # (n_windows,) monotonic time of arrival of the message that completed the window


@dataclass(frozen=True, slots=True)
class WindowsDue:
    """Windows that fell due by one batch of messages."""

    parts: Sequence[PipelineWindows]  # those of each pipeline that has some
    position: int = 0  # number of the last message whose windows these are, in durable mode; 0: it makes more
    known: bool = False  # the broker has their labels already, from before a crash

    def __len__(self) -> int:
        """Return the number of windows."""
        return sum([len(part.windows) for part in self.parts])


@dataclass(frozen=True, slots=True)
class DevicesEvicted:
    """Devices of one pipeline that were evicted. It follows the last windows of these devices.

    Without devices, it asks to clear the retained labels that the broker did not accept before.
    """

    pipeline: Pipeline
    devices: Sequence[str]
    known: bool = False  # the broker has the events and has cleared the labels already, from before a crash


@dataclass(frozen=True, slots=True)
class DevicesLost:
    """Devices of one pipeline that have another worker from now on. It follows the last windows of these devices."""

    pipeline: Pipeline
    devices: Sequence[str]  # those whose activities end here
    then: Callable[[], None]  # called when their last labels and events are published
    go_on: Sequence[str] = ()  # those whose activities go on with the other worker


@dataclass(frozen=True, slots=True)
class DevicesAdopted:
    """Devices of one pipeline that had another worker before. It comes before their first windows."""

    pipeline: Pipeline
    state: LabelState
    devices: Sequence[str]  # those that the engine has taken over; the activities of the others end


@dataclass(frozen=True, slots=True)
class PartitionDue:
    """State in the engine of the devices of one partition after the windows handed over before."""

    pipeline: Pipeline
    save: Save
    then: Callable[[Save], None]  # called when the state of the labelling thread is added


@dataclass(frozen=True, slots=True)
class ModelChanged:
    """Another model and smoothing for the windows of one pipeline that follow."""

    pipeline: Pipeline
    classifier: Classifier
    smoothing: Smoothing


@dataclass(frozen=True, slots=True)
class CheckpointDue:
    """State of the engines of all pipelines after the windows handed over before."""

    pipelines: Sequence[Pipeline]
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Stop:
    """End of the thread, after everything handed over before."""


Handover = (
    WindowsDue | DevicesEvicted | DevicesLost | DevicesAdopted | PartitionDue | ModelChanged | CheckpointDue | Stop
)


class Publish(Protocol):
    """Function that publishes messages to the broker."""

    def __call__(self, messages: Sequence[Publication], *, retain: bool) -> int:
        """Publish ``messages`` in order, and return how many were accepted, always the first ones."""
        ...


class Labelling:
    """Thread that classifies, smooths, encodes and publishes.

    Args:
        publish: Publishes messages.
        metrics: Observes each stage.
        monotonic: Clock of ``WindowsDue.completed_s``, by which the latency is measured.
        on_failure: Called in the thread when it ends with an error, which is then in ``failure``.
        durability: Gets positions and checkpoints in durable mode.
        homeassistant: Gets the devices that have a label, and those that have none any more.

    Attributes:
        on_labelled: Called with the labels of a batch after they are published; None: nobody watches.

    """

    def __init__(
        self,
        publish: Publish,
        metrics: DaemonMetrics,
        monotonic: Callable[[], float],
        on_failure: Callable[[], None],
        durability: Durability | None = None,
        homeassistant: HomeAssistant | None = None,
    ) -> None:
        self._publish = publish
        self._metrics = metrics
        self._monotonic = monotonic
        self._on_failure = on_failure
        self._durability = durability
        self._homeassistant = homeassistant
        self._waiting: queue.Queue[Handover] = queue.Queue(_MAX_WAITING)
        self._turn = threading.Lock()  # held by whoever labels: the thread, or the main loop itself
        self._thread = threading.Thread(target=self._run, name="labelling", daemon=True)
        self.on_labelled: Callable[[Pipeline, LabelledWindows], None] | None = None
        self.failure: BaseException | None = None
        self.windows_classified = 0

    # --- from other threads -------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def hand_over(self, item: Handover, timeout_s: float | None = None) -> bool:
        """Hand ``item`` to the thread, and wait for room if necessary. Return False if there was none in time.

        If the thread has nothing to do, a few windows are labelled at once, in the calling thread.
        """
        if isinstance(item, WindowsDue) and self._durability is None and self._label_here(item):
            return True
        try:
            self._waiting.put(item, timeout=timeout_s)
        except queue.Full:
            return False
        return True

    def _label_here(self, due: WindowsDue) -> bool:
        """Label a few windows in the calling thread, unless the labelling thread has to do something before.

        Not in durable mode, where publishing waits for the broker.
        """
        if len(due) > _FEW_WINDOWS or not self._thread.is_alive() or not self._turn.acquire(blocking=False):
            return False
        try:
            if self._waiting.unfinished_tasks or self.failure is not None:
                return False
            self.label([due])
        except BaseException as error:  # as in the thread
            self._fail(error)
        finally:
            self._turn.release()
        return True

    def hand_over_early(self, item: DevicesAdopted) -> None:
        """Hand ``item`` to the thread; before its start, which frees no room in the queue, it is done here."""
        if self._thread.is_alive() or self.failure is not None:
            self.hand_over(item)
        else:
            self.adopt(item)

    def finish(self) -> None:
        """Wait until everything that was handed over is labelled and published, then end the thread."""
        self._waiting.put(Stop())
        self._thread.join()

    # --- in the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while not isinstance(item := self._waiting.get(), Stop):
            if self.failure is None:  # else only so that the main loop does not block on a full queue
                try:
                    with self._turn:
                        self._do(item)
                except BaseException as error:
                    self._fail(error)
            self._waiting.task_done()

    def _fail(self, error: BaseException) -> None:
        """End labelling with an error, a bug. The main loop raises it again."""
        self.failure = error
        self._on_failure()

    def _do(self, item: Handover) -> None:
        match item:
            case WindowsDue() as first:
                self.label([first, *self._waiting_windows()])
            case DevicesEvicted(pipeline, devices, known):
                self.evict(pipeline, devices, publish=not known)
            case DevicesLost() as lost:
                self.lose(lost)
            case DevicesAdopted() as adopted:
                self.adopt(adopted)
            case PartitionDue(pipeline, save, then_save):
                then_save(self._complete(pipeline, save))
            case ModelChanged(pipeline, classifier, smoothing):
                self.change_model(pipeline, classifier, smoothing)
            case CheckpointDue(pipelines, checkpoint):
                self.save(pipelines, checkpoint)

    def _waiting_windows(self) -> list[WindowsDue]:
        """Return the windows that wait already. A larger batch takes only a little more time."""
        due: list[WindowsDue] = []
        waiting = self._waiting.queue  # only this thread removes items, so the first one stays until it is fetched
        while waiting and isinstance(waiting[0], WindowsDue):
            item = self._waiting.get()
            assert isinstance(item, WindowsDue)
            self._waiting.task_done()  # the first one is not done yet, so the thread still counts as busy
            due.append(item)
        return due

    def label(self, due: Sequence[WindowsDue]) -> None:
        """Classify windows and publish their labels, in order."""
        for known, items in itertools.groupby(due, lambda item: item.known):
            self._label([part for item in items for part in item.parts], publish=not known)
        if self._durability is not None and (position := max(item.position for item in due)):
            self._durability.note_labelled(position)

    def _label(self, due: Sequence[PipelineWindows], *, publish: bool) -> None:
        """Classify windows and, if ``publish``, publish their labels. Those of one classifier make one batch."""
        by_classifier: dict[Classifier, dict[Pipeline, list[PipelineWindows]]] = {}
        for part in due:
            by_classifier.setdefault(part.pipeline.classifier, {}).setdefault(part.pipeline, []).append(part)
        for classifier, by_pipeline in by_classifier.items():
            batches = [WindowBatch.concatenate([part.windows for part in parts]) for parts in by_pipeline.values()]
            predictions = self._classify(classifier, batches)
            for (pipeline, parts), windows, predicted in zip(by_pipeline.items(), batches, predictions, strict=True):
                completed_s = np.concatenate([part.completed_s for part in parts])
                labelled = pipeline.label(windows, predicted)
                if self._homeassistant is not None:
                    self._homeassistant.note_labelled(pipeline.source, windows.devices)
                if publish:
                    self._publish_labels(pipeline, labelled, completed_s)

    def _classify(self, classifier: Classifier, batches: Sequence[WindowBatch]) -> list[Predictions]:
        """Classify several batches as one, and return the predictions of each."""
        alone = len(batches) == 1
        windows = batches[0].windows if alone else np.concatenate([batch.windows for batch in batches])
        start_s = time.perf_counter()
        predictions = classifier.predict(windows)
        self._metrics.observe_classified(len(windows), time.perf_counter() - start_s)
        if alone:
            return [predictions]
        return predictions.split([len(batch) for batch in batches])

    def _publish_labels(self, pipeline: Pipeline, labelled: LabelledWindows, completed_s: Float64) -> None:
        n_published = self._publish(labelled.labels, retain=True)
        latency_s = self._monotonic() - completed_s
        self._metrics.observe_labelled(
            pipeline.source,
            pipeline.classifier.bundle.published_labels,
            labelled.smoothed,
            latency_s,
            changes=labelled.changes,
            n_dropped=len(labelled.labels) - n_published,
        )
        self._publish_events(labelled.events)
        self.windows_classified += len(labelled.labels)
        if self.on_labelled is not None:
            self.on_labelled(pipeline, labelled)

    def _publish_events(self, events: Sequence[Publication]) -> None:
        if events:
            self._metrics.observe_events(n_dropped=len(events) - self._publish(events, retain=False))

    def evict(self, pipeline: Pipeline, devices: Sequence[str], *, publish: bool = True) -> None:
        """End the activities of evicted devices, and clear their retained labels, which are out of date.

        Labels that the broker does not accept now are cleared at the next eviction.
        """
        events, clearing = pipeline.end_activities(devices), pipeline.clearing_messages()
        if self._homeassistant is not None:
            self._homeassistant.note_gone(pipeline.source, devices, for_good=True)
        if not publish:  # such a device may be back, with a label that is not published again
            pipeline.last_labels.mark_cleared(len(clearing))
            return
        self._publish_events(events)
        n_cleared = self._publish(clearing, retain=True)
        pipeline.last_labels.mark_cleared(n_cleared)

    def lose(self, item: DevicesLost) -> None:
        """End or leave the activities of devices that have another worker from now on."""
        self._publish_events(item.pipeline.give_up(item.devices))
        item.pipeline.give_up(item.go_on, go_on=True)
        if self._homeassistant is not None:
            self._homeassistant.note_gone(item.pipeline.source, [*item.devices, *item.go_on], for_good=False)
        item.then()

    def adopt(self, item: DevicesAdopted) -> None:
        """Go on with the activities of devices that had another worker."""
        self._publish_events(item.pipeline.adopt(item.state, item.devices))
        if self._homeassistant is not None:
            known = item.pipeline.last_labels
            labelled = [device for device in item.devices if known.get(device) is not None]
            self._homeassistant.note_labelled(item.pipeline.source, labelled)

    def _complete(self, pipeline: Pipeline, save: Save) -> Save:
        """Return the state of a partition with the part behind the classifier."""
        began_s = time.perf_counter()
        facts, arrays = pipeline.snapshot_labels(save.devices)
        facts, arrays = {**save.facts, **facts}, {**save.arrays, **arrays}
        return replace(save, facts=facts, arrays=arrays, cost_s=save.cost_s + time.perf_counter() - began_s)

    def change_model(self, pipeline: Pipeline, classifier: Classifier, smoothing: Smoothing) -> None:
        """Label the windows of ``pipeline`` with another model from now on."""
        self._publish_events(pipeline.change_model(classifier, smoothing))
        self._metrics.set_model(pipeline.source, classifier.bundle, classifier.backend)
        if self._homeassistant is not None:
            self._homeassistant.change_model(pipeline.source, classifier.bundle.published_labels, classifier.bundle.id)

    def save(self, pipelines: Sequence[Pipeline], checkpoint: Checkpoint) -> None:
        """Add the state behind the classifiers to a checkpoint, and let it be written."""
        assert self._durability is not None
        for pipeline in pipelines:
            checkpoint.add(pipeline.source, *pipeline.snapshot_labels())
        self._durability.save(checkpoint)

    def flush_events(self, pipeline: Pipeline) -> None:
        """Publish the events of ``pipeline`` that are held back. Call it only after ``finish``."""
        self._publish_events(pipeline.flush_events())
