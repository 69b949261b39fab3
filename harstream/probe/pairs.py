"""Pairs: an accelerometer and a gyroscope of the same devices, whose messages come on topics of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from harstream.core.batches import Float64, Int64, SampleBatch
from harstream.core.own_times import interpolate_at
from harstream.probe import trial
from harstream.probe.candidates import Candidate
from harstream.probe.sensors import Scale, Triple, rotation_of
from harstream.probe.settings import SourceSettings
from harstream.wire.decoder import Message
from harstream.wire.topics import DEVICE

#: Factor of a gyroscope that is decoded as an accelerometer, so that counts are no impossible accelerations.
_SMALL = 1e-6
#: Longest time in ns for which a sample of the gyroscope is held.
_REACH_NS = 100_000_000
_MAX_DEVICES = 4
_MAX_MESSAGES = 1_000


def partner(template: str, topics: Sequence[str]) -> str:
    """Return the template of topics that differ from another template in one level only; "" if they do not."""
    levels, found = template.split("/"), set()
    for topic in topics:
        parts = topic.split("/")
        if len(parts) != len(levels):
            return ""
        own = [level if level == DEVICE else part for level, part in zip(levels, parts, strict=True)]
        if sum(one != other for one, other in zip(own, levels, strict=True)) != 1:
            return ""
        found.add("/".join(own))
    return found.pop() if len(found) == 1 else ""


def pair(
    settings: SourceSettings,
    searched: Candidate,
    acc: Sequence[Message],
    gyro: Sequence[Message],
    gyro_topic: str,
    triple: Triple,
    max_bytes: int,
) -> tuple[SourceSettings, str]:
    """Return the settings of a source with both topics, and what is doubtful about the unit of the gyroscope.

    Args:
        settings: Those of the accelerometer alone.
        searched: The way to decode it by paths.
        acc: Its messages.
        gyro: Messages of the gyroscope.
        gyro_topic: Template of their topics.
        triple: Places of the gyroscope in them.
        max_bytes: Largest payload to accept.

    """
    fields = replace(searched.fields, gyro=triple.paths, rate_hz="")
    if not settings.names_device:
        fields = replace(fields, device="")
    as_acc = replace(fields, acc=triple.paths, gyro=(), acc_scale=_SMALL)
    alone = SourceSettings(settings.topic, "fields", replace(fields, gyro=()), searched.acc_unit)
    of_acc = trial.decode(alone, acc[:_MAX_MESSAGES], needs_gyro=False, max_bytes=max_bytes).batch
    other = SourceSettings(gyro_topic, "fields", as_acc, "g")
    of_gyro = trial.decode(other, gyro[:_MAX_MESSAGES], needs_gyro=False, max_bytes=max_bytes).batch
    scale = _rotation(of_acc, of_gyro, triple.text)
    fields = replace(fields, gyro_scale=scale.factor)
    both = replace(
        settings,
        payload="fields",
        fields=fields,
        acc_unit=searched.acc_unit,
        gyro_unit=scale.unit,
        gyro_topic=gyro_topic,
    )
    return both, f"unit of the gyroscope: {scale.doubt}" if scale.doubt else ""


def _rotation(acc: SampleBatch, gyro: SampleBatch, name: str) -> Scale:
    """Return the unit of the gyroscope by the first device for which it is certain."""
    of_acc, of_gyro = trial.by_device(acc), trial.by_device(gyro)
    scale = Scale("rad/s", doubt="no device sends both sensors at one time")
    for device in [device for device in of_acc if device in of_gyro][:_MAX_DEVICES]:
        t_ns, values, rate_hz = _signal(acc, of_acc[device])
        gyro_t_ns, rotations, _ = _signal(gyro, of_gyro[device])
        if not rate_hz or len(gyro_t_ns) < 2:
            continue
        order = np.argsort(gyro_t_ns, kind="stable")
        raw = (rotations[order] / _SMALL).astype(np.float32)
        at_acc, known = interpolate_at(t_ns, gyro_t_ns[order], raw, reach_ns=_REACH_NS)
        scale = rotation_of(values[known], at_acc[known], rate_hz, name)
        if not scale.doubt:
            break
    return scale


def _signal(batch: SampleBatch, rows: trial.Rows) -> tuple[Int64, Float64, float]:
    """Return times (n_samples,), vectors (n_samples, 3) and rate of one device."""
    rate_hz = trial.describe("", batch, rows, has_gyro=False).rate_hz
    at, counts = rows.messages, batch.counts[rows.messages]
    start_ns = np.where(batch.stamped[at], batch.t_ns[at], np.rint(batch.arrival_s[at] * 1e9).astype(np.int64))
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    t_ns = np.repeat(start_ns, counts) + np.rint(number * (1e9 / rate_hz if rate_hz else 0.0)).astype(np.int64)
    return t_ns, batch.samples[rows.samples, :3].astype(np.float64), rate_hz
