"""Run of a sweep: many configs fitted on the same recordings and folds, each repeated, all scored alike.

A row is one config. Every finished fit is written to the file of results before the next one ends, and a fit that is in
the file is not done again.
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
from harstream.core.label_table import LabelTable
from harstream.core.labels import UNKNOWN
from harstream.core.spec import SignalSpec
from harstream.datasets import windows
from harstream.datasets.base import Recording
from harstream.datasets.windows import LabelledWindows
from harstream.errors import ConfigError, DatasetError
from harstream.evaluate.metrics import calibration_error
from harstream.progress import Progress, silent
from harstream.storage import replace_file
from harstream.train import export
from harstream.train.fitting import architectures
from harstream.train.fitting.prepare import (
    Prepared,
    data_names,
    labels_wanted,
    library_versions,
    prepare,
    signal_dict,
)
from harstream.train.fitting.recipe import FitConfig
from harstream.train.sweep import results, settings
from harstream.train.sweep.results import RESULTS, FitRecord, Results, Row
from harstream.train.sweep.settings import Variant
from harstream.train.validation import pool
from harstream.train.validation.cross_validation import BY_DATA, BY_SUBJECT
from harstream.train.validation.task import FoldResult, FoldTask, json_digest, tasks_of

#: Decides where training streams restart: the same pieces for all rows and seeds.
_CUT_SEED = 0


@dataclass(frozen=True, slots=True)
class RowConfig:
    """The training of a row: a variant with its signal and config."""

    variant: Variant
    spec: SignalSpec
    config: FitConfig  # its seed does not count

    def key(self, names: str, table: LabelTable, folds: str) -> str:
        """Return the key of the row for the names of the data, the labels wanted, and one of FOLDS."""
        facts = [names, list(table.labels), signal_dict(self.spec), self._config()]
        more = [table.to_dict()] if not table.is_plain else []
        return json_digest([*facts, *more, *([folds] if folds != BY_SUBJECT else [])])

    def new_row(self, key: str, labels: Sequence[str]) -> Row:
        """Return the row without results."""
        return Row(
            self.variant.name, key, self.variant.overrides, self._config(), signal_dict(self.spec), tuple(labels)
        )

    def build(self, n_labels: int) -> Any:
        """Return the network with initial weights. Raise ConfigError, with the name of the row, if it is impossible."""
        config = self.config
        try:
            return architectures.build(
                config.arch, self.spec.window_samples, self.spec.n_channels, n_labels, config.arch_settings
            )
        except ConfigError as error:
            raise ConfigError(f"row {self.variant.name!r}: {error}") from error

    def _config(self) -> dict[str, Any]:
        return {name: value for name, value in self.config.to_dict().items() if name != "seed"}


def row_configs(variants: Sequence[Variant], base: Mapping[str, Any], spec: SignalSpec) -> list[RowConfig]:
    """Return signal and config of each variant, applied to the settings ``base`` and the signal ``spec``.

    Raises:
        ConfigError: A variant is impossible, or two have the same config; the message names the row.

    """
    configs: list[RowConfig] = []
    names: dict[str, str] = {}
    for variant in variants:
        try:
            own_spec, config = settings.apply_settings({**base, **variant.overrides}, spec, FitConfig())
        except ConfigError as error:
            raise ConfigError(f"row {variant.name!r}: {error}") from error
        row_config = RowConfig(variant, own_spec, config)
        first = names.setdefault(row_config.key("", LabelTable.plain(()), BY_SUBJECT), variant.name)
        if first != variant.name:
            raise ConfigError(f"rows {first!r} and {variant.name!r} have the same config: remove one of them")
        configs.append(row_config)
    return configs


def run(
    recordings: Sequence[Recording],
    out: Path,
    configs: Sequence[RowConfig],
    *,
    data: str | Sequence[str],
    table: LabelTable | None = None,
    folds: str = BY_SUBJECT,
    repeats: int = 1,
    first_seed: int = 0,
    jobs: int = 1,
    command: str = "",
    progress: Progress = silent,
    report: Callable[[str], None] = lambda line: None,
) -> Results:
    """Do all fits that are missing in ``out/results.json``, and return all results.

    Each subject is held out once per seed. The seed alone decides the folds of subjects, so that rows are compared on
    the same folds. Size and speed of the LiteRT networks are measured last, when nothing else runs. Rows of the file
    that are not among ``configs`` stay.

    Args:
        recordings: Recordings of at least two subjects; of several data sets as ``datasets.sets`` puts them together.
        out: The folder of the sweep.
        configs: The rows.
        data: KIND:PATH of each data set.
        table: The labels, which the segments have already, and what they cover; by default those of the kind of data,
            else all that occur.
        folds: What is held out together, one of ``cross_validation.FOLDS``.
        repeats: The number of seeds.
        first_seed: The first of them.
        jobs: The number of processes.
        command: The command line, for the file of results.
        progress: Is called with the number of epochs done, of those of all fits.
        report: Is called with a line of text for each finished fit.

    Raises:
        DatasetError: The file is of other recordings; also as ``prepare`` and ``fit`` raise it.
        ConfigError: Another process works in ``out``, or a network cannot be built.

    """
    out.mkdir(parents=True, exist_ok=True)
    table = table or LabelTable.plain(labels_wanted(data, None) or windows.known_labels(recordings))
    with lock_folder(out):
        sweep = _Sweep(recordings, out, configs, data_names(data), table, folds, command, progress)
        sweep.fit(first_seed, repeats, jobs, report)
        sweep.measure()
    return sweep.results


class _Sweep:
    """A running sweep: the recordings, the rows and the file of results."""

    def __init__(
        self,
        recordings: Sequence[Recording],
        out: Path,
        configs: Sequence[RowConfig],
        names: str,
        table: LabelTable,
        folds: str,
        command: str,
        progress: Progress,
    ) -> None:
        self._recordings, self._configs, self._progress = recordings, configs, progress
        self._labels = table.labels
        data_sets = {recording.subject: recording.data_set for recording in recordings}
        self._data_sets = data_sets if folds == BY_DATA else None
        self._labels_by_signal: dict[SignalSpec, tuple[str, ...]] = {}  # those that have windows
        self._path = out / RESULTS
        self._subjects = _labelled_subjects(recordings, self._labels)
        self.results = _open(self._path, names, self._subjects, command)
        self._rows = [
            _find_or_add_row(self.results, config, config.key(names, table, folds), table.labels) for config in configs
        ]

    def fit(self, first_seed: int, repeats: int, jobs: int, report: Callable[[str], None]) -> None:
        """Do the missing fits, the first seed of all rows before the second one of any."""
        tasks = [
            (index, task)
            for index, config in enumerate(self._configs)
            for task in tasks_of(
                self._subjects,
                config.spec,
                replace(config.config, seed=first_seed),
                repeats,
                data_sets=self._data_sets,
            )
        ]
        missing = [
            (index, task)
            for index, task in tasks
            if self._rows[index].find_fit(task.config.seed, task.held_out) is None
        ]
        # The windows of each signal are cut once: signals come before seeds.
        specs = list(dict.fromkeys(config.spec for config in self._configs))
        missing.sort(key=lambda item: (specs.index(item[1].spec), item[1].config.seed, item[0], item[1].fold))
        for index in {index for index, _ in missing}:
            self._configs[index].build(len(self._labels))  # raises before the first fit
        self._save()

        total = sum(task.config.epochs for _, task in tasks)
        before = total - sum(task.config.epochs for _, task in missing)
        epochs = dict.fromkeys(range(len(missing)), 0)

        def on_epoch(index: int, done: int) -> None:
            epochs[index] = done
            self._progress("fitting", before + sum(epochs.values()), total)

        self._progress("fitting", before, total)
        n_done = len(tasks) - len(missing)
        for index, result in pool.run([task for _, task in missing], self._prepare, jobs, on_epoch):
            row, task = self._rows[missing[index][0]], missing[index][1]
            self._add(row, task, result)
            on_epoch(index, task.config.epochs)  # early stopping may have left some out
            n_done += 1
            report(
                f"{n_done}/{len(tasks)} {row.name}: seed {result.seed}, {task.data_set or f'fold {task.fold + 1}'}: "
                f"accuracy {100 * result.scores.accuracy:.2f} %, {result.epochs} epochs in {result.seconds:.0f} s"
            )

    def measure(self) -> None:
        """Measure size and speed of the LiteRT networks of new rows."""
        for index, (config, row) in enumerate(zip(self._configs, self._rows, strict=True)):
            self._progress("measuring", index, len(self._rows))
            if not row.litert:
                row.litert, row.int8 = measure_row(config, len(row.labels))
                self._save()
        self._progress("measuring", len(self._rows), len(self._rows))

    def _prepare(self, spec: SignalSpec) -> Prepared:
        prepared = prepare(self._recordings, spec, self._labels, seed=_CUT_SEED)
        for config, row in zip(self._configs, self._rows, strict=True):
            if config.spec == spec:
                _check_windows(row, prepared.scored, self._path)
        self._labels_by_signal[spec] = prepared.scored.labels
        return prepared

    def _add(self, row: Row, task: FoldTask, result: FoldResult) -> None:
        row.labels, row.parameters = self._labels_by_signal[task.spec], result.parameters
        row.libraries = {"python": platform.python_version(), **library_versions()}
        row.fits.append(
            FitRecord(
                result.seed,
                task.fold,
                result.held_out,
                tuple(tuple(counts) for counts in result.scores.confusion.tolist()),
                round(calibration_error(softmax(result.logits, axis=1), result.label), 6),
                result.epochs,
                round(result.seconds, 2),
                task.data_set,
            )
        )
        row.fits.sort(key=lambda fit: (fit.seed, fit.fold))
        self._save()

    def _save(self) -> None:
        replace_file(self._path, self.results.to_bytes())


def measure_row(config: RowConfig, n_labels: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure size and speed of a row's network as LiteRT float32 and int8.

    Size and speed do not depend on the weights, so the initial ones are converted. Each result is
    ``{"bytes", "windows_per_s"}``, or ``{"reason"}`` if the network cannot be converted.
    """
    inputs = config.spec.norm.apply(export.synthetic_windows(config.spec))
    files = export.litert_files(config.build(n_labels), inputs)

    def measured(name: str, model: bytes | None) -> dict[str, Any]:
        if model is None:
            return {"reason": files.missing[name]}
        return {"bytes": len(model), "windows_per_s": round(export.measure(model))}

    return measured(LITERT, files.litert), measured(INT8, files.int8)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock a folder against other sweeps. The lock ends with the process, however it ends.

    Raises:
        ConfigError: Another process holds the lock.

    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"--out: {folder}: another process works in this folder") from error
        yield
    finally:
        os.close(handle)


