"""Unit and gravity of the accelerometer, and unit of the gyroscope, told from windows."""

import itertools
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harstream.core.plausibility import (
    ACC_UNIT_FACTORS,
    ACC_UNIT_NAMES,
    acc_unit,
    describe_acc,
    describe_gyro,
    gyro_plausible,
    has_gravity,
)
from harstream.datasets import base
from harstream.simulate.motion import Wearable
from harstream.simulate.parameters import ACTIVITIES
from harstream.wire.samples import ACC_UNITS

from ..servers import recorded

G = 9.80665
DEGREES = np.float32(180 / np.pi)


def still(n_windows=200, *, seed=0):
    """Return windows of a device on a table: noise of 0.04 m/s2 and 0.005 rad/s, in g and rad/s."""
    rng = np.random.default_rng(seed)
    acc = rng.normal([0, 0, 1], 0.04 / G, (n_windows, 128, 3))
    return acc.astype(np.float32), rng.normal(0, 0.005, (n_windows, 128, 3)).astype(np.float32)


def worn(activity, n_windows=40, *, seed=0):
    """Return windows of a simulated wearable, in g and rad/s."""
    samples = Wearable(seed, pace=1e-9, first=activity).read(n_windows * 128).samples.reshape(n_windows, 128, 6)
    return samples[..., :3], samples[..., 3:]


def without_gravity(acc):
    """Return acceleration less the mean of each window."""
    return acc - acc.mean(axis=1, keepdims=True)


@cache
def of_every_kind():
    """Return windows of all activities and of a table, acc and gyro, in g and rad/s."""
    parts = [worn(activity, 10) for activity in ACTIVITIES] + [still(20)]
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


# --- units of the accelerometer ------------------------------------------------------------------


@pytest.mark.parametrize("unit", range(3), ids=ACC_UNIT_NAMES)
@pytest.mark.parametrize("activity", [*ACTIVITIES, None])
def test_the_unit_is_told_from_every_activity_and_from_a_table(activity, unit):
    acc, _ = worn(activity) if activity else still()
    assert (acc_unit(acc / np.float32(ACC_UNIT_FACTORS[unit])) == unit).all()


def test_factors_are_those_of_the_wire():
    for name, factor in ACC_UNITS.items():
        assert ACC_UNIT_FACTORS[ACC_UNIT_NAMES.index(name)] == factor


@pytest.mark.parametrize("factor", [1, G, 1000])
@pytest.mark.parametrize("activity", [*ACTIVITIES, None])
def test_without_gravity_there_is_no_unit(activity, factor):
    acc, _ = worn(activity) if activity else still()
    assert (acc_unit(without_gravity(acc) * np.float32(factor)) == -1).all()


@pytest.mark.parametrize("factor", [0, 0.25, 0.5, 2, 5, 20, 100, 500, 2048, 4096, 16384])
def test_a_scale_that_is_none_of_the_units_is_found_at_rest(factor):
    assert (acc_unit(still()[0] * np.float32(factor)) == -1).all()


def test_free_fall_for_half_of_the_time_is_gravity_all_the_same():
    acc = np.zeros((1, 128, 3), np.float32)
    acc[0, :, 2] = np.where(np.arange(128) % 16 < 9, 0.05, 2.2)  # hopping: the median of |acc| is 0.05 g
    assert acc_unit(acc).tolist() == [0]


def test_gravity_means_gravity_in_g():
    acc, _ = still(3)
    assert has_gravity(acc).all()
    assert not has_gravity(acc * np.float32(G)).any()
    assert not has_gravity(without_gravity(acc)).any()


def test_no_number_is_no_unit():
    assert acc_unit(np.full((2, 128, 3), np.nan, np.float32)).tolist() == [-1, -1]


# --- the gyroscope -------------------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", [20.0, 50.0, 100.0])
def test_a_true_gyroscope_is_plausible(rate_hz):
    for activity in ACTIVITIES:
        samples = Wearable(1, rate_hz, pace=1e-9, first=activity).read(40 * 200).samples.reshape(40, 200, 6)
        assert gyro_plausible(samples[..., :3], samples[..., 3:], rate_hz).all(), activity
    acc, gyro = still()
    assert gyro_plausible(acc, gyro, 50.0).all()


@pytest.mark.parametrize("activity", [*ACTIVITIES, None])
def test_degrees_taken_for_radians_are_found_in_every_activity_and_on_a_table(activity):
    acc, gyro = worn(activity) if activity else still()
    assert gyro_plausible(acc, gyro * DEGREES, 50.0).mean() < 0.05


def test_radians_taken_for_degrees_are_found_while_a_device_turns():
    t = np.arange(128) / 50
    tilt = 0.5 * np.sin(2 * np.pi * 0.5 * t)  # rad, about x
    acc = np.stack([0 * t, np.sin(tilt), np.cos(tilt)], axis=1)[None].astype(np.float32)
    gyro = np.zeros_like(acc)
    gyro[0, :, 0] = np.gradient(tilt, 1 / 50)
    assert gyro_plausible(acc, gyro, 50.0).all()
    assert not gyro_plausible(acc, gyro / DEGREES, 50.0).any()
    assert not gyro_plausible(acc, gyro * DEGREES, 50.0).any()


def test_a_frozen_gyroscope_is_found_while_a_device_turns():
    acc, _ = worn("WALKING")
    assert not gyro_plausible(acc, np.full_like(acc, 0.1), 50.0).any()


