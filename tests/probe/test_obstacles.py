"""Messages that cannot be labelled: what is said of them."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from harstream.core.batches import Float32
from harstream.probe.findings import examine
from harstream.wire.decoder import Message

from ..wire.shapes import G
from . import devices
from .test_shapes import PHONE


def linear(t_ns: int, _: float, samples: Float32, device: str) -> bytes:
    x, y, z = (G * (samples[0, :3] - [1, 0, 0])).tolist()
    return devices.dumps({"t": t_ns / 1e9, "userAcceleration": {"x": x, "y": y, "z": z}})


def motion(t_ns: int, _: float, samples: Float32, device: str) -> bytes:
    x, y, z = (samples[0, :3] - [1, 0, 0]).tolist()
    return devices.dumps({"userAcceleration": {"x": x, "y": y, "z": z}, "gravity": {"x": 1.0, "y": 0.0, "z": 0.0}})


def magnetometer(t_ns: int, _: float, samples: Float32, device: str) -> bytes:
    return devices.dumps({"mag": {"x": 31.5, "y": -12.0, "z": 40.25}})


def of_type(name: str, columns: slice, t_ns: int, _: float, samples: Float32, device: str) -> bytes:
    x, y, z = samples[0, columns].tolist()
    return devices.dumps({"sensor": name, "t": t_ns / 1e9, "x": x, "y": y, "z": z})


def axis(column: int, t_ns: int, _: float, samples: Float32, device: str) -> bytes:
    return str(float(samples[0, column])).encode()


CASES: dict[str, tuple[Any, str]] = {
    "linear acceleration": (linear, "acceleration without gravity: send it with gravity"),
    "gravity apart": (motion, "send their sum"),
    "another sensor": (magnetometer, "values of another sensor"),
    "a gyroscope alone": (
        lambda *a: devices.dumps({"gyro": dict(zip("xyz", a[2][0, 3:].tolist(), strict=True))}),
        "a gyroscope alone",
    ),
    "a number": (devices.constant(b"23.5"), "a single value, the number 23.5"),
    "text": (devices.constant(b"hello"), "text that holds no columns of numbers: 'hello'"),
    "lines of JSON": (devices.constant(b'{"a": 1}\n{"a": 2}'), "several documents in one message"),
    "bytes": (devices.constant(b"\x00\x01\x02"), "neither text, CBOR nor MessagePack"),
    "nothing": (devices.constant(b""), "the messages are empty"),
    "damaged gzip": (devices.constant(b"\x1f\x8b\x08\x00"), "gzip"),
    "no accelerometer": (devices.constant(b'{"state": "ON", "brightness": 20}'), "no three values x, y and z"),
    "an accelerometer in no unit": (
        lambda t, r, x, d: devices.dumps({"accel": (40 * x[0, :3]).tolist()}),
        "that of gravity in no unit",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_reason_is_said(name: str):
    shape, expected = CASES[name]
    findings = examine(devices.heard(shape, "a/b1", per_message=1, seconds=4.0), PHONE)
    assert findings.sources == []
    (other,) = findings.others
    assert expected in other.reason
    assert other.topics == ("a/b1",)


def test_sensors_told_apart_by_a_text():
    streams = [
        devices.heard(partial(of_type, name, columns), "sensors", per_message=1)
        for name, columns in (("accelerometer", slice(0, 3)), ("gyroscope", slice(3, 6)))
    ]
    findings = examine(devices.together(*streams), PHONE)
    assert findings.sources == []
    assert "sensor = 'accelerometer'" in findings.others[0].reason


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("largest", [1e308, 1e200, 1e13])
def test_numbers_that_no_sensor_sends_are_no_accelerometer(largest: float):
    for value in ({"acc": [0, 1, largest]}, {"acc": [[0, 1, largest]]}, {"ax": 0, "ay": 1, "az": -largest}):
        findings = examine(devices.heard(devices.constant(devices.dumps(value)), "a/b1", per_message=1), PHONE)
        assert findings.sources == []
        assert "no accelerometer" in findings.others[0].reason


def test_one_axis_a_message():
    streams = [devices.heard(partial(axis, n), f"d/acc/{'xyz'[n]}", per_message=1) for n in range(3)]
    findings = examine(devices.together(*streams), PHONE)
    assert findings.sources == []
    assert "send x, y and z in one message" in findings.others[0].reason


def test_what_a_daemon_publishes_and_what_is_retained_is_passed_over():
    label = devices.dumps({"t": 1.0, "label": "WALKING", "confidence": 1.0, "probabilities": {}, "model": "phone@2"})
    messages = [
        Message("wearables/w1/activity", label, 1.0),
        Message("harstream/x/status", b"online", 1.0),
        Message("imu/old", b'{"acc": [[0, 0, 1]]}', 1.0, retained=True),
    ]
    findings = examine(messages, PHONE)
    assert (findings.sources, findings.others) == ([], [])
    assert dict(findings.own) == {"wearables/w1/activity": 1, "harstream/x/status": 1}
    assert dict(findings.retained) == {"imu/old": 1}
    assert findings.messages == 2


def test_no_message_at_all():
    findings = examine([], PHONE)
    assert (findings.sources, findings.others, findings.seconds) == ([], [], 0.0)
