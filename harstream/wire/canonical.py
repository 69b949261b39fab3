"""Canonical payload: a batch of samples (acc, gyro), or a single sample (ax, ay, az, gx, gy, gz).

It is a JSON object. A map in CBOR (RFC 8949) or MessagePack with the same names and values is the same message. Where
it has no gyroscope under its canonical names, one under a common name counts (see ``common_names``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import numpy as np

from harstream.core.batches import Float32, Sensor
from harstream.wire.common_names import common_gyro
from harstream.wire.device_names import DEVICE_NAMES, device_name, device_of
from harstream.wire.documents import TOO_DEEP, json_error, read_json, shown
from harstream.wire.fields import read_sensor
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


#: The same with the fields that may name the device, of any type, so that these are parsed only once too.
_NamedPayload: Any = msgspec.defstruct("_NamedPayload", [(name, Any, None) for name in DEVICE_NAMES], bases=(_Payload,))
_decoders: dict[bool, msgspec.json.Decoder[Any]] = {
    False: msgspec.json.Decoder(_Payload),
    True: msgspec.json.Decoder(_NamedPayload),
}


def decode_json(payload: bytes, units: Units, *, names_device: bool = False, sensor: Sensor | None = None) -> Samples:
    """Return the samples of a JSON payload.

    Args:
        payload: The message.
        units: Units of a message that names none.
        names_device: Whether the message names the device.
        sensor: Sensors that messages may hold by themselves; None: the accelerometer must be there.

    Raises:
        RejectError: The message is malformed.

    """
    data = _parse(payload, names_device)
    samples = _to_samples(
        data,
        units,
        partial(read_other_names, payload),
        lambda: read_json(payload) if _may_have_gyro(payload) else {},
        sensor,
    )
    if names_device:
        samples = replace(samples, device=_device(data, payload))
    return samples


def _may_have_gyro(payload: bytes) -> bool:
    """Return whether a JSON object may have a common name of a gyroscope. To look for these takes longer."""
    plain = payload.lower()
    return b'"g' in plain or b'"rot' in plain or b'"angular' in plain


def _device(data: Any, payload: bytes) -> str:
    named = next((value for name in DEVICE_NAMES if (value := getattr(data, name)) is not None), None)
    return device_of(read_json(payload)) if named is None else device_name(named)


def decode_canonical(
    document: Any, units: Units, *, names_device: bool = False, sensor: Sensor | None = None
) -> Samples:
    """Return the samples of a document with the fields of the JSON payload, as ``decode_json`` does."""
    try:
        data = msgspec.convert(document, _Payload)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise RejectError("shape", shown(str(error))) from None
    samples = _to_samples(data, units, partial(read_members, document), lambda: document, sensor)
    return replace(samples, device=device_of(document)) if names_device else samples


def _to_samples(
    data: _Payload,
    units: Units,
    read_others: Callable[[list[str]], OtherNames],
    read_document: Callable[[], Mapping[Any, Any]],
    sensor: Sensor | None,
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
    no_gyro = ""
    if gyro is None and sensor != Sensor.ACC:
        gyro, no_gyro = _other_gyro(read_document(), len(acc))
    return Samples(
        t_ns,
        check_rate(rate_hz),
        convert(np.reshape(acc, (-1, 3)), acc_factor(acc_unit), auto=auto),
        None if gyro is None else convert(gyro, gyro_factor(gyro_unit)),
        auto,
        ignored,
        no_gyro=no_gyro,
    )


def _other_gyro(document: Mapping[Any, Any], n_samples: int) -> tuple[Any, str]:
    """Return the gyroscope that a message has under a common name, or None and why what it has there is none."""
    paths = common_gyro(document) if document else ()
    if not paths:
        return None, ""
    try:
        gyro = read_sensor([document], paths, "gyro", many=False)
    except RejectError as error:
        return None, error.detail
    if len(gyro) == n_samples:
        return gyro, ""
    return None, f"{n_samples} samples in acc, {len(gyro)} in {', '.join(paths)}"


def _parse(payload: bytes, names_device: bool) -> _Payload:
    try:
        data: _Payload = _decoders[names_device].decode(payload)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except RecursionError:
        raise RejectError("json", TOO_DEEP) from None
    except (msgspec.DecodeError, ValueError) as error:
        raise json_error(payload, error) from None
    return data


def _invalid(detail: str) -> RejectError:
    """Return the rejection of a value of the wrong type. The detail names the field: "Expected `int` - at `$.t_ns`"."""
    detail = shown(detail)
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
