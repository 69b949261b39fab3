"""One fit with some subjects held out: the unit of work of every validation and every experiment."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np
import numpy.typing as npt

from harstream.core.batches import Float32, Int64
from harstream.core.spec import SignalSpec
from harstream.datasets.windows import LabelledWindows
from harstream.errors import DatasetError
from harstream.evaluate.metrics import Scores, score
from harstream.progress import Progress, silent
from harstream.storage import replace_file
from harstream.train import export
from harstream.train.fitting.fit import fit
from harstream.train.fitting.recipe import FitConfig


@dataclass(frozen=True, slots=True)
class Task:
    """Everything that decides one fit, but for the windows."""

    spec: SignalSpec
    config: FitConfig  # with the seed of this very fit
    held_out: tuple[str, ...]  # the subjects it is counted on
    int8: bool = False  # count the int8 network as well


@dataclass(frozen=True, slots=True)
class Fold:
    """What came of a task: the held-out subjects' windows as the network saw them."""

    seed: int
    held_out: tuple[str, ...]
    metrics: Scores
    int8: Scores | None  # None where it was not asked for, or where there is no int8 network
    logits: Float32  # (n_windows, n_labels)
    label: Int64  # (n_windows,)
    subject: npt.NDArray[np.str_]  # (n_windows,)
    parameters: int
    epochs: int  # that were really run
    seconds: float  # of fitting alone

    def save(self, path: Path) -> None:
        """Write it as one .npz file, whole or not at all."""
        facts = {
            "seed": self.seed,
            "held_out": self.held_out,
            "labels": self.metrics.labels,
            "parameters": self.parameters,
            "epochs": self.epochs,
            "seconds": self.seconds,
        }
        arrays: dict[str, Any] = {"logits": self.logits, "label": self.label, "subject": self.subject}
        arrays |= {"confusion": self.metrics.confusion, "facts": np.array(json.dumps(facts))}
        if self.int8 is not None:
            arrays["int8"] = self.int8.confusion
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        replace_file(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Fold | None:
        """What ``save`` wrote; None where there is nothing, or nothing that can be read."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
            facts = json.loads(str(arrays["facts"]))
        except (OSError, EOFError, KeyError, ValueError, BadZipFile):
            return None
        labels = tuple(facts["labels"])
        return cls(
            facts["seed"],
            tuple(facts["held_out"]),
            Scores(labels, arrays["confusion"]),
            Scores(labels, arrays["int8"]) if "int8" in arrays else None,
            arrays["logits"],
            arrays["label"],
            arrays["subject"],
            facts["parameters"],
            facts["epochs"],
            facts["seconds"],
        )


def hold_out(training: LabelledWindows, counted: LabelledWindows, task: Task, progress: Progress = silent) -> Fold:
    """Fit on the windows of ``training`` of all subjects but those held out, count these subjects' of ``counted``.

    The two differ in how densely the streams are cut, not in the Engine that cuts them. Raises
    DatasetError and ConfigError as ``fit`` does.
    """
    keras.backend.clear_session()  # or the graphs of all fits stay in memory
    gc.collect()
    rest = training.select(np.flatnonzero(~np.isin(training.subject, task.held_out)))
    test = counted.of_subjects(task.held_out)
    if not len(test):
        raise DatasetError(f"subjects {', '.join(task.held_out)} have no window to count: take fewer folds")
    started = time.monotonic()
    fitted = fit(rest, task.spec, task.config, progress)
    seconds = time.monotonic() - started
    logits = fitted.logits(test.windows)
    int8 = None
    if task.int8:
        with suppress(export.NotConvertibleError):
            model = export.to_int8(fitted.model, fitted.spec.norm.apply(rest.windows), task.config.seed)
            guess = export.litert_logits(model, fitted.spec.norm.apply(test.windows)).argmax(axis=1)
            int8 = score(test.label, guess, counted.labels)
    return Fold(
        task.config.seed,
        task.held_out,
        score(test.label, logits.argmax(axis=1), counted.labels),
        int8,
        logits,
        test.label,
        test.subject,
        int(fitted.model.count_params()),
        len(fitted.history),
        seconds,
    )


def fingerprint(facts: Any) -> str:
    """A short hash of anything JSON can say; 20 and 20.0 are the same."""
    whole = json.loads(json.dumps(facts), parse_int=float)
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]
