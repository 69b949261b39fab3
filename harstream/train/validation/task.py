"""Fold tasks: one fit with some subjects held out, the unit of work of validations, sweeps and studies.

The subjects of a fold are dealt at random, or they are all those of one data set.
"""

from __future__ import annotations

import gc
import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from harstream.core.batches import Bool, Float32, Float64, Int64
from harstream.core.labels import UNKNOWN_INDEX
from harstream.core.spec import SignalSpec
from harstream.datasets.windows import LabelledWindows
from harstream.errors import DatasetError
from harstream.evaluate.metrics import Scores, score
from harstream.progress import Progress, silent
from harstream.storage import from_npz, replace_file, to_npz
from harstream.train import export
from harstream.train.fitting.checkpoint import fingerprint
from harstream.train.fitting.familiarity import fit_familiar
from harstream.train.fitting.fit import fit, with_features
from harstream.train.fitting.prepare import Prepared, served
from harstream.train.fitting.recipe import FitConfig
from harstream.train.folds import folds_of, folds_of_data


@dataclass(frozen=True, slots=True)
class FoldTask:
    """Everything that decides one fit, except the windows."""

    spec: SignalSpec
    config: FitConfig  # with the seed of this fit
    fold: int  # number of the fold, from 0
    held_out: tuple[str, ...]  # subjects of the fold, who are not trained on
    int8: bool = False  # score the int8 network as well
    data_set: str = ""  # name of the data set that is held out as a whole; empty: a fold of subjects


def tasks_of(
    subjects: Iterable[str],
    spec: SignalSpec,
    config: FitConfig,
    repeats: int,
    *,
    int8: bool = False,
    data_sets: Mapping[str, str] | None = None,
) -> list[FoldTask]:
    """Return the tasks of a validation: each subject is held out once per seed.

    The seeds are ``config.seed`` and the ``repeats - 1`` numbers after it. A seed also decides the folds of subjects,
    the same ones for every config with as many folds.

    Args:
        subjects: The subjects, each at least once.
        spec: The signal.
        config: The config; its seed is the first one.
        repeats: The number of seeds.
        int8: Score the int8 networks as well.
        data_sets: The data set of each subject, to hold out whole data sets; None: folds of subjects.

    Raises:
        DatasetError: There are fewer than two subjects, or fewer than two data sets to hold out.

    """
    subjects = sorted(set(subjects))

    def folds(seed: int) -> list[tuple[str, ...]]:
        if data_sets is None:
            return folds_of(subjects, config.folds, seed)
        return folds_of_data({subject: data_sets[subject] for subject in subjects})

    return [
        FoldTask(
            spec, replace(config, seed=seed), fold, held_out, int8, "" if data_sets is None else data_sets[held_out[0]]
        )
        for seed in range(config.seed, config.seed + repeats)
        for fold, held_out in enumerate(folds(seed))
    ]


@dataclass(frozen=True, slots=True)
class FoldResult:
    """The result of a task: the network's outputs for the held-out subjects, and their scores."""

    seed: int
    held_out: tuple[str, ...]
    labels: tuple[str, ...]
    learnt: tuple[int, ...]  # indices of the labels and states that the network was trained on
    logits: Float32  # (n_windows, n_outputs): of the labels, then of the states
    int8_logits: Float32 | None  # the same; None if the task does not ask for it, or the network cannot be converted
    distance: Float64  # (n_windows,) of the features from the training windows, see ``core.familiar``
    label: Int64  # (n_windows,) true label
    subject: npt.NDArray[np.str_]  # (n_windows,)
    data_set: npt.NDArray[np.str_]  # (n_windows,) name of the data set
    parameters: int  # number of the network's parameters
    epochs: int  # number of epochs run, fewer than configured after early stopping
    seconds: float  # duration of the fit

    @property
    def scores(self) -> Scores:
        """Scores of the float32 network."""
        return self._score(self.logits)

    @property
    def int8(self) -> Scores | None:
        """Scores of the int8 network, if there is one."""
        return None if self.int8_logits is None else self._score(self.int8_logits)

    def _score(self, logits: Float32) -> Scores:
        """Score logits. A window that the network takes for a state counts as wrong, as UNKNOWN."""
        predicted = labels_of_logits(logits, len(self.labels))
        return score(self.label, predicted, self.labels, abstains=logits.shape[1] > len(self.labels))

    def with_bias(self, bias: Float32) -> FoldResult:
        """Return the result of networks to whose logits ``bias``, (n_outputs,), is added."""
        int8_logits = None if self.int8_logits is None else self.int8_logits + bias
        return replace(self, logits=self.logits + bias, int8_logits=int8_logits)

    def save(self, path: Path) -> None:
        """Write the result as an npz file, completely or not at all."""
        facts = {
            "seed": self.seed,
            "held_out": self.held_out,
            "labels": self.labels,
            "learnt": self.learnt,
            "parameters": self.parameters,
            "epochs": self.epochs,
            "seconds": self.seconds,
        }
        names = ("logits", "distance", "label", "subject", "data_set")
        arrays: dict[str, npt.NDArray[Any]] = {name: getattr(self, name) for name in names}
        if self.int8_logits is not None:
            arrays["int8_logits"] = self.int8_logits
        replace_file(path, to_npz(arrays, {"facts": facts}))

    @classmethod
    def load(cls, path: Path) -> FoldResult | None:
        """Read a result; return None if there is no file, or none that can be read."""
        try:
            content = from_npz(path.read_bytes())
            facts = content["facts"]
            return cls(
                facts["seed"],
                tuple(facts["held_out"]),
                tuple(facts["labels"]),
                tuple(facts["learnt"]),
                content["logits"],
                content.get("int8_logits"),
                content["distance"],
                content["label"],
                content["subject"],
                content["data_set"],
                facts["parameters"],
                facts["epochs"],
                facts["seconds"],
            )
        except (OSError, KeyError, TypeError, ValueError):
            return None


