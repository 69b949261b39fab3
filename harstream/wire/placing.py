"""Placing: samples with times of their own become evenly spaced messages of both sensors, as the core takes them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harstream.core.batches import Float32, Int64, Sensor
from harstream.core.own_times import even_parts, in_order, interpolate_at
from harstream.core.spec import SignalSpec
from harstream.wire.reject import RejectError
from harstream.wire.samples import Samples

#: Longest gap of the gyroscope to interpolate over: the one that the core bridges.
_MAX_GAP_NS = SignalSpec().max_gap_s * 1e9
#: Parts of one message, between gaps. Each costs as much as a message.
_MAX_PARTS = 64
#: Time for which the only sample of a gyroscope is held, if the accelerometer has only one sample too.
_HELD_NS = 20_000_000


def place(samples: Samples, needs_gyro: bool) -> list[Samples]:
    """Return messages of evenly spaced samples, each with the time of its first sample.

    The gyroscope is interpolated at the times of the accelerometer. Samples of the accelerometer before its first or
    after its last sample, by more than one interval, are left out: nothing is known of the rotation then.

    Args:
        samples: Content of a message. If it has no own times, it is returned as it is.
        needs_gyro: Whether to leave samples without a gyroscope out; otherwise the gyroscope is left out.

    Raises:
        RejectError: No sample remains, or the times have too many gaps.

    """
    if not len(samples.acc):
        raise RejectError("empty", "no sample of the accelerometer, only of the gyroscope")
    if samples.acc_t_ns is None:
        return [samples]
    t_ns, rows = samples.acc_t_ns, samples.acc
    if needs_gyro:
        t_ns, rows = _with_gyro(samples)
    else:
        t_ns, rows = in_order(t_ns, rows)
    parts = even_parts(t_ns, rows)
    _check_number(len(parts))
    return [
        replace(
            samples,
            t_ns=part.t_ns,
            acc=part.samples[:, :3],
            gyro=part.samples[:, 3:] if needs_gyro else None,
            acc_t_ns=None,
            gyro_t_ns=None,
        )
        for part in parts
    ]


def place_apart(samples: Samples, sensor: Sensor, needs_gyro: bool) -> list[Samples]:
    """Return messages of evenly spaced samples of a device whose sensors have a clock each.

    The core brings the two together. So nothing of one sensor is left out because the other one is not there, or not
    yet. A message of both sensors stays one if they are sampled together at an even rate.

    Args:
        samples: Content of a message.
        sensor: Sensors that the topic is for. Others in the message are passed over.
        needs_gyro: Whether the gyroscope is used.

    Raises:
        RejectError: The message has no sample of the sensor, or the times have too many gaps.

    """
    acc_t_ns, gyro_t_ns = samples.acc_t_ns, samples.gyro_t_ns
    gyro = samples.gyro if samples.gyro is not None and len(samples.gyro) else None
    if sensor == Sensor.ACC:
        gyro = None
    acc = samples.acc[:0] if sensor == Sensor.GYRO else samples.acc
    if not len(acc) and gyro is None:
        raise RejectError(*_ABSENT[sensor])
    if not needs_gyro and not len(acc):
        return []
    gyro = gyro if needs_gyro else None
    if acc_t_ns is None and gyro_t_ns is None:
        return [replace(samples, acc=acc, gyro=gyro)]
    placed = []
    if len(acc):
        alone = replace(samples, gyro=None, gyro_t_ns=None)
        placed += [alone] if acc_t_ns is None else _even(alone, acc_t_ns, acc)
    if gyro is not None:
        alone = replace(samples, acc=samples.acc[:0], gyro=gyro, acc_t_ns=None, gyro_t_ns=None)
        times = acc_t_ns if gyro_t_ns is None else gyro_t_ns
        placed += [alone] if times is None else _even(alone, times, gyro)
    return placed


_ABSENT = {
    Sensor.BOTH: ("empty", "no sample of the accelerometer, nor of the gyroscope"),
    Sensor.ACC: ("empty", "no sample of the accelerometer, though it came on the accelerometer's topic"),
    Sensor.GYRO: ("gyroscope", "no gyroscope, though it came on the gyroscope's topic"),
}


def _even(samples: Samples, t_ns: Int64, rows: Float32) -> list[Samples]:
    """Return evenly spaced messages of one sensor, whose samples ``rows`` (n_samples, 3) have the times ``t_ns``."""
    parts = even_parts(*in_order(t_ns, rows))
    _check_number(len(parts))
    name = "acc" if samples.gyro is None else "gyro"
    return [
        replace(samples, t_ns=part.t_ns, acc_t_ns=None, gyro_t_ns=None, **{name: part.samples})  # type: ignore[arg-type]
        for part in parts
    ]


def _check_number(n_parts: int) -> None:
    if n_parts > _MAX_PARTS:
        raise RejectError(
            "time", f"the times of its samples have {n_parts - 1} gaps, expected at most {_MAX_PARTS - 1}"
        )


def _with_gyro(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Return the times and rows (n_samples, 6) of the samples of the accelerometer at which the rotation is known."""
    assert samples.acc_t_ns is not None
    if samples.gyro is None or not len(samples.gyro):
        raise RejectError("gyroscope", "no gyroscope, but the model needs one")
    if samples.gyro_t_ns is None:
        return in_order(samples.acc_t_ns, np.hstack([samples.acc, samples.gyro]))
    t_ns, acc = in_order(samples.acc_t_ns, samples.acc)
    gyro_t_ns, gyro = in_order(samples.gyro_t_ns, samples.gyro)
    if len(gyro_t_ns) == len(t_ns) and (gyro_t_ns == t_ns).all():
        return t_ns, np.hstack([acc, gyro])
    longer = gyro_t_ns if len(gyro_t_ns) > 1 else t_ns
    reach_ns = float(np.median(np.diff(longer))) if len(longer) > 1 else _HELD_NS
    values, known = interpolate_at(t_ns, gyro_t_ns, gyro, reach_ns=min(reach_ns, _MAX_GAP_NS), max_gap_ns=_MAX_GAP_NS)
    if not known.any():
        apart_s = (t_ns[0] - gyro_t_ns[0]) / 1e9
        raise RejectError(
            "gyroscope", f"its samples are not of the time of the accelerometer's, but {apart_s:g} s apart"
        )
    return t_ns[known], np.hstack([acc[known], values[known].astype(np.float32)])
