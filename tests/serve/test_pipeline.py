"""Objects that belong to one source: the last label of each device."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from harstream.classifier import Classifier, load_classifier, to_predictions
from harstream.config import RunConfig
from harstream.core.batches import SampleBatch, WindowBatch
from harstream.core.problems import Problem
from harstream.serve.durable.durability import Restored
from harstream.serve.last_labels import LastLabels
from harstream.serve.pipeline import Pipeline
from harstream.wire.decoder import Message

from ..constants import STATE_LABELS, STATES


def pipeline_of(config: RunConfig, classifier: Classifier) -> Pipeline:
    (source,) = config.sources
    return Pipeline(config, source, classifier)


def update(last: LastLabels, devices: list[str], labels: list[str]) -> Counter[str]:
    return last.update(devices, labels, [0.5] * len(devices), [10**9] * len(devices))


def test_a_field_that_looks_like_a_mistake_is_logged_once(classifier, caplog):
    pipeline_ = pipeline_of(RunConfig(instance="i"), classifier)
    payload = b'{"ax":0,"ay":0,"az":1,"gx":0,"gy":0,"gz":0,"rate_hz":50,"timestamp":"noon"}'
    for _ in range(3):
        pipeline_.decode([Message("wearables/a\xe2\u202e/imu", payload, 5.0)])
    assert [record.getMessage() for record in caplog.records] == [
        "device 'a\xe2\\u202e': field 'timestamp' is 'noon', not a time since 1970, and is ignored: "
        "send the time of the first sample as t (seconds since 1970), t_ms, t_us or t_ns"
    ]


def test_other_states_end_what_the_smoother_remembers(classifier, states_bundle):
    pipeline_ = pipeline_of(RunConfig(instance="i"), classifier)
    before = pipeline_.smoother
    pipeline_.change_model(classifier, before.smoothing)
    assert pipeline_.smoother is before
    with_states = load_classifier(states_bundle)
    pipeline_.change_model(with_states, before.smoothing)
    assert (pipeline_.smoother.n_labels, pipeline_.smoother.n_states) == (4, 2)
    other = Classifier(replace(with_states.bundle, states=STATES[::-1]), "litert", with_states._network)
    before = pipeline_.smoother
    pipeline_.change_model(other, before.smoothing)
    assert pipeline_.smoother is not before


def test_a_window_in_a_state_is_published_as_unknown_and_an_event_names_the_state(states_bundle):
    with_states = load_classifier(states_bundle)
    pipeline_ = pipeline_of(RunConfig(instance="i"), with_states)
    n = 3
    windows = WindowBatch(
        ["w1"] * n,
        np.zeros((n, 128, 9), np.float32),
        np.arange(n) * 1_280_000_000,
        np.arange(n) * 1_280_000_000 + 2_560_000_000,
        np.zeros(n),
        np.zeros(n, np.int64),
    )
    logits = np.eye(6, dtype=np.float32)[[1, 4, 2]] * 5  # sitting, getting up, standing
    labelled = pipeline_.label(windows, to_predictions(logits, 1.0, 4))
    messages = [json.loads(payload) for _, payload in labelled.labels]
    assert [message["label"] for message in messages] == ["SITTING", "UNKNOWN", "STANDING"]
    assert list(messages[1]["probabilities"]) == list(STATE_LABELS)
    assert messages[1]["confidence"] == max(messages[1]["probabilities"].values())
    events = [json.loads(payload) for _, payload in labelled.events]
    assert [(event["event"], event["label"]) for event in events] == [
        ("enter", "SITTING"),
        ("exit", "SITTING"),
        ("enter", "SIT_TO_STAND"),
        ("exit", "SIT_TO_STAND"),
        ("enter", "STANDING"),
    ]
    assert events[3]["duration_s"] == 1.28
    assert pipeline_.last_labels.counts == {**dict.fromkeys((*STATE_LABELS, "UNKNOWN"), 0), "STANDING": 1}


def test_last_labels_count_devices_and_changes():
    last = LastLabels(["WALKING", "SITTING", "UNKNOWN"])
    assert update(last, ["a", "b", "a"], ["WALKING", "WALKING", "WALKING"]) == {}  # a first label is no change
    assert last.counts == {"WALKING": 2, "SITTING": 0, "UNKNOWN": 0}
    assert update(last, ["a", "a", "b"], ["SITTING", "WALKING", "UNKNOWN"]) == {
        "SITTING": 1,
        "WALKING": 1,
        "UNKNOWN": 1,
    }
    assert last.counts == {"WALKING": 1, "SITTING": 0, "UNKNOWN": 1}
    assert last.devices == ["a", "b"]


def test_a_label_has_the_confidence_of_its_last_window_and_the_time_of_its_first():
    last = LastLabels(["WALKING", "SITTING"])
    last.update(["a"] * 3, ["SITTING", "WALKING", "WALKING"], [0.5, 0.6, 0.7], [1, 2, 3])
    assert last.get("a") == ("WALKING", 0.7, 2, 3)
    assert last.get("b") is None


def test_labels_of_evicted_devices_are_to_be_cleared_until_they_are_or_the_device_is_back():
    last = LastLabels(["WALKING"])
    update(last, ["a", "b", "c"], ["WALKING"] * 3)
    last.remove(["b", "never labelled", "a", "c"])
    assert last.counts == {"WALKING": 0}
    assert list(last.to_clear) == ["b", "a", "c"]
    update(last, ["a"], ["WALKING"])
    assert list(last.to_clear) == ["b", "c"]
    last.mark_cleared(1)
    assert list(last.to_clear) == ["c"]


def test_labels_of_another_model_are_added_at_0():
    last = LastLabels(["WALKING"])
    update(last, ["a"], ["WALKING"])
    last.add_labels(["WALKING", "RUNNING"])
    assert last.counts == {"WALKING": 1, "RUNNING": 0}


@pytest.mark.parametrize("t_ns", [1_700_000_000 * 10**9, 2 * 10**9])
def test_since_begins_again_when_the_clock_of_a_device_jumps(t_ns):
    last = LastLabels(["WALKING"])
    for at_ns in (10 * 10**9, 11 * 10**9):
        last.update(["a"], ["WALKING"], [1.0], [at_ns])
    assert last.get("a") == ("WALKING", 1.0, 10 * 10**9, 11 * 10**9)
    for at_ns in (t_ns, t_ns + 10**9):
        last.update(["a"], ["WALKING"], [1.0], [at_ns])
    assert last.get("a") == ("WALKING", 1.0, t_ns, t_ns + 10**9)


def unfamiliar_of(pipeline_: Pipeline) -> set[str]:
    """Return the devices of which the engine knows that they are unfamiliar, after the changes on their way to it."""
    for change in pipeline_.take_unfamiliar():
        if change.detail is None:
            pipeline_.engine.end_problem(change.device, Problem.UNFAMILIAR)
        else:
            pipeline_.engine.set_problem(change.device, Problem.UNFAMILIAR, change.detail)
    return set(pipeline_.engine.devices_with(Problem.UNFAMILIAR))


@pytest.mark.parametrize("model", ["same", "other version", "other smoothing"])
def test_a_restored_engine_agrees_with_the_smoother_on_unfamiliar_devices(classifier, model):
    before = pipeline_of(RunConfig(instance="i"), classifier)
    for device in ("begins", "ends"):
        before.engine.feed(SampleBatch.from_message(device, np.zeros((10, 6), np.float32), t_ns=0))
    before.engine.set_problem("ends", Problem.UNFAMILIAR, "its end was on the way when the state was saved")
    rows = before.smoother._rows_of(["begins", "ends"])
    before.smoother._unfamiliar.problem[rows[0]] = True
    facts, arrays = before.snapshot_labels()
    state = {f"engine {name}": array for name, array in before.engine.snapshot().items()}
    config, used = RunConfig(instance="i"), classifier
    if model == "other version":
        used = Classifier(replace(classifier.bundle, version="9.9.9"), "litert", classifier._network)
    elif model == "other smoothing":
        config = RunConfig(instance="i", smoothing="none")
    after = pipeline_of(config, used)
    after.restore(Restored(facts, arrays | state), 0.0)
    assert unfamiliar_of(after) == (set() if model == "other version" else {"begins"})
    assert set(after.smoother.unfamiliar_devices()) == unfamiliar_of(after)
