"""The payloads nearly everybody sends, many at a time: canonical JSON, and packed float32.

Of one message, Python costs more than its numbers do: so a take's numbers are gathered as bytes and become arrays at
the end, all at once. Whatever is out of the ordinary is left to ``payloads``, which reads it, or says what is wrong
with it. Nothing is accepted here that it would reject, nor read otherwise.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import simdjson

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
    """One message, its numbers as they came: not yet scaled by a unit, nor checked to be finite."""

    t_ns: int | None
    rate_hz: float
    n_samples: int
    acc: Any  # buffer of float64 (n_samples, 3)
    gyro: Any  # the same; zeros without a gyroscope
    rows: bytes | None = None  # instead of both: float32 (n_samples, 6)
    has_gyro: bool = True


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
        """A payload of the ordinary kinds; None for any other, well-formed or not."""
        return self._packed(payload) if payload[:2] == MAGIC else self._json(payload)

    def _packed(self, payload: bytes) -> Read | None:
        if len(payload) < HEADER.size:
            return None
        _, version, flags, t_ns, rate_hz, count, _ = HEADER.unpack_from(payload)
        if version != VERSION or flags != FLAG_GYRO or not count or len(payload) != HEADER.size + 24 * count:
            return None
        try:
            return Read(
                payloads.check_time(t_ns) if t_ns else None,
                payloads.check_rate(rate_hz),
                count,
                None,
                None,
                payload[HEADER.size :],
            )
        except Reject:
            return None

    def _json(self, payload: bytes) -> Read | None:
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
            gyro = data["gyro"].as_buffer(of_type="d") if structure.gyro else bytes(24 * structure.n_samples)
            rate_hz, times = None, dict[str, Any]()
            for name, value in scalars:
                if name == "rate_hz":
                    rate_hz = float(value)
                elif name == "t" or isinstance(value, int):
                    times[name] = value
                else:
                    return None
            return Read(
                payloads.event_time(**times),
                payloads.check_rate(rate_hz),
                structure.n_samples,
                acc,
                gyro,
                has_gyro=structure.gyro,
            )
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
