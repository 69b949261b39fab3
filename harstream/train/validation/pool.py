"""Fits one after the other, or several at a time in processes of their own.

A small network keeps one core busy and no more: two processes with one thread each do nearly twice the
work of one with two.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from harstream.core.spec import SignalSpec
from harstream.datasets.windows import LabelledWindows
from harstream.errors import HarstreamError
from harstream.progress import Progress
from harstream.train.validation.task import Fold, Task, hold_out

#: The windows of a signal: those to train on, and those to count.
WindowsOf = Callable[[SignalSpec], tuple[LabelledWindows, LabelledWindows]]
#: Told of a task, by its index, how many of its epochs are done.
Told = Callable[[int, int], None]
#: Fits a process does before another takes its place: TensorFlow gives not all memory back.
_FITS_EACH = 20


def run(tasks: Sequence[Task], windows_of: WindowsOf, n_jobs: int, told: Told) -> Iterator[tuple[int, Fold]]:
    """Do all ``tasks``, yielding index and result of each as it is done: with one job in order.

    ``windows_of`` is called once for each signal, if tasks of the same one stand together. The seed of a
    task decides its result, not the process it runs in, up to the rounding of TensorFlow's threads. Raises what a
    fit raises, RuntimeError where a process dies; processes still at work are ended then.
    """
    if n_jobs == 1:
        windows: tuple[SignalSpec, LabelledWindows, LabelledWindows] | None = None
        for index, task in enumerate(tasks):
            if windows is None or windows[0] != task.spec:
                windows = None  # not both in memory
                windows = (task.spec, *windows_of(task.spec))
            yield index, hold_out(windows[1], windows[2], task, _epochs(index, told))
        return
    with tempfile.TemporaryDirectory(prefix="harstream-") as folder:
        pool = _Pool(tasks, windows_of, Path(folder), told)
        try:
            yield from pool.run(min(n_jobs, len(tasks)))
        finally:
            pool.stop()


def _epochs(index: int, told: Told) -> Progress:
    """The progress of one fit as ``told`` wants it; the fits of its teachers are not counted."""

    def progress(step: str, done: int, total: int) -> None:
        if step == "training":
            told(index, done)

    return progress


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    index: int = -1  # the task it works on
    left: int = _FITS_EACH


class _Pool:
    def __init__(self, tasks: Sequence[Task], windows_of: WindowsOf, folder: Path, told: Told) -> None:
        self._tasks, self._windows_of, self._folder, self._told = tasks, windows_of, folder, told
        self._next = 0
        self._saved: dict[SignalSpec, Path] = {}
        self._workers: list[_Worker] = []

    def run(self, n_workers: int) -> Iterator[tuple[int, Fold]]:
        for _ in range(n_workers):
            self._workers.append(_start())
            self._give(self._workers[-1])
        while busy := [worker for worker in self._workers if worker.index >= 0]:
            for pipe in wait([worker.pipe for worker in busy]):
                worker = next(worker for worker in busy if worker.pipe is pipe)
                try:
                    kind, value = worker.pipe.recv()
                except EOFError:
                    worker.process.join()
                    raise RuntimeError(
                        f"a training process ended with code {worker.process.exitcode}; out of memory?"
                    ) from None
                if kind == "epochs":
                    self._told(worker.index, value)
                elif kind == "done":
                    index = worker.index
                    self._give(worker)
                    yield index, value
                elif isinstance(value, HarstreamError):
                    raise value
                else:
                    raise RuntimeError(f"a training process failed:\n{value}")

    def stop(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()

    def _give(self, worker: _Worker) -> None:
        """The next task, if there is one, to a worker that has none."""
        worker.index = -1
        if self._next == len(self._tasks):
            return
        if not worker.left:
            worker.process.terminate()
            worker.process.join()
            fresh = _start()
            worker.process, worker.pipe, worker.left = fresh.process, fresh.pipe, fresh.left
        worker.index, worker.left = self._next, worker.left - 1
        self._next += 1
        task = self._tasks[worker.index]
        worker.pipe.send((worker.index, task, self._windows(task.spec)))

    def _windows(self, spec: SignalSpec) -> Path:
        """The folder with the windows of a signal; those nobody needs any more are removed."""
        needed = {task.spec for task in self._tasks[self._next - 1 :]}
        needed |= {self._tasks[worker.index].spec for worker in self._workers if worker.index >= 0}
        for old in self._saved.keys() - needed:
            shutil.rmtree(self._saved.pop(old))
        if spec not in self._saved:
            folder = self._folder / str(self._next)
            for name, windows in zip(("training", "counted"), self._windows_of(spec), strict=True):
                _save(folder / name, windows)
            self._saved[spec] = folder
        return self._saved[spec]


def _start() -> _Worker:
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _work(pipe: Connection) -> None:
    """What a training process does until it is ended: fit what it is given, in one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started it
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    loaded: tuple[Path, LabelledWindows, LabelledWindows] | None = None
    while True:
        try:
            index, task, folder = pipe.recv()
        except EOFError:
            return

        def told(_: int, epochs: int) -> None:
            pipe.send(("epochs", epochs))

        try:
            if loaded is None or loaded[0] != folder:
                loaded = (folder, _load(folder / "training"), _load(folder / "counted"))
            pipe.send(("done", hold_out(loaded[1], loaded[2], task, _epochs(index, told))))
        except HarstreamError as error:
            pipe.send(("failed", error))
        except Exception:
            pipe.send(("failed", traceback.format_exc()))


_ARRAYS = ("windows", "label", "subject", "recording", "start")


def _save(folder: Path, windows: LabelledWindows) -> None:
    folder.mkdir(parents=True)
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", getattr(windows, name), allow_pickle=False)
    (folder / "labels.json").write_text(json.dumps(windows.labels), encoding="utf-8")


def _load(folder: Path) -> LabelledWindows:
    """The windows mapped from the disk: all processes share the same pages of memory."""
    arrays = [np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS]
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    windows, label, subject, recording, start = arrays
    return LabelledWindows(windows, label, subject, recording, start, tuple(labels))
