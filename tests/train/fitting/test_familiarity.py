"""Fit of the test of unfamiliar windows: what a network knows of its training data, and what the limits cost."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from harstream.core.familiar import total
from harstream.core.spec import SignalSpec
from harstream.datasets.windows import LabelledWindows
from harstream.train.fitting.familiarity import COST, fit_familiar, limits_for
from harstream.train.fitting.recipe import FitConfig


class Looking:
    """Network whose features are the first samples of the first channel; the others are those of an augmentation."""

    spec = SignalSpec(window_samples=8, stride_samples=8, channels=("total_acc_x",))

    def logits_and_features(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert windows.shape[2] == 1
        return windows[:, :2, 0], windows[:, :4, 0]


def some_data(n: int = 3000, seed: int = 0) -> LabelledWindows:
    """Return windows of two labels and a state, whose features have other means and correlated deviations."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 3
    windows = np.zeros((n, 8, 2), np.float32)
    mixing = np.array([[1.0, 0.5, 0, 0], [0, 2.0, 0, 0], [0, 0, 0.1, 0], [0, 0, 0, 0]])
    windows[:, :4, 0] = rng.normal(size=(n, 4)) @ mixing + label[:, None] * np.array([3.0, 0, 1, 0])
    windows[:, :, 1] = 1000.0  # an augmentation needs this channel, and the network does not get it
    names = np.array(["a"] * n)
    sets = np.where(np.arange(n) < n // 2, "one", "other")
    return LabelledWindows(windows, label, names, names, sets, np.arange(n), ("A", "B"), ("A_TO_B",))


def test_means_and_covariance_are_those_of_the_features_of_each_output() -> None:
    data = some_data()
    familiar = fit_familiar(Looking(), data, FitConfig())  # type: ignore[arg-type]
    values = data.windows[:, :4, 0].astype(np.float64)
    means = np.stack([values[data.label == one].mean(axis=0) for one in range(3)])
    np.testing.assert_allclose(familiar.means, means, rtol=1e-5, atol=1e-12)
    deviations = (values - means[data.label])[:, :3]
    covariance = deviations.T @ deviations / len(values) + 0.01 * np.diag(values[:, :3].var(axis=0))
    probe = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32)
    probe[:, 3] = 0
    expected = [
        min((one - mean) @ np.linalg.inv(covariance) @ (one - mean) for mean in means[:, :3])
        for one in probe[:, :3].astype(np.float64)
    ]
    np.testing.assert_allclose(familiar.distance(probe), expected, rtol=1e-4)


def test_a_feature_that_never_changes_may_change_a_little_and_numbers_are_short() -> None:
    familiar = fit_familiar(Looking(), some_data(), FitConfig())  # type: ignore[arg-type]
    assert np.isfinite(familiar.whitening).all()
    for matrix in (familiar.means, familiar.whitening):
        assert max(len(repr(value)) for row in matrix.tolist() for value in row) <= 13
    assert familiar.limits == (np.inf, np.inf, np.inf)


def test_windows_that_were_not_trained_on_do_not_count() -> None:
    data = some_data()
    seen: list[int] = []

    def look(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(len(windows))
        return windows[:, :2, 0], windows[:, :4, 0]

    network = SimpleNamespace(spec=Looking.spec, logits_and_features=look)
    fit_familiar(network, data, FitConfig(set_windows=100))  # type: ignore[arg-type]
    assert seen == [100 * 3 * 2]  # of each output of each data set


@pytest.mark.parametrize("together", [0.0, 0.5, 1.0])
def test_the_limits_cost_no_more_than_asked_and_hardly_less(together: float) -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(size=20_000)
    distance, energy = (together * common + (1 - together) * rng.normal(size=20_000) for _ in range(2))
    for cost in (0.001, COST, 0.1):
        limits = limits_for(distance, energy, cost)
        assert limits.energy == np.inf
        assert 0.9 * cost < (total(distance, energy) > limits.total).mean() <= cost
        assert 0 < (distance > limits.distance).mean() <= 0.1 * cost


def test_other_people_pay_about_as_much() -> None:
    rng = np.random.default_rng(0)
    distance, energy = rng.chisquare(64, size=(2, 40_000))
    limits = limits_for(distance[::2], energy[::2])
    found = limits.exceeded_by(distance[1::2], energy[1::2])
    assert found.mean() == pytest.approx(COST, abs=0.002)


def test_few_windows_are_all_familiar() -> None:
    assert limits_for(np.array([1.0, 2, 3]), np.array([5.0, 4, 3]), 0.0).total == 5 + 1 / 300
    assert limits_for(np.zeros(50), np.zeros(50)).total == 0.0
