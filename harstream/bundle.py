"""Model bundle: a folder that holds everything that serving needs to know about training.

``bundle.json`` defines the signal, the labels, the smoothing and the model files with their hashes. No command line
option repeats any of it. Nothing in a bundle is executed: arrays load without pickle, Keras files in safe mode.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harstream import checks, storage
from harstream.core.familiar import Familiar
from harstream.core.label_table import LabelTable
from harstream.core.labels import UNKNOWN
from harstream.core.smoothing import Smoother
from harstream.core.smoothing_section import Smoothing
from harstream.core.spec import SignalSpec
from harstream.errors import BundleError, ConfigError, one_line
from harstream.int8 import Int8Figures

SCHEMA = 2  # of the bundles written; 1 had neither placement, orientation, states nor familiar
READABLE = (1, 2)
KERAS, LITERT, INT8, GOLDEN = "model.keras", "model.tflite", "model.int8.tflite", "golden.npz"
MODEL_FILES = (KERAS, LITERT, INT8)
#: Limits of the files' sizes in bytes. Models of this kind have up to some million bytes, and the largest part of
#: bundle.json is a square matrix with a row for each feature of the network.
_MAX_BYTES = {"bundle.json": 2**25, GOLDEN: 2**24, **dict.fromkeys(MODEL_FILES, 2**28)}
#: The file that each backend computes.
BACKEND_FILES = {"litert": LITERT, "int8": INT8, "tensorflow": KERAS}
_TOO_DEEP = "lists and objects lie too deep inside each other; restore the file"
ORIENTATIONS = ("fixed", "any")
#: List of numbers in indented JSON, which bundle.json holds in one line: a matrix is read by its rows.
_LIST_OF_NUMBERS = re.compile(r"\[\n[-+.,\deE\s]*\]")


@dataclass(frozen=True, slots=True)
class Bundle:
    """The content of a bundle's ``bundle.json``. After ``load``, the files exist and have the hashes given here."""

    path: Path  # the folder
    name: str
    version: str
    labels: tuple[str, ...]  # (n_labels,) in the order of the network's first outputs
    spec: SignalSpec  # of the windows the network was trained on
    temperature: float  # the logits are divided by it, which calibrates the probabilities
    files: Mapping[str, str]  # file name to sha256, in hexadecimal
    training: Mapping[str, Any] = field(default_factory=dict)  # provenance: data, subjects, seed, versions, metrics
    smoothing: Smoothing = Smoothing()  # of the labels over time; the default is none
    covers: LabelTable | None = None  # activities of data sets that each label covers; None: those of its own name
    states: tuple[str, ...] = ()  # (n_states,) further outputs: what lies between labels and is published as UNKNOWN
    placement: str = ""  # of the device, one line of text for people; empty: not known
    orientation: str = "fixed"  # one of ORIENTATIONS: whether a device must lie as in training, or may lie in any way
    familiar: Familiar | None = None  # what tells signals unlike the training data

    @property
    def id(self) -> str:
        """Name and version, such as ``waist@1.0.0``: the ``model`` of a published label."""
        return f"{self.name}@{self.version}"

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs of the network in their order: the labels, then the states."""
        return (*self.labels, *self.states)

    @property
    def sensors(self) -> tuple[str, ...]:
        """The sensors that a device must have, as the signal decides: ``acc``, and ``gyro`` if it is used."""
        return ("acc", "gyro") if self.spec.uses_gyro else ("acc",)

    @property
    def published_labels(self) -> tuple[str, ...]:
        """The labels, followed by UNKNOWN, so that index -1 (``UNKNOWN_INDEX``) names UNKNOWN."""
        return (*self.labels, UNKNOWN)

    @property
    def table(self) -> LabelTable:
        """The activities that each label covers when the model is evaluated, in the order of the labels."""
        return (self.covers or LabelTable.plain(self.labels)).only(self.labels)

    @property
    def missing(self) -> Mapping[str, str]:
        """The reasons why training could not make a model file, by the file's name."""
        missing = self.training.get("missing", {})
        reasons = missing.items() if isinstance(missing, dict) else ()
        return {name: one_line(reason) for name, reason in reasons if isinstance(reason, str)}

    @property
    def best_backend(self) -> str:
        """The fastest backend that the bundle has and that is about as right as float32, by the bundle's training."""
        only = {KERAS, LITERT}.isdisjoint(self.files)
        good = only or self.int8.is_as_right(tells_unfamiliar=self.familiar is not None)
        return "int8" if INT8 in self.files and good else self.float_backend

    @property
    def float_backend(self) -> str:
        """The fastest backend in float32 that the bundle has."""
        return "litert" if LITERT in self.files else "tensorflow"

    @property
    def int8(self) -> Int8Figures:
        """The figures of int8 that training measured."""
        return Int8Figures.of(self.training)

    def smoother(self, smoothing: Smoothing | None = None) -> Smoother:
        """Return a new smoother for the bundle's labels, with ``smoothing`` in place of the bundle's own if given."""
        stride_s = self.spec.stride_samples / self.spec.sample_rate_hz
        return Smoother(smoothing or self.smoothing, len(self.labels), stride_s, len(self.states))

    def read(self, name: str) -> bytes:
        """Return the content of a file of the bundle.

        Raises:
            BundleError: The file cannot be read, or its hash is no longer the one in bundle.json.

        """
        data = _read(self.path / name)
        _check_hash(self.path / name, data, self.files[name])
        return data


