"""Devices whose sensors send messages of their own, and an oracle that merges the whole recordings of both offline."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harstream.core.batches import Sensor, WindowBatch
from harstream.core.engine import Engine
from harstream.core.grid import Grid
from harstream.core.spec import SignalSpec
from harstream.datasets.stamped import Piece, merge_sources

from ..constants import SECOND, T0_NS
from .streams import Message, batch, feed, gait_at, part_of

SPEC = SignalSpec(sample_rate_hz=25.0, window_samples=32, stride_samples=16)
_COLUMNS = {Sensor.ACC: slice(0, 3), Sensor.GYRO: slice(3, 6)}


@dataclass(frozen=True)
class SensorClock:
    """Rate and clock of one sensor."""

    sensor: Sensor
    rate_hz: float
    start_s: float = 0.0
    drift: float = 0.0  # of its stamps, relative
    announced: bool = True

    def messages(self, seconds: float, sizes: Iterable[int], *, t0_ns: int = T0_NS, device: str = "a") -> list[Message]:
        """Return the messages of a walk of some seconds, cut into messages of these sizes, repeated."""
        n, cuts = int(seconds * self.rate_hz), [0]
        sizes = list(sizes)
        while cuts[-1] < n:
            cuts.append(min(cuts[-1] + sizes[(len(cuts) - 1) % len(sizes)], n))
        t_s = self.start_s + np.arange(n) / self.rate_hz
        samples = np.zeros((n, 6), np.float32)
        samples[:, _COLUMNS[self.sensor]] = gait_at(t_s)[:, _COLUMNS[self.sensor]]
        rate_hz = self.rate_hz if self.announced else 0.0
        return [
            Message(
                device,
                t0_ns + round(t_s[a] * (1 + self.drift) * SECOND),
                samples[a:b],
                rate_hz,
                arrival_s=t0_ns / SECOND + t_s[b - 1],
                sensor=self.sensor,
            )
            for a, b in itertools.pairwise(cuts)
        ]


def delayed(messages: Sequence[Message], delays_s: Iterable[float]) -> list[Message]:
    """Return the messages of one sensor, each delayed, and none before an earlier one."""
    out: list[Message] = []
    for message, delay_s in zip(messages, delays_s, strict=True):
        assert message.arrival_s is not None
        earliest = out[-1].arrival_s if out else None
        arrival_s = message.arrival_s + delay_s
        out.append(replace(message, arrival_s=arrival_s if earliest is None else max(arrival_s, earliest)))
    return out


@dataclass(frozen=True)
class SplitStream:
    """Streams of both sensors: clocks, sizes of messages, losses and delays."""

    clocks: tuple[SensorClock, SensorClock]
    sizes_s: tuple[Sequence[float], Sequence[float]]  # lengths of messages, repeated
    losses: Sequence[tuple[Sensor, float, float]]  # sensor, begin and length in s of what does not arrive
    most_delay_s: tuple[float, float]
    seed: int

    def messages(self, seconds: float = 30.0) -> list[Message]:
        """Return the messages in order of arrival."""
        rng, streams = np.random.default_rng(self.seed), []
        for clock, sizes_s, most_s in zip(self.clocks, self.sizes_s, self.most_delay_s, strict=True):
            messages = [
                m
                for m in clock.messages(seconds, [max(round(size_s * clock.rate_hz), 1) for size_s in sizes_s])
                if not any(s == clock.sensor and a <= (m.t_ns - T0_NS) / SECOND < a + b for s, a, b in self.losses)
            ]
            streams.append(delayed(messages, rng.uniform(0, most_s, len(messages))))
        return by_arrival(*streams)


def by_arrival(*streams: Sequence[Message]) -> list[Message]:
    """Return the messages of several streams in order of arrival."""
    return sorted((m for stream in streams for m in stream), key=lambda m: m.arrival_s or 0.0)


def pieces_of(messages: Sequence[Message], spec: SignalSpec, sensor: Sensor) -> list[Piece]:
    """Return what one sensor of a device measured, on the grid, from all its messages at once."""
    grid = Grid(spec, 1)
    own = batch([replace(m, sensor=Sensor.BOTH) for m in messages if m.sensor in (sensor, Sensor.BOTH)])
    parts: list[list[Piece]] = []
    for samples, restarts in grid.place(grid.accept(np.zeros(len(own), np.int64), own)):
        if len(restarts.rows):
            parts.append([])
        if len(samples.rows):
            parts[-1].append(Piece(samples.t_ns, samples.samples[:, _COLUMNS[sensor]]))
    return [
        Piece(np.concatenate([p.t_ns for p in some]), np.concatenate([p.samples for p in some]))
        for some in parts
        if some
    ]


def merged_offline(messages: Sequence[Message], spec: SignalSpec) -> WindowBatch:
    """Return the windows of the merged recordings of both sensors, each with the time of its last sample as its end."""
    acc, gyro = (pieces_of(messages, spec, sensor) for sensor in (Sensor.ACC, Sensor.GYRO))
    out = [WindowBatch.empty(spec.window_samples, spec.n_channels)]
    for piece in merge_sources(acc, gyro, spec.sample_rate_hz):
        windows = feed(Engine(spec), [Message("a", T0_NS, piece.samples, spec.sample_rate_hz)])
        last = np.arange(len(windows)) * spec.stride_samples + spec.window_samples - 1
        out.append(replace(windows, end_ns=piece.t_ns[last]))
    return WindowBatch.concatenate(out)


def assert_merged(got: WindowBatch, want: WindowBatch, *, is_open: bool) -> None:
    """Check that windows are those of the merged recordings, to the bit.

    Args:
        got: Windows of an engine.
        want: Windows of `merged_offline`.
        is_open: Whether samples of the accelerometer wait: the gyroscope may go on, while the recording has an end.

    """
    if is_open and len(want) == len(got) + 1:
        want = part_of(want, slice(0, len(got)))
    assert len(got) == len(want)
    np.testing.assert_array_equal(got.windows, want.windows)
    # The end is a sample later, by the clock of the device.
    np.testing.assert_allclose((got.end_ns - want.end_ns) / 1e6, 40.0, rtol=0.02)
