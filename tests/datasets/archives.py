"""Data sets packed as zip, zip in a zip, or tar."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path


def zip_of(folder: Path, target: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return target


def zip_in_zip(folder: Path, target: Path) -> Path:
    """Pack a folder as the UCI repository does: a zip in a zip, beside files that macOS adds."""
    inner = zip_of(folder, target.with_name("inner.zip"))
    with zipfile.ZipFile(target, "w") as archive:
        archive.write(inner, "inner.zip")
        archive.writestr("__MACOSX/._inner.zip", b"no zip at all")
    inner.unlink()
    return target


def tar_of(folder: Path, target: Path) -> Path:
    with tarfile.open(target, "w:gz") as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.add(file, file.relative_to(folder.parent).as_posix())
    return target
