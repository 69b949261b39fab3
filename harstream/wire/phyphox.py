"""phyphox: what experiments of the app of RWTH Aachen send over its network connections and its remote interface.

The source is https://phyphox.org/wiki, "Network Connections" (services mqtt/json, mqtts/json and http/post), and the
app's code that builds the message. Each buffer that an experiment sends is a list of numbers under its id, and NaN is
null:

    {"accX": [0.1, 0.2], "accY": [0.0, 0.1], "accZ": [9.8, 9.7], "acc_time": [12.01, 12.02],
     "gyrX": [0.01, 0.02], "gyrY": [0.0, 0.0], "gyrZ": [0.0, 0.1], "gyr_time": [12.011, 12.021],
     "time": {"now": 1763668812.05, "events": [
       {"event": "START", "experimentTime": 0.0, "systemTime": 1763668800.0}]},
     "device": "0ad1f1c3c5e2"}

The ids are up to the experiment; those of the app's own experiments are understood, and of ``fields`` those that are
configured. Accelerations (with gravity) are in m/s2, rotations in rad/s. ``acc_time`` and ``gyr_time`` count seconds
from the start of the experiment, without its pauses. What ``<send type="time">`` adds under any id makes them times
since 1970: for each, the last event START that is not after it counts. Without it they stay times from the start.
``<send type="meta">uniqueID</send>`` names the device.

The remote interface (http://PHONE/get?accX&acc_time) wraps each list, as in ``{"buffer": {"accX": {"buffer":
[0.1]}}}``. A program that passes its answers on to a broker may leave them so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from harstream.core.batches import Float32, Float64, Int64
from harstream.wire.device_names import DEVICE_NAMES, device_name
from harstream.wire.documents import found
from harstream.wire.fields import MISSING, Fields, find
from harstream.wire.reject import RejectError
from harstream.wire.samples import ACC_UNITS, Samples, convert
from harstream.wire.times import read_times

#: Ids of the axes, and of the time, of each sensor in the app's experiments; the first that a message has count.
_ACC = (("accX", "accY", "accZ"), ("acc_x", "acc_y", "acc_z"), ("ax", "ay", "az"), ("x", "y", "z"))
_GYRO = (("gyrX", "gyrY", "gyrZ"), ("gyroX", "gyroY", "gyroZ"), ("gyr_x", "gyr_y", "gyr_z"), ("gx", "gy", "gz"))
_ACC_TIMES = ("acc_time", "accT", "acc_t", "t", "time")
_GYRO_TIMES = ("gyr_time", "gyrT", "gyr_t", "gyro_time")
_MAX_S = 1e11  # of an event; only a corrupt time is so far away
_DEVICES = (*DEVICE_NAMES, "uniqueID", "uniqueId")


def decode_phyphox(document: Any, fields: Fields, *, names_device: bool) -> Samples:
    """Return the samples of a message. Raise RejectError if it has no buffers of an accelerometer or gyroscope."""
    if not isinstance(document, dict):
        raise RejectError("shape", f"the message is {found(document)}, expected an object of buffers")
    buffers = _buffers(document)
    acc, acc_t = _sensor(buffers, _ids(fields.acc, _ACC), _times_of(fields, _ACC_TIMES))
    gyro, gyro_t = _sensor(buffers, _ids(fields.gyro, _GYRO), _GYRO_TIMES)
    if acc is None and gyro is None:
        raise RejectError("shape", f"no buffers accX, accY and accZ, but {found(buffers)}")
    if acc is None and gyro_t is not None:
        acc, acc_t = np.zeros((0, 3)), np.zeros(0)
    device = _device(document, fields) if names_device else None
    starts = _starts(document)
    acc_values = _convert(acc, ACC_UNITS["m/s2"])
    gyro_values = None if gyro is None else _convert(gyro, 1.0)
    if acc_t is None:
        if gyro_values is not None and len(gyro_values) != len(acc_values):
            raise RejectError("shape", f"{len(acc_values)} samples in acc, {len(gyro_values)} in gyro, and no acc_time")
        if not len(acc_values):
            raise RejectError("empty", "no sample")
        return Samples(None, 0.0, acc_values, gyro_values, device=device)
    if gyro_values is not None and gyro_t is None and len(gyro_values) != len(acc_values):
        raise RejectError("shape", f"{len(acc_values)} samples in acc, {len(gyro_values)} in gyro, and no gyr_time")
    return Samples(
        None,
        0.0,
        acc_values,
        gyro_values,
        device=device,
        acc_t_ns=_nanoseconds(acc_t, starts),
        gyro_t_ns=None if gyro_t is None else _nanoseconds(gyro_t, starts),
    )


def _buffers(document: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Return the buffers of a message by id, also of an answer of the remote interface."""
    inner = document.get("buffer")
    if not isinstance(inner, dict):
        return document
    return {name: one["buffer"] if isinstance(one, dict) and "buffer" in one else one for name, one in inner.items()}


