"""Clocks that jump: a device that reboots, a single wrong stamp, counters that wrap, a clock that is set."""

from dataclasses import replace

import numpy as np
import pytest

from harstream.core.batches import WindowBatch
from harstream.core.engine import Engine
from harstream.core.problems import Problem
from harstream.core.spec import SignalSpec

from ..constants import SECOND, T0_NS
from .streams import assert_same, begins_with, cut, feed, gait, part_of, restamped

SPEC = SignalSpec(window_samples=32, stride_samples=16)
BOTH_RATES = pytest.mark.parametrize("announced", [0.0, 50.0])
#: Messages of 25 samples, one each half second.
HALF = SECOND // 2


def stamped(stamps_ns, *, size=25, announced=0.0, seed=0):
    """Return messages with these stamps, which arrive in real time."""
    return restamped(cut(gait(size * len(stamps_ns), seed=seed), size, announced=announced), stamps_ns)


def every_half_second(from_ns, count):
    return [from_ns + k * HALF for k in range(count)]


def assert_begins_again(messages, jump, *, most=4, incidents=1, spec=SPEC):
    """Check that windows begin again with a message after ``jump``, the index of the first one on the new clock.

    Return how many messages are lost.
    """
    engine = Engine(spec)
    got = feed(engine, messages)
    before = feed(Engine(spec), messages[:jump])
    for lost in range(most + 1):
        after = feed(Engine(spec), messages[jump + lost :])
        if len(got) == len(before) + len(after):
            assert_same(got, WindowBatch.concatenate([before, after]))
            break
    else:
        pytest.fail(f"{len(got)} windows, {len(before)} of them before the jump: more than {most} messages are lost")
    found = engine.take_incidents()
    assert [incident.problem for incident in found] == [Problem.CLOCK] * incidents
    assert engine.stats.samples_late == sum(len(m) for m in messages[jump : jump + lost])
    assert engine.stats.restarts == 1
    if incidents:
        # from the time by the old clock to that by the new one
        text = f"from {(messages[jump - 1].t_ns + HALF) / SECOND:.3f} s to {messages[jump + lost].t_ns / SECOND:.3f} s"
        assert text in found[0].detail
    return lost


@BOTH_RATES
def test_after_a_reboot_the_third_message_begins_again(announced):
    stamps = every_half_second(1000 * SECOND, 120) + every_half_second(2 * SECOND, 80)
    assert assert_begins_again(stamped(stamps, announced=announced), 120) == 2


@BOTH_RATES
@pytest.mark.parametrize("wrap_ns", [2**32 * 1_000, 2**32 * 1_000_000], ids=["us", "ms"])
def test_after_a_32_bit_counter_wraps_the_third_message_begins_again(wrap_ns, announced):
    stamps = [t_ns % wrap_ns for t_ns in every_half_second(wrap_ns - 60 * SECOND + 34_000_000, 200)]
    assert assert_begins_again(stamped(stamps, announced=announced), 120) == 2


def test_after_an_hour_back_the_fifth_message_begins_again():
    # The new times lie within those that the clock has covered, so the messages might be ones delivered late.
    before = stamped([k * 10 * SECOND for k in range(720)], size=500)  # two hours
    back = stamped(every_half_second(3600 * SECOND + 137, 200), seed=1)
    engine = Engine(SignalSpec())
    got = feed(engine, before + back, [720])
    want = feed(Engine(SignalSpec()), back[4:])
    assert len(got) == (720 * 500 - 64) // 64 + len(want)
    assert_same(part_of(got, slice(-len(want), None)), want)
    assert (engine.stats.samples_late, engine.stats.restarts) == (100, 1)
    (incident,) = engine.take_incidents()
    assert "jumped by -3598.0 s, from 7200.000 s to 3602.000 s" in incident.detail


@BOTH_RATES
@pytest.mark.parametrize("wrong_ns", [4294967295 * SECOND, 1090 * SECOND, 7 * SECOND, 0])
def test_a_single_wrong_stamp_costs_its_message(wrong_ns, announced):
    stamps = every_half_second(1000 * SECOND, 300)
    stamps[120] = wrong_ns
    messages = stamped(stamps, announced=announced)
    engine = Engine(SPEC)
    assert_same(feed(engine, messages), feed(Engine(SPEC), messages[:120] + messages[121:]))
    assert (engine.stats.samples_late, engine.stats.restarts) == (25, 0)
    assert engine.take_incidents() == []


