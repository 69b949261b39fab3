"""SP-SW: phones in the trouser pocket and watches during a few steps and turns (Universitat Jaume I, 2023).

Layout: ``DATA/sNN/sNN_MM_sp.csv`` is execution MM of subject NN as the phone recorded it, ``sNN_MM_sw.csv`` as the
watch did. The first line is the header, each further line a sample
``x_acc,y_acc,z_acc,x_gyro,y_gyro,z_gyro,timestamp,label``. ``DATA/executions_info.csv`` tells how the phone lay in the
pocket: ``front``, its screen away from the body, or ``back``, and upside down with ``_inv``.

Units: m/s2 with gravity, rad/s and ms in the files; g and rad/s in the recordings. The sensors run at 104 Hz (phones
104.4 Hz, watches 102.5 Hz by their stamps), but samples are handed over in bursts, with stamps of the handover.

Labels: ``label`` of each sample, in segments of 1 to 3 s: from the chair to another place and back.

Licence: CC BY 4.0, see ABOUT.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path, PurePosixPath

import numpy as np

from harstream.datasets import files, texts
from harstream.datasets.base import Recording
from harstream.datasets.stamped import (
    StampedLabels,
    StampedSamples,
    even_stamps,
    make_recordings,
    resample_to_grid,
)
from harstream.errors import DatasetError
from harstream.wire.samples import ACC_UNITS

RATE_HZ = 104.0

_ACTIVITIES = {
    "SEATED": "SITTING",
    "STANDING_UP": "SIT_TO_STAND",
    "WALKING": "WALKING",
    "TURNING": "TURNING",
    "SITTING_DOWN": "STAND_TO_SIT",
}
LABELS = tuple(_ACTIVITIES.values())

#: Description, source and licence for the model card.
ABOUT = """\
Dataset of inertial measurements of smartphones and smartwatches for human activity recognition: 23 subjects rising
from a chair, walking a few steps, turning, walking back and sitting down again, at 104 Hz.

Placement: a phone in the trouser pocket, in four orientations, and a watch at the wrist.

Source: Zenodo, doi 10.5281/zenodo.8398688; Miguel Matey-Sanz, Sven Casteleyn, Carlos Granell: Dataset of inertial
measurements of smartphones and smartwatches for human activity recognition, Data in Brief, 109809, 2023.

Licence: CC BY 4.0."""

_EXECUTIONS = "executions_info.csv"
_FILE = re.compile(r"((s\d+)_\d+)_(sp|sw)\.csv")
_PLACEMENTS = {"sp": "pocket", "sw": "wrist"}
_LINE = re.compile(
    rb"^%s(\d{1,15}),(%s)[ \t\r]*$" % (rb"(%s)," % texts.NUMBER * 6, "|".join(_ACTIVITIES).encode()), re.MULTILINE
)


def load(path: Path) -> list[Recording]:
    """Return every execution of a folder or zip, in g and rad/s at 104 Hz.

    A recording of a phone is named by its orientation in the pocket, such as ``s01_01_sp_back_inv``, one of a watch
    ``s01_01_sw``. Malformed lines are skipped and their number is logged.

    Raises:
        DatasetError: There is no file, a file is present twice or has no valid line, or executions_info.csv is missing
            or lacks an execution.

    """
    orientations: dict[str, str] | None = None  # by execution
    content: dict[str, tuple[re.Match[str], StampedSamples, StampedLabels]] = {}
    for name, text in files.read_files(path, lambda last: last == _EXECUTIONS or _FILE.fullmatch(last) is not None):
        last, where = PurePosixPath(name).name, f"{path}/{name}"
        if last == _EXECUTIONS:
            orientations = _parse_executions(text, where)
        elif last in content:
            raise DatasetError(f"{path}: expected one {last}, found two, the second is {name}: remove one")
        elif match := _FILE.fullmatch(last):
            content[last] = (match, *_parse(text, where))
    if not content:
        raise DatasetError(f"{path}: expected files sNN_MM_sp.csv and sNN_MM_sw.csv, found none")
    if orientations is None:
        raise DatasetError(f"{path}: {_EXECUTIONS} is missing")
    grids = resample_to_grid([samples for _, samples, _ in content.values()], RATE_HZ)
    recordings = []
    for (match, _, labels), pieces in zip(content.values(), grids, strict=True):
        execution, subject, device = match.groups()
        if execution not in orientations:
            raise DatasetError(f"{path}: {_EXECUTIONS} has no line for {execution}")
        name = f"{execution}_{device}" + (f"_{orientations[execution]}" if device == "sp" else "")
        recordings += make_recordings(
            name, subject, RATE_HZ, labels, pieces, has_gyro=True, placement=_PLACEMENTS[device]
        )
    return sorted(recordings, key=lambda recording: recording.name)


def _parse_executions(text: bytes, where: str) -> dict[str, str]:
    """Return the orientation of the phone by execution."""
    rows = list(csv.DictReader(text.decode("utf-8-sig", errors="replace").splitlines()))
    if not rows or not {"execution_id", "orientation"} <= rows[0].keys():
        raise DatasetError(f"{where}: expected the columns execution_id and orientation")
    return {row["execution_id"]: row["orientation"] for row in rows}


def _parse(text: bytes, where: str) -> tuple[StampedSamples, StampedLabels]:
    """Return samples in g and rad/s of one file and their labels; ``where`` is its path."""
    _, _, lines = text.partition(b"\n")  # the first line is the header
    columns = np.array(texts.find_lines(_LINE, lines, where, "x_acc,...,z_gyro,timestamp,label"), np.bytes_).T
    t_ns = even_stamps(columns[6].astype(np.int64) * 1_000_000, RATE_HZ)
    samples = columns[:6].T.astype(np.float32)
    samples[:, :3] *= np.float32(ACC_UNITS["m/s2"])
    labels = np.array([_ACTIVITIES[code.decode()] for code in columns[7]])
    return StampedSamples(t_ns, samples), StampedLabels(t_ns, labels)
