"""WISDM 2019, the watch part: 18 everyday activities, at the wrist (UCI Machine Learning Repository, Weiss 2019).

The folder ``raw/watch`` holds two files per subject, ``accel/data_16NN_accel_watch.txt`` in m/s2 and
``gyro/data_16NN_gyro_watch.txt`` in rad/s, one sample a line: ``subject,code,time in ns,x,y,z;``. The code
is the activity's letter in ``activity_key.txt``; the samples of one activity are one session of about
three minutes. The sensors have clocks of their own, nominally 20 Hz; now and then the watch samples at
100 Hz for some seconds.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path, PurePosixPath

import numpy as np

from harstream.datasets import files
from harstream.datasets.base import Recording
from harstream.datasets.stamped import Piece, Stamped, merged, on_grid, recordings, sessions
from harstream.datasets.texts import NUMBER
from harstream.errors import DatasetError
from harstream.wire.payloads import ACC_UNITS

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

#: For the model card: what the recordings are, and whose.
ABOUT = """\
WISDM Smartphone and Smartwatch Activity and Biometrics Dataset, the raw signals of the watch at 20 Hz: students aged
18 to 25, each doing 18 everyday activities for three minutes. Accelerometer and gyroscope are stamped separately and
were put on one grid by the clock that serves live devices.

Placement: a watch (LG G Watch) at the wrist of the dominant hand.

Source: UCI Machine Learning Repository, 2019; Gary M. Weiss, Kenichi Yoneda, Thaier Hayajneh: Smartphone and
Smartwatch-Based Biometrics Using Activities of Daily Living, IEEE Access 7, 2019.

Licence: CC BY 4.0."""

#: Where the two sensors' times have less in common than this part, it is said.
_OVERLAP = 0.95
_FILE = re.compile(r"data_(\d+)_(accel|gyro)_watch\.txt")
_LINE = re.compile(
    rb"^[ \t]*(\d+),([A-Z]),(\d{1,18}),(%s),(%s),(%s)[ \t]*;?[ \t\r]*$" % (NUMBER, NUMBER, NUMBER), re.MULTILINE
)
_TEXT = re.compile(rb"^.*[^\s;].*$", re.MULTILINE)


def load(path: Path) -> list[Recording]:
    """Every session below a folder or in a zip, also a zip in it, in g and rad/s at 20 Hz.

    A recording is one subject's one activity, ``1601_WALKING``; where it is interrupted for longer than the
    Engine bridges, or the watch changed its rate, the rest is another, ``1601_WALKING_2``. A broken line is
    passed over, and how many there were is logged. Raises DatasetError where there is no file, a subject has
    only one of the two sensors, or a file has no valid line.
    """
    found: dict[tuple[str, str, str], list[Stamped]] = {}  # by subject, sensor and code
    read: dict[tuple[str, str], str] = {}
    for name, text in files.read(path, lambda last: _FILE.fullmatch(last) is not None):
        match = _FILE.fullmatch(PurePosixPath(name).name)
        assert match
        subject, sensor = match.groups()
        if (subject, sensor) in read:
            raise DatasetError(f"{path}: holds {read[subject, sensor]} and {name}: which of them is it?")
        read[subject, sensor] = name
        for code, session in _sessions(text, subject, f"{path}/{name}"):
            found.setdefault((subject, sensor, code), []).append(session)
    if not read:
        raise DatasetError(f"{path}: holds no data_NNNN_accel_watch.txt")
    for subject, sensor in read:
        other = "gyro" if sensor == "accel" else "accel"
        if (subject, other) not in read:
            raise DatasetError(f"{path}: {read[subject, sensor]} has no data_{subject}_{other}_watch.txt beside it")
    return _recordings(found)


def _sessions(text: bytes, subject: str, where: str) -> list[tuple[str, Stamped]]:
    """The sessions of one file, each with its activity's code, in g or rad/s."""
    rows = [row for row in _LINE.findall(text) if row[0].decode() == subject and row[1].decode() in _CODES]
    broken = len(_TEXT.findall(text)) - len(rows)
    if not rows:
        raise DatasetError(f"{where}: none of its {broken} lines is '{subject},code,time in ns,x,y,z;'")
    if broken:
        log.warning("%s: %d of %d lines passed over: broken", where, broken, broken + len(rows))
    columns = np.array(rows, np.bytes_).T
    codes, t_ns, samples = columns[1], columns[2].astype(np.int64), columns[3:].T.astype(np.float32)
    if where.endswith("accel_watch.txt"):
        samples *= np.float32(ACC_UNITS["m/s2"])
    return [(codes[part.start].decode(), Stamped(t_ns[part], samples[part])) for part in sessions(t_ns, codes)]


def _recordings(found: dict[tuple[str, str, str], list[Stamped]]) -> list[Recording]:
    keys = [key for key, several in found.items() for _ in several]
    pieces: dict[tuple[str, str, str], list[Piece]] = {}
    for key, some in zip(keys, on_grid([one for several in found.values() for one in several], RATE_HZ), strict=True):
        pieces.setdefault(key, []).extend(some)
    made: list[Recording] = []
    for subject in sorted({subject for subject, _, _ in pieces}):
        first, acc_samples = len(made), 0
        for code, label in _CODES.items():
            acc, gyro = (pieces.get((subject, sensor, code), []) for sensor in ("accel", "gyro"))
            both = merged(acc, gyro, RATE_HZ)
            made += recordings(f"{subject}_{label}", subject, RATE_HZ, label, both, has_gyro=True)
            acc_samples += sum(map(len, acc))
        kept = sum(len(recording.samples) for recording in made[first:])
        if kept < _OVERLAP * acc_samples:
            log.warning("subject %s: both sensors in %d s of %d s only", subject, kept / RATE_HZ, acc_samples / RATE_HZ)
    return made
