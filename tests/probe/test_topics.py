"""Topics and names of devices: which level of a topic varies, and what payloads name."""

from __future__ import annotations

import numpy as np
import pytest

from harstream.core.batches import Float32
from harstream.probe.findings import Findings, examine
from harstream.wire.decoder import Message

from ..wire import shapes
from . import devices
from .test_shapes import PHONE, WAIST


def topics_of(findings: Findings) -> list[str]:
    return [source.settings.topic for source in findings.sources]


def names_of(findings: Findings) -> list[str]:
    return [device.device for source in findings.sources for device in source.trial.devices]


def canonical(topic: str, device: str = "w1", seed: int = 3) -> list[Message]:
    return devices.heard(shapes.cbor, topic, device, seconds=4.0, seed=seed)


def test_the_level_that_varies_is_the_device():
    findings = examine(devices.together(canonical("lab/anna/imu"), canonical("lab/ben/imu", seed=4)), PHONE)
    assert topics_of(findings) == ["lab/{device}/imu"]
    assert names_of(findings) == ["anna", "ben"]
    assert findings.sources[0].doubts == ()


def test_of_two_levels_that_vary_the_one_with_more_values_is_the_device():
    streams = [canonical(f"site{1 + n % 2}/d{n}/imu", seed=n) for n in range(4)]
    findings = examine(devices.together(*streams), PHONE)
    assert sorted(topics_of(findings)) == ["site1/{device}/imu", "site2/{device}/imu"]
    assert sorted(names_of(findings)) == ["d0", "d1", "d2", "d3"]


def test_devices_of_one_name_at_two_sites_are_doubtful():
    streams = [canonical(f"{site}/{name}/imu", seed=3) for site in ("a", "b") for name in ("left", "right", "hip")]
    findings = examine(devices.together(*streams), PHONE)
    assert sorted(topics_of(findings)) == ["a/{device}/imu", "b/{device}/imu"]
    assert "the same name" in findings.sources[0].doubts[0]


@pytest.mark.parametrize(
    ("topic", "template", "doubtful"),
    [
        ("home/esp32-4f2a/imu", "home/{device}/imu", False),
        ("24:6f:28:aa:00:01/data", "{device}/data", False),
        ("imu/anna", "imu/{device}", True),
        ("wearables/data", "wearables/{device}", True),
    ],
)
def test_of_one_topic_the_level_that_looks_like_a_name_is_the_device(topic: str, template: str, doubtful: bool):
    findings = examine(devices.heard(devices.thingsboard, topic, per_message=1, seconds=4.0), PHONE)
    assert topics_of(findings) == [template]
    assert any("one topic came" in doubt for doubt in findings.sources[0].doubts) == doubtful


def test_a_placeholder_in_the_filter_decides():
    messages = devices.heard(devices.thingsboard, "anna/left", per_message=1, seconds=4.0)
    for text in ("{device}/left", "+/left"):
        assert topics_of(examine(messages, PHONE, filters=[text])) == ["{device}/left"]


def test_payloads_name_the_devices_of_one_topic():
    streams = [devices.heard(devices.packed_rows, "gateway/motion", name, seed=n) for n, name in enumerate("abc")]
    findings = examine(devices.together(*streams), PHONE)
    assert topics_of(findings) == ["gateway/motion"]
    assert findings.sources[0].settings.fields.device == "dev"
    assert names_of(findings) == ["a", "b", "c"]
    assert findings.sources[0].works


def test_a_name_of_each_message_is_no_device():
    def shape(t_ns: int, *_: object) -> bytes:
        return devices.dumps({"id": f"m{t_ns}", "unit": "g", "t": t_ns / 1e9, "ax": 0.1, "ay": 0.2, "az": 0.97})

    findings = examine(devices.heard(shape, "lab/imu", per_message=1, seconds=3.0), PHONE)
    assert topics_of(findings) == ["lab/{device}"]
    assert findings.sources[0].works


def test_one_phone_on_the_topic_of_its_app_is_named_by_the_payload():
    findings = examine(devices.heard(shapes.sensor_logger, "sensor-logger", "0e35"), PHONE)
    assert topics_of(findings) == ["sensor-logger"]
    assert names_of(findings) == ["0e35"]


