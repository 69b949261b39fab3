"""Windows made unfamiliar: each kind is what its name says, and none is a window that the model shall know."""

from __future__ import annotations

from collections.abc import Sequence

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
    SignalSpec,
)
from harstream.datasets.windows import LabelledWindows  # noqa: E402
from harstream.errors import ConfigError  # noqa: E402
from harstream.train.fitting import unfamiliar  # noqa: E402
from harstream.train.fitting.batches import batch_function  # noqa: E402
from harstream.train.fitting.fit import normalisation_of  # noqa: E402
from harstream.train.fitting.prepare import training_channels  # noqa: E402
from harstream.train.fitting.recipe import FitConfig  # noqa: E402

from ...made_recordings import PLAIN  # noqa: E402

Windows = npt.NDArray[np.float32]

SEED = tf.constant([1, 2])
RATE_HZ = 50.0
UP = np.array([0.0, 0.0, 1.0])
BODY, GYROSCOPE, TOTAL = slice(0, 3), slice(3, 6), slice(6, 9)  # of the default channels


def some_windows(n: int = 900, *, moving: bool = True, tilt_deg: float = 10.0) -> Windows:
    """Return windows of a subject with gravity along z, tilted by ``tilt_deg`` towards any side."""
    rng = np.random.default_rng(0)
    windows = np.zeros((n, 128, 9), np.float32)
    windows[:, :, BODY] = rng.normal(scale=0.3 if moving else 0.002, size=(n, 128, 3))
    windows[:, :, GYROSCOPE] = rng.normal(scale=0.5 if moving else 0.01, size=(n, 128, 3))
    side, angle = rng.uniform(0, 2 * np.pi, n), np.radians(tilt_deg)
    gravity = np.stack([np.sin(angle) * np.cos(side), np.sin(angle) * np.sin(side), np.full(n, np.cos(angle))], axis=1)
    wobble = 1 + 0.001 * np.arange(128)[None, :, None]  # so that the order of gravity shows
    windows[:, :, TOTAL] = (gravity[:, None] * wobble + windows[:, :, BODY]).astype(np.float32)
    return windows


def make(
    windows: Windows,
    share: float = 1.0,
    channels: Sequence[str] = DEFAULT_CHANNELS,
    vertical: npt.NDArray[np.float64] | None = UP,
    *,
    any_orientation: bool = False,
    only: int | None = None,
) -> tuple[Windows, npt.NDArray[np.bool_]]:
    """Return the windows made unfamiliar, by all kinds or the ``only`` one, and which of them are."""
    kinds = unfamiliar.kinds_for(channels, RATE_HZ, vertical, any_orientation=any_orientation)
    if only is not None:
        kinds = kinds[only : only + 1]
    truth = np.eye(4, dtype=np.float32)[np.zeros(len(windows), int)]
    made, label = unfamiliar.make_unfamiliar(tf.constant(windows), truth, share, kinds, SEED)
    replaced = np.asarray(label)[:, 0] < 1
    np.testing.assert_allclose(np.asarray(label)[replaced], 0.25)
    np.testing.assert_array_equal(np.asarray(made)[~replaced], windows[~replaced])
    np.testing.assert_array_equal(np.asarray(label)[~replaced], truth[~replaced])
    return np.asarray(made), replaced


def angle_to_up(windows: Windows) -> npt.NDArray[np.float64]:
    """Return the angle in degrees between mean total acceleration and the vertical."""
    mean = windows[:, :, TOTAL].mean(axis=1, dtype=np.float64)
    return np.degrees(np.arccos(mean[:, 2] / np.linalg.norm(mean, axis=1)))


def rms(body: Windows) -> npt.NDArray[np.float64]:
    """Return the strength of body acceleration (n, window_samples, 3) in g rms."""
    return np.sqrt(np.square(body, dtype=np.float64).sum(axis=2).mean(axis=1))


# --- devices that must lie as in the training data ----------------------------------------------------


