"""Simulated devices for the tests: signals, messages cut from them, and their windows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harstream.core.batches import SampleBatch, WindowBatch
from harstream.core.engine import Engine

from ..constants import T0_NS


@dataclass(frozen=True)
class Message:
    device: str
    t_ns: int
    samples: np.ndarray = field(repr=False)
    rate_hz: float = 0.0
    stamped: bool = True
    arrival_s: float | None = None

    def __len__(self) -> int:
        return len(self.samples)


def gait(n: int, rate_hz: float = 50.0, seed: int = 0) -> np.ndarray:
    """Return a signal (n, 6) like that of a person who walks, with noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / rate_hz
    step = 2 * np.pi * (1.6 + 0.4 * rng.random()) * t
    clean = [
        0.95 + 0.3 * np.sin(step),
        -0.2 + 0.15 * np.sin(step / 2 + 1),
        0.15 + 0.2 * np.sin(2 * step + 2),
        np.sin(step),
        0.5 * np.cos(step / 2),
        0.7 * np.sin(step + 1),
    ]
    return (np.stack(clean, axis=1) + rng.normal(0, 0.05, (n, 6))).astype(np.float32)


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


def unstamped(messages: Sequence[Message], arrivals_s: Iterable[float]) -> list[Message]:
    return [
        replace(message, stamped=False, t_ns=0, arrival_s=float(arrival))
        for message, arrival in zip(messages, arrivals_s, strict=True)
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
        np.zeros(len(messages), np.bool_),
        np.concatenate([np.zeros((0, 6), np.float32), *[message.samples for message in messages]]),
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
    mine = np.array([name == device for name in windows.devices], np.bool_)
    return WindowBatch(
        [device] * int(mine.sum()),
        windows.windows[mine],
        windows.start_ns[mine],
        windows.end_ns[mine],
        windows.arrival_s[mine],
        windows.problems[mine],
    )


def assert_same(got: WindowBatch, want: WindowBatch) -> None:
    """Check that the windows are the same to the bit, and their times within a microsecond."""
    assert list(got.devices) == list(want.devices)
    np.testing.assert_array_equal(got.windows, want.windows)
    np.testing.assert_allclose(got.start_ns - want.start_ns, 0, atol=1000)
    np.testing.assert_allclose(got.end_ns - want.end_ns, 0, atol=1000)
