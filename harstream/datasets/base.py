"""Recordings and windows as every loader returns them, and the table of loaders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harstream.errors import DatasetError

#: Places on the body where a device was worn.
PLACEMENTS = ("waist", "pocket", "chest", "wrist", "ankle")


@dataclass(frozen=True, slots=True)
class Segment:
    """Labelled stretch of a recording."""

    start: int  # index of the first sample
    stop: int  # index after the last sample
    label: str


@dataclass(frozen=True, slots=True)
class Source:
    """Facts about a file of own recordings: what was understood of it."""

    file: str  # path of the file
    rows: int  # without header and empty ones
    left_out: Mapping[str, int]  # number of rows by reason
    form: str = ""  # separator and units, in words
    unused: tuple[str, ...] = ()  # names of the columns that are not known
    subject_by: str = ""  # what tells the subject
    has_label: bool = True  # there is a column of labels
    notes: tuple[str, ...] = ()  # sentences about other files of the folder


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording of one subject, without interruption and at a constant rate."""

    name: str  # unique in its data set and valid as a device name
    subject: str  # folds are made by this name
    rate_hz: float
    samples: npt.NDArray[np.float32]  # (n_samples, 6) acc x, y, z in g and gyro x, y, z in rad/s
    segments: tuple[Segment, ...]  # in order of time, without overlap; samples between them have no label
    has_gyro: bool = True  # False: there was no gyroscope, and the gyro columns are 0
    placement: str = ""  # where the device was worn, one of PLACEMENTS; empty: not known
    data_set: str = ""  # name of the data set, where recordings of several are put together
    source: Source | None = None  # of own recordings: its file, told by the first recording of a file only

    @property
    def duration_s(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.rate_hz

    @property
    def left_out(self) -> Mapping[str, int]:
        """Number of rows of the file that were left out, by reason; on its first recording."""
        return {} if self.source is None else self.source.left_out


@dataclass(frozen=True, slots=True)
class PrecutWindows:
    """Windows that their publisher filtered and cut. The recordings they come from are not in the data set."""

    windows: npt.NDArray[np.float32]  # (n_windows, 128, 9) channels as core.spec.DEFAULT_CHANNELS, g and rad/s
    label: npt.NDArray[np.int64]  # (n_windows,) index into ``labels``
    labels: tuple[str, ...]
    subject: npt.NDArray[np.str_] | None  # (n_windows,) names; None: the data set does not name the subjects
    rate_hz: float = 50.0


#: Module that reads each KIND of ``--data KIND:PATH``, imported on demand. Its ``load`` returns recordings.
KINDS = {
    "hapt": "harstream.datasets.hapt",
    "wisdm-watch": "harstream.datasets.wisdm",
    "actitracker": "harstream.datasets.actitracker",
    "umafall": "harstream.datasets.umafall",
    "sp-sw": "harstream.datasets.sp_sw",
    "difronzo": "harstream.datasets.difronzo",
    "walking": "harstream.datasets.walking",
    "csv": "harstream.datasets.csv",
}
#: The same for kinds that hold windows only. Their module's ``load_windows`` returns these.
WINDOW_KINDS = {"uci-har": "harstream.datasets.uci_har"}


def load(data: str) -> list[Recording]:
    """Read the recordings of ``KIND:PATH``; PATH is the folder or archive as its publisher ships it.

    Raises:
        DatasetError: The kind is unknown or holds windows only, the path is missing, or a file is malformed.

    """
    kind, path = _split_kind(data)
    if kind in WINDOW_KINDS:
        raise DatasetError(
            f"{data}: holds windows that their publisher filtered and cut, but recordings are needed: "
            "use `harstream evaluate`, or hapt, which has the raw recordings of the same study"
        )
    load_recordings: Callable[[Path], list[Recording]] = import_module(KINDS[kind]).load
    recordings = load_recordings(path)
    if not recordings:
        raise DatasetError(f"{path}: expected {kind} recordings, found none")
    return recordings


def load_windows(data: str) -> PrecutWindows:
    """Read the windows of ``KIND:PATH``, with a kind of WINDOW_KINDS.

    Raises:
        DatasetError: The kind is unknown or holds recordings, the path is missing, or a file is malformed.

    """
    kind, path = _split_kind(data)
    if kind not in WINDOW_KINDS:
        raise DatasetError(f"{data}: holds recordings, but windows are needed: use a kind of {', '.join(WINDOW_KINDS)}")
    load: Callable[[Path], PrecutWindows] = import_module(WINDOW_KINDS[kind]).load_windows
    return load(path)


def _split_kind(data: str) -> tuple[str, Path]:
    """Split ``KIND:PATH`` and check both parts."""
    kind, colon, path = data.partition(":")
    kinds = [*KINDS, *WINDOW_KINDS]
    if not colon or not path or kind not in kinds:
        mend = f": did you mean csv:{data}?" if data and Path(data).exists() else ""
        raise DatasetError(f"expected KIND:PATH with KIND one of {', '.join(kinds)}, got {data!r}{mend}")
    if not Path(path).exists():
        raise DatasetError(f"{path}: no such file or folder")
    return kind, Path(path)


def select_subjects(recordings: Sequence[Recording], subjects: Sequence[str]) -> list[Recording]:
    """Return the recordings of these subjects.

    Raises:
        DatasetError: A subject has no recording.

    """
    names = subject_names(recordings)
    for subject in subjects:
        if subject not in names:
            raise DatasetError(f"subject {subject!r} has no recording: the subjects are {', '.join(names)}")
    return [recording for recording in recordings if recording.subject in subjects]


def subject_names(recordings: Iterable[Recording]) -> list[str]:
    """Return the name of each subject once, sorted."""
    return sorted({recording.subject for recording in recordings})
