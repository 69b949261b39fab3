"""The loss: smoothed and balanced labels, and the probabilities of teachers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import keras  # noqa: E402

from harstream.core.spec import Normalisation  # noqa: E402
from harstream.train.fitting.loss import balanced_weights, ensemble, objective  # noqa: E402
from harstream.train.fitting.recipe import FitConfig  # noqa: E402

RNG = np.random.default_rng(0)
LABEL = np.array([0, 0, 0, 0, 0, 0, 2, 1, 0, 2])
TRUTH = np.eye(3, dtype=np.float32)[LABEL]
LOGITS = RNG.normal(size=(10, 3)).astype(np.float32)
INPUTS = RNG.normal(size=(10, 4, 2)).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def loss(config: FitConfig, truth: np.ndarray = TRUTH, **kwargs: Any) -> float:
    return float(objective(config, LABEL, 3, **kwargs)(tf.constant(INPUTS), tf.constant(truth), tf.constant(LOGITS)))


def test_labels_are_smoothed_as_keras_does() -> None:
    expected = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)(TRUTH, LOGITS)
    assert loss(FitConfig(label_smoothing=0.1)) == pytest.approx(float(expected), rel=1e-5)


def test_balanced_labels_weigh_the_same_and_absent_ones_nothing() -> None:
    weights = balanced_weights(LABEL, 4)
    totals = np.bincount(LABEL, weights[LABEL], minlength=4)
    np.testing.assert_allclose(totals, [10 / 3, 10 / 3, 10 / 3, 0], rtol=1e-5)
    each = -np.log(softmax(LOGITS)[np.arange(10), LABEL])
    expected = np.mean([each[label == LABEL].mean() for label in range(3)])
    assert loss(FitConfig(label_smoothing=0.0, class_weights=True)) == pytest.approx(expected, rel=1e-5)


def test_teachers_have_their_share_of_the_loss() -> None:
    """Divergence times the squared temperature, and 0 where the student agrees."""
    config = FitConfig(label_smoothing=0.0, distil_weight=0.6, distil_temperature=3.0)
    taught = softmax(np.random.default_rng(1).normal(size=(10, 3)).astype(np.float32))
    taught[0] = [1, 0, 0]
    softened = softmax(LOGITS / 3)
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence = np.where(taught > 0, taught * np.log(taught / softened), 0).sum(axis=1).mean()
    hard = loss(FitConfig(label_smoothing=0.0))
    found = loss(config, teachers=lambda inputs: tf.constant(taught, tf.float32))
    assert found == pytest.approx(0.4 * hard + 0.6 * 9 * divergence, rel=1e-4)
    agreed = loss(config, teachers=lambda inputs: tf.nn.softmax(tf.constant(LOGITS) / 3.0))
    assert agreed == pytest.approx(0.4 * hard, rel=1e-4)


def test_an_ensemble_is_the_mean_of_its_softened_probabilities_each_in_its_own_units() -> None:
    models = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        inputs = keras.layers.Input((4, 2))
        models.append(keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs))))
    student, other = Normalisation((0.0, 1.0), (1.0, 2.0)), Normalisation((0.5, -1.0), (3.0, 0.5))
    physical = INPUTS * np.float32(5)
    probabilities = ensemble([(models[0], student), (models[1], other)], student, temperature=2.0)
    expected = [
        softmax(model(norm.apply(physical)).numpy() / 2) for model, norm in zip(models, (student, other), strict=True)
    ]
    result = probabilities(tf.constant(student.apply(physical))).numpy()
    np.testing.assert_allclose(result, np.mean(expected, axis=0), atol=1e-5)
