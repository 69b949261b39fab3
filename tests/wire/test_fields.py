"""Mapped payloads: every public shape is read where the configuration says, or from its common names without one."""

from __future__ import annotations

import doctest
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harstream.errors import ConfigError
from harstream.wire import fields as fields_module
from harstream.wire import payloads
from harstream.wire.fields import Fields
from harstream.wire.payloads import decode
from harstream.wire.reject import RejectError
from harstream.wire.samples import Units

from ..calls import count_calls
from . import shapes
from .payload_checks import ROWS, T_NS, check_rejected, decoder, encoded, f32, read, sent

FLAT = {
    "accX": 0.1,
    "accY": -0.2,
    "accZ": 0.97,
    "gycX": 1.5,
    "gycY": 2.5,
    "gycZ": 3.5,
    "timestamp": 1763668800123,
}
FLAT_FIELDS = {"t": "timestamp", "acc": ["accX", "accY", "accZ"], "gyro": ["gycX", "gycY", "gycZ"]}
#: Tasmota with an MPU-6050 (github.com/arendst/Tasmota, issue 4521): counts of the converter, 16,384 for 1 g.
TASMOTA = {
    "Time": "2018-12-08T18:19:25",
    "MPU6050": {
        "Temperature": 22.6,
        **{"AccelXAxis": 4828.00, "AccelYAxis": -7124.00, "AccelZAxis": 13420.00},
        **{"GyroXAxis": -130.00, "GyroYAxis": 259.00, "GyroZAxis": 75.00},
    },
    "TempUnit": "C",
}
#: ThingsBoard's device API: ts in ms, and values.
THINGSBOARD = {"ts": 1763668800123, "values": {"ax": 0.1, "ay": -0.2, "az": 0.97, "battery": 3}}
TRIPLES = {"timestamp": 1763668800.5, "accelerometer": [0.1, -0.2, 0.97], "gyroscope": [1.5, 2.5, 3.5]}


def test_the_examples_of_the_docstrings_are_right():
    results = doctest.testmod(fields_module)
    assert results.attempted > 3
    assert results.failed == 0


def test_scalars_of_three_names_each():
    samples = read("fields", FLAT, FLAT_FIELDS, names_device=False)
    assert (samples.t_ns, samples.device, samples.acc_t_ns) == (1763668800123000000, None, None)
    np.testing.assert_array_equal(samples.acc, f32([[0.1, -0.2, 0.97]]))
    np.testing.assert_array_equal(samples.gyro, f32([[1.5, 2.5, 3.5]]))


def test_the_counts_of_tasmota_with_a_scale():
    samples = read(
        "fields",
        TASMOTA,
        {
            "t": "Time",
            "t_unit": "iso",
            "acc": [f"MPU6050.Accel{axis}Axis" for axis in "XYZ"],
            "gyro": [f"MPU6050.Gyro{axis}Axis" for axis in "XYZ"],
            "acc_scale": 1 / 16384,
            "gyro_scale": 1 / 131,
        },
        Units("g", "deg/s"),
        names_device=False,
    )
    assert samples.t_ns == 1544293165_000_000_000
    assert np.linalg.norm(samples.acc) == pytest.approx(0.973, abs=1e-3)
    assert samples.gyro is not None
    assert samples.gyro[0, 1] == pytest.approx(np.radians(259 / 131))


def test_a_list_of_samples_with_the_rate_of_the_message():
    samples = read(
        "fields",
        shapes.sample_list(T_NS, 50.0, ROWS, "w1"),
        {"device": "deviceId", "t": "ts", "samples": "samples", "acc": ["x", "y", "z"], "rate_hz": "sampleRateHz"},
    )
    assert (samples.device, samples.t_ns, samples.rate_hz) == ("w1", T_NS, 50.0)
    np.testing.assert_allclose(samples.acc, ROWS[:, :3], atol=1e-6)
    assert samples.gyro is None


