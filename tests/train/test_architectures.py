"""The networks, and that LiteRT computes what Keras does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras

from harstream.errors import ConfigError
from harstream.train import architectures, export


def inputs(n: int = 300, samples: int = 128, channels: int = 9) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, samples, channels)).astype(np.float32)


def lived_in(name: str, samples: int = 128, channels: int = 9) -> keras.Model:
    """Fresh weights, but batch statistics that are not those of a fresh layer: folding must get them right."""
    keras.utils.set_random_seed(5)
    model = architectures.build(name, samples, channels, 6)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma * 1.2, beta + 0.1, mean + rng.normal(size=mean.shape) * 0.1, variance * 1.5])
    return model


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_litert_agrees_with_keras(name: str) -> None:
    model, x = lived_in(name), inputs()
    expected = model(x, training=False).numpy()
    assert expected.shape == (300, 6)
    np.testing.assert_allclose(export.litert_logits(export.to_litert(model), x), expected, atol=1e-4)


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_int8_is_smaller_and_close(name: str) -> None:
    model, x = lived_in(name), inputs()
    expected = model(x, training=False).numpy()
    data = export.to_int8(model, x)
    assert len(data) < 0.5 * len(export.to_litert(model))
    difference = export.litert_logits(data, x) - expected
    assert np.sqrt(np.mean(difference**2)) < 0.15 * expected.std()


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_keras_files_load_in_safe_mode(name: str, tmp_path: Path) -> None:
    model, x = lived_in(name), inputs(4)
    export.save_keras(model, tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_allclose(loaded(x, training=False), model(x, training=False), atol=1e-6)


@pytest.mark.parametrize(("samples", "channels"), [(40, 3), (51, 6), (256, 9)])
def test_any_window_can_be_built_for(samples: int, channels: int) -> None:
    for name in architectures.ARCHITECTURES:
        model, x = lived_in(name, samples, channels), inputs(3, samples, channels)
        data = export.to_litert(model)
        np.testing.assert_allclose(export.litert_logits(data, x), model(x, training=False), atol=1e-4)


def test_the_default_is_small() -> None:
    assert architectures.build(architectures.DEFAULT, 128, 9, 6).count_params() <= 100_000


def test_what_is_unknown_is_refused_with_what_is_known() -> None:
    with pytest.raises(ConfigError, match="'transformer' is not one of rescnn, cnn"):
        architectures.build("transformer", 128, 9, 6)
    with pytest.raises(ConfigError, match="no setting 'width'; it has widths"):
        architectures.build("rescnn", 128, 9, 6, {"width": 3})
    with pytest.raises(ConfigError, match="cannot be built"):
        architectures.build("cnn", 128, 9, 6, {"filters": -1})
