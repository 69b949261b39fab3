"""Two devices under one name whose messages overlap in time."""

import numpy as np
import pytest

from harstream.core.engine import Engine
from harstream.core.overlaps import SAMPLES, Overlaps
from harstream.core.problems import Problem
from harstream.core.spec import SignalSpec

from ..constants import SECOND, T0_NS
from .streams import cut, feed, gait, still

SPEC = SignalSpec()


def device(samples, size, offset_s=0.0, rate_hz=50.0, announced=50.0):
    return cut(samples, size, t_ns=T0_NS + round(offset_s * SECOND), announced=announced, rate_hz=rate_hz)


def merged(*streams):
    return sorted((m for stream in streams for m in stream), key=lambda m: m.t_ns + len(m) * 20_000_000)


@pytest.mark.parametrize("other", [gait(2000, seed=1), still(2000)], ids=["gait", "rest"])
@pytest.mark.parametrize(
    ("size", "offset_s", "missed"),
    # nearly at the same moment, and of long messages, one or two windows come before enough messages
    [
        (25, 0.25, 0),
        (25, 0.1, 0),
        (25, 0.4, 0),
        (25, 0.02, 1),
        (100, 0.9, 2),
        (5, 0.05, 0),
        (1, 0.01, 0),
        (1, 0.001, 0),
    ],
)
def test_two_devices_that_take_turns_are_found_by_their_first_windows(size, offset_s, missed, other):
    n = 2000 if size > 1 else 400
    engine = Engine(SPEC)
    got = feed(engine, merged(device(gait(n), size), device(other[:n], size, offset_s)))
    assert len(got) >= 4
    assert (got.problems[missed:] & Problem.OVERLAP != 0).all()
    assert got.untrusted[missed:].all()
    detail = [incident.detail for incident in engine.take_incidents() if incident.problem == Problem.OVERLAP]
    assert len(detail) == 1
    assert "two devices publish under this name, or one sends samples twice; give each device its own name" in detail[0]


def test_when_the_other_device_ends_the_windows_begin_again():
    engine = Engine(SPEC)
    one = device(gait(6000), 25)
    got = feed(engine, merged(one, device(still(1500), 25, 0.25)))
    good = got.problems == 0
    assert (np.diff(good.astype(int)) >= 0).all()  # bad ones, then good ones
    assert got.end_ns[~good].max() < T0_NS + 42 * SECOND
    first = round((got.start_ns[good][0] - T0_NS) / SECOND * 2)  # message
    want = feed(Engine(SPEC), one[first:])
    np.testing.assert_array_equal(got.windows[good], want.windows)
    np.testing.assert_allclose(got.start_ns[good] - want.start_ns, 0, atol=1e6)
    assert engine.stats.restarts == 1
    assert engine.problems_of(["a"]).tolist() == [0]


@pytest.mark.parametrize("size", [1, 5, 25])
def test_one_device_with_twice_the_rate_that_it_announces_is_no_overlap(size):
    messages = device(gait(2000, 100.0), size, rate_hz=100.0)
    engine = Engine(SPEC)
    got = feed(engine, messages)
    (incident,) = engine.take_incidents()
    assert incident.problem == Problem.RATE
    assert "it announces 50 Hz, but its messages show 100 Hz" in incident.detail
    assert len(got) >= (1000 - 64) // 64 - 2
    assert not got.untrusted.any()
    np.testing.assert_allclose((got.end_ns - got.start_ns) / SECOND, 2.56, rtol=0.001)


def test_two_devices_that_announce_no_rate_are_beyond_this_test():
    # Nothing tells them from one device with twice the rate.
    engine = Engine(SPEC)
    feed(engine, merged(device(gait(2000), 25, announced=0.0), device(gait(2000), 25, 0.25, announced=0.0)))
    assert not [i for i in engine.take_incidents() if i.problem == Problem.OVERLAP]


@pytest.mark.parametrize("drift", [-0.05, 0.05])
def test_a_device_with_a_drifting_clock_is_no_overlap(drift):
    messages = cut(gait(3000), 25, rate_hz=50.0 * (1 + drift), announced=50.0)
    engine = Engine(SPEC)
    assert not feed(engine, messages).problems.any()
    assert engine.take_incidents() == []


# --- parts ---------------------------------------------------------------------------------------


def give(overlaps, value, overlapping=True, count=25, before=0.0):
    """Give row 1 a message whose acceleration is ``value`` throughout; return whether (two are found, ended)."""
    acc = np.full((1, 3), value, np.float32)
    begun, ended = overlaps.feed(
        np.array([1]), np.array([overlapping]), np.array([count]), (acc, acc), np.full((1, 3), before, np.float32)
    )
    return len(begun) > 0, len(ended) > 0


def test_two_levels_that_take_turns_are_two_sources():
    overlaps = Overlaps(2)
    found = [give(overlaps, k % 2)[0] for k in range(6)]
    assert found.index(True) * 25 + 25 >= SAMPLES
    assert found.count(True) == 1
    assert overlaps.found.tolist() == [False, True]


def test_one_level_is_one_source():
    overlaps = Overlaps(2)
    assert not any(give(overlaps, k / 10)[0] for k in range(40))


def test_enough_messages_without_overlap_end_it():
    overlaps = Overlaps(2)
    for k in range(20):
        give(overlaps, k % 2)
    ended = [give(overlaps, 1.0, overlapping=False)[1] for _ in range(40)]
    assert ended.count(True) == 1
    assert ended.index(True) > 6  # a few do not
    assert not overlaps.found.any()
    assert not overlaps.concerns(np.array([1]), np.array([False]))
