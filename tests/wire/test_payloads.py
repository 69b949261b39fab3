"""Payloads in every format decode to samples; everything malformed is rejected with the right reason."""

from __future__ import annotations

import json
import math
import struct

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from harstream.wire.canonical import encode_json
from harstream.wire.packed import encode_packed
from harstream.wire.payloads import decode
from harstream.wire.reject import REASONS, RejectError
from harstream.wire.samples import Units
from harstream.wire.times import YEAR_2200_NS

ROW, TURN = [0.91, -0.11, 0.51], [0.01, 0.02, -0.5]
T_NS = 1_763_668_800_123_456_789


def packed(
    rows, *, t_ns=T_NS, rate_hz=50.0, flags=1, count=None, scales=(), magic=b"HS", version=1, form="<f4", reserved=0
):
    array = np.asarray(rows, form)
    header = struct.pack(
        "<2sBBqfHH", magic, version, flags, t_ns, rate_hz, len(rows) if count is None else count, reserved
    )
    return header + struct.pack(f"<{len(scales)}f", *scales) + array.tobytes()


def read(payload, units=None):
    return decode(payload if isinstance(payload, bytes) else json.dumps(payload).encode(), units or Units())


def test_the_canonical_batch():
    samples = read({"t": 1763668800.02, "rate_hz": 50, "acc": [ROW, ROW], "gyro": [TURN, TURN]})
    assert samples.t_ns == 1_763_668_800_020_000_000
    assert samples.rate_hz == 50.0
    assert samples.acc.dtype == np.float32
    np.testing.assert_array_equal(samples.acc, np.array([ROW, ROW], np.float32))
    np.testing.assert_array_equal(samples.gyro, np.array([TURN, TURN], np.float32))


def test_time_rate_and_gyroscope_may_be_left_out():
    samples = read({"acc": [ROW]})
    assert (samples.t_ns, samples.rate_hz, samples.gyro) == (None, 0.0, None)


def test_a_flat_single_sample():
    samples = read({"t": 1.5, "ax": 0.1, "ay": 0.2, "az": 1, "gx": 1, "gy": 2, "gz": 3})
    np.testing.assert_array_equal(samples.acc, np.array([[0.1, 0.2, 1]], np.float32))
    np.testing.assert_array_equal(samples.gyro, np.array([[1, 2, 3]], np.float32))
    assert read({"ax": 0.1, "ay": 0.2, "az": 1}).gyro is None


def test_unknown_fields_are_ignored():
    extra = {"mag": [[1, 2, 3]], "battery": 0.5, "id": "w1", "nested": {"acc": "no"}, "seq": None}
    np.testing.assert_array_equal(read({"acc": [ROW], **extra}).acc, np.array([ROW], np.float32))


@pytest.mark.parametrize(
    ("field", "t_ns"),
    [
        ({"t": 1763668800}, 1_763_668_800_000_000_000),
        ({"t": 1763668800.020001}, 1_763_668_800_020_001_000),
        ({"t": 0}, 0),
        ({"t_ms": 1763668800123}, 1_763_668_800_123_000_000),
        ({"t_us": 1763668800123457}, 1_763_668_800_123_457_000),
        ({"t_ns": T_NS}, T_NS),
        ({"t_ns": YEAR_2200_NS}, YEAR_2200_NS),
        ({"t": 1, "t_ms": 2, "t_us": 3, "t_ns": 4}, 4),  # the finest unit counts
        ({"t_ms": 1763668800123.4567}, 1_763_668_800_123_457_000),  # Python's time.time() * 1000
        ({"t_ms": 1.7636688e12}, 1_763_668_800_000_000_000),
        ({"t_us": 1763668800123456.75}, 1_763_668_800_123_457_000),
        ({"t_ns": 1.5e18}, 1_500_000_000_000_000_000),
        ({"t_ns": 1763668800123456789.0}, 1_763_668_800_123_456_768),  # the nearest float
        ({"t_ns": float(YEAR_2200_NS)}, YEAR_2200_NS),
    ],
)
def test_event_time_in_every_unit(field, t_ns):
    assert read({**field, "acc": [ROW]}).t_ns == t_ns


@given(st.integers(0, YEAR_2200_NS))
def test_nanoseconds_never_pass_through_a_float(t_ns):
    assert read({"t_ns": t_ns, "acc": [ROW]}).t_ns == t_ns
    assert read(packed([ROW], t_ns=t_ns, flags=0)).t_ns == (t_ns or None)


