"""Objects that belong to one source: the last label of each device."""

from __future__ import annotations

from collections import Counter

import pytest

from harstream.config import RunConfig
from harstream.serve.pipeline import LastLabels, Pipeline
from harstream.wire.decoder import Message


def update(last: LastLabels, devices: list[str], labels: list[str]) -> Counter[str]:
    return last.update(devices, labels, [0.5] * len(devices), [10**9] * len(devices))


def test_a_field_that_looks_like_a_mistake_is_logged_once(classifier, caplog):
    pipeline_ = Pipeline(RunConfig(instance="i"), classifier)
    payload = b'{"ax":0,"ay":0,"az":1,"gx":0,"gy":0,"gz":0,"rate_hz":50,"timestamp":"noon"}'
    for _ in range(3):
        pipeline_.decode([Message("wearables/a\xe2\u202e/imu", payload, 5.0)])
    assert [record.getMessage() for record in caplog.records] == [
        "device 'a\xe2\\u202e': field 'timestamp' is 'noon', not a time since 1970, and is ignored: "
        "send the time of the first sample as t (seconds since 1970), t_ms, t_us or t_ns"
    ]


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
