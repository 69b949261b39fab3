"""Metrics of predicted labels: pure functions of true and predicted label indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Bool, Float64, Int64


@dataclass(frozen=True, slots=True)
class Scores:
    """Metrics of a set of predictions, all derived from the confusion matrix and the abstentions.

    A window on which the model abstained (predicted label UNKNOWN) counts as wrong.
    """

    labels: tuple[str, ...]
    confusion: Int64  # (n_labels, n_labels) number of windows; row: true label, column: predicted label
    unknown: Int64 | None = None  # (n_labels,) windows predicted as UNKNOWN, by true label; None: none can be
    unfamiliar: Int64 | None = None  # (n_labels,) those of them that are unfamiliar; None: the model cannot tell

    @property
    def windows_by_label(self) -> Int64:
        """Number of windows of each true label, (n_labels,)."""
        return np.asarray(self.confusion.sum(axis=1) + (0 if self.unknown is None else self.unknown), np.int64)

    @property
    def windows(self) -> int:
        """Number of all windows."""
        return int(self.windows_by_label.sum())

    @property
    def accuracy(self) -> float:
        """Share of the windows that were predicted correctly; 0 if there is no window."""
        return float(np.trace(self.confusion) / max(self.windows, 1))

    @property
    def precision(self) -> Float64:
        """Share of each label's predictions that were correct, (n_labels,); 0 for a label never predicted."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=0))

    @property
    def recall(self) -> Float64:
        """Share of each label's windows that were predicted correctly, (n_labels,); 0 for a label without windows."""
        return _ratio(np.diag(self.confusion), self.windows_by_label)

    @property
    def f1(self) -> Float64:
        """Harmonic mean of precision and recall, (n_labels,); 0 for a label never predicted correctly."""
        return _ratio(2 * np.diag(self.confusion), self.confusion.sum(axis=0) + self.windows_by_label)

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the labels that occur as true or predicted label; 0 if none does."""
        occurs = (self.confusion.sum(axis=0) + self.windows_by_label) > 0
        return float(self.f1[occurs].mean()) if occurs.any() else 0.0

    @property
    def macro_recall(self) -> float:
        """Mean recall of the labels that occur as true label; 0 if there is no window."""
        occurs = self.windows_by_label > 0
        return float(self.recall[occurs].mean()) if occurs.any() else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the public fields of ``harstream evaluate --json``.

        ``unknown`` is there only if a window can be UNKNOWN, ``unfamiliar`` only if the model can tell.
        """
        public: dict[str, Any] = {
            "windows": self.windows,
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "macro_recall": self.macro_recall,
            "labels": list(self.labels),
            "confusion": self.confusion.tolist(),
        }
        for name, counts in (("unknown", self.unknown), ("unfamiliar", self.unfamiliar)):
            if counts is not None:
                public[name] = counts.tolist()
        return public

    def __add__(self, other: Scores) -> Scores:
        """Return the scores of both sets of predictions together.

        Raises:
            ValueError: The two sets have different labels.

        """
        if self.labels != other.labels:
            raise ValueError(f"cannot add scores of {self.labels} and {other.labels}: the labels must be the same")
        return Scores(
            self.labels,
            self.confusion + other.confusion,
            _sum(self.unknown, other.unknown),
            _sum(self.unfamiliar, other.unfamiliar),
        )


def score(
    truth: npt.ArrayLike,
    predicted: npt.ArrayLike,
    labels: Sequence[str],
    *,
    abstains: bool = False,
    unfamiliar: Bool | None = None,
) -> Scores:
    """Compare true with predicted labels.

    Args:
        truth: Index of each window's true label, (n_windows,).
        predicted: Index of each window's predicted label, (n_windows,).
        labels: Names of the labels.
        abstains: Allow predictions of -1, the index of UNKNOWN: the model abstains, or knows states between labels.
        unfamiliar: Whether each window is unfamiliar, and so predicted as UNKNOWN, (n_windows,); None: the model cannot
            tell.

    Raises:
        ValueError: The arrays differ in length, or a prediction is negative without ``abstains``.

    """
    true_index, predicted_index = np.asarray(truth, np.int64), np.asarray(predicted, np.int64)
    if true_index.shape != predicted_index.shape:
        raise ValueError(
            f"expected one predicted label per true label, got {len(true_index)} true, {len(predicted_index)} predicted"
        )
    if (predicted_index < 0).any() and not abstains:
        raise ValueError(f"predicted label {predicted_index.min()}: a negative index needs abstains=True")
    labelled = predicted_index >= 0
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(confusion, (true_index[labelled], predicted_index[labelled]), 1)
    return Scores(
        tuple(labels),
        confusion,
        np.bincount(true_index[~labelled], minlength=len(labels)) if abstains else None,
        None if unfamiliar is None else np.bincount(true_index[unfamiliar], minlength=len(labels)),
    )


