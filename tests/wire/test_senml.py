"""SenML packs (RFC 8428) in JSON and CBOR."""

from __future__ import annotations

from typing import Any

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harstream.wire.placing import place
from harstream.wire.reject import RejectError
from harstream.wire.samples import Units

from . import shapes
from .payload_checks import ROWS, T_NS, check_rejected, decoder, encoded, read, read_all, sent

#: Section 5.1.3 of RFC 8428, several data points, with the names and units of an accelerometer.
PACK = [
    {"bn": "urn:dev:ow:10e2073a0108006:", "bt": 1.276020076001e9, "bu": "m/s2", "bver": 5, "n": "ax", "v": 1.2},
    {"n": "ay", "v": 1.3},
    {"n": "az", "v": 9.7},
    {"n": "current", "u": "A", "t": -5, "v": 1.2},
]


def one(*names: str, **more: object) -> list[dict[str, object]]:
    return [{"n": name, "v": i, **more} for i, name in enumerate(names or ("ax", "ay", "az"))]


def test_a_pack_in_the_form_of_the_standard():
    samples = read("senml", PACK)
    assert samples.device == "urn:dev:ow:10e2073a0108006"
    assert samples.acc_t_ns.tolist() == [1276020076001000000]
    np.testing.assert_allclose(samples.acc, np.array([[1.2, 1.3, 9.7]]) / shapes.G, rtol=1e-6)
    assert samples.gyro is None
    assert not samples.acc_auto


@pytest.mark.parametrize("encode", [shapes.senml, shapes.senml_cbor])
@pytest.mark.parametrize("name", ["senml", "auto"])
def test_many_samples_of_both_sensors_in_json_and_cbor(encode, name):
    samples = read(name, encode(T_NS, 50.0, ROWS, "w1"))
    assert samples.device == "w1"
    np.testing.assert_allclose(samples.acc, ROWS[:, :3], atol=1e-6)
    np.testing.assert_allclose(samples.gyro, ROWS[:, 3:], atol=1e-6)
    expected = shapes.times_of(T_NS, 50.0, len(ROWS))
    assert np.abs(samples.acc_t_ns - expected).max() <= 1000
    batch, rejections = decoder(name).decode(sent(encode(T_NS, 50.0, ROWS, "w1")))
    assert (batch.devices, batch.counts.tolist(), rejections) == (["w1"], [10], [])
    assert abs(batch.t_ns[0] - T_NS) <= 1000
    np.testing.assert_allclose(batch.samples, ROWS, atol=1e-6)


def test_a_device_whose_samples_cannot_be_used_hides_no_other_device_of_its_pack():
    names = [("a", "xyz"), ("b", ""), ("c", "xyz")]
    pack = [
        record
        for device, gyro in names
        for record in (
            *({"n": f"{device}:a{axis}", "u": "m/s2", "v": 3.0, "bt": T_NS / 1e9} for axis in "xyz"),
            *({"n": f"{device}:g{axis}", "u": "rad/s", "v": 0.1} for axis in gyro),
        )
    ]
    batch, rejections = decoder("senml").decode(sent(encoded(pack)))
    assert list(batch.devices) == ["a", "c"]
    assert [(each.device, each.reason) for each in rejections] == [("b", "gyroscope")]


@pytest.mark.parametrize(
    ("reason", "record"),
    [
        ("range", {"n": "b:az", "v": 1e9}),
        ("shape", {"n": "b:gx", "v": 0}),
        ("time", {"n": "b:az", "v": 1, "t": 0}),
        ("units", {"n": "b:az", "v": 1, "u": "lux"}),
    ],
)
def test_a_device_with_malformed_records_hides_no_other_device_of_its_pack(reason, record):
    pack = [{"n": f"{device}:a{axis}", "t": 1.7e9, "u": "g", "v": 1} for device in "abc" for axis in "xyz"]
    pack = [one for one in pack if one["n"] != record["n"]] + [{"t": 1.7e9, "u": "g", **record}]
    batch, (rejection,) = decoder("senml", needs_gyro=False).decode(sent(encoded(pack)))
    assert list(batch.devices) == ["a", "c"]
    assert (rejection.device, rejection.reason) == ("b", reason if reason != "time" else "shape")


def test_records_of_too_many_devices_in_one_pack_are_rejected():
    packs = [[record for i in range(n) for record in one(bn=f"w{i}:")] for n in (64, 65)]
    assert len(read_all("senml", packs[0])) == 64
    check_rejected("device", "65 devices in one message, expected at most 64", "senml", packs[1])


def test_records_of_several_devices_in_one_pack():
    pack = [record for name in ("w1", "w2") for record in one("ax", "ay", "az", bn=f"{name}/")]
    assert [samples.device for samples in read_all("senml", pack)] == ["w1", "w2"]
    check_rejected("device", "records of 2 devices, but the topic names one", "senml", pack, names_device=False)


@pytest.mark.parametrize(
    ("base", "names", "device"),
    [
        ("w1:", ("ax", "ay", "az"), "w1"),
        ("w1", ("ax", "ay", "az"), "w1"),
        ("urn:dev:mac:0024befffe804ff1/", ("ax", "ay", "az"), "urn:dev:mac:0024befffe804ff1"),
        ("", ("w1_ax", "w1_ay", "w1_az"), "w1"),
        ("w", ("1.ax", "1.ay", "1.az"), "w1"),
    ],
)
def test_the_device_is_the_name_before_that_of_the_axis(base, names, device):
    assert read("senml", one(*names, bn=base)).device == device


