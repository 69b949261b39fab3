"""Files of a data set, read from a folder, a zip or a tar alike."""

from __future__ import annotations

import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from tarfile import TarError
from zipfile import BadZipFile, ZipFile

from harstream.errors import DatasetError

#: Returns True for the name (without folders) of a file to read.
NameFilter = Callable[[str], bool]

# RuntimeError: encrypted, or compressed in a way that Python does not support.
_UNREADABLE = (BadZipFile, TarError, EOFError, OSError, RuntimeError, LZMAError, zlib.error)


def read_files(path: Path, wanted: NameFilter) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of every file whose last name part is ``wanted``, sorted by name.

    A name is the path inside ``path``, with slashes. If the file is in a zip inside the zip, the path of the inner zip
    is part of its name. Hidden files and folders, such as ``.ipynb_checkpoints``, are skipped.

    Args:
        path: A folder, a zip (which may contain zips), a tar (which may be compressed), or the one file itself.
        wanted: Filter of the names.

    Raises:
        DatasetError: A file or archive cannot be read.

    """
    try:
        if path.is_dir():
            for file in sorted(_files_below(path)):
                name = file.relative_to(path).as_posix()
                if wanted(file.name) and not _is_hidden(name) and file.is_file():
                    yield name, file.read_bytes()
        elif wanted(path.name):
            yield path.name, path.read_bytes()
        elif tarfile.is_tarfile(path):
            yield from _read_tar(path, wanted)
        else:
            yield from _read_zip(path, "", wanted)
    except _UNREADABLE as error:
        raise DatasetError(f"{path}: expected a readable folder, zip or tar: {error}") from error


def _files_below(path: Path) -> Iterator[Path]:
    """Yield the files of a folder and of those in it, also behind symbolic links; each folder once."""
    seen: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(path, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder above it, or a second one to the same folder
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        yield from (Path(folder) / name for name in names)


def _read_zip(source: Path | io.BytesIO, prefix: str, wanted: NameFilter) -> Iterator[tuple[str, bytes]]:
    with ZipFile(source) as archive:
        for name in sorted(archive.namelist()):
            last = PurePosixPath(name).name
            if _is_hidden(name) or name.endswith("/"):
                continue
            if wanted(last):
                yield prefix + name, archive.read(name)
            elif last.endswith(".zip"):
                yield from _read_zip(io.BytesIO(archive.read(name)), f"{prefix}{name}/", wanted)


def _read_tar(path: Path, wanted: NameFilter) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        for member in archive:
            if wanted(PurePosixPath(member.name).name) and not _is_hidden(member.name):
                file = archive.extractfile(member)
                if file is not None:
                    yield member.name, file.read()


def _is_hidden(name: str) -> bool:
    """Return True for what macOS adds to folders and archives, and for the hidden files and folders of any program."""
    return "__MACOSX" in name or any(part.startswith(".") and part.strip(".") for part in PurePosixPath(name).parts)


def list_files(path: Path) -> list[str]:
    """Return the path of every file in a tar, or in a zip and the zips in it; each is read, so damage is found.

    Raises:
        DatasetError: The archive is damaged or incomplete.

    """
    try:
        if tarfile.is_tarfile(path):
            return [name for name, _ in _read_tar(path, lambda last: True)]
        return _list_zip(path, "")
    except _UNREADABLE as error:
        raise DatasetError(
            f"{path}: expected a complete zip or tar: {error}: delete the file and download it again"
        ) from error


def _list_zip(source: Path | io.BytesIO, prefix: str) -> list[str]:
    names = []
    with ZipFile(source) as archive:
        damaged = archive.testzip()
        if damaged is not None:
            raise BadZipFile(f"{prefix}{damaged} is damaged")
        for name in archive.namelist():
            if not _is_hidden(name) and not name.endswith("/"):
                names.append(prefix + name)
                if name.endswith(".zip"):
                    names += _list_zip(io.BytesIO(archive.read(name)), f"{prefix}{name}/")
    return names
