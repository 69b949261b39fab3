"""Decoder: a batch of MQTT messages to one SampleBatch, and a Rejection for each message that is malformed."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Bool, Float32, Float64, Int64, SampleBatch
from harstream.wire.fast_path import PACKED_PREFIX, JsonReader, read_packed
from harstream.wire.other_names import IgnoredFieldNotes
from harstream.wire.packed import HEADER
from harstream.wire.payloads import decode as decode_payload
from harstream.wire.reject import RejectError, Rejection
from harstream.wire.samples import AUTO, MAX_MAGNITUDE, Samples, Units, acc_factor, gyro_factor, may_be_milli_g
from harstream.wire.topics import TopicTemplate

#: Characters of an error that a bug has raised.
_MAX_DETAIL = 200
#: Bytes of the topics whose device is remembered, enough for 200,000 of usual length; beyond these all are forgotten.
_MAX_TOPIC_BYTES = 64 * 2**20
#: Bytes of an entry beside its topic and device.
_ENTRY_BYTES = 100
#: Topics that are remembered although their devices may be gone.
_MAX_IDLE_TOPICS = 1000


class Message(NamedTuple):
    """An MQTT message with its time of arrival."""

    topic: str
    payload: bytes
    arrival_s: float  # seconds since 1970
    retained: bool = False
    received_s: float = 0.0  # time of arrival by time.monotonic(), to measure how long a message waits
    delivery: int = 0  # by which the message is acknowledged, see ``mqtt.deliveries``; 0: it is not, or at once


class Decoder:
    """Decoder of messages with samples, in every payload format. It keeps state, so it belongs to one thread.

    Args:
        template: Topics of the samples.
        needs_gyro: Whether to reject messages without a gyroscope.
        units: Units of messages that do not name their own.
        max_payload_bytes: Largest payload to accept.

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
        self._acc_factor, self._gyro_factor = acc_factor(self.units.acc), gyro_factor(self.units.gyro)
        self.max_payload_bytes = max_payload_bytes
        self._json_reader = JsonReader()
        self._device_by_topic: dict[str, str] = {}
        self._topic_bytes = 0
        #: Partition of each device of which messages came, if the topics name one. More may be added.
        self.partition_by_device: dict[str, int] = {}
        self._notes = IgnoredFieldNotes()

    def decode(self, messages: Sequence[Message]) -> tuple[SampleBatch, list[Rejection]]:
        """Return the samples of all well-formed messages, in their order, and a Rejection for each other message.

        No message from a device can make this raise an error: one for which the decoder fails is rejected as
        ``internal``, and no other is lost.
        """
        try:
            return self._decode(messages)
        except Exception:  # a bug; which message shows it is found below
            return self._decode_apart(messages)

    def _decode_apart(self, messages: Sequence[Message]) -> tuple[SampleBatch, list[Rejection]]:
        """Decode messages one by one, after decoding all together has failed."""
        self._json_reader = JsonReader()
        batch, rejections = self._decode([])
        batches = [batch]
        for message in messages:
            try:
                batch, rejected = self._decode([message])
            except Exception as error:
                rejections.append(self._internal(message, error))
            else:
                batches.append(batch)
                rejections += rejected
        return SampleBatch.concatenate(batches), rejections

    def _decode(self, messages: Sequence[Message]) -> tuple[SampleBatch, list[Rejection]]:
        accepted, devices, rejections = self._filter(messages)
        payloads = [message.payload for message in accepted]
        builder = _BatchBuilder(len(accepted), self.units.acc == AUTO)
        self._read_packed(payloads, builder)
        self._read_json(payloads, builder)
        for index in builder.remaining().tolist():  # the general path
            try:
                samples = self._decode_one(payloads[index])
                builder.add_samples(index, samples)
                self._notes.add(devices[index], samples.ignored)
            except RejectError as error:
                rejections.append(Rejection(accepted[index].topic, error.reason, error.detail, devices[index]))
        batch = SampleBatch(
            devices=devices,
            t_ns=builder.t_ns,
            stamped=builder.stamped,
            rate_hz=builder.rate_hz,
            counts=builder.counts,
            arrival_s=np.array([message.arrival_s for message in accepted], np.float64),
            acc_unit_auto=builder.acc_auto,
            samples=builder.samples(),
        )
        return self._drop_unusable(batch, accepted, rejections)

    def forget_idle_topics(self, n_devices: int, present: Callable[[], Iterable[str]]) -> None:
        """Forget all topics if there are many more of them than devices with state.

        Args:
            n_devices: Number of devices with state.
            present: Returns these devices, whose partitions are not forgotten.

        """
        if max(len(self._device_by_topic), len(self.partition_by_device)) > 2 * n_devices + _MAX_IDLE_TOPICS:
            self._forget_topics()
            known = self.partition_by_device
            self.partition_by_device = {device: known[device] for device in present() if device in known}

    def device_of(self, topic: str) -> str | None:
        """Return the device of a topic; None if it names none."""
        return self._device_by_topic.get(topic) or self.template.device(topic)

    def _internal(self, message: Message, error: Exception) -> Rejection:
        """Return the rejection of a message for which the decoder failed."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        detail = f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}: {error}"
        device = None
        with suppress(Exception):  # it may be what failed
            device = self.template.device(message.topic)
        return Rejection(message.topic, "internal", detail[:_MAX_DETAIL], device or "")

    def devices_of(self, partitions: Collection[int]) -> list[str]:
        """Return the devices of these partitions: of which messages came, or that were added."""
        return [device for device, partition in self.partition_by_device.items() if partition in partitions]

    def take_notes(self) -> list[str]:
        """Return one line for each field that messages had since the last call and that looks like a mistake.

        Such a field looks like a time, a rate or units, and is ignored. It is noted once for a device, and the number
        of notes that a decoder makes is limited.
        """
        return self._notes.take()

    def _filter(self, messages: Sequence[Message]) -> tuple[Sequence[Message], list[str], list[Rejection]]:
        """Reject messages by topic, size and retain flag. Return the others, their devices, and the rejections."""
        rejections: list[Rejection] = []
        device_by_topic, limit = self._device_by_topic, self.max_payload_bytes
        devices = [device_by_topic.get(message.topic) for message in messages]
        unwanted = [message for message in messages if message.retained or len(message.payload) > limit]
        if None not in devices and not unwanted:
            return messages, devices, rejections  # type: ignore[return-value]
        accepted, names = [], []
        for message in messages:
            try:
                name = self._device(message)
            except RejectError as error:
                device = self.template.device(message.topic) or ""
                rejections.append(Rejection(message.topic, error.reason, error.detail, device))
                continue
            if message.topic not in device_by_topic:
                self._remember(message.topic, name)
            accepted.append(message)
            names.append(name)
        return accepted, names, rejections

    def _remember(self, topic: str, device: str) -> None:
        self._topic_bytes += sys.getsizeof(topic) + sys.getsizeof(device) + _ENTRY_BYTES
        if self._topic_bytes > _MAX_TOPIC_BYTES:
            self._forget_topics()
        self._device_by_topic[topic] = device
        partition = self.template.partition(topic)
        if partition is not None:
            self.partition_by_device[device] = partition

    def _forget_topics(self) -> None:
        self._device_by_topic.clear()
        self._topic_bytes = 0

    def _device(self, message: Message) -> str:
        """Return the device that a message comes from. Raise RejectError if the message is not to be decoded."""
        if message.retained:
            raise RejectError("retained", "a retained message")
        device = self.template.device(message.topic)
        if device is None:
            raise RejectError("device", f"the topic names no device that {self.template.text!r} accepts")
        if len(message.payload) > self.max_payload_bytes:
            # The daemon cuts long payloads, so the real size is not known here.
            raise RejectError("too_large", f"more than {self.max_payload_bytes} bytes")
        return device

    def _read_packed(self, payloads: Sequence[bytes], builder: _BatchBuilder) -> None:
        """Add the packed messages that the fast path reads."""
        header_size = HEADER.size
        indices = [
            index
            for index, payload in enumerate(payloads)
            if payload.startswith(PACKED_PREFIX) and len(payload) >= header_size
        ]
        if not indices:
            return
        packed = read_packed([payloads[index] for index in indices])
        valid = packed.counts > 0
        t_ns, samples = packed.t_ns[valid], packed.samples
        factors = np.repeat([self._acc_factor, self._gyro_factor], 3)
        if (factors != 1).any():
            with np.errstate(over="ignore", invalid="ignore"):
                samples = (samples * factors).astype(np.float32)
        builder.add(np.array(indices)[valid], t_ns, t_ns != 0, packed.rate_hz[valid], packed.counts[valid], samples)

    def _read_json(self, payloads: Sequence[bytes], builder: _BatchBuilder) -> None:
        """Add the JSON messages that the fast path reads."""
        indices, times, stamped, rates, counts, accs, gyros = [], [], [], [], [], [], []
        read = self._json_reader.read
        for index in builder.remaining().tolist():
            message = read(payloads[index])
            if message is None or (message.gyro is None and self.needs_gyro):
                continue
            t_ns, rate_hz, n_samples, acc, gyro = message
            indices.append(index)
            times.append(t_ns or 0)
            stamped.append(t_ns is not None)
            rates.append(rate_hz)
            counts.append(n_samples)
            accs.append(acc)
            gyros.append(bytes(24 * n_samples) if gyro is None else gyro)
        if not indices:
            return
        samples = np.empty((sum(counts), 6), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for columns, buffers, factor in (
                (slice(0, 3), accs, self._acc_factor),
                (slice(3, 6), gyros, self._gyro_factor),
            ):
                samples[:, columns] = np.frombuffer(b"".join(buffers), np.float64).reshape(-1, 3) * factor
        builder.add(np.array(indices), times, stamped, rates, counts, samples)

    def _decode_one(self, payload: bytes) -> Samples:
        """Decode a payload by the general path. Raise RejectError if it is malformed."""
        samples = decode_payload(payload, self.units)
        if samples.gyro is None and self.needs_gyro:
            raise RejectError("gyroscope", "no gyroscope, but the model needs one")
        return samples

    def _drop_unusable(
        self, batch: SampleBatch, messages: Sequence[Message], rejections: list[Rejection]
    ) -> tuple[SampleBatch, list[Rejection]]:
        """Remove messages without samples, which are rejected already, and reject those with an unusable number.

        The fast path does not check the numbers of a message. Here all numbers of the batch are checked at once, and
        the general path finds the reason for the few messages that fail.
        """
        usable = np.abs(batch.samples).max(axis=1, initial=0.0) <= MAX_MAGNITUDE  # False also for NaN
        if batch.counts.all() and usable.all():
            return batch, rejections
        keep = batch.counts > 0
        decoded = np.flatnonzero(keep)
        counts = batch.counts[decoded]
        first_rows = np.cumsum(counts) - counts
        good = np.logical_and.reduceat(usable, first_rows) if len(decoded) else np.zeros(0, np.bool_)
        for i in np.flatnonzero(~good).tolist():
            index, rows = int(decoded[i]), batch.samples[first_rows[i] : first_rows[i] + counts[i]]
            if batch.acc_unit_auto[index] and _is_in_milli_g(rows):
                good[i] = True
                continue
            try:
                self._decode_one(messages[index].payload)
            except RejectError as error:
                device = batch.devices[index]
                rejections.append(Rejection(messages[index].topic, error.reason, error.detail, device))
        keep[decoded] = good
        return batch if keep.all() else batch.select(keep), rejections


def _is_in_milli_g(rows: Float32) -> bool:
    """Return whether the rows (n_samples, 6) of a message are too large only because its acc may be in mg."""
    return may_be_milli_g(rows[:, :3]) and bool(np.abs(rows[:, 3:]).max() <= MAX_MAGNITUDE)


class _BatchBuilder:
    """Decoded messages of a batch. Each path adds those that it reads, in any order."""

    def __init__(self, n_messages: int, acc_auto: bool) -> None:
        self.t_ns: Int64 = np.zeros(n_messages, np.int64)
        self.stamped: Bool = np.zeros(n_messages, np.bool_)
        self.rate_hz: Float64 = np.zeros(n_messages)
        self.counts: Int64 = np.zeros(n_messages, np.int64)  # 0: not decoded yet, or rejected
        self.acc_auto: Bool = np.full(n_messages, acc_auto)  # of messages that do not name the unit
        self._parts: list[tuple[Int64, Float32]] = []  # indices of messages, and their samples in the same order

    def remaining(self) -> Int64:
        """Return the indices of the messages that no path has decoded."""
        return np.flatnonzero(self.counts == 0)

    def add(
        self,
        indices: Int64,
        t_ns: npt.ArrayLike,
        stamped: npt.ArrayLike,
        rate_hz: npt.ArrayLike,
        counts: npt.ArrayLike,
        samples: Float32,
    ) -> None:
        """Add the messages with the given indices; ``samples`` (n_samples, 6) has their samples, in this order."""
        self.t_ns[indices], self.stamped[indices] = t_ns, stamped
        self.rate_hz[indices], self.counts[indices] = rate_hz, counts
        self._parts.append((indices, samples))

    def add_samples(self, index: int, content: Samples) -> None:
        """Add one message."""
        samples = np.zeros((content.n_samples, 6), np.float32)
        samples[:, :3] = content.acc
        if content.gyro is not None:
            samples[:, 3:] = content.gyro
        stamped = content.t_ns is not None
        self.acc_auto[index] = content.acc_auto
        self.add(np.array([index]), content.t_ns or 0, stamped, content.rate_hz, content.n_samples, samples)

    def samples(self) -> Float32:
        """Return the samples (n_samples, 6) of all messages, in the order of the messages."""
        if len(self._parts) == 1:
            return self._parts[0][1]
        samples = np.zeros((int(self.counts.sum()), 6), np.float32)
        first_row = np.cumsum(self.counts) - self.counts  # of each message
        for indices, part in self._parts:
            counts = self.counts[indices]
            rows_before = np.cumsum(counts) - counts  # in the part
            samples[np.repeat(first_row[indices] - rows_before, counts) + np.arange(counts.sum())] = part
        return samples
