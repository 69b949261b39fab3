"""Results of a sweep in a file, which ``train --sweep`` writes and from which tables and plots are made."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harstream.errors import DatasetError
from harstream.evaluate.metrics import Scores

FORMAT = "harstream experiments 1"
#: Name of the file in a sweep's own folder.
RESULTS = "results.json"


@dataclass(frozen=True, slots=True)
class FitRecord:
    """One fit of a row and its scores on the held-out subjects."""

    seed: int
    fold: int  # number of the fold, from 0
    held_out: tuple[str, ...]  # subjects
    confusion: tuple[tuple[int, ...], ...]  # number of windows; row: true label, column: predicted label
    calibration_error: float  # at temperature 1
    epochs: int  # number of epochs run
    seconds: float  # duration of the fit
    data_set: str = ""  # name of the data set that was held out as a whole; empty: a fold of subjects

    @property
    def windows(self) -> int:
        """Number of windows scored."""
        return sum(map(sum, self.confusion))

    def to_dict(self) -> dict[str, Any]:
        """Return the fit as JSON."""
        return {
            "seed": self.seed,
            "fold": self.fold,
            **({"data_set": self.data_set} if self.data_set else {}),
            "held_out": list(self.held_out),
            "windows": self.windows,
            "epochs": self.epochs,
            "seconds": self.seconds,
            "calibration_error": self.calibration_error,
            "confusion": [list(row) for row in self.confusion],
        }


@dataclass(slots=True)
class Row:
    """One config of a sweep with all its fits, which differ only in seed and held-out subjects."""

    name: str
    key: str  # hash of data, labels, signal and config
    overrides: Mapping[str, Any]  # settings that this row changes
    config: Mapping[str, Any]  # FitConfig without its seed
    signal: Mapping[str, Any]  # signal section without normalisation
    labels: tuple[str, ...]  # in the order of the confusion matrices
    parameters: int = 0  # number of the network's parameters
    litert: Mapping[str, Any] = field(default_factory=dict)  # bytes and windows_per_s, or reason; empty: not measured
    int8: Mapping[str, Any] = field(default_factory=dict)  # the same for int8
    libraries: Mapping[str, str] = field(default_factory=dict)  # versions
    fits: list[FitRecord] = field(default_factory=list)

    def find_fit(self, seed: int, held_out: tuple[str, ...]) -> FitRecord | None:
        """Return the fit of a seed and a fold, None if it is not done."""
        return next((fit for fit in self.fits if (fit.seed, fit.held_out) == (seed, held_out)), None)

    def scores_by_seed(self, subjects: tuple[str, ...]) -> dict[int, Scores]:
        """Return the scores of each complete seed, all folds together: those under which each subject was held out."""
        by_seed: dict[int, list[FitRecord]] = {}
        for fit in self.fits:
            by_seed.setdefault(fit.seed, []).append(fit)
        return {
            seed: Scores(self.labels, np.sum([np.array(fit.confusion, np.int64) for fit in fits], axis=0))
            for seed, fits in sorted(by_seed.items())
            if sorted(subject for fit in fits for subject in fit.held_out) == sorted(subjects)
        }

    def macro_recall_by_data(self, seeds: Container[int]) -> dict[str, list[float]]:
        """Return the macro recall of each data set that was held out as a whole, seed by seed, by its name."""
        by_data: dict[str, list[float]] = {}
        for fit in self.fits:
            if fit.data_set and fit.seed in seeds:
                scores = Scores(self.labels, np.array(fit.confusion, np.int64))
                by_data.setdefault(fit.data_set, []).append(scores.macro_recall)
        return by_data

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON, without its fits."""
        return {
            "name": self.name,
            "key": self.key,
            "overrides": dict(self.overrides),
            "config": dict(self.config),
            "signal": dict(self.signal),
            "labels": list(self.labels),
            "parameters": self.parameters,
            "litert": dict(self.litert),
            "int8": dict(self.int8),
            "libraries": dict(self.libraries),
        }


