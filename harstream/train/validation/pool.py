"""Fits of fold tasks, one after the other or in several processes.

A small network keeps one core busy and no more: two processes with one thread each do nearly twice the work of one
process with two threads.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import numpy as np

from harstream import interruption
from harstream.core.spec import SignalSpec
from harstream.datasets.windows import LabelledWindows
from harstream.errors import ConfigError
from harstream.progress import Progress
from harstream.train.fitting import architectures
from harstream.train.fitting.prepare import Prepared
from harstream.train.validation import child
from harstream.train.validation.task import FoldResult, FoldTask, hold_out

#: Returns the windows of a signal.
WindowsOf = Callable[[SignalSpec], Prepared]
#: Called with the index of a task and the number of its epochs that are done.
OnEpoch = Callable[[int, int], None]
#: Fits after which a process is replaced: TensorFlow does not return all memory.
_FITS_PER_PROCESS = 20
#: Seconds between two looks at the epochs that the processes report.
_POLL_S = 0.2


def run(
    tasks: Sequence[FoldTask], windows_of: WindowsOf, jobs: int, on_epoch: OnEpoch
) -> Iterator[tuple[int, FoldResult]]:
    """Do all tasks, and yield index and result of each when it is done; with one job, in order.

    The seed of a task decides its result, apart from rounding that depends on the number of TensorFlow's threads. When
    the iteration ends early, by an error or an interruption, its processes are ended.

    Args:
        tasks: The tasks; those with the same signal should be neighbours.
        windows_of: Is called once for each run of tasks with the same signal.
        jobs: The number of processes; with 1 the fits are done in this one, unless the network is large.
        on_epoch: Is called after each epoch.

    Raises:
        DatasetError: As ``hold_out`` raises it.
        ConfigError: As ``hold_out`` raises it, or a process ended unexpectedly.

    """
    fits_per_process = _fits_per_process(tasks)
    if jobs == 1 and fits_per_process > 1:
        prepared: Prepared | None = None
        for index, task in enumerate(tasks):
            interruption.check()
            if prepared is None or prepared.spec != task.spec:
                prepared = None  # so that only one set of windows is in memory
                prepared = windows_of(task.spec)
            yield index, hold_out(prepared, task, _epochs_of(index, on_epoch))
    elif tasks:
        with tempfile.TemporaryDirectory(prefix="harstream-") as folder:
            files = _WindowFiles(Path(folder), windows_of)
            yield from _run_in_processes(tasks, files, min(jobs, len(tasks)), on_epoch, fits_per_process)


def _fits_per_process(tasks: Sequence[FoldTask]) -> int:
    """Return 1 if a network is large: TensorFlow keeps the variables of a finished fit as long as its process lives."""
    kinds = {repr((task.spec, task.config.arch, task.config.arch_settings)): task for task in tasks}
    for task in kinds.values():
        spec, config = task.spec, task.config
        settings = dict(config.arch_settings)
        n_parameters = architectures.count_parameters(config.arch, spec.window_samples, spec.n_channels, 2, settings)
        if n_parameters > architectures.LARGE:
            return 1
    return _FITS_PER_PROCESS


def _run_in_processes(
    tasks: Sequence[FoldTask], files: _WindowFiles, n_processes: int, on_epoch: OnEpoch, fits_per_process: int
) -> Iterator[tuple[int, FoldResult]]:
    context = multiprocessing.get_context("spawn")  # TensorFlow does not work in a forked process
    epochs: SimpleQueue[tuple[int, int]] = context.SimpleQueue()
    not_ours = set(multiprocessing.active_children())
    waiting = deque(enumerate(tasks))
    running: dict[Future[FoldResult], int] = {}
    with ProcessPoolExecutor(
        n_processes, context, child.start, (epochs, n_processes == 1), max_tasks_per_child=fits_per_process
    ) as executor:
        try:
            while waiting or running:
                # A task is submitted only when a process is free: an executor that replaces its processes can stall
                # with many tasks in its queue (https://github.com/python/cpython/issues/115634).
                while waiting and len(running) < n_processes:
                    index, task = waiting.popleft()
                    files.keep_only({task.spec, *(tasks[other].spec for other in running.values())})
                    running[executor.submit(_fit_fold, index, task, files.folder_of(task.spec))] = index
                done, _ = wait(running, _POLL_S, FIRST_COMPLETED)
                interruption.check()
                while not epochs.empty():
                    on_epoch(*epochs.get())
                for future in done:
                    yield running.pop(future), future.result()
        except BaseException as error:
            for process in set(multiprocessing.active_children()) - not_ours:
                process.terminate()
            if isinstance(error, BrokenProcessPool):
                raise ConfigError(
                    f"--jobs {n_processes}: a training process ended unexpectedly, perhaps for lack of memory; "
                    f"choose {'fewer jobs' if n_processes > 1 else 'a smaller network'}"
                ) from error
            raise


def _epochs_of(index: int, on_epoch: OnEpoch) -> Progress:
    """Return the progress of one fit; the epochs of its teachers do not count."""

    def progress(step: str, done: int, total: int) -> None:
        if step == "training":
            on_epoch(index, done)

    return progress


# --- in a training process ----------------------------------------------------------------------------


def _fit_fold(index: int, task: FoldTask, folder: Path) -> FoldResult:
    def report(index: int, done: int) -> None:
        child.report(index, done)

    return hold_out(_load_prepared(task.spec, folder), task, _epochs_of(index, report))


# --- windows that the processes share -----------------------------------------------------------------

_ARRAYS = ("windows", "label", "subject", "recording", "data_set", "start")


class _WindowFiles:
    """Windows of one or more signals in files, mapped into the memory of all processes."""

    def __init__(self, folder: Path, windows_of: WindowsOf) -> None:
        self._folder, self._windows_of = folder, windows_of
        self._folders: dict[SignalSpec, Path] = {}
        self._created = 0

    def folder_of(self, spec: SignalSpec) -> Path:
        """Return the folder of the windows of a signal, and write them if they are not there."""
        if spec not in self._folders:
            self._created += 1
            folder = self._folder / str(self._created)
            prepared = self._windows_of(spec)
            _save(folder / "training", prepared.training)
            _save(folder / "scored", prepared.scored)
            self._folders[spec] = folder
        return self._folders[spec]

    def keep_only(self, specs: set[SignalSpec]) -> None:
        """Remove the files of all other signals."""
        for spec in self._folders.keys() - specs:
            shutil.rmtree(self._folders.pop(spec))


def _save(folder: Path, windows: LabelledWindows) -> None:
    folder.mkdir(parents=True)
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", getattr(windows, name), allow_pickle=False)
    (folder / "outputs.json").write_text(json.dumps([windows.labels, windows.states]), encoding="utf-8")


@lru_cache(maxsize=1)
def _load_prepared(spec: SignalSpec, folder: Path) -> Prepared:
    """Return the windows of a folder, mapped from the files: all processes share the same memory."""
    return Prepared(spec, _load(folder / "training"), _load(folder / "scored"))


def _load(folder: Path) -> LabelledWindows:
    windows, label, subject, recording, data_set, start = (
        np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS
    )
    labels, states = json.loads((folder / "outputs.json").read_text(encoding="utf-8"))
    return LabelledWindows(windows, label, subject, recording, data_set, start, tuple(labels), tuple(states))
