"""CONTRACT 1: the model bundle, a directory that says all that serving must know of training.

``bundle.json`` names the signal, the labels and the model files with their hashes. Nothing in a bundle
is code: arrays load without pickle, Keras files in safe mode.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harstream.core.labels import UNKNOWN as UNKNOWN
from harstream.core.smoothing import Smoother, Smoothing
from harstream.core.spec import SignalSpec
from harstream.errors import BundleError, ConfigError

SCHEMA = 1
KERAS, LITERT, INT8, GOLDEN = "model.keras", "model.tflite", "model.int8.tflite", "golden.npz"
MODEL_FILES = (KERAS, LITERT, INT8)
#: The file that each backend computes.
BACKEND_FILES = {"litert": LITERT, "int8": INT8, "tensorflow": KERAS}
DEFAULT_MODEL = "waist"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle read from ``path``; its files are there and have the hashes it gives."""

    path: Path
    name: str
    version: str
    labels: tuple[str, ...]  # in the order of the network's outputs
    spec: SignalSpec
    temperature: float  # the logits are divided by it: calibrated probabilities
    files: Mapping[str, str]  # file name to sha256
    training: Mapping[str, Any] = field(default_factory=dict)  # provenance: data, subjects, seed, versions, metrics
    smoothing: Smoothing = Smoothing()  # what makes its labels steady; none in bundles that do not say

    @property
    def id(self) -> str:
        """``waist@1.0.0``: the ``model`` of a published label."""
        return f"{self.name}@{self.version}"

    @property
    def published_labels(self) -> tuple[str, ...]:
        """The labels and UNKNOWN behind them, so that index -1 (``UNKNOWN_INDEX``) names UNKNOWN."""
        return (*self.labels, UNKNOWN)

    @property
    def missing(self) -> Mapping[str, str]:
        """Why the training could not make a model file, by its name."""
        missing = self.training.get("missing", {})
        return missing if isinstance(missing, dict) else {}

    def smoother(self, smoothing: Smoothing | None = None) -> Smoother:
        """A new smoother of its labels, by ``smoothing`` or, without, by its own definition."""
        stride_s = self.spec.stride_samples / self.spec.sample_rate_hz
        return Smoother(smoothing or self.smoothing, len(self.labels), stride_s)

    def read(self, name: str) -> bytes:
        """A file of the bundle, checked against its hash again. Raises BundleError."""
        data = _read(self.path / name)
        _check_hash(self.path / name, data, self.files[name])
        return data


def shipped() -> list[Path]:
    """The bundles that come with harstream, the default first."""
    here = Path(__file__).resolve().parent
    # In a wheel they lie inside the package, in a checkout beside it.
    for folder in (here / "models", here.parent / "models"):
        found = [path.parent for path in folder.glob("*/bundle.json")]
        if found:
            return sorted(found, key=lambda path: (path.name != DEFAULT_MODEL, path.name))
    return []


def find(model: str) -> Path:
    """The directory of ``--model NAME|DIR``. Raises BundleError where there is none."""
    names = {path.name: path for path in shipped()}
    if model in names:
        return names[model]
    with suppress(OSError):  # a folder we may not look into
        if (Path(model) / "bundle.json").is_file():
            return Path(model)
    known = ", ".join(names) or "none is installed"
    raise BundleError(f"model {model!r}: neither a folder with a bundle.json nor a shipped model ({known})")


def load(directory: Path | str) -> Bundle:
    """Read and check a bundle: schema, signal section, presence and hash of every file.

    Raises BundleError, naming the field and both values.
    """
    path = Path(directory)
    bundle = _parse(path, _read(path / "bundle.json"))
    if GOLDEN not in bundle.files:
        raise BundleError(f"{path / 'bundle.json'}: files: {GOLDEN} is missing")
    for name, digest in bundle.files.items():
        _check_hash(path / name, _read(path / name), digest)
    return bundle


