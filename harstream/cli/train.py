"""`harstream train` and `export`."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from harstream.errors import ConfigError

_PATH = click.Path(path_type=Path)
_DATA = click.option("--data", required=True, help="Recordings, such as hapt:hapt.zip.", metavar="KIND:PATH")
_SUBJECTS = click.option(
    "--wearers", "--subjects", "subjects", help="Only the recordings of these. [default: all]", metavar="A,B,C"
)


def _need(extra: str, module: str) -> None:
    if find_spec(module) is None:  # not imported here: TensorFlow is quiet only if told so before
        raise ConfigError(f"this needs {module}: pip install 'harstream[{extra}]'")


def recordings_of(data: str, subjects: str | None) -> list[Any]:
    """The recordings of ``--data`` and ``--wearers``."""
    from harstream import datasets

    recordings = datasets.load(data)
    return recordings if subjects is None else datasets.of_subjects(recordings, subjects.split(","))


def make_room(option: str, path: Path | None, *, folder: bool = False) -> None:
    """See to it that a file, or a ``folder``, can be written, before the work whose result it gets.

    Raises ConfigError.
    """
    if path is None:
        return
    if path.exists() and path.is_dir() != folder:
        raise ConfigError(f"{option}: {path}: is {'no folder' if folder else 'a folder'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{option}: {path}: {error.strerror}") from error
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"{option}: {path}: cannot be written")


@click.command()
@_DATA
@_SUBJECTS
@click.option("--out", required=True, type=_PATH, help="Folder of the bundle, or the experiment, to write.")
@click.option("--arch", help="Architecture. [default: the shipped one]")
@click.option("--spec", type=_PATH, help="JSON file of a signal section; fields left out keep their defaults.")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the windows. [default: the recipe's]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The first seed.")
@click.option(
    "--repeats", type=click.IntRange(min=1), default=1, show_default=True, help="Seeds to validate with, by subject."
)
@click.option("--channels", help="Channels or triads (total_acc, body_acc, gyro), such as total_acc,gyro.")
@click.option(
    "--set",
    "chosen",
    multiple=True,
    help="A setting of recipe, architecture or signal, such as window_samples=256.",
    metavar="NAME=VALUE",
)
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    help="Make an experiment, no bundle: a row for each value, or for each combination if given again. "
    "NAME is arch or as for --set; channels are joined by +.",
    metavar="NAME=A,B,C",
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    help="One more row of the experiment; name=... names it.",
    metavar="'NAME=VALUE ...'",
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Fits at a time, validating.")
@click.option("--logs", type=_PATH, help="Keep the last fit's checkpoint, learning curves and TensorBoard logs here.")
@click.option("--note", default="", help="A sentence for the model card, such as what the recipe was chosen on.")
@click.option("--json", "json_path", type=_PATH, help="Write the validation's figures here.")
def train(
    data: str,
    subjects: str | None,
    out: Path,
    arch: str | None,
    spec: Path | None,
    epochs: int | None,
    seed: int,
    repeats: int,
    channels: str | None,
    chosen: tuple[str, ...],
    sweeps: tuple[str, ...],
    variants: tuple[str, ...],
    jobs: int,
    logs: Path | None,
    note: str,
    json_path: Path | None,
) -> None:
    """Train a bundle on recordings, validated on subjects it was not trained on.

    With --sweep or --variant, compare ways of training instead, in results.json, table.md and boxplot.png.
    Interrupted, either goes on where it was when the same command is given again.
    """
    _need("train", "tensorflow")
    _need("train", "rich")
    from harstream.train.sweep.settings import setting_of

    base = dict(setting_of(text) for text in chosen)
    for name, value in (("arch", arch), ("epochs", epochs), ("channels", channels)):
        if value is not None:
            base[name] = value
    make_room("--out", out, folder=True)
    make_room("--logs", logs, folder=True)
    make_room("--json", json_path)
    with _interruptible(out):
        if sweeps or variants:
            for name, given in (("--json", json_path), ("--logs", logs), ("--note", note)):
                if given:
                    raise ConfigError(f"{name}: is for a bundle; an experiment writes results.json, table and plot")
            _compare(data, subjects, out, base, spec, seed, repeats, sweeps, variants, jobs)
        else:
            _bundle(data, subjects, out, base, spec, seed, repeats, jobs, logs, note, json_path)


def _bundle(
    data: str,
    subjects: str | None,
    out: Path,
    base: dict[str, Any],
    spec: Path | None,
    seed: int,
    repeats: int,
    jobs: int,
    logs: Path | None,
    note: str,
    json_path: Path | None,
) -> None:
    from harstream.train import pipeline
    from harstream.train.fitting.fit import FitConfig
    from harstream.train.sweep.settings import settle

    config = FitConfig(seed=seed)
    settle(base, _signal(spec, None), config)  # refuses before the recordings are read
    if (out / "results.json").exists():
        raise ConfigError(f"{out}: holds an experiment; a bundle needs a folder of its own")
    recordings = recordings_of(data, subjects)
    signal, config = settle(base, _signal(spec, recordings, base), config)
    with _Bar() as bar:
        trained = pipeline.train(
            recordings,
            out,
            data=data,
            spec=signal,
            config=config,
            repeats=repeats,
            progress=bar.update,
            jobs=jobs,
            logs=logs,
            note=note,
        )
    summary = trained.validation.to_dict()
    for name, reason in trained.bundle.training["missing"].items():
        click.echo(f"there is no {name}: {reason}")
    click.echo(f"wrote {trained.bundle.id} to {out}")
    click.echo(f"on subjects not trained on ({summary['method']}):")
    for network in ("float32", "int8"):
        if summary[network]:
            click.echo(
                f"  {network:<8} accuracy {_spread(summary[network]['accuracy'])}, "
                f"macro-F1 {_spread(summary[network]['macro_f1'])}"
            )
    if json_path is not None:
        json_path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def _compare(
    data: str,
    subjects: str | None,
    out: Path,
    base: dict[str, Any],
    spec: Path | None,
    seed: int,
    repeats: int,
    sweeps: tuple[str, ...],
    variants: tuple[str, ...],
    jobs: int,
) -> None:
    from harstream.train.sweep import figures, settings
    from harstream.train.sweep import run as experiments

    rows = settings.variants_of(sweeps, variants)
    experiments.ways_of(rows, base, _signal(spec, None))  # refuses before the recordings are read
    recordings = recordings_of(data, subjects)
    with _Bar() as bar:
        found = experiments.run(
            recordings,
            out,
            experiments.ways_of(rows, base, _signal(spec, recordings, base)),
            data=data,
            repeats=repeats,
            first_seed=seed,
            n_jobs=jobs,
            command=_command(data, out),
            progress=bar.update,
            report=bar.say,
        )
    for path in figures.write(found, out / "results.json"):
        click.echo(f"wrote {path}")


@click.command()
@click.option("--model", required=True, help="Name or folder of the bundle.", metavar="NAME|DIR")
def export(model: str) -> None:
    """Make a bundle's LiteRT files again from its model.keras, and seal it."""
    _need("train", "tensorflow")
    from harstream.train import pipeline

    bundle = pipeline.export_again(model)
    for name, reason in bundle.training["missing"].items():
        click.echo(f"there is no {name}: {reason}")
    click.echo(f"wrote {bundle.path}")


