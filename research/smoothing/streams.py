"""Whole recordings as networks hear them that never saw their subjects: every due window, and made strange too."""

from __future__ import annotations

import gc
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np

from harstream.classifier import to_predictions
from harstream.core.batches import Float32, Int64, Predictions
from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording
from harstream.datasets.windows import LabelledWindows, due_windows, whole_streams
from harstream.evaluate import sessions as streaming
from harstream.evaluate.events import NO_LABEL
from harstream.progress import Progress, silent
from harstream.storage import replace_file
from harstream.train.fitting import checkpoint
from harstream.train.fitting.fit import fit, fit_temperature
from harstream.train.fitting.prepare import prepare
from harstream.train.fitting.recipe import FitConfig
from harstream.train.folds import folds_of
from harstream.train.validation.task import fingerprint
from research.smoothing.unfamiliar import STRANGERS, strange


@dataclass(frozen=True, slots=True)
class Stream:
    """One whole recording, beginning at event time 0, and what the network says of every due window."""

    recording: Recording
    start_ns: Int64  # (n_windows,) event time of the window's first sample
    end_ns: Int64  # (n_windows,) that of its last sample plus one sample period
    predictions: Predictions  # of the n_windows windows, calibrated
    strange: Mapping[str, Predictions]  # the same where the recording is made strange, by kind of STRANGERS


@dataclass(frozen=True, slots=True)
class Run:
    """Every subject's recordings, each by the network of the fold that held this subject out, under one seed."""

    seed: int
    temperatures: tuple[float, ...]  # by fold, each fitted on the subjects of the other folds
    streams: tuple[Stream, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """A stream as it is kept on the disk: without the recording, and not calibrated yet."""

    name: str  # of the recording
    start_ns: Int64
    end_ns: Int64
    logits: Mapping[str, Float32]  # (n_windows, n_labels) by kind of STRANGERS


def held_out(
    recordings: Sequence[Recording],
    spec: SignalSpec,
    labels: Sequence[str] | None,
    config: FitConfig,
    *,
    work: Path,
    repeats: int = 1,
    progress: Progress = silent,
) -> tuple[tuple[str, ...], list[Run]]:
    """The labels with windows, and a run for each seed from ``config.seed`` on.

    Subjects are dealt into ``config.folds`` groups as ``validate.cross_validate`` does. Each finished fold, and each
    epoch of one that is not, is kept in the folder ``work``, where the same call goes on. Raises DatasetError and
    ConfigError as ``pipeline.prepare`` and ``fit`` do.
    """
    prepared = prepare(recordings, spec, labels, seed=config.seed, progress=progress)
    training, counted, found = prepared.training, prepared.counted, prepared.counted.labels
    work.mkdir(parents=True, exist_ok=True)
    # Of a subject held out by the same name, all the others may have changed.
    whole = checkpoint.fingerprint(spec, replace(config, seed=0), training, counted)
    runs = []
    for seed in range(config.seed, config.seed + repeats):
        groups = folds_of(counted.subject.tolist(), config.folds, seed)
        folds = []
        for number, group in enumerate(groups):
            name = f"seed {seed}, fold {number + 1} of {len(groups)}"
            worn = [recording for recording in recordings if recording.subject in group]
            path = work / f"{fingerprint([whole, seed, group, list(STRANGERS)])}.npz"
            kept = _load(path)
            if kept is None:
                folder = path.with_suffix("")  # of the fit's checkpoint
                rest = training.select(np.flatnonzero(~np.isin(training.subject, group)))
                kept = list(_hear(worn, rest, spec, replace(config, seed=seed), folder, name, progress))
                _save(path, kept)
                shutil.rmtree(folder, ignore_errors=True)
            progress(name, config.epochs, config.epochs)
            by_name = {held.name: held for held in kept}
            folds.append([(recording, by_name[recording.name]) for recording in worn])
        runs.append(_calibrated(seed, folds, found))
    return found, runs


def _hear(
    recordings: Sequence[Recording],
    training: LabelledWindows,
    spec: SignalSpec,
    config: FitConfig,
    folder: Path,
    name: str,
    progress: Progress,
) -> Iterator[Held]:
    """Fit on the windows of ``training``, and hear the recordings of others in every way of STRANGERS."""
    keras.backend.clear_session()  # or the graphs of all fits stay in memory
    gc.collect()

    def told(step: str, done: int, total: int) -> None:
        progress(f"{name}: {step}", done, total)

    fitted = fit(training, spec, config, told, folder=folder)
    logits: dict[str, list[Float32]] = {}
    times: list[tuple[Int64, Int64]] = []
    for kind in STRANGERS:
        progress(f"{name}: streaming {kind}", 0, 1)
        streams = whole_streams(strange(recording, kind, config.seed) for recording in recordings)
        due = [due_windows(stream, spec) for stream in streams]
        times = [(batch.start_ns, batch.end_ns) for batch in due]  # which the values do not change
        whole = fitted.logits(np.concatenate([batch.windows for batch in due]))
        logits[kind] = np.split(whole, np.cumsum([len(batch) for batch in due])[:-1])
    for index, recording in enumerate(recordings):
        yield Held(recording.name, *times[index], {kind: parts[index] for kind, parts in logits.items()})


def _calibrated(seed: int, folds: Sequence[Sequence[tuple[Recording, Held]]], labels: tuple[str, ...]) -> Run:
    """Each fold's logits to probabilities, by a temperature fitted on the windows inside activities of the others'."""
    known = []
    for fold in folds:
        parts = []
        for recording, held in fold:
            truth = streaming.truth_track(recording, labels)
            label, _ = streaming.locate_windows(truth, held.start_ns, held.end_ns, recording.rate_hz)
            parts.append((held.logits["as it is"][label != NO_LABEL], label[label != NO_LABEL]))
        known.append((np.concatenate([logits for logits, _ in parts]), np.concatenate([label for _, label in parts])))
    temperatures, streams = [], []
    for number, fold in enumerate(folds):
        others = [one for index, one in enumerate(known) if index != number]
        temperature = fit_temperature(
            np.concatenate([logits for logits, _ in others]), np.concatenate([label for _, label in others])
        )
        temperatures.append(temperature)
        for recording, held in fold:
            said = {kind: to_predictions(logits, temperature) for kind, logits in held.logits.items()}
            streams.append(Stream(recording, held.start_ns, held.end_ns, said.pop("as it is"), said))
    return Run(seed, tuple(temperatures), tuple(streams))


def _save(path: Path, folds: Sequence[Held]) -> None:
    arrays: dict[str, Any] = {"names": np.array(json.dumps([held.name for held in folds]))}
    for index, held in enumerate(folds):
        arrays |= {f"{index}.start_ns": held.start_ns, f"{index}.end_ns": held.end_ns}
        arrays |= {f"{index}.{kind}": logits for kind, logits in held.logits.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    replace_file(path, buffer.getvalue())


def _load(path: Path) -> list[Held] | None:
    """What ``_save`` wrote; None where there is nothing, or nothing that can be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            names = json.loads(str(file["names"]))
            return [
                Held(
                    name,
                    file[f"{index}.start_ns"],
                    file[f"{index}.end_ns"],
                    {kind: file[f"{index}.{kind}"] for kind in STRANGERS},
                )
                for index, name in enumerate(names)
            ]
    except (OSError, EOFError, KeyError, ValueError, BadZipFile):
        return None