@BOTH_RATES
def test_a_clock_set_forward_begins_again_with_the_first_message(announced):
    # a board without battery: seconds since the start, then the time of day
    stamps = every_half_second(5 * SECOND, 40) + every_half_second(T0_NS, 80)
    assert assert_begins_again(stamped(stamps, announced=announced), 40) == 0


def test_a_pause_of_an_hour_is_no_jump():
    stamps = every_half_second(T0_NS, 40) + every_half_second(T0_NS + 3620 * SECOND, 200)
    messages = [*cut(gait(1000), 25), *cut(gait(5000, seed=1), 25, t_ns=T0_NS + 3620 * SECOND)]
    assert [m.t_ns for m in messages] == stamps
    assert assert_begins_again(messages, 40, incidents=0) == 0


@pytest.mark.parametrize("back_s", [0.04, 0.317, 0.5, 0.92])
@pytest.mark.parametrize("size", [1, 5, 20])
def test_a_clock_set_back_by_less_than_a_second_is_waited_for(back_s, size):
    # the samples of the time that comes twice are late, and the others go on
    signal = gait(800)
    messages = cut(signal, size)
    half, back_ns = len(messages) // 2, round(back_s * SECOND)
    messages = restamped(messages, [m.t_ns - (k >= half) * back_ns for k, m in enumerate(messages)])
    engine = Engine(SPEC)
    got = feed(engine, messages)
    late = round(back_s * 50)
    assert engine.stats.samples_late == late
    assert engine.stats.restarts == engine.stats.gaps == 0
    assert engine.take_incidents() == []
    kept = np.concatenate([signal[: half * size], signal[half * size + late :]])
    np.testing.assert_array_equal(got.windows, feed(Engine(SPEC), cut(kept, 10)).windows)


def test_each_of_several_jumps_is_named():
    stamps = [t_ns for reboot in range(4) for t_ns in every_half_second((40 - 10 * reboot) * 1000 * SECOND, 20)]
    engine = Engine(SPEC)
    feed(engine, stamped(stamps))
    incidents = engine.take_incidents()
    assert len(incidents) == 3
    assert all("its clock jumped by -10" in incident.detail for incident in incidents)


def test_the_problem_ends_after_a_minute():
    messages = stamped(every_half_second(1000 * SECOND, 20) + every_half_second(2 * SECOND, 200))
    got = feed(Engine(SPEC), messages)
    jumped = got.problems == Problem.CLOCK
    assert jumped.any()
    assert got.end_ns[jumped].max() < 64 * SECOND
    assert not got.problems[(got.end_ns > 64 * SECOND) & (got.start_ns < 1000 * SECOND)].any()
    assert not got.untrusted.any()  # the windows are right


def test_two_clocks_under_one_name_are_reported():
    # Two devices whose clocks are an hour apart take turns.
    one = cut(gait(5000), 25, announced=50.0)
    other = cut(gait(5000, seed=1), 25, announced=50.0, t_ns=T0_NS - 3600 * SECOND)
    other = restamped(other, [m.t_ns for m in other])
    engine = Engine(SPEC)
    got = feed(engine, [m for pair in zip(one, other, strict=True) for m in pair])
    assert_same(got, feed(Engine(SPEC), one))
    assert engine.stats.samples_late == 5000
    (incident,) = engine.take_incidents()
    assert incident.problem == Problem.CLOCK
    assert "two devices publish under this name" in incident.detail
    assert "-36" in incident.detail
    assert engine.problems_of(["a"]).tolist() == [Problem.CLOCK]


def test_stamps_without_any_sense_are_replaced_by_the_arrival():
    rng = np.random.default_rng(0)
    messages = stamped(rng.integers(0, 2 * 10**9, 120) * SECOND, announced=50.0)
    engine = Engine(SPEC)
    got = feed(engine, messages)
    assert begins_with(got, SPEC, messages, most=20) >= 10
    detail = [incident.detail for incident in engine.take_incidents() if incident.problem == Problem.STAMPS]
    assert len(detail) == 1
    assert "the last 10 stamps agree neither" in detail[0]


