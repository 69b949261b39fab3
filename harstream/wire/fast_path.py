"""Fast path: readers of the most common payloads, canonical JSON and packed float32, for many messages at a time.

Python takes longer to handle one message than to convert its numbers. The fast path therefore does little for a single
message: it leaves its numbers in buffers, and ``Decoder`` turns the buffers of a whole batch into one array.
A message that the fast path does not recognise takes the general path, ``payloads.decode``, which reads it or rejects
it with a reason. Both paths read a message alike. The fast path accepts no message that the general path would reject,
with one exception: it does not check that numbers are finite and not too large. ``Decoder`` checks that in the array of
the whole batch.

**JSON.** A payload without the characters of numbers and without white space is its skeleton:

>>> payload = b'{"t": 1763668800.02, "rate_hz": 50, "acc": [[0.91, -0.11, 0.51], [0.9, -0.1, 0.5]]}'
>>> skeleton = payload.translate(None, _NUMBER_CHARACTERS)
>>> skeleton
b'{"t":,"rat_hz":,"acc":[[,,],[,,]]}'

All messages of a device have the same skeleton, so its structure is parsed once and then looked up. Names lose a
letter too (``rat_hz``, since ``e`` may be part of a number), which the structure restores:

>>> _parse_skeleton(skeleton)
_Structure(n_samples=2, scalars=('t', 'rate_hz'), has_gyro=False)

The skeleton proves that every sample has three elements. ``JsonReader`` can thus ask simdjson for all numbers of a
field as one buffer of float64, without a look at each list:

>>> message = JsonReader().read(payload)
>>> message.t_ns, message.rate_hz, message.n_samples, message.gyro
(1763668800020000000, 50.0, 2, None)
>>> np.frombuffer(message.acc, np.float64).reshape(-1, 3)
array([[ 0.91, -0.11,  0.51],
       [ 0.9 , -0.1 ,  0.5 ]])

The general path takes over, and ``read`` returns None, if

- a field has a meaning and is not one of t, t_ms, t_us, t_ns, rate_hz, acc and gyro (such as units, or ax to gz), or
  one of these occurs twice;
- there are other fields, which nobody asked for, and they could stand in for something that is missing (a time, a rate
  or a gyroscope under another name), look like units, or hold an object;
- acc is missing, a sample does not have three elements, or acc and gyro differ in length;
- a value is not a number, a name has the letters of a field's but is not the same (``te`` looks like ``t`` in a
  skeleton), or the time or the rate is not valid.

>>> _parse_skeleton(b'{"acc":[[,,]],"battry":}')
_Structure(n_samples=0, scalars=(), has_gyro=False)
>>> _parse_skeleton(b'{"t":,"rat_hz":,"acc":[[,,]],"gyro":[[,,]],"battry":,"placement":"wrist","mag":[[,,]]}')
_Structure(n_samples=1, scalars=('t', 'rate_hz'), has_gyro=True)

**Packed.** The headers of all messages are read as one array of records, and all samples as one array of float32:

>>> header = np.array([(b"HS", 1, 1, 1763668800020000000, 50, 2, 0)], _HEADER_RECORD).tobytes()
>>> packed = header + np.arange(12, dtype="<f4").tobytes()
>>> packed.startswith(PACKED_PREFIX)
True
>>> messages = read_packed([packed, packed[:-1]])
>>> messages.counts, messages.samples
(array([2, 0]), array([[ 0.,  1.,  2.,  3.,  4.,  5.],
       [ 6.,  7.,  8.,  9., 10., 11.]], dtype=float32))

The second message is too short, so its count is 0 and the general path takes over. The same happens if the time or the
rate is not valid. Payloads with another prefix (no gyroscope, int16, another version) never come to ``read_packed``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import simdjson

from harstream.core.batches import Float32, Float64, Int64
from harstream.wire.other_names import CANONICAL_NAMES
from harstream.wire.packed import FLAG_GYRO, HEADER, MAGIC, VERSION
from harstream.wire.samples import check_rate
from harstream.wire.times import YEAR_2200_NS, event_time

#: Characters of JSON numbers, and white space.
_NUMBER_CHARACTERS = b"0123456789+-.eE \t\r\n"
#: A member of an object in a skeleton: its name, and what remains of its value: nothing of a number, brackets and
#: commas of a list of numbers, the rest of a word or of a string without escapes.
_MEMBER = re.compile(rb'"([A-Za-z_]*)":(\[[\[\],]*\]|tru|fals|null|"[^"\\]*")?')
#: Name in a skeleton to name of the field.
_SCALAR_FIELDS = {b"t": "t", b"t_ms": "t_ms", b"t_us": "t_us", b"t_ns": "t_ns", b"rat_hz": "rate_hz"}
_LIST_FIELDS = {b"acc", b"gyro"}
#: A fleet has a few skeletons; only malformed payloads bring many. Beyond this number, or with more bytes together, all
#: are forgotten. A skeleton takes about ten bytes a sample, and one that takes more than _MAX_LENGTH is not remembered.
_MAX_SKELETONS, _MAX_BYTES, _MAX_LENGTH = 1024, 2 * 2**20, 64 * 1024
#: Fields with a meaning, as they are in a skeleton.
_RESERVED = {name.encode().translate(None, _NUMBER_CHARACTERS) for name in CANONICAL_NAMES}
#: Depth of a list that nobody asked for, and its length in a skeleton, up to which it is left aside: the general path
#: rejects lists that are much too deep.
_MAX_DEPTH, _MAX_LIST = 8, 4096
#: Quotation marks in a skeleton with every field that there is, and some that nobody asked for.
_MAX_QUOTES = 2 * (len(_SCALAR_FIELDS) + len(_LIST_FIELDS)) + 64


class JsonMessage(NamedTuple):
    """The content of one JSON message. Its numbers are not yet converted to g and rad/s, nor checked to be finite."""

    t_ns: int | None  # event time of the first sample; None: the message has no time
    rate_hz: float  # 0: the message has no rate
    n_samples: int
    acc: Any  # buffer of float64, (n_samples, 3)
    gyro: Any  # buffer of float64, (n_samples, 3); None: the message has no gyroscope


class PackedMessages(NamedTuple):
    """The content of packed messages. Their numbers are not yet converted to g and rad/s, nor checked to be finite."""

    t_ns: Int64  # (n_messages,) event time of the first sample; 0: the message has no time
    rate_hz: Float64  # (n_messages,) 0: the message has no rate
    counts: Int64  # (n_messages,) samples in the message; 0: left to the general path, and not in ``samples``
    samples: Float32  # (n_samples, 6) of all messages, in their order


class _Structure(NamedTuple):
    """The structure that all JSON messages with one skeleton share."""

    n_samples: int  # 0: left to the general path
    scalars: tuple[str, ...] = ()  # names of the fields that hold a single number
    has_gyro: bool = False


_GENERAL_PATH = _Structure(n_samples=0)


class JsonReader:
    """Reader of canonical JSON. It reuses one parser, so it belongs to one thread."""

    def __init__(self) -> None:
        self._parser = simdjson.Parser()
        self._structures: dict[bytes, _Structure] = {}  # by skeleton
        self._n_bytes = 0  # of the skeletons

    def read(self, payload: bytes) -> JsonMessage | None:
        """Return the content of a payload, or None if the general path must read it."""
        skeleton = payload.translate(None, _NUMBER_CHARACTERS)
        structure = self._structures.get(skeleton)
        if structure is None:
            structure = self._learn(skeleton)
        if not structure.n_samples:
            return None
        try:
            data: Any = self._parser.parse(payload)
            scalars = [(name, data[name]) for name in structure.scalars]
            acc = data["acc"].as_buffer(of_type="d")
            gyro = data["gyro"].as_buffer(of_type="d") if structure.has_gyro else None
            rate_hz, times = None, dict[str, Any]()
            for name, value in scalars:
                if name == "rate_hz":
                    rate_hz = float(value)
                else:
                    times[name] = value
            return JsonMessage(event_time(**times), check_rate(rate_hz), structure.n_samples, acc, gyro)
        except Exception:  # of simdjson, or a RejectError: the general path finds the reason
            self._parser = simdjson.Parser()  # a parser keeps its last document, which may now be a broken one
            return None

    def _learn(self, skeleton: bytes) -> _Structure:
        structure = _parse_skeleton(skeleton)
        if len(skeleton) > _MAX_LENGTH:
            return structure
        self._n_bytes += len(skeleton)
        if len(self._structures) >= _MAX_SKELETONS or self._n_bytes > _MAX_BYTES:
            self._structures.clear()
            self._n_bytes = len(skeleton)
        self._structures[skeleton] = structure
        return structure


def _parse_skeleton(skeleton: bytes) -> _Structure:
    """Return the structure of the messages with this skeleton."""
    if skeleton.count(b'"') > _MAX_QUOTES:  # many names would take long
        return _GENERAL_PATH
    members = _MEMBER.findall(skeleton)  # (name, brackets and commas) of each
    rebuilt = b"{" + b",".join(b'"%b":%b' % member for member in members) + b"}"
    if rebuilt != skeleton:  # something else in between
        return _GENERAL_PATH
    known = [(name, value) for name, value in members if name in _RESERVED]
    if len(dict(known)) != len(known):  # a name twice
        return _GENERAL_PATH
    if len(known) < len(members) and not _are_all_told(members):
        return _GENERAL_PATH
    counts = {}
    for name, brackets in known:
        if name in _LIST_FIELDS:
            counts[name] = (len(brackets) - 1) // len("[,,],")
            if not counts[name] or brackets != b"[" + b",".join([b"[,,]"] * counts[name]) + b"]":
                return _GENERAL_PATH
        elif name not in _SCALAR_FIELDS or brackets:
            return _GENERAL_PATH
    if b"acc" not in counts or len(set(counts.values())) > 1:
        return _GENERAL_PATH
    scalars = tuple(_SCALAR_FIELDS[name] for name, _ in known if name in _SCALAR_FIELDS)
    return _Structure(counts[b"acc"], scalars, b"gyro" in counts)


def _are_all_told(members: Sequence[tuple[bytes, bytes]]) -> bool:
    """Return whether the known fields tell everything, so that the general path would only ignore the others.

    It notes those that look like units, whatever else there is.
    """
    names = {name for name, _ in members}
    has_time = any(field != "rate_hz" and name in names for name, field in _SCALAR_FIELDS.items())
    looks_like_units = any(b"unit" in name.lower() for name in names)
    are_shallow = all(_is_shallow(value) for name, value in members if name not in _LIST_FIELDS)
    return has_time and {b"rat_hz", b"gyro"} <= names and not looks_like_units and are_shallow


def _is_shallow(brackets: bytes) -> bool:
    depth = 0
    for byte in brackets if len(brackets) <= _MAX_LIST else b"[" * (_MAX_DEPTH + 1):
        depth += (byte == ord("[")) - (byte == ord("]"))
        if depth > _MAX_DEPTH:
            return False
    return True


#: ``packed.HEADER`` as a NumPy record.
_HEADER_RECORD = np.dtype(
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
#: First bytes of the payloads for ``read_packed``: float32 with a gyroscope.
PACKED_PREFIX = MAGIC + bytes([VERSION, FLAG_GYRO])


def read_packed(payloads: Sequence[bytes]) -> PackedMessages:
    """Return the content of payloads that begin with PACKED_PREFIX and are not shorter than a header."""
    headers = np.frombuffer(b"".join([payload[: HEADER.size] for payload in payloads]), _HEADER_RECORD)
    sizes = np.fromiter(map(len, payloads), np.int64, len(payloads))
    t_ns, rate_hz = headers["t_ns"], headers["rate_hz"].astype(np.float64)
    counts = headers["count"].astype(np.int64)
    valid = (sizes == HEADER.size + 24 * counts) & (t_ns >= 0) & (t_ns <= YEAR_2200_NS)
    valid &= np.isfinite(rate_hz) & (rate_hz >= 0)
    if not valid.all():
        counts = np.where(valid, counts, 0)
        payloads = [payload for payload, is_valid in zip(payloads, valid.tolist(), strict=True) if is_valid]
    samples = np.frombuffer(b"".join([payload[HEADER.size :] for payload in payloads]), "<f4").reshape(-1, 6)
    return PackedMessages(t_ns, rate_hz, counts, samples)
