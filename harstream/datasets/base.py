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
    """One uninterrupted recording of one wearer, at a constant rate, its first sample at time 0."""

    name: str  # unique in its data set; valid as a device name
    subject: str  # who wore it: folds are made by this
    rate_hz: float
    samples: npt.NDArray[np.float32]  # (n_samples, 6) acc in g, gyro in rad/s
    segments: tuple[Segment, ...]  # in order of time, not overlapping; may leave gaps

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.rate_hz


Loader = Callable[[Path], list[Recording]]

#: KIND of ``--data KIND:PATH`` to the module that reads it, imported when asked for.
KINDS = {"hapt": "harstream.datasets.hapt"}


def load(data: str) -> list[Recording]:
    """Read ``KIND:PATH``, where PATH is the folder or the zip as its publisher ships it.

    Raises DatasetError for an unknown kind, a missing path, or a file that is not as the kind says.
    """
    kind, colon, path = data.partition(":")
    if not colon or kind not in KINDS:
        raise DatasetError(f"{data!r} is not KIND:PATH with KIND one of {', '.join(KINDS)}")
    if not Path(path).exists():
        raise DatasetError(f"{path}: no such file or folder")
    loader: Loader = import_module(KINDS[kind]).load
    recordings = loader(Path(path))
    if not recordings:
        raise DatasetError(f"{path}: holds no {kind} recording")
    return recordings


def subjects(recordings: Sequence[Recording]) -> list[str]:
    """The wearers, sorted, each once."""
    return sorted({recording.subject for recording in recordings})