def test_base_time_value_and_unit_are_added_and_stay_until_they_are_replaced():
    pack = [
        {"bn": "w:", "bt": 1.7e9, "bv": 1, "bu": "mg", "n": "ax", "v": 1},
        {"n": "ay", "v": 2},
        {"n": "az"},
        {"bt": 1.8e9, "bv": 5, "n": "ax"},
        {"n": "ay"},
        {"n": "az", "v": 1},
    ]
    samples = read("senml", pack)
    np.testing.assert_allclose(samples.acc * 1000, [[2, 3, 1], [5, 5, 6]], rtol=1e-6)
    assert samples.acc_t_ns.tolist() == [17 * 10**17, 18 * 10**17]


def test_times_relative_to_now_are_those_of_arrival_at_the_rate_that_they_show():
    pack = [{"n": name, "v": i, "t": -0.02 * i} for i in range(4, -1, -1) for name in ("ax", "ay", "az")]
    (sample,) = place(read("senml", pack, names_device=False), needs_gyro=False)
    assert (sample.t_ns, sample.acc_t_ns) == (None, None)
    assert sample.rate_hz == pytest.approx(50)
    assert sample.acc[:, 0].tolist() == [4, 3, 2, 1, 0]
    (sample,) = place(read("senml", one(), names_device=False), needs_gyro=False)
    assert sample.rate_hz == 0
    (sample,) = place(read("senml", pack[-6:], names_device=False), needs_gyro=False)
    assert sample.rate_hz == pytest.approx(50)
    assert len(sample.acc) == 2


def test_without_a_unit_the_configured_one_counts():
    assert read("senml", one(), units=Units("mg"), names_device=False).acc[0, 2] == pytest.approx(2 / 1000)
    assert read("senml", one(), units=Units("auto"), names_device=False).acc_auto
    assert not read("senml", one(u="g"), units=Units("auto"), names_device=False).acc_auto


def test_a_gyroscope_alone_is_read_with_its_times():
    (samples,) = read_all("senml", one("gx", "gy", "gz", bn="w:", bt=1.7e9))
    assert (len(samples.acc), samples.gyro.tolist()) == (0, [[0, 1, 2]])
    assert samples.gyro_t_ns.tolist() == [17 * 10**17] * 3 or samples.gyro_t_ns.tolist() == [17 * 10**17]
    _, (rejection,) = decoder("senml").decode(sent(encoded(one("gx", "gy", "gz", bn="w:", bt=1.7e9))))
    assert (rejection.reason, rejection.device) == ("empty", "w")


@pytest.mark.parametrize(
    ("reason", "detail", "pack"),
    [
        ("shape", "the message is an object with acc, expected a list of SenML records", {"acc": []}),
        ("shape", "a record is the number 5", [5]),
        ("shape", "no records named ax, ay and az, but those of temp, volt", [{"n": "temp"}, {"n": "volt", "v": 1}]),
        ("empty", "no records named ax, ay and az, but none", []),
        ("shape", "only some of ax, ay, az", one("ax", "ay", bn="w:")),
        ("shape", "ax and az have 2 and 1 records", [*one(bn="w:"), *one("ax", "ay")]),
        (
            "shape",
            "ax and ay have different times",
            [{"bn": "w:", "n": "ax", "v": 1}, {"n": "ay", "v": 1, "t": 9}, {"n": "az", "v": 1}],
        ),
        ("shape", "the field v of SenML is the text 'x', expected a number", [{"bn": "w:", "n": "ax", "v": "x"}]),
        ("shape", "the field bn of SenML is the number 5, expected a text", [{"bn": 5, "n": "ax", "v": 1}]),
        ("shape", "the record of w:ax has no v", [{"bn": "w:", "n": "ax", "vs": "x"}]),
        ("shape", "the field new_ of SenML must be understood", [{"bn": "w:", "n": "ax", "v": 1, "new_": 1}]),
        ("units", "unit 'Cel'", one(bn="w:", u="Cel")),
        (
            "units",
            "ax in g, ay in mg",
            [{"bn": "w:", "n": n, "u": u, "v": 1} for n, u in zip(("ax", "ay", "az"), ("g", "mg", "g"), strict=True)],
        ),
        ("units", "have different units", [*one(bn="w:", u="g"), *one(u="mg")]),
        (
            "time",
            "some records have a time since 1970, others one relative",
            [*one(bn="w:", bt=1.7e9), *one(bt=0, t=5)],
        ),
        ("time", "bt and t: t is 9000000000000.0", one(bn="w:", bt=9e12)),
        ("device", "the device is called ''", one()),
        ("device", "the device is called 'a/b'", one(bn="a/b/")),
        ("range", "a sample is", one(bn="w:", u="g", bv=5000)),
    ],
)
def test_a_malformed_pack_is_rejected_with_what_was_found(reason, detail, pack):
    check_rejected(reason, detail, "senml", pack)


labels = st.sampled_from(["bn", "bt", "bu", "bv", "n", "u", "v", "t", "vs", "x_"])
values: st.SearchStrategy[Any] = st.floats(-1e3, 1e3) | st.sampled_from(
    [1.7e9, 1.7e9 + 0.02, "ax", "ay", "az", "gx", "w:", "g", None, True, []]
)


@given(st.lists(st.dictionaries(labels, values, max_size=5), max_size=8), st.booleans())
def test_whatever_records_hold_they_are_samples_or_rejected(records, as_cbor):
    names = {"bn": -2, "bt": -3, "bu": -4, "bv": -5, "n": 0, "u": 1, "v": 2, "t": 6, "vs": 3}
    if as_cbor:
        message = cbor2.dumps([{names.get(key, key): value for key, value in record.items()} for record in records])
    else:
        message = encoded(records)
    try:
        for samples in read_all("senml", message):
            assert np.isfinite(samples.acc).all()
    except RejectError as error:
        assert error.detail.isprintable()  # noqa: PT017