# --- repeated and reordered messages, right after a jump -----------------------------------------


@pytest.mark.parametrize("most", [1, 10, 64])
def test_messages_repeated_after_a_reboot_are_dropped(most):
    # A broker delivers again what it got no acknowledgement for: messages before and after the reboot.
    before, after = stamped(every_half_second(1000 * SECOND, 80)), stamped(every_half_second(2 * SECOND, 100), seed=1)
    straight, engine = Engine(SPEC), Engine(SPEC)
    want = feed(straight, before + after)
    again = (before + after[:4])[-most:]
    got = feed(engine, before + after[:4] + again + after[4:])
    assert_same(got, want)
    assert engine.stats.restarts == 1
    assert engine.stats.samples_late == straight.stats.samples_late + 25 * most
    assert len(engine.take_incidents()) == 1


def test_a_message_from_before_the_reboot_that_is_delivered_late_costs_only_itself():
    before, after = stamped(every_half_second(1000 * SECOND, 80)), stamped(every_half_second(2 * SECOND, 100), seed=1)
    straight, engine = Engine(SPEC), Engine(SPEC)
    want = feed(straight, before[:-2] + before[-1:] + after)
    got = feed(engine, before[:-2] + before[-1:] + after[:4] + before[-2:-1] + after[4:])
    assert_same(got, want)
    assert engine.stats.samples_late == straight.stats.samples_late + 25
    assert engine.stats.restarts == straight.stats.restarts == 1


def test_messages_that_change_places_during_the_jump_delay_it_by_a_few():
    before, after = stamped(every_half_second(1000 * SECOND, 20)), stamped(every_half_second(2 * SECOND, 100), seed=1)
    swapped = [after[1], after[0], *after[2:]]
    engine = Engine(SPEC)
    got = feed(engine, before + swapped)
    want = [feed(Engine(SPEC), messages) for messages in (before, after[3:])]
    assert_same(got, WindowBatch.concatenate(want))


def test_a_message_that_waits_counts_once_it_is_followed():
    # 20 messages, one an hour ahead: it is held, so nothing of it is late or accepted yet
    messages = stamped([*every_half_second(T0_NS, 20), T0_NS + 3600 * SECOND])
    engine = Engine(SPEC)
    feed(engine, messages)
    assert (engine.stats.samples_late, engine.stats.gaps, engine.stats.restarts) == (0, 0, 0)
    feed(engine, messages[-1:])  # repeated: still waits
    assert engine.stats.samples_late == 25
    following = stamped([T0_NS + 3600 * SECOND + HALF], seed=1)
    feed(engine, following)
    assert (engine.stats.samples_late, engine.stats.gaps, engine.stats.restarts) == (25, 1, 1)


def test_a_device_that_is_evicted_forgets_the_message_that_waits():
    messages = stamped([*every_half_second(T0_NS, 20), T0_NS + 3600 * SECOND])
    engine = Engine(SPEC)
    feed(engine, messages)
    assert engine._grid.timeline.jumps.held
    engine.evict(1e18)
    jumps = engine._grid.timeline.jumps
    assert not jumps.held
    assert jumps._held_samples == 0


def test_beyond_the_limit_messages_do_not_wait(monkeypatch):
    monkeypatch.setattr("harstream.core.jumps.MAX_HELD_SAMPLES", 60)
    engine = Engine(SPEC)
    feed(engine, [m for k in range(4) for m in cut(gait(50), 25, device=f"d{k}")])
    far = [m for k in range(4) for m in cut(gait(25), 25, device=f"d{k}", t_ns=T0_NS + 3600 * SECOND)]
    feed(engine, [replace(m, arrival_s=T0_NS / SECOND + 2) for m in far], [4])
    jumps = engine._grid.timeline.jumps
    assert len(jumps.held) == 2
    assert jumps._held_samples == 50
    assert engine.stats.restarts == 2  # of those that found no room
