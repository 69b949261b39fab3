"""Orientation-free channels: the same however the device lies, and what they measure."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from harstream.core.engine import Engine
from harstream.core.spec import ORIENTATION_FREE, GravityFilter, NoiseFilter, SignalSpec

from ..constants import T0_NS
from .streams import Message, feed, gait

SPEC = SignalSpec(channels=ORIENTATION_FREE, noise_filter=NoiseFilter("none"))
RATE_HZ = 50.0
CUBE = Rotation.create_group("O")  # the 24 rotations of a cube


def windows_of(samples: np.ndarray, spec: SignalSpec = SPEC) -> np.ndarray:
    """Return the windows of samples (n, 6), (n_windows, 128, 4)."""
    return feed(Engine(spec), [Message("a", T0_NS, samples.astype(np.float32), RATE_HZ)]).windows


def turned(samples: np.ndarray, rotation: Rotation) -> np.ndarray:
    return np.concatenate([rotation.apply(samples[:, :3]), rotation.apply(samples[:, 3:])], axis=1)


WALK = gait(2000, RATE_HZ)
WANT = windows_of(WALK)


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, gravity_filter=GravityFilter("complementary"))])
@pytest.mark.parametrize("k", range(len(CUBE)))
def test_windows_are_the_same_under_the_rotations_of_a_cube(spec, k):
    np.testing.assert_allclose(windows_of(turned(WALK, CUBE[k]), spec), windows_of(WALK, spec), atol=2e-5)


@pytest.mark.parametrize("seed", range(5))
def test_windows_are_the_same_under_any_rotation(seed):
    got = windows_of(turned(WALK, Rotation.random(random_state=seed)))
    np.testing.assert_allclose(got, WANT, atol=2e-5)


def test_windows_are_the_same_with_all_axes_negated():
    np.testing.assert_array_equal(windows_of(-WALK), WANT)


def test_the_noise_filter_of_single_axes_is_what_depends_on_the_orientation():
    rotation = Rotation.random(random_state=0)
    spec = replace(SPEC, noise_filter=NoiseFilter("median"))
    assert not spec.orientation_free
    assert np.abs(windows_of(turned(WALK, rotation), spec) - windows_of(WALK, spec)).max() > 1e-3


def test_a_device_at_rest_shows_gravity_only():
    at_rest = np.tile([0.6, 0.0, 0.8, 0.0, 0.0, 0.0], (300, 1))
    got = windows_of(at_rest)
    np.testing.assert_allclose(got, np.broadcast_to([0.0, 0.0, 1.0, 0.0], got.shape), atol=1e-5)


def test_a_push_upwards_is_vertical_and_one_to_the_side_is_not():
    t = np.arange(1000) / RATE_HZ
    up, side = np.array([0.6, 0.0, 0.8]), np.array([0.8, 0.0, -0.6])
    bounce = 0.3 * np.sin(2 * np.pi * 2.0 * t)
    for direction, channel in ((up, 0), (side, 1)):
        samples = np.zeros((len(t), 6))
        samples[:, :3] = up + bounce[:, None] * direction
        got = windows_of(samples)[-1]
        want = bounce[-1 - (len(t) - 128) % 64 - 127 :][:128]
        np.testing.assert_allclose(got[:, channel], want if channel == 0 else np.abs(want), atol=0.02)
        assert np.abs(got[:, 1 - channel]).max() < 0.02


def test_the_turn_of_gravity_is_the_speed_of_a_device_that_is_tilted_slowly():
    t = np.arange(1500) / RATE_HZ
    angle = 0.1 * t  # rad
    samples = np.zeros((len(t), 6))
    samples[:, 0], samples[:, 2] = np.sin(angle), np.cos(angle)
    got = windows_of(samples)[-1][:, 3]
    np.testing.assert_allclose(got, 0.1, atol=0.002)


def test_a_spec_is_orientation_free_only_without_any_axis():
    assert SPEC.orientation_free
    assert replace(SPEC, channels=("vertical_acc",), normalisation=None).orientation_free
    assert not replace(SPEC, channels=("vertical_acc", "total_acc_x"), normalisation=None).orientation_free
    assert not SignalSpec().orientation_free
