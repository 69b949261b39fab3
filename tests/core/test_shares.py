"""A limit on the windows of a batch: it changes no window, every device has its share, and what is kept is bounded."""

import doctest
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harstream.core import shares
from harstream.core.batches import SampleBatch, WindowBatch
from harstream.core.engine import Engine
from harstream.core.shares import equal_share

from ..constants import SECOND, T0_NS
from .mishaps import FREE, MISHAPS, SPEC, stream
from .streams import Message, assert_same, batch, cut, feed, gait, of, walk

#: A rate at which one sample of the device makes eight of the grid.
SLOW_HZ = 6.25


def feed_limited(engine: Engine, messages: list[Message], sizes: list[int], max_windows: int) -> list[WindowBatch]:
    """Feed messages in batches of the given sizes and the rest as one, then what is pending. Return all results."""
    out, start = [], 0
    for size in [*sizes, len(messages)]:
        out.append(engine.feed(batch(messages[start : start + size]), None, max_windows))
        start += size
    while engine.n_pending:
        out.append(engine.feed(batch([]), None, max_windows))
    return out


def long_message(device: str, n: int, rate_hz: float = SLOW_HZ, t_ns: int = T0_NS) -> Message:
    return Message(device, t_ns, gait(n, rate_hz), rate_hz)


# --- the windows are the same ------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [SPEC, FREE], ids=["butterworth", "orientation-free"])
@given(
    batches=st.lists(st.integers(1, 40), max_size=6),
    max_windows=st.integers(1, 6),
    sizes=st.lists(st.integers(1, 80), max_size=20),
)
@settings(max_examples=15, deadline=None)
def test_a_limit_changes_no_window(spec, batches, max_windows, sizes):
    streams = {
        "fast": walk("fast", 104.0, 4.0, sizes),
        "slow": walk("slow", SLOW_HZ, 40.0, sizes, 1),
        "gap": [m for k, m in enumerate(walk("gap", 50.0, seed=2)) if k % 7],
        "whole": walk("whole", 50.0, sizes=[], seed=3),
    }
    mixed = sorted((m for one in streams.values() for m in one), key=lambda m: m.t_ns)
    got = WindowBatch.concatenate(feed_limited(Engine(spec), mixed, batches, max_windows))
    for name, messages in streams.items():
        assert_same(of(got, name), feed(Engine(spec), messages))


@pytest.mark.parametrize("mishap", MISHAPS)
@pytest.mark.parametrize("max_windows", [1, 3])
def test_a_limit_changes_no_window_whatever_happens_to_the_device(mishap, max_windows):
    messages = stream(mishap)
    want = feed(Engine(SPEC), messages)
    got = WindowBatch.concatenate(feed_limited(Engine(SPEC), messages, [7, 30], max_windows))
    assert_same(got, want)
    np.testing.assert_array_equal(got.end_ns, want.end_ns)
    np.testing.assert_array_equal(got.untrusted, want.untrusted)
    np.testing.assert_array_equal(got.arrival_s, want.arrival_s)


def test_a_device_that_changes_its_rate_keeps_the_resampler_of_its_pending_samples():
    messages = [long_message("a", 400), *walk("a", 100.0, t_ns=T0_NS + 64 * SECOND)]
    engine = Engine(SPEC)
    out = [engine.feed(batch(messages), None, 1)]
    while engine.n_pending:
        assert engine.evict(0.0) == []
        out.append(engine.feed(batch([]), None, 1))
    assert_same(WindowBatch.concatenate(out), feed(Engine(SPEC), messages))


# --- shares --------------------------------------------------------------------------------------------


def test_a_long_message_is_spread_over_batches_and_the_others_do_not_wait_for_it():
    engine, light = Engine(SPEC), {f"d{i}": walk(f"d{i}", 50.0, 8.32, 32, i) for i in range(5)}
    whole = len(Engine(SPEC).feed(batch([long_message("evil", 4000)])))
    assert whole > 1900
    out, turn = [], 0
    while turn == 0 or engine.n_pending:
        messages = [queue[turn] for queue in light.values() if turn < 13]
        evil = [long_message("evil", 4000)] if turn == 0 else []
        out.append(engine.feed(batch([*evil, *messages]), None, 20))
        # Each of the others has all its windows at once: the first is due after 32 samples, then every 16.
        for name in light:
            assert len(of(out[-1], name)) == (min(turn + 1, 2) if turn < 13 else 0)
        assert engine.busy <= {"evil"}
        assert len(out[-1]) <= 20 + 2 * 6
        turn += 1
    assert whole / 20 - 1 <= turn <= whole / 10
    assert sum(len(of(one, "evil")) for one in out) == whole


