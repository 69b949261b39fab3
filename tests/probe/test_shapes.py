"""Settings for messages as public sketches and apps send them: they decode the very samples that were sent."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from harstream import bundle, shipped
from harstream.core.plausibility import ACC_UNIT_FACTORS, ACC_UNIT_NAMES
from harstream.probe.findings import Source, examine
from harstream.probe.trial import decode
from harstream.wire.decoder import Message

from ..wire import shapes
from . import devices

PHONE = bundle.load(shipped.find("phone")).spec
WAIST = bundle.load(shipped.find("waist")).spec
TO_G = dict(zip(ACC_UNIT_NAMES, ACC_UNIT_FACTORS, strict=True))

#: Name: shape, samples a message, settings beside topic and name, and whether messages have a gyroscope.
CASES: dict[str, tuple[Any, int, dict[str, Any], bool]] = {
    "flat columns": (shapes.flat_columns, 25, {}, False),
    "list of samples": (shapes.sample_list, 25, {}, False),
    "sensor-logger": (shapes.sensor_logger, 25, {}, True),
    "phyphox": (shapes.phyphox, 25, {"payload": "phyphox"}, True),
    "senml": (shapes.senml, 25, {}, True),
    "senml in CBOR": (shapes.senml_cbor, 25, {}, True),
    "cbor": (shapes.cbor, 25, {}, True),
    "msgpack": (shapes.msgpack, 25, {}, True),
    "gzip": (shapes.gzipped, 25, {}, True),
    "zstd": (shapes.zstd, 25, {}, True),
    "csv with a header": (
        shapes.csv,
        25,
        {"payload": "csv", "fields": {"columns": ("t", "ax", "ay", "az", "gx", "gy", "gz")}},
        True,
    ),
    "csv": (
        devices.line,
        1,
        {
            "payload": "csv",
            "gyro_unit": "deg/s",
            "fields": {"columns": ("t", "ax", "ay", "az", "gx", "gy", "gz")},
        },
        True,
    ),
    "wrapped lists": (
        shapes.wrapped_triples,
        25,
        {
            "payload": "fields",
            "gyro_unit": "deg/s",
            "fields": {"t": "meta.at", "acc": ("data.motion.a",), "gyro": ("data.motion.w",), "rate_hz": "meta.hz"},
        },
        True,
    ),
    "counts of MPU-6050": (
        devices.mpu_counts,
        1,
        {
            "payload": "fields",
            "acc_unit": "g",
            "gyro_unit": "deg/s",
            "fields": {
                "t": "ms",
                "t_unit": "ms",
                "acc": ("AcX", "AcY", "AcZ"),
                "gyro": ("GyX", "GyY", "GyZ"),
                "acc_scale": 1 / 16384,
                "gyro_scale": 0.007633587786,
            },
        },
        True,
    ),
    "counts of ADXL345": (
        devices.adxl_counts,
        1,
        {"payload": "fields", "acc_unit": "g", "fields": {"acc": ("x", "y", "z"), "acc_scale": 1 / 256}},
        False,
    ),
    "ThingsBoard": (devices.thingsboard, 1, {}, False),
    "accX to gycZ": (devices.cyclic, 1, {"gyro_unit": "deg/s"}, True),
    "lists of both sensors": (devices.two_lists, 1, {}, True),
    "nested": (
        devices.nested,
        1,
        {
            "payload": "fields",
            "fields": {
                "t": "uptime_s",
                "t_unit": "s",
                "acc": ("sensors.accel.x.value", "sensors.accel.y.value", "sensors.accel.z.value"),
            },
        },
        False,
    ),
    "flat list": (
        devices.flat_list,
        1,
        {"payload": "fields", "fields": {"acc": ("0", "1", "2"), "gyro": ("3", "4", "5")}},
        True,
    ),
    "names that say nothing": (
        devices.nameless,
        1,
        {"payload": "fields", "fields": {"t": "k", "acc": ("q.u",), "gyro": ("q.v",)}},
        True,
    ),
    "milliseconds in t": (
        devices.canonical_in_ms,
        1,
        {"payload": "fields", "fields": {"t": "t", "t_unit": "ms", "acc": ("ax", "ay", "az")}},
        False,
    ),
    "rows in MessagePack": (
        devices.packed_rows,
        25,
        {
            "payload": "fields",
            "gyro_unit": "deg/s",
            "fields": {"t": "0", "acc": ("1", "2", "3"), "gyro": ("4", "5", "6"), "samples": "data"},
        },
        True,
    ),
    "a list at the top": (
        devices.objects_at_top,
        25,
        {"payload": "fields", "fields": {"t": "ts", "acc": ("x", "y", "z"), "samples": "."}},
        False,
    ),
    "three lists": (
        devices.three_lists,
        25,
        {
            "payload": "fields",
            "fields": {"t": "ts", "acc": ("motion.0", "motion.1", "motion.2"), "rate_hz": "rate"},
        },
        False,
    ),
    "a list of sensors": (
        devices.by_sensor,
        25,
        {
            "payload": "fields",
            "fields": {"t": "time", "acc": ("sensors.1.data",), "gyro": ("sensors.0.data",), "rate_hz": "freq"},
        },
        True,
    ),
}


def probed(messages: list[Message], spec: Any = PHONE, **options: Any) -> Source:
    """Return the only source of messages."""
    findings = examine(messages, spec, **options)
    (source,) = findings.sources
    assert not findings.others
    return source


def plain(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in ("name", "topic")}


@pytest.mark.parametrize("name", CASES)
def test_settings_are_those_of_the_shape(name: str):
    shape, per_message, settings, has_gyro = CASES[name]
    source = probed(devices.heard(shape, "imu/w1", per_message=per_message))
    assert source.settings.topic == "imu/{device}"
    assert plain(source.settings.table()) == settings
    assert source.works
    assert (source.trial.accepted, sum(source.trial.rejected.values())) == (400 // per_message, 0)
    (device,) = source.trial.devices
    assert device.device == "w1"
    assert device.rate_hz == pytest.approx(50, rel=0.01)
    assert device.has_gyro == has_gyro
    assert device.windows > 0
    assert device.untrusted == 0
    assert device.problems == ()


@pytest.mark.parametrize("name", CASES)
def test_settings_decode_the_samples_that_were_sent(name: str):
    shape, per_message, _, has_gyro = CASES[name]
    messages = devices.heard(shape, "imu/w1", per_message=per_message)
    source = probed(messages)
    tried = decode(source.settings, messages, needs_gyro=has_gyro, max_bytes=2**18)
    sent = devices.walk(3, 50.0, 8.0)
    n = len(tried.batch.samples)
    assert n >= len(sent) - len(messages)  # a gyroscope with a clock of its own may leave out samples at the ends
    factor = TO_G[source.trial.devices[0].unit]
    if n == len(sent):
        np.testing.assert_allclose(tried.batch.samples[:, :3] * factor, sent[:, :3], atol=3e-3)
        if has_gyro:
            np.testing.assert_allclose(tried.batch.samples[:, 3:], sent[:, 3:], atol=0.1)  # it may be interpolated


def test_a_board_without_a_clock_is_told_so():
    source = probed(devices.heard(devices.adxl_counts, "imu/w1", per_message=1))
    (device,) = source.trial.devices
    assert not device.stamped
    assert device.clock_s == 0


def test_whole_seconds_are_a_problem_that_is_shown():
    source = probed(devices.heard(devices.tasmota, "tele/w1/SENSOR", per_message=1))
    assert source.settings.topic == "tele/{device}/SENSOR"
    assert source.settings.fields.acc_scale == 1 / 16384
    (device,) = source.trial.devices
    assert [problem.partition(":")[0] for problem in device.problems] == ["stamps"]


def test_the_model_decides_whether_a_gyroscope_is_needed():
    with_both = probed(devices.heard(shapes.cbor, "imu/w1"), WAIST)
    assert with_both.works
    without = probed(devices.heard(shapes.flat_columns, "imu/w1"), WAIST)
    assert not without.works
    assert without.trial.rejected == {"gyroscope": 16}


@pytest.mark.parametrize(("unit", "factor"), [("g", 1.0), ("m/s2", 9.80665), ("mg", 1000.0)])
def test_the_unit_of_accelerations_is_told_and_left_to_the_daemon(unit: str, factor: float):
    def shape(t_ns: int, *rest: Any) -> bytes:
        return devices.dumps(
            {"t": t_ns / 1e9, **dict(zip(("ax", "ay", "az"), (factor * rest[1][0, :3]).tolist(), strict=True))}
        )

    source = probed(devices.heard(shape, "imu/w1", per_message=1))
    assert plain(source.settings.table()) == {}
    assert source.trial.devices[0].unit == unit


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [1, -1])
def test_the_axis_that_carries_gravity(axis: int, sign: int):
    def lying(t_ns: int, *_: Any) -> bytes:
        acc = [0.0, 0.0, 0.0]
        acc[axis] = sign * 1.0
        return devices.dumps({"t": t_ns / 1e9, "acc": [acc]})

    (device,) = probed(devices.heard(lying, "imu/w1", per_message=1)).trial.devices
    assert device.up == f"{'+' if sign > 0 else '-'}{'xyz'[axis]}"
    assert device.up_share == pytest.approx(1)


def test_gaps_and_jitter():
    messages = devices.heard(partial(shapes.cbor), "imu/w1", per_message=5)
    (device,) = probed(messages[:20] + messages[30:]).trial.devices
    assert device.gaps == 1
    assert device.longest_gap_s == pytest.approx(1.0, abs=0.05)
    assert device.jitter_ms < 1


def at_rest(shape: devices.Shape, noise: float = 0.003) -> devices.Shape:
    """Return the shape of a device that lies still."""
    rng = np.random.default_rng(1)

    def make(t_ns: int, rate_hz: float, samples: Any, device: str) -> bytes:
        still = rng.normal([0, 0.99, 0, 0, 0, 0], noise, samples.shape)
        return shape(t_ns, rate_hz, still.astype(np.float32), device)

    return make


def test_the_unit_of_a_gyroscope_at_rest_is_doubtful():
    source = probed(devices.heard(at_rest(devices.cyclic, 0.0003), "imu/w1", per_message=1))
    (doubt,) = source.doubts
    assert doubt.startswith("unit of the gyroscope: rad/s, but deg/s is possible too")
    assert "turn the device" in doubt


def test_counts_at_rest_are_counts():
    source = probed(devices.heard(at_rest(devices.mpu_counts), "imu/w1", per_message=1))
    fields = source.settings.fields
    assert (fields.acc_scale, fields.gyro_scale) == (1 / 16384, 0.007633587786)
    assert "65.5 per deg/s or 32.8 per deg/s" in source.doubts[0]
    assert source.trial.devices[0].up == "+y"


def test_a_gyroscope_that_is_zero_is_doubtful():
    def shape(t_ns: int, *rest: Any) -> bytes:
        acc = dict(zip(("ax", "ay", "az"), rest[1][0, :3].tolist(), strict=True))
        return devices.dumps({"t": t_ns / 1e9, **acc, "gx": 0, "gy": 0, "gz": 0})

    source = probed(devices.heard(shape, "imu/w1", per_message=1))
    assert source.doubts == ("unit of the gyroscope: it is 0 throughout",)
