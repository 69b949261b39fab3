"""The networks equal those of their sources, and refuse windows and settings they cannot use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras

from harstream.errors import ConfigError
from harstream.train import export
from harstream.train.fitting import architectures

#: Short windows: recurrent networks take time for every sample.
SAMPLES = {name: 96 if name == "depthwise-cnn" else 24 for name in architectures.ARCHITECTURES}


@pytest.mark.parametrize(("name", "samples"), SAMPLES.items())
def test_windows_in_any_number_become_logits(name: str, samples: int) -> None:
    keras.utils.set_random_seed(5)
    model = architectures.build(name, samples, 3, 5)
    for n in (1, 7):
        logits = model(np.random.default_rng(n).normal(size=(n, samples, 3)).astype(np.float32), training=False).numpy()
        assert logits.shape == (n, 5)
        assert np.isfinite(logits).all()
        assert np.abs(logits.sum(axis=1) - 1).min() > 1e-3  # no softmax
    assert model.name == name


@pytest.mark.parametrize(("name", "samples"), SAMPLES.items())
def test_keras_files_load_in_safe_mode(name: str, samples: int, tmp_path: Path) -> None:
    model = architectures.build(name, samples, 3, 6, {"dense": 10} if name == "depthwise-cnn" else {})
    export.save_keras(model, tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    x = np.random.default_rng(0).normal(size=(4, samples, 3)).astype(np.float32)
    np.testing.assert_allclose(loaded(x, training=False).numpy(), model(x, training=False).numpy(), atol=1e-6)


def dense(n_inputs: int, n_outputs: int) -> int:
    return (n_inputs + 1) * n_outputs


@pytest.mark.parametrize(
    ("name", "window", "n_parameters"),
    [
        ("mlp", (128, 9), dense(128 * 9, 500) + 2 * dense(500, 500) + dense(500, 6)),
        ("cnn", (128, 9), dense(3 * 9, 64) + dense(3 * 64, 64) + dense(62 * 64, 100) + dense(100, 6)),
        (
            "multihead-cnn",
            (128, 9),
            sum(dense(kernel * 9, 64) for kernel in (3, 5, 11)) + dense((63 + 62 + 59) * 64, 100) + dense(100, 6),
        ),
        (  # as in the tutorial: 31 samples are left, 6 pooled, 1
            "depthwise-cnn",
            (90, 3),
            dense(60, 180) + dense(6, 1080) + dense(1080, 1000) + dense(1000, 6),
        ),
        ("lstm", (128, 9), 4 * dense(9 + 100, 100) + dense(100, 100) + dense(100, 6)),
        ("stacked-lstm", (128, 9), dense(9, 32) + 2 * 4 * dense(32 + 32, 32) + dense(32, 6)),
        (
            "cnn-lstm",
            (128, 9),
            dense(3 * 9, 64) + dense(3 * 64, 64) + 4 * dense(14 * 64 + 100, 100) + dense(100, 100) + dense(100, 6),
        ),
        ("convlstm", (128, 9), 4 * dense(3 * 9 + 3 * 64, 64) + dense(30 * 64, 100) + dense(100, 6)),
    ],
)
def test_a_network_has_the_parameters_of_its_source(name: str, window: tuple[int, int], n_parameters: int) -> None:
    assert architectures.build(name, *window, 6).count_params() == n_parameters
    assert architectures.count_parameters(name, *window, 6) == n_parameters


def test_the_default_is_small() -> None:
    assert architectures.build(architectures.DEFAULT, 128, 9, 6).count_params() <= 100_000


def test_the_magnified_view_of_the_default_keeps_sway_and_loses_what_stands_still() -> None:
    def fine(x: np.ndarray, **settings: float) -> np.ndarray:
        model = architectures.build("rescnn", 128, 1, 6, settings)
        view = next(layer.output for layer in model.layers if layer.name.startswith("activation"))
        return keras.Model(model.inputs, view)([x]).numpy()

    sway = 0.02 * np.sin(np.arange(128) / 2, dtype=np.float32).reshape(1, 128, 1)
    seen = fine(sway)
    assert np.abs(seen[0, 32:-32]).max() == pytest.approx(0.2, rel=0.1)  # ten times as large, and hardly bent
    np.testing.assert_allclose(fine(sway + 3), seen, atol=1e-5)
    assert fine(sway + 3, fine_span=0.0).min() > 0.99


def test_the_penalty_of_stacked_lstm_counts_every_weight_and_bias() -> None:
    model = architectures.build("stacked-lstm", 32, 3, 4, {"units": 5, "l2": 0.01})
    squares = sum(float(np.square(weight).sum()) for weight in model.get_weights())
    assert float(sum(model.losses)) == pytest.approx(0.01 / 2 * squares, rel=1e-5)


def test_blocks_are_seen_apart_and_in_their_order() -> None:
    x = np.random.default_rng(0).normal(size=(1, 128, 3)).astype(np.float32)
    backwards = x.reshape(1, 4, 32, 3)[:, ::-1].reshape(1, 128, 3)
    for name in ("cnn-lstm", "convlstm"):
        model = architectures.build(name, 128, 3, 6)
        assert np.abs(model(x, training=False) - model(backwards, training=False)).max() > 1e-4
    features = keras.Model(model.inputs, model.layers[1].output)([x]).numpy()
    np.testing.assert_array_equal(features[0, 2, 0], x[0, 64:96])


@pytest.mark.parametrize(
    ("name", "settings", "least"),
    [
        ("mlp", {}, 1),
        ("cnn", {}, 6),
        ("cnn", {"kernel_size": 7, "pool_size": 4}, 16),
        ("multihead-cnn", {}, 12),
        ("depthwise-cnn", {}, 89),
        ("depthwise-cnn", {"kernel_size": 20, "pool_size": 10}, 39),
        ("lstm", {}, 1),
        ("cnn-lstm", {}, 24),
        ("convlstm", {"blocks": 8}, 24),
    ],
)
def test_the_shortest_window_can_be_built_for_and_a_shorter_one_is_refused(
    name: str, settings: dict[str, int], least: int
) -> None:
    assert architectures.build(name, least, 3, 6, settings).output_shape == (None, 6)
    if least > 1:
        with pytest.raises(ConfigError, match=rf"{name} needs windows of at least {least} samples .*, got {least - 1}"):
            architectures.build(name, least - 1, 3, 6, settings)


@pytest.mark.parametrize("name", ["cnn-lstm", "convlstm"])
def test_a_window_that_the_blocks_do_not_divide_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"4 blocks of equal length, but a window has 50 samples: change blocks"):
        architectures.build(name, 50, 9, 6)
    assert architectures.build(name, 50, 9, 6, {"blocks": 5}).output_shape == (None, 6)


def test_settings_change_the_network() -> None:
    def parameters(name: str, **settings: object) -> int:
        return architectures.build(name, 64, 3, 6, settings).count_params()

    assert parameters("cnn", kernel_size=7) != parameters("cnn")
    assert parameters("multihead-cnn", kernel_sizes=[3]) < parameters("multihead-cnn")
    assert parameters("mlp", dropouts=[0.1, 0.2]) < parameters("mlp")
    assert parameters("lstm", units=8) < parameters("lstm")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("transformer", {}, "'transformer' is not one of rescnn, mlp, cnn"),
        ("rescnn", {"width": 3}, "no setting 'width'; it has widths"),
        ("cnn", {"filters": -1}, "filters: -1 is less than 1"),
        ("cnn", {"filters": 2.5}, "filters: expected a whole number"),
        ("cnn", {"filters": True}, "filters: expected a whole number"),
        ("cnn", {"kernel_size": "big"}, "kernel_size: expected a whole number, got 'big'"),
        ("cnn", {"dropout": 1}, r"dropout: 1 is not between 0\.0 and 0\.99"),
        ("mlp", {"dropouts": [0.1, -1]}, "dropouts: -1 is not between"),
        ("multihead-cnn", {"kernel_sizes": 3}, r"kernel_sizes: expected a list such as \[3, 5, 11\], got 3"),
        ("multihead-cnn", {"kernel_sizes": []}, "kernel_sizes: expected a list"),
        ("stacked-lstm", {"l2": -0.1}, r"l2: -0\.1 is less than 0"),
        ("rescnn", {"widths": [8, 16]}, "cannot be built for 128 samples"),
    ],
)
def test_an_impossible_setting_is_refused_by_name(name: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        architectures.build(name, 128, 9, 6, settings)


def test_no_setting_has_the_name_of_one_of_the_recipe() -> None:
    from dataclasses import fields

    from harstream.train.fitting.recipe import FitConfig

    for name in architectures.ARCHITECTURES:
        assert not {field.name for field in fields(FitConfig)} & set(architectures.settings_of(name))


def test_the_shape_view_does_not_know_how_strong_a_movement_is() -> None:
    model = architectures.build("rescnn", 64, 3, 5, {"shape_gain": 1.0, "fine_gain": 0.0})
    view = keras.Model(model.input, model.get_layer("shape").output)
    x = np.random.default_rng(0).normal(size=(4, 64, 3)).astype(np.float32)
    shape, stronger, shifted = (np.asarray(view(values))[:, :, 0] for values in (x, 5 * x, x + 3))
    np.testing.assert_allclose(shape.std(axis=1), 1, atol=1e-3)
    np.testing.assert_allclose(stronger, shape, atol=1e-3)
    np.testing.assert_allclose(shifted, shape, atol=1e-3)
    assert np.abs(np.asarray(view(1e-3 * x))).max() < 0.5  # noise of a still device stays small