def test_devices_with_much_to_do_have_equal_shares():
    engine = Engine(SPEC)
    for _ in range(2):  # the first windows
        first = engine.feed(batch([m for i in range(3) for m in walk(f"d{i}", 50.0, 0.64, 32)]))
    del first
    lengths = {"d0": 3000, "d1": 800, "d2": 40}
    messages = [Message(name, T0_NS + 640_000_000, gait(n), 50.0) for name, n in lengths.items()]
    got = engine.feed(batch(messages), None, 30)  # 480 samples
    counts = {name: len(of(got, name)) for name in lengths}
    assert counts == {"d0": 13, "d1": 13, "d2": 2}
    assert engine.n_pending == 3000 + 800 - 440
    assert engine.busy == {"d0", "d1"}


def test_samples_that_are_interpolated_in_gaps_count_too():
    # At 32 times the rate of the grid, a gap of 0.18 s is 288 samples.
    rate_hz, gap_ns = 1600.0, 180_000_000
    messages = [Message("a", T0_NS + k * gap_ns, gait(1), rate_hz) for k in range(300)]
    engine = Engine(SPEC)
    out = [engine.feed(batch(messages), None, 100)]
    assert engine.n_pending > 50_000
    while engine.n_pending:
        out.append(engine.feed(batch([]), None, 100))
    assert len(out) > 50
    assert_same(WindowBatch.concatenate(out), feed(Engine(SPEC), messages))


def test_no_device_waits_for_a_crowd_and_each_moves_on():
    engine, n = Engine(SPEC), 200
    messages = [long_message(f"d{i}", 200) for i in range(n)]
    got = engine.feed(batch(messages), None, 1)
    assert len(got) == 0  # of each device 16 samples on the grid, and the first window has 32
    got = engine.feed(batch([]), None, 1)
    assert len(got) <= 1 + 2 * n
    for _ in range(110):
        got = engine.feed(batch([]), None, 1)
    assert not engine.n_pending


# --- what is pending -------------------------------------------------------------------------------------


def test_pending_samples_are_a_copy_and_only_what_is_left():
    message = long_message("a", 2000)
    engine, given_ = Engine(SPEC), batch([message])
    out = [engine.feed(given_, None, 10)]
    given_.samples[:] = 99
    assert engine._pending is not None
    left = engine.n_pending
    assert len(engine._pending.samples) == left < 2000
    out.append(engine.feed(batch([]), None, 10))
    assert len(engine._pending.samples) == engine.n_pending < left
    while engine.n_pending:
        out.append(engine.feed(batch([]), None, 500))
    assert engine._pending is None
    assert_same(WindowBatch.concatenate(out), feed(Engine(SPEC), [message]))


def test_a_device_with_pending_samples_is_not_idle():
    engine = Engine(SPEC)
    engine.feed(batch([long_message("a", 400), *walk("b", 50.0, 1.0)]), 100.0, 10)
    assert engine.busy == {"a"}
    assert engine.evict(200.0) == ["b"]
    while engine.n_pending:
        engine.feed(batch([]), 210.0, 5)
    assert engine.evict(205.0) == ["a"]


def test_a_snapshot_needs_all_samples_placed():
    engine = Engine(SPEC)
    engine.feed(batch([long_message("a", 400)]), None, 5)
    with pytest.raises(ValueError, match="pending"):
        engine.snapshot()
    while engine.n_pending:
        engine.feed(batch([]), None, 5)
    assert engine.snapshot()["devices"].tolist() == ["a"]


def test_windows_of_pending_samples_carry_the_arrival_of_their_message():
    early, late = (replace(m, arrival_s=at) for m, at in zip(cut(gait(400), 200), (50.0, 70.0), strict=True))
    engine = Engine(SPEC)
    out = [engine.feed(batch([early, late]), None, 3)]
    assert engine.pending_arrivals_s == [50.0, 70.0]
    while engine.n_pending:
        out.append(engine.feed(batch([]), None, 3))
    got = WindowBatch.concatenate(out)
    want = feed(Engine(SPEC), [early, late])
    assert got.arrival_s.tolist() == want.arrival_s.tolist()
    assert engine.pending_arrivals_s == []


# --- arithmetic --------------------------------------------------------------------------------------------


def test_doctests_pass():
    assert doctest.testmod(shares).failed == 0


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30), st.integers(0, 5000))
def test_equal_shares_use_all_of_the_total(wanted, total):
    share = equal_share(wanted, total)
    given_ = sum(min(one, share) for one in wanted)
    assert given_ == pytest.approx(min(total, sum(wanted)))


def test_an_empty_batch_without_pending_samples_is_nothing():
    none = SampleBatch.concatenate([batch([]), batch([])])
    assert len(Engine(SPEC).feed(none, None, 5)) == 0