@pytest.mark.parametrize("gyro", [True, False])
def test_packed_float32(gyro):
    rows = [[*ROW, *TURN][: 6 if gyro else 3]] * 3
    samples = read(packed(rows, flags=int(gyro)))
    assert (samples.t_ns, samples.rate_hz) == (T_NS, 50.0)
    np.testing.assert_array_equal(samples.acc, np.array([ROW] * 3, np.float32))
    assert (samples.gyro is None) is not gyro


def test_packed_int16_times_its_scales():
    rows = [[1, -2, 32767, 10, -20, -32768]]
    samples = read(packed(rows, flags=3, scales=(1 / 1024, 1 / 64), form="<i2"))
    np.testing.assert_array_equal(samples.acc, np.array([[1 / 1024, -2 / 1024, 32767 / 1024]], np.float32))
    np.testing.assert_array_equal(samples.gyro, np.array([[10 / 64, -20 / 64, -512]], np.float32))


def test_packed_without_time_and_rate():
    samples = read(packed([[*ROW, *TURN]], t_ns=0, rate_hz=0.0, reserved=7))
    assert (samples.t_ns, samples.rate_hz) == (None, 0.0)


def test_units_come_from_the_message_else_from_the_configuration():
    row = [[9.80665, 0.0, -19.6133]]
    turn = [[180.0, 0.0, -90.0]]
    other = Units("m/s2", "deg/s")
    for samples in (
        read({"acc": row, "gyro": turn, "units": {"acc": "m/s2", "gyro": "deg/s"}}),
        read({"acc": row, "gyro": turn}, other),
        read(packed([[*row[0], *turn[0]]]), other),
    ):
        np.testing.assert_allclose(samples.acc, [[1, 0, -2]], rtol=1e-6)
        np.testing.assert_allclose(samples.gyro, [[math.pi, 0, -math.pi / 2]], rtol=1e-6)
    samples = read({"acc": [ROW], "gyro": turn, "units": {"acc": "g"}}, other)
    np.testing.assert_array_equal(samples.acc, np.array([ROW], np.float32))
    np.testing.assert_allclose(samples.gyro, [[math.pi, 0, -math.pi / 2]], rtol=1e-6)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("g", 1),
        ("G", 1),
        ("mg", 1e-3),
        ("m/s2", 1 / 9.80665),
        ("m/s^2", 1 / 9.80665),
        ("m/s²", 1 / 9.80665),
        ("m / s^2", 1 / 9.80665),
        ("m/s/s", 1 / 9.80665),
        ("m s-2", 1 / 9.80665),
        ("ms⁻²", 1 / 9.80665),
    ],
)
def test_units_of_accelerations_in_their_usual_spellings(unit, factor):
    samples = read({"acc": [[100, 0, -200]], "units": {"acc": unit}})
    np.testing.assert_allclose(samples.acc, [[100 * factor, 0, -200 * factor]], rtol=1e-6)
    assert not samples.acc_auto


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("rad/s", 1),
        ("rad s-1", 1),
        ("radians/s", 1),
        ("deg/s", math.pi / 180),
        ("dps", math.pi / 180),
        ("DPS", math.pi / 180),
        ("°/s", math.pi / 180),
    ],
)
def test_units_of_angular_velocities_in_their_usual_spellings(unit, factor):
    samples = read({"acc": [ROW], "gyro": [[90, 0, -180]], "units": {"gyro": unit}})
    np.testing.assert_allclose(samples.gyro, [[90 * factor, 0, -180 * factor]], rtol=1e-6)


@pytest.mark.parametrize("form", [{"units": {"acc": "auto"}}, {}])
def test_accelerations_in_an_unknown_unit_stay_as_they_were_sent(form):
    row = [981.0, -9.8, 0.0]
    samples = read({"acc": [row], "gyro": [[180, 0, 0]], **form}, Units("auto", "deg/s"))
    assert samples.acc_auto
    np.testing.assert_array_equal(samples.acc, np.array([row], np.float32))
    np.testing.assert_allclose(samples.gyro, [[math.pi, 0, 0]], rtol=1e-6)
    assert read(packed([[*row, *TURN]]), Units("auto")).acc_auto
    assert not read({"acc": [row], "units": {"acc": "g"}}, Units("auto")).acc_auto


