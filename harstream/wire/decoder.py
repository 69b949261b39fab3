"""Decoder: a batch of MQTT messages to one SampleBatch, and a Rejection for each message that is malformed."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harstream.core.batches import Float32, SampleBatch, Sensor
from harstream.wire.compression import is_compressed, unpack
from harstream.wire.fast_path import PACKED_PREFIX, JsonReader, read_packed
from harstream.wire.other_names import IgnoredFieldNotes
from harstream.wire.packed import HEADER
from harstream.wire.parts import Assembled, Parts
from harstream.wire.payloads import AUTO_PAYLOAD, Decoded, PayloadConfig, make_payload
from harstream.wire.placing import place, place_apart
from harstream.wire.reject import Rejected, RejectError, Rejection
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
        payload: Format of the messages.
        gyro_template: Topics of the gyroscope, where it has messages of its own; ``template`` is then that of the
            accelerometer. If both are the same, each message tells what it holds.

    """

    def __init__(
        self,
        template: TopicTemplate,
        needs_gyro: bool = True,
        units: Units | None = None,
        max_payload_bytes: int = 256 * 1024,
        payload: PayloadConfig | None = None,
        gyro_template: TopicTemplate | None = None,
    ) -> None:
        self.template = template
        self.needs_gyro = needs_gyro
        self.units = units or Units()
        self.max_payload_bytes = max_payload_bytes
        config = payload or PayloadConfig()
        self._gyro_template = gyro_template
        # By the sensor that a topic is for; None: messages hold both, or the accelerometer.
        self._sensors: tuple[Sensor | None, ...] = (None,)
        if gyro_template is not None:
            self._sensors = (Sensor.BOTH,) if gyro_template == template else (Sensor.ACC, Sensor.GYRO)
        self._payloads = {
            sensor: make_payload(config, self.units, names_device=not template.has_device, sensor=sensor)
            for sensor in self._sensors
        }
        self._axes = None if config.axes.is_identity else config.axes
        # The fast path reads no names of devices, and both sensors together.
        names = {config.name} if template.has_device and gyro_template is None else set()
        self._has_fast_json = not names.isdisjoint({AUTO_PAYLOAD, "json"})
        self._has_fast_packed = not names.isdisjoint({AUTO_PAYLOAD, "packed"})
        self._acc_factor, self._gyro_factor = acc_factor(self.units.acc), gyro_factor(self.units.gyro)
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
        parts = Parts(len(accepted), self.units.acc == AUTO, self._gyro_template is not None)
        if self._has_fast_packed:
            self._read_packed(payloads, parts)
        if self._has_fast_json:
            self._read_json(payloads, parts)
        remaining = parts.remaining().tolist()
        if remaining:
            self._read_others(accepted, devices, remaining, parts, rejections)
        assembled = parts.assemble(devices, [message.arrival_s for message in accepted])
        batch, rejections = self._drop_unusable(assembled, accepted, rejections)
        return (batch if self._axes is None else replace(batch, samples=self._axes.apply(batch.samples))), rejections

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
        """Return the device of a topic; None if it names none, also where the payload does."""
        return self._device_by_topic.get(topic) or self._template(topic).device(topic)

    def partition_of(self, topic: str) -> int | None:
        """Return the partition of a topic; None if it names none."""
        return self._template(topic).partition(topic)

    def matches(self, topic: str) -> bool:
        """Return whether messages on a topic are for this decoder."""
        return self._template(topic).matches(topic)

    @property
    def is_paired(self) -> bool:
        """True if the two sensors may come in messages of their own."""
        return self._gyro_template is not None

    def _template(self, topic: str) -> TopicTemplate:
        """Return the template that a topic fits; that of the accelerometer if it fits none."""
        gyro = self._gyro_template
        return gyro if gyro is not None and gyro.matches(topic) else self.template

    def _sensor(self, topic: str) -> Sensor | None:
        """Return the sensor that a topic is for; None: its messages hold both, or the accelerometer."""
        return self._sensors[-1] if self._template(topic) is self._gyro_template else self._sensors[0]

    def _internal(self, message: Message, error: Exception) -> Rejection:
        """Return the rejection of a message for which the decoder failed."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        detail = f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}: {error}"
        device = None
        with suppress(Exception):  # it may be what failed
            device = self._template(message.topic).device(message.topic)
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
                device = self._template(message.topic).device(message.topic) or ""
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
        self._note_partition(topic, device)

    def _note_partition(self, topic: str, device: str) -> None:
        partition = self.partition_of(topic)
        if partition is not None:
            self.partition_by_device[device] = partition

    def _forget_topics(self) -> None:
        self._device_by_topic.clear()
        self._topic_bytes = 0

    def _device(self, message: Message) -> str:
        """Return the device that a message comes from. Raise RejectError if the message is not to be decoded."""
        if message.retained:
            raise RejectError("retained", "a retained message")
        template = self._template(message.topic)
        device = template.device(message.topic)
        if not template.has_device and template.matches(message.topic):
            device = ""  # the payload names it
        if device is None:
            raise RejectError("device", f"the topic names no device that {template.text!r} accepts")
        if len(message.payload) > self.max_payload_bytes:
            # The daemon cuts long payloads, so the real size is not known here.
            raise RejectError("too_large", f"more than {self.max_payload_bytes} bytes")
        return device

    def _read_packed(self, payloads: Sequence[bytes], parts: Parts) -> None:
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
        parts.add(np.array(indices)[valid], t_ns, t_ns != 0, packed.rate_hz[valid], packed.counts[valid], samples)

    def _read_json(self, payloads: Sequence[bytes], parts: Parts) -> None:
        """Add the JSON messages that the fast path reads."""
        indices, times, stamped, rates, counts, accs, gyros = [], [], [], [], [], [], []
        read = self._json_reader.read
        for index in parts.remaining().tolist():
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
        parts.add(np.array(indices), times, stamped, rates, counts, samples)

    def _read_others(
        self,
        messages: Sequence[Message],
        devices: Sequence[str],
        indices: Sequence[int],
        parts: Parts,
        rejections: list[Rejection],
    ) -> None:
        """Add the messages at ``indices``, which the general path reads, or their rejections."""
        read: list[int] = []
        contents: list[Samples] = []
        names: list[str] = []
        decoded = self._decode_payloads([messages[index] for index in indices])
        for index, result in zip(indices, decoded, strict=True):
            topic = messages[index].topic
            if isinstance(result, Rejected):
                rejections.append(Rejection(topic, result.reason, result.detail, devices[index]))
                continue
            for content in result:
                device = (devices[index] or content.device or "") + content.part
                if content.part and devices[index]:
                    self._note_partition(topic, device)
                try:
                    placed = self._place(content, topic)
                except RejectError as error:  # of this device; the message may have others
                    rejections.append(Rejection(topic, error.reason, error.detail, device))
                    continue
                read += [index] * len(placed)
                contents += placed
                names += [device] * len(placed)
                self._notes.add(device, content.ignored)
        parts.add_samples(read, contents, names)

    def _place(self, content: Samples, topic: str) -> list[Samples]:
        """Return samples at even times. Raise RejectError if they cannot be used."""
        if content.refused is not None:
            raise content.refused.error()
        sensor = self._sensor(topic)
        if sensor is not None:
            return place_apart(content, sensor, self.needs_gyro)
        placed = list(place(content, self.needs_gyro))
        if self.needs_gyro and any(even.gyro is None for even in placed):
            found = f"; {content.no_gyro}" if content.no_gyro else ""
            raise RejectError("gyroscope", f"no gyroscope, but the model needs one{found}")
        return placed

    def _decode_payloads(self, messages: Sequence[Message]) -> list[Decoded]:
        """Return the samples or the rejection of each message, by the general path."""
        payloads = [message.payload for message in messages]
        if len(self._sensors) == 1:
            return self._decode_all(payloads, self._sensors[0])
        sensors = [self._sensor(message.topic) for message in messages]
        by_sensor = {
            sensor: iter(self._decode_all([p for p, s in zip(payloads, sensors, strict=True) if s == sensor], sensor))
            for sensor in self._sensors
        }
        return [next(by_sensor[sensor]) for sensor in sensors]

    def _decode_all(self, payloads: list[bytes], sensor: Sensor | None) -> list[Decoded]:
        """Return the samples or the rejection of each payload from topics for one sensor."""
        refused: dict[int, Rejected] = {}
        for at, payload in enumerate(payloads):
            if is_compressed(payload):
                try:
                    payloads[at] = unpack(payload, self.max_payload_bytes)
                except RejectError as error:
                    refused[at] = error.kept()
        decoded = self._payloads[sensor].decode(payloads)
        for at, refusal in refused.items():
            decoded[at] = refusal
        return decoded

    def _drop_unusable(
        self, assembled: Assembled, messages: Sequence[Message], rejections: list[Rejection]
    ) -> tuple[SampleBatch, list[Rejection]]:
        """Reject messages with an unusable number.

        The fast path does not check the numbers of a message. Here all numbers of the batch are checked at once, and
        the general path finds the reason for the few messages that fail.
        """
        batch, message_of, checked = assembled
        usable = np.abs(batch.samples).max(axis=1, initial=0.0) <= MAX_MAGNITUDE  # False also for NaN
        if usable.all():
            return batch, rejections
        first_rows = np.cumsum(batch.counts) - batch.counts
        keep = np.logical_and.reduceat(usable, first_rows) | checked
        for i in np.flatnonzero(~keep).tolist():
            message, rows = messages[message_of[i]], batch.samples[first_rows[i] : first_rows[i] + batch.counts[i]]
            if batch.acc_unit_auto[i] and _is_in_milli_g(rows):
                keep[i] = True
                continue
            (result,) = self._decode_payloads([message])
            if isinstance(result, Rejected):
                rejections.append(Rejection(message.topic, result.reason, result.detail, batch.devices[i]))
        return batch if keep.all() else batch.select(keep), rejections


def _is_in_milli_g(rows: Float32) -> bool:
    """Return whether the rows (n_samples, 6) of a message are too large only because its acc may be in mg."""
    return may_be_milli_g(rows[:, :3]) and bool(np.abs(rows[:, 3:]).max() <= MAX_MAGNITUDE)
