"""Stamps that are too coarse or in another unit: the samples are counted, or placed by the arrival."""

from dataclasses import replace

import numpy as np
import pytest

from harstream.core.engine import Engine
from harstream.core.health import HealthTable
from harstream.core.problems import Problem
from harstream.core.spec import SignalSpec
from harstream.core.stamps import (
    BELIEVE_COARSE,
    BELIEVE_UNUSABLE,
    COARSE,
    EXACT,
    REMEMBERED,
    UNUSABLE,
    StampedMessages,
    Stamps,
    fingerprints,
)

from ..constants import SECOND, T0_NS
from .streams import Message, batch, begins_with, cut, feed, gait, restamped

SPEC = SignalSpec(window_samples=32, stride_samples=16)
BOTH_RATES = pytest.mark.parametrize("announced", [0.0, 50.0])
SECONDS_S = T0_NS // SECOND


def stamped(stamp_s, size, announced=0.0, *, seconds=None):
    """Return messages stamped ``stamp_s(t_s)`` at the time ``t_s`` since the start, which arrive in real time."""
    seconds = seconds or (40 if size > 1 else 12)
    messages = cut(gait(seconds * 50), size, announced=announced)
    return restamped(messages, [round(stamp_s(k * size / 50) * SECOND) for k in range(len(messages))])


def incidents(engine, problem=Problem.STAMPS):
    """Return the details of all incidents, which must be of one problem."""
    found = engine.take_incidents()
    assert {incident.problem for incident in found} <= {problem}
    return [incident.detail for incident in found]


def assert_counted(messages, *, most, restarts=1):
    """Check that the windows are those of counting from one of the first messages on. Return the incidents."""
    engine = Engine(SPEC)
    got = feed(engine, messages)
    begins_with(got, SPEC, messages, most)
    assert engine.stats.restarts <= restarts
    # by arrival or stamp, the times are right to within a second
    np.testing.assert_allclose(got.end_ns[-20:] / SECOND, got.arrival_s[-20:], atol=1.2)
    return incidents(engine)


# --- too coarse ----------------------------------------------------------------------------------