def _ids(configured: tuple[str, ...], known: tuple[tuple[str, str, str], ...]) -> tuple[tuple[str, ...], ...]:
    return (configured, *known) if len(configured) == 3 else known


def _times_of(fields: Fields, known: tuple[str, ...]) -> tuple[str, ...]:
    return (fields.t, *known) if fields.t else known


def _sensor(
    buffers: Mapping[Any, Any], ids: tuple[tuple[str, ...], ...], times: tuple[str, ...]
) -> tuple[Float64 | None, Float64 | None]:
    """Return the samples (n_samples, 3) and times (n_samples,) of a sensor, without those in which a number is null."""
    names = next((three for three in ids if all(name in buffers for name in three)), None)
    if names is None:
        return None, None
    columns = [_numbers(buffers[name], name) for name in names]
    time_name = next((name for name in times if isinstance(buffers.get(name), list | int | float)), None)
    if time_name is not None:
        columns.append(_numbers(buffers[time_name], time_name))
    lengths = {len(column) for column in columns}
    if len(lengths) > 1:
        shown = ", ".join(
            f"{len(column)} in {name}" for name, column in zip((*names, time_name), columns, strict=False)
        )
        raise RejectError("shape", f"buffers of different length: {shown}")
    rows = np.array(columns).T
    finite = np.isfinite(rows).all(axis=1)
    if time_name is None and not finite.all():  # without it, the gap would be hidden
        raise RejectError(
            "not_finite", f"null in {', '.join(names)}, and no time such as {times[0]} that tells of the gap"
        )
    rows = rows[finite]
    return rows[:, :3], rows[:, 3] if time_name is not None else None


def _numbers(value: Any, name: str) -> Float64:
    """Return the numbers of a buffer, (n_numbers,), with NaN for null; a single number is one too."""
    values = value if isinstance(value, list) else [value]
    try:
        numbers = np.array([math.nan if one is None else one for one in values])
        if numbers.ndim == 1 and numbers.dtype.kind in "iuf":
            return numbers.astype(np.float64)
    except (ValueError, OverflowError):
        pass
    raise RejectError("shape", f"the buffer {name} is {found(value)}, expected numbers")


def _convert(rows: Float64 | None, factor: float) -> Float32:
    return convert(np.zeros((0, 3)) if rows is None else rows, factor)


def _nanoseconds(t_s: Float64, starts: Float64) -> Int64:
    """Return times in ns of experiment times in s; those before the first start belong to it."""
    if len(starts):
        t_s = t_s + starts[np.maximum(np.searchsorted(starts[:, 0], t_s, side="right") - 1, 0), 1]
    return read_times(t_s.tolist(), "s", "acc_time")


def _starts(document: Mapping[Any, Any]) -> Float64:
    """Return the starts of the experiment that a message tells, (n_starts, 2), in s, by experiment time.

    The columns are experiment time, and what is added to it until the next start to make it a time since 1970.
    """
    for value in document.values():
        if isinstance(value, dict) and isinstance(value.get("events"), list):
            starts = [
                (float(event["experimentTime"]), float(event["systemTime"]) - float(event["experimentTime"]))
                for event in value["events"]
                if isinstance(event, dict)
                and event.get("event") == "START"
                and all(_is_time(event.get(key)) for key in ("systemTime", "experimentTime"))
            ]
            if starts:
                return np.array(sorted(starts))
    return np.zeros((0, 2))


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MAX_S


def _device(document: Mapping[Any, Any], fields: Fields) -> str:
    value = find(document, fields.device) if fields.device else MISSING
    names = [name for name in _DEVICES if isinstance(document.get(name), str)]
    if value is MISSING and not names:
        raise RejectError("device", f"neither topic nor message names the device, but {found(document)}")
    return device_name(document[names[0]] if value is MISSING else value)
