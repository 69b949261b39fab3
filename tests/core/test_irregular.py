"""Irregular sampling: software loops with right stamps at uneven intervals, through the engine."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harstream.core.batches import WindowBatch
from harstream.core.clock import Clock
from harstream.core.engine import Engine
from harstream.core.irregular import FORGET_MESSAGES, SLIPS, IrregularSampling
from harstream.core.spec import GYRO, TOTAL_ACC, NoiseFilter, SignalSpec

from ..constants import SECOND, T0_NS
from .streams import Message, batch, cut, feed, gait, gait_at

#: Windows that hold the samples on the grid as they are.
SPEC = SignalSpec(channels=(*TOTAL_ACC, *GYRO), noise_filter=NoiseFilter("none"))
LOOPS = {
    "8 to 14 ms": lambda rng: 0.008 + rng.uniform(0, 0.006, 8000),
    "N(20, 4) ms": lambda rng: np.maximum(0.001, rng.normal(0.020, 0.004, 4000)),
    "N(20, 3) ms": lambda rng: np.maximum(0.001, rng.normal(0.020, 0.003, 4000)),
    "5 to 35 ms": lambda rng: rng.uniform(0.005, 0.035, 4000),
}


def loop(name, seed=1, *, seconds=60.0, announced=0.0, device="a"):
    """Return messages of one sample each, stamped in ms, of a smooth signal."""
    t_s = np.cumsum(LOOPS[name](np.random.default_rng(seed)))
    t_s = t_s[t_s < seconds]
    stamps = T0_NS + np.rint(t_s * 1e3).astype(np.int64) * 1_000_000
    samples = gait_at(t_s).astype(np.float32)
    return [Message(device, int(t_ns), samples[k : k + 1], announced) for k, t_ns in enumerate(stamps.tolist())]


def together(streams):
    """Return batches of one message of each device."""
    longest = max(map(len, streams))
    return [batch([stream[k] for stream in streams if k < len(stream)]) for k in range(longest)]


def error(windows):
    """Return the root mean square difference of each window from the signal at the times of its samples."""
    period_ns = (windows.end_ns - windows.start_ns) / 128
    t_s = (windows.start_ns[:, None] - T0_NS + np.arange(128) * period_ns[:, None]) / SECOND
    truth = gait_at(t_s.ravel()).reshape(len(windows), 128, 6)
    return np.sqrt(((windows.windows - truth) ** 2).mean(axis=(1, 2)))


@pytest.mark.parametrize(("name", "announced"), [*((name, 0.0) for name in LOOPS), ("N(20, 4) ms", 50.0)])
def test_loops_give_all_windows_of_the_true_signal_and_restart_at_most_once(name, announced):
    # Ten devices with other random numbers. The signal has a root mean square of 0.4. Its windows differ from it by
    # 0.0013 to 0.0043, as linear interpolation must; counted at an even rate, by 0.1.
    engine = Engine(SPEC)
    streams = [loop(name, seed, seconds=30.0, announced=announced, device=f"d{seed}") for seed in range(10)]
    got = WindowBatch.concatenate([engine.feed(messages) for messages in together(streams)])
    assert len(got) >= 0.95 * 10 * 22
    assert engine.health().restarts.max() == (1 if name == "8 to 14 ms" else 0)  # it announces no rate, but has 91 Hz
    assert not got.problems.any()
    assert error(got)[got.start_ns > T0_NS + 13 * SECOND].max() < 0.006


def test_a_loop_whose_announced_rate_is_wrong_is_reported_and_served():
    engine = Engine(SPEC)
    got = feed(engine, loop("8 to 14 ms", seconds=20.0, announced=50.0))
    assert [incident.problem.public_name for incident in engine.take_incidents()] == ["rate"]
    assert engine.stats.restarts == 1
    assert len(got) == 14


def test_loops_without_stamps_are_counted():
    messages = [replace(m, stamped=False, arrival_s=m.t_ns / SECOND) for m in loop("N(20, 4) ms", seconds=20.0)]
    engine = Engine(SPEC)
    got = feed(engine, messages)
    want = feed(Engine(SPEC), cut(np.concatenate([m.samples for m in messages]), 10))
    np.testing.assert_array_equal(got.windows, want.windows)
    assert engine.stats.restarts == 0


def test_a_regular_device_after_a_loop_of_the_same_name_is_served():
    # Interpolation goes on; it finds the samples of a regular device where they are.
    loop_first = loop("N(20, 4) ms", seconds=10.0)
    regular = cut(gait_at(np.arange(1000) / 50).astype(np.float32), 10, t_ns=T0_NS + 10 * SECOND)
    engine = Engine(SPEC)
    got = feed(engine, loop_first + regular)
    assert engine.stats.restarts == 0
    late = got.start_ns > T0_NS + 12 * SECOND
    assert late.sum() >= 11
    shifted = replace(got, start_ns=got.start_ns - 10 * SECOND, end_ns=got.end_ns - 10 * SECOND)
    assert error(shifted)[late].max() < 0.006


# --- against np.interp ---------------------------------------------------------------------------


@functools.cache
def warm():
    """Return the snapshot of an engine that interpolates a loop, the start of its last window, and its messages."""
    messages = loop("N(20, 4) ms", seconds=12.0)
    engine = Engine(SPEC)
    got = feed(engine, messages)
    assert engine._grid.timeline.irregular.active[0]
    return engine.snapshot(), int(got.start_ns[-1]), messages


class Oracle:
    """Accepted samples by their times, in pieces without a long gap."""

    def __init__(self, messages, mean_ns):
        self.pieces = [([m.t_ns for m in messages], [m.samples[0] for m in messages])]
        self.late, self.restarts = 0, 0
        self.mean_ns, self.newest, self.newest_count = mean_ns, messages[-1].t_ns, 1
        self.seen = set()

    def receive(self, message):
        key = message.t_ns, message.samples.tobytes()
        if key in self.seen:
            self.late += len(message)
            return
        self.seen.add(key)
        spacing = (message.t_ns - self.newest) / self.newest_count
        if spacing > 0:
            if self.mean_ns / 4 < spacing < self.mean_ns * 4:
                self.mean_ns += (spacing - self.mean_ns) / 32
            self.newest, self.newest_count = message.t_ns, len(message)
        times = [message.t_ns + round(k * self.mean_ns) for k in range(len(message))]
        new = [k for k, t_ns in enumerate(times) if t_ns > self.pieces[-1][0][-1]]
        self.late += len(message) - len(new)
        if message.t_ns - self.pieces[-1][0][-1] > 0.5 * SECOND + self.mean_ns:
            self.pieces.append(([], []))
            self.restarts += 1
        for k in new:
            self.pieces[-1][0].append(times[k])
            self.pieces[-1][1].append(message.samples[k])

    def windows(self, from_ns):
        """Return windows and their starts; the first window of the first piece starts at ``from_ns``."""
        parts, starts = [], []
        for number, (times, samples) in enumerate(self.pieces):
            begin = from_ns if number == 0 else times[0]
            grid = begin + 20_000_000 * np.arange((times[-1] - begin) // 20_000_000 + 1)
            columns = [np.interp(grid - begin, np.array(times) - begin, column) for column in np.array(samples).T]
            values = np.stack(columns, axis=1)
            for at in range(0, len(grid) - 127, 64):
                parts.append(values[at : at + 128])
                starts.append(int(grid[at]))
        return np.array(parts).reshape(-1, 128, 6), np.array(starts, np.int64)


@given(data=st.data())
@settings(max_examples=20)
def test_windows_of_irregular_samples_are_interpolated_by_their_stamps(data):
    state, last_start, messages = warm()
    engine = Engine(SPEC)
    engine.restore(state)
    oracle = Oracle(messages, float(engine._grid.timeline.irregular.mean_ns[0]))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    signal = gait(5000, seed=data.draw(st.integers(0, 9)))
    at = messages[-1].t_ns
    sent: list[Message] = []

    def message(count=1):
        nonlocal at
        at += round(max(1e6, rng.normal(20e6, 4e6)))
        made = Message("a", at, signal[len(sent) : len(sent) + count])
        at += round((count - 1) * 20e6)
        return made

    kinds = ["none", "gap", "silence", "repeat", "swap", "several"]
    for kind in data.draw(st.lists(st.sampled_from(kinds), min_size=4, max_size=12)):
        sent += [message() for _ in range(data.draw(st.integers(3, 120)))]
        match kind:
            case "gap":
                at += data.draw(st.integers(20, 440)) * 1_000_000
            case "silence":
                at += data.draw(st.integers(550, 9000)) * 1_000_000
            case "repeat":
                sent.append(sent[-data.draw(st.integers(1, min(60, len(sent))))])
            case "swap":
                first, second = message(), message()
                sent += [second, first]
            case "several":
                sent.append(message(data.draw(st.integers(2, 12))))
    sent += [message() for _ in range(140)]
    for one in sent:
        oracle.receive(one)
    got = feed(engine, sent, data.draw(st.lists(st.integers(1, 40), max_size=10)))
    windows, starts = oracle.windows(last_start + 64 * 20_000_000)
    np.testing.assert_allclose(got.start_ns - starts, 0, atol=1000)
    np.testing.assert_allclose(got.windows, windows, atol=2e-6)
    stats = engine.stats
    assert (stats.samples_late, stats.restarts) == (oracle.late, oracle.restarts)
    assert stats.gaps == oracle.restarts


# --- parts ---------------------------------------------------------------------------------------


def sampling(capacity=4):
    clock = Clock(capacity)
    clock.nominal_ns[:] = 20e6
    return IrregularSampling(clock, 0.5e9)


def test_six_slips_within_some_messages_make_a_row_irregular():
    irregular, rows = sampling(), np.array([2, 0])
    for _ in range(SLIPS - 1):
        assert len(irregular.note_slips(rows, np.array([True, False]))) == 0
        irregular.note_slips(rows, np.array([False, False]))
    assert irregular.note_slips(rows, np.array([True, True])).tolist() == [0]


def test_slips_long_ago_do_not_count():
    irregular, row = sampling(), np.array([1])
    for _ in range(SLIPS - 1):
        irregular.note_slips(row, np.array([True]))
    for _ in range(FORGET_MESSAGES):
        irregular.note_slips(row, np.array([False]))
    assert len(irregular.note_slips(row, np.array([True]))) == 0
    assert irregular.slips[1] == 1


def test_the_mean_spacing_follows_usual_intervals_only():
    irregular, row = sampling(), np.array([0])
    irregular.begin(row, np.array([100 * SECOND]), np.array([20e6]))
    assert irregular.last_ns[0] == 100 * SECOND - 20_000_000
    irregular.follow_spacing(row, np.array([100e6]), np.array([4]))  # 25 ms for each of four samples
    assert irregular.mean_ns[0] == pytest.approx(20e6 + 5e6 / 32)
    irregular.follow_spacing(row, np.array([900e6]), np.array([4]))  # a gap
    irregular.follow_spacing(row, np.array([1e6]), np.array([4]))
    assert irregular.mean_ns[0] == pytest.approx(20e6 + 5e6 / 32)
    for _ in range(1000):  # the rate cannot be left by more than a factor of three
        irregular.follow_spacing(row, irregular.mean_ns[row] / 2, np.array([1]))
    assert irregular.mean_ns[0] == pytest.approx(20e6 / 3)


@given(data=st.data())
@settings(max_examples=50)
def test_interpolation_of_several_rows_is_that_of_numpy(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    counts = np.array(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    times, samples, want = [], [], []
    before_ns, before = [], []
    next_ns = T0_NS + rng.integers(-10_000_000, 10_000_000, len(counts))
    fraction, period = rng.uniform(0, 1, len(counts)), rng.uniform(5e6, 40e6, len(counts))
    for row, count in enumerate(counts.tolist()):
        own = T0_NS - 20_000_000 + np.cumsum(rng.integers(1_000_000, 60_000_000, count + 1))
        values = rng.normal(size=(count + 1, 2)).astype(np.float32)
        before_ns.append(own[0])
        before.append(values[0])
        times.append(own[1:])
        samples.append(values[1:])
        next_ns[row] = max(next_ns[row], own[0] + 1)  # the output before it is past
        grid = (next_ns[row] - T0_NS) + fraction[row] + period[row] * np.arange(200)
        grid = grid[grid <= own[-1] - T0_NS]
        want.append(np.stack([np.interp(grid, own - T0_NS, column) for column in values.T], axis=1))
    got, number = IrregularSampling.interpolate(
        np.concatenate(times),
        np.concatenate(samples),
        counts,
        np.array(before_ns),
        np.array(before),
        next_ns,
        fraction,
        period,
    )
    assert number.tolist() == [len(part) for part in want]
    np.testing.assert_allclose(got, np.concatenate(want), atol=1e-5)
