"""The two forms of a samples payload, JSON and packed, read into the same thing."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from harstream.core.batches import Float32
from harstream.wire.reject import Reject

STANDARD_GRAVITY = 9.80665  # m/s2
#: Unit to the factor that makes it g or rad/s.
ACC_UNITS = {"g": 1.0, "m/s2": 1 / STANDARD_GRAVITY}
GYRO_UNITS = {"rad/s": 1.0, "deg/s": math.pi / 180}

#: In g and in rad/s. No sensor reaches it, and a filter fed with more would ring for minutes.
MAX_MAGNITUDE = 1000.0

YEAR_2200_NS = 7_258_118_400 * 10**9

MAGIC = b"HS"
VERSION = 1
FLAG_GYRO, FLAG_INT16 = 1, 2
HEADER = struct.Struct("<2sBBqfHH")  # magic, version, flags, t_ns, rate_hz, count, reserved
_SCALES = struct.Struct("<ff")  # accelerometer, gyroscope
MAX_PACKED_COUNT = 0xFFFF


@dataclass(frozen=True, slots=True)
class Samples:
    """One message's content. ``gyro`` is None where it carried none."""

    t_ns: int | None  # event time of the first sample; None: none was sent
    rate_hz: float  # 0: none was sent
    acc: Float32  # (n_samples, 3) in g
    gyro: Float32 | None  # (n_samples, 3) in rad/s

    @property
    def n_samples(self) -> int:
        return len(self.acc)


@dataclass(frozen=True, slots=True)
class Units:
    """What a message's numbers mean where the message itself does not say."""

    acc: str = "g"
    gyro: str = "rad/s"


Triple = tuple[float, float, float]


class _Payload(msgspec.Struct):
    """JSON as it may come: a batch (acc, gyro) or a single flat sample (ax to gz). Other fields are ignored."""

    t: int | float | None = None
    t_ms: int | None = None
    t_us: int | None = None
    t_ns: int | None = None
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


def decode(payload: bytes, units: Units) -> Samples:
    """A payload in either form, told apart by its first two bytes. Raises Reject."""
    if not payload:
        raise Reject("empty", "no payload")
    return decode_packed(payload, units) if payload[:2] == MAGIC else decode_json(payload, units)


def decode_json(payload: bytes, units: Units) -> Samples:
    """Raises Reject."""
    try:
        data = _decoder.decode(payload)
    except msgspec.ValidationError as error:
        detail = str(error)
        if "`$.t" in detail:
            raise Reject("time", detail) from None
        if "Number out of range" in detail:
            raise Reject("rate" if "`$.rate_hz" in detail else "not_finite", detail) from None
        raise Reject("shape", detail) from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        # What many encoders write although JSON has no such numbers.
        not_finite = b"NaN" in payload or b"Infinity" in payload
        raise Reject("not_finite" if not_finite else "json", str(error)) from None
    acc, gyro = _triples(data)
    if not acc:
        raise Reject("empty", "no sample")
    if gyro is not None and len(gyro) != len(acc):
        raise Reject("shape", f"{len(acc)} samples in acc, {len(gyro)} in gyro")
    named = data.units or {}
    return Samples(
        event_time(data.t, data.t_ms, data.t_us, data.t_ns),
        check_rate(data.rate_hz),
        _scaled(acc, named.get("acc", units.acc), ACC_UNITS),
        None if gyro is None else _scaled(gyro, named.get("gyro", units.gyro), GYRO_UNITS),
    )


def _triples(data: _Payload) -> tuple[Sequence[Triple], Sequence[Triple] | None]:
    if data.acc is not None:
        return data.acc, data.gyro
    if data.ax is None or data.ay is None or data.az is None:
        raise Reject("shape", "neither acc nor ax, ay and az")
    gyro = (data.gx, data.gy, data.gz)
    if gyro == (None, None, None):
        return [(data.ax, data.ay, data.az)], None
    if data.gx is None or data.gy is None or data.gz is None:
        raise Reject("shape", "only some of gx, gy and gz")
    return [(data.ax, data.ay, data.az)], [(data.gx, data.gy, data.gz)]


