"""Fuzz targets: functions of bytes that raise if a decoder lets out another exception than its own, or a bad result.

``python -m tests.fuzz`` runs them under atheris, and ``test_targets.py`` a few examples of each with hypothesis. Each
module has those of a subject, by name.
"""

from __future__ import annotations

from . import core, files, payloads
from .base import SEPARATOR, Target

__all__ = ["SEPARATOR", "TARGETS", "Target"]

TARGETS: dict[str, Target] = payloads.TARGETS | core.TARGETS | files.TARGETS
