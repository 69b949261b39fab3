"""Server-sent events as bytes (HTML Living Standard, section 9.2)."""

from __future__ import annotations

import json
from typing import Any

import msgspec

#: Begins a stream: a browser that loses it connects again after so many milliseconds.
RETRY = b"retry: 1000\n\n"

_encoder = msgspec.json.Encoder()


def event(name: str, content: Any) -> bytes:
    """Return an event with JSON as its data."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), encode(content))


def encode(content: Any) -> bytes:
    """Return JSON on one line."""
    try:
        return _encoder.encode(content)
    except UnicodeEncodeError:  # a name with half a surrogate pair, which a payload may hold
        return json.dumps(content).encode()
