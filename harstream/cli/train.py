"""`harstream train`, `evaluate` and `export`."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from harstream.bundle import DEFAULT_MODEL
from harstream.classifier import BACKENDS
from harstream.errors import ConfigError

_PATH = click.Path(path_type=Path)
_DATA = click.option("--data", required=True, help="Recordings, such as hapt:hapt.zip.", metavar="KIND:PATH")


def _need(extra: str, module: str) -> None:
    if find_spec(module) is None:  # not imported here: TensorFlow is quiet only if told so before
        raise ConfigError(f"this needs {module}: pip install 'harstream[{extra}]'")


@click.command()
@_DATA
@click.option("--out", required=True, type=_PATH, help="Folder of the bundle to write.")
@click.option("--arch", help="Architecture. [default: the shipped one]")
@click.option("--spec", type=_PATH, help="JSON file of a signal section; fields left out keep their defaults.")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the windows. [default: the recipe's]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of all randomness.")
@click.option(
    "--repeats", type=click.IntRange(min=1), default=1, show_default=True, help="Seeds to validate with, by wearer."
)
@click.option("--json", "json_path", type=_PATH, help="Write the validation's figures here.")
@click.option("--set", "settings", multiple=True, help="A setting of recipe or architecture.", metavar="NAME=VALUE")
def train(
    data: str,
    out: Path,
    arch: str | None,
    spec: Path | None,
    epochs: int | None,
    seed: int,
    repeats: int,
    json_path: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Train a bundle on recordings, validated on wearers it was not trained on."""
    _need("train", "tensorflow")
    _need("train", "rich")
    from harstream import datasets
    from harstream.core.spec import SignalSpec
    from harstream.train import architectures, pipeline
    from harstream.train.fit import FitConfig

    config = FitConfig(arch=arch or architectures.DEFAULT, seed=seed)
    chosen = dict(_setting(text) for text in settings)
    if epochs is not None:
        chosen["epochs"] = epochs
    config = config.with_settings(chosen)
    recordings = datasets.load(data)
    signal = None
    if spec is not None:
        fields = _read_json(spec)
        fields.setdefault("sample_rate_hz", recordings[0].rate_hz)
        signal = SignalSpec.from_dict(fields)
    with _Bar() as bar:
        trained = pipeline.train(
            recordings, out, data=data, spec=signal, config=config, repeats=repeats, progress=bar.update
        )
    summary = trained.validation.to_dict()
    click.echo(f"wrote {trained.bundle.id} to {out}")
    click.echo(f"on wearers not trained on ({summary['method']}):")
    for network in ("float32", "int8"):
        if summary[network]:
            click.echo(
                f"  {network:<8} accuracy {_spread(summary[network]['accuracy'])}, "
                f"macro-F1 {_spread(summary[network]['macro_f1'])}"
            )
    if json_path is not None:
        json_path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


@click.command()
@_DATA
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Name or folder.", metavar="NAME|DIR")
@click.option("--backend", type=click.Choice(["auto", *BACKENDS]), default="auto", show_default=True)
@click.option("--stream", is_flag=True, help="Score labels as they would be published; today each is its window's own.")
@click.option("--json", "json_path", type=_PATH, help="Write the figures here.")
@click.option(
    "--labels", "labels_path", type=_PATH, help="With --stream: write every label here, as published, one a line."
)
def evaluate(
    data: str, model: str, backend: str, stream: bool, json_path: Path | None, labels_path: Path | None
) -> None:
    """Score a model on recordings: windows that lie wholly inside one label it knows."""
    from harstream import datasets
    from harstream.golden import load_classifier
    from harstream.train import published
    from harstream.train.evaluate import score
    from harstream.train.windows import cut, whole

    if labels_path is not None and not stream:
        raise ConfigError("--labels goes with --stream")
    classifier = load_classifier(model, backend)
    recordings = datasets.load(data)
    bundle = classifier.bundle
    windows = cut(whole(recordings), bundle.spec, bundle.labels)
    metrics = score(windows.label, classifier.predict(windows.windows).label, bundle.labels)
    if labels_path is not None:
        with labels_path.open("w", encoding="utf-8") as file:
            for device, payload in published.messages(recordings, classifier):
                file.write(json.dumps({"device": device, **json.loads(payload)}) + "\n")
    click.echo(f"{bundle.id} ({classifier.backend}) on {len(recordings)} recordings")
    click.echo(f"windows {metrics.windows}, accuracy {metrics.accuracy:.4f}, macro-F1 {metrics.macro_f1:.4f}")
    width = max(map(len, bundle.labels))
    click.echo(f"{'truth':<{width}}  precision  recall   predicted as")
    for label, precision, recall, row in zip(
        bundle.labels, metrics.precision, metrics.recall, metrics.confusion.tolist(), strict=True
    ):
        click.echo(f"{label:<{width}}  {precision:9.4f}  {recall:6.4f}   {' '.join(f'{count:6d}' for count in row)}")
    if json_path is not None:
        json_path.write_text(json.dumps(metrics.to_dict(), indent=2) + "\n", encoding="utf-8")


@click.command()
@click.option("--model", required=True, help="Name or folder of the bundle.", metavar="NAME|DIR")
def export(model: str) -> None:
    """Make a bundle's LiteRT files again from its model.keras, and seal it."""
    _need("train", "tensorflow")
    from harstream.train import pipeline

    click.echo(f"wrote {pipeline.export_again(model).path}")


def _spread(figure: dict[str, Any]) -> str:
    return f"{figure['mean']:.4f}" + ("" if figure["sd"] is None else f" ± {figure['sd']:.4f}")


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set: {text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"spec: {path}: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"spec: {path}: expected an object, got {type(data).__name__}")
    return data


class _Bar:
    """A progress bar that moves from one step of the training to the next."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, step: str, done: int, total: int) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step, total=total)
        self._progress.update(self._tasks[step], completed=done, total=total)
