"""Calibration by held-out windows: of labels that their networks know, and of other folds than the one scored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from harstream.core.familiar import energy
from harstream.errors import DatasetError
from harstream.train.fitting.familiarity import COST, limits_for
from harstream.train.fitting.fit import fit_bias, fit_temperature
from harstream.train.fitting.recipe import FitConfig
from harstream.train.validation import cross_validation
from harstream.train.validation.calibration import calibrate
from harstream.train.validation.cross_validation import CrossValidation
from harstream.train.validation.task import FoldResult


def fold(number: int, far: int = 0, uncertain: int = 0, preference: float = 0.0) -> FoldResult:
    """Return 500 windows of which some are far away, and of some no output stands out; one label may be preferred."""
    rng = np.random.default_rng(number)
    n, label = 500, np.arange(500) % 2
    distance = rng.chisquare(20, n)
    distance[:far] = 10_000
    logits = np.eye(2, dtype=np.float32)[label] * rng.uniform(1, 9, (n, 1)).astype(np.float32)
    logits[:, 0] += rng.normal(preference, 2, n).astype(np.float32)
    logits[n - uncertain :] = -9
    names = np.full(n, str(number)), np.full(n, f"set {number}")
    return FoldResult(0, (str(number),), ("A", "B"), (0, 1), logits, None, distance, label, *names, 9, 2, 0.1)


def seed_run(*folds: FoldResult, by_data: bool = False) -> CrossValidation:
    run = cross_validation._calibrated(0, folds, by_data=by_data)
    return CrossValidation(FitConfig(), (run,), calibrate(folds, by_data=by_data))


def test_the_limits_of_the_bundle_are_those_of_all_folds_and_are_tried_on_each_by_those_of_the_others() -> None:
    folds = fold(0), fold(1), fold(2, 20, 10)
    result = seed_run(*folds)
    distances = np.concatenate([one.distance for one in folds])
    energies = np.concatenate([energy(one.logits) for one in folds])
    limits = result.calibration.limits
    assert limits == limits_for(distances, energies)
    assert limits.exceeded_by(distances, energies).mean() <= 1.1 * COST
    share = result.unfamiliar_share()
    assert share >= 30 / 1500  # the odd windows of the last fold, by the limits of the first two
    assert share < 30 / 1500 + 3 * COST
    assert result.to_dict()["unfamiliar"] == share


def test_nothing_that_judges_a_fold_depends_on_its_own_windows() -> None:
    first, second, third = fold(0, preference=1.0), fold(1, preference=2.0), fold(2, preference=3.0)
    other = replace(first, distance=9 * first.distance, logits=first.logits / np.float32(3))
    for by_data in (False, True):
        one, changed = (seed_run(fold_0, second, third, by_data=by_data).runs[0] for fold_0 in (first, other))
        assert one.calibrations[0].temperature == changed.calibrations[0].temperature
        assert one.calibrations[0].limits == changed.calibrations[0].limits
        np.testing.assert_array_equal(one.calibrations[0].bias, changed.calibrations[0].bias)
        assert one.calibrations[1].temperature != changed.calibrations[1].temperature
        assert one.calibrations[1].limits.total != changed.calibrations[1].limits.total


def test_the_bias_takes_back_a_preference_and_is_that_of_the_other_data_sets() -> None:
    folds = fold(0, preference=2.0), fold(1, preference=2.0), fold(2, preference=2.0)
    assert not seed_run(*folds).calibration.bias.any()  # folds by subject
    run = seed_run(*folds, by_data=True).runs[0]
    rest = folds[1:]
    logits, label, data_set = (
        np.concatenate([getattr(one, name) for one in rest]) for name in ("logits", "label", "data_set")
    )
    bias = fit_bias(logits, label, data_set)
    assert bias[0] < -0.5
    np.testing.assert_array_equal(run.calibrations[0].bias, bias)
    np.testing.assert_array_equal(run.folds[0].logits, folds[0].logits + bias)
    assert run.calibrations[0].temperature == fit_temperature(logits + bias, label)


def test_windows_of_a_label_that_their_network_never_learnt_do_not_count() -> None:
    known = fold(0), fold(1)
    half = replace(fold(2), learnt=(0,))  # B is in this set only
    strange = half.label == 1
    half.distance[strange] = 1e6
    half.logits[strange] = [5, -5]
    without = replace(
        half, **{name: getattr(half, name)[~strange] for name in ("logits", "distance", "label", "subject", "data_set")}
    )
    for by_data in (False, True):
        got, want = (calibrate([*known, last], by_data=by_data) for last in (half, without))
        assert (got.temperature, got.limits) == (want.temperature, want.limits)
        np.testing.assert_array_equal(got.bias, want.bias)
    with pytest.raises(DatasetError, match="share no label"):
        calibrate([replace(one, learnt=()) for one in known], by_data=True)
