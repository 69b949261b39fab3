"""Test of unfamiliar windows: its two measures against their definitions, to the bit in batches of any size."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis
from scipy.special import logsumexp

from harstream.core.familiar import (
    BEGIN_SHARE,
    END_SHARE,
    MEMORY,
    Familiar,
    Limits,
    UnfamiliarDevices,
    energy,
    total,
)
from harstream.core.rows import split_into_rounds
from harstream.errors import ConfigError


def some(n_classes: int = 6, n_features: int = 64, seed: int = 0) -> tuple[Familiar, np.ndarray]:
    """Return what a bundle knows of its training data, and the covariance of its features."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(n_features, n_features))
    covariance = mixing @ mixing.T / n_features + 0.1 * np.eye(n_features)
    means = rng.normal(size=(n_classes, n_features))
    return Familiar(means, np.linalg.cholesky(np.linalg.inv(covariance)), Limits(80.0, -1.0)), covariance


def outputs(n: int, n_classes: int = 6, n_features: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and features as a network gives them: parts of one array."""
    both = np.random.default_rng(1).normal(scale=2, size=(n, n_classes + n_features)).astype(np.float32)
    return both[:, :n_classes], both[:, n_classes:]


def test_the_distance_is_mahalanobis_to_the_nearest_class() -> None:
    familiar, covariance = some()
    _, features = outputs(50)
    inverse = np.linalg.inv(covariance)
    expected = [min(mahalanobis(one, mean, inverse) for mean in familiar.means) ** 2 for one in features.astype(float)]
    np.testing.assert_allclose(familiar.distance(features), expected, rtol=1e-9)
    np.testing.assert_allclose(familiar.distance(familiar.means.astype(np.float32)), 0, atol=1e-9)


def test_the_energy_is_minus_the_logarithm_of_the_sum_of_the_exponentials_and_never_overflows() -> None:
    logits, _ = outputs(50)
    np.testing.assert_allclose(energy(logits), -logsumexp(logits.astype(float), axis=1), rtol=1e-12)
    with np.errstate(all="raise", under="ignore"):
        assert energy(np.array([[3e38, -3e38]], np.float32)).tolist() == [-float(np.float32(3e38))]


def test_a_window_above_any_limit_is_unfamiliar() -> None:
    logits, features = outputs(200)
    distance, uncertainty = some()[0].distance(features), energy(logits)
    both = total(distance, uncertainty)
    np.testing.assert_allclose(both, uncertainty + distance / 300)
    limits = Limits(*(float(np.quantile(values, 0.7)) for values in (distance, uncertainty, both)))
    far, uncertain, much = distance > limits.distance, uncertainty > limits.energy, both > limits.total
    for alone in (
        far & ~uncertain & ~much,
        uncertain & ~far & ~much,
        much & ~far & ~uncertain,
        ~(far | uncertain | much),
    ):
        assert 0 < alone.mean() < 1
    np.testing.assert_array_equal(
        replace(some()[0], limits=limits).unfamiliar(logits, features), far | uncertain | much
    )
    familiar = replace(some()[0], limits=limits._replace(total=np.inf))
    np.testing.assert_array_equal(familiar.unfamiliar(logits, features), far | uncertain)
    assert familiar.unfamiliar(logits[:0], features[:0]).shape == (0,)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_what_is_not_finite_is_unfamiliar(broken: float) -> None:
    familiar, _ = some(2, 3)
    assert not familiar.unfamiliar(np.array([[9.0, 0.0]], np.float32), familiar.means[:1].astype(np.float32)).any()
    assert familiar.unfamiliar(np.array([[9.0, 0.0]], np.float32), np.full((1, 3), broken, np.float32)).all()
    assert familiar.unfamiliar(np.array([[np.nan, 0.0]], np.float32), familiar.means[:1].astype(np.float32)).all()


@pytest.mark.parametrize(("n_classes", "n_features"), [(1, 1), (6, 7), (12, 64), (18, 128)])
def test_how_many_windows_come_at_once_changes_no_bit(n_classes: int, n_features: int) -> None:
    familiar, _ = some(n_classes, n_features)
    logits, features = outputs(131, n_classes, n_features)
    whole = familiar.distance(features), energy(logits)
    for size in (1, 2, 3, 8, 31, 32, 33, 64, 130):
        starts = range(0, len(features), size)
        parts = [(familiar.distance(features[i : i + size]), energy(logits[i : i + size])) for i in starts]
        for number in (0, 1):
            np.testing.assert_array_equal(np.concatenate([part[number] for part in parts]), whole[number])


def test_the_section_of_the_bundle_comes_back_to_the_bit() -> None:
    familiar, _ = some(3, 5)
    again = Familiar.from_dict(json.loads(json.dumps(familiar.to_dict())))
    assert again == familiar
    assert hash(again) == hash(familiar)
    limited = replace(familiar, limits=Limits(80.0, 0.0, 0.25))
    assert Familiar.from_dict(json.loads(json.dumps(limited.to_dict()))) == limited
    for changed in ({"limits": Limits(80.0, 0.0)}, {"means": familiar.means + 1e-9}):
        assert replace(familiar, **changed) != familiar
    assert familiar != familiar.to_dict()


VALID = {"means": [[0.5, 1.0], [2.0, -1.0]], "whitening": [[1.0, 0.0], [0.0, 1.0]], "max_distance": 9, "max_energy": -1}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"means": None}, ["familiar.means", "None"]),
        ({"means": []}, ["familiar.means", "rows of one length", "[]"]),
        ({"means": [[]]}, ["familiar.means", "rows of one length", "[0]"]),
        ({"means": [1.0, 2.0]}, ["familiar.means: row 0", "1.0"]),
        ({"means": [[1.0, 2.0], [3.0]]}, ["familiar.means", "[2, 1]"]),
        ({"means": [[1.0, "2"]]}, ["familiar.means", "'2'"]),
        ({"means": [[1.0, float("nan")]]}, ["familiar.means", "nan"]),
        ({"means": [[1.0, 2.0, 3.0]]}, ["familiar.whitening", "3 rows", "(2, 2)"]),
        ({"whitening": [[1.0, 0.0]]}, ["familiar.whitening", "2 rows", "(1, 2)"]),
        ({"max_distance": -1}, ["familiar.max_distance", "-1"]),
        ({"max_distance": float("inf")}, ["familiar.max_distance", "inf"]),
        ({"max_energy": True}, ["familiar.max_energy", "True"]),
        ({"max_total": "high"}, ["familiar.max_total", "high"]),
        ({"limit": 3}, ["familiar", "'limit'", "max_distance"]),
    ],
)
def test_a_wrong_section_is_refused_naming_field_and_value(changes: dict[str, Any], words: list[str]) -> None:
    Familiar.from_dict(VALID)
    with pytest.raises(ConfigError) as refused:
        Familiar.from_dict({**VALID, **changes})
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize("name", ["means", "whitening"])
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"familiar: field '{name}' is missing"):
        Familiar.from_dict({key: value for key, value in VALID.items() if key != name})


def test_one_limit_is_enough_and_none_is_refused() -> None:
    limits = {"max_distance": 9, "max_energy": -1, "max_total": 0.5}
    rest = {key: value for key, value in VALID.items() if key not in limits}
    assert Familiar.from_dict({**rest, **limits}).limits == (9, -1, 0.5)
    for number, (name, value) in enumerate(limits.items()):
        familiar = Familiar.from_dict({**rest, name: value})
        assert familiar.limits == tuple(value if k == number else np.inf for k in range(3))
        assert familiar.to_dict() == {**rest, name: value}
    with pytest.raises(ConfigError, match="expected one of max_distance, max_energy, max_total, got none"):
        Familiar.from_dict(rest)


# --- devices ------------------------------------------------------------------------------------------


def feed(devices: UnfamiliarDevices, rows: list[int], unfamiliar: str, counted: str = "") -> str:
    """Feed windows of ``rows``; return ``x`` for windows under the problem. Unfamiliar windows are ``x`` too."""
    index = np.array(rows, np.int64)
    found = np.array([one == "x" for one in unfamiliar])
    count = np.array([one != "-" for one in counted or unfamiliar])
    return "".join(".x"[one] for one in devices.feed(index, split_into_rounds(index), found, count).astype(int))


def test_a_new_device_has_the_problem_once_most_of_its_first_windows_are_unfamiliar() -> None:
    devices = UnfamiliarDevices(4)
    assert (MEMORY, BEGIN_SHARE) == (16, 0.7)
    assert feed(devices, [2] * 20, "x" * 20) == "." * 15 + "xxxxx"
    assert feed(devices, [1] * 20, "xxx." * 5) == "." * 15 + "xxxxx"
    assert feed(devices, [0] * 20, "x." * 10) == "." * 20
    assert feed(devices, [3] * 60, "x" * 11 + "." * 49) == "." * 60  # while it was put on


def test_a_device_of_long_standing_needs_many_and_a_few_do_nothing() -> None:
    devices = UnfamiliarDevices(1)
    feed(devices, [0] * 1000, "." * 1000)
    assert feed(devices, [0] * 4, "xxxx") == "...."
    feed(devices, [0] * 200, "." * 200)
    assert devices.share[0] == 0  # forgotten
    needed = int(np.ceil(np.log(1 - BEGIN_SHARE) / np.log(1 - 1 / MEMORY)))
    assert needed == 19
    assert feed(devices, [0] * (needed + 1), "x" * (needed + 1)) == "." * (needed - 1) + "xx"


def test_the_problem_ends_when_hardly_any_window_is_unfamiliar() -> None:
    devices = UnfamiliarDevices(1)
    feed(devices, [0] * 100, "x" * 100)
    assert devices.share[0] == 1
    assert feed(devices, [0] * 8, "...x...x") == "xxxxxxxx"
    share = float(devices.share[0])
    needed = int(np.ceil(np.log(END_SHARE / share) / np.log(1 - 1 / MEMORY)))
    assert feed(devices, [0] * (needed + 5), "." * (needed + 5)) == "x" * (needed - 1) + "." * 6


def test_windows_that_say_nothing_are_not_counted() -> None:
    devices = UnfamiliarDevices(2)
    assert feed(devices, [0] * 9, "xxxxxxxxx", "---------") == "." * 9
    assert devices.n_windows[0] == 0
    feed(devices, [0] * 16, "x" * 16)
    before = devices.snapshot(np.array([0]))
    assert feed(devices, [0] * 99, "." * 99, "-" * 99) == "x" * 99
    assert {name: array.tolist() for name, array in devices.snapshot(np.array([0])).items()} == {
        name: array.tolist() for name, array in before.items()
    }


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("...x-")), max_size=120),
    st.lists(st.integers(0, 120), max_size=10),
)
def test_rows_do_not_depend_on_each_other_nor_on_how_windows_are_cut(
    windows: list[tuple[int, str]], cuts: list[int]
) -> None:
    rows, found = [row for row, _ in windows], "".join(one for _, one in windows)
    whole = UnfamiliarDevices(4)
    expected = feed(whole, rows, found)
    parts = UnfamiliarDevices(4)
    bounds = sorted({0, *(cut for cut in cuts if cut < len(rows)), len(rows)})
    assert expected == "".join(feed(parts, rows[first:last], found[first:last]) for first, last in pairwise(bounds))
    alone = [UnfamiliarDevices(4) for _ in range(4)]
    assert expected == "".join(feed(alone[row], [row], one) for row, one in windows)
    for name in UnfamiliarDevices.ROW_ARRAYS:
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
        for row in range(4):
            assert getattr(alone[row], name)[row] == getattr(whole, name)[row]
