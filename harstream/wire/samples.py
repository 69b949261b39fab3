"""A take of messages into one SampleBatch, malformed ones set aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harstream.core.batches import SampleBatch
from harstream.wire import payloads
from harstream.wire.payloads import Samples, Units
from harstream.wire.reject import Reject, Rejection
from harstream.wire.topics import TopicTemplate


@dataclass(frozen=True, slots=True)
class Message:
    """What the network thread enqueues."""

    topic: str
    payload: bytes
    arrival_s: float  # seconds since the epoch
    retained: bool = False


@dataclass(frozen=True, slots=True)
class Decoder:
    """How samples arrive here: topic, units, limits, and whether the model needs a gyroscope."""

    template: TopicTemplate
    needs_gyro: bool = True
    units: Units = Units()
    max_payload_bytes: int = 256 * 1024

    def decode(self, messages: Sequence[Message]) -> tuple[SampleBatch, list[Rejection]]:
        """Every well-formed message in one batch, every other as a Rejection. Never raises."""
        devices: list[str] = []
        taken: list[Samples] = []
        arrival_s: list[float] = []
        rejections: list[Rejection] = []
        for message in messages:
            try:
                device, samples = self._decode(message)
            except Reject as reject:
                rejections.append(Rejection(message.topic, reject.reason, reject.detail))
                continue
            devices.append(device)
            taken.append(samples)
            arrival_s.append(message.arrival_s)
        return _batch(devices, taken, arrival_s), rejections

    def _decode(self, message: Message) -> tuple[str, Samples]:
        if message.retained:
            raise Reject("retained", "a retained message")
        device = self.template.device(message.topic)
        if device is None:
            raise Reject("device", "the topic names no acceptable device")
        if len(message.payload) > self.max_payload_bytes:
            raise Reject("too_large", f"more than {self.max_payload_bytes} bytes")
        samples = payloads.decode(message.payload, self.units)
        if samples.gyro is None and self.needs_gyro:
            raise Reject("gyroscope", "no gyroscope, and the model needs one")
        return device, samples


def _batch(devices: list[str], taken: list[Samples], arrival_s: list[float]) -> SampleBatch:
    counts = np.array([len(samples.acc) for samples in taken], np.int64)
    array = np.zeros((int(counts.sum()), 6), np.float32)
    if taken:
        array[:, :3] = np.concatenate([samples.acc for samples in taken])
        array[:, 3:] = np.concatenate(
            [np.zeros_like(samples.acc) if samples.gyro is None else samples.gyro for samples in taken]
        )
    return SampleBatch(
        devices=devices,
        t_ns=np.array([samples.t_ns or 0 for samples in taken], np.int64),
        stamped=np.array([samples.t_ns is not None for samples in taken], np.bool_),
        rate_hz=np.array([samples.rate_hz for samples in taken], np.float64),
        counts=counts,
        arrival_s=np.array(arrival_s, np.float64),
        samples=array,
    )
