"""Other names of time and rate are understood, or named once; canonical names win."""

from __future__ import annotations

import doctest
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harstream.wire import other_names
from harstream.wire.other_names import IgnoredField, IgnoredFieldNotes, kind_of
from harstream.wire.payloads import decode
from harstream.wire.samples import Samples, Units

from ..calls import count_calls

T_NS = 1_763_668_800_020_000_000
SINGLE = {"ax": 0, "ay": 0, "az": 1}


def read(fields) -> Samples:
    return decode(json.dumps({**SINGLE, **fields}).encode(), Units())


def names(samples: Samples) -> list[str]:
    return [field.name for field in samples.ignored]


def test_the_examples_of_the_docstrings_are_right():
    results = doctest.testmod(other_names)
    assert results.attempted > 1
    assert results.failed == 0


@pytest.mark.parametrize("name", ["timestamp", "ts", "time"])
@pytest.mark.parametrize(
    ("value", "t_ns"),
    [
        (1763668800.02, T_NS),
        (1763668800, T_NS - 20_000_000),
        (1763668800020, T_NS),
        (1763668800020.0, T_NS),
        (1763668800020000, T_NS),
        (1763668800020000000, T_NS),
        ("2025-11-20T20:00:00.020Z", T_NS),
        ("2025-11-20T21:00:00.020+01:00", T_NS),
        ("2025-11-20 20:00:00.020", T_NS),  # UTC, as no zone is given
    ],
)
def test_the_unit_of_a_time_under_another_name_is_told_from_its_magnitude(name, value, t_ns):
    samples = read({name: value})
    assert samples.t_ns == t_ns
    assert samples.ignored == ()


@pytest.mark.parametrize("name", ["rateHz", "fs", "sampleRateHz", "sample_rate", "sampling_rate"])
@pytest.mark.parametrize("rate", [50, 52.5, 0])
def test_a_rate_under_another_name_is_understood(name, rate):
    samples = read({"t": 1, name: rate})
    assert samples.rate_hz == rate
    assert samples.ignored == ()


@pytest.mark.parametrize("value", [1, "now", None, [1], {"sec": 1}, True])
def test_canonical_names_win_whatever_the_others_hold(value):
    others = dict.fromkeys(("timestamp", "ts", "time", "datetime", "rateHz", "fs", "hz"), value)
    samples = read({"t_ns": T_NS, "rate_hz": 50, **others})
    assert (samples.t_ns, samples.rate_hz, samples.ignored) == (T_NS, 50.0, ())


def test_the_first_name_with_a_usable_value_counts():
    samples = read({"timestamp": "noon", "ts": 1763668800.02, "time": 1, "fs": 20, "rateHz": -1})
    assert (samples.t_ns, samples.rate_hz, samples.ignored) == (T_NS, 20.0, ())


@pytest.mark.parametrize(
    "value",
    [
        12345,  # milliseconds since the start of the device, perhaps
        86_400_000_000_000,  # nanoseconds since its start
        -1,
        10**30,
        "12:30:00",
        "2025-11-20",
        "1763668800",
        "noon",
        {"sec": 1},
        [1763668800.02],
        True,
    ],
)
def test_a_time_that_is_none_is_ignored_and_named_with_its_value(value):
    samples = read({"timestamp": value, "rate_hz": 50})
    assert samples.t_ns is None
    (field,) = samples.ignored
    assert field.describe() == (
        f"field 'timestamp' is {value!r}, not a time since 1970, and is ignored: "
        "send the time of the first sample as t (seconds since 1970), t_ms, t_us or t_ns"
    )


@pytest.mark.parametrize("value", ["50", -50, True, [50], 10**400])
def test_a_rate_that_is_none_is_ignored_and_named(value):
    samples = read({"t": 1, "fs": value})
    assert samples.rate_hz == 0
    assert samples.ignored[0].describe().endswith("is ignored: send the number of samples per second as rate_hz")


def test_null_is_as_good_as_no_field():
    samples = read({"t": None, "timestamp": None, "rate_hz": None, "fs": None})
    assert (samples.t_ns, samples.rate_hz, samples.ignored) == (None, 0.0, ())


NAMES = {
    "time": "datetime date epoch millis Timestamp timeStamp timestampMs timestamp_ns device_time sampleTime ms "
    "unixTime t0 T uptime seconds acc_timestamp startTimeUTC time_s stamp",
    "rate": "frequency hz Hz odr rate freq sampleRate samplingRateHz sampling_frequency imu_odr acc_rate dt "
    "interval_ms samplePeriod sample_interval sps SampleRate",
    "units": "unit acc_unit accUnits gyroUnit Units",
    None: "battery seq id device mag temp temperature_unit timezone time_zone heart_rate hr bitrate latency_ms "
    "duration timeout acc gyro ax rate_hz t t_ms units timestamp fs state label cutoff_hz build_date rssi 时间",
}


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for kind, text in NAMES.items() for name in text.split()])
def test_names_that_look_like_a_time_a_rate_or_units(name, kind):
    assert kind_of(name) == kind