@pytest.mark.parametrize(
    ("rows", "accepted"),
    [
        ([[0, 0, 1000]], True),
        ([[16_000, -16_000, 16_000]] * 3, True),
        ([[0, 0, 9.8]] * 2 + [[0, 0, 1001]] * 2, True),  # a milli-g device in free fall half of the time
        ([[0, 0, 9.8]] * 3 + [[0, 0, 1001]] * 2, False),  # two corrupt samples of a device in m/s2
        ([[0, 0, 1e6]], True),
        ([[0, 0, 1.01e6]], False),
    ],
)
def test_numbers_as_large_as_those_in_milli_g_are_accepted_where_the_unit_is_unknown(rows, accepted):
    if accepted:
        np.testing.assert_array_equal(read({"acc": rows}, Units("auto")).acc, np.array(rows, np.float32))
    else:
        with pytest.raises(RejectError, match="in an unknown unit") as caught:
            read({"acc": rows}, Units("auto"))
        assert caught.value.reason == "range"


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (
            {"t": 1763668800123},
            "t is 1763668800123, which would be the year 57858; it looks like milliseconds since 1970: send it as t_ms",
        ),
        ({"t": 1763668800123.5}, "it looks like milliseconds since 1970: send it as t_ms"),
        ({"t": 1763668800123456}, "it looks like microseconds since 1970: send it as t_us"),
        ({"t": T_NS}, "it looks like nanoseconds since 1970: send it as t_ns"),
        ({"t_ms": 1763668800123456}, "it looks like microseconds since 1970: send it as t_us"),
        ({"t_us": T_NS}, "it looks like nanoseconds since 1970: send it as t_ns"),
        (
            {"t": 9e9},
            "t is 9000000000.0, which would be the year 2255; expected seconds since 1970, before the year 2200",
        ),
        ({"t": 8_000_000_000_000}, "expected seconds since 1970, before the year 2200"),  # as ms, it is 2223
        ({"t": -5}, "t is -5, expected seconds since 1970"),
        ({"t_ns": 10**40}, "expected nanoseconds since 1970"),
        ({"t": 10**400}, ""),
    ],
)
def test_a_time_in_another_unit_is_rejected_with_the_field_that_it_belongs_into(field, message):
    with pytest.raises(RejectError) as caught:
        read({**field, "acc": [ROW]})
    assert caught.value.reason == "time"
    assert message in caught.value.detail
    assert "\n" not in caught.value.detail


