"""Actitracker: six activities with a phone in the trouser pocket (WISDM Lab, Fordham University, Kwapisz et al. 2010).

Layout: one file, ``WISDM_ar_v1.1_raw.txt``, with samples ``user,activity,time in ns,x,y,z;`` at 20 Hz. Most lines hold
one sample, but some hold several, some samples lack a part, and some have 0 for the time.

Units: m/s2 in the file, g in the recordings. There is no gyroscope.

Labels: the name of the activity, such as ``Jogging``.

Licence: the publisher names none, see ABOUT.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np

from harstream.datasets import files
from harstream.datasets.base import Recording
from harstream.datasets.stamped import Piece, StampedSamples, make_recordings, resample_to_grid, split_sessions
from harstream.datasets.texts import NUMBER
from harstream.errors import DatasetError
from harstream.wire.samples import ACC_UNITS

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

#: Description, source and licence for the model card.
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
    """Return every uninterrupted stretch of one activity of one user, in g at 20 Hz, without gyroscope.

    The first recording of an activity is named ``33_JOGGING``, the next one ``33_JOGGING_2``. Malformed samples and
    those without time are skipped, and their number is logged.

    Args:
        path: The file, or a folder, zip or tar that holds it.

    Raises:
        DatasetError: There is no such file, more than one, or no valid sample in it.

    """
    content = list(files.read_files(path, lambda last: _FILE.fullmatch(last) is not None))
    if len(content) != 1:
        names = ", ".join(name for name, _ in content) or "none"
        raise DatasetError(f"{path}: expected one file WISDM_ar_v1.1_raw.txt, found {names}")
    users, activities, samples = _parse_sessions(content[0][1], f"{path}/{content[0][0]}")
    pieces: dict[tuple[str, str], list[Piece]] = {}
    for user, activity, grid in zip(users, activities, resample_to_grid(samples, RATE_HZ), strict=True):
        pieces.setdefault((user, activity), []).extend(grid)
    return [
        recording
        for (user, label), grid in sorted(pieces.items(), key=lambda item: (int(item[0][0]), item[0][1]))
        for recording in make_recordings(
            f"{user}_{label}", user, RATE_HZ, label, grid, has_gyro=False, placement="pocket"
        )
    ]


def _parse_sessions(text: bytes, where: str) -> tuple[list[str], list[str], list[StampedSamples]]:
    """Return user, activity and samples in g of every session, in order of the file; ``where`` is its path."""
    parts = [part for part in re.split(rb"[;\n]", text) if part.strip(b" \t\r,")]
    rows = [match.groups() for part in parts if (match := _SAMPLE.fullmatch(part)) and int(match[3]) > 0]
    if not rows:
        raise DatasetError(
            f"{where}: expected samples 'user,activity,time in ns,x,y,z;', got {len(parts)} texts of another form"
        )
    if len(rows) < len(parts):
        skipped = len(parts) - len(rows)
        log.warning("%s: skipped %d of %d samples, malformed or without time", where, skipped, len(parts))
    columns = np.array(rows, np.bytes_).T
    t_ns, samples = columns[2].astype(np.int64), columns[3:].T.astype(np.float32) * np.float32(ACC_UNITS["m/s2"])
    sessions = split_sessions(t_ns, columns[0], columns[1])
    return (
        [columns[0, part.start].decode() for part in sessions],
        [_ACTIVITIES[columns[1, part.start].decode()] for part in sessions],
        [StampedSamples(t_ns[part], samples[part]) for part in sessions],
    )
