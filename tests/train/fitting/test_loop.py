"""The training loop: averages of the weights, checkpoints and their keys."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras
import tensorflow as tf

from harstream.core.spec import SignalSpec
from harstream.datasets.windows import LabelledWindows
from harstream.errors import ConfigError
from harstream.train.fitting.checkpoint import CheckpointFolder, TrainingState, fingerprint
from harstream.train.fitting.history import Epoch
from harstream.train.fitting.loop import TrainingLoop
from harstream.train.fitting.recipe import FitConfig


def training(
    config: FitConfig,
    penalty: float = 0.0,
    factor: float = 1.0,
    unfamiliar: int = 0,
    weights: np.ndarray | None = None,
    drawn: list[int] | None = None,
) -> tuple[keras.Model, TrainingLoop]:
    """A linear network on made-up numbers, one step in an epoch."""
    rng = np.random.default_rng(0)
    inputs, truth = rng.normal(size=(16, 2, 2)).astype(np.float32), np.eye(2, dtype=np.float32)[np.arange(16) % 2]
    truth[:unfamiliar] = 0.5
    keras.utils.set_random_seed(0)
    layer = keras.layers.Input((2, 2))
    regulariser = keras.regularizers.L2(penalty) if penalty else None
    dense = keras.layers.Dense(2, kernel_regularizer=regulariser)(keras.layers.Flatten()(layer))
    model = keras.Model(layer, dense)

    def loss_of(_: tf.Tensor, truth: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        return factor * tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(truth, logits))

    def batch_of(index: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if drawn is not None:
            tf.py_function(lambda numbers: drawn.extend(numbers.numpy().tolist()), [index], [])
        return tf.gather(inputs, index), tf.gather(truth, index)

    return model, TrainingLoop(model, config, 16, batch_of, loss_of, weights=weights)


class StateRecorder(CheckpointFolder):
    """Keep every state in memory."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "key")
        self.states: list[TrainingState] = []

    def save(self, state: TrainingState) -> None:
        self.states.append(state)


def test_the_result_is_the_bias_corrected_moving_average_of_the_weights(tmp_path: Path) -> None:
    model, loop = training(FitConfig(epochs=6, average=0.8, learning_rate=0.5))
    checkpoints = StateRecorder(tmp_path)
    loop.run(lambda done: None, checkpoints)
    trajectory = [state.values["model"][0] for state in checkpoints.states]
    weights = 0.8 ** np.arange(5, -1, -1)
    expected = np.tensordot(weights / weights.sum(), trajectory, axes=1)
    np.testing.assert_allclose(model.get_weights()[0], expected, atol=1e-5)
    assert np.abs(expected - trajectory[-1]).max() > 0.05


def test_without_averaging_the_result_is_the_last_weights(tmp_path: Path) -> None:
    model, loop = training(FitConfig(epochs=3, learning_rate=0.5, average=0.0))
    checkpoints = StateRecorder(tmp_path)
    loop.run(lambda done: None, checkpoints)
    np.testing.assert_array_equal(model.get_weights()[0], checkpoints.states[-1].values["model"][0])


def test_what_the_architecture_adds_to_the_loss_counts() -> None:
    plain, penalised = (training(FitConfig(epochs=1), penalty)[1].run(lambda done: None) for penalty in (0.0, 10.0))
    assert penalised[0].loss > plain[0].loss + 1


def test_a_loss_that_is_no_number_ends_the_fit() -> None:
    with pytest.raises(ConfigError, match=r"learning_rate: 0\.002 is too high, the loss is nan in epoch 1"):
        training(FitConfig(), factor=float("nan"))[1].run(lambda done: None)


@pytest.mark.parametrize("rest", [b"", b"PK\x03\x04 not at all", None])
def test_a_checkpoint_that_cannot_be_read_is_no_checkpoint(
    tmp_path: Path, rest: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = CheckpointFolder(tmp_path, "key")
    assert checkpoints.resume() is None
    assert not caplog.text
    checkpoints.save(TrainingState({"model": [np.arange(3.0)], "best": []}, [Epoch(1, 0.5, 0.9, 1e-3, 2.0)]))
    found = checkpoints.resume()
    assert found is not None
    np.testing.assert_array_equal(found.values["model"][0], np.arange(3.0))
    assert (found.values["best"], found.history) == ([], [Epoch(1, 0.5, 0.9, 1e-3, 2.0)])
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(path.read_bytes()[:300] if rest is None else rest)
    assert checkpoints.resume() is None
    assert "training starts at epoch 1" in caplog.text


def test_another_fit_in_the_same_folder_starts_at_the_first_epoch_with_new_logs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = CheckpointFolder(tmp_path, "key", tensorboard=True)
    checkpoints.save(TrainingState({"model": []}, [Epoch(1, 0.5, 0.9, 1e-3, 2.0)]))
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    assert CheckpointFolder(tmp_path, "another").resume() is None
    assert "belongs to other data or another config" in caplog.text
    assert not list((tmp_path / "tensorboard").iterdir())


def test_a_fingerprint_follows_from_data_signal_and_config() -> None:
    names = np.full(3, "01")
    data = LabelledWindows(
        np.zeros((3, 8, 9), np.float32), np.zeros(3, np.int64), names, names, names, np.arange(3), ("A", "B")
    )
    spec, config = SignalSpec(window_samples=8, stride_samples=8), FitConfig()
    keys = [
        fingerprint(spec, config, data),
        fingerprint(spec, config, replace(data, windows=data.windows + 1)),
        fingerprint(spec, config, replace(data, label=data.label + 1)),
        fingerprint(spec, config, replace(data, labels=("A", "C"))),
        fingerprint(spec, config, replace(data, data_set=np.array(["a", "a", "b"]))),
        fingerprint(replace(spec, sample_rate_hz=20.0), config, data),
        fingerprint(spec, replace(config, seed=1), data),
        fingerprint(spec, config, data, data),
    ]
    assert len(set(keys)) == len(keys)
    assert fingerprint(spec, FitConfig(), replace(data, windows=data.windows.copy())) == keys[0]


def test_unfamiliar_windows_are_neither_right_nor_wrong() -> None:
    config = FitConfig(epochs=20, learning_rate=0.5, average=0.0)
    assert training(config, unfamiliar=14)[1].run(lambda done: None)[-1].accuracy == 1.0


def test_a_window_is_drawn_as_often_as_its_weight_says() -> None:
    weights, drawn = np.repeat([0.25, 1.75], 8), list[int]()
    config = FitConfig(epochs=40, average=0.0)
    training(config, weights=weights, drawn=drawn)[1].run(lambda done: None)
    assert len(drawn) == 16 * config.epochs  # an epoch is as long as without weights
    counts = np.bincount(drawn, minlength=16) / config.epochs
    np.testing.assert_allclose(counts, weights, atol=0.25)
    first = np.bincount(drawn[:16], minlength=16)
    assert first.max() <= 2
    assert drawn[:16] != drawn[16:32]
