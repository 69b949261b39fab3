"""Rejected messages: the log, and what is known of their devices."""

from __future__ import annotations

from harstream.core.problems import Problem
from harstream.serve import rejections as module
from harstream.serve.rejections import RejectedDevices, RejectionLog
from harstream.wire.reject import Rejection

from ..fakes import Clock, replace_monotonic


def rejection(reason: str = "shape", device: str = "w1", detail: str = "acc is missing") -> Rejection:
    return Rejection(f"t/{device}", reason, detail, device)


def test_rejections_are_logged_now_and_then_with_counts_and_the_last_one(monkeypatch, caplog):
    clock = Clock()
    replace_monotonic(monkeypatch, module, clock)
    log = RejectionLog()
    bad = Rejection("t/" + "x" * 1000, "shape", "acc is missing")
    log.add([bad])
    log.add([bad, bad, rejection(device="a")])
    clock.now_s += 20
    log.add([bad, rejection("json", "b", "not JSON")])
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert lines[0].startswith("rejected messages, by reason: shape 1. An example (shape) is on topic 't/xxx")
    assert len(lines[0]) < 500
    assert lines[1] == (
        "rejected messages of 2 devices, by reason: shape 4, json 1. "
        "An example (json) is of device 'b' on topic 't/b': not JSON"
    )


def test_each_device_with_rejected_messages_is_shown_in_its_turn(monkeypatch, caplog):
    clock = Clock()
    replace_monotonic(monkeypatch, module, clock)
    log = RejectionLog()
    for _ in range(40):
        for device in ("a", "b", "c", "loud"):
            log.add([rejection(device=device)])
        clock.now_s += 1
    assert [line.split("'")[1] for line in caplog.messages] == ["a", "loud", "c", "b"]


def test_nothing_that_a_device_sent_disturbs_a_terminal(caplog):
    RejectionLog().add([rejection(device="a\u202eb", detail="unit is '\x1b[2J\u2066'")])
    assert caplog.messages[0].isprintable()
    assert r"of device 'a\u202eb'" in caplog.messages[0]
    assert r"\x1b[2J\u2066" in caplog.messages[0]


def test_some_reasons_are_problems_of_the_device_and_begin_once():
    devices = RejectedDevices()
    reasons = ["json", "gyroscope", "time", "rate", "time"]
    incidents = devices.add([rejection(reason) for reason in reasons], 1e9, 0.0)
    assert [(one.device, one.problem) for one in incidents] == [
        ("w1", Problem.GYROSCOPE),
        ("w1", Problem.STAMPS),
        ("w1", Problem.RATE),
    ]
    assert devices.add([rejection("time", detail="t is in ms")], 1e9 + 5, 5.0) == []
    assert devices.masks() == {"w1": Problem.GYROSCOPE | Problem.STAMPS | Problem.RATE}
    times = {one.reason: one for one in devices.snapshot()["w1"]}["time"]
    assert (times.count, times.first_s, times.last_s) == (3, 1e9, 1e9 + 5)
    assert times.text == "3 messages rejected (time): t is in ms"


def test_each_reason_is_forgotten_when_it_does_not_come_again():
    devices = RejectedDevices()
    devices.add([rejection("time"), rejection("json"), rejection("json", "w2")], 1e9, 0.0)
    devices.add([rejection("json")], 1e9, 50.0)
    devices.forget(40.0)
    assert {device: [one.reason for one in reasons] for device, reasons in devices.snapshot().items()} == {
        "w1": ["json"]
    }
    assert devices.add([rejection("time")], 1e9, 60.0)  # it begins again
    devices.forget(100.0)
    assert len(devices) == 0


def test_the_devices_rejected_last_are_remembered(monkeypatch):
    monkeypatch.setattr(module, "MAX_DEVICES", 3)
    devices = RejectedDevices()
    for name in ("a", "b", "c", "a", "d", ""):
        devices.add([rejection(device=name)], 1e9, 0.0)
    assert list(devices.snapshot()) == ["c", "a", "d"]
    assert not devices.get("b")


def test_what_is_remembered_of_rejections_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_REASONS", 100)
    devices = RejectedDevices()
    for number in range(500):
        devices.add(
            [rejection(reason, f"d{number}") for reason in ("json", "time", "rate", "json")], 1e9, float(number)
        )
        assert sum(map(len, devices.snapshot().values())) <= 100
    assert list(devices.snapshot()) == [f"d{number}" for number in range(467, 500)]
    devices.forget(480.0)
    assert len(devices) == 20
    devices.add([rejection("json", f"new{number}") for number in range(40)], 1e9, 600.0)
    assert len(devices) == 60  # 60 + 40 reasons
    devices.add([rejection("json", "one more")], 1e9, 600.0)
    assert len(devices) == 60
