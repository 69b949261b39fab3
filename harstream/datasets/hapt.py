"""HAPT: raw sessions of a phone at the waist (UCI Machine Learning Repository, Reyes-Ortiz et al. 2015).

The folder ``RawData`` (``Raw-Data`` in some copies) holds two files per session,
``acc_expNN_userMM.txt`` in g and ``gyro_expNN_userMM.txt`` in rad/s, both at 50 Hz, and ``labels.txt``
with one labelled stretch per line: experiment, user, activity, first and last sample, counted from 1.
``activity_labels.txt`` beside it names the activities.
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

#: What ``train`` learns by default: the six activities of UCI HAR, in its order. The other six
#: labels are postural transitions, shorter than most windows.
LABELS = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING")

#: For the model card: what the recordings are, and whose.
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
    """Every session below a folder or in a zip, sorted by name, in g and rad/s at 50 Hz.

    The raw data may lie at any depth, and in a zip inside the zip. Rows of ``labels.txt`` about
    sessions that are not there are passed over: a part of the subjects is still a data set.
    Raises DatasetError naming file and line where something is missing or malformed.
    """
    found = _read(path)
    sessions = {name: match for name in found if (match := _SESSION.fullmatch(PurePosixPath(name).name))}
    folders = {PurePosixPath(name).parent for name in sessions}
    if not folders:
        raise DatasetError(f"{path}: holds no acc_expNN_userMM.txt")
    if len(folders) > 1:
        raise DatasetError(f"{path}: holds more than one raw data folder: {', '.join(sorted(map(str, folders)))}")
    folder = folders.pop()
    activities = _activities(found, folder, path)
    rows = _label_rows(found, folder / "labels.txt", activities, path)
    return [
        _recording(found, name, match, rows.get((int(match[2]), int(match[3])), []), path)
        for name, match in sorted(sessions.items())
    ]


def _read(path: Path) -> dict[str, bytes]:
    """The text files HAPT may need, by their path inside the folder or zip."""

    def wanted(last: str) -> bool:
        return last in ("labels.txt", "activity_labels.txt") or last.startswith(("acc_exp", "gyro_exp"))

    found = dict(files.read(path, wanted))
    if path.name in _FOLDERS and path.is_dir():
        # activity_labels.txt is the raw data folder's neighbour: find it also from inside.
        found = {f"{path.name}/{name}": text for name, text in found.items()}
        beside = path.parent / "activity_labels.txt"
        if beside.is_file():
            found[beside.name] = beside.read_bytes()
    return found


def _activities(found: Mapping[str, bytes], folder: PurePosixPath, path: Path) -> dict[int, str]:
    """Activity number to name, from the ``activity_labels.txt`` nearest to the raw data."""
    for parent in (folder, *folder.parents):
        name = str(parent / "activity_labels.txt")
        if name in found:
            break
    else:
        raise DatasetError(f"{path}: activity_labels.txt is missing beside {folder}")
    return texts.named(found[name], f"{path}/{name}")


_Row = tuple[int, Segment]  # the line it came from, and what it says


def _label_rows(
    found: Mapping[str, bytes], name: PurePosixPath, activities: Mapping[int, str], path: Path
) -> dict[tuple[int, int], list[_Row]]:
    """The rows of ``labels.txt`` by (experiment, user), not yet compared with the samples."""
    if str(name) not in found:
        raise DatasetError(f"{path}: {name} is missing")
    rows: dict[tuple[int, int], list[_Row]] = {}
    for number, line in enumerate(found[str(name)].decode(errors="replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        where = f"{path}/{name}, line {number}"
        try:
            experiment, user, activity, first, last = map(int, words)
        except ValueError:
            raise DatasetError(f"{where}: expected five whole numbers, got {line.strip()!r}") from None
        if activity not in activities:
            raise DatasetError(f"{where}: activity {activity} is not in activity_labels.txt")
        if not 1 <= first <= last:
            raise DatasetError(f"{where}: samples {first} to {last} are no stretch (they count from 1)")
        rows.setdefault((experiment, user), []).append((number, Segment(first - 1, last, activities[activity])))
    return rows


def _recording(
    found: Mapping[str, bytes], acc_name: str, match: re.Match[str], rows: Sequence[_Row], path: Path
) -> Recording:
    """One session from its two files and its rows of ``labels.txt``."""
    folder = PurePosixPath(acc_name).parent
    gyro_name = str(folder / f"gyro_{match[1]}.txt")
    if gyro_name not in found:
        raise DatasetError(f"{path}: {acc_name} has no {PurePosixPath(gyro_name).name} beside it")
    acc = _triples(found[acc_name], f"{path}/{acc_name}")
    gyro = _triples(found[gyro_name], f"{path}/{gyro_name}")
    if len(acc) != len(gyro):
        raise DatasetError(f"{path}/{gyro_name}: {len(gyro)} samples, but {len(acc)} in {PurePosixPath(acc_name).name}")
    for number, segment in rows:
        if segment.stop > len(acc):
            raise DatasetError(
                f"{path}/{folder / 'labels.txt'}, line {number}: ends at sample {segment.stop}, "
                f"but {match[1]} has {len(acc)}"
            )
    segments = _disjoint([segment for _, segment in rows])
    return Recording(match[1], match[3], RATE_HZ, np.hstack([acc, gyro]), segments)


def _disjoint(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """The stretches in order of time; samples that two of them claim have no known label and go to neither."""
    kept: list[Segment] = []
    end = 0
    for segment in sorted(segments, key=lambda segment: segment.start):
        if segment.start < end and kept:
            kept[-1] = replace(kept[-1], stop=min(kept[-1].stop, segment.start))
        kept.append(replace(segment, start=max(segment.start, end)))
        end = max(end, segment.stop)
    return tuple(segment for segment in kept if segment.start < segment.stop)


def _triples(text: bytes, where: str) -> npt.NDArray[np.float32]:
    """A file of three numbers a line to (n_samples, 3) float32; ``where`` names it in errors."""
    lines = text.rstrip().split(b"\n")
    rows = [line.split() for line in lines]
    if any(len(row) != 3 for row in rows):
        number, row = next((number, row) for number, row in enumerate(rows, 1) if len(row) != 3)
        raise DatasetError(f"{where}, line {number}: expected three numbers, got {len(row)} columns")
    values, bad = texts.numbers(rows)
    if bad is not None:
        raise DatasetError(f"{where}, line {bad + 1}: {lines[bad].decode(errors='replace').strip()!r} is no sample")
    return values.astype(np.float32)