def test_a_gyroscope_of_zeros_is_plausible_only_while_nothing_turns():
    acc, _ = still()
    assert gyro_plausible(acc, np.zeros_like(acc), 50.0).all()
    acc, _ = worn("WALKING")
    assert not gyro_plausible(acc, np.zeros_like(acc), 50.0).any()
    assert describe_gyro(np.zeros_like(acc[0])).startswith("its gyroscope is 0 throughout")


def test_a_signal_in_a_known_unit_is_described_with_it():
    acc, _ = still()
    assert describe_acc(acc[0] * np.float32(9.80665)).endswith("it seems to be in m/s2: state this unit")
    assert "in one of these units" in describe_acc(acc[0] * np.float32(0))


@pytest.mark.parametrize("offset", [0.05, 0.35])
def test_the_offset_of_a_gyroscope_is_plausible(offset):
    acc, gyro = still()
    assert gyro_plausible(acc, gyro + np.float32(offset), 50.0).all()


def test_an_accelerometer_that_reads_a_constant_does_not_condemn_a_noisy_gyroscope():
    _, gyro = still()
    assert gyro_plausible(np.broadcast_to(np.array([0, 0, 1], np.float32), gyro.shape), gyro, 50.0).all()


def test_a_window_too_short_to_tell_is_plausible():
    acc, gyro = (part[:, :90] for part in worn("WALKING"))
    assert gyro_plausible(acc, gyro * DEGREES, 50.0).all()


@pytest.mark.parametrize("unit", range(3), ids=ACC_UNIT_NAMES)
def test_the_unit_of_the_accelerometer_does_not_matter_to_the_gyroscope(unit):
    acc, gyro = of_every_kind()
    for scale in (1, DEGREES):
        expected = gyro_plausible(acc, gyro * scale, 50.0)
        scaled = gyro_plausible(acc / np.float32(ACC_UNIT_FACTORS[unit]), gyro * scale, 50.0)
        assert (scaled == expected).mean() > 0.99


@pytest.mark.parametrize(
    ("window", "rate_hz"), [(1, 50.0), (16, 50.0), (47, 50.0), (128, 1.0), (2, 0.5), (4096, 1000.0)]
)
def test_windows_of_any_length_and_rate_are_taken(window, rate_hz):
    acc, gyro = np.ones((3, window, 3), np.float32), np.zeros((3, window, 3), np.float32)
    assert gyro_plausible(acc, gyro, rate_hz).tolist() == [True] * 3
    assert acc_unit(acc).shape == (3,)


def test_no_windows_give_no_answers():
    none = np.zeros((0, 128, 3), np.float32)
    assert acc_unit(none).shape == has_gravity(none).shape == gyro_plausible(none, none, 50.0).shape == (0,)


# --- batches -------------------------------------------------------------------------------------


@given(bounds=st.lists(st.integers(0, 80), max_size=6), seed=st.integers(0, 9), window=st.integers(90, 128))
def test_answers_do_not_depend_on_the_other_windows_of_a_batch_or_on_its_layout(bounds, seed, window):
    # Scales near the limits, so that the last bit decides about as often as it can.
    rng = np.random.default_rng(seed)
    acc, gyro = (part[:, :window] for part in of_every_kind())
    acc = acc * rng.choice([0.75, 1, 2, 2.5, 7.35], (len(acc), 1, 1)).astype(np.float32)
    gyro = gyro * rng.uniform(1, 60, (len(gyro), 1, 1)).astype(np.float32)
    ring = np.concatenate([acc, acc, gyro], axis=2)  # as a strided view of more channels, as the Engine has it
    units, plausible = acc_unit(acc), gyro_plausible(acc, gyro, 50.0)
    cuts = [0, *sorted(bounds), len(acc)]
    pieces = [ring[start:stop] for start, stop in itertools.pairwise(cuts)]
    assert np.array_equal(np.concatenate([acc_unit(p[..., 3:6]) for p in pieces]), units)
    assert np.array_equal(np.concatenate([gyro_plausible(p[..., 3:6], p[..., 6:], 50.0) for p in pieces]), plausible)


# --- recordings ----------------------------------------------------------------------------------


def recorded_windows(data, window):
    """Return the windows of a data set, half overlapping: acc in g, gyro in rad/s, and acc without gravity."""
    parts = [
        np.lib.stride_tricks.sliding_window_view(recording.samples, window, axis=0)[:: window // 2].transpose(0, 2, 1)
        for recording in base.load(data)
        if len(recording.samples) >= window
    ]
    windows = np.concatenate(parts)
    return windows[..., :3], windows[..., 3:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "window", "rate_hz"), [("hapt:hapt.zip", 128, 50.0), ("wisdm-watch:wisdm-watch.zip", 200, 20.0)]
)
def test_recorded_windows_are_judged_as_the_document_says(data, window, rate_hz):
    kind, _, name = data.partition(":")
    acc, gyro = recorded_windows(f"{kind}:{recorded(name)}", window)
    for unit, factor in enumerate(ACC_UNIT_FACTORS):
        assert (acc_unit(acc / np.float32(factor)) != unit).mean() < 0.001
    assert (acc_unit(without_gravity(acc)) == -1).mean() > 0.99
    assert (acc_unit(without_gravity(acc) * np.float32(G)) == -1).mean() > 0.99
    assert gyro_plausible(acc, gyro, rate_hz).mean() > 0.999
    assert gyro_plausible(acc, gyro * DEGREES, rate_hz).mean() < 0.01
