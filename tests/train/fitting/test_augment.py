"""Augmentations change what they should and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

tf = pytest.importorskip("tensorflow")

from harstream.core.spec import (  # noqa: E402
    BODY_ACC,
    DEFAULT_CHANNELS,
    GYRO,
    ORIENTATION_FREE,
    TOTAL_ACC,
    NoiseFilter,
    SignalSpec,
)
from harstream.datasets import windows  # noqa: E402
from harstream.train.fitting import augment  # noqa: E402

from ...made_recordings import subject  # noqa: E402

SEED = tf.constant([1, 2])
TRIADS = {"body_acc": slice(0, 3), "gyro": slice(3, 6), "total_acc": slice(6, 9)}

#: Augmentations of windows as functions of windows, strength and seed.
WINDOW_WISE: dict[str, Callable[..., Any]] = {
    "tilt": lambda w, amount, seed: augment.rotate(w, augment.tilts(len(w), 90 * amount, seed), DEFAULT_CHANNELS),
    "turn": lambda w, amount, seed: augment.rotate(
        w, augment.turns(len(w), np.array([1.0, 0, 0]), amount, seed), DEFAULT_CHANNELS
    ),
    "half turn": lambda w, amount, seed: augment.rotate(
        w, augment.half_turns(len(w), "z", amount, seed), DEFAULT_CHANNELS
    ),
    "smooth": augment.smooth,
    "gyro drift": lambda w, amount, seed: augment.gyro_drift(w, amount, DEFAULT_CHANNELS, seed),
    "mirror": lambda w, amount, seed: augment.mirror(w, amount, "x", DEFAULT_CHANNELS, seed),
    "scale": lambda w, amount, seed: augment.scale(w, amount, DEFAULT_CHANNELS, seed),
    "vigour": lambda w, amount, seed: augment.vigour(w, amount, DEFAULT_CHANNELS, seed),
    "coupling": lambda w, amount, seed: augment.coupling(w, 12 * amount, DEFAULT_CHANNELS, seed),
    "jitter": lambda w, amount, seed: augment.jitter(w, amount, [1.0] * 9, seed),
    "stretch": augment.stretch,
    "warp": augment.warp,
    "channel dropout": lambda w, amount, seed: augment.channel_dropout(w, amount, DEFAULT_CHANNELS, seed),
}


def some_windows(n: int = 8, channels: int = 9) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(n, 128, channels)).astype(np.float32)


@pytest.mark.parametrize("name", WINDOW_WISE)
def test_the_seed_decides_and_strength_0_changes_nothing(name: str) -> None:
    windows, change = tf.constant(some_windows(32)), WINDOW_WISE[name]
    once, again = (np.asarray(change(windows, 0.5, SEED).numpy()) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert once.shape == windows.shape
    assert np.isfinite(once).all()
    assert np.abs(once - windows.numpy()).max() > 0.1
    assert np.abs(once - change(windows, 0.5, tf.constant([1, 3])).numpy()).max() > 0.1
    np.testing.assert_allclose(change(windows, 0.0, SEED).numpy(), windows.numpy(), atol=1e-4)


def test_tilts_are_rotations_of_the_angle_asked_for() -> None:
    tilts = augment.tilts(4000, 20.0, SEED).numpy()
    np.testing.assert_allclose(tilts @ tilts.transpose(0, 2, 1), np.tile(np.eye(3), (4000, 1, 1)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(tilts), 1.0, atol=1e-5)
    angle = np.degrees(np.arccos(np.clip((np.trace(tilts, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert np.sqrt(np.mean(angle**2)) == pytest.approx(20.0, rel=0.05)


def test_turns_keep_their_axis_and_leave_the_others_alone() -> None:
    axis = np.array([3.0, 0.0, 4.0])
    turns = augment.turns(4000, axis, 0.25, SEED).numpy()
    np.testing.assert_allclose(turns @ (axis / 5), np.tile(axis / 5, (4000, 1)), atol=1e-5)
    turned = np.abs(turns - np.eye(3)).max(axis=(1, 2)) > 1e-6
    assert turned.mean() == pytest.approx(0.25, abs=0.03)


def test_rotating_keeps_the_norm_of_every_triad() -> None:
    windows = some_windows()
    turned = augment.rotate(tf.constant(windows), augment.tilts(8, 40.0, SEED), DEFAULT_CHANNELS).numpy()
    assert np.abs(turned - windows).max() > 0.1
    for triad in TRIADS.values():
        norms = [np.linalg.norm(values[:, :, triad], axis=2) for values in (turned, windows)]
        np.testing.assert_allclose(norms[0], norms[1], atol=1e-5)


def test_all_triads_of_a_window_turn_by_its_one_rotation() -> None:
    windows, rotations = some_windows(), augment.tilts(8, 40.0, SEED)
    turned = augment.rotate(tf.constant(windows), rotations, DEFAULT_CHANNELS).numpy()
    for triad in TRIADS.values():
        expected = np.einsum("nij,nsj->nsi", rotations.numpy(), windows[:, :, triad])
        np.testing.assert_allclose(turned[:, :, triad], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["vigour", "coupling"])
def test_a_change_of_body_acceleration_keeps_gravity_and_the_gyroscope(name: str) -> None:
    windows = some_windows()
    changed = np.asarray(WINDOW_WISE[name](tf.constant(windows), 0.5, SEED))
    body, total, gyro = (TRIADS[triad] for triad in ("body_acc", "total_acc", "gyro"))
    assert np.abs(changed - windows)[:, :, body].max() > 0.1
    gravity = [values[:, :, total] - values[:, :, body] for values in (changed, windows)]
    np.testing.assert_allclose(gravity[0], gravity[1], atol=1e-5)
    np.testing.assert_array_equal(changed[:, :, gyro], windows[:, :, gyro])


def test_a_coupling_changes_the_strength_of_a_tone_and_nothing_else_of_it() -> None:
    t = np.arange(128) / 128
    windows = np.zeros((64, 128, 9), np.float32)
    windows[:, :, TRIADS["body_acc"]] = np.sin(2 * np.pi * 8 * t)[None, :, None]
    changed = np.asarray(augment.coupling(tf.constant(windows), 6.0, DEFAULT_CHANNELS, SEED))[:, :, TRIADS["body_acc"]]
    gain = np.abs(changed).max(axis=1, keepdims=True)
    np.testing.assert_allclose(changed / gain, windows[:, :, TRIADS["body_acc"]], atol=1e-4)
    assert np.ptp(gain, axis=2).max() < 1e-4  # the same for the three axes
    assert np.std(20 * np.log10(gain[:, 0, 0])) == pytest.approx(6.0, abs=2.0)


def test_orientation_free_channels_are_those_of_the_engine() -> None:
    spec = SignalSpec(channels=(*ORIENTATION_FREE, *TOTAL_ACC, *BODY_ACC), noise_filter=NoiseFilter("none"))
    cut = windows.cut_windows(windows.whole_streams([subject("01", 0)]), spec, ("MOVING", "STILL")).windows
    channels = (*TOTAL_ACC, *BODY_ACC)
    made = np.asarray(augment.orientation_free(tf.constant(cut[:, :, 4:]), channels, ORIENTATION_FREE, 50.0))
    np.testing.assert_allclose(made[:, 1:], cut[:, 1:, :4], atol=2e-4)
    np.testing.assert_allclose(made[:, :1, :3], cut[:, :1, :3], atol=2e-4)  # its turn is not known


def test_channels_may_come_in_any_order_and_incomplete_triads_are_not_turned() -> None:
    channels = ("gyro_z", "total_acc_x", "gyro_x", "body_acc_y", "gyro_y")
    windows, rotations = some_windows(channels=5), augment.tilts(8, 40.0, SEED)
    turned = augment.rotate(tf.constant(windows), rotations, channels).numpy()
    np.testing.assert_array_equal(turned[:, :, [1, 3]], windows[:, :, [1, 3]])
    gyro = [channels.index(name) for name in GYRO]
    expected = np.einsum("nij,nsj->nsi", rotations.numpy(), windows[:, :, gyro])
    np.testing.assert_allclose(turned[:, :, gyro], expected, atol=1e-5)


def test_the_mirror_image_of_turning_about_an_axis_turns_the_other_way() -> None:
    turning = np.zeros((1, 128, 9), np.float32)
    turning[:, :, DEFAULT_CHANNELS.index("gyro_z")] = 2.0
    turning[:, :, DEFAULT_CHANNELS.index("gyro_x")] = 0.5
    turning[:, :, DEFAULT_CHANNELS.index("total_acc_x")] = -1.0
    turning[:, :, DEFAULT_CHANNELS.index("total_acc_y")] = 0.3
    seen = augment.mirror(tf.constant(turning), 1.0, "x", DEFAULT_CHANNELS, SEED).numpy()[0, 0]
    of = dict(zip(DEFAULT_CHANNELS, seen.tolist(), strict=True))
    assert (of["gyro_z"], of["gyro_x"], of["total_acc_x"]) == (-2.0, 0.5, 1.0)
    assert of["total_acc_y"] == pytest.approx(0.3)


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_a_mirror_turns_movements_into_movements_that_are_possible(axis: str) -> None:
    """Gravity seen by a turning device changes as dg/dt = g x omega: also in the mirror."""
    t = np.arange(128) / 50
    omega = np.stack([np.sin(3 * t), 0.5 * np.cos(2 * t), 0.8 + 0 * t], axis=1)
    g = np.zeros((128, 3))
    g[0] = [0.6, 0.0, 0.8]
    for k in range(127):
        middle = (omega[k] + omega[k + 1]) / 2
        half = g[k] + np.cross(g[k], middle) / 100
        g[k + 1] = g[k] + np.cross(half, middle) / 50
    channels = (*TOTAL_ACC, *GYRO)
    windows = np.hstack([g, omega])[None].astype(np.float32)
    seen = augment.mirror(tf.constant(windows), 1.0, axis, channels, SEED).numpy()[0]
    assert np.abs(seen - windows[0]).max() > 0.5
    rate = np.gradient(seen[:, :3], 1 / 50, axis=0)[2:-2]
    np.testing.assert_allclose(rate, np.cross(seen[:, :3], seen[:, 3:])[2:-2], atol=0.01)


def test_mirrored_is_the_share_asked_for_and_twice_is_back() -> None:
    windows = tf.constant(some_windows(2000)[:, :2])
    once = augment.mirror(windows, 0.3, "y", DEFAULT_CHANNELS, SEED)
    changed = np.abs(once.numpy() - windows.numpy()).max(axis=(1, 2)) > 0
    assert changed.mean() == pytest.approx(0.3, abs=0.04)
    np.testing.assert_array_equal(augment.mirror(once, 0.3, "y", DEFAULT_CHANNELS, SEED), windows)


def test_a_sensor_has_one_gain_and_gravity_stays_the_difference() -> None:
    windows = some_windows(4000)[:, :2]
    gain = augment.scale(tf.constant(windows), 0.2, DEFAULT_CHANNELS, SEED).numpy() / windows
    acc, gyro = gain[:, :, [0, 1, 2, 6, 7, 8]], gain[:, :, 3:6]
    for values in (acc, gyro):
        np.testing.assert_allclose(values, np.broadcast_to(values[:, :1, :1], values.shape), rtol=1e-4)
    logs = np.log([acc[:, 0, 0], gyro[:, 0, 0]])
    np.testing.assert_allclose(logs.std(axis=1), 0.2, rtol=0.05)
    assert abs(np.corrcoef(logs)[0, 1]) < 0.05


def test_jitter_has_the_energy_asked_for_in_every_channel() -> None:
    windows = some_windows(64, channels=2)
    noise = augment.jitter(tf.constant(windows), 0.1, (1.0, 30.0), SEED).numpy() - windows
    np.testing.assert_allclose(noise.std(axis=(0, 1)), [0.1, 3.0], rtol=0.05)
    np.testing.assert_allclose(noise.mean(axis=(0, 1)), 0, atol=0.1)


def test_stretching_changes_the_pace_within_the_range_of_the_signal() -> None:
    t = np.arange(128) / 50
    windows = np.repeat(np.sin(2 * np.pi * 4 * t)[None, :, None], 64, axis=0).astype(np.float32)
    stretched = augment.stretch(tf.constant(windows), 0.2, SEED).numpy()
    assert np.isfinite(stretched).all()
    assert np.abs(stretched).max() <= 1.0
    # Time is unchanged at the middle; the number of zero crossings measures the pace.
    np.testing.assert_allclose(stretched[:, 63:65].mean(axis=1), windows[:, 63:65].mean(axis=1), atol=0.1)
    crossings = (np.diff(np.sign(stretched[:, :, 0]), axis=1) != 0).sum(axis=1)
    assert crossings.min() < 20 < crossings.max()


def test_a_warp_keeps_order_and_ends_and_changes_the_pace_smoothly() -> None:
    time = np.repeat(np.arange(128, dtype=np.float32)[None, :, None], 200, axis=0)  # a clock as the signal
    warped = augment.warp(tf.constant(time), 0.3, SEED).numpy()[:, :, 0]
    np.testing.assert_allclose(warped[:, [0, -1]], np.tile([0, 127], (200, 1)), atol=1e-3)
    pace = np.diff(warped, axis=1)
    assert pace.min() > 0
    assert np.abs(np.diff(pace, axis=1)).max() < 0.2
    assert (pace.max(axis=1) / pace.min(axis=1)).mean() > 1.5


def test_dropout_takes_whole_sensors_but_never_all() -> None:
    windows = some_windows(4000)[:, :2] + np.float32(10)
    dropped = augment.channel_dropout(tf.constant(windows), 0.4, DEFAULT_CHANNELS, SEED).numpy()
    gone = np.stack([(dropped[:, :, triad] == 0).all(axis=(1, 2)) for triad in TRIADS.values()], axis=1)
    kept = np.stack([(dropped == windows)[:, :, triad].all(axis=(1, 2)) for triad in TRIADS.values()], axis=1)
    assert (gone ^ kept).all()
    assert gone.sum(axis=1).max() == 2
    np.testing.assert_allclose(gone.mean(axis=0), 0.4 - 0.4**3, atol=0.03)
    alone = augment.channel_dropout(tf.constant(windows[:, :, :3]), 0.9, BODY_ACC, SEED).numpy()
    np.testing.assert_array_equal(alone, windows[:, :, :3])


def test_mixup_blends_windows_and_labels_by_the_same_share() -> None:
    n = 2000
    inputs = np.tile(np.eye(3, dtype=np.float32)[np.arange(n) % 3][:, None, :], (1, 8, 1))
    truth = np.eye(3, dtype=np.float32)[np.arange(n) % 3]
    mixed, blended = (x.numpy() for x in augment.mixup(tf.constant(inputs), tf.constant(truth), 0.2, SEED))
    np.testing.assert_allclose(blended.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(mixed, np.broadcast_to(blended[:, None], mixed.shape), atol=1e-6)
    share = (blended * truth).sum(axis=1)
    # Beta(0.2, 0.2): mean 1/2, variance 1 / (4 (2 * 0.2 + 1)); most windows stay nearly pure.
    assert share.mean() == pytest.approx(0.5, abs=0.03)
    assert share.var() == pytest.approx(1 / 5.6, rel=0.06)
    assert (np.abs(share - 0.5) > 0.4).mean() > 0.5


def test_the_vertical_is_the_mean_of_total_acceleration() -> None:
    windows = some_windows() * np.float32(0.01)
    windows[:, :, 7] += 1.0
    vertical = augment.vertical_of(windows, DEFAULT_CHANNELS)
    assert vertical is not None
    np.testing.assert_allclose(vertical, [0, 1, 0], atol=0.01)
    assert augment.vertical_of(windows[:, :, :6], (*BODY_ACC, *GYRO)) is None
    windows[:4, :, 7] *= -1
    assert augment.vertical_of(windows[:, :, 6:], TOTAL_ACC) is None


def test_half_turns_are_about_the_axis_asked_for_and_as_many_as_asked_for() -> None:
    found = augment.half_turns(2000, "y", 0.25, SEED).numpy()
    turned = found[:, 0, 0] < 0
    assert 0.2 < turned.mean() < 0.3
    np.testing.assert_allclose(found[turned], np.diag([-1.0, 1, -1])[None].repeat(turned.sum(), 0), atol=1e-6)
    np.testing.assert_allclose(found[~turned], np.eye(3)[None].repeat((~turned).sum(), 0), atol=1e-6)


def test_smoothing_takes_the_fast_and_leaves_the_slow() -> None:
    t = np.arange(128)[:, None]
    slow, fast = np.sin(2 * np.pi * t / 64), np.sin(np.pi * t + 1)
    windows = np.concatenate([slow, fast], axis=1)[None].repeat(200, 0).astype(np.float32)
    smoothed = augment.smooth(windows, 1.0, SEED).numpy()[:, 8:-8]
    left = smoothed.std(axis=1) / windows[:, 8:-8].std(axis=1)
    assert left[:, 0].min() > 0.98
    assert left[:, 1].max() < 1.01
    assert np.median(left[:, 1]) < 0.5


def test_a_gyroscope_drifts_in_a_straight_line_and_nothing_else_changes() -> None:
    windows = some_windows(2000)
    drift = augment.gyro_drift(windows, 0.02, DEFAULT_CHANNELS, SEED).numpy() - windows
    np.testing.assert_array_equal(drift[:, :, [0, 1, 2, 6, 7, 8]], 0)
    gyro = drift[:, :, 3:6]
    np.testing.assert_allclose(np.diff(gyro, n=2, axis=1), 0, atol=1e-5)
    for size in (np.abs(gyro.mean(axis=1)), np.abs(gyro[:, -1] - gyro[:, 0])):
        assert np.median(size) < 0.003  # most hardly drift
        assert 0.01 < np.quantile(size, 0.97) < 0.04  # some do
