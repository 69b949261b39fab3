"""Devices that pause, and problems that end with their cause."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harstream.core.engine import Engine
from harstream.core.problems import Problem
from harstream.core.spec import SignalSpec

from ..constants import T0_NS
from .streams import Message, assert_same, batch, cut, feed, gait

SPEC = SignalSpec(sample_rate_hz=50.0, window_samples=128, stride_samples=64)
SECOND = 1_000_000_000


def arriving(messages, pause_s=0.0, after=0):
    """Return messages that arrive when their last sample was taken, with a pause after some of them."""
    paused = [replace(m, t_ns=m.t_ns + (round(pause_s * SECOND) if k >= after else 0)) for k, m in enumerate(messages)]
    return [replace(m, arrival_s=m.t_ns / 1e9 + len(m) / 50.0) for m in paused]


@pytest.mark.parametrize("together", [1, 7, 120])
def test_a_pause_is_no_jump_of_the_clock_however_messages_arrive(together):
    messages = arriving(cut(gait(3000), 25), pause_s=30.0, after=60)
    engine = Engine(SPEC)
    got = feed(engine, messages, [together] * (len(messages) // together))
    assert engine.take_incidents() == []
    assert engine.health().restarts.tolist() == [1]
    want = feed(Engine(SPEC), messages)
    assert len(want) == 44
    assert_same(got, want)


def test_windows_after_a_pause_are_due_at_once():
    # A device that saves energy: ten seconds in one message, then nothing for the rest of a minute.
    engine = Engine(SPEC)
    bursts = [Message("a", T0_NS + k * 60 * SECOND, gait(500, seed=k), 50.0) for k in range(5)]
    assert [len(engine.feed(batch([m]))) for m in arriving(bursts)] == [6] * 5


def test_a_backlog_from_another_time_is_a_jump():
    messages = arriving(cut(gait(1500), 25))
    jumped = [replace(m, t_ns=m.t_ns + 3600 * SECOND) if k >= 30 else m for k, m in enumerate(messages)]
    engine = Engine(SPEC)
    assert len(feed(engine, jumped)) == 2 * (750 // 64 - 1)
    [incident] = engine.take_incidents()
    assert incident.problem == Problem.CLOCK
    assert "jumped by +3600.0 s" in incident.detail


def test_one_unusable_rate_is_a_problem_until_the_next_usable_one():
    messages = cut(gait(1500), 25, announced=50.0)
    engine = Engine(SPEC)
    feed(engine, [*messages[:30], replace(messages[30], rate_hz=0.5)])
    assert engine.health().problems.tolist() == [Problem.RATE]
    feed(engine, messages[31:])
    assert engine.health().problems.tolist() == [0]


def test_one_unusable_rate_does_not_end_the_problem_of_a_false_one():
    messages = cut(gait(1500), 25, announced=100.0)
    engine = Engine(SPEC)
    feed(engine, [*messages[:30], replace(messages[30], rate_hz=0.5), *messages[31:]])
    assert engine.health().problems.tolist() == [Problem.RATE]


def test_a_false_rate_stays_a_problem_when_windows_fill_again():
    # Announced twice as high; then short stretches that fill no window; then a long one that does.
    messages = cut(gait(3000, 25.0), 5, rate_hz=25.0, announced=50.0)
    stretches = [m for k in range(35, 155, 10) for m in messages[k : k + 3]]
    engine = Engine(SPEC)
    feed(engine, [*messages[:30], *stretches])
    assert len(feed(engine, messages[160:220])) > 0
    assert engine.health().problems.tolist() == [Problem.RATE]
    details = [incident.detail[:20] for incident in engine.take_incidents()]
    assert details == ["it announces 50 Hz, ", "it began 10 times wi"]


def test_dropped_messages_of_an_unusable_rate_show_no_jump_of_the_clock():
    messages = arriving(cut(gait(2500), 10, announced=50.0))
    engine = Engine(SPEC)
    feed(engine, [replace(m, rate_hz=1e6) if k >= 100 else m for k, m in enumerate(messages)])
    assert [incident.problem for incident in engine.take_incidents()] == [Problem.RATE]
    assert (engine.stats.samples_rate, engine.stats.gaps) == (1500, 0)


@pytest.mark.parametrize(
    ("change", "messages_after"), [({"rate_hz": 57.0}, 4), ({"rate_hz": 1e6}, 200), ({"acc_unit_auto": True}, 200)]
)
def test_what_messages_announce_counts_whatever_their_stamps(change, messages_after):
    # Stamps of a time long ago that run a thousand times too fast: milliseconds in the field for seconds.
    messages = arriving(cut(gait(3000), 10, announced=50.0))[: 100 + messages_after]
    changed = [replace(m, **change) if k >= 100 else m for k, m in enumerate(messages)]
    fast = [replace(m, t_ns=10**15 + (m.t_ns - T0_NS) * 1000) for m in changed]
    exact, by_arrival = Engine(SPEC), Engine(SPEC)
    feed(exact, changed)
    feed(by_arrival, fast)
    assert by_arrival.health().rate_hz.tolist() == exact.health().rate_hz.tolist()
    assert by_arrival.stats.samples_rate == exact.stats.samples_rate
    assert by_arrival.health().acc_unit == exact.health().acc_unit


def test_a_reboot_with_another_rate_begins_with_that_rate():
    # Messages of 2 s: windows with the old rate would be due before the next message corrected it.
    before, signal = cut(gait(1000), 100, announced=50.0), gait(2000, 100.0)
    after = cut(signal, 200, rate_hz=100.0, announced=100.0, t_ns=T0_NS - 10**6 * SECOND)
    engine = Engine(SPEC)
    feed(engine, before)
    assert_same(feed(engine, after), feed(Engine(SPEC), after[2:]))
    assert engine.stats.restarts == 1


def test_the_problem_of_a_jump_ends_although_the_stamps_become_useless():
    messages = arriving(cut(gait(9000), 25, announced=50.0))
    rng = np.random.default_rng(1)
    ahead = [replace(m, t_ns=m.t_ns + 10**9 * SECOND) for m in messages[20:40]]
    random = [replace(m, t_ns=int(rng.integers(10**18, 2 * 10**18))) for m in messages[40:]]
    engine = Engine(SPEC)
    feed(engine, [*messages[:20], *ahead])
    assert engine.health().problems.tolist() == [Problem.CLOCK]
    feed(engine, random)
    assert engine.health().problems.tolist() == [Problem.STAMPS]


def test_a_device_does_not_inherit_the_rate_of_the_row_that_it_gets():
    engine = Engine(SPEC)
    feed(engine, cut(gait(500, 100.0), 50, rate_hz=100.0, announced=100.0))
    assert engine.health().rate_hz.tolist() == [100.0]
    engine.evict(1e12)
    feed(engine, [Message("b", T0_NS, gait(10), 0.5)])
    assert (engine.health().devices, engine.health().rate_hz.tolist()) == (["b"], [0.0])


def test_stamps_that_spread_more_and_more_do_not_make_more_and_more_samples():
    rng = np.random.default_rng(1)
    t_s, messages = 0.0, []
    for k in range(3000):
        messages.append(Message("a", T0_NS + round(t_s * 1e9), gait(1, seed=k)))
        t_s += 0.008 + rng.uniform(0, 0.006)
    engine = Engine(SPEC)
    feed(engine, messages)
    spacing_s, due = 0.011, 0
    for k in range(60):
        due += len(engine.feed(batch([Message("a", T0_NS + round(t_s * 1e9), gait(50, seed=k))])))
        t_s += 50 * spacing_s * 3.9
        spacing_s *= 1.09
    # At most three times as many windows as 3,000 samples make.
    assert due < 3 * 3000 / 64


@pytest.mark.parametrize(("unit_ns", "mend"), [(10**9, ": send finer stamps"), (10**6, ", such as s in t_ms")])
def test_rounded_stamps_are_reported_with_what_to_do(unit_ns, mend):
    # Whole seconds in the field for seconds, and in that for milliseconds.
    messages = [replace(m, t_ns=m.t_ns // SECOND * unit_ns) for m in cut(gait(200), 25, announced=50.0)]
    engine = Engine(SPEC)
    feed(engine, messages)
    incident = engine.take_incidents()[0]
    assert incident.problem == Problem.STAMPS
    assert incident.detail.endswith(mend)


def test_a_device_that_never_fills_a_window_has_a_problem_until_it_does():
    # One sample a second, without a rate: each one restarts the device.
    engine = Engine(SPEC)
    feed(engine, [Message("a", T0_NS + k * SECOND, gait(1, seed=k)) for k in range(30)])
    [incident] = engine.take_incidents()
    assert incident.problem == Problem.RATE
    assert incident.detail.startswith("it began 10 times without filling a window")
    assert len(feed(engine, cut(gait(200), 25, t_ns=T0_NS + 31 * SECOND))) > 0
    assert engine.health().problems.tolist() == [0]


def test_a_window_is_untrusted_only_for_what_came_before_it():
    # Two devices under one name, from the middle on; however the messages are cut, the same windows are untrusted.
    one = cut(gait(3000), 25, announced=50.0)
    other = cut(gait(1500, seed=3), 25, t_ns=T0_NS + 30 * SECOND + 230_000_000, announced=50.0)
    messages = sorted(arriving([*one, *other]), key=lambda m: m.t_ns)
    want = feed(Engine(SPEC), messages)
    assert not want.untrusted[:20].any()
    assert want.untrusted[-20:].all()
    for together in (40, len(messages)):
        got = feed(Engine(SPEC), messages, [together] * (len(messages) // together))
        np.testing.assert_array_equal(got.untrusted, want.untrusted)


def test_a_backlog_with_gaps_in_one_batch_is_no_problem():
    messages = [m for k in range(20) for m in cut(gait(200, seed=k), 25, t_ns=T0_NS + k * 6 * SECOND)]
    engine = Engine(SPEC)
    assert len(feed(engine, messages, [len(messages)])) == 40
    assert engine.take_incidents() == []