def save(
    directory: Path | str,
    *,
    name: str,
    version: str,
    labels: tuple[str, ...],
    spec: SignalSpec,
    temperature: float,
    training: Mapping[str, Any],
    keras_path: Path | None,
    tflite: bytes | None,
    int8: bytes | None,
    card: str,
    smoothing: Smoothing | None = None,
) -> Bundle:
    """Write a bundle without its golden streams: ``classifier.seal_bundle`` adds them, and until then it does not load.

    ``card`` is the text of its README.md, ``keras_path`` a file to copy; without ``smoothing``, labels are each
    window's own. Raises BundleError where no model is given.
    """
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    for stale in (*MODEL_FILES, GOLDEN, "bundle.json"):
        (path / stale).unlink(missing_ok=True)
    if keras_path is not None:
        shutil.copyfile(keras_path, path / KERAS)
    for file_name, data in ((LITERT, tflite), (INT8, int8)):
        if data is not None:
            (path / file_name).write_bytes(data)
    (path / "README.md").write_text(card, encoding="utf-8")
    files = {file: _sha256((path / file).read_bytes()) for file in MODEL_FILES if (path / file).exists()}
    if not files:
        raise BundleError(f"{path}: a bundle needs a model")
    bundle = Bundle(path, name, version, tuple(labels), spec, float(temperature), files, dict(training))
    bundle = dataclasses.replace(bundle, smoothing=smoothing or Smoothing())
    _write(bundle)
    return _parse(path, _read(path / "bundle.json"))


def add_file(bundle: Bundle, name: str) -> Bundle:
    """Enter a file that now lies in the bundle's directory."""
    files = {**bundle.files, name: _sha256(_read(bundle.path / name))}
    whole = dataclasses.replace(bundle, files=files)
    _write(whole)
    return whole


def drop_file(bundle: Bundle, name: str, reason: str) -> Bundle:
    """Take a model file out of the bundle and its directory; ``missing`` then has the reason."""
    files = {file: digest for file, digest in bundle.files.items() if file != name}
    training = {**bundle.training, "missing": {**bundle.missing, name: reason}}
    rest = dataclasses.replace(bundle, files=files, training=training)
    _write(rest)
    (bundle.path / name).unlink(missing_ok=True)
    return rest


def _write(bundle: Bundle) -> None:
    data = {
        "schema": SCHEMA,
        "name": bundle.name,
        "version": bundle.version,
        "labels": list(bundle.labels),
        "signal": bundle.spec.to_dict(),
        "temperature": bundle.temperature,
        "smoothing": bundle.smoothing.to_dict(),
        "files": {name: {"sha256": digest} for name, digest in bundle.files.items()},
        "training": dict(bundle.training),
    }
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    (bundle.path / "bundle.json").write_text(text, encoding="utf-8")


def _parse(path: Path, text: bytes) -> Bundle:
    where = path / "bundle.json"

    def check(holds: bool, message: str) -> None:
        if not holds:
            raise BundleError(f"{where}: {message}")

    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where}: not JSON: {error}") from error
    check(isinstance(data, dict), "expected an object")
    check(data.get("schema") == SCHEMA, f"schema is {data.get('schema')!r}, this harstream reads {SCHEMA}")
    for key in ("name", "version", "labels", "signal", "files"):
        check(key in data, f"field {key!r} is missing")
    for key in ("name", "version"):
        check(isinstance(data[key], str) and data[key] != "", f"{key}: expected a text, got {data[key]!r}")
    labels = data["labels"]
    check(isinstance(labels, list) and all(isinstance(label, str) for label in labels), "labels: expected texts")
    check(len(labels) >= 2 and len(set(labels)) == len(labels), "labels: at least two, all different, are needed")
    check(UNKNOWN not in labels, f"labels: {UNKNOWN!r} is what harstream says when it abstains")
    files = data["files"]
    check(isinstance(files, dict), "files: expected an object")
    for name, entry in files.items():
        check(name in (*MODEL_FILES, GOLDEN), f"files: {name!r} is not a file of a bundle")
        check(isinstance(entry, dict) and isinstance(entry.get("sha256"), str), f"files: {name} has no sha256")
    check(any(name in files for name in MODEL_FILES), f"files: none of {', '.join(MODEL_FILES)}")
    temperature = data.get("temperature", 1.0)
    numeric = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    check(numeric and 0.01 <= temperature <= 100, f"temperature: {temperature!r} is not between 0.01 and 100")
    training = data.get("training", {})
    check(isinstance(training, dict), "training: expected an object")
    try:
        spec = SignalSpec.from_dict(data["signal"])
    except ConfigError as error:
        raise BundleError(f"{where}: signal: {error}") from error
    try:
        smoothing = Smoothing.from_dict(data.get("smoothing", {"type": "none"}))
        smoothing.check_labels(len(labels))
    except ConfigError as error:
        raise BundleError(f"{where}: {error}") from error
    digests = {name: entry["sha256"] for name, entry in files.items()}
    return Bundle(
        path, data["name"], data["version"], tuple(labels), spec, float(temperature), digests, training, smoothing
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror or error}") from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _check_hash(path: Path, data: bytes, digest: str) -> None:
    if _sha256(data) != digest:
        raise BundleError(f"{path}: sha256 is {_sha256(data)}, bundle.json says {digest}")
