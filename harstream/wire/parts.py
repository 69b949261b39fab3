"""Parts of a batch: the messages that each path of the decoder has read, put together in the order of arrival."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Bool, Float32, Float64, Int8, Int64, SampleBatch
from harstream.core.rows import indices
from harstream.wire.samples import Samples


class _Part(NamedTuple):
    """Messages that one path has read; their indices increase, and one may be there several times."""

    message: Int64  # (n,) index of the MQTT message
    t_ns: Int64
    stamped: Bool
    rate_hz: Float64
    counts: Int64
    acc_auto: Bool
    checked: Bool  # whether all numbers were checked
    samples: Float32  # (n_samples, 6)
    devices: Sequence[str] | None  # None: those of the topics
    sensor: Int8 | None  # (n,) Sensor of each; None: both
    age_s: Float64  # (n,) see Samples


class Assembled(NamedTuple):
    """The messages of all parts in the order of arrival."""

    batch: SampleBatch
    message: Int64  # (n_messages,) index of the MQTT message of each; one may make several
    checked: Bool  # (n_messages,) whether all its numbers were checked


class Parts:
    """Decoded messages of a batch. Each path adds those that it reads.

    Args:
        n_messages: Number of MQTT messages.
        acc_auto: Whether the unit of messages that do not name one is not known.
        apart: Whether messages may hold one sensor only. Without it, a missing gyroscope is one of zeros.

    """

    def __init__(self, n_messages: int, acc_auto: bool, apart: bool = False) -> None:
        self._apart = apart
        self._acc_auto = acc_auto
        self._read = np.zeros(n_messages, np.bool_)
        self._parts: list[_Part] = []

    def remaining(self) -> Int64:
        """Return the indices of the messages that no path has read."""
        return indices(~self._read)

    def add(
        self,
        index: Int64,
        t_ns: npt.ArrayLike,
        stamped: npt.ArrayLike,
        rate_hz: npt.ArrayLike,
        counts: npt.ArrayLike,
        samples: Float32,
    ) -> None:
        """Add messages of the fast path, whose numbers are not checked. ``samples`` (n_samples, 6) are all theirs."""
        self._read[index] = True
        n = len(index)
        self._parts.append(
            _Part(
                index,
                np.asarray(t_ns, np.int64),
                np.asarray(stamped, np.bool_),
                np.asarray(rate_hz, np.float64),
                np.asarray(counts, np.int64),
                np.full(n, self._acc_auto),
                np.zeros(n, np.bool_),
                samples,
                None,
                None,
                np.zeros(n),
            )
        )

    def add_samples(self, index: Sequence[int], contents: Sequence[Samples], devices: Sequence[str]) -> None:
        """Add evenly spaced contents of messages, with the device of each, by increasing ``index``."""
        if not contents:
            return
        counts = np.array([content.n_samples for content in contents], np.int64)
        samples = np.zeros((int(counts.sum()), 6), np.float32)
        none = np.zeros((int(counts.max()), 3), np.float32)
        accs = [content.acc if len(content.acc) else none[: content.n_samples] for content in contents]
        samples[:, :3] = np.concatenate(accs)
        if any(content.gyro is not None for content in contents):
            gyros = [none[: content.n_samples] if content.gyro is None else content.gyro for content in contents]
            samples[:, 3:] = np.concatenate(gyros)
        self._parts.append(
            _Part(
                np.array(index, np.int64),
                np.array([content.t_ns or 0 for content in contents], np.int64),
                np.array([content.t_ns is not None for content in contents], np.bool_),
                np.array([content.rate_hz for content in contents], np.float64),
                counts,
                np.array([content.acc_auto for content in contents], np.bool_),
                np.ones(len(contents), np.bool_),
                samples,
                devices,
                np.array([content.sensor for content in contents], np.int8) if self._apart else None,
                np.array([content.age_s for content in contents]),
            )
        )

    def assemble(self, devices: Sequence[str], arrival_s: Sequence[float]) -> Assembled:
        """Return the messages of all parts. ``devices`` and ``arrival_s`` are those of the MQTT messages."""
        if not self._parts:
            self.add(np.zeros(0, np.int64), [], [], [], [], np.zeros((0, 6), np.float32))
        part = self._parts[0] if len(self._parts) == 1 else _in_order(self._parts, devices)
        names = part.devices
        if names is None:
            names = devices if len(part.message) == len(devices) else [devices[i] for i in part.message.tolist()]
        arrivals = np.array(arrival_s, np.float64)[part.message] - part.age_s
        batch = SampleBatch(
            names,
            part.t_ns,
            part.stamped,
            part.rate_hz,
            part.counts,
            arrivals,
            part.acc_auto,
            part.samples,
            part.sensor,
        )
        return Assembled(batch, part.message, part.checked)


def _in_order(parts: Sequence[_Part], devices: Sequence[str]) -> _Part:
    """Return several parts as one, by increasing index; messages of one index stay in their order."""
    index = np.concatenate([part.message for part in parts])
    order = np.argsort(index, kind="stable")
    names = [
        name
        for part in parts
        for name in (part.devices if part.devices is not None else [devices[i] for i in part.message.tolist()])
    ]
    counts = np.concatenate([part.counts for part in parts])
    first_row = np.cumsum(counts) - counts  # of each message, while the parts lie one behind the other
    ordered = counts[order]
    rows = np.repeat(first_row[order] - (np.cumsum(ordered) - ordered), ordered) + np.arange(ordered.sum())
    t_ns, stamped, rate_hz, acc_auto, checked, age_s = (
        np.concatenate([getattr(part, name) for part in parts])[order]
        for name in ("t_ns", "stamped", "rate_hz", "acc_auto", "checked", "age_s")
    )
    samples = np.concatenate([part.samples for part in parts])[rows]
    names = [names[i] for i in order.tolist()]
    sensors = [np.zeros(len(part.message), np.int8) if part.sensor is None else part.sensor for part in parts]
    sensor = None if all(part.sensor is None for part in parts) else np.concatenate(sensors)[order]
    return _Part(index[order], t_ns, stamped, rate_hz, ordered, acc_auto, checked, samples, names, sensor, age_s)
