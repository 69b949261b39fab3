"""Walking: 22 subjects walking outdoors with a phone in the chest pocket (UCI, Casale et al. 2012).

Layout: one file ``N.csv`` for each subject N, with samples ``t,x,y,z`` and no header. One comes every 30 ms, but some
are lost, so that the mean is 32 a second. Gaps last up to 8 s, and in two files the time jumps back by 2 s. In all of
``19.csv`` and 52 s of ``18.csv``, y is a copy of z.

Units: ``t`` in seconds, ``x,y,z`` in m/s2 with gravity; g in the recordings. The phone cuts each axis at 2 g. There is
no gyroscope.

Labels: WALKING, where the subject moves: they stop now and then, see ``gait``.

Licence: see ABOUT.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path, PurePosixPath

import numpy as np

from harstream.datasets import files, texts
from harstream.datasets.base import Recording
from harstream.datasets.gait import leave_out_still
from harstream.datasets.stamped import (
    Piece,
    StampedSamples,
    lasting,
    make_recordings,
    resample_to_grid,
    split_sessions,
)
from harstream.errors import DatasetError
from harstream.wire.samples import ACC_UNITS

log = logging.getLogger("harstream.datasets")

RATE_HZ = 32.0

LABELS = ("WALKING",)

#: Description, source and licence for the model card.
ABOUT = """\
User Identification From Walking Activity: accelerometer at 32 Hz, without gyroscope, of 22 people walking
outdoors on a predefined path.

Placement: an Android phone in the chest pocket.

Source: UCI Machine Learning Repository, 2014; Pierluigi Casale, Oriol Pujol, Petia Radeva: Personalization and user
verification in wearable systems using biometric walking patterns, Personal and Ubiquitous Computing 16(5), 563-580,
2012.

Licence: its README asks for the paper above to be cited; the repository lists CC BY 4.0."""

_PAIRS = ((1, 2), (1, 3), (2, 3))  # columns of two axes
_FILE = re.compile(r"(\d+)\.csv")
_LINE = re.compile(rb"^[ \t]*(%s),(%s),(%s),(%s)[ \t\r]*$" % ((texts.NUMBER,) * 4), re.MULTILINE)


def load(path: Path) -> list[Recording]:
    """Return every uninterrupted stretch of every subject, in g at 32 Hz, without gyroscope.

    The first recording of subject 17 is named ``17_WALKING``, the next one ``17_WALKING_2``: one begins after each gap
    that is longer than the Engine bridges. Malformed lines, and samples in which two axes are the same for so long, are
    left out and their number is logged.

    Raises:
        DatasetError: There is no file, a file is present twice, or a file has no valid line.

    """
    content: dict[str, list[StampedSamples]] = {}  # by subject
    for name, text in files.read_files(path, lambda last: _FILE.fullmatch(last) is not None):
        match = _FILE.fullmatch(PurePosixPath(name).name)
        assert match
        if match[1] in content:
            raise DatasetError(f"{path}: expected one {match[0]}, found two, the second is {name}: remove one")
        content[match[1]] = _parse_sessions(text, f"{path}/{name}" if path.name != name else str(path))
    if not content:
        raise DatasetError(f"{path}: expected files 1.csv, 2.csv and so on, found none")
    subjects = [subject for subject, sessions in content.items() for _ in sessions]
    grids = resample_to_grid([session for sessions in content.values() for session in sessions], RATE_HZ)
    pieces: dict[str, list[Piece]] = {}
    for subject, grid in zip(subjects, grids, strict=True):
        pieces.setdefault(subject, []).extend(grid)
    return [
        leave_out_still(recording)
        for subject in sorted(pieces, key=int)
        for recording in make_recordings(
            f"{subject}_WALKING",
            subject,
            RATE_HZ,
            "WALKING",
            pieces[subject],
            has_gyro=False,
            placement="chest",
        )
    ]


def _parse_sessions(text: bytes, where: str) -> list[StampedSamples]:
    """Return the samples of one file in g, split where time jumps back; ``where`` is its path."""
    values = np.array(texts.find_lines(_LINE, text, where, "t,x,y,z"), np.bytes_).astype(np.float64)
    copied = np.any([lasting(values[:, one] == values[:, other], values[:, 0]) for one, other in _PAIRS], axis=0)
    if copied.any():
        log.warning("%s: left out %d of %d samples, in which two axes are the same", where, copied.sum(), len(copied))
        values = values[~copied]
    t_ns = np.rint(values[:, 0] * 1e9).astype(np.int64)
    samples = (values[:, 1:] * ACC_UNITS["m/s2"]).astype(np.float32)
    return [StampedSamples(t_ns[part], samples[part]) for part in split_sessions(t_ns) if part.stop > part.start]
