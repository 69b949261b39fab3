"""Canonical JSON payload: a batch of samples (acc, gyro), or a single sample (ax, ay, az, gx, gy, gz)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from harstream.core.batches import Float32
from harstream.wire.other_names import ignored_units, read_other_names
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


_GZIP = b"\x1f\x8b"  # begin of a compressed payload
_decoder = msgspec.json.Decoder(_Payload)


def decode_json(payload: bytes, units: Units) -> Samples:
    """Decode a JSON payload; ``units`` are those of a message that names none. Raise RejectError if it is malformed."""
    data = _parse(payload)
    acc, gyro = _triples(data)
    if not acc:
        raise RejectError("empty", "no sample")
    if gyro is not None and len(gyro) != len(acc):
        raise RejectError("shape", f"{len(acc)} samples in acc, {len(gyro)} in gyro")
    named = data.units or {}
    acc_unit, gyro_unit = named.get("acc", units.acc), named.get("gyro", units.gyro)
    auto = acc_unit == AUTO
    t_ns, rate_hz = event_time(data.t, data.t_ms, data.t_us, data.t_ns), data.rate_hz
    ignored = ignored_units(data.units) if data.units else ()
    if t_ns is None or rate_hz is None or data.units is None:
        told = {"time": t_ns, "rate": rate_hz, "units": data.units}
        others = read_other_names(payload, [kind for kind, value in told.items() if value is None])
        t_ns = others.t_ns if t_ns is None else t_ns
        rate_hz = others.rate_hz if rate_hz is None else rate_hz
        ignored += others.ignored
    return Samples(
        t_ns,
        check_rate(rate_hz),
        convert(acc, acc_factor(acc_unit), auto=auto),
        None if gyro is None else convert(gyro, gyro_factor(gyro_unit)),
        auto,
        ignored,
    )


def _parse(payload: bytes) -> _Payload:
    try:
        return _decoder.decode(payload)
    except msgspec.ValidationError as error:
        # The detail names the field, as in "Expected `int`, got `str` - at `$.t_ns`".
        detail = str(error)
        if "`$.t" in detail:  # t, t_ms, t_us or t_ns
            raise RejectError("time", detail) from None
        if "Number out of range" in detail:
            raise RejectError("rate" if "`$.rate_hz" in detail else "not_finite", detail) from None
        raise RejectError("shape", detail) from None
    except RecursionError:
        raise RejectError("json", "lists and objects lie too deep inside each other; send samples flat") from None
    except (msgspec.DecodeError, ValueError) as error:
        # Many encoders write NaN and Infinity, although JSON has no such numbers.
        not_finite = b"NaN" in payload or b"Infinity" in payload
        if payload.startswith(_GZIP):
            raise RejectError("json", "the payload is compressed (gzip); send it as it is") from None
        if not_finite:
            raise RejectError("not_finite", f"NaN or Infinity, which JSON does not have ({error})") from None
        raise RejectError("json", str(error)) from None


def _triples(data: _Payload) -> tuple[Sequence[Triple], Sequence[Triple] | None]:
    """Return accelerometer and gyroscope samples; the latter are None if the message has none."""
    if data.acc is not None:
        return data.acc, data.gyro
    if data.ax is None or data.ay is None or data.az is None:
        raise RejectError("shape", "neither acc nor ax, ay and az")
    gyro = (data.gx, data.gy, data.gz)
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
    rows = np.round(samples.astype(np.float64), 6)
    message = {"t": round(t_ns / 1e9, 6), "rate_hz": rate_hz, "acc": rows[:, :3].tolist()}
    if rows.shape[1] > 3:
        message["gyro"] = rows[:, 3:].tolist()
    return msgspec.json.encode(message)
