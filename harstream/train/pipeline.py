"""Training of a bundle, from recordings to sealed files: the work of ``harstream train`` and ``export``."""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from harstream import bundle as bundles
from harstream import shipped
from harstream.bundle import Bundle
from harstream.classifier import seal_bundle
from harstream.core.label_table import LabelTable
from harstream.core.smoothing_section import Smoothing
from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording
from harstream.errors import BundleError
from harstream.progress import Progress, silent
from harstream.train import export
from harstream.train.card import NOTES, card, with_files, with_notes
from harstream.train.export import LiteRTFiles
from harstream.train.fitting.familiarity import fit_familiar
from harstream.train.fitting.fit import Fitted, fit, with_features
from harstream.train.fitting.history import plot
from harstream.train.fitting.prepare import (
    Prepared,
    data_name,
    data_names,
    each_of,
    labels_wanted,
    library_versions,
    prepare,
    served,
    smoothing_for,
    smoothing_with_states,
)
from harstream.train.fitting.recipe import FitConfig
from harstream.train.validation.cross_validation import BY_SUBJECT, CrossValidation, cross_validate


@dataclass(frozen=True, slots=True)
class Trained:
    """A new bundle and the cross-validation of its config."""

    bundle: Bundle
    validation: CrossValidation


def train(
    recordings: Sequence[Recording],
    out: Path,
    *,
    data: str | Sequence[str],
    table: LabelTable | None = None,
    left_out: Sequence[str] = (),
    spec: SignalSpec | None = None,
    config: FitConfig | None = None,
    folds: str = BY_SUBJECT,
    train_only: Sequence[str] = (),
    repeats: int = 1,
    jobs: int = 1,
    logs: Path | None = None,
    note: str = "",
    states: Sequence[str] = (),
    version: str = "1.0.0",
    placement: str | None = None,
    orientation: str | None = None,
    progress: Progress = silent,
) -> Trained:
    """Validate a config, train on all subjects, calibrate, export, and write the sealed bundle.

    Finished work is kept in the folder ``out`` + ``.work`` until the bundle is written: the same call continues there
    after an interruption.

    Args:
        recordings: Recordings of at least two subjects; of several data sets as ``datasets.sets`` puts them together.
        out: The folder of the bundle, which gets the folder's name.
        data: KIND:PATH of each data set. KIND decides a paragraph of the model card.
        table: The labels, which the segments have already, and what they cover; by default those of the kind of data,
            else all that occur.
        left_out: Sentences for the model card about what was left out of the data.
        spec: The signal; by default that of ``spec_of``.
        config: The recipe; by default the shipped one.
        folds: What the validation holds out together, one of ``cross_validation.FOLDS``.
        train_only: Names of data sets that every fold is trained on, and that are never held out.
        repeats: The number of seeds of the validation.
        jobs: The number of processes of the validation.
        logs: Gets the checkpoint, the learning curves and the TensorBoard logs of the final fit.
        note: A sentence for the model card.
        states: The states between labels to learn as further outputs, such as those of ``states_of``.
        version: Version of the bundle.
        placement: Where the devices were worn, in one line; by default the placements of the recordings.
        orientation: ``fixed`` if a device must lie as in the recordings, else ``any``; by default as the channels say.
        progress: Is called with the name of a step, the number of its units done, and the number of all.

    Raises:
        DatasetError: As ``prepare`` raises it.
        ConfigError: The architecture cannot be built for the signal, or a state does not fit the labels.

    """
    config = config or FitConfig()
    prepared = prepare(
        recordings,
        spec,
        labels_wanted(data, table),
        states=states,
        train_only=train_only,
        seed=config.seed,
        progress=progress,
    )
    work = out.resolve().with_name(f"{out.resolve().name}.work")
    validation = cross_validate(
        prepared,
        config,
        repeats=repeats,
        int8=True,
        progress=progress,
        jobs=jobs,
        work=work / "validation",
        folds=folds,
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
        plot(fitted.history, logs / "curves.png", f"{config.arch}, {data_names(data)}")
    progress("exporting", 0, 1)
    smoothing = smoothing_with_states(fitted.spec, fitted.labels, fitted.states, recordings) if states else None
    placements = sorted({one.placement for one in recordings if one.data_set not in train_only} - {""})
    bundle = write_bundle(
        out,
        fitted,
        prepared,
        config,
        validation,
        data=data,
        table=table,
        left_out=left_out,
        train_only=train_only,
        smoothing=smoothing,
        note=note,
        version=version,
        placement=", ".join(placements) if placement is None else placement,
        orientation=orientation,
    )
    shutil.rmtree(work, ignore_errors=True)
    progress("exporting", 1, 1)
    return Trained(bundle, validation)


def write_bundle(
    out: Path,
    fitted: Fitted,
    prepared: Prepared,
    config: FitConfig,
    validation: CrossValidation,
    *,
    data: str | Sequence[str],
    table: LabelTable | None = None,
    left_out: Sequence[str] = (),
    train_only: Sequence[str] = (),
    smoothing: Smoothing | None = None,
    note: str = "",
    version: str = "1.0.0",
    placement: str = "",
    orientation: str | None = None,
) -> Bundle:
    """Export a trained network and write the sealed bundle with its model card.

    Args:
        out: The folder of the bundle, which gets the folder's name.
        fitted: The network.
        prepared: The windows it was trained on.
        config: The recipe it was trained by.
        validation: The cross-validation, which has the calibration of the bundle.
        data: KIND:PATH of each data set.
        table: What the labels cover; None: their own names.
        left_out: Sentences about what was left out of the data.
        train_only: Names of data sets that were never held out.
        smoothing: The smoothing of the bundle; by default that of ``smoothing_for``.
        note: A sentence for the model card.
        version: Version of the bundle.
        placement: Where the devices were worn, in one line.
        orientation: ``fixed`` or ``any``; by default as the channels say.

    """
    name = out.resolve().name
    calibration = validation.calibration
    smoothing = smoothing or smoothing_for(fitted.spec, by_data=validation.folds == "data")
    familiar = fit_familiar(fitted, prepared.training, config)
    familiar = replace(familiar, limits=calibration.limits)
    network = with_features(fitted.model, calibration.bias)
    inputs = fitted.spec.norm.apply(served(prepared.training, fitted.spec))
    files = export.litert_files(network, inputs, config.seed, fitted.model.output_shape[-1])
    missed, added = (
        (None, None)
        if files.int8 is None
        else export.unfamiliar_differences(network, files.int8, familiar, inputs, config.seed)
    )
    subjects = sorted(set(prepared.training.subject.tolist()))
    names = [data_name(one) for one in each_of(data)]
    training = {
        "data": names[0] if len(names) == 1 else names,
        "subjects": subjects,
        **({"train_only": list(train_only)} if train_only else {}),
        "windows": len(prepared.training),
        "config": config.to_dict(),
        "seed": config.seed,
        "parameters": fitted.model.count_params(),
        "python": platform.python_version(),
        "libraries": library_versions(),
        "int8_missed": missed,
        "int8_added": added,
        "metrics": {key: value for key, value in validation.to_dict().items() if key not in ("config", "runs")},
    }
    text = card(
        name=name,
        version=version,
        data=data,
        left_out=left_out,
        train_only=train_only,
        spec=fitted.spec,
        n_subjects=len(subjects),
        n_windows=len(prepared.scored),
        temperature=calibration.temperature,
        validation=validation,
        smoothing=smoothing,
        note=note,
        states=fitted.states,
        placement=placement,
        orientation=orientation or bundles.orientation_of(fitted.spec),
    )
    with tempfile.TemporaryDirectory() as folder:
        keras_path = Path(folder) / bundles.KERAS
        export.save_keras(network, keras_path)
        return _save_sealed(
            out,
            keras_path,
            files,
            text,
            training,
            name=name,
            version=version,
            labels=fitted.labels,
            states=fitted.states,
            spec=fitted.spec,
            temperature=calibration.temperature,
            smoothing=smoothing,
            covers=None if table is None or table.is_plain else table.only(fitted.labels),
            placement=placement,
            orientation=orientation,
            familiar=familiar,
        )


def export_again(model: str) -> Bundle:
    """Convert the model.keras of a bundle to LiteRT again, such as with a newer converter, and seal the bundle.

    A bundle holds no recordings, so int8 is calibrated on synthetic windows.

    Args:
        model: Name or folder of the bundle.

    Raises:
        BundleError: The bundle cannot be loaded, or it has no model.keras.

    """
    bundle = bundles.load(shipped.find(model))
    if bundles.KERAS not in bundle.files:
        raise BundleError(f"{bundle.path}: export needs {bundles.KERAS}, which the bundle does not have")
    try:
        network = keras.saving.load_model(bundle.path / bundles.KERAS, compile=False, safe_mode=True)
    except Exception as error:  # what Keras raises depends on what is wrong with the file
        raise BundleError(
            f"{bundle.path / bundles.KERAS}: Keras cannot read it: {error}; train the bundle again"
        ) from error
    inputs = bundle.spec.norm.apply(export.synthetic_windows(bundle.spec))
    files = export.litert_files(network, inputs, n_logits=len(bundle.outputs))
    readme = bundle.path / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.exists() else f"# {bundle.name} {bundle.version}\n"
    text = text.partition(NOTES)[0].rstrip() + "\n"
    with tempfile.TemporaryDirectory() as folder:
        keras_path = Path(folder) / bundles.KERAS
        keras_path.write_bytes(bundle.read(bundles.KERAS))
        return _save_sealed(
            bundle.path,
            keras_path,
            files,
            text,
            # The new int8 file was not measured.
            {
                **bundle.training,
                "int8_missed": None,
                "int8_added": None,
                "metrics": {**bundle.training.get("metrics", {}), "int8": None},
            },
            exported_again=True,
            name=bundle.name,
            version=bundle.version,
            labels=bundle.labels,
            states=bundle.states,
            spec=bundle.spec,
            temperature=bundle.temperature,
            smoothing=bundle.smoothing,
            covers=bundle.covers,
            placement=bundle.placement,
            orientation=bundle.orientation,
            familiar=bundle.familiar,
        )


def _save_sealed(
    out: Path,
    keras_path: Path,
    files: LiteRTFiles,
    text: str,
    training: Mapping[str, Any],
    *,
    exported_again: bool = False,
    **fields: Any,
) -> Bundle:
    """Write a bundle, seal it, and list the missing files in its model card ``text``.

    An earlier bundle in ``out`` stays as it was until the new one is complete.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        bundle = bundles.save(
            folder,
            training={**training, "missing": dict(files.missing)},
            keras_path=keras_path,
            tflite=files.litert,
            int8=files.int8,
            card=text,
            **fields,
        )
        bundle = seal_bundle(bundle)  # removes the int8 file if its labels differ on the golden streams
        text = with_files(text, bundle.missing, exported_again=exported_again)
        earlier = out / "README.md"
        text = with_notes(text, earlier.read_text(encoding="utf-8") if earlier.exists() else "")
        (bundle.path / "README.md").write_text(text, encoding="utf-8")
        return bundles.move(bundle, out)
