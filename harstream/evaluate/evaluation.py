"""Evaluation: the result of ``harstream evaluate``, as printed, as JSON and as the report."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np

from harstream.core.labels import UNKNOWN
from harstream.core.spec import SignalSpec
from harstream.evaluate.metrics import Reliability, Scores
from harstream.evaluate.sessions import SessionScores, summarise
from harstream.evaluate.unfamiliar import UnfamiliarStretch, longest_first

#: Name of the placement of recordings that do not name theirs.
NOT_NAMED = "not named"
#: Shares of a breakdown, and the fields of their scores.
_SHARES = {"accuracy": "accuracy", "macro-F1": "macro_f1", "macro recall": "macro_recall"}


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
    by_placement: Mapping[str, Scores] = field(default_factory=dict)  # by the placement of the device; "": not named
    name: str = ""  # of the data set; of several, their names
    parts: tuple[Evaluation, ...] = ()  # of each data set, if this is of several together
    # Windows that the model found unfamiliar; None: it cannot tell, or the windows have no times.
    stretches: tuple[UnfamiliarStretch, ...] | None = None

    def breakdown(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return head and rows of a table: each data set, and each placement of a data set that has several.

        The columns of the labels are recall; labels without windows have ``-``. A single data set with a single
        placement has no row.
        """
        scores = self.scores
        rows = [row for part in self.parts or (self,) for row in part._rows(whole=bool(self.parts))]
        if self.parts:
            means = [np.mean([getattr(part.scores, field) for part in self.parts]) for field in _SHARES.values()]
            rows.append(("mean of the data sets", "", *map(_share, means), *[""] * (len(rows[0]) - 2 - len(means))))
        return ("", "windows", *_SHARES, *(name for name, _ in _abstained(scores)), *scores.labels), rows

    def _rows(self, *, whole: bool) -> list[tuple[str, ...]]:
        """Return a row for the data set, if ``whole``, and one for each of its placements if it has several."""
        parts = [(self.name, self.scores)] if whole else []
        if len(self.by_placement) > 1:
            named = {placement or NOT_NAMED: scores for placement, scores in self.by_placement.items()}
            parts += [(f"{self.name}, {placement}", scores) for placement, scores in named.items()]
        return [(name, *_cells(scores)) for name, scores in parts]

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
            **self._parts_to_dict(),
            **({} if self.stream is None else {"stream": self.stream.to_dict()}),
            **self._stretches_to_dict(),
        }

    def _stretches_to_dict(self) -> dict[str, Any]:
        """Return the part of the JSON about unfamiliar windows, which is left out if there are no times."""
        if self.stretches is None:
            return {}
        return {"unfamiliar_stretches": [stretch.to_dict() for stretch in longest_first(self.stretches)]}

    def _parts_to_dict(self) -> dict[str, Any]:
        """Return the part of the JSON about placements and data sets; a single one of either is left out."""
        parts: dict[str, Any] = {}
        if len(self.by_placement) > 1:
            parts["by_placement"] = {
                name or NOT_NAMED: {**scores.to_dict(), "recall": scores.recall.tolist()}
                for name, scores in self.by_placement.items()
            }
        if self.parts:
            parts["by_data"] = {part.name: part.to_dict() for part in self.parts}
            parts["macro_recall_of_sets"] = float(np.mean([part.scores.macro_recall for part in self.parts]))
        return parts


def together(parts: Sequence[Evaluation], spec: SignalSpec) -> Evaluation:
    """Return the evaluation of several data sets together, which weighs every window alike.

    Args:
        parts: The evaluation of each, of the same model in the same way.
        spec: Signal of the model.

    """
    first = parts[0]
    common = [note for note in first.notes if all(note in part.notes for part in parts)]
    notes = [f"{part.name}: {note}" for part in parts for note in part.notes if note not in common]
    by_placement: dict[str, Scores] = {}
    for part in parts:
        for name, scores in part.by_placement.items():
            by_placement[name] = by_placement[name] + scores if name in by_placement else scores
    stretches = [part.stretches for part in parts if part.stretches is not None]
    streams = [part.stream for part in parts if part.stream is not None]
    sessions = [session for stream in streams for session in stream.sessions]
    return Evaluation(
        first.model,
        first.backend,
        ", ".join(part.data for part in parts),
        f"{len(parts)} data sets together: {'; '.join(f'{part.name}: {part.source}' for part in parts)}",
        (*common, *notes),
        reduce(operator.add, [part.scores for part in parts]),
        reduce(operator.add, [part.reliability for part in parts]),
        {name: scores for part in parts for name, scores in part.by_subject.items()},
        summarise(sessions, first.scores.labels, spec) if len(streams) == len(parts) else None,
        by_placement,
        ", ".join(part.name for part in parts),
        tuple(parts),
        tuple(one for part in stretches for one in part) if stretches else None,
    )


def _cells(scores: Scores) -> tuple[str, ...]:
    """Return the cells of a breakdown after the name."""
    abstained = [_share(count / max(scores.windows, 1)) for _, count in _abstained(scores)]
    recall = [
        _share(value) if windows else "-" for value, windows in zip(scores.recall, scores.windows_by_label, strict=True)
    ]
    return (str(scores.windows), *(_share(getattr(scores, field)) for field in _SHARES.values()), *abstained, *recall)


def _abstained(scores: Scores) -> list[tuple[str, int]]:
    """Return the number of windows without a label, and of the unfamiliar ones of them, where there can be any."""
    counts = ((UNKNOWN, scores.unknown), ("unfamiliar", scores.unfamiliar))
    return [(name, int(count.sum())) for name, count in counts if count is not None]


def _share(value: float) -> str:
    return f"{value:.3f}"
