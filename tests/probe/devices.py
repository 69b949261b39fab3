"""Made-up devices that send as public sketches and apps do, and what a probe hears of them.

Each shape is a function of the time of the first sample in ns, the rate in Hz, samples (n, 6) in g and rad/s, and the
name of the device, as those of ``tests.wire.shapes``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
import numpy as np

from harstream.core.batches import Float32
from harstream.simulate.source import sources
from harstream.wire.decoder import Message

from ..constants import T0_NS
from ..wire.shapes import G

Shape = Callable[[int, float, Float32, str], bytes]


@cache
def walk(seed: int, rate_hz: float, seconds: float) -> Float32:
    """Return a walk (n_samples, 6) in g and rad/s."""
    (source,) = sources(1, seed, rate_hz=rate_hz, activity="WALKING")
    return source.read(round(seconds * rate_hz))


def heard(
    shape: Shape,
    topic: str,
    device: str = "w1",
    *,
    per_message: int = 25,
    rate_hz: float = 50.0,
    seconds: float = 8.0,
    seed: int = 3,
    lag_s: float = 0.04,
) -> list[Message]:
    """Return the messages of a device that walks, each at the time of its arrival."""
    samples = walk(seed, rate_hz, seconds)
    messages = []
    for first in range(0, len(samples) - per_message + 1, per_message):
        t_ns = T0_NS + round(first * 1e9 / rate_hz)
        payload = shape(t_ns, rate_hz, samples[first : first + per_message], device)
        messages.append(Message(topic, payload, (t_ns / 1e9) + per_message / rate_hz + lag_s))
    return messages


def together(*streams: list[Message]) -> list[Message]:
    """Return the messages of several streams in order of arrival."""
    return sorted((message for stream in streams for message in stream), key=lambda message: message.arrival_s)


def dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


def constant(payload: bytes) -> Shape:
    """Return the shape of messages that are all the same."""
    return lambda *_: payload


def _numbers(values: Any, digits: int = 4) -> list[float]:
    return [round(float(value), digits) for value in values]


def _named(names: str, values: Any) -> dict[str, float]:
    return dict(zip(names.split(), _numbers(values), strict=True))


def _since_start_ms(t_ns: int) -> int:
    """Return the time of a board that was started 81 s before the first message."""
    return (t_ns - T0_NS) // 10**6 + 81_234


# --- one sample a message -----------------------------------------------------------------------------


def mpu_counts(t_ns: int, _: float, samples: Float32, device: str) -> bytes:
    """The Arduino sketch of the MPU-6050 in the Playground: raw counts, and the time since the start."""
    acc = np.rint(samples[0, :3] * 16384).astype(int).tolist()
    gyro = np.rint(np.degrees(samples[0, 3:]) * 131).astype(int).tolist()
    names = ("AcX", "AcY", "AcZ", "Tmp", "GyX", "GyY", "GyZ")
    return dumps({"ms": _since_start_ms(t_ns), **dict(zip(names, [*acc, -2890, *gyro], strict=True))})


def adxl_counts(t_ns: int, _: float, samples: Float32, device: str) -> bytes:
    """An ADXL345 in full resolution: 256 counts per g, and nothing but three numbers."""
    x, y, z = np.rint(samples[0, :3] * 256).astype(int).tolist()
    return dumps({"x": x, "y": y, "z": z})


def thingsboard(t_ns: int, _: float, samples: Float32, device: str) -> bytes:
    return dumps({"ts": t_ns // 10**6, "values": {**_named("ax ay az", samples[0, :3] * G), "battery": 87}})


def cyclic(t_ns: int, _: float, samples: Float32, device: str) -> bytes:
    """``{"accX","accY","accZ","gycX","gycY","gycZ","timestamp"}``, in g and deg/s."""
    gyro = np.degrees(samples[0, 3:])
    return dumps(
        {
            **_named("accX accY accZ", samples[0, :3]),
            **_named("gycX gycY gycZ", gyro),
            "timestamp": t_ns // 10**6,
        }
    )


def two_lists(t_ns: int, _: float, samples: Float32, device: str) -> bytes:
    """``{"timestamp","accelerometer":[..],"gyroscope":[..]}``."""
    acc, gyro = _numbers(samples[0, :3] * G), _numbers(samples[0, 3:])
    return dumps({"timestamp": t_ns / 1e9, "accelerometer": acc, "gyroscope": gyro})


def tasmota(t_ns: int, _: float, samples: Float32, device: str) -> bytes:
    """Tasmota's MPU6050, whose numbers are counts of a converter, with a time in whole seconds."""
    acc = np.rint(samples[0, :3] * 16384).astype(float).tolist()
    stamp = str(np.datetime64(t_ns // 10**9, "s"))
    axes = dict(zip(("AccelXAxis", "AccelYAxis", "AccelZAxis"), acc, strict=True))
    return dumps({"Time": stamp, "MPU6050": {"Temperature": 26.3, **axes}})


def nested(t_ns: int, _: float, samples: Float32, device: str) -> bytes:
    """Objects inside objects, with a unit beside each value."""
    acc = {axis: {"value": value, "unit": "m/s2"} for axis, value in _named("x y z", samples[0, :3] * G).items()}
    return dumps({"node": device, "uptime_s": _since_start_ms(t_ns) / 1000, "sensors": {"accel": acc}})


def flat_list(t_ns: int, _: float, samples: Float32, device: str) -> bytes:
    """``[ax, ay, az, gx, gy, gz]``."""
    return dumps([*_numbers(samples[0, :3] * G), *_numbers(samples[0, 3:])])


def nameless(t_ns: int, _: float, samples: Float32, device: str) -> bytes:
    """Names that say nothing."""
    acc, gyro = _numbers(samples[0, :3] * G), _numbers(samples[0, 3:])
    return dumps({"k": t_ns // 10**6, "q": {"u": acc, "v": gyro}})


def line(t_ns: int, _: float, samples: Float32, device: str) -> bytes:
    """A line of text with semicolons: microseconds, milli-g and deg/s."""
    gyro = np.degrees(samples[0, 3:])
    return ";".join([str(t_ns // 1000), *(f"{value:.3f}" for value in [*(1000 * samples[0, :3]), *gyro])]).encode()


def canonical_in_ms(t_ns: int, _: float, samples: Float32, device: str) -> bytes:
    """A canonical message, but with milliseconds in ``t``."""
    return dumps({"t": _since_start_ms(t_ns), **_named("ax ay az", samples[0, :3])})


def acc_alone(t_ns: int, _: float, samples: Float32, device: str) -> bytes:
    return dumps({"timestamp": t_ns // 10**6, "values": _numbers(samples[0, :3] * G)})


def gyro_alone(t_ns: int, _: float, samples: Float32, device: str) -> bytes:
    return dumps({"timestamp": t_ns // 10**6, "values": _numbers(samples[0, 3:])})


# --- several samples a message ------------------------------------------------------------------------


def packed_rows(t_ns: int, rate_hz: float, samples: Float32, device: str) -> bytes:
    """MessagePack with a list ``[t, ax, ay, az, gx, gy, gz]`` for each sample, in m/s2 and deg/s."""
    rows = [
        [t_ns // 10**6 + round(i * 1000 / rate_hz), *_numbers(row[:3] * G), *_numbers(np.degrees(row[3:]))]
        for i, row in enumerate(samples)
    ]
    return msgspec.msgpack.encode({"dev": device, "data": rows})


def objects_at_top(t_ns: int, rate_hz: float, samples: Float32, device: str) -> bytes:
    """A list of objects, one for each sample."""
    return dumps(
        [{"ts": t_ns // 10**6 + round(i * 1000 / rate_hz), **_named("x y z", row[:3])} for i, row in enumerate(samples)]
    )


def three_lists(t_ns: int, rate_hz: float, samples: Float32, device: str) -> bytes:
    """A list for each axis, without names."""
    columns = samples[:, :3].T.astype(float).round(4).tolist()
    return dumps({"ts": t_ns // 10**6, "rate": rate_hz, "motion": columns})


def by_sensor(t_ns: int, rate_hz: float, samples: Float32, device: str) -> bytes:
    """A list with an object for each sensor, which names itself."""
    acc, gyro = (samples[:, columns].astype(float).round(4).tolist() for columns in (slice(0, 3), slice(3, 6)))
    sensors = [{"type": "gyro", "data": gyro}, {"type": "accel", "data": acc}]
    return dumps({"time": t_ns // 10**6, "freq": rate_hz, "sensors": sensors})
