"""Stand-ins for the work of a training process that import no TensorFlow, which would take seconds."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harstream.core.spec import SignalSpec
from harstream.errors import DatasetError

_epochs: Any = None


@dataclass(frozen=True)
class LightTask:
    spec: SignalSpec
    work: str  # "fit", "refuse", "die" or "sleep"


def start_process(epochs: Any, is_alone: bool) -> None:
    global _epochs
    _epochs = epochs


def fit_fold(index: int, task: LightTask, folder: Path) -> tuple[int, int, list[str]]:
    """Return index, process and the files of the windows."""
    if task.work == "refuse":
        raise DatasetError("no window")
    if task.work == "die":
        os._exit(1)
    if task.work == "sleep":
        time.sleep(3600)
    _epochs.put((index, 1))
    return index, os.getpid(), sorted(path.name for path in folder.iterdir())
