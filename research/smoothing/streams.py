"""Held-out streams: whole recordings through networks that were trained on other subjects.

Each recording is streamed as it is and altered (see ``unfamiliar``); the network predicts each due window.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from harstream.classifier import to_predictions
from harstream.core.batches import Float32, Float64, Int64, Predictions
from harstream.core.familiar import Limits, energy
from harstream.core.smoothing_section import Smoothing
from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording
from harstream.datasets.windows import LabelledWindows, due_windows, whole_streams
from harstream.evaluate.events import NO_LABEL
from harstream.evaluate.sessions import locate_windows, truth_track
from harstream.progress import Progress, silent
from harstream.storage import from_npz, replace_file, to_npz
from harstream.train.fitting.familiarity import fit_familiar, limits_for
from harstream.train.fitting.fit import fit, fit_temperature
from harstream.train.fitting.prepare import prepare, smoothing_for, smoothing_with_states
from harstream.train.fitting.recipe import FitConfig
from harstream.train.validation.task import FoldStore, tasks_of
from research.smoothing.unfamiliar import ALTERATIONS, UNALTERED, alter


@dataclass(frozen=True, slots=True)
class HeldOutStream:
    """One whole recording, starting at event time 0, and the network's predictions of its due windows."""

    recording: Recording
    start_ns: Int64  # (n_windows,) event time of the window's first sample
    end_ns: Int64  # (n_windows,) event time of its last sample plus one sample period
    predictions: Predictions  # (n_windows,) calibrated, with the test of unfamiliar windows
    unfamiliar: Mapping[str, Predictions]  # by kind of alteration: predictions of the altered recording
    smoothing: Smoothing  # that a bundle of this fold gets: its durations are of the subjects trained on


@dataclass(frozen=True, slots=True)
class StudyRun:
    """Streams of all subjects under one seed, each through the network of the fold that held this subject out."""

    seed: int
    temperatures: tuple[float, ...]  # by fold; fitted on the subjects of the other folds
    streams: tuple[HeldOutStream, ...]


@dataclass(frozen=True, slots=True)
class StoredStream:
    """Stream as stored in the working folder: without the recording, and not calibrated."""

    name: str  # of the recording
    start_ns: Int64  # (n_windows,)
    end_ns: Int64  # (n_windows,)
    logits: Mapping[str, Float32]  # (n_windows, n_outputs) by kind of ALTERATIONS
    distance: Mapping[str, Float64]  # (n_windows,) by the same: see ``core.familiar``


def held_out(
    recordings: Sequence[Recording],
    spec: SignalSpec,
    labels: Sequence[str] | None,
    config: FitConfig,
    *,
    work: Path,
    repeats: int = 1,
    states: Sequence[str] = (),
    progress: Progress = silent,
) -> tuple[tuple[str, ...], list[StudyRun]]:
    """Train a network for each fold of subjects, and stream the held-out recordings through it.

    Subjects are dealt into ``config.folds`` folds as cross-validation deals them.

    Args:
        recordings: Recordings of all subjects.
        spec: Signal; each fit measures its own normalisation.
        labels: Labels of the network; None for all labels of the recordings.
        config: Configuration of the fits; its seed is the first one.
        work: Folder of finished folds and of the checkpoint of the current one. The same call continues there.
        repeats: Number of seeds.
        states: States between labels that the network learns.
        progress: Called with a step's name, the part done and the whole.

    Returns:
        The labels that have windows, and a run for each seed.

    Raises:
        DatasetError: The recordings cannot be trained on.
        ConfigError: The configuration is invalid.

    """
    prepared = prepare(recordings, spec, labels, states=states, seed=config.seed, progress=progress)
    training, labels_found = prepared.training, prepared.scored.labels
    store = FoldStore(work, prepared, config)
    folds: dict[int, list[tuple[Smoothing, list[tuple[Recording, StoredStream]]]]] = {}  # by seed
    tasks = tasks_of(prepared.scored.subject.tolist(), spec, config, repeats)
    for task in tasks:
        name = f"seed {task.config.seed}, fold {task.fold + 1} of {len(tasks) // repeats}"
        own = [recording for recording in recordings if recording.subject in task.held_out]
        path = store.path(task, list(ALTERATIONS))
        stored = _load(path)
        if stored is None:
            folder = path.with_suffix("")  # of the fit's checkpoint
            windows = training.select(np.flatnonzero(~np.isin(training.subject, task.held_out)))
            stored = list(_fit_and_stream(own, windows, spec, task.config, folder, name, progress))
            _save(path, stored)
            shutil.rmtree(folder, ignore_errors=True)
        progress(name, config.epochs, config.epochs)
        by_name = {stream.name: stream for stream in stored}
        others = [recording for recording in recordings if recording.subject not in task.held_out]
        smoothing = smoothing_with_states(spec, labels_found, states, others) if states else smoothing_for(spec)
        pairs = [(recording, by_name[recording.name]) for recording in own]
        folds.setdefault(task.config.seed, []).append((smoothing, pairs))
    return labels_found, [_calibrate(seed, parts, labels_found) for seed, parts in folds.items()]


