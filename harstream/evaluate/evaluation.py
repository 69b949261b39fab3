"""Evaluation: the result of ``harstream evaluate``, as printed, as JSON and as the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harstream.evaluate.metrics import Reliability, Scores
from harstream.evaluate.sessions import SessionScores


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of a model on a data set."""

    model: str  # id of the bundle, such as waist@1.0.0
    backend: str
    data: str  # KIND:PATH of the data set
    source: str  # what was scored, such as "41 recordings of 20 subjects, single windows"
    notes: tuple[str, ...]  # limits that a reader of the scores must know
    scores: Scores
    reliability: Reliability
    by_subject: Mapping[str, Scores] = field(default_factory=dict)  # empty: the data set does not name the subjects
    stream: SessionScores | None = None  # of whole sessions as published; None: single windows were scored

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``harstream evaluate --json``."""
        scores = self.scores
        return {
            **scores.to_dict(),
            "precision": scores.precision.tolist(),
            "recall": scores.recall.tolist(),
            "f1": scores.f1.tolist(),
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
