"""The labelling thread: batches across pipelines, and retained labels that are cleared."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from harstream.core.batches import SampleBatch, WindowBatch
from harstream.datasets.base import Recording
from harstream.serve.labelling import DevicesEvicted, Labelling, PipelineWindows, WindowsDue
from harstream.serve.metrics import DaemonMetrics
from harstream.serve.pipeline import Pipeline, Publication
from harstream.serve.status import DaemonStatus

from .daemons import WrappedClassifier, make_config


class Broker:
    """Accepts as many messages as there is room for."""

    def __init__(self) -> None:
        self.room = 1_000_000
        self.accepted: list[Publication] = []

    def publish(self, messages: list[Publication], *, retain: bool) -> int:
        accepted = messages[: self.room]
        self.room -= len(accepted)
        self.accepted += accepted
        return len(accepted)

    def topics(self) -> list[str]:
        return [topic for topic, _ in self.accepted]


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def labelling(bundle, broker) -> Labelling:
    """Not started: the tests call its steps themselves, except where they start it."""
    metrics = DaemonMetrics(["source1"], lambda: DaemonStatus(()))
    metrics.set_model("source1", bundle, "litert")
    return Labelling(broker.publish, metrics, time.monotonic, on_failure=lambda: None)


@pytest.fixture
def make_pipeline(classifier) -> Callable[..., Pipeline]:
    def make(used=classifier, **settings) -> Pipeline:
        config = make_config(events_topic="off", **settings)
        return Pipeline(config, config.sources[0], used)

    return make


def windows_of(pipeline: Pipeline, subjects: list[Recording]) -> WindowBatch:
    batches = [SampleBatch.from_message(one.name, one.samples, t_ns=0, rate_hz=50) for one in subjects]
    return WindowBatch.concatenate([pipeline.engine.feed(batch) for batch in batches])


def due_now(pipeline: Pipeline, windows: WindowBatch) -> WindowsDue:
    return WindowsDue([PipelineWindows(pipeline, windows, np.full(len(windows), time.monotonic()))])


class FindsUnfamiliar(WrappedClassifier):
    """Classifier to which the first window of each batch is unfamiliar, and the last one too."""

    def predict(self, windows):
        unfamiliar = np.isin(np.arange(len(windows)), [0, len(windows) - 1])
        return replace(super().predict(windows), unfamiliar=unfamiliar)


def test_unfamiliar_windows_stay_with_their_pipeline(labelling, broker, make_pipeline, classifier, subjects):
    shared = FindsUnfamiliar(classifier)
    pipelines = [make_pipeline(shared, labels_topic=f"{letter}/{{device}}", smoothing="none") for letter in "ab"]
    labelling.label([due_now(pipeline, windows_of(pipeline, subjects[:2])) for pipeline in pipelines])
    names = {letter: [json.loads(p)["label"] for t, p in broker.accepted if t.startswith(letter)] for letter in "ab"}
    n_windows = len(names["a"])
    assert [i for i, name in enumerate(names["a"]) if name == "UNKNOWN"] == [0]
    assert [i for i, name in enumerate(names["b"]) if name == "UNKNOWN"] == [n_windows - 1]


def test_windows_of_pipelines_with_one_classifier_make_one_batch(
    labelling, broker, make_pipeline, classifier, subjects
):
    shared = WrappedClassifier(classifier)
    other = WrappedClassifier(classifier)
    pipelines = [
        make_pipeline(shared, labels_topic="a/{device}"),
        make_pipeline(shared, labels_topic="b/{device}"),
        make_pipeline(other, labels_topic="c/{device}"),
    ]
    due = [due_now(pipeline, windows_of(pipeline, subjects[:2])) for pipeline in pipelines]
    more = due_now(pipelines[0], windows_of(pipelines[0], subjects[2:3]))
    labelling.label([*due, more])
    n_windows, n_more = len(due[0].parts[0].windows), len(more.parts[0].windows)
    assert shared.batch_sizes == [2 * n_windows + n_more]
    assert other.batch_sizes == [n_windows]
    assert labelling.windows_classified == 3 * n_windows + n_more
    # The same windows have the same labels, whatever else is in their batch.
    payloads = {letter: [p for topic, p in broker.accepted if topic.startswith(letter)] for letter in "abc"}
    assert payloads["a"][:n_windows] == payloads["b"] == payloads["c"]
    assert [topic for topic in broker.topics() if topic.startswith("b/")] == [
        f"b/{d}" for d in due[1].parts[0].windows.devices
    ]


def test_windows_that_wait_are_labelled_as_one_batch_up_to_an_eviction(labelling, make_pipeline, classifier, subjects):
    counting = WrappedClassifier(classifier)
    pipeline = make_pipeline(counting)
    parts = [windows_of(pipeline, [subject]) for subject in subjects[:4]]
    labelling.hand_over(due_now(pipeline, parts[0]))
    labelling.hand_over(due_now(pipeline, parts[1]))
    assert not labelling.hand_over(due_now(pipeline, parts[2]), timeout_s=0)  # bounded
    labelling.start()
    labelling.finish()
    assert counting.batch_sizes == [len(parts[0]) + len(parts[1])]


def test_labels_that_the_broker_does_not_accept_are_cleared_later(labelling, broker, make_pipeline, subjects):
    pipeline = make_pipeline()
    labelling.label([due_now(pipeline, windows_of(pipeline, subjects[:3]))])
    names = [subject.name for subject in subjects[:3]]
    broker.accepted.clear()
    for room, devices, cleared in ((1, names, names[:1]), (0, [], names[:1]), (9, [], names)):
        broker.room = room
        labelling.evict(pipeline, devices)
        assert broker.accepted == [(f"wearables/{name}/activity", b"") for name in cleared]
    assert not pipeline.last_labels.to_clear


def test_the_label_of_a_device_that_is_back_is_not_cleared(labelling, broker, make_pipeline, subjects):
    pipeline = make_pipeline()
    windows = windows_of(pipeline, subjects[:2])
    labelling.label([due_now(pipeline, windows)])
    broker.room = 0
    labelling.evict(pipeline, [subject.name for subject in subjects[:2]])
    broker.room = 1_000_000
    back = np.array([device == subjects[0].name for device in windows.devices])
    pipeline.last_labels.update([subjects[0].name], [pipeline.classifier.bundle.labels[0]], [1.0], [0])
    assert back.any()
    broker.accepted.clear()
    labelling.evict(pipeline, [])
    assert broker.accepted == [(f"wearables/{subjects[1].name}/activity", b"")]


def test_evictions_follow_the_windows_before_them(labelling, broker, make_pipeline, subjects):
    pipeline = make_pipeline()
    windows = windows_of(pipeline, subjects[:1])
    labelling.hand_over(due_now(pipeline, windows))
    labelling.hand_over(DevicesEvicted(pipeline, [subjects[0].name]))
    labelling.start()
    labelling.finish()
    assert len(broker.accepted) == len(windows) + 1
    assert broker.accepted[-1] == (f"wearables/{subjects[0].name}/activity", b"")


def test_an_eviction_from_before_a_crash_that_the_broker_knows_clears_no_label_again(
    labelling, broker, make_pipeline, subjects
):
    pipeline, devices = make_pipeline(), [subject.name for subject in subjects[:2]]
    labelling.label([replace(due_now(pipeline, windows_of(pipeline, subjects[:2])), known=True)])
    labelling.evict(pipeline, devices, publish=False)
    labelling.evict(pipeline, [])
    assert broker.accepted == []
    assert pipeline.last_labels.devices == []
