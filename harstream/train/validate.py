"""Validation by wearer: no window of a wearer is ever both trained on and counted."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from harstream.core.batches import Float32, Int64
from harstream.core.spec import SignalSpec
from harstream.errors import DatasetError
from harstream.train import export
from harstream.train.evaluate import Metrics, score
from harstream.train.fit import FitConfig, Progress, fit, silent
from harstream.train.windows import LabelledWindows


@dataclass(frozen=True, slots=True)
class Run:
    """Every wearer held out once, under one seed: the folds' figures together."""

    seed: int
    folds: tuple[tuple[str, ...], ...]  # the wearers held out together
    by_fold: tuple[Metrics, ...]
    int8_by_fold: tuple[Metrics, ...]  # empty where int8 was not asked for
    logits: Float32  # (n_windows, n_labels) of all held-out windows, fold after fold
    label: Int64  # (n_windows,)
    subject: npt.NDArray[np.str_]  # (n_windows,)

    @property
    def metrics(self) -> Metrics:
        return _sum(self.by_fold)

    @property
    def int8(self) -> Metrics | None:
        return _sum(self.int8_by_fold) if self.int8_by_fold else None

    def to_dict(self) -> dict[str, Any]:
        int8 = self.int8
        return {
            "seed": self.seed,
            "folds": [
                {"held_out": list(wearers), "windows": metrics.windows, "accuracy": metrics.accuracy}
                for wearers, metrics in zip(self.folds, self.by_fold, strict=True)
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
    def metrics(self) -> Metrics:
        """All runs' windows together."""
        return _sum([run.metrics for run in self.runs])

    @property
    def int8(self) -> Metrics | None:
        metrics = [run.int8 for run in self.runs if run.int8]
        return _sum(metrics) if metrics else None

    def held_out(self) -> tuple[Float32, Int64]:
        """Logits and labels of every window while its wearer was held out, run after run."""
        return np.concatenate([run.logits for run in self.runs]), np.concatenate([run.label for run in self.runs])

    def accuracy_by_wearer(self) -> dict[str, float]:
        """Each wearer's accuracy while held out, all runs together."""
        right = np.concatenate([run.logits.argmax(axis=1) == run.label for run in self.runs])
        subject = np.concatenate([run.subject for run in self.runs])
        return {str(wearer): float(right[subject == wearer].mean()) for wearer in np.unique(subject)}

    def to_dict(self) -> dict[str, Any]:
        """Aggregates only, as JSON: per run, and mean and standard deviation over the seeds."""
        int8 = [run.int8 for run in self.runs if run.int8]
        return {
            "method": f"{len(self.runs[0].folds)} folds by wearer, {len(self.runs)} seeds",
            "seeds": [run.seed for run in self.runs],
            "epochs": self.config.epochs,
            "config": self.config.to_dict(),
            "float32": _spread([run.metrics for run in self.runs]),
            "int8": _spread(int8) if int8 else None,
            "labels": list(self.metrics.labels),
            "confusion": self.metrics.confusion.tolist(),
            "accuracy_by_wearer": self.accuracy_by_wearer(),
            "runs": [run.to_dict() for run in self.runs],
        }


def folds_of(subjects: Iterable[str], n_folds: int, seed: int) -> list[tuple[str, ...]]:
    """The wearers dealt at random into ``n_folds`` groups, or as many as there are wearers; each in one group.

    Raises DatasetError for fewer than two wearers: one must be held out, one trained on.
    """
    wearers = sorted(set(subjects))
    if len(wearers) < 2:
        raise DatasetError(f"validation by wearer needs at least two wearers with known labels, found {len(wearers)}")
    order = np.random.default_rng(seed).permutation(len(wearers))
    groups = np.array_split(order, min(max(2, n_folds), len(wearers)))
    return [tuple(wearers[index] for index in sorted(group)) for group in groups]


def cross_validate(
    training: LabelledWindows,
    counted: LabelledWindows,
    spec: SignalSpec,
    config: FitConfig,
    *,
    repeats: int = 1,
    int8: bool = False,
    progress: Progress = silent,
) -> CrossValidation:
    """Hold out each wearer once per repeat; train on the others' windows of ``training``, count ``counted``.

    The two differ in how densely the streams are cut, not in the Engine that cuts them. Repeat ``k`` has
    the seed ``config.seed + k``. Nothing is chosen on a held-out wearer: the epochs are fixed.
    ``progress`` is told of epochs over all fits. Raises DatasetError as ``folds_of`` and ``fit`` do.
    """
    runs = []
    total = repeats * len(folds_of(counted.subject.tolist(), config.folds, config.seed)) * config.epochs
    finished = 0
    for seed in range(config.seed, config.seed + repeats):
        folds = folds_of(counted.subject.tolist(), config.folds, seed)
        by_fold, int8_by_fold, logits, tests = [], [], [], []
        for held_out in folds:
            keras.backend.clear_session()  # or the graphs of all fits stay in memory
            rest = training.take(np.flatnonzero(~np.isin(training.subject, held_out)))
            test = counted.of(held_out)

            def tell(step: str, done: int, of: int, before: int = finished) -> None:
                progress("validating", before + done, total)

            fitted = fit(rest, spec, replace(config, seed=seed), tell)
            finished += config.epochs
            logits.append(fitted.logits(test.windows))
            tests.append(test)
            by_fold.append(score(test.label, logits[-1].argmax(axis=1), counted.labels))
            if int8:
                model = export.to_int8(fitted.model, fitted.spec.norm.apply(rest.windows), seed)
                guess = export.litert_logits(model, fitted.spec.norm.apply(test.windows)).argmax(axis=1)
                int8_by_fold.append(score(test.label, guess, counted.labels))
        runs.append(
            Run(
                seed,
                tuple(folds),
                tuple(by_fold),
                tuple(int8_by_fold),
                np.concatenate(logits),
                np.concatenate([test.label for test in tests]),
                np.concatenate([test.subject for test in tests]),
            )
        )
    return CrossValidation(config, tuple(runs))


def _sum(parts: Sequence[Metrics]) -> Metrics:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _spread(metrics: Sequence[Metrics]) -> dict[str, Any]:
    """Mean and sample standard deviation over the runs; the deviation of one run is null."""

    def of(values: list[float]) -> dict[str, float | None]:
        return {"mean": statistics.fmean(values), "sd": statistics.stdev(values) if len(values) > 1 else None}

    return {"accuracy": of([m.accuracy for m in metrics]), "macro_f1": of([m.macro_f1 for m in metrics])}
