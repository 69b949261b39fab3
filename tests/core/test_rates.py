"""Measured rates: the spacing of messages overrides what they announce."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harstream.core.engine import Engine
from harstream.core.spec import SignalSpec

from ..constants import SECOND, T0_NS
from .streams import cut, feed, gait

CHANNELS = ("total_acc_x", "total_acc_z", "body_acc_y", "gyro_x")
SPEC = SignalSpec(window_samples=32, stride_samples=16, channels=CHANNELS)


def assert_learnt(messages, rate_hz, by_s):
    """Check that the rate is measured once, before ``by_s``, and that the windows are then as if it were announced."""
    engine = Engine(SPEC)
    got = feed(engine, messages, [len(messages)])
    assert engine.stats.rates_measured == 1
    found = 0
    while (messages[found].t_ns - T0_NS) / SECOND < by_s:
        rest = np.concatenate([m.samples for m in messages[found:]])
        want = feed(Engine(SPEC), [replace(messages[found], samples=rest, rate_hz=rate_hz)])
        n = len(want)
        if n <= len(got) and np.array_equal(got.windows[-n:], want.windows):
            np.testing.assert_allclose(got.start_ns[-n:] - want.start_ns, 0, atol=1000)
            return
        found += 1
    pytest.fail(f"no message within {by_s} s from which on the windows are those of {rate_hz} Hz")


@pytest.mark.parametrize("announced", [0.0, 50.0])
@pytest.mark.parametrize("rate_hz", [20.0, 25.0, 31.25, 40.0, 100.0])
@pytest.mark.parametrize("size", [1, 5, 10, 25])
def test_the_spacing_of_messages_overrides_the_announced_rate(announced, rate_hz, size):
    messages = cut(gait(int(20 * rate_hz), rate_hz), size, rate_hz=rate_hz, announced=announced)
    assert_learnt(messages, rate_hz, by_s=max(40, 8 * size) / rate_hz)


@pytest.mark.parametrize("rate_hz", [10.0, 12.5, 200.0, 400.0])
@pytest.mark.parametrize("size", [1, 7, 25, 50])
def test_without_an_announced_rate_any_that_can_be_resampled_is_found(rate_hz, size):
    seconds = 60 if rate_hz < 50 else 3000 / rate_hz
    messages = cut(gait(int(seconds * rate_hz), rate_hz), size, rate_hz=rate_hz)
    assert_learnt(messages, rate_hz, by_s=max(40, 8 * size) / rate_hz)


@pytest.mark.parametrize("rate_hz", [20.0, 25.0, 40.0])
@pytest.mark.parametrize("seed", range(4))
def test_flat_single_samples_without_a_rate_are_measured_through_jitter(rate_hz, seed):
    rng = np.random.default_rng(seed)
    messages = cut(gait(int(15 * rate_hz), rate_hz), 1, rate_hz=rate_hz)
    messages = [replace(m, t_ns=m.t_ns + round(rng.uniform(-0.2, 0.2) * 1e9 / rate_hz)) for m in messages]
    engine = Engine(SPEC)
    got = feed(engine, messages, [len(messages)])
    assert engine.stats.rates_measured == 1
    right = feed(Engine(SPEC), [replace(m, rate_hz=rate_hz) for m in messages], [len(messages)])
    assert len(got) > 0.7 * len(right)
    tail = got.end_ns > T0_NS + 5 * SECOND
    np.testing.assert_allclose((got.end_ns - got.start_ns)[tail], 0.64e9, rtol=0.02)


@pytest.mark.parametrize("size", [1, 5, 20])
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_a_few_lost_messages_do_not_change_the_rate(size, data):
    messages = cut(gait(1200), size)
    lost = set()
    for start in data.draw(st.lists(st.integers(1, len(messages) - 1), max_size=6)):
        lost |= set(range(start, start + data.draw(st.integers(1, 3))))
    engine = Engine(SPEC)
    arrived = [m for i, m in enumerate(messages) if i not in lost]
    feed(engine, arrived, [len(arrived)])
    assert engine.stats.rates_measured == 0
    assert engine.stats.samples_late == 0


def test_every_second_message_lost_for_a_while_does_not_change_the_rate():
    messages = cut(gait(1200), 10)
    engine = Engine(SPEC)
    feed(engine, messages[:40] + messages[40:50:2] + messages[50:])
    assert engine.stats.rates_measured == 0
    assert engine.stats.gaps == 5


@pytest.mark.parametrize("messages_in_burst", [2, 5, 10])
def test_a_device_that_sends_in_bursts_is_not_mistaken_for_a_fast_one(messages_in_burst):
    # ## ## ## ....... ## ## ## ....... each message is stamped when sent, so a burst's nearly alike
    messages = cut(gait(2000), 10)
    burst_ns = messages_in_burst * 10 * 20_000_000
    stamped = [
        replace(m, t_ns=T0_NS + i // messages_in_burst * burst_ns + i % messages_in_burst * 2_000_000)
        for i, m in enumerate(messages)
    ]
    engine = Engine(SPEC)
    feed(engine, stamped)
    assert engine.stats.rates_measured == 0


def test_a_device_that_only_sends_now_and_then_is_not_mistaken_for_a_slow_one():
    # ##### 1 s of samples in five messages, then nothing for 1 s: right on average for 25 Hz
    messages = [m for i, m in enumerate(cut(gait(3000), 10)) if i // 5 % 2 == 0]
    engine = Engine(SPEC)
    feed(engine, messages)
    assert engine.stats.rates_measured == 0


@pytest.mark.parametrize("announced", [0.0, 50.0])
@pytest.mark.parametrize("size", [1, 25])
@pytest.mark.parametrize("drift", [-0.05, -0.0309, -0.0305, -0.03, 0.03, 0.0305, 0.0309, 0.05])
def test_a_clock_up_to_five_percent_off_is_followed_without_a_restart(drift, size, announced):
    messages = cut(gait(1500), size, rate_hz=50.0 / (1 + drift), announced=announced)
    engine = Engine(SPEC)
    got = feed(engine, messages, [len(messages)])
    assert (engine.stats.restarts, engine.stats.rates_measured) == (0, 0)
    # While the drift is being learnt, a few samples are late or interpolated.
    assert engine.stats.samples_late + engine.stats.gaps < 20
    assert abs(len(got) - (1500 - 32) // 16 - 1) <= 1
    settled = np.diff(got.end_ns[len(got) // 2 :])
    np.testing.assert_allclose(settled, 16 / 50 * SECOND * (1 + drift), rtol=0.01)
