"""Simulated wearables compared with recordings: spectra, gravity and windows agree within stated factors."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from harstream.datasets import base
from harstream.simulate.parameters import ACTIVITIES, GAITS
from research.simulator import compare, twosample
from research.simulator.compare import Bout

from ..servers import recorded

pytestmark = pytest.mark.slow


@cache
def pair() -> tuple[list[Bout], list[Bout]]:
    return compare.real(base.load(f"hapt:{recorded('hapt.zip')}")), compare.simulated(42, 1000.0)


@pytest.mark.parametrize("activity", ACTIVITIES)
def test_band_power_agrees(activity: str) -> None:
    real, made = (np.quantile(compare.band_levels(s, activity), [0.25, 0.5, 0.75], axis=0) for s in pair())
    apart = 10 * np.abs(made - real)  # dB
    # At rest, powers span 20 to 30 dB over subjects, and 42 recordings are few. Gaits are more alike.
    median, quartiles = (4.0, 5.0) if activity in GAITS else (5.0, 8.0)
    assert apart[1].max() < median
    assert apart[[0, 2]].max() < quartiles
    assert apart[1].mean() < 2.0


@pytest.mark.parametrize("activity", ACTIVITIES)
def test_directions_of_gravity_agree(activity: str) -> None:
    real, made = (compare.angles(compare.gravity(s, activity)) for s in pair())
    middle = np.abs(np.median(made, axis=0) - np.median(real, axis=0))
    # Half the spread over subjects, or less.
    assert middle.max() < {"LAYING": 10, "SITTING": 8}.get(activity, 6)
    spread = [np.subtract(*np.quantile(a, [0.84, 0.16], axis=0)) for a in (made, real)]
    assert np.all(spread[0] / spread[1] < 1.7)
    assert np.all(spread[0] / spread[1] > 0.6)


def test_a_subject_sits_as_far_from_standing_as_subjects_did() -> None:
    real, made = (np.quantile(compare.leans(s), [0.1, 0.25, 0.5, 0.75, 0.9]) for s in pair())
    assert np.abs(made / real - 1).max() < 0.45


@pytest.mark.parametrize("activity", ACTIVITIES)
def test_windows_differ_hardly_more_than_those_of_two_groups_of_subjects(activity: str) -> None:
    (real, subjects), (made, _) = (compare.window_statistics(s, activity) for s in pair())
    assert twosample.distances(real, made).mean() < 1.5 * twosample.halves(real, subjects).mean()


@pytest.mark.parametrize("activity", ACTIVITIES)
def test_windows_move_as_much(activity: str) -> None:
    real, made = (np.quantile(compare.window_sizes(s, activity), [0.1, 0.5, 0.9], axis=0) for s in pair())
    assert np.abs(made - real).max() < (0.15 if activity in GAITS else 0.45)
