"""Experiments: many ways of training on the same recordings, each repeated, all counted alike.

A row is one way, a unit one fit of it: a seed, and a group of subjects held out. Every finished unit is in the
results file before the next begins, and one that is there is never done again.
"""

from __future__ import annotations

import fcntl
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scipy.special import softmax

from harstream.bundle import INT8, LITERT
from harstream.core.labels import UNKNOWN
from harstream.core.spec import SignalSpec
from harstream.datasets import windows
from harstream.datasets.base import Recording
from harstream.errors import ConfigError, DatasetError
from harstream.evaluate.metrics import calibration_error
from harstream.progress import Progress, silent
from harstream.storage import replace_file
from harstream.train import export
from harstream.train.fitting import architectures
from harstream.train.fitting.prepare import data_name, labels_of_kind, library_versions, prepare, signal_dict
from harstream.train.fitting.recipe import FitConfig
from harstream.train.folds import folds_of
from harstream.train.sweep import results, settings
from harstream.train.sweep.results import RESULTS, Results, Row, Unit
from harstream.train.sweep.settings import Variant
from harstream.train.validation import pool as jobs
from harstream.train.validation.task import Fold, Task, fingerprint

#: Training streams are cut into the same pieces for all rows and seeds.
_CUT_SEED = 0


@dataclass(frozen=True, slots=True)
class Way:
    """What a row of the experiment trains."""

    variant: Variant
    spec: SignalSpec
    config: FitConfig

    def key(self, data: str, labels: Sequence[str]) -> str:
        return fingerprint([data_name(data), list(labels), signal_dict(self.spec), self._config()])

    def row(self, data: str, labels: Sequence[str]) -> Row:
        """The row of this way, without results."""
        return Row(
            self.variant.name,
            self.key(data, labels),
            self.variant.overrides,
            self._config(),
            signal_dict(self.spec),
            tuple(labels),
        )

    def _config(self) -> dict[str, Any]:
        return {name: value for name, value in self.config.to_dict().items() if name != "seed"}


def ways_of(variants: Sequence[Variant], base: Mapping[str, Any], spec: SignalSpec) -> list[Way]:
    """``variants`` made whole: each on top of the settings ``base`` and the signal ``spec``.

    Raises ConfigError, naming the row, where one makes no sense, or two would be the same: their fits would be one
    row's, counted twice.
    """
    ways: list[Way] = []
    names: dict[str, str] = {}
    for variant in variants:
        try:
            own_spec, config = settings.settle({**base, **variant.overrides}, spec, FitConfig())
        except ConfigError as error:
            raise ConfigError(f"row {variant.name!r}: {error}") from error
        way = Way(variant, own_spec, config)
        first = names.setdefault(way.key("", ()), variant.name)
        if first != variant.name:
            raise ConfigError(f"rows {first!r} and {variant.name!r} are one way of training: leave one of them out")
        ways.append(way)
    return ways


def run(
    recordings: Sequence[Recording],
    out: Path,
    ways: Sequence[Way],
    *,
    data: str,
    repeats: int = 1,
    first_seed: int = 0,
    labels: Sequence[str] | None = None,
    n_jobs: int = 1,
    command: str = "",
    progress: Progress = silent,
    report: Callable[[str], None] = lambda line: None,
) -> Results:
    """Do all that is not yet in ``out/results.json``: each of ``ways`` under each seed, each subject held out once.

    ``data`` is the KIND:PATH of ``recordings``. The subjects are dealt into ``config.folds`` groups by the seed alone,
    so that rows are compared on the same folds. ``progress`` is told of epochs over all fits, ``report`` a line of
    each that is done. The sizes and speeds of the LiteRT networks are measured at the end, when nothing else
    runs. Rows in the file that are not among ``ways`` stay. Raises DatasetError where the file is of other
    recordings, and as ``pipeline.prepare`` and ``fit`` do; ConfigError where another process works in ``out``.
    """
    wanted = tuple(labels or labels_of_kind(data) or windows.known_labels(recordings))
    subjects = _subjects(recordings, wanted)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        found = _open(out / RESULTS, data, subjects, command)
        rows = [_enter(found, way, data, wanted) for way in ways]
        todo: list[tuple[int, int, Task]] = []  # row, fold, task
        n_units = 0
        for index, way in enumerate(ways):
            for seed in range(first_seed, first_seed + repeats):
                for fold, held_out in enumerate(folds_of(subjects, way.config.folds, seed)):
                    n_units += 1
                    if rows[index].find(seed, held_out) is None:
                        todo.append((index, fold, Task(way.spec, replace(way.config, seed=seed), held_out)))
        # A first seed of everything before the second of anything, but for windows, which are cut once.
        order = list(dict.fromkeys(way.spec for way in ways))
        todo.sort(key=lambda item: (order.index(item[2].spec), item[2].config.seed, item[0], item[1]))
        for index in {index for index, _, _ in todo}:
            _build(ways[index], len(wanted))
        _save(out, found)

        epochs_of_all = sum(way.config.epochs * repeats * len(folds_of(subjects, way.config.folds, 0)) for way in ways)
        done = dict.fromkeys(range(len(todo)), 0)
        before = epochs_of_all - sum(task.config.epochs for _, _, task in todo)

        def told(index: int, epochs: int) -> None:
            done[index] = epochs
            progress("fitting", before + sum(done.values()), epochs_of_all)

        labels_of: dict[SignalSpec, tuple[str, ...]] = {}

        def windows_of(spec: SignalSpec) -> tuple[windows.LabelledWindows, windows.LabelledWindows]:
            prepared = prepare(recordings, spec, wanted, seed=_CUT_SEED)
            for way, row in zip(ways, rows, strict=True):
                if way.spec == spec:
                    _check_same(row, prepared.counted, out / RESULTS)
            labels_of[spec] = prepared.counted.labels
            return prepared.training, prepared.counted

        progress("fitting", before, epochs_of_all)
        n_done = n_units - len(todo)
        for index, result in jobs.run([task for _, _, task in todo], windows_of, n_jobs, told):
            at, fold, task = todo[index]
            row = rows[at]
            row.labels, row.parameters, row.libraries = labels_of[task.spec], result.parameters, _libraries()
            row.units.append(_unit(fold, result))
            row.units.sort(key=lambda unit: (unit.seed, unit.fold))
            _save(out, found)
            told(index, task.config.epochs)
            n_done += 1
            report(
                f"{n_done}/{n_units} {row.name}: seed {result.seed}, fold {fold + 1}: accuracy "
                f"{100 * result.metrics.accuracy:.2f} %, {result.epochs} epochs in {result.seconds:.0f} s"
            )
        for index, (way, row) in enumerate(zip(ways, rows, strict=True)):
            progress("measuring", index, len(rows))
            if not row.litert:
                row.litert, row.int8 = measure(way, len(row.labels))
                _save(out, found)
        progress("measuring", len(rows), len(rows))
    return found


