"""UCI HAR: windows of a phone at the waist, as their publisher cut them (Anguita et al. 2013).

The folders ``train`` and ``test`` each hold ``Inertial Signals/<signal>_train.txt``, one file per channel with
one window of 128 samples at 50 Hz a line, ``y_train.txt`` with the activity of each window, and
``subject_train.txt`` with its subject; ``activity_labels.txt`` above names the activities. The signals were
filtered before they were cut, and neighbouring windows overlap by half: there are no raw samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Float32, Int64
from harstream.datasets import files, texts
from harstream.datasets.base import PublishedWindows
from harstream.errors import DatasetError

WINDOW_SAMPLES = 128
RATE_HZ = 50.0

#: Their files, in the order of core.spec.DEFAULT_CHANNELS.
_SIGNALS = tuple(f"{signal}_{axis}" for signal in ("body_acc", "body_gyro", "total_acc") for axis in "xyz")
_PARTS = ("train", "test")

#: What the windows are, and whose.
ABOUT = """\
Human Activity Recognition Using Smartphones (UCI HAR): windows of 2.56 s at 50 Hz, filtered by their publisher, of the
same volunteers as HAPT.

Placement: a phone (Samsung Galaxy S II) at the waist.

Source: UCI Machine Learning Repository, 2012; Davide Anguita, Alessandro Ghio, Luca Oneto, Xavier Parra, Jorge L.
Reyes-Ortiz: A Public Domain Dataset for Human Activity Recognition Using Smartphones, ESANN 2013.

Licence, as its README.txt gives it: use in publications must be acknowledged by referencing the paper above; any
commercial use is prohibited."""


def load_windows(path: Path) -> PublishedWindows:
    """The windows of ``train`` and ``test``, whichever is there, in this order, in g and rad/s.

    ``subject`` is None unless every part has its file of subjects. Raises DatasetError naming file and line
    where something is missing or malformed.
    """
    wanted = {"activity_labels.txt"}
    for part in _PARTS:
        wanted |= {f"{name}_{part}.txt" for name in (*_SIGNALS, "y", "subject")}
    found: dict[str, tuple[str, bytes]] = {}
    for name, text in files.read(path, wanted.__contains__):
        last = PurePosixPath(name).name
        if last in found:
            raise DatasetError(f"{path}: holds {found[last][0]} and {name}: which of them is it?")
        found[last] = (f"{path}/{name}", text)
    parts = [part for part in _PARTS if f"y_{part}.txt" in found]
    if not parts:
        raise DatasetError(f"{path}: holds neither y_train.txt nor y_test.txt")
    activities = _activities(found, path)
    labels = tuple(activities.values())
    windows, label, subject = [], [], []
    for part in parts:
        numbers = _numbers(found, f"y_{part}.txt", path)
        for line, number in enumerate(numbers.tolist(), 1):
            if number not in activities:
                raise DatasetError(
                    f"{found[f'y_{part}.txt'][0]}, line {line}: activity {number} is not in activity_labels.txt"
                )
        label.append(np.array([list(activities).index(number) for number in numbers.tolist()], np.int64))
        windows.append(_windows(found, part, len(numbers), path))
        if f"subject_{part}.txt" in found:
            subjects = _numbers(found, f"subject_{part}.txt", path)
            if len(subjects) != len(numbers):
                raise DatasetError(
                    f"{found[f'subject_{part}.txt'][0]}: {len(subjects)} lines for {len(numbers)} windows"
                )
            subject.append(subjects)
    # Numbered as HAPT numbers them: the subjects are the same.
    names = np.array([f"{number:02d}" for number in np.concatenate(subject)]) if len(subject) == len(parts) else None
    return PublishedWindows(np.concatenate(windows), np.concatenate(label), labels, names)


def _activities(found: Mapping[str, tuple[str, bytes]], path: Path) -> dict[int, str]:
    if "activity_labels.txt" not in found:
        raise DatasetError(f"{path}: activity_labels.txt is missing")
    where, text = found["activity_labels.txt"]
    return texts.named(text, where)


def _numbers(found: Mapping[str, tuple[str, bytes]], name: str, path: Path) -> Int64:
    where, text = found[name]
    words = text.split()
    for line, word in enumerate(words, 1):
        if not word.isdigit():
            raise DatasetError(f"{where}, line {line}: expected a whole number, got {word.decode(errors='replace')!r}")
    return np.array(words, np.int64)


def _windows(found: Mapping[str, tuple[str, bytes]], part: str, n_windows: int, path: Path) -> Float32:
    """(n_windows, 128, 9)"""
    windows = np.empty((n_windows, WINDOW_SAMPLES, len(_SIGNALS)), np.float32)
    for channel, signal in enumerate(_SIGNALS):
        name = f"{signal}_{part}.txt"
        if name not in found:
            raise DatasetError(f"{path}: {name} is missing")
        windows[:, :, channel] = _signal(*found[name], n_windows)
    return windows


def _signal(where: str, text: bytes, n_windows: int) -> npt.NDArray[np.float32]:
    rows = [line.split() for line in text.rstrip().split(b"\n")]
    for line, row in enumerate(rows, 1):
        if len(row) != WINDOW_SAMPLES:
            raise DatasetError(f"{where}, line {line}: {len(row)} numbers, not the {WINDOW_SAMPLES} of a window")
    if len(rows) != n_windows:
        raise DatasetError(f"{where}: {len(rows)} windows, but {n_windows} activities")
    values, bad = texts.numbers(rows)
    if bad is not None:
        raise DatasetError(f"{where}, line {bad + 1}: holds what is no finite number")
    return values.astype(np.float32)
