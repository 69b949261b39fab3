"""Every architecture is exported to LiteRT with equal results; other networks serve with TensorFlow."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras

from harstream import bundle as bundles
from harstream.bundle import INT8, KERAS, LITERT
from harstream.classifier import BATCH_SIZES, LiteRTNetwork, load_classifier, open_classifier, seal_bundle
from harstream.core.spec import TOTAL_ACC, SignalSpec
from harstream.datasets import windows
from harstream.datasets.base import Recording
from harstream.errors import BundleError
from harstream.train import export, pipeline
from harstream.train.fitting import architectures
from harstream.train.fitting.architectures.loops import without_tensor_lists
from harstream.train.fitting.fit import fit
from harstream.train.fitting.prepare import prepare
from harstream.train.fitting.recipe import FitConfig
from harstream.train.validation.cross_validation import CrossValidation, cross_validate

from ..fakes import Clock
from ..made_recordings import PLAIN

CHANNELS = 3
#: The architectures of which a training, an export and a conversion take the least time.
QUICK = ("mlp", "cnn")
#: Fewer parameters, but as many steps and operations as by default.
SETTINGS: dict[str, dict[str, object]] = {
    "rescnn": {"widths": (8, 16, 16), "kernels": (5, 5, 3)},
    "mlp": {"units": 50},
    "multihead-cnn": {"filters": 20, "dense": 30},
    "depthwise-cnn": {"filters": 10, "dense": 20},
    "lstm": {"units": 30, "dense": 30},
    "cnn-lstm": {"units": 30, "dense": 30},
    "convlstm": {"filters": 20, "dense": 30},
}


#: The windows trained on.
SHORT = SignalSpec(window_samples=24, stride_samples=24, channels=TOTAL_ACC)


def inputs(n: int = 100, samples: int = 128) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, samples, CHANNELS)).astype(np.float32)


def trained_like(name: str, samples: int = 128) -> keras.Model:
    """Return a network with initial weights, but with batch statistics and biases as after a training."""
    keras.utils.set_random_seed(5)
    model = architectures.build(name, samples, CHANNELS, 6, SETTINGS.get(name))
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma * 1.2, beta + 0.1, mean + rng.normal(size=mean.shape) * 0.1, variance * 1.5])
        else:
            layer.set_weights([w + 0.1 * rng.normal(size=w.shape) if w.ndim == 1 else w for w in layer.get_weights()])
    return model


def sequences() -> keras.Model:
    """Return a network whose recurrent layer returns the outputs of all steps, which LiteRT does not support."""
    source = keras.Input((128, 9))
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.LSTM(4, return_sequences=True)(source))
    return keras.Model(source, keras.layers.Dense(2)(x))


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_litert_and_int8_agree_with_keras_in_batches_of_any_size(name: str) -> None:
    model, x = trained_like(name), inputs()
    expected = model(x, training=False).numpy()
    files = export.litert_files(model, x)
    assert files.missing == {}
    assert files.litert is not None
    assert files.int8 is not None

    network = LiteRTNetwork(files.litert)
    for size in BATCH_SIZES:
        np.testing.assert_allclose(network(x[:size]), expected[:size], atol=1e-4)
    np.testing.assert_allclose(export.litert_outputs(files.litert, x), expected, atol=1e-4)

    assert len(files.int8) < 0.8 * len(files.litert)
    quantised = export.litert_outputs(files.int8, x)
    assert np.sqrt(np.mean((quantised - expected) ** 2)) < 0.15 * expected.std()
    network = LiteRTNetwork(files.int8)
    for size in BATCH_SIZES:
        np.testing.assert_allclose(network(x[:size]), quantised[:size], atol=1e-4)


@pytest.mark.parametrize("name", ["rescnn", "cnn", "lstm"])
def test_windows_of_other_lengths_convert_too(name: str) -> None:
    model, x = trained_like(name, 51), inputs(3, 51)
    expected = model(x, training=False).numpy()
    np.testing.assert_allclose(export.litert_outputs(export.to_litert(model), x), expected, atol=1e-4)


def test_the_file_of_a_loop_is_no_larger_for_more_steps() -> None:
    short, long = (len(export.to_litert(trained_like("lstm", samples))) for samples in (16, 128))
    assert abs(long - short) < 0.01 * short


def test_converting_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    model, x = trained_like("lstm"), inputs(4)
    before = model(x, training=False).numpy()
    np.testing.assert_allclose(without_tensor_lists(model)(x, training=False).numpy(), before, atol=1e-6)
    export.save_keras(model, tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_allclose(loaded(x, training=False).numpy(), before, atol=1e-6)


def test_operations_that_litert_does_not_support_are_named_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    x = np.zeros((10, 128, 9), np.float32)
    files = export.litert_files(sequences(), x)
    assert (files.litert, files.int8) == (None, None)
    assert files.missing == {
        LITERT: "LiteRT does not support its operations TensorListReserve; the bundle needs the tensorflow backend",
        INT8: "LiteRT does not support its operations TensorListReserve",
    }
    assert "TensorList" not in capfd.readouterr().err


def test_a_conversion_with_other_results_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    converted = export.to_litert(trained_like("mlp"))
    other = trained_like("mlp")
    other.set_weights([weight * 1.1 for weight in other.get_weights()])

    class Wrong:
        def convert(self) -> bytes:
            return converted

    monkeypatch.setattr(export, "_converter", lambda model: nullcontext(Wrong()))
    with pytest.raises(
        export.NotConvertibleError, match=r"probabilities of LiteRT differ by 0\.\d+ from those of Keras"
    ):
        export.to_litert(other)


def test_int8_sees_the_shape_of_still_windows() -> None:
    """Their deviation is less than the smallest step of int8."""
    keras.utils.set_random_seed(0)
    model = architectures.build("rescnn", 128, 4, 5, {"shape_gain": 1.0, "fine_gain": 0.0})
    rng = np.random.default_rng(0)
    strength = np.where(np.arange(600) % 2, 1.0, 0.02)[:, None, None]
    tones = np.sin(np.arange(128)[:, None] * rng.uniform(0.1, 1.0, (600, 1, 4)))
    inputs = (strength * (tones + 0.3 * rng.normal(size=(600, 128, 4)))).astype(np.float32)
    still = inputs[::2]
    expected = model(still, training=False).numpy()
    outputs = export.litert_outputs(export.to_int8(model, inputs), still)
    error = np.sqrt(np.square(outputs - expected).mean()) / expected.std()
    assert error < 0.04  # 0.07 with the deviation in int8


def test_int8_with_other_labels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = trained_like("mlp"), inputs(300)
    *others, weight, bias = model.get_weights()
    model.set_weights([*others, weight * 10, bias])  # so that it is sure
    real = export.litert_outputs
    monkeypatch.setattr(export, "litert_outputs", lambda *given: np.roll(real(*given), 1, axis=1))
    files = export.litert_files(model, x)
    assert files.litert is not None
    assert files.int8 is None
    assert re.fullmatch(r"int8 gives another label than float32 in \d+ of \d+ clear windows", files.missing[INT8])


def test_the_speed_is_the_median_of_whole_batches_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    seconds = iter([100.0, 1.0, 2.0, 50.0])  # the first batch allocates memory, and the last one was interrupted

    class SlowNetwork:
        input_shape = (128, CHANNELS)

        def __init__(self, model: bytes, batch_sizes: tuple[int, ...]) -> None:
            assert batch_sizes == (32,)

        def __call__(self, batch: np.ndarray) -> None:
            assert batch.shape == (32, 128, CHANNELS)
            clock.now_s += next(seconds)

    monkeypatch.setattr(export, "LiteRTNetwork", SlowNetwork)
    monkeypatch.setattr(export, "time", SimpleNamespace(perf_counter=clock))
    assert export.measure(b"", 96) == 32 / 2.0


@pytest.fixture(scope="module")
def validation(recordings: list[Recording]) -> CrossValidation:
    """Validate a quick network once, in place of each of those below."""
    config = FitConfig(arch="mlp", arch_settings={"units": 10}, epochs=1, folds=2, **PLAIN)
    return cross_validate(prepare(recordings, SHORT), config)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in architectures.ARCHITECTURES],
)
def test_every_architecture_trains_exports_and_serves(
    recordings: list[Recording], validation: CrossValidation, tmp_path: Path, name: str
) -> None:
    settings = SETTINGS.get(name, {}) | ({"kernel_size": 7, "pool_size": 5} if name == "depthwise-cnn" else {})
    config = FitConfig(arch=name, arch_settings=settings, epochs=3, learning_rate=1e-2, **PLAIN)
    prepared = prepare(recordings, SHORT)
    fitted = fit(prepared.training, SHORT, config)
    bundle = pipeline.write_bundle(tmp_path / "mine", fitted, prepared, config, validation, data="csv:mine")
    assert set(bundle.files) >= {KERAS, LITERT}
    assert bundle.training["config"]["arch"] == name
    cut = windows.cut_windows(windows.whole_streams(recordings), bundle.spec, bundle.labels)
    for backend in ("auto", "int8", "tensorflow"):
        if backend == "int8" and INT8 in bundle.missing:
            continue
        predictions = load_classifier(tmp_path / "mine", backend).predict(cut.windows)
        assert (predictions.label == cut.label).mean() > 0.9


def test_a_network_that_litert_does_not_support_serves_with_tensorflow_and_gives_the_reason(tmp_path: Path) -> None:
    spec, model = SignalSpec(), sequences()
    files = export.litert_files(model, spec.norm.apply(export.synthetic_windows(spec, 2)))
    export.save_keras(model, tmp_path / "network.keras")
    saved = bundles.save(
        tmp_path / "mine",
        name="mine",
        version="1.0.0",
        labels=("STILL", "MOVING"),
        spec=spec,
        temperature=1.0,
        training={"missing": dict(files.missing)},
        keras_path=tmp_path / "network.keras",
        tflite=files.litert,
        int8=files.int8,
        card="",
    )
    seal_bundle(saved)
    assert load_classifier(tmp_path / "mine").backend == "tensorflow"
    message = re.escape(
        f"{LITERT} is missing (LiteRT does not support its operations TensorListReserve; the bundle needs the "
        "tensorflow backend); "
        "choose another --backend: tensorflow"
    )
    with pytest.raises(BundleError, match=message):
        open_classifier(bundles.load(tmp_path / "mine"), "litert")
