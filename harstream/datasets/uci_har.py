"""UCI HAR: windows of a phone at the waist, cut by their publisher (UCI Repository, Anguita et al. 2013).

Layout: the folders ``train`` and ``test`` each hold ``Inertial Signals/<signal>_train.txt`` (``_test``), one file per
channel with one window a line. ``y_train.txt`` has the activity number of each window and ``subject_train.txt`` its
subject. ``activity_labels.txt`` names the activities. The publisher filtered the signals first. Neighbouring windows
overlap by half. There are no raw samples.

Units: g and rad/s, windows of 128 samples at 50 Hz.

Labels: one activity per window.

Licence: see ABOUT, which quotes the data set's README.txt.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Float32, Int64
from harstream.datasets import files, texts
from harstream.datasets.base import PrecutWindows
from harstream.errors import DatasetError

WINDOW_SAMPLES = 128
RATE_HZ = 50.0

#: Signals in the order of core.spec.DEFAULT_CHANNELS; each has a file.
_SIGNALS = tuple(f"{signal}_{axis}" for signal in ("body_acc", "body_gyro", "total_acc") for axis in "xyz")
_PARTS = ("train", "test")

#: Description, source and licence.
ABOUT = """\
Human Activity Recognition Using Smartphones (UCI HAR): windows of 2.56 s at 50 Hz, filtered by their publisher, of the
same volunteers as HAPT.

Placement: a phone (Samsung Galaxy S II) at the waist.

Source: UCI Machine Learning Repository, 2012; Davide Anguita, Alessandro Ghio, Luca Oneto, Xavier Parra, Jorge L.
Reyes-Ortiz: A Public Domain Dataset for Human Activity Recognition Using Smartphones, ESANN 2013.

Licence, as its README.txt gives it: use in publications must be acknowledged by referencing the paper above; any
commercial use is prohibited."""


def load_windows(path: Path) -> PrecutWindows:
    """Return the windows of ``train`` and ``test`` in this order, in g and rad/s. One of the two parts may be missing.

    ``subject`` of the result is None unless each part has its file of subjects.

    Raises:
        DatasetError: A file is missing, present twice, or malformed; the message names file and line.

    """
    wanted = {"activity_labels.txt"}
    for part in _PARTS:
        wanted |= {f"{name}_{part}.txt" for name in (*_SIGNALS, "y", "subject")}
    content: dict[str, tuple[str, bytes]] = {}  # (path, text) by file name
    for name, text in files.read_files(path, wanted.__contains__):
        last = PurePosixPath(name).name
        if last in content:
            raise DatasetError(f"{path}: expected one {last}, found {content[last][0]} and {name}: remove one")
        content[last] = (f"{path}/{name}", text)
    parts = [part for part in _PARTS if f"y_{part}.txt" in content]
    if not parts:
        raise DatasetError(f"{path}: expected y_train.txt or y_test.txt, found neither")
    activities = _read_activities(content, path)
    labels = tuple(activities.values())
    windows, label, subject = [], [], []
    for part in parts:
        numbers = _read_numbers(content, f"y_{part}.txt")
        for line, number in enumerate(numbers.tolist(), 1):
            if number not in activities:
                raise DatasetError(
                    f"{content[f'y_{part}.txt'][0]}, line {line}: activity {number} has no name in activity_labels.txt"
                )
        label.append(np.array([list(activities).index(number) for number in numbers.tolist()], np.int64))
        windows.append(_read_windows(content, part, len(numbers), path))
        if f"subject_{part}.txt" in content:
            subjects = _read_numbers(content, f"subject_{part}.txt")
            if len(subjects) != len(numbers):
                raise DatasetError(
                    f"{content[f'subject_{part}.txt'][0]}: expected {len(numbers)} lines, one per window, "
                    f"got {len(subjects)}"
                )
            subject.append(subjects)
    # The names are those that HAPT gives: its subjects are the same people.
    names = np.array([f"{number:02d}" for number in np.concatenate(subject)]) if len(subject) == len(parts) else None
    return PrecutWindows(np.concatenate(windows), np.concatenate(label), labels, names)


def _read_activities(content: Mapping[str, tuple[str, bytes]], path: Path) -> dict[int, str]:
    """Return the names of the activities by number."""
    if "activity_labels.txt" not in content:
        raise DatasetError(f"{path}: activity_labels.txt is missing")
    where, text = content["activity_labels.txt"]
    return texts.parse_names(text, where)


def _read_numbers(content: Mapping[str, tuple[str, bytes]], name: str) -> Int64:
    """Return the whole number in each line of a file, (n_windows,)."""
    where, text = content[name]
    words = text.split()
    for line, word in enumerate(words, 1):
        if not word.isdigit():
            raise DatasetError(f"{where}, line {line}: expected a whole number, got {word.decode(errors='replace')!r}")
    return np.array(words, np.int64)


def _read_windows(content: Mapping[str, tuple[str, bytes]], part: str, n_windows: int, path: Path) -> Float32:
    """Return the windows of one part, (n_windows, 128, 9)."""
    windows = np.empty((n_windows, WINDOW_SAMPLES, len(_SIGNALS)), np.float32)
    for channel, signal in enumerate(_SIGNALS):
        name = f"{signal}_{part}.txt"
        if name not in content:
            raise DatasetError(f"{path}: {name} is missing")
        windows[:, :, channel] = _parse_signal(*content[name], n_windows)
    return windows


def _parse_signal(where: str, text: bytes, n_windows: int) -> npt.NDArray[np.float32]:
    """Parse the file of one channel, (n_windows, 128); ``where`` is its path, for messages."""
    rows = [line.split() for line in text.rstrip().split(b"\n")]
    for line, row in enumerate(rows, 1):
        if len(row) != WINDOW_SAMPLES:
            raise DatasetError(f"{where}, line {line}: expected {WINDOW_SAMPLES} numbers, got {len(row)}")
    if len(rows) != n_windows:
        raise DatasetError(f"{where}: expected {n_windows} windows, one per activity, got {len(rows)}")
    values, bad = texts.parse_numbers(rows)
    if bad is not None:
        raise DatasetError(f"{where}, line {bad + 1}: expected {WINDOW_SAMPLES} finite numbers")
    return values.astype(np.float32)