def measure(way: Way, n_labels: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Size and speed of a row's network as LiteRT float32 and int8: of fresh weights, which change neither.

    Each is ``{"bytes", "windows_per_s"}``, or ``{"reason"}`` where LiteRT cannot take it.
    """
    files = export.litert_files(_build(way, n_labels), way.spec.norm.apply(export.made_up_windows(way.spec)))

    def measured(name: str, model: bytes | None) -> dict[str, Any]:
        if model is None:
            return {"reason": files.missing[name]}
        return {"bytes": len(model), "windows_per_s": round(export.measure(model))}

    return measured(LITERT, files.litert), measured(INT8, files.int8)


def _build(way: Way, n_labels: int) -> Any:
    try:
        return architectures.build(
            way.config.arch, way.spec.window_samples, way.spec.n_channels, n_labels, way.config.arch_settings
        )
    except ConfigError as error:
        raise ConfigError(f"row {way.variant.name!r}: {error}") from error


def _subjects(recordings: Sequence[Recording], labels: Sequence[str]) -> tuple[str, ...]:
    """Who has a labelled stretch, sorted."""
    known = set(labels) - {UNKNOWN}
    return tuple(sorted({r.subject for r in recordings if any(segment.label in known for segment in r.segments)}))


def _open(path: Path, data: str, subjects: tuple[str, ...], command: str) -> Results:
    """The results so far, or none yet."""
    if (path.parent / "bundle.json").exists():
        raise ConfigError(f"{path.parent}: holds a bundle; an experiment needs a folder of its own")
    found = results.read(path) if path.exists() else Results(data_name(data), subjects)
    if found.data != data_name(data):
        raise DatasetError(f"{path}: is of {found.data}, not of {data_name(data)}: give another --out")
    if found.subjects != subjects:
        raise DatasetError(
            f"{path}: is of {len(found.subjects)} subjects ({', '.join(found.subjects)}), "
            f"the recordings have {len(subjects)} ({', '.join(subjects)}): give another --out"
        )
    if command and command not in found.commands:
        found.commands.append(command)
    return found


def _enter(found: Results, way: Way, data: str, labels: Sequence[str]) -> Row:
    """The way's row among the results, a new one at their end."""
    row = found.find(way.key(data, labels))
    if row is None:
        row = way.row(data, labels)
        found.rows.append(row)
    row.name, row.overrides = way.variant.name, way.variant.overrides
    return row


def _check_same(row: Row, counted: windows.LabelledWindows, path: Path) -> None:
    """Raises DatasetError where what was counted before are not the windows that the recordings have now."""
    for unit in row.units:
        before, now = sum(map(sum, unit.confusion)), len(counted.of_subjects(unit.held_out))
        if before != now:
            raise DatasetError(
                f"{path}: row {row.name!r} counts {before} windows of {', '.join(unit.held_out)}, who have {now}: "
                "the recordings have changed: give another --out"
            )


def _unit(fold: int, result: Fold) -> Unit:
    return Unit(
        result.seed,
        fold,
        result.held_out,
        tuple(tuple(row) for row in result.metrics.confusion.tolist()),
        round(calibration_error(softmax(result.logits, axis=1), result.label), 6),
        result.epochs,
        round(result.seconds, 2),
    )


def _save(out: Path, found: Results) -> None:
    replace_file(out / RESULTS, found.to_bytes())


def _libraries() -> dict[str, str]:
    return {"python": platform.python_version(), **library_versions()}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else writes into ``folder`` meanwhile; the lock ends with the process, however it ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"{folder}: another process works in it") from error
        yield
    finally:
        os.close(handle)
