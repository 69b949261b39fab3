"""A take of messages into one SampleBatch, malformed ones set aside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harstream.core.batches import Float32, Int64, SampleBatch
from harstream.wire import payloads
from harstream.wire.fast_path import PACKED, Reader, read_packed
from harstream.wire.payloads import ACC_UNITS, GYRO_UNITS, HEADER, MAX_MAGNITUDE, Samples, Units
from harstream.wire.reject import Reject, Rejection
from harstream.wire.topics import TopicTemplate

#: Topics whose devices are remembered.
_MOST_KNOWN = 200_000


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
        self._known: dict[str, str] = {}  # topic to the device it names

    def decode(self, messages: Sequence[Message]) -> tuple[SampleBatch, list[Rejection]]:
        """Every well-formed message in one batch, every other as a Rejection. Never raises."""
        kept, devices, rejections = self._accepted(messages)
        found = _Found(len(kept))
        left = np.arange(len(kept))
        payloads_ = [message[1] for message in kept]
        packed = [payload.startswith(PACKED) and len(payload) >= HEADER.size for payload in payloads_]
        if any(packed):
            left = self._packed(payloads_, np.flatnonzero(packed), found)
        if len(left):
            left = self._json(payloads_, left, found)
        for index in left.tolist():
            try:
                found.add(index, self._read(payloads_[index]))
            except Reject as reject:
                rejections.append(Rejection(kept[index][0], reject.reason, reject.detail))
        batch = SampleBatch(
            devices=devices,
            t_ns=found.t_ns,
            stamped=found.stamped,
            rate_hz=found.rate_hz,
            counts=found.counts,
            arrival_s=np.array([message[2] for message in kept], np.float64),
            samples=found.samples(),
        )
        return self._without_unusable(batch, kept, rejections)

    def _accepted(self, messages: Sequence[Message]) -> tuple[Sequence[Message], list[str], list[Rejection]]:
        """The messages to be read, by what is known without reading them; their devices; the others."""
        rejections: list[Rejection] = []
        known, most = self._known, self.max_payload_bytes
        devices = [known.get(message[0]) for message in messages]
        doubtful = [message for message in messages if message[3] or len(message[1]) > most]
        if None not in devices and not doubtful:
            return messages, devices, rejections  # type: ignore[return-value]
        if len(known) > _MOST_KNOWN:
            known.clear()
        kept, names = [], []
        for message in messages:
            try:
                names.append(self._device(message))
            except Reject as reject:
                rejections.append(Rejection(message.topic, reject.reason, reject.detail))
                continue
            known[message.topic] = names[-1]
            kept.append(message)
        return kept, names, rejections

    def _packed(self, payloads_: Sequence[bytes], at: Int64, found: _Found) -> Int64:
        """Read the messages ``at`` at once; which of all are left."""
        read = read_packed([payloads_[index] for index in at.tolist()])
        good = read.counts > 0
        some = at[good]
        found.t_ns[some], found.counts[some] = read.t_ns[good], read.counts[good]
        found.rate_hz[some] = read.rate_hz[good]
        found.stamped[some] = found.t_ns[some] != 0
        factors = np.repeat([ACC_UNITS[self.units.acc], GYRO_UNITS[self.units.gyro]], 3)
        with np.errstate(over="ignore", invalid="ignore"):
            rows = read.rows if (factors == 1).all() else (read.rows * factors).astype(np.float32)
        found.pieces.append((some, rows))
        return np.flatnonzero(found.counts == 0)

    def _json(self, payloads_: Sequence[bytes], at: Int64, found: _Found) -> Int64:
        """Read those of the messages ``at`` that are ordinary JSON, their numbers at once; which are left."""
        some, times, stamped, rates, counts, accs, gyros = [], [], [], [], [], [], []
        read = self._reader.read
        for index in at.tolist():
            content = read(payloads_[index])
            if content is None or (content.gyro is None and self.needs_gyro):
                continue
            t_ns, rate_hz, n_samples, acc, gyro = content
            some.append(index)
            times.append(t_ns or 0)
            stamped.append(t_ns is not None)
            rates.append(rate_hz)
            counts.append(n_samples)
            accs.append(acc)
            gyros.append(bytes(24 * n_samples) if gyro is None else gyro)
        where = np.array(some, np.int64)
        found.t_ns[where], found.stamped[where], found.rate_hz[where] = times, stamped, rates
        found.counts[where] = counts
        rows = np.empty((sum(counts), 6), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for columns, triples, factor in (
                (slice(0, 3), accs, ACC_UNITS[self.units.acc]),
                (slice(3, 6), gyros, GYRO_UNITS[self.units.gyro]),
            ):
                rows[:, columns] = np.frombuffer(b"".join(triples), np.float64).reshape(-1, 3) * factor
        found.pieces.append((where, rows))
        return at[:0] if len(where) == len(at) else np.setdiff1d(at, where, assume_unique=True)

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
        """Without messages that hold no sample, or a number too large or not finite: only now all are looked at."""
        usable = np.abs(batch.samples).max(axis=1, initial=0.0) <= MAX_MAGNITUDE  # of NaN it is not
        if batch.counts.all() and usable.all():
            return batch, rejections
        keep = batch.counts > 0
        some = np.flatnonzero(keep)
        counts = batch.counts[some]
        keep[some] = np.logical_and.reduceat(usable, np.cumsum(counts) - counts) if len(some) else False
        for index in some[~keep[some]].tolist():
            try:
                self._read(messages[index][1])
            except Reject as reject:
                rejections.append(Rejection(messages[index][0], reject.reason, reject.detail))
        return batch.select(keep), rejections


class _Found:
    """What has been read of a take of messages, each way of reading filling in its own."""

    def __init__(self, n_messages: int) -> None:
        self.t_ns = np.zeros(n_messages, np.int64)
        self.stamped = np.zeros(n_messages, np.bool_)
        self.rate_hz = np.zeros(n_messages)
        self.counts = np.zeros(n_messages, np.int64)  # 0: not read, or rejected
        self.pieces: list[tuple[Int64, Float32]] = []  # messages, and their samples one after another

    def add(self, index: int, content: Samples) -> None:
        self.t_ns[index], self.stamped[index] = content.t_ns or 0, content.t_ns is not None
        self.rate_hz[index], self.counts[index] = content.rate_hz, content.n_samples
        rows = np.zeros((content.n_samples, 6), np.float32)
        rows[:, :3] = content.acc
        if content.gyro is not None:
            rows[:, 3:] = content.gyro
        self.pieces.append((np.array([index]), rows))

    def samples(self) -> Float32:
        """All samples, (n_samples, 6) in g and rad/s, in the order of the messages."""
        if len(self.pieces) == 1:
            return self.pieces[0][1]
        out = np.zeros((int(self.counts.sum()), 6), np.float32)
        first = np.cumsum(self.counts) - self.counts
        for messages, rows in self.pieces:
            n = self.counts[messages]
            out[np.repeat(first[messages] - (np.cumsum(n) - n), n) + np.arange(n.sum())] = rows
        return out
