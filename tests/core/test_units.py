"""Units of the accelerations, and gyroscopes in another unit: devices that state none, through the engine."""

from dataclasses import replace

import numpy as np
import pytest

from harstream.core.engine import Engine
from harstream.core.health import HealthTable
from harstream.core.plausibility import ACC_UNIT_FACTORS, ACC_UNIT_NAMES
from harstream.core.problems import Problem
from harstream.core.spec import NoiseFilter, SignalSpec
from harstream.core.units import AccUnits

from ..constants import SECOND, T0_NS
from .streams import assert_same, cut, feed, gait, part_of, still

SPEC = SignalSpec()
SIGNALS = {"rest": still(750), "gait": gait(750)}
BOTH_SIGNALS = pytest.mark.parametrize("signal", SIGNALS)


def scaled(samples, factor, gyro_factor=1.0):
    """Return samples whose acceleration and angular velocity are multiplied."""
    return (samples * np.array([factor] * 3 + [gyro_factor] * 3)).astype(np.float32)


def auto(samples, sizes=25, **how):
    """Return messages that do not state the unit of the acceleration."""
    return [replace(m, acc_unit_auto=True) for m in cut(samples, sizes, **how)]


def without_gravity(samples):
    return samples - np.array([*samples[:, :3].mean(axis=0), 0, 0, 0], np.float32)


def details(engine, problem):
    """Return the details of the incidents; all must be of one problem."""
    incidents = engine.take_incidents()
    assert {incident.problem for incident in incidents} <= {problem}
    return [incident.detail for incident in incidents]


@BOTH_SIGNALS
@pytest.mark.parametrize("unit", range(3), ids=ACC_UNIT_NAMES)
def test_windows_in_every_unit_are_those_in_g(unit, signal):
    engine = Engine(SPEC)
    got = feed(engine, auto(scaled(SIGNALS[signal], 1 / ACC_UNIT_FACTORS[unit])))
    want = feed(Engine(SPEC), cut(SIGNALS[signal], 25))
    assert len(got) == len(want) == 10
    np.testing.assert_allclose(got.windows, want.windows, atol=5e-7)
    np.testing.assert_array_equal(got.start_ns, want.start_ns)
    assert not got.problems.any()
    assert engine.health().acc_unit == [ACC_UNIT_NAMES[unit]]
    assert engine.take_incidents() == []


@BOTH_SIGNALS
def test_windows_of_an_unknown_unit_that_turns_out_to_be_g_are_those_in_g_to_the_bit(signal):
    assert_same(feed(Engine(SPEC), auto(SIGNALS[signal])), feed(Engine(SPEC), cut(SIGNALS[signal], 25)))


def test_a_stated_unit_is_not_questioned_but_its_windows_are():
    # 9.8 "g": the message says that it was converted, so this is no m/s2
    engine = Engine(SPEC)
    got = feed(engine, cut(scaled(still(750), 9.80665), 25))
    assert (got.problems == Problem.GRAVITY).all()
    assert engine.health().acc_unit == [None]
    assert len(details(engine, Problem.GRAVITY)) == 1


@BOTH_SIGNALS
@pytest.mark.parametrize("factor", [1.0, 9.80665])
def test_without_gravity_every_window_has_the_problem(signal, factor):
    engine = Engine(SPEC)
    got = feed(engine, auto(scaled(without_gravity(SIGNALS[signal]), factor)))
    # Each window that shows no unit is a first window again, so windows do not overlap.
    assert (got.start_ns - T0_NS).tolist() == [round(k * 2.56 * SECOND) for k in range(5)]
    assert (got.problems == Problem.GRAVITY).all()
    assert got.untrusted.all()
    assert engine.health().acc_unit == [None]
    (detail,) = details(engine, Problem.GRAVITY)
    assert "expected about 1 g" in detail


def test_a_gyroscope_in_deg_per_s_is_a_problem_of_every_window():
    engine = Engine(SPEC)
    got = feed(engine, auto(scaled(gait(750), 1.0, 180 / np.pi)))
    assert (got.problems == Problem.GYROSCOPE).all()
    (detail,) = details(engine, Problem.GYROSCOPE)
    assert "deg/s" in detail


def test_a_device_put_right_loses_the_problem():
    # without gravity for 5.12 s, then with it: the unit is decided from the first window with gravity
    samples = np.concatenate([without_gravity(still(256)), scaled(still(750, seed=1), 9.80665)])
    spec = replace(SPEC, noise_filter=NoiseFilter("none"))  # its median would reach back
    engine = Engine(spec)
    got = feed(engine, auto(samples))
    assert got.problems.tolist() == [Problem.GRAVITY] * 2 + [0] * 10
    assert_same(
        part_of(got, slice(2, None)),
        feed(Engine(spec), auto(samples[256:], t_ns=T0_NS + round(5.12 * SECOND))),
    )
    assert engine.health().acc_unit == ["m/s2"]


