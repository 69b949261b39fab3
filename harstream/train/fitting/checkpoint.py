"""Checkpoint of one fit, from which an interrupted fit continues, and the files to watch it by.

The folder of a fit holds

- ``checkpoint.npz``: weights, optimizer state and weight averages after the last completed epoch, and the best weights
  so far. It needs no state of a random generator: random numbers follow from the seed and the number of the step.
- ``history.json``: the figures of each epoch (see ``history``).
- ``tensorboard/``: the same figures for TensorBoard, on demand.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from harstream.core.spec import SignalSpec
from harstream.datasets.windows import LabelledWindows
from harstream.storage import from_npz, replace_file, to_npz
from harstream.train.fitting import history as histories
from harstream.train.fitting.history import Epoch
from harstream.train.fitting.recipe import FitConfig

_log = logging.getLogger(__name__)

CHECKPOINT, HISTORY, TENSORBOARD = "checkpoint.npz", "history.json", "tensorboard"

Arrays = list[npt.NDArray[Any]]


@dataclass(slots=True)
class TrainingState:
    """The state of a training after a completed epoch."""

    values: dict[str, Arrays]  # values of the variables by group: "model", "optimizer", "averages", "best"
    history: list[Epoch] = field(default_factory=list)


def fingerprint(spec: SignalSpec, config: FitConfig, *data: LabelledWindows) -> str:
    """Return a hash of everything that decides a fit: signal, config, windows, and library versions."""
    libraries = {library: version(library) for library in ("tensorflow", "keras")}
    facts = {"spec": spec.to_dict(), "config": config.to_dict(), "labels": data[0].labels, "libraries": libraries}
    if data[0].states:
        facts["states"] = data[0].states
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16)
    for array in (array for one in data for array in (one.windows, one.label, one.subject, one.data_set)):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


class CheckpointFolder:
    """The folder in which one fit keeps its checkpoint, its history and its TensorBoard logs."""

    def __init__(self, folder: Path, key: str, tensorboard: bool = False) -> None:
        """Create the folder if it is missing.

        Args:
            folder: The folder.
            key: The ``fingerprint`` of the fit. A checkpoint with another key is not continued.
            tensorboard: Write logs for TensorBoard too.

        """
        self._folder, self._key = folder, key
        self._tensorboard = folder / TENSORBOARD if tensorboard else None
        self._writer: Any = None
        folder.mkdir(parents=True, exist_ok=True)

    def resume(self) -> TrainingState | None:
        """Return the state after the last completed epoch of this fit, or None if it must start from the beginning.

        A checkpoint that is damaged or belongs to another fit is logged and ignored, and its TensorBoard logs are
        removed: TensorBoard would draw two fits as one curve.
        """
        path = self._folder / CHECKPOINT
        try:
            content = from_npz(path.read_bytes())
            facts = content["facts"]
            if facts["key"] == self._key:
                values = {name: [content[f"{name}{i}"] for i in range(n)] for name, n in facts["groups"].items()}
                history = histories.from_json(facts["history"])
                _log.info("%s: training continues after epoch %d", path, len(history))
                return TrainingState(values, history)
            _log.warning("%s: belongs to other data or another config; training starts at epoch 1", path)
        except FileNotFoundError:
            pass
        except (OSError, KeyError, TypeError, ValueError) as error:
            _log.warning("%s: cannot be read (%s); training starts at epoch 1", path, error)
        for old in (self._folder / TENSORBOARD).glob("events.out.tfevents.*"):
            old.unlink()
        return None

    def save(self, state: TrainingState) -> None:
        """Write the checkpoint, the history, and the last epoch to TensorBoard."""
        groups = {name: len(values) for name, values in state.values.items()}
        facts = {"key": self._key, "groups": groups, "history": [asdict(epoch) for epoch in state.history]}
        arrays = {f"{name}{i}": value for name, values in state.values.items() for i, value in enumerate(values)}
        replace_file(self._folder / CHECKPOINT, to_npz(arrays, {"facts": facts}, compress=False))
        replace_file(self._folder / HISTORY, histories.to_json(state.history).encode())
        if self._tensorboard is not None:
            if self._writer is None:
                self._writer = tf.summary.create_file_writer(str(self._tensorboard))
            with self._writer.as_default(step=state.history[-1].epoch):
                for name, value in asdict(state.history[-1]).items():
                    if name != "epoch" and value is not None:
                        _write_scalar(name, value)
            self._writer.flush()


def _write_scalar(name: str, value: float) -> None:
    """Write what ``tf.summary.scalar`` writes; that function needs the package tensorboard."""
    metadata = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"}, data_class=1)  # 1: a scalar
    tf.summary.write(name, tf.constant(value, tf.float32), metadata=metadata)


def snapshot(variables: Sequence[tf.Variable]) -> Arrays:
    """Return a copy of the value of each variable."""
    return [variable.numpy().copy() for variable in variables]


def assign(variables: Sequence[tf.Variable], values: Arrays) -> None:
    """Set each variable to its value of a snapshot."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
