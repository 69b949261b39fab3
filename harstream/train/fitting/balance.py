"""Balance of data sets against each other: how often each window is drawn, and how many windows a set may have."""

from __future__ import annotations

import numpy as np

from harstream.core.batches import Float64, Int64
from harstream.datasets.windows import LabelledWindows

#: Greatest weight of a window, in units of the mean of its label: a set of few windows is not learnt by heart.
MAX_WEIGHT = 10.0


def set_weights(data: LabelledWindows) -> Float64:
    """Return (n_windows,) weights by which every data set has the same share of each label that it has.

    The weights of a label add up to the number of its windows, so that the shares of the labels stay as they are. A
    weight is at most about MAX_WEIGHT; what this takes from a small set goes to the others.
    """
    weights = np.ones(len(data))
    for cells in _cells_by_label(data):
        counts = np.array([len(cell) for cell in cells], np.float64)
        factors = np.minimum(counts.sum() / (len(cells) * counts), MAX_WEIGHT)
        factors *= counts.sum() / (factors * counts).sum()
        for cell, factor in zip(cells, factors, strict=True):
            weights[cell] = factor
    return weights


def cap_sets(data: LabelledWindows, most: int, seed: int) -> LabelledWindows:
    """Return at most ``most`` windows, drawn at random, of each label of each data set, in order; 0 returns all."""
    if not most:
        return data
    rng = np.random.default_rng(seed)
    cells = [cell for cells in _cells_by_label(data) for cell in cells]
    chosen = [rng.permutation(cell)[:most] for cell in cells]
    return data.select(np.sort(np.concatenate([np.zeros(0, np.int64), *chosen])))


def _cells_by_label(data: LabelledWindows) -> list[list[Int64]]:
    """Return, for each label that occurs, the indices of its windows in each data set that has it."""
    names, number = np.unique(data.data_set, return_inverse=True)
    cells = []
    for label in np.unique(data.label):
        index = np.flatnonzero(data.label == label)
        cells.append([index[number[index] == k] for k in range(len(names)) if (number[index] == k).any()])
    return cells