def orientation_of(spec: SignalSpec) -> str:
    """Return ``any`` if windows are the same however a device lies, else ``fixed``: it must lie as in training.

    A network may have learnt more than its channels say, such as from windows turned by any angle.
    """
    return "any" if spec.orientation_free else "fixed"


def load(directory: Path | str) -> Bundle:
    """Read a bundle and check every field of bundle.json and the hash of every file.

    Raises:
        BundleError: A file is missing or has another hash, or a field of bundle.json is missing or wrong.

    """
    path = Path(directory)
    bundle = _parse(path, _read(path / "bundle.json"))
    if GOLDEN not in bundle.files:
        raise BundleError(f"{path / 'bundle.json'}: files: {GOLDEN} is missing; train or export the bundle again")
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
    covers: LabelTable | None = None,
    states: tuple[str, ...] = (),
    placement: str = "",
    orientation: str | None = None,
    familiar: Familiar | None = None,
) -> Bundle:
    """Write a bundle without golden streams. It cannot be loaded until ``classifier.seal_bundle`` adds them.

    Args:
        directory: The folder to write to. The files of an earlier bundle in it are removed.
        name: Name of the bundle.
        version: Version of the bundle.
        labels: In the order of the network's first outputs.
        spec: The signal that the network was trained on.
        temperature: Divisor of the logits.
        training: Provenance, any JSON values.
        keras_path: A .keras file to copy, or None.
        tflite: A float32 LiteRT model, or None.
        int8: An int8 LiteRT model, or None.
        card: The text of README.md.
        smoothing: None publishes each window's own label.
        covers: Activities of data sets that the labels cover; None: those of their own names.
        states: The outputs of the network after the labels.
        placement: Where the device is worn, in one line.
        orientation: One of ORIENTATIONS; None: that of ``orientation_of``.
        familiar: What tells signals unlike the training data, or None. The outputs of the network then have its
            features after the logits.

    Raises:
        BundleError: No model was given, or a field has a value that is not allowed. An earlier bundle stays as it was.

    """
    path = Path(directory)
    given = {KERAS: None if keras_path is None else _read(keras_path), LITERT: tflite, INT8: int8}
    models = {file: data for file, data in given.items() if data is not None}
    if not models:
        raise BundleError(f"{path}: a bundle needs a model: keras_path, tflite or int8")
    bundle = Bundle(
        path,
        name,
        version,
        tuple(labels),
        spec,
        float(temperature),
        {file: _sha256(data) for file, data in models.items()},
        dict(training),
        smoothing or Smoothing(),
        covers,
        tuple(states),
        placement,
        orientation or orientation_of(spec),
        familiar,
    )
    content = _to_json(bundle)
    bundle = _parse(path, content)  # raises before anything of an earlier bundle is removed
    contents = {**models, "README.md": card.encode(), "bundle.json": content}
    path.mkdir(parents=True, exist_ok=True)
    for stale in ("bundle.json", *MODEL_FILES, GOLDEN):
        (path / stale).unlink(missing_ok=True)
    for file, data in contents.items():
        (path / file).write_bytes(data)
    return bundle