@pytest.mark.parametrize("acc", ["v", ["v.0", "v.1", "v.2"], ["v.x", "v.y", "v.z"]])
def test_a_list_of_samples_with_a_time_each(acc):
    vectors: list[Any] = [[0.1, 0.2, 0.9], [0.2, 0.1, 0.8]]
    if acc == ["v.x", "v.y", "v.z"]:
        vectors = [dict(zip("xyz", vector, strict=True)) for vector in vectors]
    listed = [{"at": 1763668800123 + 20 * i, "v": vector} for i, vector in enumerate(vectors)]
    samples = read("fields", {"id": 7, "s": listed}, {"device": "id", "samples": "s", "t": "at", "acc": acc})
    assert samples.device == "7"
    assert samples.acc_t_ns.tolist() == [1763668800123000000, 1763668800143000000]
    np.testing.assert_array_equal(samples.acc, f32([[0.1, 0.2, 0.9], [0.2, 0.1, 0.8]]))


@pytest.mark.parametrize(
    "acc",
    [
        {"x": [1, 3], "y": [2, 4], "z": [3, 5]},
        {"X": [1, 3], "Y": [2, 4], "Z": [3, 5]},
        [[1, 2, 3], [3, 4, 5]],
        [{"x": 1, "y": 2, "z": 3}, {"x": 3, "y": 4, "z": 5}],
        [["1", "2", "3"], [3, "4.0", "5e0"]],
    ],
)
def test_one_path_to_vectors_of_any_shape(acc):
    samples = read("fields", {"a.b": acc}, {"acc": "a.b"}, names_device=False)
    assert samples.acc.tolist() == [[1, 2, 3], [3, 4, 5]]
    assert (samples.t_ns, samples.rate_hz) == (None, 0.0)


@pytest.mark.parametrize(
    ("value", "unit", "t_ns"),
    [
        (1763668800, "s", 1763668800 * 10**9),
        ("1763668800.5", "s", 1763668800_500_000_000),
        (1763668800123, "ms", 1763668800_123_000_000),
        (1763668800123456, "us", 1763668800_123_456_000),
        (1763668800123456789, "ns", 1763668800_123_456_789),
        (1763668800123456789, "auto", 1763668800_123_456_789),
        (12345, "ms", 12_345_000_000),  # from the start of the device
        ("2025-11-20T20:00:00.02+01:00", "iso", 1763665200_020_000_000),
        ("2025-11-20T20:00:00Z", "auto", 1763668800 * 10**9),
    ],
)
def test_times_in_every_unit(value, unit, t_ns):
    message, where = {"t": value, "a": [0, 0, 1]}, {"t": "t", "t_unit": unit, "acc": "a"}
    assert read("fields", message, where, names_device=False).t_ns == t_ns
    many = {"t": [value, value], "a": [[0, 0, 1]] * 2}
    assert read("fields", many, where, names_device=False).acc_t_ns.tolist() == [t_ns] * 2


def test_a_gyroscope_that_a_message_does_not_have_is_left_out():
    message = {"a": [0, 0, 1], "t": 1763668800}
    more: dict[str, Any]
    for more in ({}, {"g": None}, {"g": []}):
        assert read("fields", {**message, **more}, {"acc": "a", "gyro": "g"}, names_device=False).gyro is None


