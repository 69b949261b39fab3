"""The files of a data set, however it is packed."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from tarfile import TarError
from zipfile import BadZipFile, ZipFile

from harstream.errors import DatasetError

Wanted = Callable[[str], bool]

# RuntimeError: encrypted, or packed in a way that Python does not know.
_UNREADABLE = (BadZipFile, TarError, EOFError, OSError, RuntimeError, LZMAError, zlib.error)


def read(path: Path, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file whose last part is ``wanted``, one after another, sorted.

    ``path`` is a folder, a zip (also with zips in it), a tar (also compressed), or the one file itself. A
    name is the path inside it, with slashes; that of a zip inside the zip is part of it. What macOS adds
    to archives is passed over. Raises DatasetError where something is not readable.
    """
    try:
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                if wanted(file.name) and file.is_file():
                    yield file.relative_to(path).as_posix(), file.read_bytes()
        elif wanted(path.name):
            yield path.name, path.read_bytes()
        elif tarfile.is_tarfile(path):
            yield from _untar(path, wanted)
        else:
            yield from _unzip(path, "", wanted)
    except _UNREADABLE as error:
        raise DatasetError(f"{path}: not a readable folder, zip or tar: {error}") from error


def _unzip(source: Path | io.BytesIO, prefix: str, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    with ZipFile(source) as archive:
        for name in sorted(archive.namelist()):
            last = PurePosixPath(name).name
            if _of_macos(name) or name.endswith("/"):
                continue
            if wanted(last):
                yield prefix + name, archive.read(name)
            elif last.endswith(".zip"):
                yield from _unzip(io.BytesIO(archive.read(name)), f"{prefix}{name}/", wanted)


def _untar(path: Path, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        for member in archive:
            if wanted(PurePosixPath(member.name).name) and not _of_macos(member.name):
                file = archive.extractfile(member)
                if file is not None:
                    yield member.name, file.read()


def _of_macos(name: str) -> bool:
    return "__MACOSX" in name or PurePosixPath(name).name.startswith("._")


def names(path: Path) -> list[str]:
    """The path of every file in a zip (and in the zips in it) or tar, all of which is read: a damaged one is found.

    Raises DatasetError naming what is damaged.
    """
    try:
        if tarfile.is_tarfile(path):
            return [name for name, _ in _untar(path, lambda last: True)]
        return _names_in_zip(path, "")
    except _UNREADABLE as error:
        raise DatasetError(f"{path}: not a whole zip or tar: {error}: delete it and fetch it again") from error


def _names_in_zip(source: Path | io.BytesIO, prefix: str) -> list[str]:
    found = []
    with ZipFile(source) as archive:
        damaged = archive.testzip()
        if damaged is not None:
            raise BadZipFile(f"{prefix}{damaged} is damaged")
        for name in archive.namelist():
            if not _of_macos(name) and not name.endswith("/"):
                found.append(prefix + name)
                if name.endswith(".zip"):
                    found += _names_in_zip(io.BytesIO(archive.read(name)), f"{prefix}{name}/")
    return found
