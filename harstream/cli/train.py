"""`harstream train`."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from harstream import checks, interruption
from harstream.bundle import ORIENTATIONS
from harstream.cli import options
from harstream.cli.progress import ProgressBar
from harstream.cli.request import Request
from harstream.core.label_table import TABLES
from harstream.errors import ConfigError

if TYPE_CHECKING:
    from harstream.core.spec import SignalSpec
    from harstream.train.fitting.recipe import FitConfig
    from harstream.train.validation.cross_validation import CrossValidation


#: Names of the figures that a training prints, and the fields of their scores.
_FIGURES = {"accuracy": "accuracy", "macro-F1": "macro_f1", "macro recall": "macro_recall"}

#: Bytes of memory for a parameter in training, measured at 65 million parameters. Value, gradient, two moments and
#: average are 20 of them. TensorFlow keeps the variables of finished fits, about 16 for each fit, and conversions to
#: LiteRT hold the weights several times.
_BYTES = 170
#: Parameters of ``train`` that a sweep does not have.
_OF_A_BUNDLE = ("json_path", "logs", "note", "train_only", "states", "version", "worn", "orientation")


@click.command()
@options.several_data
@options.subjects
@options.placements
@click.option(
    "--labels",
    show_default="the names in the data",
    help="Labels to learn, and the activities of the data sets that each covers: a JSON file, or one of the tables "
    f"of harstream: {', '.join(TABLES)}.",
    metavar="NAME|FILE",
)
@click.option("--out", required=True, type=options.PATH, help="Folder of the bundle or sweep to write.")
@click.option("--arch", show_default="the recipe's", help="Architecture of the network.", metavar="NAME")
@click.option(
    "--spec",
    type=options.PATH,
    help="JSON file with a signal section; missing fields keep their defaults.",
    metavar="FILE",
)
@click.option("--epochs", type=click.IntRange(min=1), show_default="the recipe's", help="Number of epochs.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="First random seed.")
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of seeds under which the validation is repeated.",
)
@click.option(
    "--folds",
    type=click.Choice(("subject", "data")),
    default="subject",
    show_default=True,
    help="Hold out some subjects at a time for validation, or one whole data set.",
)
@click.option(
    "--train-only",
    multiple=True,
    help="Name of a data set that is trained on and never held out, such as one of another placement; may be given "
    "several times.",
    metavar="NAME",
)
@click.option(
    "--channels",
    show_default="the recipe's",
    help="Channels or triads of channels (total_acc, body_acc, gyro), separated by commas.",
    metavar="A,B",
)
@click.option(
    "--set",
    "chosen",
    multiple=True,
    help="Value of a setting of recipe, architecture or signal, such as window_samples=256; may be given several "
    "times.",
    metavar="NAME=VALUE",
)
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    help="Make a sweep instead of a bundle, with one row for each value, and for each combination of values if "
    "given several times. NAME is arch or a name for --set; channels are joined by +.",
    metavar="NAME=A,B,C",
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    help="Add one row to the sweep; name=... names it.",
    metavar="'NAME=VALUE ...'",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of processes that fit folds at the same time.",
)
@click.option(
    "--logs",
    type=options.PATH,
    help="Folder for the checkpoint, learning curves and TensorBoard logs of the final fit.",
    metavar="DIR",
)
@click.option("--note", default="", help="Sentence for the model card, such as how the recipe was chosen.")
@click.option(
    "--states",
    is_flag=True,
    help="Also learn the states between labels that the data set names, such as postural transitions of hapt.",
)
@click.option("--version", default="1.0.0", show_default=True, help="Version of the bundle.", metavar="TEXT")
@click.option(
    "--worn",
    show_default="the placements in the data",
    help="Placement of the device for the bundle: one line of text, such as 'a phone at the waist, x axis up'.",
    metavar="TEXT",
)
@click.option(
    "--orientation",
    type=click.Choice(ORIENTATIONS),
    show_default="as the channels say",
    help="Whether a device must lie as in the recordings (fixed), or may lie in any way.",
)
@options.json_file
def train(
    data: tuple[str, ...],
    subjects: str | None,
    placements: tuple[str, ...],
    labels: str | None,
    out: Path,
    arch: str | None,
    spec: Path | None,
    epochs: int | None,
    seed: int,
    repeats: int,
    folds: str,
    train_only: tuple[str, ...],
    channels: str | None,
    chosen: tuple[str, ...],
    sweeps: tuple[str, ...],
    variants: tuple[str, ...],
    jobs: int,
    logs: Path | None,
    note: str,
    states: bool,
    version: str,
    worn: str | None,
    orientation: str | None,
    json_path: Path | None,
) -> None:
    """Train a bundle on recordings and validate it on subjects, or whole data sets, that it was not trained on.

    With --sweep or --variant, configs are compared instead, in results.json, table.md and boxplot.png. The same
    command continues interrupted work. `harstream data inspect --help` tells which csv files are understood.
    """
    options.need_extra("train", "tensorflow")
    from harstream.datasets.sets import names_of
    from harstream.train.sweep.settings import parse_setting

    settings = dict(parse_setting(text) for text in chosen)
    for name, value in (("arch", arch), ("epochs", epochs), ("channels", channels)):
        if value is not None:
            settings[name] = value
    options.check_writable("--out", out, folder=True)
    options.check_writable("--logs", logs, folder=True)
    options.check_writable("--json", json_path)
    table = None if labels is None else options.load_table(labels)
    request = Request(data, subjects, placements, table, out, settings, spec, seed, repeats, folds, train_only, jobs)
    request.check_names(names_of(data))  # and again when it is known of which of them something is left
    with _interruptible(out):
        if sweeps or variants:
            context = click.get_current_context()
            for option in context.command.params:
                name = option.name or ""
                if name in _OF_A_BUNDLE and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
                    raise ConfigError(
                        f"{option.opts[0]}: it applies to a bundle, but --sweep or --variant makes a sweep"
                    )
            _run_sweep(request, sweeps, variants)
        else:
            about = _About(note, states, version, worn, orientation)
            _train_bundle(request, logs, about, json_path)


@dataclass(frozen=True, slots=True)
class _About:
    """Options that tell what is in a bundle."""

    note: str
    states: bool
    version: str
    worn: str | None
    orientation: str | None


def _train_bundle(request: Request, logs: Path | None, about: _About, json_path: Path | None) -> None:
    from harstream.datasets.sets import notes_of, recordings_of
    from harstream.train import pipeline
    from harstream.train.fitting.prepare import require_other_names, states_of
    from harstream.train.fitting.recipe import FitConfig
    from harstream.train.sweep.settings import apply_settings

    # What bundle.save would refuse is refused before the work.
    checks.text(about.version, "--version")
    checks.line(about.worn or "", "--worn")
    states = states_of(request.data) if about.states else ()
    if request.table is not None:
        require_other_names(request.table.labels, states)
    config = FitConfig(seed=request.seed)
    apply_settings(request.settings, request.signal(), config)  # reports a wrong setting before the recordings are read
    if (request.out / "results.json").exists():
        raise ConfigError(f"--out: {request.out}: it holds a sweep; choose another folder for the bundle")
    sets, table = request.load(states)
    signal, config = apply_settings(request.settings, request.signal(recordings_of(sets)), config)
    usable = request.usable(sets, signal)
    _print_network(signal, config, len(table.labels) + len(states))
    with ProgressBar() as bar:
        trained = pipeline.train(
            recordings_of(usable),
            request.out,
            data=[data_set.data for data_set in usable if not data_set.is_empty],
            table=table,
            left_out=notes_of(usable),
            spec=signal,
            config=config,
            folds=request.folds,
            train_only=request.train_only,
            repeats=request.repeats,
            progress=bar.update,
            jobs=request.jobs,
            logs=logs,
            note=about.note,
            states=states,
            version=about.version,
            placement=about.worn,
            orientation=about.orientation,
        )
    summary = trained.validation.to_dict()
    for name, reason in trained.bundle.training["missing"].items():
        click.echo(f"no {name} was written: {reason}")
    click.echo(f"wrote {trained.bundle.id} to {request.out}")
    _print_validation(trained.validation)
    if json_path is not None:
        json_path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def _print_network(signal: SignalSpec, config: FitConfig, n_outputs: int) -> None:
    """Print the size of the network, which decides how long the training takes and how much memory."""
    from harstream.train.fitting import architectures

    n_parameters = architectures.count_parameters(
        config.arch, signal.window_samples, signal.n_channels, n_outputs, dict(config.arch_settings)
    )
    click.echo(f"network: {config.arch}, {n_parameters:,} parameters")
    if n_parameters > architectures.LARGE:
        click.echo(
            f"doubt: so many take long to train, and {n_parameters * _BYTES / 1e9:.1f} GB of memory: "
            f"choose fewer channels, smaller settings of {config.arch}, or --arch {architectures.DEFAULT}"
        )


def _print_validation(validation: CrossValidation) -> None:
    from harstream.tables import plain, spread

    unseen = "data sets" if validation.folds == "data" else "subjects"
    click.echo(f"on {unseen} not trained on ({validation.method}):")
    runs = validation.runs
    for network, scores in (("float32", [run.scores for run in runs]), ("int8", [run.int8 for run in runs])):
        measured = [each for each in scores if each is not None]
        if measured:
            figures = [
                f"{name} {spread([getattr(each, field) for each in measured], decimals=4)}"
                for name, field in _FIGURES.items()
            ]
            click.echo(f"  {network:<8} {', '.join(figures)}")
    if validation.scores_by_data():
        head, rows = validation.data_table()
        click.echo(plain(head, rows, right=range(1, len(head))))
    for sentence in validation.unlearnt():
        click.echo(f"note: {sentence}")


def _run_sweep(request: Request, sweeps: tuple[str, ...], variants: tuple[str, ...]) -> None:
    from harstream.datasets.sets import recordings_of
    from harstream.train.sweep import figures, settings
    from harstream.train.sweep import run as sweep

    rows = settings.parse_variants(sweeps, variants)
    sweep.row_configs(rows, request.settings, request.signal())  # fails before the recordings are read
    sets, table = request.load()
    configs = sweep.row_configs(rows, request.settings, request.signal(recordings_of(sets)))
    # All rows are compared on the same recordings.
    usable = request.usable(sets, next((each.spec for each in configs if each.spec.uses_gyro), configs[0].spec))
    with ProgressBar() as bar:
        results = sweep.run(
            recordings_of(usable),
            request.out,
            configs,
            data=[data_set.data for data_set in usable if not data_set.is_empty],
            table=table,
            folds=request.folds,
            repeats=request.repeats,
            first_seed=request.seed,
            jobs=request.jobs,
            command=_command_line(),
            progress=bar.update,
            report=bar.print,
        )
    for path in figures.write(results, request.out / "results.json"):
        click.echo(f"wrote {path}")


def _command_line() -> str:
    """Return the command line that repeats this training, without local folders and without ``--jobs``."""
    from harstream.train.fitting.prepare import data_name

    context = click.get_current_context()
    parts = ["harstream", "train"]
    for parameter in context.command.params:
        name = parameter.name or ""
        value = context.params[name]
        if name == "jobs" or value in (None, ()) or value == parameter.get_default(context):
            continue
        for one in value if isinstance(value, tuple) else (value,):
            if name == "data":
                one = data_name(one)
            elif name == "labels":
                one = Path(one).name
            parts += [parameter.opts[0], one.name if isinstance(one, Path) else str(one)]
    return shlex.join(parts)


@contextmanager
def _interruptible(out: Path) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into an orderly end, with the exit code that shells expect."""
    try:
        with interruption.watched():
            yield
    except KeyboardInterrupt as stop:
        number = stop.number if isinstance(stop, interruption.Interrupted) else signal.SIGINT
        click.echo(f"\nstopped; finished work is kept, and the same command continues it in {out}", err=True)
        sys.exit(128 + number)
