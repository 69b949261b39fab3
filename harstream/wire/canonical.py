"""Canonical payload: a batch of samples (acc, gyro), or a single sample (ax, ay, az, gx, gy, gz).

It is a JSON object. A map in CBOR (RFC 8949) or MessagePack with the same names and values is the same message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np

from harstream.core.batches import Float32, Sensor
from harstream.wire.documents import TOO_DEEP, json_error, shown
from harstream.wire.other_names import OtherNames, ignored_units, read_members, read_other_names
from harstream.wire.reject import RejectError
from harstream.wire.samples import AUTO, Samples, Units, acc_factor, check_rate, convert, gyro_factor
from harstream.wire.times import event_time

Triple = tuple[float, float, float]  # x, y, z


class _Payload(msgspec.Struct):
    """Fields of the JSON object. All are optional here."""

    t: int | float | None = None  # seconds since 1970
    t_ms: int | float | None = None
    t_us: int | float | None = None
    t_ns: int | float | None = None
    rate_hz: float | None = None
    units: dict[str, str] | None = None
    acc: list[Triple] | None = None
    gyro: list[Triple] | None = None
    ax: float | None = None
    ay: float | None = None
    az: float | None = None
    gx: float | None = None
    gy: float | None = None
    gz: float | None = None


_decoder = msgspec.json.Decoder(_Payload)


def decode_json(payload: bytes, units: Units, sensor: Sensor | None = None) -> Samples:
    """Decode a JSON payload.

    Args:
        payload: The message.
        units: Units of a message that names none.
        sensor: Sensors that messages may hold by themselves; None: the accelerometer must be there.

    Raises:
        RejectError: The payload is malformed.

    """
    return _to_samples(_parse(payload), units, partial(read_other_names, payload), sensor)


def decode_canonical(document: Any, units: Units, sensor: Sensor | None = None) -> Samples:
    """Decode a document with the fields of the JSON payload, as ``decode_json`` does."""
    try:
        data = msgspec.convert(document, _Payload)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise RejectError("shape", shown(str(error))) from None
    return _to_samples(data, units, partial(read_members, document), sensor)


def _to_samples(
    data: _Payload, units: Units, read_others: Callable[[list[str]], OtherNames], sensor: Sensor | None
) -> Samples:
    acc, gyro = _triples(data, may_be_gyro=sensor in (Sensor.GYRO, Sensor.BOTH))
    if not acc and (sensor is None or not gyro):
        raise RejectError("empty", "no sample")
    if acc and gyro is not None and len(gyro) != len(acc):
        raise RejectError("shape", f"{len(acc)} samples in acc, {len(gyro)} in gyro")
    named = data.units or {}
    acc_unit, gyro_unit = named.get("acc", units.acc), named.get("gyro", units.gyro)
    auto = acc_unit == AUTO
    t_ns, rate_hz = event_time(data.t, data.t_ms, data.t_us, data.t_ns), data.rate_hz
    ignored = ignored_units(data.units) if data.units else ()
    if t_ns is None or rate_hz is None or data.units is None:
        told = {"time": t_ns, "rate": rate_hz, "units": data.units}
        others = read_others([kind for kind, value in told.items() if value is None])
        t_ns = others.t_ns if t_ns is None else t_ns
        rate_hz = others.rate_hz if rate_hz is None else rate_hz
        ignored += others.ignored
    return Samples(
        t_ns,
        check_rate(rate_hz),
        convert(np.reshape(acc, (-1, 3)), acc_factor(acc_unit), auto=auto),
        None if gyro is None else convert(gyro, gyro_factor(gyro_unit)),
        auto,
        ignored,
    )


def _parse(payload: bytes) -> _Payload:
    try:
        return _decoder.decode(payload)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except RecursionError:
        raise RejectError("json", TOO_DEEP) from None
    except (msgspec.DecodeError, ValueError) as error:
        raise json_error(payload, error) from None


def _invalid(detail: str) -> RejectError:
    """Return the rejection of a value of the wrong type. The detail names the field: "Expected `int` - at `$.t_ns`"."""
    if "`$.t" in detail:  # t, t_ms, t_us or t_ns
        return RejectError("time", detail)
    if "Number out of range" in detail:
        return RejectError("rate" if "`$.rate_hz" in detail else "not_finite", detail)
    return RejectError("shape", detail)


def _triples(data: _Payload, *, may_be_gyro: bool) -> tuple[Sequence[Triple], Sequence[Triple] | None]:
    """Return accelerometer and gyroscope samples; the latter are None if the message has none.

    With ``may_be_gyro``, the former may be missing.
    """
    if data.acc is not None:
        return data.acc, data.gyro
    gyro = (data.gx, data.gy, data.gz)
    if may_be_gyro and (data.ax, data.ay, data.az) == (None, None, None):
        if data.gyro is not None:
            return [], data.gyro
        if data.gx is not None and data.gy is not None and data.gz is not None:
            return [], [(data.gx, data.gy, data.gz)]
    if data.ax is None or data.ay is None or data.az is None:
        raise RejectError("shape", "neither acc nor ax, ay and az")
    if gyro == (None, None, None):
        return [(data.ax, data.ay, data.az)], None
    if data.gx is None or data.gy is None or data.gz is None:
        raise RejectError("shape", "only some of gx, gy and gz")
    return [(data.ax, data.ay, data.az)], [(data.gx, data.gy, data.gz)]


def encode_json(t_ns: int, rate_hz: float, samples: Float32) -> bytes:
    """Encode samples as canonical JSON. The time is rounded to microseconds, samples to six decimals.

    Args:
        t_ns: Event time of the first sample.
        rate_hz: Sampling rate.
        samples: (n_samples, 6) in g and rad/s, or (n_samples, 3) in g without a gyroscope.

    """
    return msgspec.json.encode(message_of(t_ns, rate_hz, samples))


def message_of(t_ns: int, rate_hz: float, samples: Float32) -> dict[str, Any]:
    """Return the content of the canonical message with samples as ``encode_json`` takes them."""
    rows = np.round(samples.astype(np.float64), 6)
    message: dict[str, Any] = {"t": round(t_ns / 1e9, 6), "rate_hz": rate_hz, "acc": rows[:, :3].tolist()}
    if rows.shape[1] > 3:
        message["gyro"] = rows[:, 3:].tolist()
    return message
