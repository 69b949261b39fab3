"""Recording: exactly the samples that arrived are written, and they are read again to the bit."""

from __future__ import annotations

import json
import re
import resource
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harstream import datasets
from harstream.errors import ConfigError, DatasetError
from harstream.mqtt.urls import BrokerSettings, BrokerUrl
from harstream.record import Recorder, check_label
from harstream.wire.canonical import encode_json
from harstream.wire.fields import Fields
from harstream.wire.packed import encode_packed
from harstream.wire.payloads import PayloadConfig
from harstream.wire.samples import Units
from harstream.wire.topics import TopicTemplate

from .constants import T0_NS, UNREACHABLE
from .fakes import Clock
from .wire.shapes import sensor_logger


def new_recorder(out: Path, *devices: str, **options) -> Recorder:
    recorder = Recorder(
        BrokerSettings(BrokerUrl.parse(UNREACHABLE)),
        "test",
        TopicTemplate("wearables/{device}/imu"),
        devices or ("phone",),
        options.pop("subject", "anna"),
        out,
        **{"clock": Clock(T0_NS / 1e9), **options},
    )
    out.mkdir(exist_ok=True)
    return recorder


def walk(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)


def send(recorder: Recorder, samples: np.ndarray, t_s: float = 0.0, rate_hz: float = 50.0, announced: float = 50.0):
    """Send samples in messages of ten."""
    for start in range(0, len(samples), 10):
        t_ns = T0_NS + round((t_s + start / rate_hz) * 1e9)
        payload = encode_packed(t_ns, announced, samples[start : start + 10])
        recorder.receive("wearables/phone/imu", payload, False)


