"""State folder: the checkpoints of a daemon and the journals that follow them.

    lock                       held by the daemon that uses the folder
    checkpoint-00000007        state after the last message of journal 6
    journal-00000007           messages after checkpoint 7

Each checkpoint is written aside, synchronised, and renamed. The one before it stays with its journal, so that damage to
the newest one costs time, not labels.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harstream.errors import ConfigError
from harstream.serve.durable import journal
from harstream.storage import from_npz, read_file, replace_file, to_npz

log = logging.getLogger("harstream")

#: First bytes of a checkpoint, with the version of its format. The SHA-256 of what follows it comes next.
HEADER = b"harstream checkpoint 2\n"
_DIGEST_BYTES = 32
#: Size above which a file is no checkpoint, bytes.
MAX_BYTES = 2**32
#: Checkpoints that are kept: the newest, and the last good one before it.
KEPT = 2
_NAME = re.compile(r"(checkpoint|journal)-(\d{8,})")


class OtherFormatError(ValueError):
    """A file was written by a version of harstream with another format."""


def encode(facts: Mapping[str, Any], arrays: Mapping[str, Any]) -> bytes:
    """Return a checkpoint as bytes."""
    texts = {name: str(array) for name, array in arrays.items() if array.dtype.kind == "U" and not array.ndim}
    numbers = {name: array for name, array in arrays.items() if name not in texts}
    body = to_npz(numbers, {"facts": facts, "texts": texts}, compress=False)
    return HEADER + hashlib.sha256(body).digest() + body


def decode(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the facts and the arrays of a checkpoint.

    Raises:
        OtherFormatError: It was written by a version with another format.
        ValueError: The data is damaged.

    """
    start = len(HEADER)
    if data[:start] != HEADER:
        if data.startswith(HEADER.rpartition(b" ")[0]):
            raise OtherFormatError(
                f"it has the format {data[:start].partition(chr(10).encode())[0].decode(errors='replace')!r}, but this "
                f"version of harstream reads {HEADER.decode().strip()!r}"
            )
        raise ValueError("it does not begin like a checkpoint")
    body = memoryview(data)[start + _DIGEST_BYTES :]
    if hashlib.sha256(body).digest() != data[start : start + _DIGEST_BYTES]:
        raise ValueError("its checksum is wrong")
    arrays = from_npz(bytes(body), max_bytes=len(body))  # it is what was written, however many devices there are
    facts, texts = arrays.pop("facts", None), arrays.pop("texts", None)
    if not isinstance(facts, dict) or not isinstance(texts, dict):
        raise ValueError("it has no facts or no texts")
    return facts, arrays | {name: np.array(text) for name, text in texts.items()}


class StateFolder:
    """The folder of ``--state-dir``, locked until ``close``.

    Raises:
        ConfigError: The folder cannot be made or written, or another daemon uses it.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = (path / "lock").open("a")
        except OSError as error:
            raise ConfigError(f"state-dir: {path}: {error.strerror}; choose a folder that can be written") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise ConfigError(
                f"state-dir: another daemon uses {path}; stop it, or give this one a folder of its own"
            ) from error
        for unfinished in path.glob("*.tmp"):
            unfinished.unlink()

    def close(self) -> None:
        """Unlock the folder."""
        self._lock.close()

    def load(self) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
        """Return generation, facts and arrays of the newest checkpoint that is not damaged; None in a new folder.

        Raises:
            ConfigError: No checkpoint can be read although there are some, or one has another format.

        """
        generations = sorted(self._generations("checkpoint"), reverse=True)
        for generation in generations:
            path = self._checkpoint(generation)
            try:
                facts, arrays = decode(read_file(path, MAX_BYTES))
            except OtherFormatError as error:
                raise ConfigError(
                    f"state-dir: {path}: {error}; start the version that wrote it, or move the folder away and begin "
                    "without state"
                ) from error
            except (OSError, ValueError) as error:
                log.warning("state-dir: %s is damaged (%s); an older checkpoint is used if there is one", path, error)
                continue
            return generation, facts, arrays
        if generations:
            raise ConfigError(
                f"state-dir: no checkpoint in {self.path} can be read; restore the folder from a copy, or move it away "
                "and begin without state"
            )
        return None

    def records(self, generation: int) -> Iterator[journal.Record]:
        """Yield what came after the checkpoint of a generation, from its journal and the later ones.

        Raises:
            ConfigError: A journal cannot be read.

        """
        for number in sorted(self._generations("journal")):
            if number >= generation:
                path = self._journal(number)
                try:
                    yield from journal.read(path, number)
                except (OSError, ValueError) as error:
                    raise ConfigError(
                        f"state-dir: {path}: {error}; restore the folder from a copy, or move it away and begin "
                        "without state"
                    ) from error

    def new_generation(self) -> int:
        """Return a generation that no file has yet."""
        return 1 + max([0, *self._generations("checkpoint"), *self._generations("journal")])

    def open_journal(self, generation: int) -> journal.JournalWriter:
        """Create the journal of a generation.

        Raises:
            OSError: It cannot be created.

        """
        writer = journal.JournalWriter(self._journal(generation), generation)
        self._sync()
        return writer

    def save(self, generation: int, data: bytes) -> None:
        """Write the checkpoint of a generation, and delete what is not needed any more.

        Raises:
            OSError: It cannot be written; those before it stay.

        """
        replace_file(self._checkpoint(generation), data)
        self._sync()
        kept = sorted(self._generations("checkpoint"))[-KEPT:]
        for kind in ("checkpoint", "journal"):
            for number in self._generations(kind):
                if number < kept[0]:
                    (self.path / f"{kind}-{number:08d}").unlink(missing_ok=True)

    def _sync(self) -> None:
        """Synchronise the names of the files to disk."""
        folder = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _checkpoint(self, generation: int) -> Path:
        return self.path / f"checkpoint-{generation:08d}"

    def _journal(self, generation: int) -> Path:
        return self.path / f"journal-{generation:08d}"

    def _generations(self, kind: str) -> list[int]:
        matches = (_NAME.fullmatch(path.name) for path in self.path.iterdir())
        return [int(match[2]) for match in matches if match is not None and match[1] == kind]