def test_windows_of_fixed_devices_are_shuffled_turned_or_on_a_table_equally_often() -> None:
    windows = some_windows()
    made, replaced = make(windows)
    assert replaced.all()
    table = rms(made[:, :, BODY]) < 0.02
    turned = (angle_to_up(made) > 60) & ~table
    shuffled = ~table & ~turned
    for kind in (table, turned, shuffled):
        assert 0.28 < kind.mean() < 0.39
    np.testing.assert_allclose(
        np.sort(made[shuffled][:, :, BODY], axis=1), np.sort(windows[shuffled][:, :, BODY], axis=1)
    )


def test_a_moving_subject_is_shuffled_in_one_order_on_gravity_in_its_own() -> None:
    windows = some_windows(50)
    made, replaced = make(windows, only=0)
    assert replaced.all()
    assert (np.abs(made[:, :, BODY] - windows[:, :, BODY]).max(axis=(1, 2)) > 0.1).all()
    gravity = [values[:, :, TOTAL] - values[:, :, BODY] for values in (made, windows)]
    np.testing.assert_allclose(gravity[0], gravity[1], atol=1e-6)
    for one, other in zip(made, windows, strict=True):
        order = [int(np.flatnonzero((other[:, BODY] == row).all(axis=1))[0]) for row in one[:, BODY]]
        assert sorted(order) == list(range(128))
        np.testing.assert_array_equal(one[:, GYROSCOPE], other[order, GYROSCOPE])
    assert not make(some_windows(50, moving=False), only=0)[1].any()  # in any order it is the same


@pytest.mark.parametrize(("moving", "least_deg"), [(True, 60.0), (False, 120.0)])
def test_an_upright_window_is_turned_as_far_as_it_must_and_evenly(moving: bool, least_deg: float) -> None:
    windows = some_windows(4000, moving=moving)
    made, replaced = make(windows, only=1)
    assert replaced.all()
    angles = angle_to_up(made)
    assert angles.min() > least_deg - 0.1
    cosines = np.cos(np.radians(angles))
    low = np.cos(np.radians(least_deg))
    np.testing.assert_allclose(
        np.quantile(cosines, [0.25, 0.5, 0.75]), -1 + (1 + low) * np.array([0.25, 0.5, 0.75]), atol=0.05
    )
    mean = made[:, :, TOTAL].mean(axis=1)
    assert np.abs(mean[:, :2].mean(axis=0)).max() < 0.05  # to any side
    # All triads of a window turn by one rotation, which keeps their lengths and angles.
    first, second = (
        np.concatenate([one[:, :, part] for part in (BODY, GYROSCOPE, TOTAL)], axis=1)[:20] for one in (made, windows)
    )
    np.testing.assert_allclose(first @ first.transpose(0, 2, 1), second @ second.transpose(0, 2, 1), atol=1e-4)
    assert np.linalg.det(np.linalg.lstsq(second[0], first[0], rcond=None)[0]) == pytest.approx(1, abs=1e-3)


def test_a_still_subject_may_lie_and_one_who_lies_is_not_turned() -> None:
    assert not make(some_windows(100, tilt_deg=70.0), only=1)[1].any()
    assert not make(some_windows(100, moving=False, tilt_deg=90.0), only=1)[1].any()
    assert make(some_windows(100, moving=False, tilt_deg=50.0), only=1)[1].all()


def test_a_device_on_a_table_shows_gravity_in_any_direction_and_noise() -> None:
    made, replaced = make(some_windows(2000), only=2)
    assert replaced.all()
    mean = made[:, :, TOTAL].mean(axis=1)
    np.testing.assert_allclose(np.linalg.norm(mean, axis=1), 1, atol=2e-3)
    assert np.abs(mean.mean(axis=0)).max() < 0.06
    noise = made.std(axis=1)
    assert (noise.min() > 4e-4) & (noise.max() < 6.5e-3)
    np.testing.assert_allclose(made[:, :, :6].mean(axis=1), 0, atol=3e-3)


# --- devices that may lie in any way ------------------------------------------------------------------


