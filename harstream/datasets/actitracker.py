"""Actitracker: six activities with a phone in the trouser pocket (WISDM Lab, Fordham University, Kwapisz et al. 2010).

One file, ``WISDM_ar_v1.1_raw.txt``, one sample of the accelerometer in m/s2 each
``user,activity,time in ns,x,y,z;`` at 20 Hz. Most are one to a line, but some lines hold several, some
lack a part, and some have 0 for the time. There is no gyroscope.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np

from harstream.datasets import files
from harstream.datasets.base import Recording
from harstream.datasets.stamped import Piece, Stamped, on_grid, recordings, sessions
from harstream.datasets.texts import NUMBER
from harstream.errors import DatasetError
from harstream.wire.payloads import ACC_UNITS

log = logging.getLogger("harstream.datasets")

RATE_HZ = 20.0

_ACTIVITIES = {
    "Walking": "WALKING",
    "Jogging": "JOGGING",
    "Upstairs": "WALKING_UPSTAIRS",
    "Downstairs": "WALKING_DOWNSTAIRS",
    "Sitting": "SITTING",
    "Standing": "STANDING",
}
LABELS = tuple(_ACTIVITIES.values())

#: For the model card: what the recordings are, and whose.
ABOUT = """\
WISDM activity prediction data set, version 1.1 (often called Actitracker): accelerometer at 20 Hz, without
gyroscope, of 36 users walking, jogging, climbing stairs, sitting and standing under supervision.

Placement: an Android phone in the front trouser pocket.

Source: WISDM Lab, Fordham University; Jennifer R. Kwapisz, Gary M. Weiss, Samuel A. Moore: Activity Recognition using
Cell Phone Accelerometers, Proceedings of the Fourth International Workshop on Knowledge Discovery from Sensor Data
(at KDD-10), Washington DC, 2010.

Licence: none is named; the publisher asks for the paper above to be cited, and for readme.txt to be included where
the data are shared."""

_FILE = re.compile(r"WISDM_ar_v[\d.]+_raw\.txt")
_SAMPLE = re.compile(
    rb"\s*(\d+),(%s),(\d{1,18}),(%s),(%s),(%s),?\s*" % ("|".join(_ACTIVITIES).encode(), NUMBER, NUMBER, NUMBER)
)


def load(path: Path) -> list[Recording]:
    """Every uninterrupted stretch of one user's one activity, in g at 20 Hz, without gyroscope.

    ``path`` is the file, or a folder, zip or tar it lies in. A recording is ``33_JOGGING``, the next of
    the same ``33_JOGGING_2``. A broken sample is passed over, as is one without time, and how many there were
    is logged. Raises DatasetError where there is no file, more than one, or no valid sample in it.
    """
    found = list(files.read(path, lambda last: _FILE.fullmatch(last) is not None))
    if len(found) != 1:
        names = ", ".join(name for name, _ in found) or "no WISDM_ar_v1.1_raw.txt"
        raise DatasetError(f"{path}: holds {names}: expected one file of raw samples")
    users, activities, stamped = _samples(found[0][1], f"{path}/{found[0][0]}")
    pieces: dict[tuple[str, str], list[Piece]] = {}
    for user, activity, some in zip(users, activities, on_grid(stamped, RATE_HZ), strict=True):
        pieces.setdefault((user, activity), []).extend(some)
    return [
        recording
        for (user, label), several in sorted(pieces.items(), key=lambda item: (int(item[0][0]), item[0][1]))
        for recording in recordings(f"{user}_{label}", user, RATE_HZ, label, several, has_gyro=False)
    ]


def _samples(text: bytes, where: str) -> tuple[list[str], list[str], list[Stamped]]:
    """User, activity and samples in g of every session, as they follow each other in the file."""
    parts = [part for part in re.split(rb"[;\n]", text) if part.strip(b" \t\r,")]
    rows = [match.groups() for part in parts if (match := _SAMPLE.fullmatch(part)) and int(match[3]) > 0]
    if not rows:
        raise DatasetError(f"{where}: none of its {len(parts)} parts is 'user,activity,time in ns,x,y,z;'")
    if len(rows) < len(parts):
        log.warning("%s: %d of %d samples passed over: broken, or no time", where, len(parts) - len(rows), len(parts))
    columns = np.array(rows, np.bytes_).T
    t_ns, samples = columns[2].astype(np.int64), columns[3:].T.astype(np.float32) * np.float32(ACC_UNITS["m/s2"])
    several = sessions(t_ns, columns[0], columns[1])
    return (
        [columns[0, part.start].decode() for part in several],
        [_ACTIVITIES[columns[1, part.start].decode()] for part in several],
        [Stamped(t_ns[part], samples[part]) for part in several],
    )
