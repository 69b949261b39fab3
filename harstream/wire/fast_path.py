"""The payloads nearly everybody sends, many at a time: canonical JSON, and packed float32.

Of one message, Python costs more than its numbers do: so a take's numbers are gathered as bytes and become arrays at
the end, all at once. Whatever is out of the ordinary is left to ``payloads``, which reads it, or says what is wrong
with it. Nothing is accepted here that it would reject, nor read otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import simdjson

from harstream.core.batches import Float32, Float64, Int64
from harstream.wire import payloads
from harstream.wire.payloads import FLAG_GYRO, HEADER, MAGIC, VERSION
from harstream.wire.reject import Reject

#: What numbers are made of, and the space between tokens. JSON without them is its structure.
_OF_NUMBERS = b"0123456789+-.eE \t\r\n"
_MEMBER = re.compile(rb'"([a-z_]+)":(\[[\[\],]*\])?')
#: By their names less the characters of numbers.
_SCALARS = {b"t": "t", b"t_ms": "t_ms", b"t_us": "t_us", b"t_ns": "t_ns", b"rat_hz": "rate_hz"}
_TRIPLES = {b"acc", b"gyro"}
#: A fleet has few structures, but for who sends nonsense. Beyond so many, all are learned anew.
_MAX_STRUCTURES = 1024


class Read(NamedTuple):
    """One JSON message, its numbers as they came: not yet scaled by a unit, nor checked to be finite."""

    t_ns: int | None
    rate_hz: float
    n_samples: int
    acc: Any  # buffer of float64 (n_samples, 3)
    gyro: Any  # the same; None without a gyroscope


class Packed(NamedTuple):
    """Packed messages, their numbers as they came."""

    t_ns: Int64  # (n_messages,); 0: none was sent
    rate_hz: Float64  # (n_messages,)
    counts: Int64  # (n_messages,); 0: out of the ordinary, and not in ``rows``
    rows: Float32  # (n_samples, 6)


class _Structure(NamedTuple):
    n_samples: int  # 0: out of the ordinary
    scalars: tuple[str, ...] = ()
    gyro: bool = False


class Reader:
    """Not for several threads at once: its parser is used again and again."""

    def __init__(self) -> None:
        self._parser = simdjson.Parser()
        self._structures: dict[bytes, _Structure] = {}

    def read(self, payload: bytes) -> Read | None:
        """A JSON payload of the ordinary kinds; None for any other, well-formed or not."""
        skeleton = payload.translate(None, _OF_NUMBERS)
        structure = self._structures.get(skeleton)
        if structure is None:
            structure = self._learn(skeleton)
        if not structure.n_samples:
            return None
        try:
            data: Any = self._parser.parse(payload)
            scalars = [(name, data[name]) for name in structure.scalars]
            acc = data["acc"].as_buffer(of_type="d")
            gyro = data["gyro"].as_buffer(of_type="d") if structure.gyro else None
            rate_hz, times = None, dict[str, Any]()
            for name, value in scalars:
                if name == "rate_hz":
                    rate_hz = float(value)
                elif name == "t" or isinstance(value, int):
                    times[name] = value
                else:
                    return None
            return Read(payloads.event_time(**times), payloads.check_rate(rate_hz), structure.n_samples, acc, gyro)
        except (ValueError, KeyError, TypeError, RuntimeError, Reject):
            self._parser = simdjson.Parser()  # it has one document at a time, and may be left with a broken one
            return None

    def _learn(self, skeleton: bytes) -> _Structure:
        if len(self._structures) >= _MAX_STRUCTURES:
            self._structures.clear()
        structure = self._structures[skeleton] = _structure_of(skeleton)
        return structure


def _structure_of(skeleton: bytes) -> _Structure:
    """What JSON whose numbers were taken out is, if it is ordinary: every member once, every sample a triple."""
    found = _MEMBER.findall(skeleton)
    members = dict(found)
    if b"{" + b",".join(b'"%b":%b' % member for member in found) + b"}" != skeleton or len(members) != len(found):
        return _Structure(0)
    counts = {}
    for name, value in found:
        if name in _TRIPLES:
            counts[name] = (len(value) - 1) // 5  # of "[[,,],[,,]]"
            if not counts[name] or value != b"[" + b",".join([b"[,,]"] * counts[name]) + b"]":
                return _Structure(0)
        elif name not in _SCALARS or value:
            return _Structure(0)
    if b"acc" not in counts or len(set(counts.values())) > 1:
        return _Structure(0)
    scalars = tuple(_SCALARS[name] for name, _ in found if name in _SCALARS)
    return _Structure(counts[b"acc"], scalars, b"gyro" in counts)


_HEADER = np.dtype(
    [
        ("magic", "S2"),
        ("version", "u1"),
        ("flags", "u1"),
        ("t_ns", "<i8"),
        ("rate_hz", "<f4"),
        ("count", "<u2"),
        ("reserved", "<u2"),
    ]
)
#: How a payload begins that ``read_packed`` may be given, if it is as long as a header: float32 with a gyroscope.
PACKED = MAGIC + bytes([VERSION, FLAG_GYRO])


def read_packed(payloads_: Sequence[bytes]) -> Packed:
    """All at once. Of the wrong length or with a number in the header that is none: out of the ordinary."""
    heads = np.frombuffer(b"".join([payload[: HEADER.size] for payload in payloads_]), _HEADER)
    sizes = np.fromiter(map(len, payloads_), np.int64, len(payloads_))
    t_ns, rate_hz, counts = heads["t_ns"], heads["rate_hz"].astype(np.float64), heads["count"].astype(np.int64)
    good = (sizes == HEADER.size + 24 * counts) & (t_ns >= 0) & (t_ns <= payloads.YEAR_2200_NS)
    good &= np.isfinite(rate_hz) & (rate_hz >= 0)
    if not good.all():
        counts = np.where(good, counts, 0)
        payloads_ = [payload for payload, kept in zip(payloads_, good.tolist(), strict=True) if kept]
    rows = np.frombuffer(b"".join([payload[HEADER.size :] for payload in payloads_]), "<f4").reshape(-1, 6)
    return Packed(t_ns, rate_hz, counts, rows)
