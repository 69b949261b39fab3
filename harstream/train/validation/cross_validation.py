"""Cross-validation by subject or data set: no window of a subject is both trained on and scored."""

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
from harstream.core.familiar import energy
from harstream.errors import DatasetError
from harstream.evaluate.metrics import Scores, calibration_error, score_by
from harstream.progress import Progress, silent
from harstream.tables import mean_and_deviation, spread
from harstream.train.fitting.prepare import Prepared
from harstream.train.fitting.recipe import FitConfig
from harstream.train.validation import pool
from harstream.train.validation.calibration import Calibration, calibrate
from harstream.train.validation.task import FoldResult, FoldStore, FoldTask, is_held_out, labels_of_logits, tasks_of

BY_SUBJECT, BY_DATA = "subject", "data"
#: What is held out together: some subjects of any data set, or all subjects of one data set.
FOLDS = (BY_SUBJECT, BY_DATA)
#: Parts that an error names.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class SeedRun:
    """The folds of one seed: every subject is held out once."""

    seed: int
    folds: tuple[FoldResult, ...]  # their logits have the bias of their calibration
    calibrations: tuple[Calibration, ...]  # of each fold, by the other ones

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
        """Logits of all held-out windows, (n_windows, n_outputs), fold after fold."""
        return np.concatenate([fold.logits for fold in self.folds])

    @property
    def label(self) -> Int64:
        """True label of each window, (n_windows,)."""
        return np.concatenate([fold.label for fold in self.folds])

    @property
    def subject(self) -> npt.NDArray[np.str_]:
        """Subject of each window, (n_windows,)."""
        return np.concatenate([fold.subject for fold in self.folds])

    @property
    def data_set(self) -> npt.NDArray[np.str_]:
        """Data set of each window, (n_windows,)."""
        return np.concatenate([fold.data_set for fold in self.folds])

    def scores_by_data(self) -> dict[str, Scores]:
        """Return the scores of the float32 networks on each data set, by its name."""
        scores, logits = self.folds[0].scores, self.logits
        predicted = labels_of_logits(logits, len(scores.labels))
        return score_by(self.data_set, self.label, predicted, scores.labels, abstains=scores.unknown is not None)

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
    calibration: Calibration  # of the bundle, by all folds of all runs
    folds: str = BY_SUBJECT  # one of FOLDS

    @property
    def scores(self) -> Scores:
        """Scores of the float32 networks, all runs together."""
        return _sum([run.scores for run in self.runs])

    @property
    def int8(self) -> list[Scores]:
        """Scores of the int8 networks of each run that has them."""
        return [scores for run in self.runs if (scores := run.int8) is not None]

    def unfamiliar_share(self) -> float:
        """Return the share of held-out windows that are unfamiliar, with the limits of the other folds of their run."""
        unfamiliar = [
            calibration.limits.exceeded_by(fold.distance, energy(fold.logits))
            for run in self.runs
            for fold, calibration in zip(run.folds, run.calibrations, strict=True)
        ]
        return float(np.concatenate(unfamiliar).mean())

    def accuracy_by_subject(self) -> dict[str, float]:
        """Return the accuracy of each subject while it was held out, all runs together."""
        correct = np.concatenate([run.logits.argmax(axis=1) == run.label for run in self.runs])
        subject = np.concatenate([run.subject for run in self.runs])
        return {str(name): float(correct[subject == name].mean()) for name in np.unique(subject)}

    @property
    def method(self) -> str:
        """The number of folds and seeds, in words."""
        by = "data set" if self.folds == BY_DATA else "subject"
        return f"{len(self.runs[0].folds)} folds by {by}, {len(self.runs)} seeds"

    def scores_by_data(self) -> dict[str, list[Scores]]:
        """Return the scores of each run on each data set, by its name; empty if there is only one data set."""
        by_run = [run.scores_by_data() for run in self.runs]
        names = sorted(set().union(*by_run))
        return {name: [run[name] for run in by_run] for name in names} if len(names) > 1 else {}

    def data_table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return head and rows of a table of data sets: windows, macro recall and the recall of each label.

        Figures are in percent, mean ± standard deviation over the seeds. A label that a set lacks has ``-``.
        """
        by_data, labels = self.scores_by_data(), self.scores.labels

        def recall(scores: Sequence[Scores], label: int) -> str:
            if not scores[0].windows_by_label[label]:
                return "-"
            return spread([100 * one.recall[label] for one in scores], decimals=1)

        rows = [
            (
                name,
                str(scores[0].windows),
                spread([100 * one.macro_recall for one in scores], decimals=1),
                *(recall(scores, label) for label in range(len(labels))),
            )
            for name, scores in by_data.items()
        ]
        means = [100 * mean for mean in self._mean_of_sets()]
        rows.append(("mean of the data sets", "", spread(means, decimals=1), *[""] * len(labels)))
        return ("", "windows", "macro recall, %", *labels), rows

    def unlearnt(self) -> list[str]:
        """Return a sentence for each label that a network is scored on and never learnt."""
        labels = self.scores.labels
        sentences: dict[str, None] = {}
        for fold in (fold for run in self.runs for fold in run.folds):
            for index in sorted(set(fold.label.tolist()) - set(fold.learnt)):
                part = str(fold.data_set[0]) if self.folds == BY_DATA else f"subjects {', '.join(fold.held_out)}"
                sentences[f"{labels[index]} is in {part} only: the networks that are scored on it never learnt it"] = (
                    None
                )
        return list(sentences)

    def _mean_of_sets(self) -> list[float]:
        """Return the mean over the data sets of their macro recall, for each run."""
        by_data = self.scores_by_data().values()
        return [float(np.mean([scores[k].macro_recall for scores in by_data])) for k in range(len(self.runs))]

    def calibration_error(self) -> float:
        """Return the expected calibration error, with each fold's temperature fitted on the other folds of its run."""
        probabilities, label = [], []
        for run in self.runs:
            for fold, calibration in zip(run.folds, run.calibrations, strict=True):
                probabilities.append(softmax(fold.logits / calibration.temperature, axis=1))
                label.append(fold.label)
        return calibration_error(np.concatenate(probabilities), np.concatenate(label))

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as JSON: each run, and mean and standard deviation over the seeds."""
        scores, int8 = self.scores, self.int8
        return {
            "method": self.method,
            "seeds": [run.seed for run in self.runs],
            "epochs": self.config.epochs,
            "config": self.config.to_dict(),
            "float32": _spread([run.scores for run in self.runs]),
            "int8": _spread(int8) if int8 else None,
            "calibration_error": self.calibration_error(),
            "unfamiliar": self.unfamiliar_share(),
            "labels": list(scores.labels),
            "confusion": scores.confusion.tolist(),
            **({} if scores.unknown is None else {"unknown": scores.unknown.tolist()}),
            "accuracy_by_subject": self.accuracy_by_subject(),
            **self._data_to_dict(),
            "runs": [run.to_dict() for run in self.runs],
        }

    def _data_to_dict(self) -> dict[str, Any]:
        """Return the part of the JSON about data sets, which is empty if there is only one."""
        by_data = self.scores_by_data()
        if not by_data:
            return {}

        def of_set(scores: list[Scores]) -> dict[str, Any]:
            recall = {
                label: _mean_and_sd([float(one.recall[index]) for one in scores])
                for index, label in enumerate(scores[0].labels)
                if scores[0].windows_by_label[index]
            }
            return {"windows": scores[0].windows, **_spread(scores), "recall": recall}

        return {
            "by_data": {name: of_set(scores) for name, scores in by_data.items()},
            "macro_recall_of_sets": _mean_and_sd(self._mean_of_sets()),
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
    folds: str = BY_SUBJECT,
) -> CrossValidation:
    """Hold out each subject once per seed: train on the windows of the others, and score the network on its windows.

    With folds by data set, all subjects of one data set are held out together. Nothing is chosen on a held-out subject:
    the number of epochs is fixed, or early stopping holds out some of the subjects trained on.

    Args:
        prepared: The windows of all subjects.
        config: The recipe; its seed is the first one.
        repeats: The number of seeds.
        int8: Score the int8 networks as well.
        progress: Is called with the number of epochs done, of those of all fits.
        jobs: The number of processes.
        work: Keeps the result of each finished fold. The same call continues there after an interruption.
        folds: One of FOLDS.

    Raises:
        DatasetError: There are fewer than two subjects or data sets to hold out, or the held-out subjects of a fold
            have no window.
        ConfigError: As ``fit`` raises it.

    """
    scored = prepared.scored
    data_sets = dict(zip(scored.subject.tolist(), scored.data_set.tolist(), strict=True)) if folds == BY_DATA else None
    tasks = tasks_of(scored.subject.tolist(), prepared.spec, config, repeats, int8=int8, data_sets=data_sets)
    _require_learnt_labels(prepared, tasks, folds)
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
    raw = [(seed, tuple(parts)) for seed, parts in by_seed]
    by_data = folds == BY_DATA
    calibration = calibrate([fold for _, parts in raw for fold in parts], by_data=by_data)
    return CrossValidation(config, tuple(_calibrated(*one, by_data=by_data) for one in raw), calibration, folds)


def _require_learnt_labels(prepared: Prepared, tasks: Sequence[FoldTask], folds: str) -> None:
    """Raise DatasetError, before any fit, if the validation could say nothing.

    A fold is calibrated by the others of its seed, so two of them must be scored on a label that they have learnt.
    """
    training, scored = prepared.training, prepared.scored
    for _, group in groupby(tasks, key=lambda task: task.config.seed):
        judged = 0
        for task in group:
            learnt = set(training.label[~is_held_out(training, task)].tolist())
            judged += not learnt.isdisjoint(scored.label[np.isin(scored.subject, task.held_out)].tolist())
        if judged >= 2:
            continue
        names = scored.data_set if folds == BY_DATA else scored.subject
        parts = "data sets" if folds == BY_DATA else "subjects"
        labels_of = "; ".join(
            f"{name} has {', '.join(scored.labels[index] for index in np.unique(scored.label[names == name]))}"
            for name in np.unique(names).tolist()[:_NAMED]
        )
        mend = (
            "choose --folds subject, or add recordings of the same labels"
            if folds == BY_DATA
            else "record each label with several subjects, and name csv files SUBJECT_ACTIVITY.csv, not the other way"
        )
        raise DatasetError(f"nothing can be validated, as the {parts} held out share no label ({labels_of}): {mend}")


def _calibrated(seed: int, folds: tuple[FoldResult, ...], *, by_data: bool) -> SeedRun:
    calibrations = tuple(calibrate([one for one in folds if one is not fold], by_data=by_data) for fold in folds)
    return SeedRun(
        seed, tuple(fold.with_bias(own.bias) for fold, own in zip(folds, calibrations, strict=True)), calibrations
    )


def _sum(scores: Sequence[Scores]) -> Scores:
    return reduce(operator.add, scores)


def _spread(scores: Sequence[Scores]) -> dict[str, Any]:
    """Return mean and deviation of each score over the runs."""
    names = ("accuracy", "macro_f1", "macro_recall")
    return {name: _mean_and_sd([getattr(each, name) for each in scores]) for name in names}


def _mean_and_sd(values: Sequence[float]) -> dict[str, float | None]:
    """Return mean and sample standard deviation over the runs; the deviation of a single run is null."""
    mean, deviation = mean_and_deviation(values)
    return {"mean": mean, "sd": deviation}
