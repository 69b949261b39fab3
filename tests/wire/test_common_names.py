"""Common names of a gyroscope, beside canonical names and other objects, and messages of any number of samples."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from harstream.wire import payloads
from harstream.wire.payloads import decode
from harstream.wire.reject import RejectError
from harstream.wire.samples import Units

from .payload_checks import T_NS, check_rejected, decoder, encoded, read, sent

TURNS: Any = [[1.5, 2.5, 3.5], [1.0, 2.0, 3.0]]


@pytest.mark.parametrize("form", ["json", "auto", "msgpack"])
@pytest.mark.parametrize(
    "gyro",
    [
        {"gyroscope": TURNS},
        {"gyr": TURNS},
        {"rotationRate": [dict(zip("xyz", turn, strict=True)) for turn in TURNS]},
        {"gyroX": [1.5, 1.0], "gyroY": [2.5, 2.0], "gyroZ": [3.5, 3.0]},
        {"gx": None, "imu": {"angular_velocity": TURNS}},
        {"gyroscope": {"accuracy": 3, "x": [1.5, 1.0], "y": [2.5, 2.0], "z": [3.5, 3.0]}},
    ],
)
def test_a_gyroscope_under_a_common_name_counts_beside_canonical_acc(form, gyro):
    message = {"t_ns": T_NS, "acc": [[0, 0, 1]] * 2, "units": {"gyro": "deg/s"}, **gyro}
    payload = msgspec.msgpack.encode(message) if form == "msgpack" else encoded(message)
    samples = read(form, payload, names_device=False)
    assert samples.t_ns == T_NS
    np.testing.assert_allclose(samples.gyro, np.radians(TURNS), rtol=1e-6)
    batch, rejections = decoder(form, topic="w/{device}").decode(sent(payload, topic="w/w1"))
    assert (batch.counts.tolist(), rejections) == ([2], [])


def test_a_flat_sample_has_its_gyroscope_under_a_common_name_too():
    samples = decode(encoded({"ax": 0, "ay": 0, "az": 1, "gyr_x": 1.5, "gyr_y": 2.5, "gyr_z": 3.5}), Units())
    assert samples.gyro is not None
    np.testing.assert_allclose(samples.gyro, TURNS[:1])
    samples = decode(encoded({"accelerometer": [[0, 0, 1]], "gyro": TURNS[:1]}), Units())
    assert samples.gyro is not None
    np.testing.assert_allclose(samples.gyro, TURNS[:1])


@pytest.mark.parametrize(
    "message",
    [
        {"accel": {"ax": 0, "ay": 0, "az": 1}, "gyro": {"gx": 1.5, "gy": 2.5, "gz": 3.5}},
        {"Acc": {"X": 0, "Y": 0, "Z": 1, "n": 1}, "Gyr": {"X": 1.5, "Y": 2.5, "Z": 3.5, "n": 1}},
        {"a": {"accX": 0, "accY": 0, "accZ": 1}, "gyro": {"x": 1.5, "y": 2.5, "z": 3.5, "t": 0}},
    ],
)
def test_sensors_in_objects_of_their_own(message):
    samples = decode(encoded(message), Units())
    np.testing.assert_allclose(samples.acc, [[0, 0, 1]])
    assert samples.gyro is not None
    np.testing.assert_allclose(samples.gyro, TURNS[:1])


@pytest.mark.parametrize(
    ("gyro", "found"),
    [
        ({"gyroscope": TURNS * 2}, "2 samples in acc, 4 in gyroscope"),
        ({"rotation": [0, 0, 0, 1]}, "rotation holds 4 numbers, expected x, y and z"),
        ({"gx": 1, "gy": 2, "gz": 3}, "2 samples in acc, 1 in gx, gy, gz"),
    ],
)
def test_what_looks_like_a_gyroscope_and_is_none_is_told_where_one_is_needed(gyro, found):
    payload = encoded({"acc": [[0, 0, 1]] * 2, **gyro})
    batch, _ = decoder("auto", topic="w/{device}", needs_gyro=False).decode(sent(payload, topic="w/w1"))
    assert batch.counts.tolist() == [2]
    _, (rejection,) = decoder("auto", topic="w/{device}").decode(sent(payload, topic="w/w1"))
    assert rejection.reason == "gyroscope"
    assert rejection.detail == f"no gyroscope, but the model needs one; {found}"


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_message_of_three_samples_is_read_as_one_of_two_or_four(n):
    rows = [[0.1 * i, 0.2, 0.9] for i in range(n)]
    objects = [dict(zip("xyz", row, strict=True)) for row in rows]
    columns = dict(zip("xyz", map(list, zip(*rows, strict=True)), strict=True))
    for acc in (rows, objects, columns):
        for name in ("acc", "accelerometer"):
            np.testing.assert_allclose(decode(encoded({name: acc}), Units()).acc, rows, atol=1e-6)
            assert read("fields", {name: acc}, {"acc": name}, names_device=False).n_samples == n
    held = [{"v": row, "x": row[0], "y": row[1], "z": row[2]} for row in rows]
    for where in ("v", ["x", "y", "z"]):
        samples = read("fields", held, {"acc": where, "samples": "."}, names_device=False)
        np.testing.assert_allclose(samples.acc, rows, atol=1e-6)
    lists = [list(column) for column in zip(*rows, strict=True)]  # what would be rows, if there were three samples
    if n != 3:
        detail = 'for lists of x, y and z, name each: ["a.0", "a.1", "a.2"]'
        check_rejected("shape", detail, "fields", {"a": lists}, {"acc": "a"}, names_device=False)
    samples = read("fields", {"a": lists}, {"acc": ["a.0", "a.1", "a.2"]}, names_device=False)
    np.testing.assert_allclose(samples.acc, rows, atol=1e-6)
    deep = {axis: [[0.0, 1.0, 2.0]] * n for axis in "xyz"}
    check_rejected("shape", f"{n} x 3 numbers", "fields", deep, {"acc": ["x", "y", "z"]}, names_device=False)


@pytest.mark.parametrize("name", ["acc", "gyro"])
@pytest.mark.parametrize("inside", ["imu", ""])
def test_an_object_without_axes_does_not_hide_that_of_the_next_message(name, inside):
    made = payloads._Auto(Units(), names_device=False)
    for axes, has in (("abc", False), ("xyz", True), ("abc", False), ("XYZ", True)):
        sensors = {"acc": dict(zip("xyz", [0, 0, 1], strict=True)), "gyro": dict(zip("xyz", [1, 2, 3], strict=True))}
        sensors[name] = dict(zip(axes, sensors[name].values(), strict=True))
        message = encoded({inside: sensors} if inside else sensors)
        if name == "acc" and not has:
            with pytest.raises(RejectError):
                made.decode_one(message)
        else:
            assert (made.decode_one(message)[0].gyro is not None) == has
