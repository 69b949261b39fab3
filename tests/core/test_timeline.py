"""Event time through the engine, against the oracle: jitter, drift, gaps, late samples, measured rates."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harstream.core.engine import Engine
from harstream.core.spec import SignalSpec

from ..constants import SECOND, T0_NS
from . import oracle
from .arrivals import DeviceClock, arrivals, follow
from .streams import Message, assert_same, batch, begins_with, cut, feed, gait, restamped, unstamped

CHANNELS = ("total_acc_x", "total_acc_z", "body_acc_y", "gyro_x")
SPEC = SignalSpec(window_samples=32, stride_samples=16, channels=CHANNELS)
HOW = {"window": 32, "stride": 16, "channels": CHANNELS}
RATES = [20.0, 31.25, 50.0, 100.0, 104.0]


def check(clock, arrived, announced=None, atol_ns=1000.0, batches=None):
    """Check that the windows and counts of the engine are those of the oracle."""
    engine = Engine(SPEC)
    got = feed(engine, clock.messages(arrived, announced), batches)
    accepted = follow(arrived, clock.rate_hz, SPEC.max_gap_s)
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
@given(data=st.data(), pauses=st.booleans(), batches=st.lists(st.integers(1, 8), max_size=10))
@settings(max_examples=25)
def test_windows_are_the_oracles_through_gaps_jumps_and_late_repeated_and_wrong_messages(
    rate_hz, data, pauses, batches
):
    check(DeviceClock(rate_hz, pauses=pauses), data.draw(arrivals(rate_hz)), batches=batches)


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("inside", [False, True], ids=["before all", "into the past"])
@given(data=st.data(), batches=st.lists(st.integers(1, 8), max_size=10))
@settings(max_examples=6)
def test_windows_after_a_reset_are_those_of_a_new_device(rate_hz, inside, data, batches):
    # AAAA ... A | B0 B1 B2 ...    windows begin again with B2, or with B4 if the B are within the time of the A
    clock = DeviceClock(rate_hz, pauses=data.draw(st.booleans()))
    before = data.draw(arrivals(rate_hz))
    signal = gait(int(12 * rate_hz), rate_hz, seed=20)
    slot = max(part.slot + len(part.samples) for part in before if not part.wrong_s)
    before += [(slot + k, signal[k : k + 10]) for k in range(0, len(signal) - 10, 10)]
    accepted = follow(before, rate_hz, SPEC.max_gap_s)
    start, now_slot = accepted.pieces[-1].first_slot, before[-1][0] + 10
    after = data.draw(arrivals(rate_hz, most=20, first=6))
    # Five messages of at most 20 samples, or three.
    if inside:
        slots_back = data.draw(st.integers(int(101 + rate_hz), now_slot - start))
    else:
        slots_back = now_slot - start + 80 + data.draw(st.integers(0, int(1e8 * rate_hz)))
    reset = replace(clock, origin_ns=int(clock.ns(now_slot - slots_back)) + data.draw(st.integers(0, 10**6)))
    lost = 4 if inside else 2
    want = follow(after[lost:], rate_hz, SPEC.max_gap_s)

    messages = clock.messages(before) + reset.messages(after)
    messages = messages_with_repeated(data, messages, len(before) + lost + 1)
    repeated = sum(map(len, messages)) - sum(len(part[1]) for part in [*before, *after])
    engine = Engine(SPEC)
    got = feed(engine, messages, batches)
    late = accepted.late + sum(len(part.samples) for part in after[:lost]) + want.late + repeated
    stats = engine.stats
    assert stats.samples_late == late
    assert (stats.gaps, stats.restarts) == (accepted.gaps + want.gaps, accepted.restarts + 1 + want.restarts)
    parts = [oracle.expected(accepted, rate_hz, **HOW), oracle.expected(want, rate_hz, **HOW)]
    np.testing.assert_allclose(got.windows, np.concatenate([windows for windows, _ in parts]), atol=2e-6)
    times = np.concatenate([clock.ns(parts[0][1]), reset.ns(parts[1][1])])
    np.testing.assert_allclose(got.start_ns - times, 0, atol=1000)
    jumps = [incident.detail for incident in engine.take_incidents() if "its clock jumped by -" in incident.detail]
    assert len(jumps) == 1


def messages_with_repeated(data, messages, earliest):
    """Return the messages, and some of the newest 60 again in places after the first ``earliest``."""
    out = list(messages)
    for _ in range(data.draw(st.integers(0, 6))):
        place = data.draw(st.integers(earliest, len(out)))
        newest = [m for m in out[max(0, place - 60) : place] if abs(m.t_ns - out[place - 1].t_ns) < 10**17]
        out.insert(place, replace(data.draw(st.sampled_from(newest)), arrival_s=out[place - 1].arrival_s))
    return out


@given(data=st.data())
@settings(max_examples=25)
def test_samples_with_coarse_stamps_are_counted_whatever_the_messages(data):
    resolution_s = data.draw(st.sampled_from([1.0, 128.0]))
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=60, max_size=100))
    begin = T0_NS + data.draw(st.integers(0, SECOND))
    messages = cut(gait(sum(sizes)), sizes, t_ns=begin)
    step = round(resolution_s * SECOND)
    rounded = restamped(messages, [m.t_ns // step * step for m in messages])
    engine = Engine(SPEC)
    got = feed(engine, rounded, data.draw(st.lists(st.integers(1, 8), max_size=10)))
    assert begins_with(got, SPEC, messages, most=12) >= 1
    assert engine.stats.restarts <= 2
    assert len({incident.problem for incident in engine.take_incidents()}) == 1


@pytest.mark.parametrize("rate_hz", RATES)
@given(data=st.data(), drift=st.sampled_from([-0.02, -0.007, 0.003, 0.02]))
@settings(max_examples=15)
def test_a_drifting_clock_makes_neither_gaps_nor_late_samples(rate_hz, data, drift):
    period_ns = 1e9 / rate_hz
    check(
        DeviceClock(rate_hz, drift),
        data.draw(arrivals(rate_hz, mishaps=False, most=15)),
        atol_ns=32 * 0.02 * 2.5e7 + 0.5 * period_ns,
    )


@pytest.mark.parametrize("drift", [-0.02, 0.02])
@pytest.mark.parametrize("size", [1, 5, 10, 25])
def test_a_clock_two_percent_off_is_followed_from_the_first_message_on(size, drift):
    # 25 samples at 2 % are half a period: as much as is jitter and not yet a gap
    signal = gait(40 * size)
    arrived = [(slot, signal[slot : slot + size]) for slot in range(0, len(signal), size)]
    check(DeviceClock(50.0, drift), arrived, atol_ns=25e6)


@pytest.mark.parametrize("rate_hz", RATES)
@given(data=st.data(), seed=st.integers(0, 10_000))
@settings(max_examples=25)
def test_jitter_of_a_fifth_of_a_period_passes_by_count(rate_hz, data, seed):
    period_ns = 1e9 / rate_hz
    arrived = data.draw(arrivals(rate_hz, mishaps=False, most=15))
    check(DeviceClock(rate_hz, jitter=0.2, seed=seed), arrived, atol_ns=1.0 * period_ns + 32 * 0.02 * 2e7)


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
    clock = DeviceClock(rate_hz, drift)
    signal = gait(int(60 * rate_hz), rate_hz)
    arrived = [(slot, signal[slot : slot + 10]) for slot in range(0, len(signal) - 10, 10)]
    got = feed(Engine(SPEC), clock.messages(arrived))
    _, slots = oracle.expected(follow(arrived, rate_hz, 0.5), rate_hz, **HOW)
    late = len(slots) // 2
    np.testing.assert_allclose((got.start_ns - clock.ns(slots))[late:], 0, atol=2e6)
    np.testing.assert_allclose((got.end_ns - got.start_ns)[late:], 0.64e9 * (1 + drift), rtol=1e-3)


@pytest.mark.parametrize("missing", [1, 10, 25])
def test_a_gap_up_to_max_gap_s_is_bridged_by_a_straight_line(missing):
    ramp = np.repeat(np.arange(200, dtype=np.float32)[:, None], 6, axis=1)
    arrived = [(0, ramp[:20]), (20 + missing, ramp[20 + missing :])]  # on a ramp, the line is what was lost
    got = check(DeviceClock(50.0), arrived)
    want = feed(Engine(SPEC), cut(ramp, 200))
    np.testing.assert_allclose(got.windows, want.windows, atol=1e-3)


def test_a_gap_beyond_max_gap_s_restarts():
    # 0 ........ 99 |  26 lost  | 126 ........ 225      no window spans the gap
    signal = gait(226)
    clock, engine = DeviceClock(50.0), Engine(SPEC)
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
    got = feed(engine, DeviceClock(50.0).messages([(0, signal[:50]), (51, signal[51:])]))
    assert (engine.stats.gaps, engine.stats.restarts) == (1, 1)
    np.testing.assert_array_equal(got.start_ns, DeviceClock(50.0).ns([0, 16, 51, 67]))


def test_only_the_late_samples_of_a_message_are_dropped():
    # 0 ....... 39
    #        30 ....... 69      30 to 39 are late
    signal = gait(100)
    overlapping = signal[30:70].copy()
    overlapping[:10] = 99  # the samples accepted first stay
    engine = Engine(SPEC)
    arrived = [(0, signal[:40]), (30, overlapping), (70, signal[70:])]
    assert_same(feed(engine, DeviceClock(50.0).messages(arrived)), feed(Engine(SPEC), cut(signal, 20)))
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


# --- unstamped messages: arrival time stands in --------------------------------------------------


def arrivals_s(messages, delays_s, rate_hz=50.0):
    """Return the arrival times: when each message was sent, plus its delay, but in order."""
    sent = [m.t_ns / 1e9 + len(m) / rate_hz for m in messages]
    return np.maximum.accumulate(np.array(sent) + delays_s)


@given(data=st.data(), size=st.integers(1, 25))
@settings(max_examples=20)
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
    samples = gait(40 * rate_hz, rate_hz)
    messages = cut(samples, size, rate_hz=rate_hz)
    delays = np.random.default_rng(1).uniform(0, 0.05, len(messages))
    engine = Engine(SPEC)
    got = feed(engine, unstamped(messages, arrivals_s(messages, delays, rate_hz)))
    assert engine.stats.rates_measured == 1
    # Some seconds later the windows are of the right length and follow each other as they should.
    settled = got.end_ns[-60:]
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