def test_no_window_of_a_device_that_may_lie_in_any_way_is_turned_or_put_on_a_table() -> None:
    for moving in (True, False):
        windows = some_windows(moving=moving)
        made, replaced = make(windows, any_orientation=True)
        np.testing.assert_allclose(
            made[:, :, TOTAL] - made[:, :, BODY], windows[:, :, TOTAL] - windows[:, :, BODY], atol=1e-5
        )
        assert rms(made[replaced][:, :, BODY]).min() > 0.3
        assert replaced.mean() == pytest.approx(1 if moving else 2 / 3, abs=0.05)
    tone = np.abs(np.fft.rfft(made[:, :, BODY], axis=1)) ** 2  # of a subject who is still
    concentrated = tone.sum(axis=2).max(axis=1) / tone.sum(axis=(1, 2)) > 0.3
    noise = replaced & ~concentrated
    for kind in (concentrated, noise, ~replaced):
        assert 0.28 < kind.mean() < 0.39


def test_shaking_is_a_strong_tone_along_a_line() -> None:
    made, replaced = make(some_windows(1000), any_orientation=True, only=1)
    assert replaced.all()
    body = made[:, :, BODY]
    strength = rms(body)
    assert (strength.min() > 0.6) & (strength.max() < 2.7)
    assert (strength.min() < 0.8) & (strength.max() > 2.3)
    spectrum = (np.abs(np.fft.rfft(body * np.hanning(128)[None, :, None], axis=1)) ** 2).sum(axis=2)
    hz = np.fft.rfftfreq(128, 1 / RATE_HZ)[spectrum.argmax(axis=1)]
    assert (2.7 <= hz.min() < 3.5) & (7.5 < hz.max() <= 8.3)
    along = np.linalg.svd(body, compute_uv=False)
    assert (along[:, 1] / along[:, 0]).max() < 0.15
    lines = body[np.arange(1000), np.abs(body).sum(axis=2).argmax(axis=1)]
    lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    np.testing.assert_allclose(lines.T @ lines / 1000, np.eye(3) / 3, atol=0.05)


def test_the_tone_of_slow_signals_is_below_half_of_their_rate() -> None:
    windows = some_windows(200)
    [_, shaken, _] = unfamiliar.kinds_for(DEFAULT_CHANNELS, 10.0, UP, any_orientation=True)
    body = np.asarray(shaken(tf.constant(windows), SEED)[0])[:, :, BODY]
    spectrum = (np.abs(np.fft.rfft(body, axis=1)) ** 2).sum(axis=2)
    hz = np.fft.rfftfreq(128, 1 / 10.0)[spectrum.argmax(axis=1)]
    assert (hz.min() >= 2.9) & (hz.max() <= 4.6)


def test_white_noise_has_no_tone_and_no_line() -> None:
    made, replaced = make(some_windows(1000), any_orientation=True, only=2)
    assert replaced.all()
    body = made[:, :, BODY]
    level = body.std(axis=(1, 2))
    assert (0.15 < level.min() < 0.25) & (0.9 < level.max() < 1.1)
    spectrum = (np.abs(np.fft.rfft(body / level[:, None, None], axis=1)) ** 2).mean(axis=(0, 2))
    np.testing.assert_allclose(spectrum[1:-1] / spectrum[1:-1].mean(), 1, atol=0.15)


# --- channels and seeds -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "fixed", "free"),
    [
        (DEFAULT_CHANNELS, 3, 3),
        (TOTAL_ACC, 3, 1),
        ((*BODY_ACC, *GYRO), 1, 1),
        (GYRO, 1, 1),
        (("total_acc_x", "total_acc_y"), 1, 1),
    ],
)
def test_a_kind_that_needs_other_channels_is_left_out(channels: tuple[str, ...], fixed: int, free: int) -> None:
    vertical = UP if set(TOTAL_ACC) <= set(channels) else None
    windows = some_windows(300)[:, :, [DEFAULT_CHANNELS.index(name) for name in channels]]
    for any_orientation, number in ((False, fixed), (True, free)):
        kinds = unfamiliar.kinds_for(channels, RATE_HZ, vertical, any_orientation=any_orientation)
        assert len(kinds) == number
        _, replaced = make(windows, channels=channels, vertical=vertical, any_orientation=any_orientation)
        assert replaced.all()  # this subject moves by any sensor


