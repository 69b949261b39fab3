"""Networks trained without one data set, and what they say of every window that its recordings give.

Each fold holds out one data set. What scoring needs (logits, distances, times) is kept in a file, so that a study
continues after an interruption, and several processes can share the folds of different seeds.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
from scipy.spatial.transform import Rotation

from harstream.core.batches import Float32, Float64, Int64
from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording
from harstream.datasets.windows import RecordingStream, due_windows
from harstream.progress import Progress
from harstream.storage import from_npz, replace_file, to_npz
from harstream.train.fitting.familiarity import fit_familiar
from harstream.train.fitting.fit import Fitted, fit
from harstream.train.fitting.prepare import Prepared
from harstream.train.validation.task import FoldStore, FoldTask, not_held_out

#: The device turned by each of the 24 rotations that map its axes to its axes, and mirrored: all axes negated.
ORIENTATIONS = (*Rotation.create_group("O").as_matrix(), -np.eye(3))


@dataclass(frozen=True, slots=True)
class HeldOutSet:
    """A data set that a network was not trained on; the arrays are of all due windows, recording after recording."""

    seed: int
    data_set: str
    counts: Int64  # (n_recordings,) due windows of each recording of the set, in order
    start_ns: Int64  # (n_windows,) from the first sample of the recording
    end_ns: Int64  # (n_windows,)
    problems: Int64  # (n_windows,) mask
    logits: Float32  # (n_windows, n_labels)
    distance: Float64  # (n_windows,) see ``core.familiar``
    turned: Float32  # (n_orientations, n_windows, n_labels) logits by ORIENTATIONS; none if not asked for
    parameters: int
    learnt: tuple[int, ...] = ()  # indices of the labels that the network was trained on; not in the file

    def to_bytes(self) -> bytes:
        """Return the content of the file of this fold."""
        names = ("counts", "start_ns", "end_ns", "problems", "logits", "distance", "turned")
        facts = {"seed": self.seed, "data_set": self.data_set, "parameters": self.parameters}
        return to_npz({name: getattr(self, name) for name in names}, facts)

    @classmethod
    def load(cls, path: Path) -> HeldOutSet | None:
        """Read the file of a fold; return None if there is none, or none that can be read."""
        try:
            return cls(**from_npz(path.read_bytes()))
        except (OSError, TypeError, ValueError):
            return None


def hold_out(
    recordings: Sequence[Recording],
    prepared: Prepared,
    tasks: Sequence[FoldTask],
    work: Path,
    progress: Progress,
    *,
    turn_first_seed: bool = True,
) -> list[HeldOutSet]:
    """Train a network for each task, and return its outputs for the data set that the task holds out.

    Args:
        recordings: Recordings of all data sets, with ``data_set``.
        prepared: Their windows.
        tasks: Folds by data set (``tasks_of`` with ``data_sets``).
        work: Folder of the finished folds. The same call continues there.
        progress: Called with a fold's name, the epochs done and the epochs of all.
        turn_first_seed: Under the first seed, predict the windows of turned devices too.

    """
    store = FoldStore(work, prepared, tasks[0].config)
    results = []
    for task in tasks:
        turn = turn_first_seed and task.config.seed == tasks[0].config.seed
        path = store.path(task, "labs", turn)
        result = HeldOutSet.load(path)
        if result is None:
            name = f"without {task.data_set}, seed {task.config.seed}"
            result = _fit(recordings, prepared, task, partial(_report, progress, name), turn)
            replace_file(path, result.to_bytes())
        learnt = np.unique(not_held_out(prepared.training, task).label)
        results.append(replace(result, learnt=tuple(learnt.tolist())))
    return results


def _report(progress: Progress, name: str, _: str, done: int, total: int) -> None:
    progress(name, done, total)


def _fit(
    recordings: Sequence[Recording], prepared: Prepared, task: FoldTask, progress: Progress, turn: bool
) -> HeldOutSet:
    keras.backend.clear_session()  # otherwise the graphs of all fits stay in memory
    gc.collect()
    training = prepared.training
    rest = not_held_out(training, task)
    fitted = fit(rest, task.spec, task.config, progress)
    familiar = fit_familiar(fitted, rest, task.config)
    own = [recording for recording in recordings if recording.data_set == task.data_set]
    batches = [due_windows(RecordingStream.whole(recording), task.spec) for recording in own]
    windows = np.concatenate([batch.windows for batch in batches])
    logits, features = fitted.logits_and_features(windows)
    turned = [_turned_logits(own, fitted, matrix) for matrix in ORIENTATIONS] if turn else []
    return HeldOutSet(
        task.config.seed,
        task.data_set,
        np.array([len(batch) for batch in batches]),
        np.concatenate([batch.start_ns for batch in batches]),
        np.concatenate([batch.end_ns for batch in batches]),
        np.concatenate([batch.problems for batch in batches]),
        logits,
        familiar.distance(features),
        np.array(turned, np.float32).reshape(len(turned), *logits.shape),
        int(fitted.model.count_params()),
    )


def _turned_logits(recordings: Sequence[Recording], fitted: Fitted, matrix: Float64) -> Float32:
    """Return the logits (n_windows, n_labels) of the recordings of a turned device."""
    spec: SignalSpec = fitted.spec
    turned = [due_windows(RecordingStream.whole(turn(recording, matrix)), spec).windows for recording in recordings]
    return fitted.logits(np.concatenate(turned))


def turn(recording: Recording, matrix: Float64) -> Recording:
    """Return the recording of a device whose axes are turned by ``matrix`` (3, 3), or all negated."""
    samples = np.concatenate([recording.samples[:, :3] @ matrix.T, recording.samples[:, 3:] @ matrix.T], axis=1)
    return replace(recording, samples=samples.astype(np.float32))
