"""HAPT: recordings of a phone at the waist (UCI Machine Learning Repository, Reyes-Ortiz et al. 2015).

Layout: the folder ``RawData`` (``Raw-Data`` in some copies) holds two files per session, ``acc_expNN_userMM.txt`` and
``gyro_expNN_userMM.txt``, with three numbers ``x y z`` a line.

Units: g and rad/s at 50 Hz.

Labels: ``labels.txt`` in the same folder has one segment a line: experiment, user, activity, first and last sample,
counted from 1. ``activity_labels.txt`` in the same folder or above it names the activities.

Subjects: the user number in the file names.

Licence: see ABOUT, which quotes the data set's README.txt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from harstream.datasets import files, texts
from harstream.datasets.base import Recording, Segment
from harstream.errors import DatasetError

RATE_HZ = 50.0

#: Labels that ``train`` uses by default: the six activities of UCI HAR, in its order. The other six labels are postural
#: transitions, most of which are shorter than a window.
LABELS = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING")

#: Description, source and licence for the model card.
ABOUT = """\
Smartphone-Based Recognition of Human Activities and Postural Transitions (HAPT), raw signals at 50 Hz:
volunteers aged 19 to 48 following a protocol that was filmed for labelling. The postural transitions are not used.

Placement: a phone (Samsung Galaxy S II) at the waist, its x axis up, so that `total_acc_x` is about +1 g while
standing.

Source: UCI Machine Learning Repository, 2015; Jorge-L. Reyes-Ortiz, Luca Oneto, Albert Samà, Xavier Parra,
Davide Anguita: Transition-Aware Human Activity Recognition Using Smartphones, Neurocomputing, Springer 2015.

Licence, as its README.txt gives it: use in publications must be acknowledged by referencing the paper above; the
data set is distributed as it is, without responsibility of its authors; any commercial use is prohibited. Ask a
lawyer what that means for a network trained on it before selling anything."""

_FOLDERS = ("RawData", "Raw-Data")
_SESSION = re.compile(r"acc_(exp(\d+)_user(\d+))\.txt")


def load(path: Path) -> list[Recording]:
    """Return every session of a folder or zip, sorted by name, in g and rad/s at 50 Hz.

    The raw data may lie at any depth, and in a zip inside the zip. Rows of ``labels.txt`` about sessions without files
    are ignored, so a copy with some of the subjects can be read.

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
    activities = _read_activities(content, folder, path)
    rows = _read_label_rows(content, folder / "labels.txt", activities, path)
    return [
        _make_recording(content, name, match, rows.get((int(match[2]), int(match[3])), []), path)
        for name, match in sorted(sessions.items())
    ]


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


def _make_recording(
    content: Mapping[str, bytes], acc_name: str, match: re.Match[str], rows: Sequence[_Row], path: Path
) -> Recording:
    """Return one session from its two files and its rows of ``labels.txt``."""
    folder = PurePosixPath(acc_name).parent
    gyro_name = str(folder / f"gyro_{match[1]}.txt")
    if gyro_name not in content:
        raise DatasetError(f"{path}: {PurePosixPath(gyro_name).name} is missing beside {acc_name}")
    acc = _parse_triples(content[acc_name], f"{path}/{acc_name}")
    gyro = _parse_triples(content[gyro_name], f"{path}/{gyro_name}")
    if len(acc) != len(gyro):
        raise DatasetError(
            f"{path}/{gyro_name}: expected {len(acc)} samples as in {PurePosixPath(acc_name).name}, got {len(gyro)}"
        )
    for number, segment in rows:
        if segment.stop > len(acc):
            raise DatasetError(
                f"{path}/{folder / 'labels.txt'}, line {number}: last sample is {segment.stop}, "
                f"but {match[1]} has {len(acc)} samples"
            )
    segments = _remove_overlaps([segment for _, segment in rows])
    return Recording(match[1], match[3], RATE_HZ, np.hstack([acc, gyro]), segments)


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