def test_without_a_vertical_nothing_is_turned() -> None:
    made, replaced = make(some_windows(300), vertical=None)
    assert replaced.all()
    table = rms(made[:, :, BODY]) < 0.02
    assert table.mean() == pytest.approx(0.5, abs=0.1)
    np.testing.assert_allclose(angle_to_up(made[~table]), 10, atol=5)


def test_only_the_share_asked_for_is_unfamiliar() -> None:
    assert 0.07 < make(some_windows(2000), 0.1)[1].mean() < 0.13
    assert not make(some_windows(50), 0.0)[1].any()


def drawn(spec: SignalSpec, windows: Windows, **settings: float) -> tuple[Windows, Windows]:
    """Return inputs and truth of all windows, as a fit with these settings draws them."""
    n = len(windows)
    names = np.array(["a"] * n)
    data = LabelledWindows(windows, np.arange(n) % 3, names, names, names, np.arange(n), ("A", "B", "C"))
    norm = normalisation_of(windows[:, :, : spec.n_channels])
    graph = batch_function(data, spec, norm, norm.std, FitConfig(**{**PLAIN, **settings}))
    inputs, truth = graph(tf.range(n), SEED)
    return np.asarray(inputs) * np.array(norm.std) + np.array(norm.mean), np.asarray(truth)


def test_orientation_free_windows_get_shaking_and_noise_but_no_table() -> None:
    spec = SignalSpec(channels=ORIENTATION_FREE)
    assert training_channels(spec) == (*ORIENTATION_FREE, *TOTAL_ACC, *BODY_ACC)
    still = some_windows(300, moving=False)
    windows = np.concatenate([np.zeros((300, 128, 4), np.float32), still[:, :, TOTAL], still[:, :, BODY]], axis=2)
    inputs, truth = drawn(spec, windows, unfamiliar_share=0.9)
    replaced = truth.max(axis=1) < 1
    assert replaced.mean() == pytest.approx(0.6, abs=0.1)
    vertical_and_horizontal = inputs[:, :, :2]
    strength = np.sqrt(np.square(vertical_and_horizontal).sum(axis=2).mean(axis=1))
    assert strength[replaced].min() > 0.3
    assert strength[~replaced].max() < 0.01
    assert inputs[replaced][:, :, 3].max() < 0.5  # gravity hardly turns, as with a still device


@pytest.mark.parametrize(
    ("settings", "upside_down"), [({}, True), ({"flipped_share": 0.5}, False), ({"tilt_deg": 90.0}, False)]
)
def test_what_a_recipe_turns_itself_is_not_unfamiliar(settings: dict[str, float], upside_down: bool) -> None:
    windows = some_windows(400, moving=False)
    inputs, truth = drawn(SignalSpec(), windows, unfamiliar_share=0.9, **settings)
    replaced = truth.max(axis=1) < 1
    first, last = (np.linalg.norm(inputs[:, part, TOTAL].mean(axis=1), axis=1) for part in (slice(9), slice(-9, None)))
    table, shaken = last / first < 1.05, rms(inputs[:, :, BODY]) > 0.1
    turned = replaced & (angle_to_up(inputs) > 120) & ~table & ~shaken
    assert (turned.mean() > 0.2, turned.any()) == (upside_down, upside_down)


@pytest.mark.parametrize("name", ["vigour", "coupling_db"])
def test_an_augmentation_of_body_acceleration_that_is_not_there_is_refused(name: str) -> None:
    windows = some_windows(6)[:, :, GYROSCOPE]
    spec = SignalSpec(channels=GYRO)
    inputs, _ = drawn(spec, windows, unfamiliar_share=0.9)
    assert inputs.shape == windows.shape
    with pytest.raises(ConfigError, match=f"{name}: it changes body acceleration, but the channels are gyro_x"):
        drawn(spec, windows, **{name: 0.5})
