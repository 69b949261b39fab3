"""Recordings of real wearers: files as their publishers ship them, read into samples and labels."""

from harstream.datasets.base import KINDS, Recording, Segment, load

__all__ = ["KINDS", "Recording", "Segment", "load"]
