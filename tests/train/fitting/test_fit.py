"""Fit and calibration of small networks, on made-up subjects whose activities are easy to tell apart."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import tensorflow as tf

from harstream.core.spec import Normalisation, SignalSpec
from harstream.datasets import windows
from harstream.datasets.base import Recording
from harstream.errors import ConfigError, DatasetError
from harstream.train.fitting import architectures
from harstream.train.fitting.fit import (
    MIN_TEMPERATURE,
    Fitted,
    _fit_network,
    fit,
    fit_bias,
    fit_temperature,
    normalisation_of,
    with_features,
)
from harstream.train.fitting.history import Epoch, best_epoch, from_json
from harstream.train.fitting.recipe import FitConfig
from harstream.train.folds import split_by_subject

from ...made_recordings import PLAIN

SPEC = SignalSpec()
TINY = FitConfig(
    epochs=4, learning_rate=1e-2, arch_settings={"widths": (8,), "kernels": (5,)}, **PLAIN | {"tilt_deg": 20.0}
)
#: Without batch normalisation, whose statistics are set after the training.
BARE = FitConfig(arch="cnn", arch_settings={"filters": 4, "dense": 8}, learning_rate=1e-2, **PLAIN)


@pytest.fixture(scope="module")
def data(recordings: list[Recording]) -> windows.LabelledWindows:
    return windows.cut_windows(windows.restarted_streams(recordings, SPEC, seed=0), SPEC, ("MOVING", "STILL"))


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, int, int]]:
    """The progress that ``fitted`` reports."""
    return []


@pytest.fixture(scope="module")
def fitted(data: windows.LabelledWindows, steps: list[tuple[str, int, int]]) -> Fitted:
    return fit(data, SPEC, TINY, lambda *step: steps.append(step))


def test_a_fit_learns_and_reports_every_epoch(
    data: windows.LabelledWindows, fitted: Fitted, steps: list[tuple[str, int, int]]
) -> None:
    assert steps == [("training", epoch, 4) for epoch in (1, 2, 3, 4)]
    logits = fitted.logits(data.windows)
    assert logits.shape == (len(data), 2)
    assert logits.dtype == np.float32
    assert (logits.argmax(axis=1) == data.label).mean() > 0.9


def test_the_same_seed_gives_the_same_network(data: windows.LabelledWindows, fitted: Fitted) -> None:
    again = fit(data, SPEC, TINY)
    np.testing.assert_allclose(again.logits(data.windows[:20]), fitted.logits(data.windows[:20]), atol=1e-3)


def test_normalisation_is_that_of_the_training_windows(data: windows.LabelledWindows, fitted: Fitted) -> None:
    norm = normalisation_of(data.windows)
    assert fitted.spec.norm == norm
    values = norm.apply(data.windows).reshape(-1, 9)
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(values.std(axis=0), 1, atol=1e-3)
    flat = np.ones((4, 8, 2), np.float32)
    assert normalisation_of(flat).std == (1.0, 1.0)


def test_a_fit_without_windows_is_refused(data: windows.LabelledWindows) -> None:
    with pytest.raises(DatasetError, match="no window"):
        fit(data.of_subjects([]), SPEC, TINY)


def test_without_standardisation_the_network_is_given_physical_units(data: windows.LabelledWindows) -> None:
    fitted = fit(data, SPEC, replace(BARE, standardise=False, epochs=1))
    assert fitted.spec.norm == Normalisation.identity(9)
    expected = fitted.model(data.windows[:5], training=False)
    np.testing.assert_allclose(fitted.logits(data.windows[:5]), expected, atol=1e-5)


def test_early_stopping_ends_a_fit_without_progress_and_keeps_the_best_epoch(data: windows.LabelledWindows) -> None:
    """Random labels cannot be learnt: the loss on other subjects rises."""
    random = replace(data, label=np.random.default_rng(0).integers(0, 2, len(data)))
    config = replace(BARE, epochs=60, patience=2, held_out_share=0.4)
    fitted = fit(random, SPEC, config)
    best = best_epoch(fitted.history)
    assert best is not None
    assert len(fitted.history) == best + 2 < 60
    known, held_out = split_by_subject(random, 0.4, config.seed)
    assert fitted.spec.norm == normalisation_of(known.windows)
    logits = fitted.logits(held_out.windows).astype(np.float64)
    of_truth = logits[np.arange(len(logits)), held_out.label]
    loss = np.mean(np.log(np.exp(logits).sum(axis=1)) - of_truth)
    assert loss == pytest.approx(fitted.history[best - 1].held_out_loss, abs=1e-4)
    assert all(loss <= epoch.held_out_loss + 1e-4 for epoch in fitted.history if epoch.held_out_loss is not None)


def test_early_stopping_needs_a_second_subject(data: windows.LabelledWindows) -> None:
    with pytest.raises(DatasetError, match="at least two subjects to train on, found 1"):
        fit(data.of_subjects(["01"]), SPEC, replace(TINY, patience=1))


def test_an_interrupted_fit_continues_to_the_result_of_an_uninterrupted_one(
    data: windows.LabelledWindows, tmp_path: Path
) -> None:
    config = replace(TINY, epochs=3, average=0.9, mixup=0.2, patience=3)
    straight = fit(data, SPEC, config)

    def until_the_second(step: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(data, SPEC, config, until_the_second, folder=tmp_path, tensorboard=True)
    steps: list[int] = []
    resumed = fit(data, SPEC, config, lambda _, done, of: steps.append(done), folder=tmp_path, tensorboard=True)
    assert steps == [2, 3]
    np.testing.assert_allclose(resumed.logits(data.windows), straight.logits(data.windows), atol=1e-3)
    for ours, theirs in zip(resumed.history, straight.history, strict=True):
        assert replace(ours, seconds=0.0) == approximately(replace(theirs, seconds=0.0))
    kept = json.loads((tmp_path / "history.json").read_text())
    assert from_json(kept["epochs"]) == list(resumed.history)
    assert scalars(tmp_path / "tensorboard") == {
        (epoch.epoch, name): pytest.approx(getattr(epoch, name), rel=1e-5, abs=1e-12)
        for epoch in resumed.history
        for name in ("loss", "accuracy", "held_out_loss", "held_out_accuracy", "learning_rate", "seconds")
    }

    steps.clear()
    again = fit(data, SPEC, config, lambda _, done, of: steps.append(done), folder=tmp_path)
    assert steps == [3]
    np.testing.assert_allclose(again.logits(data.windows), resumed.logits(data.windows), atol=1e-4)


def test_tensorboard_needs_a_folder(data: windows.LabelledWindows) -> None:
    with pytest.raises(ConfigError, match="needs a folder"):
        fit(data, SPEC, TINY, tensorboard=True)


def test_a_student_learns_the_labels_of_its_teacher_not_those_of_the_data(data: windows.LabelledWindows) -> None:
    config = replace(BARE, epochs=4, distil_weight=1.0)
    teacher = fit(data, SPEC, config)
    wrong = replace(data, label=1 - data.label)
    physical = replace(config, standardise=False)  # the teacher expects another normalisation
    student = _fit_network(wrong, None, SPEC, physical, lambda done: None, [teacher], None)
    agreement = (student.logits(data.windows).argmax(axis=1) == teacher.logits(data.windows).argmax(axis=1)).mean()
    assert agreement > 0.9


def test_teachers_are_trained_first_each_from_its_own_seed(data: windows.LabelledWindows, tmp_path: Path) -> None:
    steps: list[str] = []
    config = replace(BARE, epochs=1, teachers=2, teacher_settings={"filters": 3})
    fit(data, SPEC, config, lambda step, done, total: steps.append(f"{step}: {done}/{total}"), folder=tmp_path)
    assert steps == ["training teacher 1 of 2: 1/1", "training teacher 2 of 2: 1/1", "training: 1/1"]
    first, second = config.of_teacher(0), config.of_teacher(1)
    assert len({first.seed, second.seed, config.seed}) == 3
    assert first == replace(BARE, epochs=1, arch_settings={"filters": 3, "dense": 8}, seed=first.seed)
    assert replace(config, teacher_arch="rescnn", teacher_settings={}).of_teacher(0).arch_settings == {}
    checkpoints = [np.load(tmp_path / f"teacher-{k}-of-2" / "checkpoint.npz") for k in (1, 2)]
    assert np.abs(checkpoints[0]["model0"] - checkpoints[1]["model0"]).max() > 1e-3


def approximately(epoch: Epoch) -> Epoch:
    values: dict[str, Any] = {name: pytest.approx(value, abs=1e-3) for name, value in asdict(epoch).items()}
    return Epoch(**values)


def scalars(folder: Path) -> dict[tuple[int, str], float]:
    """Every scalar of the event files there, by step and name."""
    found = {}
    for path in folder.glob("events.out.tfevents.*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                found[event.step, value.tag] = float(tf.make_ndarray(value.tensor))
    return found


def test_temperature_undoes_overconfidence() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(20_000, 3)) * 2
    odds = np.exp(honest)
    share = np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1)
    label = (rng.random((20_000, 1)) > share).sum(axis=1)
    assert fit_temperature((honest * 3).astype(np.float32), label) == pytest.approx(3.0, rel=0.05)
    assert fit_temperature((honest / 2).astype(np.float32), label) == pytest.approx(0.5, rel=0.05)
    assert fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, np.int64)) == 1.0


def test_held_out_windows_without_an_error_do_not_make_the_network_surer_than_twice() -> None:
    label = np.arange(900) % 3
    assert fit_temperature(np.eye(3, dtype=np.float32)[label] * 0.1, label) == MIN_TEMPERATURE == 0.5
    wrong = np.roll(label, 1)
    assert fit_temperature(np.eye(3, dtype=np.float32)[label] * 9, wrong) == pytest.approx(10.0, abs=1e-3)


@pytest.mark.parametrize("arch", architectures.ARCHITECTURES)
def test_every_architecture_has_one_list_of_features(arch: str) -> None:
    model = architectures.build(arch, 128, 3, 4)
    kernel, _ = model.layers[-1].get_weights()
    assert with_features(model).output_shape == (None, 4 + kernel.shape[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs: 0 is not between"),
        ({"epochs": 1.5}, "epochs: expected a whole number"),
        ({"learning_rate": "fast"}, "learning_rate: expected a number"),
        ({"label_smoothing": 1.0}, "label_smoothing: 1.0 is not between"),
        ({"standardise": 1}, "standardise: expected true or false, got 1"),
        ({"mirror_axis": "w"}, "mirror_axis: 'w' is not one of x, y, z"),
        ({"average": 1.0}, "average: 1.0 is not between"),
        ({"patience": 2.5}, "patience: expected a whole number"),
        ({"teacher_arch": "sage"}, "architecture 'sage' is not one of"),
        ({"teacher_settings": {"depth": 3}}, "architecture rescnn has no setting 'depth'"),
        ({"teacher_settings": 3}, "teacher_settings: expected settings by name, got 3"),
        ({"depth": 3}, "no setting 'depth'; the settings are average, balance_sets"),
    ],
)
def test_an_impossible_setting_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FitConfig().with_settings(settings)


def test_settings_reach_the_training_and_the_architecture() -> None:
    config = FitConfig(arch="cnn").with_settings({"filters": 16, "tilt_deg": 10.0})
    assert (config.tilt_deg, config.arch_settings) == (10.0, {"filters": 16})
    assert config.to_dict()["arch_settings"] == {**architectures.settings_of("cnn"), "filters": 16}


def test_the_bias_takes_back_what_unseen_data_sets_are_denied() -> None:
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2, 0, 1], [400, 300, 10, 900, 20])
    data_set = np.repeat(["a", "b"], [710, 920])
    logits = (2.0 * np.eye(3)[label] + rng.normal(size=(len(label), 3))).astype(np.float32)
    denied = logits - np.array([0, 1.5, -0.5], np.float32)
    bias = fit_bias(denied, label, data_set)
    np.testing.assert_allclose(bias - bias[0], [0, 1.5, -0.5], atol=0.4)
    assert bias.mean() == pytest.approx(0, abs=1e-5)
    cells = [(label == one) & (data_set == name) for one, name in ((0, "a"), (1, "a"), (2, "a"), (0, "b"), (1, "b"))]
    recall = [[np.mean(one.argmax(axis=1)[cell] == label[cell]) for cell in cells] for one in (denied, denied + bias)]
    assert np.mean(recall[1]) > np.mean(recall[0]) + 0.02


def test_labels_that_no_held_out_set_has_get_no_bias() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    bias = fit_bias(logits, np.arange(50) % 2, np.full(50, "a"))
    assert bias[2] == 0
    assert bias[0] == pytest.approx(-bias[1], abs=1e-6)
    np.testing.assert_array_equal(fit_bias(logits, np.ones(50, np.int64), np.full(50, "a")), np.zeros(3))


def test_a_data_set_with_one_label_has_no_say_in_the_bias() -> None:
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 200)
    logits = (np.eye(3)[label] + rng.normal(size=(400, 3)) - [0, 1, 0]).astype(np.float32)
    alone = fit_bias(logits, label, np.full(400, "a"))
    assert alone[1] > 0.3
    with_another = fit_bias(
        np.concatenate([logits, logits[:200]]), np.concatenate([label, label[:200]]), np.repeat(["a", "b"], [400, 200])
    )
    np.testing.assert_array_equal(with_another, alone)


def test_features_follow_the_logits_and_a_bias_is_added_to_these() -> None:
    model = architectures.build("cnn", 32, 3, 4, {"filters": 4, "dense": 7})
    x = np.random.default_rng(0).normal(size=(5, 32, 3)).astype(np.float32)
    plain, bias = np.asarray(model(x)), np.array([0, 1, -2, 0.5], np.float32)
    outputs = np.asarray(with_features(model)(x))
    assert outputs.shape == (5, 4 + 7)
    np.testing.assert_allclose(outputs[:, :4], plain, atol=1e-6)
    kernel, own_bias = model.layers[-1].get_weights()
    np.testing.assert_allclose(outputs[:, 4:] @ kernel + own_bias, plain, atol=1e-5)
    biased = np.asarray(with_features(model, bias)(x))
    np.testing.assert_allclose(biased[:, :4], plain + bias, atol=1e-6)
    np.testing.assert_array_equal(biased[:, 4:], outputs[:, 4:])
    np.testing.assert_allclose(np.asarray(model(x)), plain, atol=1e-6)  # the network itself is as before