def test_empty_and_very_long_names_look_like_nothing():
    assert kind_of("") is None
    assert kind_of("t" * 65) is None


def test_fields_that_look_like_what_is_missing_are_named():
    assert names(read({"datetime": "x", "hz": 50, "unit": "g", "battery": 3})) == ["datetime", "hz", "unit"]
    assert names(read({"t": 1, "datetime": "x", "hz": 50})) == ["hz"]
    assert names(read({"datetime": "x", "rate_hz": 50, "hz": 50})) == ["datetime"]
    assert names(read({"timestamp": 1763668800, "datetime": "x"})) == []
    assert names(read({"t": 1, "rate_hz": 50, "units": {}, "unit": "g"})) == []
    assert names(read({"units": {"accelerometer": "m/s2", "acc": "g", "temp": "C"}})) == ["units.accelerometer"]


fields = st.sampled_from(["timestamp", "ts", "time", "fs", "sample_rate", "hz", "t0", "x"])
values = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.lists(st.booleans())


@given(st.dictionaries(fields, values))
def test_no_other_name_makes_a_message_rejected(others):
    samples = read({**others, "t": 1, "rate_hz": 50})
    assert (samples.t_ns, samples.rate_hz, names(samples)) == (10**9, 50.0, [])
    samples = read(others)
    assert samples.t_ns is None or samples.t_ns >= 10**18
    assert samples.rate_hz >= 0


def test_only_the_first_fields_of_a_message_are_looked_at():
    samples = read({"datetime": "x", **{f"x{number}": 1 for number in range(5000)}, "hz": 50})
    assert names(samples) == ["datetime"]
    samples = read({"units": {f"sensor{number}": "g" for number in range(5000)}})
    assert len(names(samples)) <= 64


def test_the_work_for_a_message_does_not_grow_with_its_fields():
    few, many = ({f"sensorTime{number}": 1 for number in range(n)} for n in (100, 10_000))
    payloads = [json.dumps({**SINGLE, **fields, "units": {}}).encode() for fields in (few, many)]
    calls = [count_calls(decode, payload, Units()) for payload in payloads]
    assert calls[1] < 1.1 * calls[0]


@pytest.mark.parametrize("depth", [10, 300, 900])
def test_a_value_that_is_long_or_deep_is_named_by_its_begin(depth):
    payload = b'{"ax":0,"ay":0,"az":1,"timestamp":%s%s}' % (b"[" * depth, b"]" * depth)
    (field,) = decode(payload, Units()).ignored
    assert field.name == "timestamp"
    assert len(field.describe()) < 250


# --- notes --------------------------------------------------------------------------------------------


def test_a_field_is_noted_once_for_a_device():
    notes, field = IgnoredFieldNotes(), IgnoredField("hz", "rate")
    notes.add("w1", [field])
    notes.add("w1", [field, field])
    assert notes.take() == [
        "device 'w1': field 'hz' is ignored: send the number of samples per second as rate_hz",
    ]
    notes.add("w1", [field])
    assert notes.take() == []
    notes.add("w2", [field])
    assert len(notes.take()) == 1


def test_a_thousand_devices_make_ten_notes():
    notes = IgnoredFieldNotes()
    for number in range(1000):
        notes.add(f"w{number}", [IgnoredField("hz", "rate")])
    lines = notes.take()
    assert len(lines) == 10
    assert [line.endswith("further devices with this field are not named") for line in lines] == [False] * 9 + [True]


def test_notes_are_bounded_and_safe_to_print():
    notes = IgnoredFieldNotes()
    for number in range(10_000):
        notes.add("a\u202e", [IgnoredField("\x1b" * number + "hz", "time", "\n" * 1000)])
    lines = notes.take()
    assert len(lines) == 100
    assert all(line.isprintable() and len(line) < 1000 for line in lines)


@pytest.mark.parametrize("name", ["ts", "timestamp", "time", "fs", "sampleRateHz"])
@pytest.mark.parametrize("value", ["1e400", "-1e400", "9" * 5000], ids=len)
def test_a_value_that_no_number_holds_is_named_and_raises_nothing(name, value):
    samples = decode(b'{"ax": 0, "ay": 0, "az": 1, "%s": %s}' % (name.encode(), value.encode()), Units())
    assert names(samples) == [name]
    assert len(samples.ignored[0].describe()) < 200