def move(bundle: Bundle, directory: Path) -> Bundle:
    """Move the files of a bundle to another folder on the same disk, in place of those of an earlier bundle there."""
    directory.mkdir(parents=True, exist_ok=True)
    for stale in ("bundle.json", *MODEL_FILES, GOLDEN):
        (directory / stale).unlink(missing_ok=True)
    for name in (*bundle.files, "README.md", "bundle.json"):
        (bundle.path / name).replace(directory / name)
    return dataclasses.replace(bundle, path=directory)


def add_file(bundle: Bundle, name: str) -> Bundle:
    """Add a file that is already in the bundle's folder to bundle.json, and return the changed bundle."""
    changed = dataclasses.replace(bundle, files={**bundle.files, name: _sha256(_read(bundle.path / name))})
    _write(changed)
    return changed


def drop_file(bundle: Bundle, name: str, reason: str) -> Bundle:
    """Remove a model file from bundle.json and the folder, and return the bundle; ``missing`` gives the reason."""
    files = {file: digest for file, digest in bundle.files.items() if file != name}
    training = {**bundle.training, "missing": {**bundle.missing, name: reason}}
    changed = dataclasses.replace(bundle, files=files, training=training)
    _write(changed)
    (bundle.path / name).unlink(missing_ok=True)
    return changed


def _write(bundle: Bundle) -> None:
    (bundle.path / "bundle.json").write_bytes(_to_json(bundle))


def _to_json(bundle: Bundle) -> bytes:
    """Return the text of bundle.json. Raise BundleError if ``training``, which may hold anything, is too deep."""
    data = {
        "schema": SCHEMA,
        "name": bundle.name,
        "version": bundle.version,
        "sensors": list(bundle.sensors),
        "placement": bundle.placement,
        "orientation": bundle.orientation,
        "labels": list(bundle.labels),
        **({"states": list(bundle.states)} if bundle.states else {}),
        "signal": bundle.spec.to_dict(),
        "temperature": bundle.temperature,
        "smoothing": bundle.smoothing.to_dict(),
        **({} if bundle.covers is None else {"covers": bundle.covers.to_dict()}),
        **({} if bundle.familiar is None else {"familiar": bundle.familiar.to_dict()}),
        "files": {name: {"sha256": digest} for name, digest in bundle.files.items()},
        "training": dict(bundle.training),
    }
    try:
        text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    except RecursionError as error:
        raise BundleError(f"{bundle.path / 'bundle.json'}: training: {_TOO_DEEP}") from error
    text = _LIST_OF_NUMBERS.sub(lambda found: re.sub(r"\s+", " ", found[0]).replace("[ ", "[").replace(" ]", "]"), text)
    return text.encode(errors="backslashreplace")  # half a surrogate pair becomes its escape in JSON


def _parse(path: Path, text: bytes) -> Bundle:
    """Return the bundle in folder ``path`` with the given text of bundle.json. Raise BundleError if it is wrong."""
    where = path / "bundle.json"
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where}: not JSON: {one_line(error)}") from error
    try:
        return _from_dict(path, data)
    except ConfigError as error:
        raise BundleError(f"{where}: {one_line(error)}") from error
    except RecursionError as error:
        raise BundleError(f"{where}: {_TOO_DEEP}") from error


