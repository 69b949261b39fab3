"""Packed payload: a header of 20 bytes, then the samples as float32, or as int16 with scales. Little-endian."""

from __future__ import annotations

import struct

import numpy as np

from harstream.core.batches import Float32, Sensor
from harstream.wire.reject import RejectError
from harstream.wire.samples import AUTO, Samples, Units, acc_factor, check_rate, convert, gyro_factor
from harstream.wire.times import event_time

MAGIC = b"HS"
VERSION = 1
FLAG_GYRO, FLAG_INT16 = 1, 2
HEADER = struct.Struct("<2sBBqfHH")  # magic, version, flags, t_ns, rate_hz, count, reserved
_SCALES = struct.Struct("<ff")  # of accelerometer and gyroscope; after the header if FLAG_INT16 is set
MAX_PACKED_COUNT = 0xFFFF  # samples in a message


def decode_packed(payload: bytes, units: Units, sensor: Sensor | None = None) -> Samples:
    """Decode a packed payload.

    Args:
        payload: The message.
        units: Units of its numbers.
        sensor: GYRO: samples of one sensor are the gyroscope's.

    Raises:
        RejectError: The payload is malformed.

    """
    if len(payload) < HEADER.size:
        raise RejectError("packed", f"{len(payload)} bytes are less than the header's {HEADER.size}")
    _, version, flags, t_ns, rate_hz, count, _ = HEADER.unpack_from(payload)
    if version != VERSION:
        raise RejectError("packed", f"version {version}, expected {VERSION}")
    if flags & ~(FLAG_GYRO | FLAG_INT16):
        raise RejectError("packed", f"unknown flags {flags:#04x}")
    if count == 0:
        raise RejectError("empty", "no sample")
    is_int16, columns = bool(flags & FLAG_INT16), 6 if flags & FLAG_GYRO else 3
    offset = HEADER.size + (_SCALES.size if is_int16 else 0)
    expected = offset + count * columns * (2 if is_int16 else 4)
    if len(payload) != expected:
        raise RejectError("packed", f"{len(payload)} bytes, expected {expected} for {count} samples")
    with np.errstate(over="ignore", invalid="ignore"):
        rows = np.frombuffer(payload, "<i2" if is_int16 else "<f4", offset=offset).reshape(count, columns).astype(float)
        if columns == 3 and sensor == Sensor.GYRO:
            rows = np.hstack([np.zeros_like(rows), rows])
        if is_int16:
            acc_scale, gyro_scale = _SCALES.unpack_from(payload, HEADER.size)
            rows[:, :3] *= acc_scale
            rows[:, 3:] *= gyro_scale
    if sensor == Sensor.GYRO:
        count = 0  # of the accelerometer
    return Samples(
        None if t_ns == 0 else event_time(t_ns=t_ns),
        check_rate(rate_hz),
        convert(rows[:count, :3], acc_factor(units.acc), auto=units.acc == AUTO),
        convert(rows[:, 3:], gyro_factor(units.gyro)) if rows.shape[1] > 3 else None,
        units.acc == AUTO,
    )


def encode_packed(t_ns: int, rate_hz: float, samples: Float32) -> bytes:
    """Encode samples as packed float32, which keeps every bit of them.

    Args:
        t_ns: Event time of the first sample; 0 means that there is none.
        rate_hz: Sampling rate; 0 means that there is none.
        samples: (n_samples, 6) in g and rad/s, or (n_samples, 3) in g without a gyroscope; at most MAX_PACKED_COUNT.

    """
    flags = FLAG_GYRO if samples.shape[1] > 3 else 0
    header = HEADER.pack(MAGIC, VERSION, flags, t_ns, rate_hz, len(samples), 0)
    return header + samples.astype("<f4").tobytes()
