"""WISDM 2019, watch part: 18 everyday activities at the wrist (UCI Machine Learning Repository, Weiss 2019).

Layout: the folder ``raw/watch`` holds two files per subject, ``accel/data_16NN_accel_watch.txt`` and
``gyro/data_16NN_gyro_watch.txt``, with one sample a line: ``subject,code,time in ns,x,y,z;``. The two sensors have
their own clocks, nominally at 20 Hz. Sometimes the watch samples at 100 Hz for some seconds.

Units: m/s2 and rad/s in the files; g and rad/s in the recordings.

Labels: ``code`` is the letter of the activity in ``activity_key.txt``. Samples of one activity are one session of about
three minutes.

Licence: CC BY 4.0, see ABOUT.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path, PurePosixPath

import numpy as np

from harstream.datasets import files
from harstream.datasets.base import Recording
from harstream.datasets.stamped import (
    Piece,
    StampedSamples,
    make_recordings,
    merge_sources,
    resample_to_grid,
    split_sessions,
)
from harstream.datasets.texts import NUMBER
from harstream.errors import DatasetError
from harstream.wire.samples import ACC_UNITS

log = logging.getLogger("harstream.datasets")

RATE_HZ = 20.0

_CODES = {
    "A": "WALKING",
    "B": "JOGGING",
    "C": "STAIRS",
    "D": "SITTING",
    "E": "STANDING",
    "F": "TYPING",
    "G": "BRUSHING_TEETH",
    "H": "EATING_SOUP",
    "I": "EATING_CHIPS",
    "J": "EATING_PASTA",
    "K": "DRINKING",
    "L": "EATING_SANDWICH",
    "M": "KICKING",
    "O": "CATCH",
    "P": "DRIBBLING",
    "Q": "WRITING",
    "R": "CLAPPING",
    "S": "FOLDING_CLOTHES",
}
LABELS = tuple(_CODES.values())

#: Description, source and licence for the model card.
ABOUT = """\
WISDM Smartphone and Smartwatch Activity and Biometrics Dataset, the raw signals of the watch at 20 Hz: students aged
18 to 25, each doing 18 everyday activities for three minutes. Accelerometer and gyroscope have time stamps of their own
and were placed on one grid by the clock that serves live devices.

Placement: a watch (LG G Watch) at the wrist of the dominant hand.

Source: UCI Machine Learning Repository, 2019; Gary M. Weiss, Kenichi Yoneda, Thaier Hayajneh: Smartphone and
Smartwatch-Based Biometrics Using Activities of Daily Living, IEEE Access 7, 2019.

Licence: CC BY 4.0."""

#: A warning is logged if less than this share of a subject's accelerometer samples has gyroscope samples.
_MIN_OVERLAP = 0.95
_FILE = re.compile(r"data_(\d+)_(accel|gyro)_watch\.txt")
_LINE = re.compile(
    rb"^[ \t]*(\d+),([A-Z]),(\d{1,18}),(%s),(%s),(%s)[ \t]*;?[ \t\r]*$" % (NUMBER, NUMBER, NUMBER), re.MULTILINE
)
_TEXT = re.compile(rb"^.*[^\s;].*$", re.MULTILINE)


def load(path: Path) -> list[Recording]:
    """Return every session of a folder or zip (also in a zip inside the zip), in g and rad/s at 20 Hz.

    A recording is one activity of one subject, such as ``1601_WALKING``. After a gap that is longer than the Engine
    bridges, or a change of rate, the rest is another recording, ``1601_WALKING_2``. Malformed lines are skipped and
    their number is logged.

    Raises:
        DatasetError: There is no file, a file is present twice, a subject has only one of the two sensors, or a file
            has no valid line.

    """
    samples: dict[tuple[str, str, str], list[StampedSamples]] = {}  # by subject, sensor and code
    names: dict[tuple[str, str], str] = {}  # of the files, by subject and sensor
    for name, text in files.read_files(path, lambda last: _FILE.fullmatch(last) is not None):
        match = _FILE.fullmatch(PurePosixPath(name).name)
        assert match
        subject, sensor = match.groups()
        if (subject, sensor) in names:
            raise DatasetError(
                f"{path}: expected one {match[0]}, found {names[subject, sensor]} and {name}: remove one"
            )
        names[subject, sensor] = name
        for code, session in _parse_sessions(text, subject, f"{path}/{name}"):
            samples.setdefault((subject, sensor, code), []).append(session)
    if not names:
        raise DatasetError(f"{path}: expected files data_NNNN_accel_watch.txt, found none")
    for subject, sensor in names:
        other = "gyro" if sensor == "accel" else "accel"
        if (subject, other) not in names:
            raise DatasetError(f"{path}: data_{subject}_{other}_watch.txt is missing, for {names[subject, sensor]}")
    return _make_recordings(samples)


def _parse_sessions(text: bytes, subject: str, where: str) -> list[tuple[str, StampedSamples]]:
    """Return (code of the activity, samples in g or rad/s) of each session of one file; ``where`` is its path."""
    rows = [row for row in _LINE.findall(text) if row[0].decode() == subject and row[1].decode() in _CODES]
    malformed = len(_TEXT.findall(text)) - len(rows)
    if not rows:
        raise DatasetError(f"{where}: expected lines '{subject},code,time in ns,x,y,z;', got {malformed} other lines")
    if malformed:
        log.warning("%s: skipped %d malformed lines of %d", where, malformed, malformed + len(rows))
    columns = np.array(rows, np.bytes_).T
    codes, t_ns, samples = columns[1], columns[2].astype(np.int64), columns[3:].T.astype(np.float32)
    if where.endswith("accel_watch.txt"):
        samples *= np.float32(ACC_UNITS["m/s2"])
    return [
        (codes[part.start].decode(), StampedSamples(t_ns[part], samples[part])) for part in split_sessions(t_ns, codes)
    ]


def _make_recordings(samples: dict[tuple[str, str, str], list[StampedSamples]]) -> list[Recording]:
    """Place all samples on grids, and merge the two sensors of each activity of each subject."""
    keys = [key for key, sessions in samples.items() for _ in sessions]
    grids = resample_to_grid([session for sessions in samples.values() for session in sessions], RATE_HZ)
    pieces: dict[tuple[str, str, str], list[Piece]] = {}
    for key, grid in zip(keys, grids, strict=True):
        pieces.setdefault(key, []).extend(grid)
    recordings: list[Recording] = []
    for subject in sorted({subject for subject, _, _ in pieces}):
        first, acc_samples = len(recordings), 0
        for code, label in _CODES.items():
            acc, gyro = (pieces.get((subject, sensor, code), []) for sensor in ("accel", "gyro"))
            both = merge_sources(acc, gyro, RATE_HZ)
            name = f"{subject}_{label}"
            recordings += make_recordings(name, subject, RATE_HZ, label, both, has_gyro=True, placement="wrist")
            acc_samples += sum(map(len, acc))
        kept = sum(len(recording.samples) for recording in recordings[first:])
        if kept < _MIN_OVERLAP * acc_samples:
            log.warning(
                "subject %s: used %d s of %d s, which both sensors recorded",
                subject,
                kept / RATE_HZ,
                acc_samples / RATE_HZ,
            )
    return recordings
