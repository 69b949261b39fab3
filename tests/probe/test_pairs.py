"""Devices whose accelerometer and gyroscope have messages of their own: one source takes both, tried as a pair."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import numpy as np
import pytest

from harstream.core.batches import Float32
from harstream.probe import report
from harstream.probe.findings import Source, examine
from harstream.probe.trial import decode
from harstream.wire.decoder import Message
from harstream.wire.packed import encode_packed

from ..constants import T0_NS
from ..wire.shapes import G
from . import devices
from .test_shapes import PHONE, WAIST

ACC, GYRO = slice(0, 3), slice(3, 6)
ACC_TOPIC, GYRO_TOPIC = "w/k1/accelerometer", "w/k1/gyroscope"
BOTH_TOPICS = {"acc_topic": "w/{device}/accelerometer", "gyro_topic": "w/{device}/gyroscope"}
Clock = Callable[[int], float]


def since_1970(t_ns: int) -> float:
    return t_ns / 1e6


def since_start(t_ns: int) -> float:
    return (t_ns - T0_NS) / 1e6 + 81_234


def lists(
    name: str, columns: slice, t_ns: int, _: float, samples: Float32, device: str, *, clock: Clock = since_1970
) -> bytes:
    """A list of vectors, with the time of the first one in ms."""
    return devices.dumps({"t": round(clock(t_ns), 3), name: samples[:, columns].astype(float).round(4).tolist()})


def counts(columns: slice, per_unit: float, t_ns: int, _: float, samples: Float32, device: str) -> bytes:
    """Whole numbers of a converter."""
    values = samples[0, columns] if columns == ACC else np.degrees(samples[0, columns])
    return devices.dumps({"ms": since_start(t_ns), "v": np.rint(values * per_unit).astype(int).tolist()})


def in_degrees(shape: devices.Shape) -> devices.Shape:
    def make(t_ns: int, rate_hz: float, samples: Float32, device: str) -> bytes:
        return shape(t_ns, rate_hz, np.degrees(samples).astype(np.float32), device)

    return make


def acc(topic: str = ACC_TOPIC, **options: Any) -> list[Message]:
    return devices.heard(devices.acc_alone, topic, per_message=1, **options)


def gyro(topic: str = GYRO_TOPIC, **options: Any) -> list[Message]:
    return devices.heard(devices.gyro_alone, topic, per_message=1, lag_s=0.045, **options)


def probed(*streams: list[Message], spec: Any = WAIST, filters: tuple[str, ...] = ()) -> Source:
    """Return the only source of streams, all of which it takes."""
    findings = examine(devices.together(*streams), spec, model="waist", filters=filters)
    (source,) = findings.sources
    assert findings.others == []
    return source


def topics(source: Source) -> dict[str, Any]:
    return {key: value for key, value in source.settings.table().items() if key.endswith("topic")}


# --- rates and clocks ---------------------------------------------------------------------------------


def test_different_rates_and_clocks_are_described_each_for_itself():
    """A gyroscope of twice the rate, in batches, by a clock that runs 0.2 % fast and is 20 ms off, with a gap."""
    fast = partial(lists, "v", GYRO, clock=lambda t_ns: since_1970(round(T0_NS + 1.002 * (t_ns - T0_NS)) + 20_000_000))
    of_gyro = devices.heard(fast, GYRO_TOPIC, rate_hz=100.0, per_message=10, seconds=12.0, lag_s=0.05)
    of_acc = devices.heard(partial(lists, "v", ACC), ACC_TOPIC, per_message=4, seconds=12.0)
    source = probed(of_acc, of_gyro[:40] + of_gyro[45:])
    assert source.settings.table() == {
        "name": "source1",
        **BOTH_TOPICS,
        "payload": "fields",
        "model": "waist",
        "fields": {"t": "t", "acc": ("v",), "gyro": ("v",)},
    }
    assert source.works
    assert source.doubts == ()
    assert (source.trial.accepted, sum(source.trial.rejected.values())) == (150 + 115, 0)
    (device,) = source.trial.devices
    assert device.gyro is not None
    assert (device.messages, device.samples, device.gaps) == (150, 600, 0)
    assert device.rate_hz == pytest.approx(50.0, rel=1e-3)
    assert (device.gyro.messages, device.gyro.samples, device.gyro.gaps) == (115, 1150, 1)
    assert device.gyro.rate_hz == pytest.approx(100 / 1.002, rel=1e-3)
    assert device.gyro.longest_gap_s == pytest.approx(0.5, abs=0.02)
    assert device.clock_s == pytest.approx(0.04, abs=0.005)
    assert device.gyro.clock_s == pytest.approx(0.05 - 0.02 - 0.012, abs=0.005)
    assert max(device.jitter_ms, device.gyro.jitter_ms) < 1
    assert 4 <= device.windows < 8  # the gap takes some
    assert device.untrusted == 0


def test_the_pair_is_decoded_as_it_was_sent():
    streams = acc(), devices.heard(partial(lists, "values", GYRO), GYRO_TOPIC, rate_hz=100.0, per_message=10)
    renamed = [one._replace(payload=one.payload.replace(b'"t"', b'"timestamp"')) for one in streams[1]]
    source = probed(streams[0], renamed)
    tried = decode(source.settings, devices.together(streams[0], renamed), needs_gyro=True, max_bytes=2**18)
    np.testing.assert_allclose(tried.acc.samples[:, ACC], G * devices.walk(3, 50.0, 8.0)[:, ACC], atol=1e-3)
    np.testing.assert_allclose(tried.gyro.samples[:, GYRO], devices.walk(3, 100.0, 8.0)[:, GYRO], atol=1e-3)


def test_clocks_since_the_start_of_a_device_go_together():
    shapes = (partial(lists, "v", columns, clock=since_start) for columns in (ACC, GYRO))
    of_acc, of_gyro = (
        devices.heard(shape, topic) for shape, topic in zip(shapes, (ACC_TOPIC, GYRO_TOPIC), strict=True)
    )
    source = probed(of_acc, of_gyro)
    assert (source.settings.fields.t, source.settings.fields.t_unit) == ("t", "ms")
    assert source.works
    assert source.doubts == ()


@pytest.mark.parametrize("seconds", [-600, 600])
def test_clocks_of_two_starts_give_way_to_the_times_of_arrival(seconds: int):
    """The accelerometer's board and the gyroscope's were not switched on together."""
    shapes = (
        partial(lists, "v", columns, clock=lambda t_ns, ms=ms: since_start(t_ns) + ms)  # type: ignore[misc]
        for columns, ms in ((ACC, 1e6), (GYRO, 1e6 + 1000 * seconds))
    )
    topics_of = zip(shapes, (ACC_TOPIC, GYRO_TOPIC), strict=True)
    source = probed(*(devices.heard(shape, topic, per_message=5) for shape, topic in topics_of))
    assert (source.settings.fields.t, source.settings.fields.t_unit) == ("", "auto")
    assert source.doubts[0].startswith("the times of arrival count")
    assert source.works
    assert source.trial.devices[0].windows > 0


@pytest.mark.parametrize("name", ["another clock", "another name", "no time"])
def test_times_that_do_not_go_together_give_way_to_those_of_arrival(name: str):
    shape = partial(lists, "v", GYRO, clock=since_start if name == "another clock" else since_1970)
    of_gyro = devices.heard(shape, GYRO_TOPIC, per_message=5)
    if name != "another clock":
        new = b'"when"' if name == "another name" else b'"x"'
        of_gyro = [one._replace(payload=one.payload.replace(b'"t"', new)) for one in of_gyro]
    if name == "no time":
        of_gyro = [one._replace(payload=b'{"v"' + one.payload.partition(b'"v"')[2]) for one in of_gyro]
    source = probed(devices.heard(partial(lists, "v", ACC), ACC_TOPIC, per_message=5), of_gyro)
    assert source.settings.fields.t == ""
    assert source.doubts[0].startswith("the times of arrival count")
    assert source.works
    (device,) = source.trial.devices
    assert device.windows > 0
    assert device.gyro is not None
    assert not device.stamped
    assert not device.gyro.stamped


def test_clocks_that_are_apart_are_told():
    late = [one._replace(arrival_s=one.arrival_s + 3) for one in gyro()]
    (doubt,) = probed(acc(), late).doubts
    assert doubt.startswith("the clocks of the two sensors are 3.0 s apart")


# --- units --------------------------------------------------------------------------------------------


def test_a_gyroscope_in_degrees_at_other_times_is_told():
    shape = in_degrees(partial(lists, "v", GYRO, clock=lambda t_ns: since_1970(t_ns + 7_000_000)))
    of_gyro = devices.heard(shape, GYRO_TOPIC, rate_hz=100.0, per_message=4)
    source = probed(devices.heard(partial(lists, "v", ACC), ACC_TOPIC, per_message=5), of_gyro)
    assert (source.settings.gyro_unit, source.settings.fields.gyro_scale) == ("deg/s", 1.0)
    assert source.doubts == ()
    assert source.works
    text = report.describe(examine(devices.together(acc(), of_gyro), WAIST), "waist")
    assert "gyroscope, deg/s" in text


def test_the_unit_of_many_gyroscopes_is_told():
    """Not by the first messages of all, which are of too short a time."""
    streams = []
    for n in range(30):
        streams += [acc(f"w/k{n}/accelerometer", seed=n % 3), gyro(f"w/k{n}/gyroscope", seed=n % 3)]
    source = probed(*streams)
    assert source.settings.gyro_unit == "rad/s"
    assert source.doubts == ()
    assert len(source.trial.devices) == 30
    assert source.works


def test_a_gyroscope_in_degrees_under_common_names_is_told():
    def shape(columns: slice, t_ns: int, _: float, samples: Float32, device: str) -> bytes:
        return devices.dumps({"ts": t_ns // 10**6, **dict(zip("xyz", samples[0, columns].tolist(), strict=True))})

    of_acc = devices.heard(partial(shape, ACC), ACC_TOPIC, per_message=1)
    of_gyro = devices.heard(in_degrees(partial(shape, GYRO)), GYRO_TOPIC, per_message=1)
    source = probed(of_acc, of_gyro)
    assert source.settings.table() == {"name": "source1", **BOTH_TOPICS, "gyro_unit": "deg/s", "model": "waist"}
    assert source.works


def test_counts_of_both_sensors_at_different_rates_are_told():
    of_acc = devices.heard(partial(counts, ACC, 16384), ACC_TOPIC, per_message=1)
    of_gyro = devices.heard(partial(counts, GYRO, 131), GYRO_TOPIC, per_message=1, rate_hz=80.0)
    source = probed(of_acc, of_gyro)
    assert (source.settings.fields.acc_scale, source.settings.fields.gyro_scale) == (1 / 16384, 0.007633587786)
    assert source.settings.gyro_unit == "deg/s"
    assert source.works
    (device,) = source.trial.devices
    assert device.gyro is not None
    assert device.gyro.rate_hz == pytest.approx(80, rel=0.01)


# --- messages that do not come ------------------------------------------------------------------------


@pytest.mark.parametrize("sensor", ["gyroscope", "accelerometer"])
def test_a_sensor_that_has_stopped_is_a_problem(sensor: str):
    of_acc, of_gyro = acc(), gyro()
    if sensor == "gyroscope":
        of_gyro = of_gyro[:150]
    else:
        of_acc = of_acc[:150]
    source = probed(of_acc, of_gyro)
    assert topics(source) == BOTH_TOPICS
    assert not source.works
    (device,) = source.trial.devices
    assert device.missing == sensor
    assert device.problems[0].startswith(f"gyroscope: its {sensor} has stopped: nothing of it came in the last 5.0 s")
    assert device.windows < 3
    text = report.describe(examine(devices.together(of_acc, of_gyro), WAIST), "waist")
    assert f"problem gyroscope of k1: its {sensor} has stopped" in text


def test_a_slow_sensor_has_not_stopped():
    """Messages of 2.5 s, of which the last one was sent before the end."""
    of_gyro = devices.heard(partial(lists, "v", GYRO), GYRO_TOPIC, per_message=125, seconds=12.0)
    source = probed(devices.heard(partial(lists, "v", ACC), ACC_TOPIC, per_message=5, seconds=12.0), of_gyro)
    assert source.trial.devices[0].missing == ""
    assert source.works


def test_devices_that_lack_a_sensor_are_named():
    source = probed(acc(), gyro(), acc("w/k2/accelerometer", seed=4), gyro("w/k3/gyroscope", seed=5))
    assert topics(source) == BOTH_TOPICS
    first, second = source.trial.devices
    assert (first.missing, second.missing) == ("", "gyroscope")
    assert second.problems[0].startswith("gyroscope: no message of its gyroscope came")
    assert source.doubts == ("of k3 only the gyroscope was heard, and no accelerometer",)
    assert not source.works


def test_an_accelerometer_without_any_gyroscope():
    source = probed(acc(), spec=PHONE)
    assert topics(source) == {"topic": "w/{device}/accelerometer"}
    assert source.works
    source = probed(acc())
    assert topics(source) == {"topic": "w/{device}/accelerometer"}
    assert not source.works
    assert source.doubts[-1].startswith("the model needs a gyroscope, and none was heard")
    (device,) = source.trial.devices  # what there is, is described
    assert device.rate_hz == pytest.approx(50, rel=0.01)
    assert (device.unit, device.has_gyro, device.gyro) == ("m/s2", False, None)


def test_a_gyroscope_of_other_devices_is_no_pair():
    findings = examine(devices.together(acc(), gyro("w/k2/gyroscope")), WAIST)
    assert [topics(source) for source in findings.sources] == [{"topic": "w/{device}/accelerometer"}]
    assert "no accelerometer of the same devices" in findings.others[0].reason


def test_messages_that_no_settings_decode_together_are_told():
    of_gyro = devices.heard(lambda *a: f"{a[0]};{a[2][0, 3]};{a[2][0, 4]};1".encode(), GYRO_TOPIC, per_message=1)
    findings = examine(devices.together(acc(), of_gyro), WAIST)
    assert [topics(source) for source in findings.sources] == [{"topic": "w/{device}/accelerometer"}]
    assert "no settings decode both" in findings.others[0].reason


# --- topics -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "filters",
    [
        ("w/#",),
        ("#",),
        ("w/+/accelerometer", "w/+/gyroscope"),
        ("w/{device}/accelerometer", "w/{device}/gyroscope"),
        ("w/k1/+",),
        ("w/+/+",),
    ],
)
def test_filters_of_the_user(filters: tuple[str, ...]):
    source = probed(acc(), gyro(), filters=filters)
    assert topics(source) == BOTH_TOPICS
    assert source.works
    assert [device.device for device in source.trial.devices] == ["k1"]


@pytest.mark.parametrize(
    ("of_acc", "of_gyro", "templates"),
    [
        ("acc/k1", "gyro/k1", ("acc/{device}", "gyro/{device}")),
        ("phone/accelerometer", "phone/gyroscope", ("{device}/accelerometer", "{device}/gyroscope")),
        ("k1/acc/acceleration", "k1/gyr/rotation", ("{device}/acc/acceleration", "{device}/gyr/rotation")),
    ],
)
def test_the_level_of_the_sensor_is_no_device(of_acc: str, of_gyro: str, templates: tuple[str, str]):
    source = probed(acc(of_acc), gyro(of_gyro))
    assert topics(source) == dict(zip(("acc_topic", "gyro_topic"), templates, strict=True))
    assert source.works


def test_devices_of_two_sites_are_two_pairs():
    streams = []
    for n in range(4):
        streams += [acc(f"s{n % 2}/k{n}/accelerometer", seed=n), gyro(f"s{n % 2}/k{n}/gyroscope", seed=n)]
    findings = examine(devices.together(*streams), WAIST)
    assert findings.others == []
    assert [topics(source)["gyro_topic"] for source in findings.sources] == [
        "s0/{device}/gyroscope",
        "s1/{device}/gyroscope",
    ]
    assert all(source.works for source in findings.sources)


def test_payloads_name_the_devices_of_both_topics():
    def shape(columns: slice, t_ns: int, _: float, samples: Float32, device: str) -> bytes:
        values = samples[:, columns].astype(float).round(4).tolist()
        return devices.dumps({"node": device, "ts": t_ns // 10**6, "vec": values})

    streams = []
    for n, name in enumerate(("a", "b")):
        streams.append(devices.heard(partial(shape, ACC), "gateway/acc", name, seed=n))
        streams.append(devices.heard(partial(shape, GYRO), "gateway/gyro", name, seed=n))
    source = probed(*streams)
    assert topics(source) == {"acc_topic": "gateway/acc", "gyro_topic": "gateway/gyro"}
    assert source.settings.fields.device == "node"
    assert source.works
    assert [device.device for device in source.trial.devices] == ["a", "b"]


@pytest.mark.parametrize("topic", ["w/k1/{gyro}", "w/k1/gyroscope\x85"])
def test_a_topic_that_no_settings_can_name_is_no_pair(topic: str):
    findings = examine(devices.together(acc(), devices.heard(partial(lists, "gyro", GYRO), topic)), WAIST)
    assert [topics(source) for source in findings.sources] == [{"topic": "w/{device}/accelerometer"}]
    assert [other.topics for other in findings.others] == [(topic,)]


def test_a_second_gyroscope_is_left_out():
    streams = acc(), gyro(), gyro("w/k1/gyroscope_uncalibrated")
    findings = examine(devices.together(*streams), WAIST)
    assert [topics(source) for source in findings.sources] == [BOTH_TOPICS]
    (other,) = findings.others
    assert other.topics == ("w/k1/gyroscope_uncalibrated",)
    assert other.reason.startswith("a gyroscope of devices that send another one too")


# --- kinds of messages --------------------------------------------------------------------------------


def senml(names: str, columns: slice, t_ns: int, _: float, samples: Float32, device: str) -> bytes:
    values = zip(names.split(), samples[0, columns].tolist(), strict=True)
    return devices.dumps([{"bn": f"{device}:", "bt": t_ns / 1e9, "n": name, "v": value} for name, value in values])


def values(names: str, columns: slice, t_ns: int, _: float, samples: Float32, device: str) -> bytes:
    members = dict(zip(names.split(), samples[0, columns].tolist(), strict=True))
    return devices.dumps({"ts": t_ns // 10**6, "values": members})


@pytest.mark.parametrize(
    ("of_acc", "of_gyro"),
    [
        (partial(lists, "acc"), partial(lists, "gyro")),
        (partial(values, "ax ay az"), partial(values, "gx gy gz")),
        (partial(senml, "ax ay az"), partial(senml, "gx gy gz")),
    ],
    ids=["lists", "values", "SenML"],
)
def test_two_kinds_of_messages_on_one_topic(of_acc: Any, of_gyro: Any):
    per_message = 25 if of_acc.args[0] == "acc" else 1
    streams = (
        devices.heard(partial(shape, columns), "imu/w1", per_message=per_message, rate_hz=rate_hz)
        for shape, columns, rate_hz in ((of_acc, ACC, 50.0), (of_gyro, GYRO, 100.0))
    )
    source = probed(*streams)
    assert topics(source) == {"acc_topic": "imu/{device}", "gyro_topic": "imu/{device}"}
    assert source.works
    (device,) = source.trial.devices
    assert device.gyro is not None
    assert (device.samples, device.gyro.samples) == (400, 800)
    assert device.windows > 0


def test_packed_messages():
    def shape(columns: slice, t_ns: int, rate_hz: float, samples: Float32, device: str) -> bytes:
        return encode_packed(t_ns, rate_hz, samples[:, columns])

    source = probed(
        *(devices.heard(partial(shape, one), topic) for one, topic in ((ACC, ACC_TOPIC), (GYRO, GYRO_TOPIC)))
    )
    assert source.settings.table() == {"name": "source1", **BOTH_TOPICS, "model": "waist"}
    assert source.works


def test_lines_of_text_with_counts_of_the_gyroscope():
    def line(columns: slice, scale: float, t_ns: int, _: float, samples: Float32, device: str) -> bytes:
        return ";".join([str(t_ns // 1000), *(f"{scale * value:.0f}" for value in samples[0, columns])]).encode()

    of_acc = devices.heard(partial(line, ACC, 1000.0), ACC_TOPIC, per_message=1)
    source = probed(of_acc, devices.heard(partial(line, GYRO, 131 * 57.29578), GYRO_TOPIC, per_message=1))
    assert source.settings.fields.columns == ("t", "ax", "ay", "az")
    assert source.settings.fields.gyro_scale == 0.007633587786
    assert source.error == ""
    assert source.works


def test_a_list_that_begins_with_the_time():
    def shape(columns: slice, t_ns: int, _: float, samples: Float32, device: str) -> bytes:
        return devices.dumps([since_start(t_ns), *samples[0, columns].tolist()])

    streams = ((ACC, ACC_TOPIC), (GYRO, GYRO_TOPIC))
    source = probed(*(devices.heard(partial(shape, one), topic, per_message=1) for one, topic in streams))
    fields = source.settings.fields
    assert (fields.t, fields.acc, fields.gyro) == ("0", ("1", "2", "3"), ("1", "2", "3"))
    assert source.works


def test_devices_of_two_forms_are_one_pair():
    """Their messages tell the form by themselves; those of the gyroscopes too."""

    def in_json(name: str, columns: slice, t_ns: int, _: float, samples: Float32, device: str) -> bytes:
        return devices.dumps({"t": t_ns / 1e9, name: samples[:, columns].astype(float).tolist()})

    def in_msgpack(*given: Any) -> bytes:
        return msgspec.msgpack.encode(json.loads(in_json(*given)))

    streams = [
        devices.heard(partial(shape, name, columns), f"w/{device}/{topic}", seed=seed)
        for seed, (device, shape) in enumerate((("k1", in_json), ("k2", in_msgpack)))
        for name, columns, topic in (("acc", ACC, "accelerometer"), ("gyro", GYRO, "gyroscope"))
    ]
    source = probed(*streams)
    assert source.settings.table() == {"name": "source1", **BOTH_TOPICS, "model": "waist"}
    assert source.works
    assert [device.device for device in source.trial.devices] == ["k1", "k2"]


# --- the model, and what is said ----------------------------------------------------------------------


def test_a_model_without_gyroscope_takes_the_accelerometer_and_both_are_described():
    source = probed(acc(), gyro(), spec=PHONE)
    assert topics(source) == {"topic": "w/{device}/accelerometer"}
    assert source.works
    assert source.doubts[-1] == "the gyroscope on w/{device}/gyroscope is left out, because the model needs none"
    (device,) = source.trial.devices
    assert device.gyro is not None
    assert device.gyro.rate_hz == pytest.approx(50, rel=0.01)
    assert (device.missing, device.problems) == ("", ())


def test_the_report_names_both_sensors():
    streams = acc(), devices.heard(devices.gyro_alone, GYRO_TOPIC, per_message=1, rate_hz=100.0)
    findings = examine(devices.together(*streams), WAIST, model="waist")
    text = report.describe(findings, "waist")
    assert "source1: w/{device}/accelerometer, JSON, one sample a message" in text
    assert "  gyroscope: w/{device}/gyroscope, JSON, one sample a message" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["k1", "400", "50.0"] in [line[:3] for line in lines]
    assert ["its", "gyroscope", "800", "100.0"] in [line[:4] for line in lines]
    assert "400 samples of the accelerometer, 800 of the gyroscope, " in text
    assert 'acc_topic = "w/{device}/accelerometer"\ngyro_topic = "w/{device}/gyroscope"\n' in report.settings(findings)
    (source,) = report.figures(findings)["sources"]
    assert source["gyro_topics"] == [GYRO_TOPIC]
    assert source["devices"][0]["gyro"]["rate_hz"] == pytest.approx(100, rel=0.01)
    assert [place["role"] for place in source["gyro_places"]] == ["time, ms since 1970", "gyroscope, rad/s"]