BAD = [
    ("shape", "no 'ax' for acc, but an object with bx, by", {"bx": 1, "by": 2}, {"acc": ["ax", "ay", "az"]}),
    ("shape", "acc is the text 'no', expected x, y and z".replace("acc", "a"), {"a": "no"}, {"acc": "a"}),
    ("shape", "a holds null, expected numbers", {"a": [1, None, 2]}, {"acc": "a"}),
    ("shape", "a holds the text 'x', expected numbers", {"a": [[1, 2, "x"]]}, {"acc": "a"}),
    ("shape", "a holds 4 numbers, expected x, y and z", {"a": [1, 2, 3, 4]}, {"acc": "a"}),
    ("shape", "a is a list of 2 that differ in shape", {"a": [[1, 2, 3], [1, 2]]}, {"acc": "a"}),
    ("shape", "x, y and z differ in length", {"x": [1], "y": [1, 2], "z": [1]}, {"acc": ["x", "y", "z"]}),
    ("shape", "the message is the number 5, expected an object", 5, {"acc": "a"}),
    ("shape", "'s' is an object with a, expected a list of samples", {"s": {"a": 1}}, {"acc": "a", "samples": "s"}),
    ("shape", "no 's' in an empty object", {}, {"acc": "a", "samples": "s"}),
    ("shape", "2 samples in acc, 1 in gyro", {"a": [[0, 0, 1]] * 2, "g": [1, 2, 3]}, {"acc": "a", "gyro": "g"}),
    ("shape", "v holds 3 x 2 numbers", {"s": [{"v": [1, 2]}] * 3}, {"acc": "v", "samples": "s"}),
    ("shape", "v holds 3 numbers", {"s": [{"v": 1}] * 3}, {"acc": "v", "samples": "s"}),
    ("empty", "no sample", {"a": []}, {"acc": "a"}),
    ("empty", "no sample", {"s": []}, {"acc": "a", "samples": "s"}),
    ("time", "no 'ts', but an object with a", {"a": [0, 0, 1]}, {"acc": "a", "t": "ts"}),
    (
        "time",
        "ts is 12345, expected a time since September 2001, or set t_unit",
        {"a": [0, 0, 1], "ts": 12345},
        {"acc": "a", "t": "ts"},
    ),
    ("time", "ts is 'noon', expected a date", {"a": [0, 0, 1], "ts": "noon"}, {"acc": "a", "t": "ts", "t_unit": "iso"}),
    (
        "time",
        "ts is True, expected a number in ms",
        {"a": [0, 0, 1], "ts": True},
        {"acc": "a", "t": "ts", "t_unit": "ms"},
    ),
    ("time", "ts: t_ms is -1", {"a": [0, 0, 1], "ts": -1}, {"acc": "a", "t": "ts", "t_unit": "ms"}),
    (
        "time",
        "ts is a list of 1, expected a time for each of 2",
        {"a": [[0, 0, 1]] * 2, "ts": [1]},
        {"acc": "a", "t": "ts"},
    ),
    (
        "rate",
        "hz is the text 'fast', expected samples per second",
        {"a": [0, 0, 1], "hz": "fast"},
        {"acc": "a", "rate_hz": "hz"},
    ),
    ("device", "no 'id', but an object with a", {"a": [0, 0, 1]}, {"acc": "a", "device": "id"}),
    ("device", "the device is called 'a/b'", {"a": [0, 0, 1], "id": "a/b"}, {"acc": "a", "device": "id"}),
    ("device", "the device is null", {"a": [0, 0, 1], "id": None}, {"acc": "a", "device": "id"}),
    ("range", "a sample is 2e+03 g", {"a": [0, 0, 2000]}, {"acc": "a"}),
    ("not_finite", "", b'{"a": [0, 0, NaN]}', {"acc": "a"}),
    ("json", "", b'{"a": [0, 0', {"acc": "a"}),
    ("empty", "no payload", b"", {"acc": "a"}),
]


@pytest.mark.parametrize(("reason", "detail", "message", "where"), BAD, ids=lambda value: str(value)[:30])
def test_a_message_that_does_not_fit_is_rejected_with_what_was_found(reason, detail, message, where):
    check_rejected(reason, detail, "fields", message, where, names_device=reason == "device")


# --- without a configuration --------------------------------------------------------------------------


@pytest.mark.parametrize("message", [FLAT, {**TRIPLES, "timestamp": 1763668800123}, {**THINGSBOARD, "gx": 0}][:2])
def test_common_names_need_no_configuration(message):
    samples = decode(encoded(message), Units())
    assert samples.t_ns == 1763668800123000000
    np.testing.assert_array_equal(samples.acc, f32([[0.1, -0.2, 0.97]]))
    np.testing.assert_array_equal(samples.gyro, f32([[1.5, 2.5, 3.5]]))


