"""Payloads of wearables whose accelerometer and gyroscope have messages of their own."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from harstream.core.batches import SampleBatch, Sensor
from harstream.wire.canonical import encode_json
from harstream.wire.decoder import Decoder, Message
from harstream.wire.fields import Fields
from harstream.wire.packed import encode_packed
from harstream.wire.payloads import PayloadConfig
from harstream.wire.reject import Rejection
from harstream.wire.topics import TopicTemplate

from .payload_checks import ROWS, T_NS, encoded

ACC, GYRO = "w/a/accelerometer", "w/a/gyroscope"
T_MS = T_NS // 1_000_000


def made(payload: str = "auto", fields: Any = None, *, one_topic: bool = False, needs_gyro: bool = True) -> Decoder:
    config = PayloadConfig(payload, Fields.parse(fields or {}))
    acc = TopicTemplate("w/{device}/accelerometer")
    return Decoder(
        acc,
        needs_gyro,
        payload=config,
        gyro_template=acc if one_topic else TopicTemplate("w/{device}/gyroscope"),
    )


def decode(decoder: Decoder, *messages: tuple[str, Any]) -> tuple[SampleBatch, list[Rejection]]:
    return decoder.decode([Message(topic, encoded(content), 1.0 + k) for k, (topic, content) in enumerate(messages)])


def check_pair(batch: SampleBatch, rejections: list[Rejection], acc: Any, gyro: Any) -> None:
    """Check a message of the accelerometer and one of the gyroscope, of one device."""
    assert not rejections
    assert list(batch.devices) == ["a", "a"]
    assert batch.sensors.tolist() == [Sensor.ACC, Sensor.GYRO]
    assert batch.counts.tolist() == [len(acc), len(gyro)]
    first = batch.samples[: len(acc)], batch.samples[len(acc) :]
    np.testing.assert_allclose(first[0], np.hstack([acc, np.zeros_like(acc)]), atol=1e-6)
    np.testing.assert_allclose(first[1], np.hstack([np.zeros_like(gyro), gyro]), atol=1e-6)


def test_the_example_of_two_topics_with_fields():
    fields = {"t": "timestamp", "t_unit": "ms", "acc": "values", "gyro": "values"}
    sent = [
        (ACC, {"timestamp": T_MS, "values": ROWS[:4, :3].tolist()}),
        (GYRO, {"timestamp": T_MS + 7, "values": ROWS[:5, 3:].tolist()}),
    ]
    batch, rejections = decode(made("fields", fields), *sent)
    check_pair(batch, rejections, ROWS[:4, :3], ROWS[:5, 3:])
    assert batch.t_ns.tolist() == [T_MS * 10**6, (T_MS + 7) * 10**6]


def test_on_each_topic_only_its_sensor_is_read():
    fields = {"t": "t", "acc": "a", "gyro": "g"}
    both = {"t": T_MS, "a": ROWS[:4, :3].tolist(), "g": ROWS[:4, 3:].tolist()}
    check_pair(*decode(made("fields", fields), (ACC, both), (GYRO, both)), ROWS[:4, :3], ROWS[:4, 3:])
    canonical = {"t_ms": T_MS, "acc": ROWS[:4, :3].tolist(), "gyro": ROWS[:4, 3:].tolist()}
    check_pair(*decode(made(), (ACC, canonical), (GYRO, canonical)), ROWS[:4, :3], ROWS[:4, 3:])


def without(message: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key != name}


CANONICAL = json.loads(encode_json(T_NS, 50.0, ROWS))
XYZ = [dict(zip("xyz", row, strict=True), timestamp=T_MS) for row in (ROWS[0, :3].tolist(), ROWS[0, 3:].tolist())]


@pytest.mark.parametrize(
    ("acc", "gyro", "n"),
    [
        (without(CANONICAL, "gyro"), without(CANONICAL, "acc"), 10),
        (encode_packed(T_NS, 50.0, ROWS[:, :3]), encode_packed(T_NS, 50.0, ROWS[:, 3:]), 10),
        (encode_packed(T_NS, 50.0, ROWS), encode_packed(T_NS, 50.0, ROWS), 10),
        (XYZ[0], XYZ[1], 1),
        ({"values": XYZ[0]}, {"values": XYZ[1]}, 1),
        ({"accelerometer": XYZ[0], "ts": T_MS}, {"gyroscope": XYZ[1], "ts": T_MS}, 1),
        ({f"acc{a.upper()}": XYZ[0][a] for a in "xyz"}, {f"gyr{a.upper()}": XYZ[1][a] for a in "xyz"}, 1),
        (
            {"deviceId": "p", "payload": [{"name": "totalacceleration", "time": T_NS, "values": _g}]},
            {"deviceId": "p", "payload": [{"name": "gyroscope", "time": T_NS, "values": XYZ[1]}]},
            1,
        )
        if (_g := {a: float(XYZ[0][a]) * 9.80665 for a in "xyz"})
        else (),
        (
            [{"bt": T_NS / 1e9, "n": f"a{a}", "v": XYZ[0][a]} for a in "xyz"],
            [{"bt": T_NS / 1e9, "n": f"g{a}", "v": XYZ[1][a]} for a in "xyz"],
            1,
        ),
        (
            [{"n": f"a{a}", "v": XYZ[0][a]} for a in "xyz"],
            [{"n": f"g{a}", "v": XYZ[1][a]} for a in "xyz"],
            1,
        ),
    ],
    ids=[
        *("canonical", "packed", "packed with both", "xyz", "values", "names", "other names"),
        *("sensor-logger", "senml", "senml relative"),
    ],
)
def test_a_message_of_one_sensor_in_each_format(acc, gyro, n):
    check_pair(*decode(made(), (ACC, acc), (GYRO, gyro)), ROWS[:n, :3], ROWS[:n, 3:])


def test_lines_of_the_same_columns_on_both_topics():
    lines = [
        "\n".join(f"{T_MS + 20 * k},{x},{y},{z}" for k, (x, y, z) in enumerate(rows))
        for rows in np.split(ROWS, 2, axis=1)
    ]
    decoder = made("csv", {"columns": ["t", "ax", "ay", "az"]})
    batch, rejections = decode(decoder, (ACC, lines[0].encode()), (GYRO, lines[1].encode()))
    check_pair(batch, rejections, ROWS[:, :3], ROWS[:, 3:])
    assert batch.t_ns.tolist() == [T_MS * 10**6] * 2


def test_one_topic_for_both_leaves_it_to_the_message():
    both = {"t_ms": T_MS, "acc": ROWS[:4, :3].tolist(), "gyro": ROWS[:4, 3:].tolist()}
    alone = {"gX": 1, "gY": 2, "gZ": 3, "ts": T_MS}
    decoder = made(one_topic=True)
    sent = [
        both,
        without(both, "gyro"),
        without(both, "acc"),
        alone,
        {"gx": 1, "gy": 2, "gz": 3, "accX": 0, "accY": 0, "accZ": 1},
    ]
    batch, rejections = decode(decoder, *((ACC, message) for message in sent))
    assert not rejections
    assert batch.sensors.tolist() == [Sensor.BOTH, Sensor.ACC, Sensor.GYRO, Sensor.GYRO, Sensor.BOTH]
    fields = made("fields", {"t": "t", "acc": ["ax", "ay", "az"], "gyro": ["gx", "gy", "gz"]}, one_topic=True)
    acc, gyro = {"t": T_MS, "ax": 0, "ay": 0, "az": 1}, {"t": T_MS, "gx": 1, "gy": 2, "gz": 3}
    batch, rejections = decode(fields, (ACC, acc), (ACC, gyro), (ACC, acc | gyro))
    assert not rejections
    assert batch.sensors.tolist() == [Sensor.ACC, Sensor.GYRO, Sensor.BOTH]


def test_sensors_with_times_of_their_own_are_taken_apart():
    entries = [
        {"name": name, "time": T_NS + start + k * step, "values": XYZ[0]}
        for name, start, step, n in (("totalacceleration", 0, 20_000_000, 5), ("gyroscope", 500_000_000, 10_000_000, 9))
        for k in range(n)
    ]
    batch, rejections = decode(made(one_topic=True), (ACC, {"deviceId": "p", "payload": entries}))
    assert not rejections
    assert batch.sensors.tolist() == [Sensor.ACC, Sensor.GYRO]
    assert batch.counts.tolist() == [5, 9]  # nothing is left out because the other is not there yet
    assert batch.t_ns.tolist() == [T_NS, T_NS + 500_000_000]


@pytest.mark.parametrize(
    ("topic", "message", "reason", "detail"),
    [
        (GYRO, {"t_ms": T_MS, "acc": ROWS[:4, :3].tolist()}, "gyroscope", "though it came on the gyroscope's topic"),
        (ACC, {"t_ms": T_MS, "gyro": ROWS[:4, 3:].tolist()}, "shape", "neither acc nor ax, ay and az"),
        (GYRO, {"t_ms": T_MS, "gyro": []}, "empty", "no sample"),
        (GYRO, {"temperature": 20}, "shape", "neither acc"),
        (GYRO, b"", "empty", "no payload"),
        ("w/a/gyro", {"gyro": [[0, 0, 0]]}, "device", "'w/{device}/accelerometer'"),
        (GYRO, {"gyro": [[0, 0, 2000]]}, "range", "2e+03"),
    ],
)
def test_what_is_not_of_the_sensor_is_rejected(topic, message, reason, detail):
    batch, (rejection,) = decode(made(), (topic, message))
    assert len(batch) == 0
    assert (rejection.reason, rejection.topic) == (reason, topic)
    assert detail in rejection.detail


def test_a_model_without_gyroscope_passes_its_messages_over():
    batch, rejections = decode(
        made(needs_gyro=False), (ACC, without(CANONICAL, "gyro")), (GYRO, without(CANONICAL, "acc"))
    )
    assert not rejections
    assert batch.sensors.tolist() == [Sensor.ACC]


def test_the_device_is_that_of_either_topic():
    decoder = made()
    assert [decoder.device_of(topic) for topic in (ACC, GYRO, "w/b/gyroscope", "other")] == ["a", "a", "b", None]


def test_without_two_topics_a_message_of_the_gyroscope_is_none():
    decoder = Decoder(TopicTemplate("w/{device}/accelerometer"))
    batch, (rejection,) = decode(decoder, (ACC, without(CANONICAL, "acc")))
    assert (len(batch), rejection.reason) == (0, "shape")
    batch, (rejection,) = decode(decoder, (ACC, [{"n": f"g{a}", "v": 1} for a in "xyz"]))
    assert (len(batch), rejection.reason) == (0, "empty")
