"""What every loader returns, and the one place that knows the kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harstream.errors import DatasetError


@dataclass(frozen=True, slots=True)
class Segment:
    """A labelled stretch of a recording: samples ``start`` to ``stop`` (exclusive, 0-based)."""

    start: int
    stop: int
    label: str


@dataclass(frozen=True, slots=True)
class Recording:
    """One uninterrupted recording of one subject, at a constant rate, its first sample at time 0."""

    name: str  # unique in its data set; valid as a device name
    subject: str  # who wore it: folds are made by this
    rate_hz: float
    samples: npt.NDArray[np.float32]  # (n_samples, 6) acc in g, gyro in rad/s
    segments: tuple[Segment, ...]  # in order of time, not overlapping; may leave gaps
    has_gyro: bool = True  # False: it was recorded without a gyroscope, and gyro is 0

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.rate_hz


@dataclass(frozen=True, slots=True)
class PublishedWindows:
    """Windows as their publisher filtered and cut them; nothing is left of the recordings they come from."""

    windows: npt.NDArray[np.float32]  # (n_windows, 128, 9) in the order of core.spec.DEFAULT_CHANNELS, g and rad/s
    label: npt.NDArray[np.int64]  # (n_windows,) index into ``labels``
    labels: tuple[str, ...]
    subject: npt.NDArray[np.str_] | None  # (n_windows,); None: they come without
    rate_hz: float = 50.0


#: KIND of ``--data KIND:PATH`` to the module that reads it, imported when asked for: its ``load`` gives recordings.
KINDS = {
    "hapt": "harstream.datasets.hapt",
    "wisdm-watch": "harstream.datasets.wisdm",
    "actitracker": "harstream.datasets.actitracker",
    "csv": "harstream.datasets.csv",
}
#: Kinds that hold windows only: their module's ``load_windows`` gives them.
WINDOW_KINDS = {"uci-har": "harstream.datasets.uci_har"}


def load(data: str) -> list[Recording]:
    """Read ``KIND:PATH``, where PATH is the folder or the archive as its publisher ships it.

    Raises DatasetError for an unknown kind, a missing path, a file that is not as the kind says, and for
    published windows, which are no recordings.
    """
    kind, path = _split(data)
    if kind in WINDOW_KINDS:
        raise DatasetError(
            f"{data}: windows that their publisher filtered and cut, no recordings: they cannot be split by subject, "
            f"trained on or replayed, only be scored by `harstream evaluate`; hapt is the same study's raw recordings"
        )
    load_recordings: Callable[[Path], list[Recording]] = import_module(KINDS[kind]).load
    recordings = load_recordings(path)
    if not recordings:
        raise DatasetError(f"{path}: holds no {kind} recording")
    return recordings


def load_windows(data: str) -> PublishedWindows:
    """Read ``KIND:PATH`` of a kind in WINDOW_KINDS. Raises DatasetError as ``load`` does."""
    kind, path = _split(data)
    if kind not in WINDOW_KINDS:
        raise DatasetError(f"{data}: holds recordings, no windows")
    load: Callable[[Path], PublishedWindows] = import_module(WINDOW_KINDS[kind]).load_windows
    return load(path)


def _split(data: str) -> tuple[str, Path]:
    kind, colon, path = data.partition(":")
    known = [*KINDS, *WINDOW_KINDS]
    if not colon or not path or kind not in known:
        raise DatasetError(f"{data!r} is not KIND:PATH with KIND one of {', '.join(known)}")
    if not Path(path).exists():
        raise DatasetError(f"{path}: no such file or folder")
    return kind, Path(path)


def select_subjects(recordings: Sequence[Recording], subjects: Sequence[str]) -> list[Recording]:
    """Only the recordings of these subjects. Raises DatasetError for one of whom there is none."""
    known = subject_names(recordings)
    for subject in subjects:
        if subject not in known:
            raise DatasetError(f"subject {subject!r}: the recordings are of {', '.join(known)}")
    return [recording for recording in recordings if recording.subject in subjects]


def subject_names(recordings: Sequence[Recording]) -> list[str]:
    """The subjects, sorted, each once."""
    return sorted({recording.subject for recording in recordings})