class FoldStore:
    """The folder in which an interrupted validation keeps the results of its finished folds."""

    def __init__(self, folder: Path, prepared: Prepared, config: FitConfig) -> None:
        """Create the folder if it is missing.

        Args:
            folder: The folder.
            prepared: The windows of the fits. Other windows of any subject make other results.
            config: The config of the fits, with any seed.

        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = fingerprint(prepared.spec, replace(config, seed=0), prepared.training, prepared.scored)

    def path(self, task: FoldTask, *facts: Any) -> Path:
        """Return the file of a task's result; ``facts`` are JSON values that decide the result as well."""
        return self._folder / f"{json_digest([self._key, task.config.seed, task.held_out, task.int8, *facts])}.npz"


def json_digest(facts: Any) -> str:
    """Return a short hash of a JSON value; 20 and 20.0 have the same hash."""
    canonical = json.loads(json.dumps(facts), parse_int=float)
    return hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()[:16]


def not_held_out(windows: LabelledWindows, task: FoldTask) -> LabelledWindows:
    """Return the windows that the network of a task is trained on.

    A data set is held out as a whole: a subject whose windows are too few to be scored is not trained on either.
    """
    return windows.select(np.flatnonzero(~is_held_out(windows, task)))


def is_held_out(windows: LabelledWindows, task: FoldTask) -> Bool:
    """Return which windows the network of a task is not trained on, (n_windows,)."""
    inside = windows.data_set == task.data_set if task.data_set else np.isin(windows.subject, task.held_out)
    return np.asarray(inside, np.bool_)


def hold_out(prepared: Prepared, task: FoldTask, progress: Progress = silent) -> FoldResult:
    """Fit on all subjects except those held out, and score the network on these.

    Raises:
        DatasetError: The held-out subjects have no window, or there is none to train on.
        ConfigError: As ``fit`` raises it.

    """
    keras.backend.clear_session()  # otherwise the graphs of all fits stay in memory
    gc.collect()
    training, scored = prepared.training, prepared.scored
    rest = not_held_out(training, task)
    test = scored.of_subjects(task.held_out)
    if not len(test):
        raise DatasetError(
            f"fold {task.fold + 1}: subjects {', '.join(task.held_out)} have no window; choose fewer folds"
        )
    started = time.monotonic()
    fitted = fit(rest, task.spec, task.config, progress)
    seconds = time.monotonic() - started
    logits, features = fitted.logits_and_features(test.windows)
    familiar = fit_familiar(fitted, rest, task.config)
    int8_logits = None
    if task.int8:
        with suppress(export.NotConvertibleError):
            inputs, n_logits = fitted.spec.norm.apply(served(rest, task.spec)), logits.shape[1]
            model = export.to_int8(with_features(fitted.model), inputs, task.config.seed, n_logits)
            outputs = export.litert_outputs(model, fitted.spec.norm.apply(test.windows))
            int8_logits = outputs[:, :n_logits]
    return FoldResult(
        task.config.seed,
        task.held_out,
        test.labels,
        tuple(np.unique(rest.label).tolist()),
        logits,
        int8_logits,
        familiar.distance(features),
        test.label,
        test.subject,
        test.data_set,
        int(fitted.model.count_params()),
        len(fitted.history),
        seconds,
    )


def labels_of_logits(logits: Float32, n_labels: int) -> Int64:
    """Return the label (n_windows,) of logits (n_windows, n_outputs); UNKNOWN_INDEX: a state has a higher output."""
    output = logits.argmax(axis=1)
    return np.where(output < n_labels, output, UNKNOWN_INDEX)