def _fit_and_stream(
    recordings: Sequence[Recording],
    training: LabelledWindows,
    spec: SignalSpec,
    config: FitConfig,
    folder: Path,
    name: str,
    progress: Progress,
) -> Iterator[StoredStream]:
    """Train on the windows of ``training``, then stream ``recordings`` through the network, unaltered and altered."""
    keras.backend.clear_session()  # otherwise the graphs of all fits stay in memory
    gc.collect()

    def fit_progress(step: str, done: int, total: int) -> None:
        progress(f"{name}: {step}", done, total)

    fitted = fit(training, spec, config, fit_progress, folder=folder)
    familiar = fit_familiar(fitted, training, config)
    logits: dict[str, list[Float32]] = {}
    distance: dict[str, list[Float64]] = {}
    times: list[tuple[Int64, Int64]] = []
    for kind in ALTERATIONS:
        progress(f"{name}: streaming {kind}", 0, 1)
        streams = whole_streams(alter(recording, kind, config.seed) for recording in recordings)
        batches = [due_windows(stream, spec) for stream in streams]
        times = [(batch.start_ns, batch.end_ns) for batch in batches]  # the same for all kinds
        ends = np.cumsum([len(batch) for batch in batches])[:-1]
        all_logits, features = fitted.logits_and_features(np.concatenate([batch.windows for batch in batches]))
        logits[kind], distance[kind] = np.split(all_logits, ends), np.split(familiar.distance(features), ends)
    for index, recording in enumerate(recordings):
        yield StoredStream(
            recording.name,
            *times[index],
            {kind: parts[index] for kind, parts in logits.items()},
            {kind: parts[index] for kind, parts in distance.items()},
        )


def _calibrate(
    seed: int, folds: Sequence[tuple[Smoothing, list[tuple[Recording, StoredStream]]]], labels: tuple[str, ...]
) -> StudyRun:
    """Turn each fold's logits into probabilities, and tell unfamiliar windows.

    ``folds`` are the smoothing of each fold and its held-out recordings with their streams. The temperature of a fold
    and the limits of its unfamiliar windows are fitted on the other folds' windows that lie inside activities.
    """
    by_fold = []  # (logits, label, distance) of the windows inside activities
    for _, fold in folds:
        parts = []
        for recording, stored in fold:
            truth = truth_track(recording, labels)
            label, _ = locate_windows(truth, stored.start_ns, stored.end_ns, recording.rate_hz)
            inside = label != NO_LABEL
            parts.append((stored.logits[UNALTERED][inside], label[inside], stored.distance[UNALTERED][inside]))
        by_fold.append(_concatenate(parts))
    temperatures, streams = [], []
    for number, (smoothing, fold) in enumerate(folds):
        logits, label, distance = _concatenate([one for index, one in enumerate(by_fold) if index != number])
        temperature, limits = fit_temperature(logits, label), limits_for(distance, energy(logits))
        temperatures.append(temperature)
        for recording, stored in fold:
            predictions = {kind: _predict(stored, kind, temperature, limits, len(labels)) for kind in stored.logits}
            unaltered = predictions.pop(UNALTERED)
            streams.append(HeldOutStream(recording, stored.start_ns, stored.end_ns, unaltered, predictions, smoothing))
    return StudyRun(seed, tuple(temperatures), tuple(streams))


def _concatenate(parts: Sequence[tuple[Float32, Int64, Float64]]) -> tuple[Float32, Int64, Float64]:
    logits, label, distance = zip(*parts, strict=True)
    return np.concatenate(logits), np.concatenate(label), np.concatenate(distance)


def _predict(stored: StoredStream, kind: str, temperature: float, limits: Limits, n_labels: int) -> Predictions:
    logits = stored.logits[kind]
    unfamiliar = limits.exceeded_by(stored.distance[kind], energy(logits))
    predictions = to_predictions(logits, temperature, n_labels)
    return replace(predictions, unfamiliar=unfamiliar).without(unfamiliar)


def _save(path: Path, streams: Sequence[StoredStream]) -> None:
    arrays: dict[str, Any] = {}
    for index, stream in enumerate(streams):
        arrays |= {f"{index}.start_ns": stream.start_ns, f"{index}.end_ns": stream.end_ns}
        arrays |= {f"{index}.{kind}": logits for kind, logits in stream.logits.items()}
        arrays |= {f"{index}.{kind}.distance": distance for kind, distance in stream.distance.items()}
    replace_file(path, to_npz(arrays, {"names": [stream.name for stream in streams]}))


def _load(path: Path) -> list[StoredStream] | None:
    """Return the streams that ``_save`` wrote; None if there is no file, or it is damaged."""
    try:
        content = from_npz(path.read_bytes())
        return [
            StoredStream(
                name,
                content[f"{index}.start_ns"],
                content[f"{index}.end_ns"],
                {kind: content[f"{index}.{kind}"] for kind in ALTERATIONS},
                {kind: content[f"{index}.{kind}.distance"] for kind in ALTERATIONS},
            )
            for index, name in enumerate(content["names"])
        ]
    except (OSError, KeyError, ValueError):
        return None