def score_by(
    names: npt.NDArray[np.str_],
    truth: Int64,
    predicted: Int64,
    labels: Sequence[str],
    *,
    abstains: bool = False,
    unfamiliar: Bool | None = None,
) -> dict[str, Scores]:
    """Return the scores of the windows of each name, such as that of the subject; all arrays are (n_windows,)."""

    def score_of(name: str) -> Scores:
        own = names == name
        part = None if unfamiliar is None else unfamiliar[own]
        return score(truth[own], predicted[own], labels, abstains=abstains, unfamiliar=part)

    return {str(name): score_of(name) for name in np.unique(names)}


@dataclass(frozen=True, slots=True)
class Reliability:
    """Reliability diagram: confidence and accuracy in bins of confidence, all of one width, (n_bins,) each."""

    windows: Int64  # number of windows in each bin
    confidence: Float64  # their mean confidence; 0 in an empty bin
    accuracy: Float64  # share of them that was predicted correctly; 0 in an empty bin

    @property
    def error(self) -> float:
        """Expected calibration error: mean of |accuracy - confidence| over the bins, weighted by their windows."""
        return float((np.abs(self.accuracy - self.confidence) * self.windows).sum() / max(int(self.windows.sum()), 1))

    def __add__(self, other: Reliability) -> Reliability:
        """Return the diagram of both sets of predictions together; both must have the same bins."""
        windows = self.windows + other.windows

        def mean(of_self: Float64, of_other: Float64) -> Float64:
            return _ratio(of_self * self.windows + of_other * other.windows, windows)

        return Reliability(windows, mean(self.confidence, other.confidence), mean(self.accuracy, other.accuracy))

    def to_dict(self) -> dict[str, Any]:
        """Return the ``reliability`` section of ``harstream evaluate --json``."""
        return {name: getattr(self, name).tolist() for name in ("windows", "confidence", "accuracy")}


def measure_reliability(confidence: npt.ArrayLike, correct: npt.ArrayLike, n_bins: int = 15) -> Reliability:
    """Sort predictions into bins of confidence (Guo et al. 2017, "On Calibration of Modern Neural Networks").

    A bin contains its upper limit and not its lower one, as in the paper.

    Args:
        confidence: Confidence of each prediction from 0 to 1, (n_windows,).
        correct: True for each prediction that was correct, (n_windows,).
        n_bins: Number of bins between 0 and 1.

    Raises:
        ValueError: The arrays differ in length.

    """
    values, hits = np.asarray(confidence, np.float64), np.asarray(correct, bool)
    if len(values) != len(hits):
        raise ValueError(f"expected one confidence per window, got {len(values)} for {len(hits)} windows")
    index = np.clip(np.ceil(values * n_bins).astype(np.int64) - 1, 0, n_bins - 1)
    windows = np.bincount(index, minlength=n_bins)

    def mean(of_window: npt.NDArray[Any]) -> Float64:
        return np.asarray(np.bincount(index, of_window, n_bins) / np.maximum(windows, 1), np.float64)

    return Reliability(windows.astype(np.int64), mean(values), mean(hits))


def reliability_of_labels(confidence: npt.ArrayLike, predicted: Int64, truth: Int64) -> Reliability:
    """Return the reliability of the windows with a label: those predicted as UNKNOWN (-1) are left out.

    Args:
        confidence: Confidence of each predicted label from 0 to 1, (n_windows,).
        predicted: Index of each window's predicted label, (n_windows,).
        truth: Index of each window's true label, (n_windows,).

    """
    labelled = predicted >= 0
    return measure_reliability(np.asarray(confidence)[labelled], predicted[labelled] == truth[labelled])


def calibration_error(probabilities: npt.ArrayLike, label: npt.ArrayLike, n_bins: int = 15) -> float:
    """Return the expected calibration error (Guo et al. 2017) of predicted probabilities; 0 without windows.

    Args:
        probabilities: Probabilities, (n_windows, n_labels).
        label: Index of each window's true label, (n_windows,).
        n_bins: Number of bins between 0 and 1.

    """
    p = np.asarray(probabilities, np.float64)
    if not len(p):
        return 0.0
    return measure_reliability(p.max(axis=1), p.argmax(axis=1) == np.asarray(label, np.int64), n_bins).error


def _sum(one: Int64 | None, other: Int64 | None) -> Int64 | None:
    """Return the sum of two counts, of which one or both may be missing."""
    if one is None or other is None:
        return other if one is None else one
    return one + other


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[np.int64]) -> Float64:
    """Return ``part / whole`` element by element; 0 where ``whole`` is 0."""
    return np.asarray(part / np.maximum(whole, 1), np.float64)
