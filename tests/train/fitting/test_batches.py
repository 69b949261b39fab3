"""Minibatches: normalised, augmented as configured, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from harstream.core.spec import Normalisation, SignalSpec  # noqa: E402
from harstream.datasets.windows import LabelledWindows  # noqa: E402
from harstream.train.fitting.batches import BatchFunction, batch_function  # noqa: E402
from harstream.train.fitting.fit import normalisation_of  # noqa: E402
from harstream.train.fitting.recipe import FitConfig  # noqa: E402

from ...made_recordings import PLAIN  # noqa: E402

RNG = np.random.default_rng(0)
NAMES = np.full(40, "01")
DATA = LabelledWindows(
    (RNG.normal(size=(40, 32, 9)) + 1).astype(np.float32),
    RNG.integers(0, 3, 40),
    NAMES,
    NAMES,
    NAMES,
    np.arange(40),
    ("A", "B", "C"),
)
SPEC = SignalSpec(window_samples=32, stride_samples=32)
NORM = normalisation_of(DATA.windows)
OFF = FitConfig(**PLAIN)
INDEX, SEED = tf.constant([5, 3, 30]), tf.constant([0, 1])
AUGMENTATIONS = {
    "stretch": 0.2,
    "warp": 0.2,
    "tilt_deg": 20.0,
    "turned_share": 1.0,
    "mirrored_share": 1.0,
    "flipped_share": 1.0,
    "smoothed_share": 1.0,
    "gyro_drift": 0.1,
    "unfamiliar_share": 0.9,
    "scale": 0.2,
    "vigour": 0.3,
    "coupling_db": 6.0,
    "jitter": 0.1,
    "channel_dropout": 0.5,
    "mixup": 1.0,
}


def batches(config: FitConfig, norm: Normalisation = NORM) -> BatchFunction:
    return batch_function(DATA, SPEC, norm, NORM.std, config)


def test_with_everything_off_the_windows_are_only_normalised_and_nothing_is_drawn() -> None:
    graph = batches(OFF)
    inputs, truth = graph(INDEX, SEED)
    np.testing.assert_allclose(inputs, NORM.apply(DATA.windows[INDEX.numpy()]), atol=1e-5)
    np.testing.assert_array_equal(truth, np.eye(3)[DATA.label[INDEX.numpy()]])
    operations = {operation.type for operation in cast(Any, graph).get_concrete_function().graph.get_operations()}
    assert not {name for name in operations if "Stateless" in name or "Random" in name}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_can_be_set_and_follows_from_the_seed(name: str) -> None:
    config = OFF.with_settings({name: AUGMENTATIONS[name]})
    graph = batches(config)
    inputs, truth = graph(INDEX, SEED)
    np.testing.assert_array_equal(inputs, graph(INDEX, SEED)[0])
    assert np.abs(inputs - NORM.apply(DATA.windows[INDEX.numpy()])).max() > 0.05
    np.testing.assert_allclose(np.sum(truth, axis=1), 1, atol=1e-5)
    assert (np.max(truth, axis=1) < 1).any() == (name in ("mixup", "unfamiliar_share"))


def test_one_augmentation_leaves_the_draws_of_the_others() -> None:
    both, _ = batches(replace(OFF, scale=0.3, mirrored_share=0.5))(INDEX, SEED)
    alone, _ = batches(replace(OFF, scale=0.3))(INDEX, SEED)
    first, second = (np.abs(np.asarray(x) * NORM.std + NORM.mean) for x in (both, alone))
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_jitter_is_measured_by_the_spread_of_the_windows_whatever_the_network_is_given() -> None:
    config = replace(OFF, jitter=0.1)
    standardised = np.asarray(batches(config)(INDEX, SEED)[0])
    physical = np.asarray(batches(config, Normalisation.identity(9))(INDEX, SEED)[0])
    np.testing.assert_allclose(NORM.apply(physical), standardised, atol=1e-4)
