"""Sensor Logger: messages of its phone and watch app."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harstream.wire.decoder import Decoder
from harstream.wire.payloads import PayloadConfig
from harstream.wire.reject import RejectError
from harstream.wire.sensor_logger import RawUnits
from harstream.wire.topics import TopicTemplate

from . import shapes
from .payload_checks import ROWS, T_NS, check_rejected, decoder, encoded, read, read_all, sent

G = shapes.G
TIME = 1751729987417535200
#: The example of a public server of the app (its README shows a message as it arrives from a phone).
MEASURED = [
    {"name": "accelerometer", "values": {"x": -0.032849, "y": -0.004899, "z": 0.089095}, "accuracy": 3, "time": TIME}
]
REAL = {
    "messageId": 27,
    "sessionId": "f08abd14-4a86-4913-8c33-f75269e862b9",
    "deviceId": "0e35011f-e2fe-482e-b9a1-1625bb039f37",
    "payload": MEASURED,
}


def message(*entries, **more):
    return {"messageId": 1, "sessionId": "s", "deviceId": "p1", "payload": list(entries), **more}


def entry(name, x=0.0, y=0.0, z=0.0, t=0, **values):
    return {"name": name, "time": TIME + t, "values": values or {"z": z, "y": y, "x": x}}


def test_the_real_example_needs_gravity_and_is_told_so():
    detail = "no acceleration with gravity and no rotation, but measurements of accelerometer"
    check_rejected("empty", detail, "sensor-logger", REAL)
    more = {"name": "gravity", "values": {"x": 0.0, "y": 0.0, "z": 9.80665}, "time": TIME}
    samples = read("sensor-logger", {**REAL, "payload": [*MEASURED, more]})
    assert samples.device == "0e35011f-e2fe-482e-b9a1-1625bb039f37"
    assert samples.acc_t_ns.tolist() == [TIME]
    np.testing.assert_allclose(samples.acc * G, [[-0.032849, -0.004899, 9.895745]], rtol=1e-6)


@pytest.mark.parametrize("name", ["sensor-logger", "auto"])
def test_gravity_is_added_and_each_sensor_keeps_its_times(name):
    samples = read(name, shapes.sensor_logger(T_NS, 100.0, ROWS, "p1"))
    assert samples.device == "p1"
    assert not samples.acc_auto
    np.testing.assert_array_equal(samples.acc_t_ns, shapes.times_of(T_NS, 100.0, len(ROWS)))
    np.testing.assert_array_equal(samples.gyro_t_ns, samples.acc_t_ns + 400_000)
    np.testing.assert_allclose(samples.acc, ROWS[:, :3], atol=1e-6)
    np.testing.assert_array_equal(samples.gyro, ROWS[:, 3:])


def test_the_gyroscope_is_placed_at_the_times_of_the_accelerometer():
    batch, rejections = decoder("sensor-logger").decode(sent(shapes.sensor_logger(T_NS, 100.0, ROWS, "p1")))
    assert rejections == []
    assert (batch.devices, batch.counts.tolist(), batch.t_ns.tolist()) == (["p1"], [10], [T_NS])
    between = np.array([np.interp(np.arange(10) - 0.04, np.arange(10), column) for column in ROWS[:, 3:].T]).T
    np.testing.assert_allclose(batch.samples[:, 3:], between, atol=1e-6)
    np.testing.assert_allclose(batch.samples[:, :3], ROWS[:, :3], atol=1e-6)


def test_total_acceleration_is_preferred_and_has_gravity():
    both = message(entry("totalacceleration", z=G), entry("accelerometer", x=1), entry("gravity", z=5))
    np.testing.assert_allclose(read("sensor-logger", both).acc, [[0, 0, 1]], rtol=1e-6)


def raw(length, n=60, begin=0, session="s", device="p1", **more):
    """Return raw accelerations along one axis, and the rotation."""
    entries = [entry("accelerometeruncalibrated", x=0.6 * length, z=0.8 * length, t=i * 10**7) for i in range(n)]
    turns = [entry("gyroscope", x=1.0, t=i * 10**7) for i in range(n)]
    return {**message(*entries, *turns, **more), "sessionId": session, "deviceId": device}


def test_signs_of_ios_are_turned_round_where_numbers_are_in_g():
    """Configure the axes, because in m/s2 nothing tells them."""
    samples = read("sensor-logger", raw(-1.0))
    np.testing.assert_allclose(samples.acc[0], [0.6, 0, 0.8], rtol=1e-6)
    assert samples.gyro[0].tolist() == [1, 0, 0]
    np.testing.assert_allclose(read("sensor-logger", raw(G)).acc[0], [0.6, 0, 0.8], rtol=1e-6)


@pytest.mark.parametrize("name", ["sensor-logger", "auto"])
@pytest.mark.parametrize(("unit", "sign"), [(1.0, -1), (G, 1)])
@pytest.mark.parametrize("sizes", [(60, 1, 5, 30, 60), (10, 10, 10, 10, 10, 60, 1)])
def test_unit_and_signs_are_decided_once_for_a_recording_and_kept(name, unit, sign, sizes):
    """Later messages of a fall (0.1 g), or of impacts (5 g), would tell the other unit."""
    made = decoder(name, needs_gyro=False)
    seen = 0
    for number, size in enumerate(sizes):
        length = 1.0 if seen < 50 else (0.1, 5.0)[number % 2]
        batch, rejections = made.decode(sent(encoded(raw(unit * length, size))))
        seen += size
        if seen < 50:
            assert (len(batch), rejections[0].reason, rejections[0].device) == (0, "units", "")
            assert f"which {seen} samples cannot tell; 50 samples near 1 or 9.8 decide" in rejections[0].detail
        else:
            assert rejections == []
            np.testing.assert_allclose(batch.samples[:, 2], sign * 0.8 * length, rtol=1e-6)


def test_a_recording_with_another_unit_and_a_message_that_names_none_are_told_by_themselves():
    made = decoder("sensor-logger", topic="w/{device}", needs_gyro=False)

    def z(content):
        batch, rejections = made.decode(sent(encoded(content), topic="w/w1"))
        return round(float(batch.samples[0, 2]), 3) if len(batch) else rejections[0].reason

    assert [z(raw(1.0)), z(raw(G, session="t")), z(raw(G, device="p2"))] == [-0.8, 0.8, 0.8]
    assert [z(raw(5.0)), z(raw(2.0, session="t"))] == [-4.0, round(0.8 * 2 / G, 3)]
    nameless = {"payload": raw(1.0)["payload"]}, {"payload": raw(G)["payload"]}, {"payload": raw(1.0, 9)["payload"]}
    assert [z(content) for content in nameless] == [-0.8, 0.8, "units"]
    assert z(raw(3.0, session="u")) == "units"  # a median of 3: neither
    assert z(raw(1.0, session="u")) == -0.8


def test_recordings_that_are_remembered_are_bounded():
    units = RawUnits()
    for number in range(20_100):
        units.factor(2 * number, np.full((50, 3), 0.6))
        with pytest.raises(RejectError):
            units.factor(2 * number + 1, np.full((2, 3), 0.6))
    assert max(len(units._factors), len(units._lengths)) <= 10_000


def test_a_phone_whose_unit_is_unknown_hides_no_watch_and_the_other_way_round():
    motion = {f"{name}{axis}": 0.6 for name in ("acceleration", "gravity", "rotationRate") for axis in "XYZ"}
    undecided = entry("accelerometeruncalibrated", z=1.0)
    batch, (rejection,) = decoder("sensor-logger").decode(
        sent(encoded(message(undecided, entry("wrist motion", **motion))))
    )
    assert (batch.devices, rejection.device, rejection.reason) == (["p1-watch"], "p1", "units")
    strange = entry("wrist motion", **{**motion, "gravityX": 3.0})
    phone = entry("totalacceleration", z=G)
    made = decoder("sensor-logger", needs_gyro=False)
    batch, (rejection,) = made.decode(sent(encoded(message(phone, strange))))
    assert (batch.devices, rejection.device, rejection.reason) == (["p1"], "p1-watch", "units")
    assert "the gravity of wristmotion is 3.12 long, expected 1 (g) or 9.81 (m/s2)" in rejection.detail


@pytest.mark.parametrize(("unit", "sign"), [(1.0, -1), (G, 1)])
@pytest.mark.parametrize("name", ["wrist motion", "WristMotion", "wristmotion"])
def test_a_watch_is_a_wearable_of_its_own(name, unit, sign):
    """Its numbers are in g with the signs of iOS, or with standardised units in m/s2 with those of Android."""
    motion = {
        **{f"acceleration{axis}": value * unit for axis, value in zip("XYZ", (0.1, 0.2, 0.3), strict=True)},
        **{f"gravity{axis}": value * unit for axis, value in zip("XYZ", (0, 0, 1), strict=True)},
        **{f"rotationRate{axis}": value for axis, value in zip("XYZ", (1, 2, 3), strict=True)},
    }
    watch = entry(name, **motion)
    phone, worn = read_all("sensor-logger", message(watch, entry("totalacceleration", z=G)))
    assert (phone.device, phone.part, worn.device, worn.part) == ("p1", "", "p1", "-watch")
    np.testing.assert_allclose(worn.acc, [[sign * 0.1, sign * 0.2, sign * 1.3]], rtol=1e-6)
    np.testing.assert_allclose(worn.gyro, [[1, 2, 3]])
    batch, _ = decoder("sensor-logger", needs_gyro=False).decode(sent(encoded(message(watch))))
    assert batch.devices == ["p1-watch"]
    topic = decoder("sensor-logger", topic="phones/{device}", needs_gyro=False)
    assert topic.decode(sent(encoded(message(watch)), topic="phones/anna"))[0].devices == ["anna-watch"]


def test_a_watch_belongs_to_the_partition_of_its_phone():
    template = TopicTemplate("p/{partition}/{device}", may_partition=True)
    made = Decoder(template, needs_gyro=False, payload=PayloadConfig("sensor-logger"))
    names = [f"{name}{axis}" for name in ("acceleration", "gravity", "rotationRate") for axis in "XYZ"]
    both = encoded(message(entry("totalacceleration", z=G), entry("wrist motion", **dict.fromkeys(names, 0.5))))
    made.decode([*sent(both, topic="p/1/anna"), *sent(both, topic="p/2/ben")])
    assert sorted(made.devices_of([1])) == ["anna", "anna-watch"]
    assert sorted(made.devices_of([1, 2])) == ["anna", "anna-watch", "ben", "ben-watch"]
    made.forget_idle_topics(-1000, list)
    assert made.devices_of([1, 2]) == []


def test_entries_may_come_in_any_order_and_twice():
    entries = json.loads(shapes.sensor_logger(T_NS, 50.0, ROWS, "p1"))["payload"]
    mixed = [*reversed(entries), *entries[:7]]
    batch, rejections = decoder("sensor-logger").decode(sent(encoded(message(*mixed))))
    assert (batch.counts.tolist(), batch.t_ns.tolist(), rejections) == ([10], [T_NS], [])
    np.testing.assert_allclose(batch.samples[:, :3], ROWS[:, :3], atol=1e-6)


def test_a_gyroscope_that_covers_a_part_of_the_message_leaves_the_rest_out():
    entries = [entry("totalacceleration", z=G, t=i * 10**7) for i in range(20)]
    gyro = [entry("gyroscope", x=i, t=i * 10**7) for i in range(10)]
    batch, _ = decoder("sensor-logger").decode(sent(encoded(message(*entries, *gyro))))
    assert batch.counts.tolist() == [11]  # the last rotation is held for one interval
    assert batch.samples[:, 3].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9]
    batch, _ = decoder("sensor-logger", needs_gyro=False).decode(sent(encoded(message(*entries, *gyro))))
    assert batch.counts.tolist() == [20]


@pytest.mark.parametrize(
    ("reason", "entries"),
    [
        ("gyroscope", [entry("totalacceleration", z=G)]),
        ("gyroscope", [entry("totalacceleration", z=G), entry("gyroscope", t=5 * 10**9)]),
        ("empty", [entry("gyroscope")]),
        ("time", [entry("totalacceleration", z=G, t=10**9 * (i // 2 * 10 + i % 2)) for i in range(400)]),
    ],
)
def test_a_message_without_both_sensors_at_one_time_is_rejected_for_its_device(reason, entries):
    if reason == "time":
        entries = [*entries, *({**one, "name": "gyroscope"} for one in entries)]
    batch, (rejection,) = decoder("sensor-logger").decode(sent(encoded(message(*entries))))
    assert (len(batch), rejection.reason, rejection.device) == (0, reason, "p1")


@pytest.mark.parametrize(
    ("reason", "detail", "bad"),
    [
        ("shape", "the message is a list of 0", []),
        ("shape", "the message is an object with acc", {"acc": []}),
        ("shape", "a measurement is the number 5", message(5)),
        ("shape", "a measurement is an object with time", message({"time": 1})),
        (
            "shape",
            "totalacceleration is an object with a, expected x, y and z",
            message(entry("totalacceleration", a=1)),
        ),
        (
            "shape",
            "totalacceleration holds null",
            message({"name": "totalacceleration", "time": TIME, "values": {"x": None, "y": 1, "z": 1}}),
        ),
        (
            "shape",
            "totalacceleration holds 3 x 2 numbers",
            message(*({"name": "totalacceleration", "time": TIME + i, "values": [1, 2]} for i in range(3))),
        ),
        (
            "shape",
            "totalacceleration holds 3 numbers",
            message(*({"name": "totalacceleration", "time": TIME + i, "values": 1} for i in range(3))),
        ),
        ("shape", "expected accelerationX", message(entry("wrist motion", x=1))),
        (
            "time",
            "time is None, expected a number in ns",
            message({"name": "totalacceleration", "values": {"x": 0, "y": 0, "z": 1}}),
        ),
        ("time", "time: t_ns is -1", message({"name": "gyroscope", "time": -1, "values": {"x": 0, "y": 0, "z": 1}})),
        ("empty", "but measurements of battery, location", message(entry("battery"), entry("location"))),
        ("empty", "but no measurement", message()),
        ("device", "the device is null", message(entry("totalacceleration"), deviceId=None)),
        ("range", "a sample is", message(entry("totalacceleration", z=1e5))),
        ("not_finite", "", encoded(message(entry("accelerometeruncalibrated", z=8.5))).replace(b"8.5", b"1e39")),
    ],
)
def test_a_malformed_message_is_rejected_with_what_was_found(reason, detail, bad):
    check_rejected(reason, detail, "sensor-logger", bad)


names = st.sampled_from(["totalacceleration", "accelerometer", "gravity", "gyroscope", "wrist motion", "battery", 5])
numbers = st.floats(-20, 20) | st.sampled_from([None, "x", True, 1e9])
keys = ["x", "y", "z", "accelerationX", "accelerationY", "accelerationZ", "gravityX", "rotationRateX"]
entries = st.fixed_dictionaries(
    {"name": names},
    optional={
        "time": st.integers(TIME, TIME + 10**9) | st.none() | st.floats(),
        "values": st.dictionaries(st.sampled_from(keys), numbers) | st.just({"x": 0.1, "y": 0.2, "z": 9.0}),
    },
)


@given(st.lists(entries, max_size=12))
def test_whatever_entries_hold_they_are_samples_or_rejected(listed):
    try:
        for samples in read_all("sensor-logger", message(*listed)):
            assert samples.refused or len(samples.acc_t_ns) == len(samples.acc)
            assert np.isfinite(samples.acc).all()
    except RejectError as error:
        assert error.detail.isprintable()  # noqa: PT017
    batch, rejections = decoder("sensor-logger").decode(sent(encoded(message(*listed))))
    assert len(batch) + len(rejections) >= 1
    assert "internal" not in {rejection.reason for rejection in rejections}