def test_the_unit_is_decided_again_after_a_restart():
    later = {"t_ns": T0_NS + 60 * SECOND}
    engine = Engine(SPEC)
    feed(engine, auto(still(300)))
    assert engine.health().acc_unit == ["g"]
    got = feed(engine, auto(scaled(gait(300), 1000), **later))
    assert_same(got, feed(Engine(SPEC), auto(scaled(gait(300), 1000), **later)))
    assert engine.health().acc_unit == ["mg"]


def test_units_of_devices_do_not_mix():
    messages = {
        name: auto(scaled(gait(500, seed=k), 1 / factor), 20, device=name)
        for k, (name, factor) in enumerate(zip(ACC_UNIT_NAMES, ACC_UNIT_FACTORS, strict=True))
    }
    engine = Engine(SPEC)
    mixed = [m for trio in zip(*messages.values(), strict=True) for m in trio]
    got = feed(engine, mixed, [11] * 6)
    for name in ACC_UNIT_NAMES:
        mine = np.array(got.devices) == name
        assert_same(part_of(got, mine), feed(Engine(SPEC), messages[name]))
    assert engine.health().acc_unit == list(ACC_UNIT_NAMES)


@pytest.mark.parametrize("sizes", [1, 7, 128, [127, 1, 1], [128, 600], []])
def test_the_first_window_decides_whatever_the_cut(sizes):
    # The second half alone would be m/s2.
    samples = np.concatenate([still(128), scaled(still(622, seed=1), 9.80665)])
    whole = feed(Engine(SPEC), auto(samples, []))
    got = feed(Engine(SPEC), auto(samples, sizes))
    assert_same(got, whole)
    assert got.problems.tolist() == whole.problems.tolist()
    assert got.problems[-1] == Problem.GRAVITY


@pytest.mark.parametrize("sizes", [1, 7, 64, 128, [127, 1, 1]])
def test_cuts_do_not_matter_while_the_unit_is_not_decided(sizes):
    samples = np.concatenate([without_gravity(gait(300)), scaled(gait(700, seed=1), 9.80665)])
    whole = feed(Engine(SPEC), auto(samples, []))
    got = feed(Engine(SPEC), auto(samples, sizes))
    assert_same(got, whole)
    assert got.problems.tolist() == whole.problems.tolist() == [Problem.GRAVITY] * 3 + [0] * (len(got) - 3)


def test_a_message_that_states_no_unit_after_one_that_does_restarts_the_device():
    samples = gait(600)
    stated, silent = cut(samples[:300], 25), auto(scaled(samples[300:], 1000), t_ns=T0_NS + 6 * SECOND)
    engine = Engine(SPEC)
    got = feed(engine, stated + silent)
    assert engine.stats.restarts == 1
    assert_same(part_of(got, slice(3, None)), feed(Engine(SPEC), silent))


def test_a_single_bad_window_after_a_good_one_is_none():
    # A phone that is turned over in the middle of a window has no gravity on average in it.
    samples = still(900)
    samples[448:, :3] *= -1
    got = feed(Engine(SPEC), auto(samples))
    assert abs(got.windows[6, :, 8].mean()) < 0.05
    assert not got.problems.any()


# --- parts ---------------------------------------------------------------------------------------


def test_units_by_row():
    units = AccUnits(5)
    units.restart(np.arange(5), np.array([True, True, True, True, False]))
    rows = np.array([3, 1, 0])
    windows = np.stack([scaled(still(128), factor)[:, :3] for factor in (9.80665, 1000.0, 0.01)])
    assert units.decide(rows, windows).tolist() == [True, True, False]
    assert units.names(np.arange(5)) == [None, "mg", None, "m/s2", None]
    assert units.any_scaled(rows)
    assert not units.any_scaled(np.array([0, 2]))
    ones = np.ones((5, 3), np.float32)
    got = units.scale(np.array([1, 2, 3]), np.array([1, 2, 2]), ones)
    np.testing.assert_allclose(got[:, 0], [0.001, 1, 1, 1 / 9.80665, 1 / 9.80665])
    units.restart(np.array([3, 1]), np.array([True, False]))
    assert units.names(np.array([3, 1])) == [None, None]
    assert not units.any_scaled(rows)


def test_a_problem_begins_at_the_second_bad_window_after_a_good_one_and_once():
    health, rows = HealthTable(2), np.array([0, 1])
    good = still(128)[:, :3]
    problems = []
    # row 0: bad from the start on, good, bad once; row 1: good, then bad
    for bad in ([True, False], [True, True], [False, True], [True, True]):
        total = np.stack([good * np.float32(0.5 if is_bad else 1.0) for is_bad in bad])
        problems.append(health.judge_windows(rows, total, None, 50.0).tolist())
    assert problems == [[1, 0], [1, 0], [0, 1], [0, 1]]
    assert [(row, problem) for row, problem, _ in health.incidents] == [(0, Problem.GRAVITY), (1, Problem.GRAVITY)]
    assert "mean acceleration is 0.5," in health.incidents[0][2]
