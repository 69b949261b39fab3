"""Placing: samples with times of their own become evenly spaced messages of both sensors, as the core takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from harstream.core.batches import Float32, Int64, Sensor
from harstream.core.own_times import EvenPart, even_parts, in_order, interpolate_at, spread
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

    Samples whose times are relative to each other have none afterwards, but the rate that the times show.

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
    return _even(samples, t_ns, rows, lambda part: (part[:, :3], part[:, 3:] if needs_gyro else None))


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
    if samples.relative and len(acc) and gyro is not None:  # both have the same times
        return place(samples, True)
    placed = []
    if len(acc):
        alone = replace(samples, acc=acc, gyro=None, gyro_t_ns=None)
        placed += [alone] if acc_t_ns is None else _even(alone, *in_order(acc_t_ns, acc), lambda part: (part, None))
    if gyro is not None:
        none = samples.acc[:0]
        alone = replace(samples, acc=none, gyro=gyro, acc_t_ns=None, gyro_t_ns=None)
        times = acc_t_ns if gyro_t_ns is None else gyro_t_ns
        placed += [alone] if times is None else _even(alone, *in_order(times, gyro), lambda part: (none, part))
    return placed


_ABSENT = {
    Sensor.BOTH: ("empty", "no sample of the accelerometer, nor of the gyroscope"),
    Sensor.ACC: ("empty", "no sample of the accelerometer, though it came on the accelerometer's topic"),
    Sensor.GYRO: ("gyroscope", "no gyroscope, though it came on the gyroscope's topic"),
}


def _even(
    samples: Samples, t_ns: Int64, rows: Float32, sensors: Callable[[Float32], tuple[Float32, Float32 | None]]
) -> list[Samples]:
    """Return messages of evenly spaced samples.

    Args:
        samples: Message that they come from.
        t_ns: Times of the samples, in order, (n_samples,).
        rows: The samples, (n_samples, n_signals).
        sensors: Returns accelerometer and gyroscope of some rows.

    """
    # Of two samples without a time since 1970, nothing else could tell how far they are apart.
    is_pair = samples.relative and len(rows) == 2
    parts = [EvenPart(int(t_ns[0]), int(t_ns[1]), rows)] if is_pair else even_parts(t_ns, rows)
    if len(parts) > _MAX_PARTS:
        raise RejectError(
            "time", f"the times of its samples have {len(parts) - 1} gaps, expected at most {_MAX_PARTS - 1}"
        )
    span_s = sum(part.last_ns - part.t_ns for part in parts) / 1e9
    n_steps = sum(len(part.samples) - 1 for part in parts)
    even = []
    for part in parts:
        acc, gyro = sensors(part.samples)
        even.append(
            replace(
                samples,
                t_ns=None if samples.relative else part.t_ns,
                rate_hz=n_steps / span_s if samples.relative and span_s > 0 else samples.rate_hz,
                acc=acc,
                gyro=gyro,
                acc_t_ns=None,
                gyro_t_ns=None,
                relative=False,
                age_s=(parts[-1].last_ns - part.last_ns) / 1e9 if samples.relative else 0.0,
            )
        )
    return even


def _with_gyro(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Return the times and rows (n_samples, 6) of the samples of the accelerometer at which the rotation is known."""
    assert samples.acc_t_ns is not None
    if samples.gyro is None or not len(samples.gyro):
        raise RejectError("gyroscope", "no gyroscope, but the model needs one")
    if samples.gyro_t_ns is None or np.array_equal(samples.gyro_t_ns, samples.acc_t_ns):
        return in_order(samples.acc_t_ns, np.hstack([samples.acc, samples.gyro]))
    t_ns, acc = in_order(samples.acc_t_ns, samples.acc)
    gyro_t_ns, gyro = in_order(samples.gyro_t_ns, samples.gyro)
    if np.array_equal(gyro_t_ns, t_ns):
        return t_ns, np.hstack([acc, gyro])
    at_ns, gyro_t_ns = spread(t_ns), spread(gyro_t_ns)
    longer = gyro_t_ns if len(gyro_t_ns) > 1 else t_ns
    reach_ns = float(np.median(np.diff(longer))) if len(longer) > 1 else _HELD_NS
    values, known = interpolate_at(at_ns, gyro_t_ns, gyro, reach_ns=min(reach_ns, _MAX_GAP_NS), max_gap_ns=_MAX_GAP_NS)
    if not known.any():
        apart_s = (t_ns[0] - gyro_t_ns[0]) / 1e9
        raise RejectError(
            "gyroscope", f"its samples are not of the time of the accelerometer's, but {apart_s:g} s apart"
        )
    return t_ns[known], np.hstack([acc[known], values[known].astype(np.float32)])
