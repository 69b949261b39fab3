"""Objects that belong to one source: the last label of each device, and the log of rejections."""

from __future__ import annotations

from harstream.config import RunConfig
from harstream.serve import pipeline
from harstream.serve.pipeline import LastLabels, Pipeline, RejectionLog
from harstream.wire.decoder import Message
from harstream.wire.reject import Rejection

from ..fakes import Clock, replace_monotonic


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
    assert last.update(["a", "b", "a"], ["WALKING", "WALKING", "WALKING"]) == {}  # a first label is no change
    assert last.counts == {"WALKING": 2, "SITTING": 0, "UNKNOWN": 0}
    assert last.update(["a", "a", "b"], ["SITTING", "WALKING", "UNKNOWN"]) == {"SITTING": 1, "WALKING": 1, "UNKNOWN": 1}
    assert last.counts == {"WALKING": 1, "SITTING": 0, "UNKNOWN": 1}
    assert last.devices == ["a", "b"]


def test_labels_of_evicted_devices_are_to_be_cleared_until_they_are_or_the_device_is_back():
    last = LastLabels(["WALKING"])
    last.update(["a", "b", "c"], ["WALKING"] * 3)
    last.remove(["b", "never labelled", "a", "c"])
    assert last.counts == {"WALKING": 0}
    assert list(last.to_clear) == ["b", "a", "c"]
    last.update(["a"], ["WALKING"])
    assert list(last.to_clear) == ["b", "c"]
    last.mark_cleared(1)
    assert list(last.to_clear) == ["c"]


def test_labels_of_another_model_are_added_at_0():
    last = LastLabels(["WALKING"])
    last.update(["a"], ["WALKING"])
    last.add_labels(["WALKING", "RUNNING"])
    assert last.counts == {"WALKING": 1, "RUNNING": 0}


def test_rejections_are_logged_now_and_then_with_counts_and_the_last_one(monkeypatch, caplog):
    clock = Clock()
    replace_monotonic(monkeypatch, pipeline, clock)
    log = RejectionLog()
    bad = Rejection("t/" + "x" * 1000, "shape", "acc is missing")
    log.add([bad])
    log.add([bad, bad])
    clock.now_s += 20
    log.add([bad, Rejection("t/b", "json", "not JSON")])
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert lines[0].startswith("rejected messages by reason: shape 1. The last one, on topic 't/xxx")
    assert len(lines[0]) < 500
    assert lines[1] == ("rejected messages by reason: shape 3, json 1. The last one, on topic 't/b': json: not JSON")
