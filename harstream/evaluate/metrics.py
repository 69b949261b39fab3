"""How good predictions are: pure functions of true and predicted label indices, and what is reported of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Float64, Int64

if TYPE_CHECKING:
    from harstream.evaluate.sessions import Streaming


@dataclass(frozen=True, slots=True)
class Metrics:
    """Figures of a set of predictions, all derived from the confusion matrix and the abstentions.

    A window on which the model abstained is a window whose label was not predicted: it counts as wrong.
    """

    labels: tuple[str, ...]
    confusion: Int64  # (n_labels, n_labels) counts; rows are the truth, columns the prediction
    unknown: Int64 | None = None  # (n_labels,) windows labelled UNKNOWN, by truth; None: nothing abstains

    @property
    def of_label(self) -> Int64:
        """(n_labels,) windows of each true label."""
        return np.asarray(self.confusion.sum(axis=1) + (0 if self.unknown is None else self.unknown), np.int64)

    @property
    def windows(self) -> int:
        return int(self.of_label.sum())

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
        return _ratio(np.diag(self.confusion), self.of_label)

    @property
    def f1(self) -> Float64:
        """(n_labels,) the harmonic mean of precision and recall; 0 for a label never right."""
        return _ratio(2 * np.diag(self.confusion), self.confusion.sum(axis=0) + self.of_label)

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the labels that occur, in truth or in prediction; 0 where none does."""
        occurs = (self.confusion.sum(axis=0) + self.of_label) > 0
        return float(self.f1[occurs].mean()) if occurs.any() else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The public fields of ``harstream evaluate --json``; ``unknown`` only where the model may abstain."""
        public = {
            "windows": self.windows,
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "labels": list(self.labels),
            "confusion": self.confusion.tolist(),
        }
        return public if self.unknown is None else {**public, "unknown": self.unknown.tolist()}

    def __add__(self, other: Metrics) -> Metrics:
        """Both sets of predictions as one; the labels must be the same."""
        if self.labels != other.labels:
            raise ValueError(f"cannot add metrics of {self.labels} and {other.labels}")
        if self.unknown is None or other.unknown is None:
            unknown = self.unknown if other.unknown is None else other.unknown
        else:
            unknown = self.unknown + other.unknown
        return Metrics(self.labels, self.confusion + other.confusion, unknown)


def score(truth: npt.ArrayLike, predicted: npt.ArrayLike, labels: Sequence[str], *, abstains: bool = False) -> Metrics:
    """Compare label indices, both (n_windows,), each from 0 to ``len(labels) - 1``.

    With ``abstains`` a prediction may also be -1: UNKNOWN.
    """
    true, guess = np.asarray(truth, np.int64), np.asarray(predicted, np.int64)
    if true.shape != guess.shape:
        raise ValueError(f"{len(true)} true labels, {len(guess)} predicted")
    if (guess < 0).any() and not abstains:
        raise ValueError("a prediction is negative, and nothing abstains here")
    said = guess >= 0
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(confusion, (true[said], guess[said]), 1)
    return Metrics(tuple(labels), confusion, np.bincount(true[~said], minlength=len(labels)) if abstains else None)


@dataclass(frozen=True, slots=True)
class Reliability:
    """Confidence against accuracy in equally wide bins of confidence, lowest first: (n_bins,) each."""

    windows: Int64  # how many fall into each bin
    confidence: Float64  # their mean confidence; 0 in an empty bin
    accuracy: Float64  # the share of them that was right; 0 in an empty bin

    @property
    def error(self) -> float:
        """The expected calibration error: the bins' distance of the two, each weighted by its windows."""
        return float((np.abs(self.accuracy - self.confidence) * self.windows).sum() / max(int(self.windows.sum()), 1))

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name).tolist() for name in ("windows", "confidence", "accuracy")}


def reliability(confidence: npt.ArrayLike, right: npt.ArrayLike, n_bins: int = 15) -> Reliability:
    """The bins of a reliability diagram (Guo et al. 2017, "On Calibration of Modern Neural Networks").

    ``confidence`` is (n_windows,) from 0 to 1, ``right`` (n_windows,) whether the label was. A bin holds its
    upper limit, not its lower, as in the paper.
    """
    sure, hit = np.asarray(confidence, np.float64), np.asarray(right, bool)
    if len(sure) != len(hit):
        raise ValueError(f"{len(sure)} confidences for {len(hit)} windows")
    index = np.clip(np.ceil(sure * n_bins).astype(np.int64) - 1, 0, n_bins - 1)
    windows = np.bincount(index, minlength=n_bins)

    def mean(values: npt.NDArray[Any]) -> Float64:
        return np.asarray(np.bincount(index, values, n_bins) / np.maximum(windows, 1), np.float64)

    return Reliability(windows.astype(np.int64), mean(sure), mean(hit))


def calibration_error(probabilities: npt.ArrayLike, label: npt.ArrayLike, n_bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017) of (n_windows, n_labels) calibrated probabilities.

    ``label`` is (n_windows,) the truth. 0 where there is no window.
    """
    p = np.asarray(probabilities, np.float64)
    if not len(p):
        return 0.0
    return reliability(p.max(axis=1), p.argmax(axis=1) == np.asarray(label, np.int64), n_bins).error


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What ``harstream evaluate`` says of a model on a data set."""

    model: str  # the bundle's id
    backend: str
    data: str  # KIND:PATH
    source: str  # what was read: "41 recordings"
    notes: tuple[str, ...]  # what a reader of the figures must know
    metrics: Metrics
    reliability: Reliability
    by_subject: Mapping[str, Metrics] = field(default_factory=dict)  # empty: the subjects are not known
    stream: Streaming | None = None

    def to_dict(self) -> dict[str, Any]:
        """What ``harstream evaluate --json`` writes."""
        metrics = self.metrics
        return {
            **metrics.to_dict(),
            "precision": metrics.precision.tolist(),
            "recall": metrics.recall.tolist(),
            "f1": metrics.f1.tolist(),
            "calibration_error": self.reliability.error,
            "reliability": self.reliability.to_dict(),
            "by_wearer": {
                name: {"windows": one.windows, "accuracy": one.accuracy} for name, one in self.by_subject.items()
            },
            "model": self.model,
            "backend": self.backend,
            "data": self.data,
            "notes": list(self.notes),
            **({} if self.stream is None else {"stream": self.stream.to_dict()}),
        }


def by_subject(
    truth: Int64, predicted: Int64, subject: npt.NDArray[np.str_], labels: Sequence[str], *, abstains: bool = False
) -> dict[str, Metrics]:
    """The metrics of each subject, by name; all arrays are (n_windows,)."""
    return {
        str(name): score(truth[subject == name], predicted[subject == name], labels, abstains=abstains)
        for name in np.unique(subject)
    }


def _ratio(part: npt.NDArray[np.int64], of: npt.NDArray[np.int64]) -> Float64:
    return np.asarray(part / np.maximum(of, 1), np.float64)
