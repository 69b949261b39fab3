"""Helpers of the tests of payloads."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from harstream.core.batches import Float32
from harstream.wire.decoder import Decoder, Message
from harstream.wire.fields import Fields
from harstream.wire.payloads import PayloadConfig, make_payload
from harstream.wire.reject import Rejected, RejectError
from harstream.wire.samples import Units
from harstream.wire.topics import TopicTemplate

T_NS = 1_763_668_800_020_000_000
ROWS = (np.arange(60).reshape(10, 6) % 7 / 10 - 0.3 + [0, 0, 1, 0, 0, 0]).astype(np.float32)


def f32(rows: Any) -> Float32:
    return np.array(rows, np.float32)


def encoded(message: Any) -> bytes:
    return message if isinstance(message, bytes) else json.dumps(message).encode()


def read_all(
    name: str, message: Any, fields: Any = None, units: Units | None = None, *, names_device: bool = True
) -> list[Any]:
    """Decode one message in a format; raise RejectError if it is rejected."""
    config = PayloadConfig(name, Fields.parse(fields or {}))
    (result,) = make_payload(config, units or Units(), names_device=names_device).decode([encoded(message)])
    if isinstance(result, Rejected):
        raise result.error()
    return list(result)


def read(*arguments: Any, **options: Any) -> Any:
    (samples,) = read_all(*arguments, **options)
    return samples


def check_rejected(reason: str, detail: str, *arguments: Any, **options: Any) -> None:
    """Assert that a message is rejected for a reason, in one line with what was found instead."""
    with pytest.raises(RejectError) as caught:
        read_all(*arguments, **options)
    assert caught.value.reason == reason
    assert detail in caught.value.detail
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 500


def decoder(name: str, fields: Any = None, *, topic: str = "imu", needs_gyro: bool = True, units: Units | None = None):
    template = TopicTemplate(topic, may_omit_device=True)
    return Decoder(template, needs_gyro, units, payload=PayloadConfig(name, Fields.parse(fields or {})))


def sent(*payloads: bytes, topic: str = "imu") -> list[Message]:
    return [Message(topic, payload, 1.7e9) for payload in payloads]