@dataclass(slots=True)
class Results:
    """The rows of a sweep on one data set."""

    data: str  # KIND:NAME
    subjects: tuple[str, ...]  # sorted
    commands: list[str] = field(default_factory=list)  # command lines that made the rows
    rows: list[Row] = field(default_factory=list)

    def find_row(self, key: str) -> Row | None:
        """Return the row with a key, None if there is none."""
        return next((row for row in self.rows if row.key == key), None)

    def to_bytes(self) -> bytes:
        """Return JSON with one line per fit, so that a diff of two versions is readable."""
        rows = []
        for row in self.rows:
            head = ",\n".join(f"   {json.dumps(key)}: {json.dumps(value)}" for key, value in row.to_dict().items())
            fits = ",\n".join(f"    {json.dumps(fit.to_dict())}" for fit in row.fits)
            rows.append(f'  {{\n{head},\n   "units": [\n{fits}\n   ]\n  }}')
        facts = {"format": FORMAT, "data": self.data, "wearers": list(self.subjects), "commands": self.commands}
        head = "".join(f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in facts.items())
        return f'{{\n{head} "rows": [\n{",".join(rows)}\n ]\n}}\n'.encode()


def read(path: Path) -> Results:
    """Read and check a file of results.

    Raises:
        DatasetError: The file is not readable or of another format, or a row lacks its seeds or epochs.

    """
    data = read_json(path)
    if data.get("format") != FORMAT:
        raise DatasetError(f"{path}: expected format {FORMAT!r}, got {data.get('format')!r}")
    try:
        results = Results(str(data["data"]), tuple(data["wearers"]), list(data["commands"]))
        for entry in data["rows"]:
            results.rows.append(_row(path, entry))
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path}: not a file of results: {type(error).__name__} {error}") from error
    return results


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file. Raise DatasetError if there is none."""
    data = _parse(path)
    if not isinstance(data, dict):
        raise DatasetError(f"{path}: expected a JSON object, got {type(data).__name__}")
    return data


def read_format(path: Path, expected: str, field: str, content: str) -> dict[str, Any]:
    """Return the JSON object in a results file of another format than FORMAT.

    Args:
        path: The file.
        expected: Its format.
        field: Name of the field with its content.
        content: What that must have at least one of, for messages.

    Raises:
        DatasetError: The file cannot be read, has another format, or no content.

    """
    data = read_json(path)
    if data.get("format") != expected:
        raise DatasetError(f"{path}: expected format {expected!r}, got {data.get('format')!r}")
    if not data.get(field):
        raise DatasetError(f"{path}: expected {content}, got none")
    return data


def format_of(path: Path) -> str | None:
    """Return the field ``format`` of a JSON file, None if it has no such field. Raise DatasetError if it is no JSON."""
    data = _parse(path)
    return data.get("format") if isinstance(data, dict) else None


def _parse(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: {error}") from error


def _row(path: Path, entry: dict[str, Any]) -> Row:
    fields = dict(entry)
    name, fits = fields["name"], fields.pop("units")
    if "epochs" not in fields["config"]:
        raise DatasetError(f"{path}: row {name!r}: the config has no epochs")
    for fit in fits:
        for needed in ("seed", "epochs"):
            if not isinstance(fit.get(needed), int):
                raise DatasetError(f"{path}: row {name!r}: a fit has no {needed}")
        fit["held_out"] = tuple(fit["held_out"])
        fit["confusion"] = tuple(tuple(row) for row in fit["confusion"])
        windows, counted = fit.pop("windows"), sum(map(sum, fit["confusion"]))
        if windows != counted:
            raise DatasetError(
                f"{path}: row {name!r}: seed {fit['seed']} has {windows} windows, its confusion matrix {counted}"
            )
    fields["labels"] = tuple(fields["labels"])
    return Row(**fields, fits=[FitRecord(**fit) for fit in fits])
