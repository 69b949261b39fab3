"""Properties: no messages make a probe fail, and its report is text for people and TOML for the daemon."""

from __future__ import annotations

import json
import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from harstream.core.spec import SignalSpec
from harstream.probe import report
from harstream.probe.clocks import find_clock
from harstream.probe.findings import examine
from harstream.probe.places import collect, is_number
from harstream.probe.trial import pace
from harstream.wire.decoder import Message
from harstream.wire.fields import MISSING, WHOLE, find

from ..wire import shapes
from . import devices
from .test_shapes import CASES, PHONE, WAIST

_NAMES = st.sampled_from(
    ["acc", "gyro", "x", "y", "z", "ax", "ay", "az", "t", "ts", "id", "data", "samples", "0", "a.b", ""]
)
_VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["1.5", "w1", "accel", "1e400", "nan"])
)
_DOCUMENTS = st.recursive(
    _VALUES,
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(_NAMES, inner, max_size=6),
    max_leaves=20,
)
_TOPICS = st.sampled_from(
    ["a", "a/b", "a/c", "w/1/accelerometer", "w/1/gyroscope", "/", "\u202e/x", "a/{device}", "$x/y"]
)


_BESIDE = ("w/k1/accelerometer", "w/k1/gyroscope", "w/k1/{gyro}", "w/k1/gyr\x85", "w/{device}/gyroscope")


@given(
    st.lists(st.tuples(_TOPICS, st.binary(max_size=40) | _DOCUMENTS.map(devices.dumps)), max_size=12),
    st.sampled_from([PHONE, WAIST]),
)
def test_nothing_makes_a_probe_fail(sent: list[tuple[str, bytes]], spec: SignalSpec):
    messages = [Message(topic, payload, 1.7e9 + n / 3) for n, (topic, payload) in enumerate(sent)]
    findings = examine(messages, spec)
    for line in report.describe(findings, "phone").splitlines():
        assert line.isprintable()
    json.dumps(report.figures(findings))
    tomllib.loads(report.settings(findings, "mqtt://host:1"))


@given(
    st.lists(_DOCUMENTS.map(devices.dumps) | st.binary(max_size=40), min_size=1, max_size=4), st.sampled_from(_BESIDE)
)
def test_nothing_beside_an_accelerometer_makes_a_probe_fail(sent: list[bytes], topic: str):
    of_acc = devices.heard(devices.acc_alone, "w/k1/accelerometer", per_message=1, seconds=1.0)
    others = [Message(topic, payload, one.arrival_s) for one, payload in zip(of_acc, 10 * sent, strict=False)]
    findings = examine(devices.together(of_acc, others), WAIST)
    assert findings.sources
    assert report.describe(findings, "waist").splitlines()[0].endswith("1 device with an accelerometer")
    json.dumps(report.figures(findings))
    tomllib.loads(report.settings(findings, "mqtt://host:1"))


@given(_DOCUMENTS)
def test_places_are_where_the_decoder_finds_them(document: Any):
    for place, values in collect([document]).items():
        holders = [document]
        if place.samples:
            holders = document if place.samples == WHOLE else find(document, place.samples)
        found = [find(holder, place.path) for holder in holders if isinstance(holder, dict | list)]
        assert any(value is not MISSING for value in found), place
        assert len(values) == 1
        if place.kind in ("number", "column"):
            assert all(map(is_number, values[0]))


@given(st.floats(1, 400), st.integers(1, 50), st.integers(3, 40))
def test_the_pace_of_even_messages_is_exact(rate_hz: float, per_message: int, n_messages: int):
    import numpy as np

    first_s = np.arange(n_messages) * per_message / rate_hz
    measured, jitter_ms, gaps, longest = pace(first_s, np.full(n_messages, float(per_message)))
    assert abs(measured / rate_hz - 1) < 1e-6
    assert jitter_ms < 1e-6
    assert (gaps, longest) == (0, 0.0)


@given(st.sampled_from(sorted(CASES)), st.integers(0, 1000))
def test_settings_do_not_depend_on_the_order_of_devices(name: str, seed: int):
    shape, per_message, _, _ = CASES[name]
    one = devices.heard(shape, "imu/w1", per_message=per_message, seconds=3.0, seed=seed % 5)
    other = devices.heard(shape, "imu/w2", per_message=per_message, seconds=3.0, seed=1 + seed % 5)
    findings = [examine(devices.together(*streams), PHONE) for streams in ((one, other), (other, one))]
    assert report.settings(findings[0]) == report.settings(findings[1])


def test_a_counter_is_no_clock():
    documents = [{"seq": n, "uptime": 5.0 + n} for n in range(10)]
    from harstream.probe.clocks import Arrival

    arrivals = [Arrival(document, "w", 1.7e9 + n) for n, document in enumerate(documents)]
    clock = find_clock(collect(documents), arrivals, "", ())
    assert clock is not None
    assert (clock.place.path, clock.unit, clock.since_1970) == ("uptime", "s", False)


def test_the_report_names_what_it_found():
    streams = [
        devices.heard(devices.mpu_counts, "home/esp-1/mpu", per_message=1),
        devices.heard(shapes.sensor_logger, "sensor-logger", "p1"),
        devices.heard(devices.constant(b"21.5"), "home/temperature"),
    ]
    text = report.describe(examine(devices.together(*streams), PHONE), "phone")
    assert "2 devices with an accelerometer" in text
    assert "source1: home/{device}/mpu, JSON, one sample a message" in text
    assert "accelerometer x, counts, 16384 per g" in text
    assert "ms since the start of the device" in text
    assert "source2: sensor-logger, Sensor Logger, 25 samples a message" in text
    assert "400 messages accepted, 0 rejected" in text
    assert "home/temperature: 16 messages, JSON" in text
