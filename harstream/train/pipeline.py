"""From recordings to a bundle: what ``harstream train`` does."""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harstream import bundle as bundles
from harstream.bundle import Bundle
from harstream.classifier import seal_bundle
from harstream.core.smoothing import Smoothing
from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording
from harstream.errors import BundleError
from harstream.progress import Progress, silent
from harstream.train import export
from harstream.train.card import card, with_files
from harstream.train.fitting.fit import fit, fit_temperature
from harstream.train.fitting.history import plot
from harstream.train.fitting.prepare import (
    Prepared,
    about_kind,
    data_name,
    labels_of_kind,
    library_versions,
    prepare,
    smoothing_for,
)
from harstream.train.fitting.recipe import FitConfig
from harstream.train.validation.cross_validation import CrossValidation, cross_validate


@dataclass(frozen=True, slots=True)
class Trained:
    bundle: Bundle
    validation: CrossValidation


def train(
    recordings: Sequence[Recording],
    out: Path,
    *,
    data: str,
    spec: SignalSpec | None = None,
    labels: Sequence[str] | None = None,
    config: FitConfig | None = None,
    repeats: int = 1,
    validation: CrossValidation | None = None,
    name: str | None = None,
    version: str = "1.0.0",
    progress: Progress = silent,
    jobs: int = 1,
    logs: Path | None = None,
    smoothing: Smoothing | None = None,
    stream: Mapping[str, Any] | None = None,
    note: str = "",
) -> Trained:
    """Validate by subject, train on everybody, calibrate, export, and write the sealed bundle to ``out``.

    ``data`` is the KIND:PATH the recordings came from: it decides the labels where none are given, and
    what the model card says of them. ``repeats`` is the number of seeds to validate with; a
    ``validation`` made before, of the same configuration, stands in for it. ``name`` defaults to the folder's.
    ``jobs`` fits of the validation are done at a time. What is finished is kept in the folder ``out`` + ``.work``
    until the bundle is written, so that an interrupted training goes on there. ``logs`` is given the last
    fit's checkpoint, its learning curves and its logs for TensorBoard. ``smoothing`` becomes the bundle's, by
    default ``smoothing_for`` its signal; ``stream`` and ``note`` go to the model card (see ``card``). Raises
    DatasetError as ``prepare`` does, ConfigError for an impossible architecture.
    """
    config = config or FitConfig()
    prepared = prepare(recordings, spec, labels or labels_of_kind(data), seed=config.seed, progress=progress)
    smoothing = smoothing or smoothing_for(prepared.spec)
    work = out.resolve().with_name(f"{out.resolve().name}.work")
    if validation is None:
        validation = cross_validate(
            prepared.training,
            prepared.counted,
            prepared.spec,
            config,
            repeats=repeats,
            int8=True,
            progress=progress,
            jobs=jobs,
            work=work / "validation",
        )
    fitted = fit(
        prepared.training,
        prepared.spec,
        config,
        progress,
        folder=logs or work / "fit",
        tensorboard=logs is not None,
    )
    if logs is not None:
        plot(fitted.history, logs / "curves.png", f"{config.arch}, {data_name(data)}")
    temperature = fit_temperature(*validation.held_out())
    progress("exporting", 0, 1)
    name = name or out.resolve().name
    subjects = sorted(set(prepared.counted.subject.tolist()))
    with tempfile.TemporaryDirectory() as folder:
        keras_path = Path(folder) / bundles.KERAS
        export.save_keras(fitted.model, keras_path)
        inputs = fitted.spec.norm.apply(prepared.training.windows)
        files = export.litert_files(fitted.model, inputs, config.seed)
        bundle = bundles.save(
            out,
            name=name,
            version=version,
            labels=fitted.labels,
            spec=fitted.spec,
            temperature=temperature,
            training=provenance(data, prepared, config, validation, fitted.model.count_params(), files.missing),
            keras_path=keras_path,
            tflite=files.litert,
            int8=files.int8,
            card=card(
                name=name,
                version=version,
                data=data_name(data),
                about=about_kind(data),
                spec=fitted.spec,
                n_subjects=len(subjects),
                n_windows=len(prepared.counted),
                temperature=temperature,
                validation=validation,
                smoothing=smoothing,
                stream=stream,
                note=note,
            ),
            smoothing=smoothing,
        )
    bundle = seal_bundle(bundle)
    _list_missing(bundle)  # sealing may have taken int8 out
    shutil.rmtree(work, ignore_errors=True)
    progress("exporting", 1, 1)
    return Trained(bundle, validation)


def export_again(model: str) -> Bundle:
    """Make the LiteRT files of a bundle anew from its model.keras, and seal it: for another converter.

    ``model`` is a name or a folder. The bundle holds no recording, so int8 is calibrated on made-up
    windows (``export.made_up_windows``). Raises BundleError where the bundle does not load or has no
    model.keras.
    """
    import keras

    bundle = bundles.load(bundles.find(model))
    if bundles.KERAS not in bundle.files:
        raise BundleError(f"{bundle.path}: has no {bundles.KERAS} to export")
    network = keras.saving.load_model(bundle.path / bundles.KERAS, compile=False, safe_mode=True)
    files = export.litert_files(network, bundle.spec.norm.apply(export.made_up_windows(bundle.spec)))
    readme = bundle.path / "README.md"
    with tempfile.TemporaryDirectory() as folder:
        keras_path = Path(folder) / bundles.KERAS
        keras_path.write_bytes(bundle.read(bundles.KERAS))
        bundle = seal_bundle(
            bundles.save(
                bundle.path,
                name=bundle.name,
                version=bundle.version,
                labels=bundle.labels,
                spec=bundle.spec,
                temperature=bundle.temperature,
                training={**bundle.training, "missing": dict(files.missing)},
                keras_path=keras_path,
                tflite=files.litert,
                int8=files.int8,
                card=readme.read_text(encoding="utf-8") if readme.exists() else f"# {bundle.name} {bundle.version}\n",
                smoothing=bundle.smoothing,
            )
        )
    _list_missing(bundle, exported_again=True)
    return bundle


def _list_missing(bundle: Bundle, *, exported_again: bool = False) -> None:
    """Let the model card say which files there are not, and why."""
    path = bundle.path / "README.md"
    text = with_files(path.read_text(encoding="utf-8"), bundle.missing, exported_again=exported_again)
    path.write_text(text, encoding="utf-8")


def provenance(
    data: str,
    prepared: Prepared,
    config: FitConfig,
    validation: CrossValidation,
    n_parameters: int,
    missing: Mapping[str, str],
) -> dict[str, Any]:
    """The ``training`` section of bundle.json: what it takes to do it again, and how good it was.

    ``missing`` says why there is no file of a name (see ``export.LiteRTFiles``).
    """
    return {
        "data": data_name(data),
        "subjects": sorted(set(prepared.counted.subject.tolist())),
        "windows": len(prepared.training),
        "config": config.to_dict(),
        "seed": config.seed,
        "parameters": n_parameters,
        "missing": dict(missing),
        "python": platform.python_version(),
        "libraries": library_versions(),
        "metrics": {key: value for key, value in validation.to_dict().items() if key not in ("config", "runs")},
    }