BAD = [
    ("empty", b""),
    ("empty", {"acc": []}),
    ("empty", {"acc": [], "gyro": []}),
    ("empty", packed([])),
    ("json", b"walking"),
    ("json", b'{"acc": [[1, 2, 3]]'),
    ("json", b'{"acc": [[1, 2, 3]]} {}'),
    ("json", b"\xff\xfe{}"),
    ("json", b'{"acc": [[1, 2, 3]], "units": {"acc": "\xff"}}'),
    ("json", b'{"x": ' + b"[" * 100_000),
    ("json", b"H"),
    ("range", {"acc": [[3e38, 0, 0]], "gyro": [[0, 0, 0]]}),
    ("range", {"acc": [[0, 0, 1]], "gyro": [[0, -1001, 0]]}),
    ("range", {"acc": [[9900, 0, 0]], "units": {"acc": "m/s2"}}),
    ("range", packed([[0, 0, 1e9, 0, 0, 0]])),
    ("shape", b"[1, 2]"),
    ("shape", b"null"),
    ("json", b"[" * 100_000),
    ("shape", b"0"),
    ("shape", {}),
    ("shape", {"t": 1, "gyro": [TURN]}),
    ("shape", {"acc": [[1, 2]]}),
    ("shape", {"acc": [[1, 2, 3, 4]]}),
    ("shape", {"acc": [ROW, 1]}),
    ("shape", {"acc": [["1", "2", "3"]]}),
    ("shape", {"acc": [[1, 2, None]]}),
    ("shape", {"acc": {"x": 1}}),
    ("shape", {"acc": [ROW, ROW], "gyro": [TURN]}),
    ("shape", {"acc": [ROW], "gyro": []}),
    ("shape", {"ax": 1, "ay": 2}),
    ("shape", {"ax": 1, "ay": 2, "az": 3, "gx": 1}),
    ("shape", {"acc": [ROW], "units": "g"}),
    ("shape", {"acc": [ROW], "rate_hz": "50"}),
    ("not_finite", b'{"acc": [[1, 2, NaN]]}'),
    ("not_finite", b'{"acc": [[1, 2, -Infinity]]}'),
    ("not_finite", b'{"acc": [[1, 2, 1e39]]}'),
    ("not_finite", b'{"acc": [[1, 2, 1e400]]}'),
    ("not_finite", packed([[1, 2, math.nan]], flags=0)),
    ("not_finite", packed([[1, 2, 3, 4, 5, math.inf]])),
    ("not_finite", packed([[1, 2, 3]], flags=2, scales=(math.nan, 1), form="<i2")),
    ("not_finite", packed([[1, 2, 3]], flags=2, scales=(3e38, 1), form="<i2")),
    ("time", {"t": -1, "acc": [ROW]}),
    ("time", {"t": -0.001, "acc": [ROW]}),
    ("time", {"t": 1e18, "acc": [ROW]}),
    ("time", {"t": 7_258_118_401, "acc": [ROW]}),
    ("time", {"t": 1763668800123, "acc": [ROW]}),  # milliseconds called seconds
    ("time", {"t_ns": YEAR_2200_NS + 1, "acc": [ROW]}),
    ("time", {"t_ns": 10**30, "acc": [ROW]}),
    ("time", {"t_us": -1, "acc": [ROW]}),
    ("time", {"t": "now", "acc": [ROW]}),
    ("not_finite", b'{"t_ms": NaN, "acc": [[1, 2, 3]]}'),
    ("time", b'{"t_ms": 1e400, "acc": [[1, 2, 3]]}'),
    ("time", {"t_ms": 1e300, "acc": [ROW]}),
    ("time", {"t_ns": -0.75, "acc": [ROW]}),
    ("time", b'{"t": 1e400, "acc": [[1, 2, 3]]}'),
    ("time", packed([[*ROW, *TURN]], t_ns=-1)),
    ("time", packed([[*ROW, *TURN]], t_ns=YEAR_2200_NS + 1)),
    ("rate", {"rate_hz": -50, "acc": [ROW]}),
    ("rate", b'{"rate_hz": 1e400, "acc": [[1, 2, 3]]}'),
    ("rate", packed([[*ROW, *TURN]], rate_hz=math.nan)),
    ("rate", packed([[*ROW, *TURN]], rate_hz=math.inf)),
    ("rate", packed([[*ROW, *TURN]], rate_hz=-1.0)),
    ("units", {"acc": [ROW], "units": {"acc": "ug"}}),
    ("units", {"acc": [ROW], "units": {"acc": "rad/s"}}),
    ("units", {"acc": [ROW], "gyro": [TURN], "units": {"gyro": "auto"}}),
    ("units", {"acc": [ROW], "gyro": [TURN], "units": {"gyro": "rpm"}}),
    ("compressed", b"\x1f\x8b\x08"),
    ("cbor", b"\xa1\x63acc"),
    ("cbor", bytes.fromhex("a1 63616363 d81c 80")),  # a shared list
    ("cbor", bytes.fromhex("a0 00")),
    ("cbor", b"\xbf" + b"\x61a\xa1" * 100_000),
    ("msgpack", b"\x81\xa3acc"),
    ("msgpack", b"\x81\xa1a" * 100_000),
    ("shape", bytes.fromhex("a1 63616363 01")),
    ("shape", bytes.fromhex("81 a3 616363 01")),
    ("not_finite", bytes.fromhex("a1 63616363 81 83 00 00 f97e00")),
    ("packed", b"HS"),
    ("packed", packed([ROW], flags=0)[:-1]),
    ("packed", packed([ROW], flags=0) + b"\0"),
    ("packed", packed([ROW], flags=0, count=2)),
    ("packed", packed([ROW], flags=0, count=65535)),
    ("packed", packed([ROW], flags=1)),
    ("packed", packed([ROW], flags=4)),
    ("packed", packed([ROW], flags=0, version=2)),
    ("packed", packed([[1, 2, 3]], flags=2, form="<i2")),  # its scales are missing
]


@pytest.mark.parametrize(("reason", "payload"), BAD, ids=lambda value: repr(value)[:60])
def test_a_malformed_payload_is_rejected_for_the_right_reason(reason, payload):
    with pytest.raises(RejectError) as caught:
        read(payload)
    assert caught.value.reason == reason
    assert caught.value.detail


def test_every_reason_a_payload_can_have_is_shown_above():
    from_outside = {"too_large", "device", "gyroscope", "retained", "internal"}  # test_decoder.py
    from_outside |= {"csv"}  # test_csv_text.py
    assert {reason for reason, _ in BAD} == set(REASONS) - from_outside