def test_clocks_that_start_with_the_device_are_kept_apart():
    streams = [
        devices.heard(devices.nested, "floor/motion", name, per_message=1, seed=n, lag_s=0.04 + 0.003 * n)
        for n, name in enumerate(("n1", "n2"))
    ]
    findings = examine(devices.together(*streams), PHONE)
    fields = findings.sources[0].settings.fields
    assert (fields.device, fields.t, fields.t_unit) == ("node", "uptime_s", "s")
    assert [device.windows > 0 and not device.problems for device in findings.sources[0].trial.devices] == [True, True]


def split(n_devices: int = 2) -> list[Message]:
    streams = []
    for n in range(n_devices):
        streams.append(devices.heard(devices.acc_alone, f"w/k{n}/accelerometer", per_message=1, seed=n))
        streams.append(devices.heard(devices.gyro_alone, f"w/k{n}/gyroscope", per_message=1, seed=n, lag_s=0.045))
    return devices.together(*streams)


def test_a_model_without_gyroscope_takes_the_topic_of_the_accelerometer():
    findings = examine(split(), PHONE)
    assert topics_of(findings) == ["w/{device}/accelerometer"]
    assert findings.sources[0].works
    gyro = findings.sources[0].gyro
    assert gyro is not None
    assert gyro.topics == ("w/k0/gyroscope", "w/k1/gyroscope")
    assert "w/{device}/gyroscope" in findings.sources[0].doubts[-1]
    assert findings.others == []


def test_a_model_with_gyroscope_takes_both_topics():
    (source,) = examine(split(), WAIST, model="waist").sources
    assert source.settings.table() == {
        "name": "source1",
        "acc_topic": "w/{device}/accelerometer",
        "gyro_topic": "w/{device}/gyroscope",
        "payload": "fields",
        "model": "waist",
        "fields": {"t": "timestamp", "acc": ("values",), "gyro": ("values",)},
    }
    assert source.doubts == ()
    assert [device.device for device in source.trial.devices] == ["k0", "k1"]


def test_the_unit_of_a_gyroscope_on_a_topic_of_its_own_is_told():
    def in_degrees(t_ns: int, rate_hz: float, samples: Float32, device: str) -> bytes:
        return devices.gyro_alone(t_ns + 3_000_000, rate_hz, np.degrees(samples), device)

    messages = devices.together(
        devices.heard(devices.acc_alone, "w/k1/accelerometer", per_message=1),
        devices.heard(in_degrees, "w/k1/gyroscope", per_message=1),
    )
    (source,) = examine(messages, WAIST).sources
    assert (source.settings.gyro_unit, source.settings.fields.gyro_scale) == ("deg/s", 1.0)


def test_topics_of_one_template_with_two_shapes_are_not_two_sources():
    """A daemon refuses two sources whose topics overlap."""
    streams = [
        devices.heard(devices.nameless, "imu/d1", per_message=1),
        devices.heard(devices.packed_rows, "imu/d2", seed=4),
    ]
    findings = examine(devices.together(*streams), PHONE)
    assert topics_of(findings) == ["imu/{device}"]
    assert findings.others[0].topics == ("imu/d2",)
    assert "another shape" in findings.others[0].reason


def test_formats_that_tell_themselves_are_one_source():
    streams = [devices.heard(shapes.cbor, "imu/d1"), devices.heard(shapes.gzipped, "imu/d2", seed=4)]
    findings = examine(devices.together(*streams), PHONE)
    assert topics_of(findings) == ["imu/{device}"]
    assert names_of(findings) == ["d1", "d2"]


def test_topics_that_are_those_of_labels_get_labels_elsewhere():
    (source,) = examine(canonical("wearables/imu/d1"), PHONE).sources
    assert source.settings.table() == {
        "name": "source1",
        "topic": "wearables/imu/{device}",
        "labels_topic": "harstream/{device}/activity",
        "events_topic": "harstream/{device}/activity/event",
    }
    assert source.works


def test_settings_that_a_daemon_refuses_are_said_to_be():
    (source,) = examine(canonical("harstream/a/activity"), PHONE, filters=["{device}/+/activity"]).sources
    assert source.settings.topic == "{device}/a/activity"
    assert "match the same topics" in source.error
    assert not source.works
