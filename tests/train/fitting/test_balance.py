"""Balance of data sets: equal shares within a label, and at most so many windows of each."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from harstream.datasets.windows import LabelledWindows
from harstream.train.fitting.balance import MAX_WEIGHT, cap_sets, set_weights

#: Number of windows by label and data set.
COUNTS = {(0, "big"): 60, (0, "small"): 20, (1, "big"): 30, (2, "small"): 10}


def windows(counts: dict[tuple[int, str], int]) -> LabelledWindows:
    label = np.array([key[0] for key, n in counts.items() for _ in range(n)])
    data_set = np.array([key[1] for key, n in counts.items() for _ in range(n)])
    n = len(label)
    return LabelledWindows(
        np.zeros((n, 8, 1), np.float32), label, data_set, data_set, data_set, np.arange(n), ("A", "B", "C")
    )


def test_every_data_set_has_the_same_share_of_a_label_and_every_label_its_own() -> None:
    data = windows(COUNTS)
    weights = set_weights(data)
    totals = {key: weights[(data.label == key[0]) & (data.data_set == key[1])].sum().round(6).item() for key in COUNTS}
    assert totals == {(0, "big"): 40, (0, "small"): 40, (1, "big"): 30, (2, "small"): 10}


def test_the_few_windows_of_a_small_set_do_not_become_half_of_a_label() -> None:
    weights = set_weights(windows({(0, "big"): 1000, (0, "small"): 2}))
    assert weights.sum() == pytest.approx(1002)
    assert MAX_WEIGHT < weights.max() < 2 * MAX_WEIGHT
    assert weights[-2:].sum() < 0.04 * 1002


def test_the_windows_of_a_cell_are_capped_at_random_by_the_seed() -> None:
    data = windows(COUNTS)
    capped = cap_sets(data, 25, seed=3)
    counts = {key: int(((capped.label == key[0]) & (capped.data_set == key[1])).sum()) for key in COUNTS}
    assert counts == {(0, "big"): 25, (0, "small"): 20, (1, "big"): 25, (2, "small"): 10}
    assert (np.diff(capped.start) > 0).all()  # in order
    assert cap_sets(data, 25, seed=3).start.tolist() == capped.start.tolist()
    assert cap_sets(data, 25, seed=4).start.tolist() != capped.start.tolist()
    assert cap_sets(data, 0, seed=3) is data