def _spread(figure: dict[str, Any]) -> str:
    return f"{figure['mean']:.4f}" + ("" if figure["sd"] is None else f" ± {figure['sd']:.4f}")


def _signal(spec: Path | None, recordings: Any, base: Mapping[str, Any] | None = None) -> Any:
    """The signal of ``--spec``, completed for the recordings; while there are none, by the plain defaults.

    Where ``base`` says at which rate, that of the recordings does not matter.
    """
    from harstream.core.spec import SignalSpec
    from harstream.train.fitting.prepare import spec_of

    fields = _read_json(spec) if spec is not None else {}
    fields |= {name: value for name, value in (base or {}).items() if name == "sample_rate_hz"}
    return SignalSpec.from_dict(fields) if recordings is None else spec_of(recordings, fields)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"spec: {path}: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"spec: {path}: expected an object, got {type(data).__name__}")
    return data


def _command(data: str, out: Path) -> str:
    """What was typed, for whoever does it again: without this machine's folders, and what changes nothing."""
    context = click.get_current_context()
    parts = ["harstream", "train"]
    for parameter in context.command.params:
        name = parameter.name or ""
        value = context.params[name]
        if name == "jobs" or value in (None, ()) or value == parameter.get_default(context):
            continue
        if name == "data":
            kind, _, path = data.partition(":")
            value = f"{kind}:{Path(path).name}"
        for one in value if isinstance(value, tuple) else (value,):
            parts += [parameter.opts[0], one.name if isinstance(one, Path) else str(one)]
    return shlex.join(parts)


@contextmanager
def _interruptible(out: Path) -> Iterator[None]:
    """Ctrl-C, or being told to stop, ends the work in order, with the exit code a shell expects."""

    told = signal.SIGINT

    def stop(number: int, _: object) -> None:
        nonlocal told
        told = signal.Signals(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\nstopped; what was finished is kept: the same command goes on with {out}", err=True)
        sys.exit(128 + told)
    finally:
        signal.signal(signal.SIGTERM, before)


class _Bar:
    """A progress bar that moves from one step of the training to the next."""

    def __init__(self) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            speed_estimate_period=600,
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, step: str, done: int, total: int) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step, total=total, completed=done)
        self._progress.update(self._tasks[step], completed=done, total=total)

    def say(self, line: str) -> None:
        """A line above the bar."""
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