def _labelled_subjects(recordings: Sequence[Recording], labels: Sequence[str]) -> tuple[str, ...]:
    """Return the subjects who have a segment with one of the labels, sorted."""
    known = set(labels) - {UNKNOWN}
    return tuple(sorted({r.subject for r in recordings if any(segment.label in known for segment in r.segments)}))


def _open(path: Path, names: str, subjects: tuple[str, ...], command: str) -> Results:
    """Return the results in the file, or new ones, with the command added."""
    if (path.parent / "bundle.json").exists():
        raise ConfigError(f"--out: {path.parent}: it holds a bundle; choose another folder for the sweep")
    found = results.read(path) if path.exists() else Results(names, subjects)
    if found.data != names:
        raise DatasetError(f"{path}: holds results of {found.data}, not of {names}: choose another --out")
    if found.subjects != subjects:
        raise DatasetError(
            f"{path}: holds results of {len(found.subjects)} subjects ({', '.join(found.subjects)}), "
            f"the recordings have {len(subjects)} ({', '.join(subjects)}): choose another --out"
        )
    if command and command not in found.commands:
        found.commands.append(command)
    return found


def _find_or_add_row(found: Results, config: RowConfig, key: str, labels: Sequence[str]) -> Row:
    """Return the row of a config among the results; a new one is added at their end."""
    row = found.find_row(key)
    if row is None:
        row = config.new_row(key, labels)
        found.rows.append(row)
    row.name, row.overrides = config.variant.name, config.variant.overrides
    return row


def _check_windows(row: Row, scored: LabelledWindows, path: Path) -> None:
    """Raise DatasetError if earlier fits scored another number of windows than the recordings have now."""
    for fit in row.fits:
        n_windows = len(scored.of_subjects(fit.held_out))
        if fit.windows != n_windows:
            raise DatasetError(
                f"{path}: row {row.name!r} has {fit.windows} windows of {', '.join(fit.held_out)}, the recordings have "
                f"{n_windows}: the recordings have changed, choose another --out"
            )