def test_common_names_inside_an_object_or_a_list():
    samples = decode(encoded(THINGSBOARD), Units())
    assert (samples.t_ns, samples.gyro) == (1763668800123000000, None)
    np.testing.assert_array_equal(samples.acc, f32([[0.1, -0.2, 0.97]]))
    samples = decode(encoded(TASMOTA), Units("auto"))
    assert (samples.t_ns, samples.acc.tolist()) == (1544293165_000_000_000, [[4828, -7124, 13420]])
    samples = decode(shapes.sample_list(T_NS, 50.0, ROWS, "w1"), Units())
    assert (samples.t_ns, samples.rate_hz, samples.n_samples) == (T_NS, 50.0, 10)
    samples = decode(shapes.flat_columns(T_NS, 50.0, ROWS, "w1"), Units("m/s2"))
    assert (samples.t_ns, samples.rate_hz) == (T_NS, 50.0)
    np.testing.assert_allclose(samples.acc, ROWS[:, :3], atol=1e-5)


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        ("acc_x acc_y acc_z gyro_x gyro_y gyro_z", 6),
        ("accel_x accel_y accel_z gyr_x gyr_y gyr_z", 6),
        ("AccelX AccelY AccelZ GyroX GyroY GyroZ", 6),
        ("accelerometer.x accelerometer.y accelerometer.z", 3),
        ("acceleration_x acceleration_y acceleration_z rotationRateX rotationRateY rotationRateZ", 6),
        ("aX aY aZ gX gY gZ", 6),
        ("AX AY AZ GX GY GZ", 6),
        ("x y z", 3),
    ],
)
def test_common_spellings_of_axes(names, axes):
    message = {name: i / 10 for i, name in enumerate(names.split())}
    samples = decode(encoded({**message, "mag_x": 9, "temperature": 22}), Units())
    np.testing.assert_allclose(samples.acc, [[0, 0.1, 0.2]])
    assert (samples.gyro is not None) == (axes == 6)
    if samples.gyro is not None:
        np.testing.assert_allclose(samples.gyro, [[0.3, 0.4, 0.5]])


@pytest.mark.parametrize("acc", [[0.1, 0.2, 0.9], {"x": 0.1, "y": 0.2, "z": 0.9}])
def test_acc_as_one_vector_is_one_sample(acc):
    assert decode(encoded({"acc": acc, "ts": 1763668800}), Units()).acc.tolist() == [pytest.approx([0.1, 0.2, 0.9])]


def test_a_time_that_counts_from_the_start_is_ignored_and_named():
    samples = decode(encoded({**FLAT, "timestamp": 12345}), Units())
    assert samples.t_ns is None
    assert samples.ignored[0].name == "timestamp"
    assert "is ignored: send the time" in samples.ignored[0].describe()


@pytest.mark.parametrize(
    "message",
    [
        {"magX": 1, "magY": 2, "magZ": 3},
        {"accX": 1, "accY": 2},
        {**FLAT, "gycZ": None} | {"gycZ": "left"},
        {"accX": 1, "accY": 2, "accZ": 3, "gyrX": 1},
        {"values": {"temperature": 3}},
        {"samples": [{"t": 3}]},
        {"samples": []},
        {"x": {"y": {"z": 1}}},
        {"gyroscope": {"x": 0.01, "y": 0.02, "z": 0.03, "timestamp": 1763668800123}},
        {"magnetometer": {"x": 1, "y": 2, "z": 3, "accuracy": 3}},
        {"mag": [{"x": 1, "y": 2, "z": 3}]},
        {"position": {"x": 1, "y": 2, "z": 3, "heading": 4}},
        {"linearAcceleration": {"x": 1, "y": 2, "z": 3, "t": 1}},
    ],
)
def test_what_has_no_accelerometer_under_a_common_name_is_rejected(message):
    with pytest.raises(RejectError) as caught:
        decode(encoded(message), Units())
    assert caught.value.reason == "shape"


@pytest.mark.parametrize("name", ["values", "accelerometer", "data"])
def test_x_y_and_z_alone_are_acceleration_in_an_object_that_names_no_other_sensor(name):
    samples = decode(encoded({name: {"x": 0.1, "y": 0.2, "z": 0.9, "accuracy": 3}}), Units())
    np.testing.assert_allclose(samples.acc, [[0.1, 0.2, 0.9]], atol=1e-6)


@pytest.mark.parametrize("late", [0, 5])
def test_every_time_of_a_list_is_told_from_its_value(late):
    times = [1_763_668_800_020, late, 1_763_668_800_060]
    message = {"t": times, "acc": {"x": [0.0] * 3, "y": [0.0] * 3, "z": [1.0] * 3}}
    check_rejected("time", "expected a time since September 2001", "fields", message, {"acc": "acc", "t": "t"})