@pytest.mark.parametrize("begin", [b"[", b'{"a":'])
def test_a_message_that_is_too_deep_is_told_so(begin):
    with pytest.raises(RejectError, match="too deep inside each other; send samples flat"):
        read(b'{"acc": [[0, 0, 1]], "more": %s' % (begin * 5000))


@pytest.mark.parametrize("length", [40, 41, 200_000])
def test_an_unknown_unit_is_shown_by_its_begin(length):
    with pytest.raises(RejectError) as caught:
        read({"acc": [ROW], "units": {"acc": "x" * length}})
    shown = "'xxxxxxxx" if length == 40 else f"x'... ({length} characters), expected one of g, "
    assert shown in caught.value.detail
    assert len(caught.value.detail) < 200


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_samples_or_rejected(data):
    for payload in (data, b"HS" + data, b"HS\x01" + data, b"{" + data + b"}"):
        check_decode(payload)


@given(st.binary(max_size=80), st.integers(0, 60), st.sampled_from(["json", "packed", "int16"]))
def test_a_damaged_payload_is_samples_or_rejected(noise, at, form):
    payload = {
        "json": encode_json(T_NS, 50.0, np.ones((2, 6), np.float32)),
        "packed": packed([[*ROW, *TURN]] * 2),
        "int16": packed([[1, 2, 3, 4, 5, 6]] * 2, flags=3, scales=(0.1, 0.1), form="<i2"),
    }[form]
    check_decode(payload[:at] + noise + payload[at + len(noise) :])
    check_decode(payload[:at])


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


numbers = st.integers() | st.floats()


@st.composite
def wild_json(draw):
    """Draw JSON of all kinds, most of it close to valid samples."""
    value = draw(
        anything
        | st.fixed_dictionaries(
            {
                "acc": st.just([ROW])
                | st.lists(st.lists(st.floats() | st.integers(), min_size=3, max_size=3))
                | anything
            },
            optional=dict.fromkeys(("t", "t_ms", "t_us", "t_ns", "rate_hz", "gyro", "units"), numbers | anything),
        )
    )
    if draw(st.booleans()) and not isinstance(value, int):
        return msgspec.json.encode(value, enc_hook=str)
    return json.dumps(value).encode()


@given(wild_json())
def test_arbitrary_json_is_samples_or_rejected(payload):
    check_decode(payload)


def check_decode(payload):
    """Assert that a payload is rejected, or decodes to valid samples."""
    samples, detail = None, ""
    try:
        samples = decode(payload, Units())
    except RejectError as error:  # the constructor asserts that the reason is a known one
        detail = error.detail
    if samples is None:
        assert detail
        assert detail.isprintable()  # so it cannot break a line of the log
        return
    assert len(samples.acc) > 0
    assert samples.acc.shape[1] == 3
    assert np.isfinite(samples.acc).all()
    if samples.gyro is not None:
        assert samples.gyro.shape == samples.acc.shape
        assert np.isfinite(samples.gyro).all()
    assert samples.t_ns is None or 0 <= samples.t_ns <= YEAR_2200_NS
    assert math.isfinite(samples.rate_hz)
    assert samples.rate_hz >= 0


rows = arrays.arrays(np.float32, st.tuples(st.integers(1, 40), st.just(6)), elements=st.floats(-1000, 1000, width=32))


@given(rows, st.integers(1, YEAR_2200_NS))
def test_packed_round_trip_loses_nothing(samples, t_ns):
    back = decode(encode_packed(t_ns, 50.0, samples), Units())
    assert (back.t_ns, back.rate_hz) == (t_ns, 50.0)
    assert back.gyro is not None
    np.testing.assert_array_equal(np.hstack([back.acc, back.gyro]), samples)


@given(rows, st.integers(0, 4_000_000_000))
def test_json_round_trip_keeps_a_microunit_and_a_microsecond(samples, t_s):
    t_ns = t_s * 10**9 + 123_456_000
    back = decode(encode_json(t_ns, 50.0, samples), Units())
    assert (back.t_ns, back.rate_hz) == (t_ns, 50.0)
    assert back.gyro is not None
    np.testing.assert_allclose(np.hstack([back.acc, back.gyro]), samples, atol=1e-6, rtol=1e-7)


@pytest.mark.parametrize("encode", [encode_json, encode_packed])
def test_samples_without_a_gyroscope_make_a_message_without(encode):
    acc = np.array([ROW, ROW], np.float32)
    back = decode(encode(T_NS, 50.0, acc), Units())
    assert back.gyro is None
    np.testing.assert_allclose(back.acc, acc, atol=1e-6)
