"""Recordings of real wearers: files as their publishers ship them, read into samples and labels."""

from harstream.datasets.base import (
    KINDS,
    WINDOW_KINDS,
    PublishedWindows,
    Recording,
    Segment,
    load,
    load_windows,
    of_wearers,
)

__all__ = ["KINDS", "WINDOW_KINDS", "PublishedWindows", "Recording", "Segment", "load", "load_windows", "of_wearers"]
