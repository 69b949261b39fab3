"""How good predictions are: pure functions of true and predicted label indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Float64, Int64


@dataclass(frozen=True, slots=True)
class Metrics:
    """Figures of a set of predictions, all derived from the confusion matrix."""

    labels: tuple[str, ...]
    confusion: Int64  # (n_labels, n_labels) counts; rows are the truth, columns the prediction

    @property
    def windows(self) -> int:
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """The share of windows whose label was predicted; 0 where there is no window."""
        return float(np.trace(self.confusion) / max(self.windows, 1))

    @property
    def precision(self) -> Float64:
        """(n_labels,) the share of each label's predictions that were right; 0 where there was none."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=0))

    @property
    def recall(self) -> Float64:
        """(n_labels,) the share of each label's windows that were found; 0 where there was none."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=1))

    @property
    def f1(self) -> Float64:
        """(n_labels,) the harmonic mean of precision and recall; 0 for a label never right."""
        hits = np.diag(self.confusion)
        return _ratio(2 * hits, self.confusion.sum(axis=0) + self.confusion.sum(axis=1))

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the labels that occur, in truth or in prediction; 0 where none does."""
        occurs = (self.confusion.sum(axis=0) + self.confusion.sum(axis=1)) > 0
        return float(self.f1[occurs].mean()) if occurs.any() else 0.0

    def to_dict(self) -> dict[str, Any]:
        """What ``harstream evaluate --json`` writes."""
        return {
            "windows": self.windows,
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "labels": list(self.labels),
            "confusion": self.confusion.tolist(),
        }

    def __add__(self, other: Metrics) -> Metrics:
        """Both sets of predictions as one; the labels must be the same."""
        if self.labels != other.labels:
            raise ValueError(f"cannot add metrics of {self.labels} and {other.labels}")
        return Metrics(self.labels, self.confusion + other.confusion)


def score(truth: npt.ArrayLike, predicted: npt.ArrayLike, labels: Sequence[str]) -> Metrics:
    """Compare label indices, both (n_windows,), each from 0 to ``len(labels) - 1``."""
    true, guess = np.asarray(truth, np.int64), np.asarray(predicted, np.int64)
    if true.shape != guess.shape:
        raise ValueError(f"{len(true)} true labels, {len(guess)} predicted")
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(confusion, (true, guess), 1)
    return Metrics(tuple(labels), confusion)


def _ratio(part: npt.NDArray[np.int64], of: npt.NDArray[np.int64]) -> Float64:
    return np.asarray(part / np.maximum(of, 1), np.float64)