def test_a_format_that_is_configured_is_recorded(tmp_path):
    config = PayloadConfig("csv", Fields.parse({"columns": ["t", "ax", "ay", "az"], "t_unit": "ms"}))
    recorder = new_recorder(tmp_path, payload=config)
    t_ms = [T0_NS // 10**6 + 20 * i for i in range(40)]
    recorder.begin("WALKING")
    for begin in range(0, 40, 10):
        lines = "\n".join(f"{t},0.5,0,{1 + number / 1000}" for number, t in enumerate(t_ms[begin : begin + 10]))
        recorder.receive("wearables/phone/imu", lines.encode(), False)
    (file,) = recorder.end()
    assert (file.samples, table(file.path)[0][-1]) == (40, 780_000_000)


def table(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return the times in ns since T0, the samples and the labels of a file."""
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    t = np.array([int(seconds.replace(".", "")) * 1000 - T0_NS for seconds, *_ in rows])
    return t, np.array([row[1:-1] for row in rows], np.float32), [row[-1] for row in rows]


@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=30))
@settings(max_examples=20)
def test_samples_sent_are_loaded_again_to_the_bit(tmp_path_factory, sizes):
    out, samples = tmp_path_factory.mktemp("out"), walk(sum(sizes) + 60)
    recorder = new_recorder(out)
    recorder.begin("WALKING")
    for start, stop in zip([0, *np.cumsum(sizes)], [*np.cumsum(sizes), len(samples)], strict=True):
        payload = encode_packed(T0_NS + int(start) * 20_000_000, 0.0, samples[start:stop])
        recorder.receive("wearables/phone/imu", payload, False)
    [done] = recorder.end()
    assert (done.samples, done.label, done.device) == (len(samples), "WALKING", "phone")
    assert done.seconds == pytest.approx((len(samples) - 1) / 50)
    t, values, labels = table(done.path)
    np.testing.assert_array_equal(t, np.arange(len(samples)) * 20_000_000)
    np.testing.assert_array_equal(values, samples)
    assert set(labels) == {"WALKING"}
    [loaded] = datasets.load(f"csv:{out}")
    np.testing.assert_array_equal(loaded.samples, samples)
    assert (loaded.subject, loaded.rate_hz, loaded.segments[0].label) == ("anna", 50.0, "WALKING")


def test_late_and_repeated_samples_are_counted_and_not_written(tmp_path):
    recorder, samples = new_recorder(tmp_path), walk(60)
    recorder.begin("WALKING")
    send(recorder, samples[:40])
    send(recorder, samples[20:50], 0.4)
    send(recorder, samples[50:], 1.0)
    assert recorder.devices["phone"].late == 20
    assert "60 samples, 50.0 Hz, 0 gaps, 20 late" in recorder.status_lines()[0]
    t, values, _ = table(recorder.end()[0].path)
    np.testing.assert_array_equal(values, samples)
    assert (np.diff(t) > 0).all()


def test_missing_samples_are_a_gap_and_are_not_interpolated(tmp_path):
    recorder, samples = new_recorder(tmp_path), walk(100)
    recorder.begin("WALKING")
    send(recorder, samples[:50])
    send(recorder, samples[60:], 1.2)
    assert recorder.devices["phone"].gaps == 1
    t, values, _ = table(recorder.end()[0].path)
    np.testing.assert_array_equal(values, np.delete(samples, np.s_[50:60], axis=0))
    np.testing.assert_array_equal(t, np.delete(np.arange(100), np.s_[50:60]) * 20_000_000)


def test_a_clock_that_is_set_back_begins_another_file(tmp_path):
    recorder, samples = new_recorder(tmp_path), walk(200)
    recorder.begin("WALKING")
    send(recorder, samples[:100])
    send(recorder, samples[100:], -3600.0)
    first, second = (table(file.path) for file in recorder.end())
    np.testing.assert_array_equal(first[1], samples[:100])
    np.testing.assert_array_equal(second[1], samples[120:])  # the first two messages might have been late ones
    np.testing.assert_array_equal(second[0], np.arange(20, 100) * 20_000_000 - 3600 * 10**9)


def test_after_a_long_silence_the_first_message_is_written_too(tmp_path):
    recorder, samples = new_recorder(tmp_path), walk(200)
    recorder.begin("WALKING")
    send(recorder, samples[:100])
    send(recorder, samples[100:], 3600.0)
    t, values, _ = table(recorder.end()[0].path)
    np.testing.assert_array_equal(values, samples)
    assert t[100] == 3600 * 10**9


@pytest.mark.parametrize(("unit", "per_g"), [("g", 1.0), ("m/s2", 9.80665), ("mg", 1000.0)])
@pytest.mark.parametrize("size", [1, 10, 200])
def test_accelerations_of_an_unknown_unit_are_recorded_in_g(tmp_path, unit, per_g, size):
    recorder = new_recorder(tmp_path, units=Units("auto"))
    samples = walk(400) * np.float32(0.1) + np.array([0, 0, 1, 0, 0, 0], np.float32)
    sent = samples * np.array([per_g, per_g, per_g, 1, 1, 1], np.float32)
    recorder.begin("STANDING")
    for start in range(0, 400, size):
        payload = encode_packed(T0_NS + start * 20_000_000, 50.0, sent[start : start + size])
        recorder.receive("wearables/phone/imu", payload, False)
    assert recorder.devices["phone"].unit.name == unit
    _, values, _ = table(recorder.end()[0].path)
    assert len(values) >= 350
    np.testing.assert_allclose(values, samples[-len(values) :], atol=1e-6)


def test_accelerations_without_gravity_are_rejected_where_the_unit_is_unknown(tmp_path):
    recorder = new_recorder(tmp_path, units=Units("auto"))
    recorder.begin("STANDING")
    send(recorder, 0.01 * walk(100))
    device = recorder.devices["phone"]
    assert device.rejected == {"units": 6}  # of ten messages, the first four are too few
    assert "gravity in none of g, m/s2, mg" in device.last_rejection
    assert not device.received
    assert recorder.end() == []


def test_without_stamps_times_of_arrival_are_used(tmp_path):
    clock = Clock(T0_NS / 1e9)
    recorder, samples = new_recorder(tmp_path, clock=clock), walk(500)
    recorder.begin("WALKING")
    for start in range(0, 500, 10):
        clock.now_s = T0_NS / 1e9 + (start + 10) / 50 + 0.03 * np.sin(start)  # the delay of the network varies
        recorder.receive("wearables/phone/imu", encode_packed(0, 50.0, samples[start : start + 10]), False)
    t, values, _ = table(recorder.end()[0].path)
    np.testing.assert_array_equal(values, samples)
    assert np.abs(t / 1e9 - np.arange(500) / 50).max() < 0.06
    assert np.abs(np.diff(t) / 1e6 - 20).max() < 11  # one period apart nevertheless


def test_a_rate_measured_before_the_recording_holds_from_its_first_sample(tmp_path):
    recorder, samples = new_recorder(tmp_path), walk(600)
    send(recorder, samples[:300], 0.0, 100.0, announced=0.0)
    recorder.begin("WALKING")
    send(recorder, samples[300:], 3.0, 100.0, announced=0.0)
    assert recorder.devices["phone"].rate_hz == pytest.approx(100)
    t, values, _ = table(recorder.end()[0].path)
    np.testing.assert_array_equal(values, samples[300:])
    assert np.abs(t - 3_000_000_000 - np.arange(300) * 10_000_000).max() <= 1000


def test_samples_with_times_of_a_wrong_rate_are_deleted(tmp_path):
    recorder, samples = new_recorder(tmp_path), walk(600)
    recorder.begin("WALKING")
    send(recorder, samples, 0.0, 100.0, announced=50.0)
    assert recorder.devices["phone"].samples < 600
    [done] = recorder.end()
    t, values, _ = table(done.path)
    assert len(values) > 500
    np.testing.assert_array_equal(values, samples[-len(values) :])
    np.testing.assert_allclose(np.diff(t), 10_000_000, atol=1001)
    assert [path.name for path in tmp_path.iterdir()] == [done.path.name]


def test_another_announced_rate_begins_another_file(tmp_path):
    recorder, samples = new_recorder(tmp_path), walk(200)
    recorder.begin("WALKING")
    send(recorder, samples[:100])
    send(recorder, samples[100:], 2.0, 100.0, announced=100.0)
    slow, fast = recorder.end()
    assert (slow.samples, fast.samples) == (100, 100)
    assert sorted(loaded.rate_hz for loaded in datasets.load(f"csv:{tmp_path}")) == [50.0, 100.0]


def test_a_device_without_a_gyroscope_is_recorded_without(tmp_path):
    recorder, samples = new_recorder(tmp_path), walk(100)
    recorder.begin("WALKING")
    for start in range(0, 100, 10):
        acc = samples[start : start + 10, :3].tolist()
        payload = msgspec.json.encode({"t_ns": T0_NS + start * 20_000_000, "rate_hz": 50, "acc": acc})
        recorder.receive("wearables/phone/imu", payload, False)
    recorder.end()
    [loaded] = datasets.load(f"csv:{tmp_path}")
    assert not loaded.has_gyro
    np.testing.assert_array_equal(loaded.samples[:, :3], samples[:, :3])


def test_units_of_the_settings_are_converted(tmp_path):
    recorder = new_recorder(tmp_path, units=Units("m/s2", "deg/s"))
    recorder.begin("STANDING")
    send(recorder, np.tile(np.array([0, 0, 9.80665, 180, 0, 0], np.float32), (20, 1)))
    _, values, _ = table(recorder.end()[0].path)
    np.testing.assert_allclose(values, np.tile([0, 0, 1, np.pi, 0, 0], (20, 1)), rtol=1e-6)


def test_each_label_has_its_own_file_and_samples_in_between_are_not_written(tmp_path):
    recorder, samples = new_recorder(tmp_path), walk(400)
    send(recorder, samples[:100])
    recorder.begin("WALKING")
    send(recorder, samples[100:200], 2.0)
    [walking] = recorder.end()
    send(recorder, samples[200:300], 4.0)
    recorder.begin("SITTING")
    send(recorder, samples[300:], 6.0)
    [sitting] = recorder.end()
    for done, label, part in ((walking, "WALKING", samples[100:200]), (sitting, "SITTING", samples[300:])):
        _, values, labels = table(done.path)
        np.testing.assert_array_equal(values, part)
        assert set(labels) == {label}
    assert walking.path != sitting.path  # within the same second


def test_after_a_crash_every_sample_is_in_the_file(tmp_path):
    recorder, samples = new_recorder(tmp_path), walk(90)
    recorder.begin("WALKING")
    send(recorder, samples)
    [loaded] = datasets.load(f"csv:{tmp_path}")  # the recording has neither ended nor been closed
    np.testing.assert_array_equal(loaded.samples, samples)
    recorder.end()


def test_fewer_than_two_samples_leave_no_file(tmp_path):
    recorder = new_recorder(tmp_path)
    recorder.begin("WALKING")
    assert recorder.end() == []
    recorder.begin("WALKING")
    send(recorder, walk(1))
    assert recorder.end() == []
    assert list(tmp_path.iterdir()) == []


def test_each_device_has_a_file_with_a_portable_name(tmp_path):
    recorder = new_recorder(tmp_path, "phone", "left wrist: 1")
    recorder.begin("WALKING")
    for device in ("phone", "left wrist: 1", "other"):
        recorder.receive(f"wearables/{device}/imu", encode_json(T0_NS, 50.0, walk(20)), False)
    names = sorted(done.path.name for done in recorder.end())
    assert names == ["anna_left-wrist--1_20251120T200000Z.csv", "anna_phone_20251120T200000Z.csv"]


def test_rejected_and_retained_messages_are_not_written_and_the_reasons_are_counted(tmp_path):
    recorder = new_recorder(tmp_path)
    recorder.begin("WALKING")
    recorder.receive("wearables/phone/imu", b"?", False)
    recorder.receive("wearables/phone/imu", b"?", False)
    recorder.receive("wearables/phone/imu", encode_json(T0_NS, 50.0, walk(20)), True)
    recorder.receive("wearables/phone/imu", encode_json(T0_NS, 1e9, walk(20)), False)
    assert "2 messages rejected (json), 1 messages rejected (rate)" in recorder.status_lines()[0]
    assert recorder.end() == []


def test_a_device_is_silent_while_no_new_samples_arrive(tmp_path):
    clock = Clock(T0_NS / 1e9)
    recorder, samples = new_recorder(tmp_path, clock=clock), walk(50)
    clock.now_s += 4
    assert recorder.silent_devices() == {}
    send(recorder, samples)
    clock.now_s += 6
    send(recorder, samples)  # repeated: nothing new
    assert recorder.silent_devices() == {"phone": 6.0}


@pytest.mark.parametrize("subject", ["", "a_b", "a/b", "..", ".a", "a b", "a\n", "-a"])
def test_a_subject_that_a_file_name_would_not_give_back_is_refused(tmp_path, subject):
    with pytest.raises(ConfigError, match="subject"):
        new_recorder(tmp_path, subject=subject)


@pytest.mark.parametrize(
    "label", ["", " ", "a,b", 'a"b', "a\nb", " a", "\u00a0a", "a\u2028b", "a\x85b", "a\x7fb", "\udc80"]
)
def test_a_label_that_a_csv_file_would_not_give_back_is_refused(label):
    with pytest.raises(ConfigError, match="label"):
        check_label(label)


@pytest.mark.parametrize("label", ["NA", "n/a", "None", "null", "nan", "-", "?", "UNKNOWN", "unknown"])
def test_a_label_that_stands_for_none_is_refused(label):
    with pytest.raises(ConfigError, match=f"label: {re.escape(repr(label))}: it stands for no label"):
        check_label(label)


@pytest.mark.parametrize("label", ["WALKING", "sit\u00a0down", "סיבוב\u200f", "\U0001fae9"])
def test_a_label_may_have_any_other_character(label):
    assert check_label(label) == label


@pytest.mark.parametrize("device", ["", "a/b", "+", "#"])
def test_a_device_that_cannot_stand_in_a_topic_is_refused(tmp_path, device):
    with pytest.raises(ConfigError, match="device"):
        new_recorder(tmp_path, device)


def test_a_folder_that_cannot_be_one_is_refused(tmp_path):
    (tmp_path / "occupied").write_text("")
    recorder = Recorder(
        BrokerSettings(BrokerUrl.parse(UNREACHABLE)),
        "test",
        TopicTemplate("wearables/{device}/imu"),
        ["phone"],
        "anna",
        tmp_path / "occupied" / "out",
    )
    with pytest.raises(ConfigError, match="occupied"):
        recorder.open()


def test_a_file_that_cannot_be_written_ends_the_recording_with_a_line_naming_it(tmp_path):
    recorder = new_recorder(tmp_path / "out")
    recorder.begin("WALKING")
    (tmp_path / "out").rmdir()
    send(recorder, walk(50))
    with pytest.raises(DatasetError, match=r"anna_phone_.*cannot create the file"):
        recorder.raise_failure()
    assert recorder.end() == []


def test_a_disk_that_fills_up_ends_the_recording_with_a_line_too(tmp_path):
    recorder = new_recorder(tmp_path)
    recorder.begin("WALKING")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        for second in range(30):
            payload = encode_packed(T0_NS + second * 10**9, 1000.0, walk(1000))
            recorder.receive("wearables/phone/imu", payload, False)
        with pytest.raises(DatasetError, match=r"anna_phone_.*cannot be written: File too large"):
            recorder.raise_failure()
        recorder.close()  # the samples written so far stay
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [1_000_000]


def test_a_phone_whose_watch_sends_in_the_same_messages_is_recorded_alone(tmp_path):
    """Its messages have times of their own, with a gap, so that each makes several batches."""
    samples = walk(100)
    gone = np.arange(20, 40)
    recorder = new_recorder(tmp_path)
    recorder.begin("WALKING")
    for first in range(0, 100, 50):
        t_ns = T0_NS + first * 20_000_000
        message = json.loads(sensor_logger(t_ns, 50.0, samples[first : first + 50], "p"))
        kept = [one for i, one in enumerate(message["payload"]) if first + i % 50 not in gone or i >= 150]
        motion = {f"{name}{axis}": 0.5 for name in ("acceleration", "gravity", "rotationRate") for axis in "XYZ"}
        watch = {"name": "wrist motion", "time": message["payload"][0]["time"], "values": motion}
        recorder.receive("wearables/phone/imu", json.dumps({**message, "payload": [*kept, watch]}).encode(), False)
    (file,) = recorder.end()
    assert file.samples == 80
    _, written, _ = table(file.path)
    np.testing.assert_allclose(written[:, :3], np.delete(samples, gone, axis=0)[:, :3], atol=1e-5)
