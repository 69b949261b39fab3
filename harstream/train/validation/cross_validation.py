"""Validation by subject: no window of a subject is ever both trained on and counted."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from harstream.core.batches import Float32, Int64
from harstream.core.spec import SignalSpec
from harstream.datasets.windows import LabelledWindows
from harstream.evaluate.metrics import Scores, calibration_error
from harstream.progress import Progress, silent
from harstream.train.fitting import checkpoint
from harstream.train.fitting.fit import fit_temperature
from harstream.train.fitting.recipe import FitConfig
from harstream.train.folds import folds_of
from harstream.train.validation import pool as processes
from harstream.train.validation.task import Fold, Task, fingerprint


@dataclass(frozen=True, slots=True)
class Run:
    """Every subject held out once, under one seed: the folds' figures together."""

    seed: int
    folds: tuple[tuple[str, ...], ...]  # the subjects held out together
    by_fold: tuple[Scores, ...]
    int8_by_fold: tuple[Scores, ...]  # empty where int8 was not asked for, or LiteRT could not take a network
    logits: Float32  # (n_windows, n_labels) of all held-out windows, fold after fold
    label: Int64  # (n_windows,)
    subject: npt.NDArray[np.str_]  # (n_windows,)

    @property
    def metrics(self) -> Scores:
        return _sum(self.by_fold)

    @property
    def int8(self) -> Scores | None:
        return _sum(self.int8_by_fold) if self.int8_by_fold else None

    def to_dict(self) -> dict[str, Any]:
        int8 = self.int8
        return {
            "seed": self.seed,
            "folds": [
                {"held_out": list(subjects), "windows": metrics.windows, "accuracy": metrics.accuracy}
                for subjects, metrics in zip(self.folds, self.by_fold, strict=True)
            ],
            "float32": self.metrics.to_dict(),
            "int8": int8.to_dict() if int8 else None,
        }


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """Runs that differ in their seed: its weights, its batches, and its choice of folds."""

    config: FitConfig
    runs: tuple[Run, ...]

    @property
    def metrics(self) -> Scores:
        """All runs' windows together."""
        return _sum([run.metrics for run in self.runs])

    @property
    def int8(self) -> Scores | None:
        metrics = [run.int8 for run in self.runs if run.int8]
        return _sum(metrics) if metrics else None

    def held_out(self) -> tuple[Float32, Int64]:
        """Logits and labels of every window while its subject was held out, run after run."""
        return np.concatenate([run.logits for run in self.runs]), np.concatenate([run.label for run in self.runs])

    def accuracy_by_subject(self) -> dict[str, float]:
        """Each subject's accuracy while held out, all runs together."""
        right = np.concatenate([run.logits.argmax(axis=1) == run.label for run in self.runs])
        subject = np.concatenate([run.subject for run in self.runs])
        return {str(name): float(right[subject == name].mean()) for name in np.unique(subject)}

    def calibration_error(self) -> float:
        """Expected calibration error, each fold's probabilities by a temperature fitted on its run's other folds."""
        probabilities, label = [], []
        for run in self.runs:
            fold = np.repeat(np.arange(len(run.folds)), [metrics.windows for metrics in run.by_fold])
            for number in range(len(run.folds)):
                mine = fold == number
                scaled = run.logits[mine] / fit_temperature(run.logits[~mine], run.label[~mine])
                probabilities.append(softmax(scaled, axis=1))
                label.append(run.label[mine])
        return calibration_error(np.concatenate(probabilities), np.concatenate(label))

    def to_dict(self) -> dict[str, Any]:
        """Aggregates only, as JSON: per run, and mean and standard deviation over the seeds."""
        int8 = [run.int8 for run in self.runs if run.int8]
        return {
            "method": f"{len(self.runs[0].folds)} folds by subject, {len(self.runs)} seeds",
            "seeds": [run.seed for run in self.runs],
            "epochs": self.config.epochs,
            "config": self.config.to_dict(),
            "float32": _spread([run.metrics for run in self.runs]),
            "int8": _spread(int8) if int8 else None,
            "calibration_error": self.calibration_error(),
            "labels": list(self.metrics.labels),
            "confusion": self.metrics.confusion.tolist(),
            "accuracy_by_wearer": self.accuracy_by_subject(),
            "runs": [run.to_dict() for run in self.runs],
        }


def cross_validate(
    training: LabelledWindows,
    counted: LabelledWindows,
    spec: SignalSpec,
    config: FitConfig,
    *,
    repeats: int = 1,
    int8: bool = False,
    progress: Progress = silent,
    jobs: int = 1,
    work: Path | None = None,
) -> CrossValidation:
    """Hold out each subject once per repeat; train on the others' windows of ``training``, count ``counted``.

    Repeat ``k`` has the seed ``config.seed + k``. Nothing is chosen on a held-out subject: the epochs are
    fixed, or early stopping looks at some of those trained on. ``jobs`` fits are done at a time. In the
    folder ``work`` each fit's result is kept, and those found there, of the same windows and configuration, are
    not done again. ``progress`` is told of epochs over all fits. Raises DatasetError as ``folds_of`` and ``fit`` do.
    """
    tasks = [
        Task(spec, replace(config, seed=seed), held_out, int8)
        for seed in range(config.seed, config.seed + repeats)
        for held_out in folds_of(counted.subject.tolist(), config.folds, seed)
    ]
    kept_at: list[Path] = []
    found: dict[int, Fold] = {}
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        # Of a subject held out by the same name, all the others may have changed.
        whole = checkpoint.fingerprint(spec, replace(config, seed=0), training, counted)
        facts = ([whole, task.config.seed, task.held_out, int8] for task in tasks)
        kept_at = [work / f"{fingerprint(fact)}.npz" for fact in facts]
        kept = ((index, Fold.load(path)) for index, path in enumerate(kept_at))
        found = {index: fold for index, fold in kept if fold is not None}
    epochs = dict.fromkeys(found, config.epochs)
    todo = [index for index in range(len(tasks)) if index not in found]

    def told(index: int, done: int) -> None:
        epochs[todo[index]] = done
        progress("validating", sum(epochs.values()), len(tasks) * config.epochs)

    results = processes.run([tasks[index] for index in todo], lambda _: (training, counted), jobs, told)
    for index, fold in results:
        found[todo[index]] = fold
        if kept_at:
            fold.save(kept_at[todo[index]])
        if fold.epochs < config.epochs:  # it stopped early
            told(index, config.epochs)
    return CrossValidation(config, tuple(_runs([found[index] for index in range(len(tasks))])))


def _runs(folds: Sequence[Fold]) -> list[Run]:
    return [
        Run(
            seed,
            tuple(fold.held_out for fold in parts),
            tuple(fold.metrics for fold in parts),
            tuple(int8) if len(int8 := [fold.int8 for fold in parts if fold.int8 is not None]) == len(parts) else (),
            np.concatenate([fold.logits for fold in parts]),
            np.concatenate([fold.label for fold in parts]),
            np.concatenate([fold.subject for fold in parts]),
        )
        for seed, parts in ((seed, list(group)) for seed, group in groupby(folds, key=lambda fold: fold.seed))
    ]


def _sum(parts: Sequence[Scores]) -> Scores:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _spread(metrics: Sequence[Scores]) -> dict[str, Any]:
    """Mean and sample standard deviation over the runs; the deviation of one run is null."""

    def of(values: list[float]) -> dict[str, float | None]:
        return {"mean": statistics.fmean(values), "sd": statistics.stdev(values) if len(values) > 1 else None}

    return {"accuracy": of([m.accuracy for m in metrics]), "macro_f1": of([m.macro_f1 for m in metrics])}
