"""Who the subject of a file of own recordings is, by its name and the folders it is in.

``harstream record`` names a file SUBJECT_DEVICE_TIME. Files of other programs may be in a folder for each subject, or
begin with the subject's name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

#: What tells the subject, in words.
BY_COLUMN, BY_RECORD, BY_FOLDER, BY_NAME = "column", "file name SUBJECT_DEVICE_TIME", "folder", "file name"

#: Name of a file of ``harstream record``, such as ``anna_phone1_20261127T164411Z``.
_RECORDED = re.compile(r"([^_]+)_.+_\d{8}T\d{6}Z(?:-\d+)?")
#: A name with the number of a recording, such as ``anna-2`` or ``anna (2)``.
_NUMBERED = re.compile(r"(.*[^\s-])(?:\s*-\s*|\s+)\(?\d+\)?")
#: What stands before the number of a subject, not of a recording.
ANYBODY = frozenset({"subject", "sub", "s", "user", "participant", "person", "patient", "p", "id", "volunteer"})


def subject_of(name: str) -> str:
    """Return the subject that the name of a file tells: what stands before the first ``_``, or before a number."""
    before, underscore, _ = name.partition("_")
    numbered = None if underscore else _NUMBERED.fullmatch(name)
    return numbered[1] if numbered and numbered[1].lower() not in ANYBODY else before or name


def subjects_of(paths: Sequence[PurePosixPath]) -> list[tuple[str, str]]:
    """Return the subject of each file, and what tells it.

    A name as ``record`` makes it tells it. Of the other files, the folder tells it if each is in one and they differ:
    of nested folders the first level that differs. Else the name of the file tells it.

    Args:
        paths: Path of each file in the data set, without ending.

    """
    recorded = [_RECORDED.fullmatch(path.name) for path in paths]
    folders = [path.parts[:-1] for path, match in zip(paths, recorded, strict=True) if match is None]
    depth = min(map(len, folders), default=0)
    level = next((at for at in range(depth) if len({parts[at] for parts in folders}) > 1), None)
    found = []
    for path, match in zip(paths, recorded, strict=True):
        if match is not None:
            found.append((match[1], BY_RECORD))
        elif level is not None:
            found.append((path.parts[level], BY_FOLDER))
        else:
            found.append((subject_of(path.name), BY_NAME))
    return found
