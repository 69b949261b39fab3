"""Fitting and calibrating, on wearers who are easily told apart from furniture."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording
from harstream.errors import ConfigError, DatasetError
from harstream.train import windows
from harstream.train.fit import FitConfig, fit, fit_temperature, normalisation_of

SPEC = SignalSpec()
TINY = FitConfig(epochs=4, learning_rate=1e-2, arch_settings={"widths": (8, 8), "kernels": (5, 3)})


@pytest.fixture(scope="module")
def data(recordings: list[Recording]) -> windows.LabelledWindows:
    return windows.cut(windows.restarted(recordings, SPEC, seed=0), SPEC, ("MOVING", "STILL"))


def test_a_fit_learns_and_tells_of_every_epoch(data: windows.LabelledWindows) -> None:
    told: list[tuple[str, int, int]] = []
    fitted = fit(data, SPEC, TINY, lambda *step: told.append(step))
    assert told == [("training", epoch, 4) for epoch in (1, 2, 3, 4)]
    logits = fitted.logits(data.windows)
    assert logits.shape == (len(data), 2)
    assert logits.dtype == np.float32
    assert (logits.argmax(axis=1) == data.label).mean() > 0.9


def test_the_same_seed_gives_the_same_network(data: windows.LabelledWindows) -> None:
    first, second = (fit(data, SPEC, TINY).logits(data.windows[:20]) for _ in range(2))
    np.testing.assert_allclose(first, second, atol=1e-3)


def test_normalisation_is_that_of_the_training_windows(data: windows.LabelledWindows) -> None:
    norm = normalisation_of(data.windows)
    assert fit(data, SPEC, TINY).spec.norm == norm
    values = norm.apply(data.windows).reshape(-1, 9)
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(values.std(axis=0), 1, atol=1e-3)
    flat = np.ones((4, 8, 2), np.float32)
    assert normalisation_of(flat).std == (1.0, 1.0)


def test_nothing_to_train_on_is_said_so(data: windows.LabelledWindows) -> None:
    with pytest.raises(DatasetError, match="no window"):
        fit(data.of([]), SPEC, TINY)


def test_temperature_undoes_overconfidence() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(20_000, 3)) * 2
    odds = np.exp(honest)
    share = np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1)
    label = (rng.random((20_000, 1)) > share).sum(axis=1)
    assert fit_temperature((honest * 3).astype(np.float32), label) == pytest.approx(3.0, rel=0.05)
    assert fit_temperature((honest / 2).astype(np.float32), label) == pytest.approx(0.5, rel=0.05)
    assert fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, np.int64)) == 1.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs: 0 is not between"),
        ({"epochs": 1.5}, "epochs: expected a whole number"),
        ({"learning_rate": "fast"}, "learning_rate: expected a number"),
        ({"label_smoothing": 1.0}, "label_smoothing: 1.0 is not between"),
        ({"depth": 3}, "no setting 'depth'; there are batch_windows, dropout"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FitConfig().with_settings(settings)


def test_settings_reach_the_training_and_the_architecture() -> None:
    config = FitConfig(arch="cnn").with_settings({"filters": 16, "tilt_deg": 10.0})
    assert (config.tilt_deg, config.arch_settings) == (10.0, {"filters": 16})
    assert config.to_dict()["arch_settings"] == {"filters": 16, "kernel": 3, "dense": 100, "dropout": 0.5}
