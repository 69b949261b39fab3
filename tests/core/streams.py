"""Simulated devices for the tests: signals, messages cut from them, and their windows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harstream.core.batches import SampleBatch, Sensor, WindowBatch
from harstream.core.engine import Engine
from harstream.core.spec import SignalSpec

from ..constants import T0_NS


@dataclass(frozen=True)
class Message:
    device: str
    t_ns: int
    samples: np.ndarray = field(repr=False)
    rate_hz: float = 0.0
    stamped: bool = True
    arrival_s: float | None = None
    acc_unit_auto: bool = False
    sensor: Sensor = Sensor.BOTH

    def __len__(self) -> int:
        return len(self.samples)


def gait_at(t_s: np.ndarray, step_hz: float = 1.8) -> np.ndarray:
    """Return a signal (n, 6) like that of a person who walks, at any times (n,) in s. Without noise."""
    step = 2 * np.pi * step_hz * t_s
    clean = [
        0.95 + 0.3 * np.sin(step),
        -0.2 + 0.15 * np.sin(step / 2 + 1),
        0.15 + 0.2 * np.sin(2 * step + 2),
        np.sin(step),
        0.5 * np.cos(step / 2),
        0.7 * np.sin(step + 1),
    ]
    return np.stack(clean, axis=1)


def gait(n: int, rate_hz: float = 50.0, seed: int = 0) -> np.ndarray:
    """Return a signal (n, 6) like that of a person who walks, with noise."""
    rng = np.random.default_rng(seed)
    clean = gait_at(np.arange(n) / rate_hz, 1.6 + 0.4 * rng.random())
    return (clean + rng.normal(0, 0.05, (n, 6))).astype(np.float32)


def still(n: int, seed: int = 0) -> np.ndarray:
    """Return samples (n, 6) of a device on a table, with the noise of a phone: 0.04 m/s2 and 0.005 rad/s."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, [0.04 / 9.80665] * 3 + [0.005] * 3, (n, 6))
    return (np.array([0, 0, 1, 0, 0, 0]) + noise).astype(np.float32)


def cut(
    samples: np.ndarray,
    sizes: int | Iterable[int],
    *,
    device: str = "a",
    t_ns: int = T0_NS,
    rate_hz: float = 50.0,
    announced: float = 0.0,
) -> list[Message]:
    """Cut a stream into exactly stamped messages of the given sizes; the last one has the rest."""
    if isinstance(sizes, int):
        sizes = [sizes] * (len(samples) // sizes)
    bounds = np.concatenate([[0], np.cumsum(list(sizes), dtype=np.int64)])
    return [
        Message(device, t_ns + round(start * 1e9 / rate_hz), samples[start:stop], announced)
        for start, stop in itertools.pairwise([*bounds[bounds < len(samples)].tolist(), len(samples)])
    ]


def walk(
    device: str,
    rate_hz: float,
    seconds: float = 8.0,
    sizes: int | Iterable[int] = 10,
    seed: int = 0,
    t_ns: int = T0_NS,
) -> list[Message]:
    """Return the messages of a device that announces its rate."""
    signal = gait(int(seconds * rate_hz), rate_hz, seed)
    return cut(signal, sizes, device=device, rate_hz=rate_hz, announced=rate_hz, t_ns=t_ns)


def unstamped(messages: Sequence[Message], arrivals_s: Iterable[float]) -> list[Message]:
    return [
        replace(message, stamped=False, t_ns=0, arrival_s=float(arrival))
        for message, arrival in zip(messages, arrivals_s, strict=True)
    ]


def restamped(messages: Sequence[Message], stamps_ns: Iterable[int], rate_hz: float = 50.0) -> list[Message]:
    """Return the messages with other stamps. They arrive when their samples were measured by the old stamps."""
    return [
        replace(m, t_ns=int(t_ns), arrival_s=m.t_ns / 1e9 + len(m) / rate_hz if m.arrival_s is None else m.arrival_s)
        for m, t_ns in zip(messages, stamps_ns, strict=True)
    ]


def batch(messages: Sequence[Message]) -> SampleBatch:
    """Return one batch of all messages."""
    return SampleBatch(
        [message.device for message in messages],
        np.array([message.t_ns for message in messages], np.int64),
        np.array([message.stamped for message in messages], np.bool_),
        np.array([message.rate_hz for message in messages], np.float64),
        np.array([len(message) for message in messages], np.int64),
        np.array([message.t_ns / 1e9 if message.arrival_s is None else message.arrival_s for message in messages]),
        np.array([message.acc_unit_auto for message in messages], np.bool_),
        np.concatenate([np.zeros((0, 6), np.float32), *[message.samples for message in messages]]),
        np.array([message.sensor for message in messages], np.int8) if any(m.sensor for m in messages) else None,
    )


def feed(engine: Engine, messages: Sequence[Message], sizes: Iterable[int] | None = None) -> WindowBatch:
    """Feed the messages one by one, or in batches of the given sizes and the rest one by one; return all windows."""
    out = [WindowBatch.empty(engine.spec.window_samples, engine.spec.n_channels)]
    start = 0
    for size in sizes or ():
        out.append(engine.feed(batch(messages[start : start + size])))
        start += size
    out += [engine.feed(batch([message])) for message in messages[start:]]
    return WindowBatch.concatenate(out)


def of(windows: WindowBatch, device: str) -> WindowBatch:
    """Return the windows of one device."""
    return part_of(windows, np.array([name == device for name in windows.devices], np.bool_))


def part_of(windows: WindowBatch, part: slice | np.ndarray) -> WindowBatch:
    """Return a part of the windows."""
    return WindowBatch(
        np.array(windows.devices, object)[part].tolist(),
        windows.windows[part],
        windows.start_ns[part],
        windows.end_ns[part],
        windows.arrival_s[part],
        windows.problems[part],
    )


def assert_same(got: WindowBatch, want: WindowBatch) -> None:
    """Check that the windows are the same to the bit, and their times within a microsecond."""
    assert list(got.devices) == list(want.devices)
    np.testing.assert_array_equal(got.windows, want.windows)
    np.testing.assert_allclose(got.start_ns - want.start_ns, 0, atol=1000)
    np.testing.assert_allclose(got.end_ns - want.end_ns, 0, atol=1000)


def begins_with(windows: WindowBatch, spec: SignalSpec, messages: Sequence[Message], most: int) -> int:
    """Return the first of the messages, at most ``most``, from which on counted samples give the last of the windows.

    The messages have the rate of the grid, and none is missing.
    """
    for k in range(most + 1):
        samples = np.concatenate([message.samples for message in messages[k:]])
        want = feed(Engine(spec), [Message("a", T0_NS, samples)])
        if 0 < len(want) <= len(windows) and np.array_equal(windows.windows[-len(want) :], want.windows):
            return k
    raise AssertionError(f"the windows are those of no stream that begins with one of the first {most + 1} messages")
