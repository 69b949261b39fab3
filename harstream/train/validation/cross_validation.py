"""Cross-validation by subject: no window of a subject is both trained on and scored."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from harstream.core.batches import Float32, Int64
from harstream.evaluate.metrics import Scores, calibration_error
from harstream.progress import Progress, silent
from harstream.tables import mean_and_deviation
from harstream.train.fitting.fit import fit_temperature
from harstream.train.fitting.prepare import Prepared
from harstream.train.fitting.recipe import FitConfig
from harstream.train.validation import pool
from harstream.train.validation.task import FoldResult, FoldStore, tasks_of


@dataclass(frozen=True, slots=True)
class SeedRun:
    """The folds of one seed: every subject is held out once."""

    seed: int
    folds: tuple[FoldResult, ...]

    @property
    def scores(self) -> Scores:
        """Scores of the float32 networks, all folds together."""
        return _sum([fold.scores for fold in self.folds])

    @property
    def int8(self) -> Scores | None:
        """Scores of the int8 networks, all folds together; None if a fold has no int8 network."""
        scores = [fold.int8 for fold in self.folds if fold.int8 is not None]
        return _sum(scores) if len(scores) == len(self.folds) else None

    @property
    def logits(self) -> Float32:
        """Logits of all held-out windows, (n_windows, n_labels), fold after fold."""
        return np.concatenate([fold.logits for fold in self.folds])

    @property
    def label(self) -> Int64:
        """True label of each window, (n_windows,)."""
        return np.concatenate([fold.label for fold in self.folds])

    @property
    def subject(self) -> npt.NDArray[np.str_]:
        """Subject of each window, (n_windows,)."""
        return np.concatenate([fold.subject for fold in self.folds])

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as JSON."""
        int8 = self.int8
        return {
            "seed": self.seed,
            "folds": [
                {"held_out": list(fold.held_out), "windows": fold.scores.windows, "accuracy": fold.scores.accuracy}
                for fold in self.folds
            ],
            "float32": self.scores.to_dict(),
            "int8": int8.to_dict() if int8 else None,
        }


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """Runs of one config that differ in their seed, which decides their folds and initial weights."""

    config: FitConfig
    runs: tuple[SeedRun, ...]

    @property
    def scores(self) -> Scores:
        """Scores of the float32 networks, all runs together."""
        return _sum([run.scores for run in self.runs])

    @property
    def int8(self) -> list[Scores]:
        """Scores of the int8 networks of each run that has them."""
        return [scores for run in self.runs if (scores := run.int8) is not None]

    def held_out(self) -> tuple[Float32, Int64]:
        """Return logits and true labels of all held-out windows, run after run."""
        return np.concatenate([run.logits for run in self.runs]), np.concatenate([run.label for run in self.runs])

    def accuracy_by_subject(self) -> dict[str, float]:
        """Return the accuracy of each subject while it was held out, all runs together."""
        correct = np.concatenate([run.logits.argmax(axis=1) == run.label for run in self.runs])
        subject = np.concatenate([run.subject for run in self.runs])
        return {str(name): float(correct[subject == name].mean()) for name in np.unique(subject)}

    def calibration_error(self) -> float:
        """Return the expected calibration error, with each fold's temperature fitted on the other folds of its run."""
        probabilities, label = [], []
        for run in self.runs:
            for fold in run.folds:
                others = [other for other in run.folds if other is not fold]
                temperature = fit_temperature(
                    np.concatenate([other.logits for other in others]),
                    np.concatenate([other.label for other in others]),
                )
                probabilities.append(softmax(fold.logits / temperature, axis=1))
                label.append(fold.label)
        return calibration_error(np.concatenate(probabilities), np.concatenate(label))

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as JSON: each run, and mean and standard deviation over the seeds."""
        scores, int8 = self.scores, self.int8
        return {
            "method": f"{len(self.runs[0].folds)} folds by subject, {len(self.runs)} seeds",
            "seeds": [run.seed for run in self.runs],
            "epochs": self.config.epochs,
            "config": self.config.to_dict(),
            "float32": _spread([run.scores for run in self.runs]),
            "int8": _spread(int8) if int8 else None,
            "calibration_error": self.calibration_error(),
            "labels": list(scores.labels),
            "confusion": scores.confusion.tolist(),
            "accuracy_by_wearer": self.accuracy_by_subject(),
            "runs": [run.to_dict() for run in self.runs],
        }


def cross_validate(
    prepared: Prepared,
    config: FitConfig,
    *,
    repeats: int = 1,
    int8: bool = False,
    progress: Progress = silent,
    jobs: int = 1,
    work: Path | None = None,
) -> CrossValidation:
    """Hold out each subject once per seed: train on the windows of the others, and score the network on its windows.

    Nothing is chosen on a held-out subject: the number of epochs is fixed, or early stopping holds out some of the
    subjects trained on.

    Args:
        prepared: The windows of all subjects.
        config: The recipe; its seed is the first one.
        repeats: The number of seeds.
        int8: Score the int8 networks as well.
        progress: Is called with the number of epochs done, of those of all fits.
        jobs: The number of processes.
        work: Keeps the result of each finished fold. The same call continues there after an interruption.

    Raises:
        DatasetError: There are fewer than two subjects, or the held-out subjects of a fold have no window.
        ConfigError: As ``fit`` raises it.

    """
    tasks = tasks_of(prepared.scored.subject.tolist(), prepared.spec, config, repeats, int8=int8)
    paths: list[Path] = []
    results: dict[int, FoldResult] = {}
    if work is not None:
        store = FoldStore(work, prepared, config)
        paths = [store.path(task) for task in tasks]
        stored = ((index, FoldResult.load(path)) for index, path in enumerate(paths))
        results = {index: result for index, result in stored if result is not None}
    epochs = dict.fromkeys(results, config.epochs)
    missing = [index for index in range(len(tasks)) if index not in results]

    def on_epoch(index: int, done: int) -> None:
        epochs[missing[index]] = done
        progress("validating", sum(epochs.values()), len(tasks) * config.epochs)

    for index, result in pool.run([tasks[index] for index in missing], lambda _: prepared, jobs, on_epoch):
        results[missing[index]] = result
        if paths:
            result.save(paths[missing[index]])
        if result.epochs < config.epochs:  # early stopping
            on_epoch(index, config.epochs)
    by_seed = groupby((results[index] for index in range(len(tasks))), key=lambda result: result.seed)
    return CrossValidation(config, tuple(SeedRun(seed, tuple(folds)) for seed, folds in by_seed))


def _sum(scores: Sequence[Scores]) -> Scores:
    return reduce(operator.add, scores)


def _spread(scores: Sequence[Scores]) -> dict[str, Any]:
    """Return mean and sample standard deviation over the runs; the deviation of a single run is null."""

    def spread(values: list[float]) -> dict[str, float | None]:
        mean, deviation = mean_and_deviation(values)
        return {"mean": mean, "sd": deviation}

    return {
        "accuracy": spread([each.accuracy for each in scores]),
        "macro_f1": spread([each.macro_f1 for each in scores]),
    }