@BOTH_RATES
@pytest.mark.parametrize("phase_s", [0.0, 0.3, 0.77])
@pytest.mark.parametrize("size", [1, 5, 25, 75])
def test_samples_with_stamps_of_whole_seconds_are_counted(size, phase_s, announced):
    messages = stamped(lambda t_s: SECONDS_S + np.floor(phase_s + t_s), size, announced)
    (detail,) = assert_counted(messages, most=max(2, 20 // size), restarts=2)
    assert "its stamps are rounded" in detail


def test_the_issues_56_messages_are_counted_from_the_second_on():
    messages = restamped(cut(gait(1400), 25, announced=50.0), [k // 2 * SECOND for k in range(56)])
    engine = Engine(SignalSpec())
    got = feed(engine, messages)
    want = feed(Engine(SignalSpec()), cut(gait(1400)[25:], 25))
    np.testing.assert_array_equal(got.windows, want.windows)
    assert len(got) == 20
    assert engine.stats.samples_late == engine.stats.gaps == 0


@BOTH_RATES
@pytest.mark.parametrize("size", [50, 100])
def test_whole_seconds_that_are_right_are_no_problem(size, announced):
    messages = stamped(lambda t_s: SECONDS_S + t_s, size, announced)
    engine = Engine(SPEC)
    got = feed(engine, messages)
    np.testing.assert_array_equal(got.windows, feed(Engine(SPEC), cut(gait(2000), size)).windows)
    assert engine.take_incidents() == []
    assert engine.stats.restarts == 0


@BOTH_RATES
@pytest.mark.parametrize("size", [1, 5, 25, 50])
def test_samples_with_epoch_times_in_32_bit_floats_are_counted(size, announced):
    # such a float holds only every 128th second
    messages = stamped(lambda t_s: float(np.float32(SECONDS_S + 0.3 + t_s)), size, announced)
    details = assert_counted(messages, most=1)
    assert "a 32-bit float holds no such time" in details[-1]


@pytest.mark.parametrize("size", [1, 5, 25])
def test_a_device_with_coarse_stamps_restarts_after_a_long_silence_only(size):
    def floor(t_s):
        return SECONDS_S + np.floor(t_s)

    before, after = stamped(floor, size, seconds=10), stamped(floor, size, seconds=10)
    engine = Engine(SPEC)
    later = [replace(m, t_ns=m.t_ns + 15 * SECOND, arrival_s=m.arrival_s + 15) for m in after]
    got = feed(engine, before + later)
    want = [feed(Engine(SPEC), cut(gait(500), 10)), feed(Engine(SPEC), cut(gait(500)[size:], 10))]
    assert len(got) in (len(want[0]) + len(want[1]), 2 * len(want[1]))
    np.testing.assert_array_equal(got.windows[-len(want[0]) :], want[0].windows)  # from the first message on
    assert engine.stats.gaps == 1


def test_exact_stamps_are_believed_again_after_a_while():
    coarse = [SECONDS_S + k // 2 for k in range(40)]
    exact = [SECONDS_S + k / 2 for k in range(40, 40 + BELIEVE_COARSE + 60)]
    messages = restamped(cut(gait(25 * (100 + BELIEVE_COARSE)), 25), [round(t_s * SECOND) for t_s in coarse + exact])
    engine = Engine(SPEC)
    feed(engine, messages[:-40])
    assert engine.problems_of(["a"]).tolist() == [0]
    restarts = engine.stats.restarts
    assert restarts == 1  # the count goes on
    feed(engine, messages[-40:-30] + messages[-28:])  # 2 messages lost: 50 samples are missing
    assert engine.stats.restarts == restarts + 1


# --- another unit --------------------------------------------------------------------------------


@BOTH_RATES
@pytest.mark.parametrize("size", [1, 5, 25])
@pytest.mark.parametrize(("factor", "unit"), [(1e3, "ms"), (1e6, "us")])
def test_milliseconds_taken_for_seconds_are_replaced_by_the_arrival(factor, unit, size, announced):
    messages = stamped(lambda t_s: factor * (5 + t_s), size, announced)
    (detail,) = assert_counted(messages, most=3, restarts=3)
    assert f"t seems to be in {unit}: send it as t_{unit}" in detail
    assert f"{factor:.3g} times as fast" in detail


@pytest.mark.parametrize("size", [25, 100])
def test_seconds_taken_for_milliseconds_are_replaced(size):
    # 0.5 ms for each half second
    messages = stamped(lambda t_s: (SECONDS_S + t_s) / 1e3, size, 50.0)
    details = assert_counted(messages, most=3, restarts=3)
    assert "such as s in t_ms" in details[-1]


def test_a_device_whose_unit_is_put_right_is_served_by_its_stamps_again():
    wrong = stamped(lambda t_s: 1e3 * (5 + t_s), 25)[:20]
    right = stamped(lambda t_s: SECONDS_S + t_s, 25)
    right = [replace(m, arrival_s=m.arrival_s + 10) for m in right]
    engine = Engine(SPEC)
    got = feed(engine, wrong + right)
    assert begins_with(got, SPEC, right, most=BELIEVE_UNUSABLE + 2) >= 3
    np.testing.assert_allclose(got.end_ns[-1] / SECOND, SECONDS_S + 40, atol=1)  # event times, not arrivals
    assert engine.problems_of(["a"]).tolist() == [0]


def test_a_system_clock_that_is_set_back_does_not_stop_devices_without_stamps():
    # Arrival times follow the clock of the daemon's machine.
    messages = [replace(m, stamped=False) for m in stamped(lambda t_s: t_s, 10, seconds=20)]
    back = [replace(m, arrival_s=m.arrival_s - 3600 * (k >= 50)) for k, m in enumerate(messages)]
    engine = Engine(SPEC)
    got = feed(engine, back)
    np.testing.assert_array_equal(got.windows, feed(Engine(SPEC), messages).windows)
    assert (engine.stats.restarts, engine.stats.gaps, engine.stats.samples_late) == (0, 0, 0)
    assert got.end_ns[-1] / SECOND == pytest.approx(back[-1].arrival_s, abs=0.2)
    assert engine.take_incidents() == []


def test_a_device_at_rest_with_a_coarse_sensor_and_whole_seconds_keeps_its_messages_and_its_rate():
    # Most messages begin with the same sample, and ten of them in turn have the same stamp.
    noise = np.random.default_rng(1).normal(0, 0.001, (3000, 3))
    rest = np.zeros((3000, 6))
    rest[:, :3] = np.round((np.array([0.1, 0.2, 0.97]) + noise) * 256) / 256
    messages = cut(rest.astype(np.float32), 10, announced=50.0)
    engine = Engine(SPEC)
    got = feed(engine, restamped(messages, [m.t_ns // SECOND * SECOND for m in messages]))
    assert engine.stats.samples_late < 150
    assert engine.health().rate_hz.tolist() == [50.0]
    assert len(got) > 0.9 * (3000 // SPEC.stride_samples - 1)
    assert len(incidents(engine)) == 1


# --- parts ---------------------------------------------------------------------------------------


def message(t_ns, seed=0, count=5):
    return Message("a", t_ns, gait(count, seed=seed))


def check(stamps, t_ns, seed, *, announced=False, span_ns=100e6):
    """Judge one stamp of row 1; ``seed`` tells the message apart."""
    one = np.ones(1, np.int64)
    return stamps.check(
        StampedMessages(one, one * t_ns, one > 0, one * span_ns, np.array([announced]), one * seed, one * seed)
    )


def test_fingerprints_tell_messages_apart():
    messages = [
        message(T0_NS),
        message(T0_NS + 1),
        message(T0_NS, seed=1),
        message(T0_NS, count=6),
        *(message(T0_NS + k * 20_000_000, seed=k) for k in range(2, 300)),
    ]
    made = batch([*messages, messages[0]])
    whole, begin = fingerprints(made, np.cumsum(made.counts) - made.counts)
    assert whole[-1] == whole[0]
    assert len(set(whole.tolist())) == len(messages)
    assert begin[0] == begin[1] == begin[3] != begin[2]


def test_64_messages_are_remembered():
    stamps = Stamps(2, HealthTable(2))
    for k in range(1, 101):
        check(stamps, k * 100_000_000, k)
    row = np.ones(1, np.int64)
    remembered = [bool(stamps.is_repeated(row, np.array([k], np.int32))[0]) for k in range(1, 102)]
    assert remembered == [k > 100 - REMEMBERED and k <= 100 for k in range(1, 102)]
    assert not stamps.is_repeated(np.zeros(1, np.int64), np.array([100], np.int32))[0]  # of another row


def test_the_same_stamp_with_other_samples_is_coarse_but_not_after_older_ones():
    health = HealthTable(2)
    stamps = Stamps(2, health)
    check(stamps, 10**9, 1)
    assert check(stamps, 10**9, 1).repeated[0]
    assert stamps.mode[1] == EXACT
    check(stamps, 10**9 - 50_000_000, 2)  # the clock was set back by half a message ...
    verdict = check(stamps, 10**9, 3)  # ... and meets the same time again
    assert (stamps.mode[1], bool(verdict.restart[0])) == (EXACT, False)
    check(stamps, 2 * 10**9, 4)
    verdict = check(stamps, 2 * 10**9, 5)
    assert (stamps.mode[1], bool(verdict.restart[0])) == (COARSE, True)
    assert verdict.resolution_ns[0] == 200e6  # so far
    for k in range(6, 26):
        verdict = check(stamps, 2 * 10**9, k)
    assert stamps.mode[1] == UNUSABLE
    assert not verdict.usable[0]
    assert [row for row, _, _ in health.incidents] == [1, 1]


@pytest.mark.parametrize(
    ("step_ns", "announced", "mode"),
    [
        (29e9, False, EXACT),
        (31e9, False, UNUSABLE),
        (11e6, True, EXACT),
        (9e6, True, UNUSABLE),
        (9e6, False, EXACT),  # ten times faster than the model's rate may be true
        (0.9e6, False, UNUSABLE),
    ],
)
def test_three_stamps_at_an_impossible_speed_are_not_used(step_ns, announced, mode):
    # the samples of a message span 0.1 s
    stamps = Stamps(2, HealthTable(2))
    modes = []
    for k in range(1, 5):
        check(stamps, round(k * step_ns), k, announced=announced)
        modes.append(int(stamps.mode[1]))
    assert modes == [EXACT, EXACT, EXACT, mode]
