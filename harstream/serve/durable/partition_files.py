"""Files in the folder that the workers of a group share: the state of the devices of each partition.

    partition-12/state-00000007

The number at the end is that of the *term*: the time that one worker serves the partition without interruption. A
worker begins a term by creating the file of the next number, empty, and writes no other file. So one that stood still,
and does not know that others have taken over, cannot replace what they write: the state is always read from the newest
term.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from harstream.errors import ConfigError
from harstream.storage import read_file, replace_file

#: Size above which a file is no state of a partition, bytes.
_MAX_BYTES = 2**32
#: Attempts to read. A worker that wrote its state late deletes the files before it, perhaps while one is to be read.
_ATTEMPTS = 3
_NAME = re.compile(r"state-(\d{8,18})(\.tmp)?")


class PartitionFiles:
    """Files of the partitions of a group of workers. All of it may be used in any thread.

    Raises:
        ConfigError: The folder cannot be made or written.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise ConfigError(f"state-dir: {path}: {error.strerror}; choose a folder that can be written") from error

    def begin_term(self, partition: int) -> int:
        """Begin a term, and return its number, which nobody has had before.

        Raises:
            OSError: The folder cannot be read or written.

        """
        self._folder(partition).mkdir(exist_ok=True)
        term = 1 + max(self._terms(partition), default=0)
        while True:
            try:
                self.file(partition, term).open("xb").close()
            except FileExistsError:  # a network file system may list a folder as it was a while ago
                term += 1
            else:
                return term

    def load(self, partition: int, term: int) -> tuple[Path, bytes] | None:
        """Return the newest file before a term in which something was written, and its content; None: there is none.

        Raises:
            OSError: It cannot be read.
            ValueError: It is no regular file, or too large.

        """
        for attempt in range(_ATTEMPTS):
            with suppress(FileNotFoundError) if attempt < _ATTEMPTS - 1 else nullcontext():
                return self._load(partition, term)
        return None

    def _load(self, partition: int, term: int) -> tuple[Path, bytes] | None:
        for earlier in sorted(self._terms(partition), reverse=True):
            path = self.file(partition, earlier)
            try:
                data = read_file(path, _MAX_BYTES) if earlier < term else b""
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            if data:
                return path, data
        return None

    def save(self, partition: int, term: int, data: bytes) -> None:
        """Write the file of a term in one step, and delete those of earlier terms.

        Raises:
            OSError: It cannot be written; those before it stay.

        """
        self._folder(partition).mkdir(exist_ok=True)
        replace_file(self.file(partition, term), data)
        with suppress(OSError):  # a file that stays does no harm
            self._delete(partition, term - 1)

    def is_over(self, partition: int, term: int) -> bool:
        """Return whether a later term has begun.

        Raises:
            OSError: The folder cannot be read.

        """
        return max(self._terms(partition), default=0) > term

    def remove(self, partition: int, term: int) -> None:
        """Delete the file of a term and those of earlier terms.

        Raises:
            OSError: One of them cannot be deleted.

        """
        self._delete(partition, term)

    def file(self, partition: int, term: int) -> Path:
        """Return the path of the file of a term."""
        return self._folder(partition) / f"state-{term:08d}"

    def _folder(self, partition: int) -> Path:
        return self.path / f"partition-{partition}"

    def _delete(self, partition: int, last: int) -> None:
        for path in list(self._folder(partition).iterdir()):
            match = _NAME.fullmatch(path.name)
            if match is not None and int(match[1]) <= last:
                path.unlink(missing_ok=True)

    def _terms(self, partition: int) -> Sequence[int]:
        matches = (_NAME.fullmatch(path.name) for path in self._folder(partition).iterdir())
        return [int(match[1]) for match in matches if match is not None and match[2] is None]