def event_time(
    t: int | float | None = None, t_ms: int | None = None, t_us: int | None = None, t_ns: int | None = None
) -> int | None:
    """Nanoseconds, of the finest that is given; integers are never parsed through a float. Raises Reject."""
    if t_ns is None:
        if t_us is not None:
            t_ns = t_us * 1000
        elif t_ms is not None:
            t_ns = t_ms * 1_000_000
        elif isinstance(t, int):
            t_ns = t * 10**9
        elif t is None:
            return None
        elif not math.isfinite(t) or abs(t) > YEAR_2200_NS / 1e9:
            raise Reject("time", f"t is {t!r}")
        else:
            # A float of seconds resolves a quarter of a microsecond today: the microsecond is what was meant.
            t_ns = round(t * 1e6) * 1000
    return check_time(t_ns)


def check_time(t_ns: int) -> int:
    """Raises Reject for what lies before 1970 or beyond 2200."""
    if not 0 <= t_ns <= YEAR_2200_NS:
        raise Reject("time", f"{t_ns} ns is not between 1970 and 2200")
    return t_ns


def check_rate(rate_hz: float | None) -> float:
    """0 for None. Raises Reject."""
    if rate_hz is None:
        return 0.0
    if not (math.isfinite(rate_hz) and rate_hz >= 0):
        raise Reject("rate", f"rate_hz is {rate_hz!r}")
    return rate_hz


def _scaled(values: npt.ArrayLike, unit: str, known: Mapping[str, float]) -> Float32:
    if unit not in known:
        raise Reject("units", f"{unit!r} is not one of {', '.join(known)}")
    return _finite(np.asarray(values, np.float64) * known[unit])


def _finite(values: npt.NDArray[np.float64]) -> Float32:
    """As float32, or Reject: a number too large for float32 is as good as infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = values.astype(np.float32)
    if not np.isfinite(narrow).all():
        raise Reject("not_finite", "a sample is not a finite number")
    if np.abs(narrow).max(initial=0.0) > MAX_MAGNITUDE:
        raise Reject("range", f"a sample is {np.abs(narrow).max():.3g} g or rad/s, the most is {MAX_MAGNITUDE:g}")
    return narrow


def decode_packed(payload: bytes, units: Units) -> Samples:
    """Raises Reject."""
    if len(payload) < HEADER.size:
        raise Reject("packed", f"{len(payload)} bytes are less than the header's {HEADER.size}")
    _, version, flags, t_ns, rate_hz, count, _ = HEADER.unpack_from(payload)
    if version != VERSION:
        raise Reject("packed", f"version {version}, we read {VERSION}")
    if flags & ~(FLAG_GYRO | FLAG_INT16):
        raise Reject("packed", f"unknown flags {flags:#04x}")
    if count == 0:
        raise Reject("empty", "no sample")
    scaled, columns = bool(flags & FLAG_INT16), 6 if flags & FLAG_GYRO else 3
    offset = HEADER.size + (_SCALES.size if scaled else 0)
    expected = offset + count * columns * (2 if scaled else 4)
    if len(payload) != expected:
        raise Reject("packed", f"{len(payload)} bytes, {count} samples take {expected}")
    with np.errstate(over="ignore", invalid="ignore"):
        rows = np.frombuffer(payload, "<i2" if scaled else "<f4", offset=offset).reshape(count, columns).astype(float)
        if scaled:
            acc_scale, gyro_scale = _SCALES.unpack_from(payload, HEADER.size)
            rows[:, :3] *= acc_scale
            rows[:, 3:] *= gyro_scale
    return Samples(
        None if t_ns == 0 else check_time(t_ns),
        check_rate(rate_hz),
        _scaled(rows[:, :3], units.acc, ACC_UNITS),
        _scaled(rows[:, 3:], units.gyro, GYRO_UNITS) if flags & FLAG_GYRO else None,
    )


def encode_json(t_ns: int, rate_hz: float, samples: Float32) -> bytes:
    """(n_samples, 6) in g and rad/s as canonical JSON, or (n_samples, 3) without gyroscope. Times are whole µs."""
    rows = np.round(samples.astype(np.float64), 6)
    message = {"t": round(t_ns / 1e9, 6), "rate_hz": rate_hz, "acc": rows[:, :3].tolist()}
    if rows.shape[1] > 3:
        message["gyro"] = rows[:, 3:].tolist()
    return msgspec.json.encode(message)


def encode_packed(t_ns: int, rate_hz: float, samples: Float32) -> bytes:
    """(n_samples, 6) in g and rad/s, or (n_samples, 3) without gyroscope, as float32: nothing is lost.

    At most MAX_PACKED_COUNT of them.
    """
    flags = FLAG_GYRO if samples.shape[1] > 3 else 0
    header = HEADER.pack(MAGIC, VERSION, flags, t_ns, rate_hz, len(samples), 0)
    return header + samples.astype("<f4").tobytes()
