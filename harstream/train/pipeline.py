"""From recordings to a bundle: what ``harstream train`` does."""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from harstream import bundle as bundles
from harstream.bundle import Bundle
from harstream.classifier import seal_bundle
from harstream.core.smoothing import Smoothing
from harstream.core.spec import DEFAULT_CHANNELS, GYRO, SignalSpec
from harstream.datasets import base, windows
from harstream.datasets.base import Recording
from harstream.datasets.windows import LabelledWindows
from harstream.errors import BundleError, DatasetError
from harstream.train import export
from harstream.train.card import card, with_files
from harstream.train.fitting import history as curves
from harstream.train.fitting.fit import FitConfig, Progress, fit, fit_temperature, silent
from harstream.train.validation.cross_validation import CrossValidation, cross_validate, folds_of
from harstream.train.validation.task import data_name

#: What makes the labels of a new bundle steady: chosen by ``smoothing_study``, see docs/results/streaming.md.
DEFAULT_SMOOTHING = Smoothing("hmm", unknown_below=0.5, unknown_dwell_s=1.0, fixed_lag_windows=2)
#: For the model card of recordings that are nobody's known data set.
_ABOUT_OWN = """\
Recordings of whoever ran `harstream train`.

Placement of the device, source and licence: not known to harstream. Write them here before passing the model on."""
LIBRARIES = ("numpy", "scipy", "tensorflow", "keras")


@dataclass(frozen=True, slots=True)
class Trained:
    bundle: Bundle
    validation: CrossValidation


@dataclass(frozen=True, slots=True)
class Prepared:
    """The windows of a training: those trained on, cut densely, and those counted, as served."""

    spec: SignalSpec
    training: LabelledWindows
    counted: LabelledWindows


def spec_of(recordings: Sequence[Recording], fields: Mapping[str, Any] | None = None) -> SignalSpec:
    """The signal to train for where only ``fields`` of its section are given, or none.

    The rate is the recordings', the window 128 samples, the stride 64, the channels all nine, or the
    six without gyroscope where one was recorded without. Raises ConfigError for impossible
    ``fields``, DatasetError where the rates differ and none is given.
    """
    known = dict(fields or {})
    if "sample_rate_hz" not in known:
        known["sample_rate_hz"] = windows.rate_of(recordings)
    if "channels" not in known and not all(recording.has_gyro for recording in recordings):
        known["channels"] = [channel for channel in DEFAULT_CHANNELS if channel not in GYRO]
    return SignalSpec.from_dict(known)


def smoothing_for(spec: SignalSpec) -> Smoothing:
    """DEFAULT_SMOOTHING, drawn out where windows are due more rarely than those it was chosen for, 1.28 s apart."""
    stride_s = spec.stride_samples / spec.sample_rate_hz
    return replace(
        DEFAULT_SMOOTHING,
        dwell_s=max(DEFAULT_SMOOTHING.dwell_s, round(3.9 * stride_s, 3)),
        unknown_dwell_s=max(DEFAULT_SMOOTHING.unknown_dwell_s, round(0.78 * stride_s, 3)),
        fixed_lag_windows=DEFAULT_SMOOTHING.fixed_lag_windows if stride_s <= 2 else 1,
    )


def prepare(
    recordings: Sequence[Recording],
    spec: SignalSpec | None = None,
    labels: Sequence[str] | None = None,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Prepared:
    """Cut all windows, without ``spec`` as ``spec_of`` says.

    ``labels`` are those to learn, in the order of the outputs; without, all that occur. Those of which no
    window is found are left out. Raises DatasetError where the rates differ and no spec says which to
    take, where fewer than two labels have windows, or fewer than two subjects.
    """
    spec = spec or spec_of(recordings)
    wanted = tuple(labels or windows.labels_of(recordings))
    progress("cutting windows", 0, 1)
    counted = windows.cut(windows.whole(recordings), spec, wanted)
    found = tuple(label for index, label in enumerate(wanted) if (counted.label == index).any())
    if len(found) < 2:
        raise DatasetError(
            f"two labels with windows are needed, found {len(found)} of {', '.join(wanted)}: "
            f"no stretch of another is as long as a window of {spec.window_samples} samples"
        )
    folds_of(counted.subject.tolist(), 2, seed)  # refuses too few subjects before the long part
    if found != wanted:
        counted = windows.cut(windows.whole(recordings), spec, found)
    training = windows.cut(windows.restarted(recordings, spec, seed), spec, found)
    progress("cutting windows", 1, 1)
    return Prepared(spec, training, counted)


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
        curves.plot(fitted.history, logs / "curves.png", f"{config.arch}, {data_name(data)}")
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
        "libraries": {library: version_of(library) for library in LIBRARIES},
        "metrics": {key: value for key, value in validation.to_dict().items() if key not in ("config", "runs")},
    }


def labels_of_kind(data: str) -> tuple[str, ...] | None:
    """The labels that a KIND of data is trained on by default: its module's LABELS, if it has any."""
    return getattr(_module(data), "LABELS", None)


def about_kind(data: str) -> str:
    """What a KIND of data is and whose, for the model card: its module's ABOUT, if it has any."""
    return str(getattr(_module(data), "ABOUT", _ABOUT_OWN))


def _module(data: str) -> Any:
    kind = data.partition(":")[0]
    return import_module(base.KINDS[kind]) if kind in base.KINDS else None
