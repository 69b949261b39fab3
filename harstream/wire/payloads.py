"""Decoder of a payload in any of the formats that devices may send."""

from __future__ import annotations

from harstream.wire.canonical import decode_json
from harstream.wire.packed import MAGIC, decode_packed
from harstream.wire.reject import RejectError
from harstream.wire.samples import Samples, Units


def decode(payload: bytes, units: Units) -> Samples:
    """Decode one payload; its first bytes tell the format.

    Args:
        payload: The payload of one message.
        units: The units of a message that names none.

    Raises:
        RejectError: The payload is malformed, with one of ``reject.REASONS``.

    """
    if not payload:
        raise RejectError("empty", "no payload")
    return decode_packed(payload, units) if payload[:2] == MAGIC else decode_json(payload, units)
