"""Targets of files: arrays, checkpoints, journals, and bundles."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from harstream import bundle as bundles
from harstream import golden, shipped, storage
from harstream.bundle import Bundle
from harstream.classifier import to_predictions
from harstream.core.batches import Float32, Predictions
from harstream.errors import BundleError, ConfigError
from harstream.serve.durable import folder, journal
from harstream.wire.decoder import Message

from .base import ROWS, SEPARATOR, SPEC, Target, check_line


def run_npz(data: bytes) -> None:
    """Read an archive of arrays."""
    try:
        content = storage.from_npz(data, 2**20)
    except ValueError:
        return
    assert sum(array.nbytes for array in content.values() if isinstance(array, np.ndarray)) <= 2**20


def run_checkpoint(data: bytes) -> None:
    """Read a checkpoint, also one whose checksum is right although its content is not what was written."""
    for content in (data, folder.HEADER + hashlib.sha256(data).digest() + data):
        try:
            facts, arrays = folder.decode(content)
        except (ValueError, ConfigError) as error:
            check_line(str(error))
            continue
        assert isinstance(facts, dict)
        assert isinstance(arrays, dict)


def run_journal(data: bytes) -> None:
    """Read a journal, also one whose records have a right checksum although their content is not what was written."""
    start = journal.HEADER + bytes([7]) + bytes(7)
    sealed = b"".join(
        struct.pack("<BII", content[0] % 5, len(content) - 1, zlib.crc32(content[1:])) + content[1:]
        for content in data.split(SEPARATOR)
        if content
    )
    for content in (data, start + data, start + sealed):
        with suppress(ValueError):
            for record in journal.parse(content, Path("journal"), 7):
                if not isinstance(record, journal.Messages):
                    continue
                for message in record.messages:
                    assert isinstance(message.topic, str)
                    assert 0 <= message.delivery < 2**16


def _checkpoint_seeds() -> tuple[bytes, ...]:
    whole = folder.encode({"position": 3, "last_labels": [["w", "WALKING"]]}, {"a": ROWS, "model": np.array("waist-2")})
    return whole, whole[len(folder.HEADER) + 32 :], storage.to_npz({"facts": ROWS}, {"texts": {}})


def _journal_seeds() -> tuple[bytes, ...]:
    message = Message("wearables/w/imu", b"{}", 1.5, True, delivery=9)
    records: list[journal.Record] = [
        journal.Messages(4, [message, message]),
        journal.Labelled(3),
        journal.Evicted("s", ["w", "v"]),
    ]
    encoded = [journal.encode(record) for record in records]
    return b"".join(encoded), SEPARATOR.join(each[:1] + each[9:] for each in encoded)


@dataclass
class _Predictor:
    """Classifier without a network."""

    bundle: Bundle
    backend: str = "litert"

    def predict_with_features(self, windows: Float32) -> tuple[Predictions, Float32]:
        """Return equal probabilities and no features."""
        n_windows = len(windows)
        return to_predictions(np.zeros((n_windows, 2), np.float32), 1.0), np.zeros((n_windows, 0), np.float32)


@dataclass(frozen=True)
class _HeldBundle(Bundle):
    """Bundle whose golden.npz is in memory."""

    held: bytes = b""

    def read(self, name: str) -> bytes:
        """Return golden.npz."""
        return self.held


_ARRAYS = ("rate_hz", "stream_0", "stream_1", "windows", "probabilities", "labels", "signal", "familiar", "states")


def run_golden(data: bytes) -> None:
    """Verify a bundle with a golden file whose arrays are the parts of ``data``; checksums would hide most changes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, part in zip(_ARRAYS, data.split(SEPARATOR), strict=False):
            archive.writestr(f"{name}.npy", part)
    bundle = _HeldBundle(Path("folder"), "x", "1", ("A", "B"), SPEC, 1.0, {}, held=buffer.getvalue())
    try:
        golden.verify(_Predictor(bundle), (2, 1))
    except BundleError as error:
        check_line(str(error))


def _golden_seed() -> bytes:
    rate_hz, stream = golden.synthetic_stream(SPEC, 0)
    windows = golden.cut_windows(SPEC, rate_hz, stream)
    probabilities = np.full((2 * len(windows), 2), 0.5, np.float32)
    sealed = golden.Golden(
        (rate_hz, rate_hz),
        (stream, stream),
        np.concatenate([windows, windows]),
        probabilities,
        np.zeros((len(probabilities), 0), np.float32),
        ("A", "B"),
        (),
        SPEC.to_dict(),
        "",
    )
    with zipfile.ZipFile(io.BytesIO(sealed.to_bytes())) as archive:
        return SEPARATOR.join(archive.read(f"{name}.npy") for name in _ARRAYS if name != "states")


def run_bundle(data: bytes) -> None:
    """Read the text of bundle.json; one that is accepted can be published, smoothed and written again."""
    try:
        bundle = bundles._parse(Path("folder"), data)
    except BundleError as error:
        check_line(str(error))
        return
    msgspec.json.encode([bundle.id, *bundle.outputs, *bundle.published_labels])
    assert bundle.best_backend
    bundle.smoother()
    assert bundle.table.labels == bundle.labels
    bundle.missing  # noqa: B018 (it must not raise)
    try:
        text = bundles._to_json(bundle)
    except BundleError as error:
        check_line(str(error))
        return
    assert bundles._parse(Path("folder"), text).spec == bundle.spec


def _bundle_seeds() -> tuple[bytes, ...]:
    digest = {"sha256": hashlib.sha256(b"").hexdigest()}
    content: dict[str, Any] = {
        "schema": 2,
        "name": "x",
        "version": "1",
        "labels": ["A", "B"],
        "signal": {"window_samples": 16, "stride_samples": 8},
        "files": {"model.tflite": digest, "golden.npz": digest},
    }
    more = {
        "states": ["A_TO_B"],
        "orientation": "any",
        "placement": "waist",
        "temperature": 0.5,
        "smoothing": {"type": "hmm", "unknown_below": 0.5, "transitions": [[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]]},
        "covers": {"A": ["SITTING", "hapt:STANDING"]},
        "familiar": {"means": [[0.5], [1.5]], "whitening": [[1.0]], "max_distance": 9, "max_energy": -1.5},
        "training": {"missing": {"model.int8.tflite": "no"}, "int8_missed": 0.1, "metrics": {"int8": {}}},
    }
    shortest = min((folder / "bundle.json" for folder in shipped.folders()), key=lambda path: path.stat().st_size)
    return _to_bytes(content), _to_bytes(content | more), shortest.read_bytes()


def _to_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


TARGETS = {
    "npz": Target(
        run_npz,
        (
            storage.to_npz({"a": ROWS, "names": np.array(["x", "yz"]), "n": np.array(7)}, {"v": {"k": [1]}}),
            storage.to_npz({"a": ROWS.T, "flags": np.zeros((0, 2), np.bool_)}, {"v": "text"}, compress=False),
        ),
    ),
    "checkpoint": Target(run_checkpoint, _checkpoint_seeds()),
    "journal": Target(run_journal, _journal_seeds()),
    "golden": Target(run_golden, (_golden_seed(),)),
    "bundle": Target(run_bundle, _bundle_seeds()),
}
