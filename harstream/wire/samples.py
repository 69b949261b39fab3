"""A take of messages into one SampleBatch, malformed ones set aside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harstream.core.batches import Float32, Int64, SampleBatch
from harstream.wire import payloads
from harstream.wire.ordinary import Read, Reader
from harstream.wire.payloads import ACC_UNITS, GYRO_UNITS, MAX_MAGNITUDE, Samples, Units
from harstream.wire.reject import Reject, Rejection
from harstream.wire.topics import TopicTemplate


class Message(NamedTuple):
    """What the network thread enqueues."""

    topic: str
    payload: bytes
    arrival_s: float  # seconds since the epoch
    retained: bool = False


class Decoder:
    """How samples arrive here: topic, units, limits, and whether the model needs a gyroscope.

    Not for several threads at once.
    """

    def __init__(
        self,
        template: TopicTemplate,
        needs_gyro: bool = True,
        units: Units | None = None,
        max_payload_bytes: int = 256 * 1024,
    ) -> None:
        self.template = template
        self.needs_gyro = needs_gyro
        self.units = units or Units()
        self.max_payload_bytes = max_payload_bytes
        self._reader = Reader()

    def decode(self, messages: Sequence[Message]) -> tuple[SampleBatch, list[Rejection]]:
        """Every well-formed message in one batch, every other as a Rejection. Never raises."""
        devices: list[str] = []
        kept: list[Message] = []
        contents: list[Read | Samples] = []
        rejections: list[Rejection] = []
        read = self._reader.read
        for message in messages:
            try:
                device = self._device(message)
                content = read(message.payload)
                if content is None or (self.needs_gyro and not content.has_gyro):
                    contents.append(self._read(message.payload))
                else:
                    contents.append(content)
            except Reject as reject:
                rejections.append(Rejection(message.topic, reject.reason, reject.detail))
                continue
            devices.append(device)
            kept.append(message)
        batch = SampleBatch(
            devices=devices,
            t_ns=np.array([content.t_ns or 0 for content in contents], np.int64),
            stamped=np.array([content.t_ns is not None for content in contents], np.bool_),
            rate_hz=np.array([content.rate_hz for content in contents], np.float64),
            counts=np.array([content.n_samples for content in contents], np.int64),
            arrival_s=np.array([message.arrival_s for message in kept], np.float64),
            samples=_rows(contents, self.units),
        )
        return self._without_unusable(batch, kept, rejections)

    def _device(self, message: Message) -> str:
        if message.retained:
            raise Reject("retained", "a retained message")
        device = self.template.device(message.topic)
        if device is None:
            raise Reject("device", "the topic names no acceptable device")
        if len(message.payload) > self.max_payload_bytes:
            raise Reject("too_large", f"more than {self.max_payload_bytes} bytes")
        return device

    def _read(self, payload: bytes) -> Samples:
        samples = payloads.decode(payload, self.units)
        if samples.gyro is None and self.needs_gyro:
            raise Reject("gyroscope", "no gyroscope, and the model needs one")
        return samples

    def _without_unusable(
        self, batch: SampleBatch, messages: Sequence[Message], rejections: list[Rejection]
    ) -> tuple[SampleBatch, list[Rejection]]:
        """Without messages that hold a number too large or not finite, which only now have been looked at."""
        usable = np.abs(batch.samples).max(axis=1, initial=0.0) <= MAX_MAGNITUDE  # of NaN it is not
        if usable.all():
            return batch, rejections
        keep = np.logical_and.reduceat(usable, np.cumsum(batch.counts) - batch.counts)
        for index in np.flatnonzero(~keep).tolist():
            try:
                self._read(messages[index].payload)
            except Reject as reject:
                rejections.append(Rejection(messages[index].topic, reject.reason, reject.detail))
        return batch.only(keep), rejections


def _rows(contents: Sequence[Read | Samples], units: Units) -> Float32:
    """All samples, (n_samples, 6) in g and rad/s, those of each way of writing them converted at once."""
    counts = np.array([content.n_samples for content in contents], np.int64)
    out = np.zeros((int(counts.sum()), 6), np.float32)
    first = np.cumsum(counts) - counts
    acc_factor, gyro_factor = ACC_UNITS[units.acc], GYRO_UNITS[units.gyro]
    triples: list[tuple[int, Read]] = []
    packed: list[tuple[int, bytes]] = []
    for index, content in enumerate(contents):
        if isinstance(content, Samples):
            at = slice(first[index], first[index] + counts[index])
            out[at, :3] = content.acc
            if content.gyro is not None:
                out[at, 3:] = content.gyro
        elif content.rows is None:
            triples.append((index, content))
        else:
            packed.append((index, content.rows))
    with np.errstate(over="ignore", invalid="ignore"):
        if triples:
            where = _at([index for index, _ in triples], first, counts)
            acc = np.frombuffer(b"".join([content.acc for _, content in triples]), np.float64)
            out[where, :3] = acc.reshape(-1, 3) * acc_factor
            gyro = np.frombuffer(b"".join([content.gyro for _, content in triples]), np.float64)
            out[where, 3:] = gyro.reshape(-1, 3) * gyro_factor
        if packed:
            rows = np.frombuffer(b"".join([rows for _, rows in packed]), "<f4").reshape(-1, 6)
            factors = np.repeat([acc_factor, gyro_factor], 3)
            where = _at([index for index, _ in packed], first, counts)
            out[where] = rows if (factors == 1).all() else rows * factors
    return out


def _at(messages: list[int], first: Int64, counts: Int64) -> slice | Int64:
    """Where the samples of these messages stand among all."""
    if len(messages) == len(counts):
        return slice(None)
    n = counts[messages]
    return np.repeat(first[messages] - (np.cumsum(n) - n), n) + np.arange(n.sum())
