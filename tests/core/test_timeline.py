"""Event time through the engine, against the oracle: jitter, drift, gaps, late samples, measured rates."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harstream.core.engine import Engine
from harstream.core.spec import SignalSpec

from ..constants import SECOND, T0_NS
from . import oracle
from .streams import Message, assert_same, batch, cut, feed, gait, unstamped

CHANNELS = ("total_acc_x", "total_acc_z", "body_acc_y", "gyro_x")
SPEC = SignalSpec(window_samples=32, stride_samples=16, channels=CHANNELS)
HOW = {"window": 32, "stride": 16, "channels": CHANNELS}
RATES = [20.0, 31.25, 50.0, 100.0, 104.0]


# --- a device's stream: what arrives, in slots ----------------------------------------------


@dataclass(frozen=True)
class Clock:
    """Clock of a device, which stamps slot ``k`` with T0 + k periods, with a drift and jitter."""

    rate_hz: float
    drift: float = 0.0
    jitter: float = 0.0  # at most, in periods, in both directions
    seed: int = 0

    def messages(self, arrivals, announced=None):
        rng = np.random.default_rng(self.seed)
        period_ns = 1e9 / self.rate_hz * (1 + self.drift)
        stamps, out = {}, []
        for slot, samples in arrivals:
            if (slot, len(samples)) not in stamps:  # a repeated message repeats its stamp
                jitter = rng.uniform(-self.jitter, self.jitter)
                stamps[slot, len(samples)] = T0_NS + round((slot + jitter) * period_ns)
            t_ns = stamps[slot, len(samples)]
            out.append(Message("a", t_ns, samples, self.rate_hz if announced is None else announced))
        return out

    def ns(self, slots):
        return T0_NS + np.rint(np.asarray(slots) * 1e9 / self.rate_hz * (1 + self.drift)).astype(np.int64)


@st.composite
def arrivals(draw, rate_hz, mishaps=True, most=25):
    """Messages as (slot, samples) in order of arrival.

    Messages on time follow each mishap, because one that repeats would look like another rate.
    """
    signal = gait(int(100 * rate_hz), rate_hz, draw(st.integers(0, 9)))
    sizes = st.integers(1, most)
    out, at = [], 0

    def send(n, slot=None):
        nonlocal at
        slot = at if slot is None else slot
        out.append((slot, signal[slot : slot + n]))
        at = max(at, slot + n)

    for _ in range(draw(st.integers(2, 5))):
        send(draw(sizes))
    kinds = ["none", "short gap", "long gap", "repeat", "swap", "overlap"] if mishaps else ["none"]
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=3, max_size=9)):
        match kind:
            case "short gap":  # ####..####   up to max_gap_s
                at += draw(st.integers(1, int(0.5 * rate_hz)))
            case "long gap":  # ####.......####
                at += draw(st.integers(int(0.5 * rate_hz) + 1, int(5 * rate_hz)))
            case "repeat":  # 0000 1111 2222 | 0000 or 1111 or 2222 again
                out.append(draw(st.sampled_from(out[-6:])))
            case "swap":  # 0000 2222 1111
                first, second = draw(st.integers(1, int(0.4 * rate_hz))), draw(sizes)
                send(second, at + first)
                send(first, at - second - first)
            case "overlap":  # 0000 and from the middle of it 00111
                n = draw(st.integers(2, most)) if most > 1 else 1
                send(n, at - draw(st.integers(0, min(n - 1, len(out[-1][1])))))
        for _ in range(3):
            send(draw(sizes))
    return out


def check(clock, arrived, announced=None, atol_ns=1000.0):
    """Check that the windows and counts of the engine are those of the oracle."""
    engine = Engine(SPEC)
    got = feed(engine, clock.messages(arrived, announced))
    accepted = oracle.follow(arrived, clock.rate_hz, SPEC.max_gap_s)
    windows, slots = oracle.expected(accepted, clock.rate_hz, **HOW)
    stats = engine.stats
    assert (stats.samples_late, stats.gaps, stats.restarts) == (accepted.late, accepted.gaps, accepted.restarts)
    assert stats.rates_measured == stats.samples_rate == 0
    assert got.windows.shape == windows.shape
    np.testing.assert_allclose(got.windows, windows, atol=2e-6)
    np.testing.assert_allclose(got.start_ns - clock.ns(slots), 0, atol=atol_ns)
    length = (got.end_ns - got.start_ns) / (1 + clock.drift)
    np.testing.assert_allclose(length, 32 / 50 * SECOND, rtol=1e-6 if atol_ns <= 1000 else 0.05)
    return got


# --- stamped messages ----------------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", RATES)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_windows_are_the_oracles_through_gaps_late_and_repeated_messages(rate_hz, data):
    check(Clock(rate_hz), data.draw(arrivals(rate_hz)))


@pytest.mark.parametrize("rate_hz", RATES)
@given(data=st.data(), drift=st.sampled_from([-0.02, -0.007, 0.003, 0.02]))
@settings(max_examples=15, deadline=None)
def test_a_drifting_clock_makes_neither_gaps_nor_late_samples(rate_hz, data, drift):
    period_ns = 1e9 / rate_hz
    check(
        Clock(rate_hz, drift),
        data.draw(arrivals(rate_hz, mishaps=False, most=15)),
        atol_ns=32 * 0.02 * 2.5e7 + 0.5 * period_ns,
    )


@pytest.mark.parametrize("drift", [-0.02, 0.02])
@pytest.mark.parametrize("size", [1, 5, 10, 25])
def test_a_clock_two_percent_off_is_followed_from_the_first_message_on(size, drift):
    # 25 samples at 2 % are half a period: as much as is jitter and not yet a gap
    signal = gait(40 * size)
    arrived = [(slot, signal[slot : slot + size]) for slot in range(0, len(signal), size)]
    check(Clock(50.0, drift), arrived, atol_ns=25e6)


@pytest.mark.parametrize("rate_hz", RATES)
@given(data=st.data(), seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_jitter_of_a_fifth_of_a_period_passes_by_count(rate_hz, data, seed):
    period_ns = 1e9 / rate_hz
    arrived = data.draw(arrivals(rate_hz, mishaps=False, most=15))
    check(Clock(rate_hz, jitter=0.2, seed=seed), arrived, atol_ns=1.0 * period_ns + 32 * 0.02 * 2e7)


@pytest.mark.parametrize("size", [1, 5, 10, 25])
def test_jitter_makes_no_gap_in_the_streams_of_a_hundred_devices(size):
    rng = np.random.default_rng(1)
    engine, devices = Engine(SPEC), [str(i) for i in range(100)]
    signal = gait(size)
    for k in range(30):
        jitter = rng.uniform(-0.2, 0.2, 100)
        stamps = (T0_NS + np.rint((k * size + jitter) * 2e7).astype(np.int64)).tolist()
        engine.feed(batch([Message(name, t_ns, signal) for name, t_ns in zip(devices, stamps, strict=True)]))
    assert (engine.stats.gaps, engine.stats.samples_late, engine.stats.restarts) == (0, 0, 0)


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("drift", [-0.02, -0.005, 0.005, 0.02])
def test_after_a_while_the_event_times_are_those_of_the_drifting_clock(rate_hz, drift):
    clock = Clock(rate_hz, drift)
    signal = gait(int(60 * rate_hz), rate_hz)
    arrived = [(slot, signal[slot : slot + 10]) for slot in range(0, len(signal) - 10, 10)]
    got = feed(Engine(SPEC), clock.messages(arrived))
    _, slots = oracle.expected(oracle.follow(arrived, rate_hz, 0.5), rate_hz, **HOW)
    late = len(slots) // 2
    np.testing.assert_allclose((got.start_ns - clock.ns(slots))[late:], 0, atol=2e6)
    np.testing.assert_allclose((got.end_ns - got.start_ns)[late:], 0.64e9 * (1 + drift), rtol=1e-3)


@pytest.mark.parametrize("missing", [1, 10, 25])
def test_a_gap_up_to_max_gap_s_is_bridged_by_a_straight_line(missing):
    ramp = np.repeat(np.arange(200, dtype=np.float32)[:, None], 6, axis=1)
    arrived = [(0, ramp[:20]), (20 + missing, ramp[20 + missing :])]  # on a ramp, the line is what was lost
    got = check(Clock(50.0), arrived)
    want = feed(Engine(SPEC), cut(ramp, 200))
    np.testing.assert_allclose(got.windows, want.windows, atol=1e-3)


def test_a_gap_beyond_max_gap_s_restarts():
    # 0 ........ 99 |  26 lost  | 126 ........ 225      no window spans the gap
    signal = gait(226)
    clock, engine = Clock(50.0), Engine(SPEC)
    got = feed(engine, clock.messages([(0, signal[:100]), (126, signal[126:])]))
    assert (engine.stats.gaps, engine.stats.restarts) == (1, 1)
    starts = [0, 16, 32, 48, 64, 126, 142, 158, 174, 190]
    np.testing.assert_array_equal(got.start_ns, clock.ns(starts))
    alone = feed(Engine(SPEC), clock.messages([(126, signal[126:])]))
    np.testing.assert_array_equal(got.windows[5:], alone.windows)


def test_without_a_tolerance_any_missing_sample_restarts():
    spec = replace(SPEC, max_gap_s=0.0)
    signal = gait(101)
    engine = Engine(spec)
    got = feed(engine, Clock(50.0).messages([(0, signal[:50]), (51, signal[51:])]))
    assert (engine.stats.gaps, engine.stats.restarts) == (1, 1)
    np.testing.assert_array_equal(got.start_ns, Clock(50.0).ns([0, 16, 51, 67]))


def test_only_the_late_samples_of_a_message_are_dropped():
    # 0 ....... 39
    #        30 ....... 69      30 to 39 are late
    signal = gait(100)
    overlapping = signal[30:70].copy()
    overlapping[:10] = 99  # the samples accepted first stay
    engine = Engine(SPEC)
    arrived = [(0, signal[:40]), (30, overlapping), (70, signal[70:])]
    assert_same(feed(engine, Clock(50.0).messages(arrived)), feed(Engine(SPEC), cut(signal, 20)))
    assert engine.stats.samples_late == 10


@pytest.mark.parametrize("size", [1, 10, 25])
def test_a_stream_of_which_every_message_comes_twice_is_the_stream(size):
    messages = cut(gait(400), size)
    engine = Engine(SPEC)
    assert_same(feed(engine, [m for m in messages for _ in range(2)]), feed(Engine(SPEC), messages))
    assert (engine.stats.samples_late, engine.stats.rates_measured, engine.stats.gaps) == (400, 0, 0)


def test_a_whole_stream_sent_again_is_late_altogether():
    messages = cut(gait(400), 20)
    engine = Engine(SPEC)
    assert_same(feed(engine, messages * 3), feed(Engine(SPEC), messages))
    assert engine.stats.samples_late == 800


def test_a_message_repeated_after_a_change_of_rate_is_harmless():
    # 50 50 50 50 | 100 100 [50 again] 100 100
    slow = cut(gait(200), 20, announced=50.0)
    fast = cut(gait(800, 100.0), 20, rate_hz=100.0, announced=100.0, t_ns=T0_NS + 4 * SECOND)
    engine, clean = Engine(SPEC), Engine(SPEC)
    got = feed(engine, [*slow, *fast[:20], slow[-1], slow[0], *fast[20:]])
    assert_same(got, feed(clean, slow + fast))
    assert engine.stats.restarts == clean.stats.restarts == 1
    assert engine.stats.samples_late == 40


def test_a_device_that_announces_the_rate_it_measured_is_not_restarted_by_every_message():
    rng = np.random.default_rng(1)
    messages = [replace(m, rate_hz=50 + rng.normal(0, 0.2)) for m in cut(gait(1000), 20)]
    engine = Engine(SPEC)
    got = feed(engine, messages)
    assert (engine.stats.restarts, engine.stats.gaps, engine.stats.samples_late) == (0, 0, 0)
    np.testing.assert_array_equal(got.windows, feed(Engine(SPEC), cut(gait(1000), 20)).windows)


# --- the spacing of messages overrides what they announce ----------------------------------------


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
    messages = cut(gait(int(60 * rate_hz), rate_hz), size, rate_hz=rate_hz)
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


# --- unstamped messages: arrival time stands in --------------------------------------------------


def arrivals_s(messages, delays_s, rate_hz=50.0):
    """Return the arrival times: when each message was sent, plus its delay, but in order."""
    sent = [m.t_ns / 1e9 + len(m) / rate_hz for m in messages]
    return np.maximum.accumulate(np.array(sent) + delays_s)


@given(data=st.data(), size=st.integers(1, 25))
@settings(max_examples=20, deadline=None)
def test_network_stalls_up_to_max_gap_s_make_neither_gaps_nor_late_samples(data, size):
    messages = cut(gait(400), size)
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    delays = rng.uniform(0, 0.02, len(messages))
    for start in data.draw(st.lists(st.integers(0, len(messages) - 1), max_size=4, unique_by=lambda i: i // 50)):
        delays[start] += data.draw(st.floats(0.05, 0.4))  # all behind it in the queue arrive in one burst
    engine = Engine(SPEC)
    late = unstamped(messages, arrivals_s(messages, delays))
    got = feed(engine, late, [len(late)])
    assert (engine.stats.gaps, engine.stats.samples_late, engine.stats.restarts) == (0, 0, 0)
    stamped = feed(Engine(SPEC), messages, [len(messages)])
    np.testing.assert_array_equal(got.windows, stamped.windows)
    np.testing.assert_allclose(got.start_ns - stamped.start_ns, 0, atol=0.7e9)


def test_a_silence_longer_than_max_gap_s_restarts_an_unstamped_device():
    messages = cut(gait(600), 10)
    delays = np.where(np.arange(60) < 30, 0.0, 3.0)
    engine = Engine(SPEC)
    got = feed(engine, unstamped(messages, arrivals_s(messages, delays)))
    assert (engine.stats.gaps, engine.stats.restarts, engine.stats.samples_late) == (1, 1, 0)
    halves = [feed(Engine(SPEC), half) for half in (messages[:30], messages[30:])]
    np.testing.assert_array_equal(got.windows, np.concatenate([half.windows for half in halves]))


def test_the_time_of_an_unstamped_window_ends_when_its_last_sample_arrives():
    messages = cut(gait(640), 16)
    got = feed(Engine(SPEC), unstamped(messages, arrivals_s(messages, 0.0)))
    np.testing.assert_allclose(got.end_ns / 1e9 - got.arrival_s, 0, atol=1e-3)


@pytest.mark.parametrize(("rate_hz", "size"), [(20, 1), (20, 10), (25, 1), (100, 25), (104, 1)])
def test_the_rate_of_an_unstamped_device_that_announces_none_is_found_from_arrivals(rate_hz, size):
    samples = gait(60 * rate_hz, rate_hz)
    messages = cut(samples, size, rate_hz=rate_hz)
    delays = np.random.default_rng(1).uniform(0, 0.05, len(messages))
    engine = Engine(SPEC)
    got = feed(engine, unstamped(messages, arrivals_s(messages, delays, rate_hz)))
    assert engine.stats.rates_measured == 1
    # Some seconds later the windows are of the right length and follow each other as they should.
    settled = got.end_ns[-100:]
    np.testing.assert_allclose(np.diff(settled).mean() / SECOND, SPEC.stride_samples / 50, rtol=0.05)
    np.testing.assert_allclose(np.diff(settled), np.diff(settled).mean(), rtol=0.2)


def test_a_network_that_stalls_does_not_change_the_rate_of_an_unstamped_device():
    messages = cut(gait(3000), 25)
    delays = np.zeros(len(messages))
    delays[20::30] = 0.45
    engine = Engine(SPEC)
    feed(engine, unstamped(messages, np.maximum.accumulate(arrivals_s(messages, delays))))
    assert engine.stats.rates_measured == 0
    assert engine.stats.gaps == 0