def _from_dict(path: Path, value: Any) -> Bundle:
    """Return the bundle that the content of bundle.json defines. Raise ConfigError if a field is missing or wrong.

    Fields that this version does not know are ignored: they come from later versions.
    """
    data = checks.mapping(value, "content")
    if type(data.get("schema")) is not int or data["schema"] not in READABLE:
        readable = " and ".join(map(str, READABLE))
        raise ConfigError(f"schema: got {data.get('schema')!r}, this version of harstream reads only {readable}")
    for key in ("name", "version", "labels", "signal", "files"):
        if key not in data:
            raise ConfigError(f"field {key!r} is missing")
    labels = _names(data["labels"], "labels", 2)
    states = _names(data.get("states", []), "states", 0)
    _names([*labels, *states], "labels and states", 2)
    try:
        spec = SignalSpec.from_dict(data["signal"])
    except ConfigError as error:
        raise ConfigError(f"signal: {error}") from error
    smoothing = Smoothing.from_dict(data.get("smoothing", {"type": "none"}))
    smoothing.check_outputs(len(labels), len(states))
    bundle = Bundle(
        path=path,
        name=checks.text(data["name"], "name"),
        version=checks.text(data["version"], "version"),
        labels=labels,
        spec=spec,
        temperature=checks.number(data.get("temperature", 1.0), "temperature", minimum=0.01, maximum=100),
        files=_digests(data["files"]),
        training=checks.mapping(data.get("training", {}), "training"),
        smoothing=smoothing,
        covers=_covers(data.get("covers"), labels),
        states=states,
        placement=checks.line(data.get("placement", ""), "placement"),
        orientation=checks.choice(data.get("orientation", orientation_of(spec)), "orientation", ORIENTATIONS),
        familiar=_familiar(data.get("familiar"), len(labels) + len(states)),
    )
    sensors = data.get("sensors", list(bundle.sensors))
    if sensors != list(bundle.sensors):
        raise ConfigError(
            f"sensors: got {sensors!r}, but the channels and filters of the signal need {list(bundle.sensors)}; "
            "correct sensors or remove it"
        )
    return bundle


def _covers(value: Any, labels: tuple[str, ...]) -> LabelTable | None:
    """Return the table of the field ``covers``, which is optional."""
    if value is None:
        return None
    try:
        table = LabelTable.from_dict(value)
        for label in table.labels:
            checks.choice(label, "label", labels)
        table.only(labels)  # raises if another label has a name that is covered
    except ConfigError as error:
        raise ConfigError(f"covers: {error}") from error
    return table


def _familiar(value: Any, n_outputs: int) -> Familiar | None:
    """Return the content of the field ``familiar``, which is optional."""
    if value is None:
        return None
    familiar = Familiar.from_dict(checks.mapping(value, "familiar"))
    if len(familiar.means) > n_outputs:
        raise ConfigError(
            f"familiar.means: got {len(familiar.means)} rows, but there are {n_outputs} labels and states: expected a "
            "row for each that was trained on; restore the field, or train the bundle again"
        )
    return familiar


def _names(value: Any, where: str, minimum: int) -> tuple[str, ...]:
    """Return the names of outputs. Raise ConfigError if they are fewer than ``minimum``, equal or not allowed."""
    names = checks.names(value, where, minimum)
    if UNKNOWN in names:
        raise ConfigError(f"{where}: {UNKNOWN!r} is published when harstream abstains; choose another name")
    return names


def _digests(value: Any) -> dict[str, str]:
    """Return file name to sha256, given the ``files`` of bundle.json."""
    digests = {}
    for name, entry in checks.mapping(value, "files").items():
        checks.choice(name, "files", (*MODEL_FILES, GOLDEN))
        digests[name] = checks.text(checks.mapping(entry, f"files.{name}").get("sha256"), f"files.{name}.sha256")
    if not any(name in digests for name in MODEL_FILES):
        raise ConfigError(f"files: expected at least one of {', '.join(MODEL_FILES)}, got {list(digests)}")
    return digests


def _read(path: Path) -> bytes:
    try:
        return storage.read_file(path, _MAX_BYTES.get(path.name, _MAX_BYTES[KERAS]))
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _check_hash(path: Path, data: bytes, digest: str) -> None:
    if _sha256(data) != digest:
        raise BundleError(
            f"{path}: sha256 is {_sha256(data)}, but bundle.json has {digest}: the file was changed or damaged; "
            "restore the file"
        )
