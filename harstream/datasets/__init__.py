"""Data sets: recordings of real subjects, read from the files that their publishers ship into samples and labels."""

from harstream.datasets.base import (
    KINDS,
    WINDOW_KINDS,
    PrecutWindows,
    Recording,
    Segment,
    load,
    load_windows,
    select_subjects,
)

__all__ = [
    "KINDS",
    "WINDOW_KINDS",
    "PrecutWindows",
    "Recording",
    "Segment",
    "load",
    "load_windows",
    "select_subjects",
]
