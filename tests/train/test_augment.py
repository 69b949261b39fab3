"""Augmentation changes what it should and nothing else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

tf = pytest.importorskip("tensorflow")

from harstream.core.spec import BODY_ACC, DEFAULT_CHANNELS, GYRO, TOTAL_ACC  # noqa: E402
from harstream.train import augment  # noqa: E402


def some_windows(n: int = 8, channels: int = 9) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(n, 128, channels)).astype(np.float32)


def test_tilts_are_rotations_of_the_angle_asked_for() -> None:
    tf.random.set_seed(1)
    tilts = augment.tilts(4000, 20.0).numpy()
    np.testing.assert_allclose(tilts @ tilts.transpose(0, 2, 1), np.tile(np.eye(3), (4000, 1, 1)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(tilts), 1.0, atol=1e-5)
    angle = np.degrees(np.arccos(np.clip((np.trace(tilts, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert np.sqrt(np.mean(angle**2)) == pytest.approx(20.0, rel=0.05)


def test_turns_keep_their_axis_and_leave_the_others_alone() -> None:
    tf.random.set_seed(1)
    axis = np.array([3.0, 0.0, 4.0])
    turns = augment.turns(4000, axis, share=0.25).numpy()
    np.testing.assert_allclose(turns @ (axis / 5), np.tile(axis / 5, (4000, 1)), atol=1e-5)
    turned = np.abs(turns - np.eye(3)).max(axis=(1, 2)) > 1e-6
    assert turned.mean() == pytest.approx(0.25, abs=0.03)


def test_rotating_keeps_the_norm_of_every_triad() -> None:
    windows = some_windows()
    turned = augment.rotate(tf.constant(windows), augment.tilts(8, 40.0), DEFAULT_CHANNELS).numpy()
    assert np.abs(turned - windows).max() > 0.1
    for triad in (slice(0, 3), slice(3, 6), slice(6, 9)):
        norms = [np.linalg.norm(values[:, :, triad], axis=2) for values in (turned, windows)]
        np.testing.assert_allclose(norms[0], norms[1], atol=1e-5)


def test_all_triads_of_a_window_turn_by_its_one_rotation() -> None:
    windows, rotations = some_windows(), augment.tilts(8, 40.0)
    turned = augment.rotate(tf.constant(windows), rotations, DEFAULT_CHANNELS).numpy()
    for triad in (slice(0, 3), slice(3, 6), slice(6, 9)):
        expected = np.einsum("nij,nsj->nsi", rotations.numpy(), windows[:, :, triad])
        np.testing.assert_allclose(turned[:, :, triad], expected, atol=1e-5)


def test_channels_may_come_in_any_order_and_incomplete_triads_stay() -> None:
    channels = ("gyro_z", "total_acc_x", "gyro_x", "body_acc_y", "gyro_y")
    windows, rotations = some_windows(channels=5), augment.tilts(8, 40.0)
    turned = augment.rotate(tf.constant(windows), rotations, channels).numpy()
    np.testing.assert_array_equal(turned[:, :, [1, 3]], windows[:, :, [1, 3]])
    gyro = [channels.index(name) for name in GYRO]
    expected = np.einsum("nij,nsj->nsi", rotations.numpy(), windows[:, :, gyro])
    np.testing.assert_allclose(turned[:, :, gyro], expected, atol=1e-5)


def test_the_identity_changes_nothing() -> None:
    windows = some_windows()
    same = augment.rotate(tf.constant(windows), tf.eye(3, batch_shape=[8]), DEFAULT_CHANNELS).numpy()
    np.testing.assert_allclose(same, windows, atol=1e-6)
    np.testing.assert_allclose(augment.stretch(tf.constant(windows), 0.0).numpy(), windows, atol=1e-5)


def test_stretching_changes_the_pace_within_the_range_of_the_signal() -> None:
    tf.random.set_seed(2)
    t = np.arange(128) / 50
    windows = np.repeat(np.sin(2 * np.pi * 4 * t)[None, :, None], 64, axis=0).astype(np.float32)
    stretched = augment.stretch(tf.constant(windows), 0.2).numpy()
    assert np.isfinite(stretched).all()
    assert np.abs(stretched).max() <= 1.0
    # At the middle time stands still; crossings of zero tell the pace.
    np.testing.assert_allclose(stretched[:, 63:65].mean(axis=1), windows[:, 63:65].mean(axis=1), atol=0.1)
    crossings = (np.diff(np.sign(stretched[:, :, 0]), axis=1) != 0).sum(axis=1)
    assert crossings.min() < 20 < crossings.max()


def test_the_vertical_is_the_mean_of_total_acceleration() -> None:
    windows = some_windows() * np.float32(0.01)
    windows[:, :, 7] += 1.0
    vertical = augment.vertical_of(windows, DEFAULT_CHANNELS)
    assert vertical is not None
    np.testing.assert_allclose(vertical, [0, 1, 0], atol=0.01)
    assert augment.vertical_of(windows[:, :, :6], (*BODY_ACC, *GYRO)) is None
    windows[:4, :, 7] *= -1
    assert augment.vertical_of(windows[:, :, 6:], TOTAL_ACC) is None
