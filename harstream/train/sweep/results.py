"""The results of experiments in a file: what ``train --sweep`` writes and tables and plots are made from."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harstream.errors import DatasetError
from harstream.evaluate.metrics import Scores

FORMAT = "harstream experiments 1"
#: The file's name in an experiment's own folder.
RESULTS = "results.json"


@dataclass(frozen=True, slots=True)
class Unit:
    """One fit, counted on the subjects held out from it."""

    seed: int
    fold: int
    held_out: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]  # rows the truth
    calibration_error: float  # of the plain softmax, without a temperature
    epochs: int  # that were really run
    seconds: float  # of fitting

    def to_dict(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "fold": self.fold,
            "held_out": list(self.held_out),
            "windows": sum(map(sum, self.confusion)),
            "epochs": self.epochs,
            "seconds": self.seconds,
            "calibration_error": self.calibration_error,
            "confusion": [list(row) for row in self.confusion],
        }


@dataclass(slots=True)
class Row:
    """All fits that differ in nothing but seed and subjects held out."""

    name: str
    key: str  # the same for the same data, labels, signal and configuration
    overrides: Mapping[str, Any]
    config: Mapping[str, Any]  # FitConfig without its seed
    signal: Mapping[str, Any]  # without the normalisation, which every fit computes
    labels: tuple[str, ...]  # in the order of the confusions
    parameters: int = 0
    litert: Mapping[str, Any] = field(default_factory=dict)  # bytes, windows_per_s; or reason; empty: not measured yet
    int8: Mapping[str, Any] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    units: list[Unit] = field(default_factory=list)

    def find(self, seed: int, held_out: tuple[str, ...]) -> Unit | None:
        return next((unit for unit in self.units if (unit.seed, unit.held_out) == (seed, held_out)), None)

    def by_seed(self, subjects: tuple[str, ...]) -> dict[int, Scores]:
        """The figures of each seed under which every subject was held out once, all folds together."""
        found: dict[int, list[Unit]] = {}
        for unit in self.units:
            found.setdefault(unit.seed, []).append(unit)
        return {
            seed: Scores(self.labels, np.sum([np.array(unit.confusion, np.int64) for unit in units], axis=0))
            for seed, units in sorted(found.items())
            if sorted(subject for unit in units for subject in unit.held_out) == sorted(subjects)
        }

    def to_dict(self) -> dict[str, Any]:
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
    """Rows on one data set."""

    data: str  # KIND:NAME
    subjects: tuple[str, ...]
    commands: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def find(self, key: str) -> Row | None:
        return next((row for row in self.rows if row.key == key), None)

    def to_bytes(self) -> bytes:
        """JSON with one line for each fit, so that a change of the file can be read."""
        rows = []
        for row in self.rows:
            head = ",\n".join(f"   {json.dumps(key)}: {json.dumps(value)}" for key, value in row.to_dict().items())
            units = ",\n".join(f"    {json.dumps(unit.to_dict())}" for unit in row.units)
            rows.append(f'  {{\n{head},\n   "units": [\n{units}\n   ]\n  }}')
        facts = {"format": FORMAT, "data": self.data, "wearers": list(self.subjects), "commands": self.commands}
        head = "".join(f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in facts.items())
        return f'{{\n{head} "rows": [\n{",".join(rows)}\n ]\n}}\n'.encode()


def spread(values: list[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation, which one value has not."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def read(path: Path) -> Results:
    """Read and check a results file. Raises DatasetError naming the row: without seeds and epochs none stands."""
    data = read_json(path)
    if data.get("format") != FORMAT:
        raise DatasetError(f"{path}: format is {data.get('format')!r}, this harstream reads {FORMAT!r}")
    try:
        results = Results(str(data["data"]), tuple(data["wearers"]), list(data["commands"]))
        for entry in data["rows"]:
            results.rows.append(_row(path, entry))
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path}: not a results file: {type(error).__name__} {error}") from error
    return results


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises DatasetError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise DatasetError(f"{path}: expected an object")
    return data


def format_of(path: Path) -> str | None:
    """What a JSON file says it is; None where it says nothing. Raises DatasetError where it is no JSON."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: {error}") from error
    return data.get("format") if isinstance(data, dict) else None


def _row(path: Path, entry: dict[str, Any]) -> Row:
    fields = dict(entry)
    name, units = fields["name"], fields.pop("units")
    if "epochs" not in fields["config"]:
        raise DatasetError(f"{path}: row {name!r} does not say for how many epochs it was trained")
    for unit in units:
        for needed in ("seed", "epochs"):
            if not isinstance(unit.get(needed), int):
                raise DatasetError(f"{path}: row {name!r}: a fit does not say its {needed}")
        unit["held_out"] = tuple(unit["held_out"])
        unit["confusion"] = tuple(tuple(row) for row in unit["confusion"])
        counted = sum(map(sum, unit["confusion"]))
        if unit.pop("windows") != counted:
            raise DatasetError(f"{path}: row {name!r}: the confusion of seed {unit['seed']} counts {counted} windows")
    fields["labels"] = tuple(fields["labels"])
    return Row(**fields, units=[Unit(**unit) for unit in units])
