"""Recordings of real subjects: files as their publishers ship them, read into samples and labels."""

from harstream.datasets.base import (
    KINDS,
    WINDOW_KINDS,
    PublishedWindows,
    Recording,
    Segment,
    load,
    load_windows,
    select_subjects,
)

__all__ = [
    "KINDS",
    "WINDOW_KINDS",
    "PublishedWindows",
    "Recording",
    "Segment",
    "load",
    "load_windows",
    "select_subjects",
]
