"""Pairs: an accelerometer and a gyroscope of the same devices that have messages of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harstream.core.batches import Float64, Int64, SampleBatch, Sensor
from harstream.core.own_times import interpolate_at
from harstream.probe import trial
from harstream.probe.candidates import ENOUGH, SMALL, Candidate
from harstream.probe.naming import is_template
from harstream.probe.sensors import Scale, Triple, rotation_of
from harstream.probe.settings import SourceSettings
from harstream.probe.words import sensor_of_level
from harstream.wire.decoder import Message
from harstream.wire.fields import UNUSED
from harstream.wire.times import AUTO_UNIT
from harstream.wire.topics import DEVICE, TopicTemplate

#: Longest time in ns for which a sample of the gyroscope is held.
_REACH_NS = 100_000_000
#: Devices by which unit and clocks are told, and messages of each sensor in which they are looked for.
_MAX_DEVICES = 4
_MAX_MESSAGES = 2_000
#: Payloads whose fields scale numbers.
_SCALED = ("fields", "csv")
#: Time in s by which the clocks of the two sensors may differ, as far as the times of arrival tell; and the time beyond
#: which they have nothing to do with each other, for which the daemon would not wait.
_CLOCKS_APART_S, _CLOCKS_UNLIKE_S = 0.5, 10.0


@dataclass(frozen=True, slots=True)
class Pair:
    """Settings of a source that takes both sensors, and what they make of the messages."""

    settings: SourceSettings
    scale: Scale  # of the gyroscope
    doubts: tuple[str, ...]


def partners(template: str, topics: Sequence[str]) -> dict[str, list[str]]:
    """Return the templates of topics that go with another template, each with its topics.

    They are the same but for one level, or for levels that name the sensor; or the same throughout.
    """
    levels = template.split("/")
    found: dict[str, list[str]] = {}
    for topic in topics:
        parts = topic.split("/")
        if len(parts) != len(levels):
            continue
        own = [level if level == DEVICE else part for level, part in zip(levels, parts, strict=True)]
        others = [one for one, other in zip(own, levels, strict=True) if one != other]
        if len(others) <= 1 or all(map(sensor_of_level, others)):
            found.setdefault("/".join(own), []).append(topic)
    return {text: some for text, some in found.items() if is_template(text)}


def find_pair(
    settings: SourceSettings,
    searched: Candidate | None,
    acc: Sequence[Message],
    gyro: Sequence[Message],
    gyro_topic: str,
    triple: Triple | None,
    max_bytes: int,
) -> Pair | None:
    """Return how the messages of both sensors are decoded by one source; None if there is no way.

    Args:
        settings: Those of the accelerometer alone.
        searched: The way to decode it by paths or columns, if a search found one.
        acc: Its messages.
        gyro: Messages of the gyroscope.
        gyro_topic: Template of their topics.
        triple: Places of the gyroscope in them, if a search found some.
        max_bytes: Largest payload to accept.

    """
    acc, gyro = _of_some_devices((settings.topic, acc), (gyro_topic, gyro))
    unlike_s = 0.0
    fallback: Pair | None = None
    for candidate in _candidates(settings, searched, gyro_topic, triple):
        small = candidate
        if candidate.payload in _SCALED:
            small = replace(candidate, fields=replace(candidate.fields, gyro_scale=SMALL))
        of_acc = _decoded(small, acc, Sensor.ACC, max_bytes)
        of_gyro = _decoded(small, gyro, Sensor.GYRO, max_bytes)
        if of_acc is None or of_gyro is None or set(of_acc.devices).isdisjoint(of_gyro.devices):
            continue
        apart_s = _clocks_apart_s(of_acc, of_gyro)
        if apart_s > _CLOCKS_UNLIKE_S:
            unlike_s = max(unlike_s, apart_s)
            if fallback is None:
                fallback = Pair(candidate, Scale("rad/s"), (_UNLIKE,))
            continue
        scale = _rotation(of_acc, of_gyro, small.fields.gyro_scale, triple.text if triple else "")
        doubts = [f"unit of the gyroscope: {scale.doubt}"] if scale.doubt else []
        if not _uses_times(candidate):
            doubts.append(_ARRIVAL)
        elif apart_s > _CLOCKS_APART_S:
            doubts.append(_APART.format(apart_s))
        if scale.factor == 1:
            return Pair(replace(candidate, gyro_unit=scale.unit), scale, tuple(doubts))
        if candidate.payload in _SCALED:
            fields = replace(candidate.fields, gyro_scale=scale.factor)
            return Pair(replace(candidate, fields=fields, gyro_unit=scale.unit), scale, tuple(doubts))
        if fallback is None:
            doubts.append(f"unit of the gyroscope: its numbers seem to be {scale.words}")
            fallback = Pair(candidate, scale, tuple(doubts))
    return fallback


_ARRIVAL = (
    "the times of arrival count, because the times of the two sensors are in no common place, or their clocks have "
    "nothing to do with each other"
)
_UNLIKE = "the clocks of the two sensors have nothing to do with each other: let both send times of one clock"
_APART = "the clocks of the two sensors are {:.1f} s apart, by the times of arrival: both need times of one clock"


def _of_some_devices(*streams: tuple[str, Sequence[Message]]) -> list[Sequence[Message]]:
    """Return the messages of some devices that send both sensors, so that units and clocks show, if topics name them.

    Args:
        streams: Template of the topics of each sensor, and its messages.

    """
    by_device: list[dict[str | None, list[Message]]] = []
    for text, messages in streams:
        template = TopicTemplate(text, may_omit_device=True)
        of: dict[str | None, list[Message]] = {}
        for message in messages:
            of.setdefault(template.device(message.topic), []).append(message)
        by_device.append(of)
    some = [device for device in by_device[0] if all(device in of for of in by_device)][:_MAX_DEVICES]
    chosen = [sorted((m for name in some for m in of[name]), key=lambda m: m.arrival_s) for of in by_device]
    return [part[:_MAX_MESSAGES] for part in (chosen if some else [messages for _, messages in streams])]


def decodes(settings: SourceSettings, messages: Sequence[Message], max_bytes: int) -> bool:
    """Return whether settings of a pair decode messages as those of the gyroscope."""
    return _decoded(settings, messages[:_MAX_MESSAGES], Sensor.GYRO, max_bytes) is not None


def _candidates(
    settings: SourceSettings, searched: Candidate | None, gyro_topic: str, triple: Triple | None
) -> Iterator[SourceSettings]:
    """Yield settings that may decode both sensors, those that use more of the messages first."""
    pair = replace(settings, gyro_topic=gyro_topic)
    if settings.payload != "fields":
        yield pair
    if searched is None:
        return
    found = replace(searched.settings(settings.topic), gyro_topic=gyro_topic)
    fields = found.fields
    if found.payload == "csv":
        if "t" in fields.columns:
            columns = tuple(UNUSED if column == "t" else column for column in fields.columns)
            yield replace(found, fields=replace(fields, columns=columns, t_unit=AUTO_UNIT))
        return
    if triple is None or triple.samples != fields.samples:
        return
    fields = replace(fields, gyro=triple.paths)
    for tried in dict.fromkeys(
        (
            fields,
            replace(fields, rate_hz=""),  # the other sensor's messages may have none, or something else there
            replace(fields, t="", t_unit=AUTO_UNIT),
            replace(fields, t="", t_unit=AUTO_UNIT, rate_hz=""),
        )
    ):
        yield replace(found, fields=tried)


def _uses_times(settings: SourceSettings) -> bool:
    if settings.payload == "csv":
        return "t" in settings.fields.columns
    return settings.payload != "fields" or bool(settings.fields.t)


def _decoded(
    settings: SourceSettings, messages: Sequence[Message], sensor: Sensor, max_bytes: int
) -> SampleBatch | None:
    """Return the samples of messages of one sensor; None if they are not decoded, or as those of the other one."""
    tried = trial.decode(settings, messages, needs_gyro=True, max_bytes=max_bytes)
    batch = trial.of_sensor(tried.batch, sensor)
    return batch if tried.share >= ENOUGH and len(batch) and len(batch) >= ENOUGH * len(tried.batch) else None


def _clocks_apart_s(acc: SampleBatch, gyro: SampleBatch) -> float:
    """Return how far the clocks of the two sensors of a device are apart in s, the median of some devices.

    Where the time of arrival counts, it is the clock.
    """
    of_acc, of_gyro = trial.by_device(acc), trial.by_device(gyro)
    apart_s = [
        abs(
            trial.describe_stream("", acc, of_acc[device]).clock_s
            - trial.describe_stream("", gyro, of_gyro[device]).clock_s
        )
        for device in [device for device in of_acc if device in of_gyro][:_MAX_DEVICES]
    ]
    return float(np.median(apart_s))


def _rotation(acc: SampleBatch, gyro: SampleBatch, factor: float, name: str) -> Scale:
    """Return the unit of the gyroscope by the first device for which it is certain.

    Args:
        acc: Samples of the accelerometer.
        gyro: Samples of the gyroscope.
        factor: By which its numbers were multiplied.
        name: Its name in messages.

    """
    of_acc, of_gyro = trial.by_device(acc), trial.by_device(gyro)
    scale = Scale("rad/s", doubt="no device sends both sensors at one time")
    for device in [device for device in of_acc if device in of_gyro][:_MAX_DEVICES]:
        t_ns, values, rate_hz = _signal(acc, of_acc[device], slice(0, 3))
        gyro_t_ns, rotations, _ = _signal(gyro, of_gyro[device], slice(3, 6))
        if not rate_hz or len(gyro_t_ns) < 2:
            continue
        order = np.argsort(gyro_t_ns, kind="stable")
        raw = (rotations[order] / factor).astype(np.float32)
        at_acc, known = interpolate_at(t_ns, gyro_t_ns[order], raw, reach_ns=_REACH_NS)
        if not known.any():
            continue
        scale = rotation_of(values[known], at_acc[known], rate_hz, name, sent=raw)
        if not scale.doubt:
            break
    return scale


def _signal(batch: SampleBatch, rows: trial.Rows, columns: slice) -> tuple[Int64, Float64, float]:
    """Return times (n_samples,), vectors (n_samples, 3) and rate of one device."""
    rate_hz = trial.describe_stream("", batch, rows).rate_hz
    at, counts = rows.messages, batch.counts[rows.messages]
    start_ns = np.where(batch.stamped[at], batch.t_ns[at], np.rint(batch.arrival_s[at] * 1e9).astype(np.int64))
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    t_ns = np.repeat(start_ns, counts) + np.rint(number * (1e9 / rate_hz if rate_hz else 0.0)).astype(np.int64)
    return t_ns, batch.samples[rows.samples, columns].astype(np.float64), rate_hz
