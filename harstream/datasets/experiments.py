"""Experiments in the layout of HAPT, which other data sets share.

Layout: a folder holds two files for each session, ``acc_expNN_userMM.txt`` and ``gyro_expNN_userMM.txt``, with three
numbers ``x y z`` a line at 50 Hz. ``labels.txt`` in the same folder has one segment a line: experiment, user, activity,
first and last sample, counted from 1. ``activity_labels.txt`` in the same folder or above it names the activities.

Subjects: the user number in the file names.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from harstream.datasets import files, texts
from harstream.datasets.base import Recording, Segment
from harstream.datasets.stamped import held
from harstream.errors import DatasetError
from harstream.wire.samples import ACC_UNITS

log = logging.getLogger("harstream.datasets")

RATE_HZ = 50.0

_FOLDERS = ("RawData", "Raw-Data")
_SESSION = re.compile(r"acc_(exp(\d+)_user(\d+))\.txt")


def read_experiments(
    path: Path, *, acc_unit: str, placement: str, activities: Mapping[int, str] | None = None
) -> list[Recording]:
    """Return every session of a folder or zip, sorted by name, in g and rad/s at 50 Hz.

    The files may lie at any depth, and in a zip inside the zip. Rows of ``labels.txt`` about sessions without files are
    ignored. Three kinds of samples get no label:

    - Samples at the start of a session that are zero. They are no measurement, because gravity is never zero, and are
      cut off. Other samples that are zero are left in place, without label.
    - Samples that repeat a value for longer than the longest gap that the Engine bridges.
    - Segments that end beyond their session. One of the two numbers is wrong, and the file does not tell which: cutting
      the segment at the end of the session may include what came after the activity. The whole row is left out, with a
      warning.

    Args:
        path: Folder or zip.
        acc_unit: Unit of the accelerometer in the files, a key of ACC_UNITS.
        placement: Where the device was worn, one of PLACEMENTS.
        activities: Names of the activities by number; None: read them from ``activity_labels.txt``.

    Raises:
        DatasetError: A file is missing or malformed; the message names file and line.

    """
    content = _read_texts(path)
    sessions = {name: match for name in content if (match := _SESSION.fullmatch(PurePosixPath(name).name))}
    folders = {PurePosixPath(name).parent for name in sessions}
    if not folders:
        raise DatasetError(f"{path}: expected files acc_expNN_userMM.txt, found none")
    if len(folders) > 1:
        names = ", ".join(sorted(map(str, folders)))
        raise DatasetError(f"{path}: expected one folder with raw data, found {names}")
    folder = folders.pop()
    if activities is None:
        activities = _read_activities(content, folder, path)
    rows = _read_label_rows(content, folder / "labels.txt", activities, path)
    recordings = []
    for name, match in sorted(sessions.items()):
        samples = _read_samples(content, name, match, path)
        samples[:, :3] *= np.float32(ACC_UNITS[acc_unit])
        inside = _check_ends(rows.get((int(match[2]), int(match[3])), []), len(samples), f"{path}/{name}")
        start, segments = _leave_out_unmeasured(samples, _remove_overlaps(inside))
        recordings.append(Recording(match[1], match[3], RATE_HZ, samples[start:], segments, placement=placement))
    return recordings


def _read_texts(path: Path) -> dict[str, bytes]:
    """Return the content of the text files of HAPT by their path inside the folder or zip."""

    def wanted(last: str) -> bool:
        return last in ("labels.txt", "activity_labels.txt") or last.startswith(("acc_exp", "gyro_exp"))

    content = dict(files.read_files(path, wanted))
    if path.name in _FOLDERS and path.is_dir():
        # ``path`` is the folder RawData itself: activity_labels.txt lies beside it.
        content = {f"{path.name}/{name}": text for name, text in content.items()}
        sibling = path.parent / "activity_labels.txt"
        if sibling.is_file():
            content[sibling.name] = sibling.read_bytes()
    return content


def _read_activities(content: Mapping[str, bytes], folder: PurePosixPath, path: Path) -> dict[int, str]:
    """Return the names of the activities by number, from the ``activity_labels.txt`` nearest to the raw data."""
    for parent in (folder, *folder.parents):
        name = str(parent / "activity_labels.txt")
        if name in content:
            break
    else:
        raise DatasetError(f"{path}: activity_labels.txt is missing in or above {folder}")
    return texts.parse_names(content[name], f"{path}/{name}")


_Row = tuple[int, Segment]  # number of the line in labels.txt, and its segment


def _read_label_rows(
    content: Mapping[str, bytes], name: PurePosixPath, activities: Mapping[int, str], path: Path
) -> dict[tuple[int, int], list[_Row]]:
    """Return the rows of ``labels.txt`` by (experiment, user). They may reach beyond the samples."""
    if str(name) not in content:
        raise DatasetError(f"{path}: {name} is missing")
    rows: dict[tuple[int, int], list[_Row]] = {}
    for number, line in enumerate(content[str(name)].decode(errors="replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        where = f"{path}/{name}, line {number}"
        try:
            experiment, user, activity, first, last = map(int, words)
        except ValueError:
            raise DatasetError(f"{where}: expected five whole numbers, got {line.strip()!r}") from None
        if activity not in activities:
            raise DatasetError(f"{where}: activity {activity} has no name in activity_labels.txt")
        if not 1 <= first <= last:
            raise DatasetError(f"{where}: expected first and last sample with 1 <= first <= last, got {first} {last}")
        rows.setdefault((experiment, user), []).append((number, Segment(first - 1, last, activities[activity])))
    return rows


def _read_samples(
    content: Mapping[str, bytes], acc_name: str, match: re.Match[str], path: Path
) -> npt.NDArray[np.float32]:
    """Return the samples of one session from its two files, (n_samples, 6)."""
    gyro_name = str(PurePosixPath(acc_name).parent / f"gyro_{match[1]}.txt")
    if gyro_name not in content:
        raise DatasetError(f"{path}: {PurePosixPath(gyro_name).name} is missing beside {acc_name}")
    acc = _parse_triples(content[acc_name], f"{path}/{acc_name}")
    gyro = _parse_triples(content[gyro_name], f"{path}/{gyro_name}")
    if len(acc) != len(gyro):
        raise DatasetError(
            f"{path}/{gyro_name}: expected {len(acc)} samples as in {PurePosixPath(acc_name).name}, got {len(gyro)}"
        )
    return np.hstack([acc, gyro])


def _check_ends(rows: Sequence[_Row], n_samples: int, where: str) -> list[Segment]:
    """Return the segments of a session that end inside it, and warn about the others; ``where`` is its path."""
    for number, segment in rows:
        if segment.stop > n_samples:
            log.warning(
                "%s: left out line %d of labels.txt, %s from sample %d to %d: the session has %d samples",
                where,
                number,
                segment.label,
                segment.start + 1,
                segment.stop,
                n_samples,
            )
    return [segment for _, segment in rows if segment.stop <= n_samples]


def _leave_out_unmeasured(
    samples: npt.NDArray[np.float32], segments: Sequence[Segment]
) -> tuple[int, tuple[Segment, ...]]:
    """Return the first sample to use, and the segments counted from it, without samples that are no measurement."""
    acc = samples[:, :3]
    measured = acc.any(axis=1) & ~held(acc, np.arange(len(acc)) / RATE_HZ)
    start = int(np.argmax(measured)) if measured.any() else len(measured)
    kept = []
    for segment in segments:
        edges = np.flatnonzero(np.diff(measured[segment.start : segment.stop].astype(np.int8), prepend=0, append=0))
        kept += [
            Segment(segment.start + first - start, segment.start + last - start, segment.label)
            for first, last in edges.reshape(-1, 2).tolist()
        ]
    return start, tuple(kept)


def _remove_overlaps(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Return the segments in order of time, without the samples that two of them share: their label is not known."""
    kept: list[Segment] = []
    end = 0
    for segment in sorted(segments, key=lambda segment: segment.start):
        if segment.start < end and kept:
            kept[-1] = replace(kept[-1], stop=min(kept[-1].stop, segment.start))
        kept.append(replace(segment, start=max(segment.start, end)))
        end = max(end, segment.stop)
    return tuple(segment for segment in kept if segment.start < segment.stop)


def _parse_triples(text: bytes, where: str) -> npt.NDArray[np.float32]:
    """Parse a file with three numbers a line, (n_samples, 3); ``where`` is its path, for messages."""
    lines = text.rstrip().split(b"\n")
    rows = [line.split() for line in lines]
    if any(len(row) != 3 for row in rows):
        number, row = next((number, row) for number, row in enumerate(rows, 1) if len(row) != 3)
        raise DatasetError(f"{where}, line {number}: expected 3 numbers, got {len(row)} columns")
    values, bad = texts.parse_numbers(rows)
    if bad is not None:
        line = lines[bad].decode(errors="replace").strip()
        raise DatasetError(f"{where}, line {bad + 1}: expected 3 finite numbers, got {line!r}")
    return values.astype(np.float32)
