"""Formats of the load: messages with placeholders for their event times, which are overwritten in place."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harstream.core.batches import Float32, Int64
from harstream.publish import ENCODERS

_PERIOD_NS = 20_000_000  # between two samples
_STANDARD_GRAVITY = 9.80665


@dataclass(frozen=True, slots=True)
class Format:
    """Format of messages. A placeholder has as many digits as every time from 2001 to 2286."""

    encode: Callable[[int, float, Float32], bytes]  # of the time of the first sample, the rate and the samples
    placeholder: bytes = b"1111111111.111111"  # in seconds, if it has a point; else the number of digits tells the unit
    config: dict[str, Any] = field(default_factory=dict)  # of the daemon

    @property
    def unit_ns(self) -> int:
        """Unit of the last digit of a time."""
        return int(10 ** (19 - len(self.digits)))

    @property
    def digits(self) -> list[int]:
        """Positions of the digits of a time, from the last to the first."""
        return [at for at in reversed(range(len(self.placeholder))) if self.placeholder[at : at + 1] != b"."]

    def times_in(self, payload: bytes) -> list[int]:
        """Return the positions of the times in a message that ``encode`` made of the placeholder's time."""
        if self.placeholder == b"":
            return [4]
        found, at = [], payload.find(self.placeholder)
        while at >= 0:
            found.append(at)
            at = payload.find(self.placeholder, at + len(self.placeholder))
        return found


def _fields(t_ns: int, rate_hz: float, samples: Float32) -> bytes:
    """Return a board's message: the time in ms, and a list of samples with common names."""
    names = ("ax", "ay", "az", "gx", "gy", "gz")
    rows = np.round(samples.astype(np.float64), 6).tolist()
    message = {"ts": t_ns // 10**6, "hz": rate_hz, "values": [dict(zip(names, row, strict=True)) for row in rows]}
    return json.dumps(message, separators=(",", ":")).encode()


_FIELDS = {
    "payload": "fields",
    "fields": '{ t = "ts", rate_hz = "hz", samples = "values", acc = ["ax", "ay", "az"], gyro = ["gx", "gy", "gz"] }',
}


def _sensor_logger(t_ns: int, _: float, samples: Float32) -> bytes:
    """Return a message of the app with accelerometer, gravity and gyroscope, each with the time ``t_ns``."""
    rows = samples.astype(np.float64)
    gravity = np.tile(rows[:, :3].mean(axis=0), (len(rows), 1))
    signals = {
        "accelerometer": _STANDARD_GRAVITY * (rows[:, :3] - gravity),
        "gravity": _STANDARD_GRAVITY * gravity,
        "gyroscope": rows[:, 3:],
    }
    payload = [
        {"name": name, "time": t_ns, "accuracy": 3, "values": dict(zip("zyx", reversed(row), strict=True))}
        for name, signal in signals.items()
        for row in np.round(signal, 6).tolist()
    ]
    message = {"messageId": 7, "sessionId": "bench", "deviceId": "bench", "payload": payload}
    return json.dumps(message, separators=(",", ":")).encode()


FORMATS = {
    "json": Format(ENCODERS["json"]),
    "packed": Format(ENCODERS["packed"], b""),
    "poisoned": Format(ENCODERS["json"]),
    "fields": Format(_fields, b"1111111111111", _FIELDS),
    "sensor-logger": Format(_sensor_logger, b"1111111111111111111", {"payload": "sensor-logger"}),
}


def offsets_ns(n_times: int, samples_per_message: int) -> Int64:
    """Return the time of each placeholder of a message after the first sample, (n_times,): each sensor has them all."""
    return np.arange(n_times, dtype=np.int64) % samples_per_message * _PERIOD_NS