def test_messages_of_one_outline_but_with_other_content_are_each_read_as_they_are():
    assert decode(b'{"values": {"ax": 0, "ay": 0, "az": 1}}', Units()).n_samples == 1
    with pytest.raises(RejectError):
        decode(b'{"values": {"ax": 0, "ay": 0}}', Units())
    assert decode(b'{"values": {"ax": [0, 1], "ay": [0, 1], "az": [1, 1]}}', Units()).n_samples == 2


def test_a_message_without_its_time_does_not_hide_the_time_of_others():
    made = decoder("auto", topic="w/{device}", needs_gyro=False)
    for time, stamped in ((None, False), (1763668800123, True), ("2025-11-20T20:00:00Z", True), (None, False)):
        for message in ({**FLAT, "timestamp": time}, {"v": {**FLAT, "timestamp": time}}):
            batch, rejections = made.decode(sent(encoded(message), topic="w/w1"))
            assert (batch.stamped.tolist(), rejections) == ([stamped], [])


def test_what_is_remembered_of_shapes_is_bounded():
    made = payloads._Auto(Units(), names_device=False)
    for number in range(1000):
        made.decode_one(encoded({**FLAT, f"more{number}": 1}))
        made.decode_one(encoded({**FLAT, "x" * 5000 + str(number): 1}))
    assert 0 < len(made._common) <= 256
    assert sum(len(str(key)) for key in made._common) < 256 * 500


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["x", "y", "z", "t", "v"]), inner),
    max_leaves=12,
)
paths = st.sampled_from(["acc", "v.x", "values", "v.0", "s", "x", "", "t", "1", "v..x"])


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(["acc", "v", "values", "s", "x", "y", "z", "t", "ts"], json_values)
    ),
    st.lists(paths.filter(bool), min_size=1, max_size=1) | st.lists(paths.filter(bool), min_size=3, max_size=3),
    st.sampled_from(["", "s", "v"]),
    paths,
    st.sampled_from(["s", "ms", "us", "ns", "iso", "auto"]),
)
def test_whatever_a_message_holds_it_is_samples_or_rejected(message, acc, samples, t, unit):
    where = {"acc": acc, "gyro": acc, "samples": samples, "t": t, "t_unit": unit, "device": "x", "rate_hz": "y"}
    for names_device in (False, True):
        try:
            found = read("fields", json.dumps(message).encode(), where, names_device=names_device)
        except RejectError as error:
            assert error.detail.isprintable()  # noqa: PT017
            continue
        assert found.acc.shape[1] == 3
        assert len(found.acc) > 0
        assert np.isfinite(found.acc).all()
        assert found.acc_t_ns is None or len(found.acc_t_ns) == len(found.acc)


# --- the configuration --------------------------------------------------------------------------------


def test_the_fields_are_written_as_they_are_read():
    made = Fields.parse({"t": 'a"b\\', "acc": ["x", "y", "z"], "acc_scale": 0.5, "columns": ["-", "ax", "ay", "az"]})
    assert Fields.parse(made.to_toml()) == made
    assert Fields.parse("{}") == Fields() == Fields.parse(Fields())
    assert Fields().to_toml() == "{}"


@pytest.mark.parametrize("value", [5, [], {"acc": ""}, {"acc": []} | {"acc": [1]}, {"acc_scale": "x"}, {"t": 5}, "= 5"])
def test_a_table_with_something_else_is_refused(value):
    with pytest.raises(ConfigError, match="fields"):
        Fields.parse(value)


def test_the_work_for_a_message_does_not_grow_with_its_objects():
    inner = {f"name{i}": i for i in range(300)}
    few, many = (encoded({f"o{i}": inner for i in range(n)}) for n in (100, 1000))

    def calls(payload: bytes) -> int:
        with pytest.raises(RejectError):
            decode(payload, Units())
        made = payloads._Auto(Units(), names_device=False)
        return count_calls(made._find_fields, json.loads(payload))

    assert calls(many) < 1.1 * calls(few)
