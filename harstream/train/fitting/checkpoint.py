"""A fit's working folder: where an interrupted fit goes on from, and what there is to look at meanwhile.

``checkpoint.npz`` has the weights, the optimizer and the averages after the last whole epoch, and the
best weights so far; ``history.json`` what each epoch came to (see ``curves``); ``tensorboard/`` the same for
TensorBoard, if asked for. Random numbers need no place in it: they follow from seed and step.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from harstream.core.spec import SignalSpec
from harstream.datasets.windows import LabelledWindows
from harstream.train.fitting import history as curves
from harstream.train.fitting.history import Epoch
from harstream.train.fitting.recipe import FitConfig

_log = logging.getLogger(__name__)

CHECKPOINT, HISTORY, TENSORBOARD = "checkpoint.npz", "history.json", "tensorboard"

Arrays = list[npt.NDArray[Any]]


@dataclass(slots=True)
class State:
    """All that changes while a network is trained."""

    values: dict[str, Arrays]  # of the variables, by group: the model's, the optimizer's, averages, the best
    history: list[Epoch] = field(default_factory=list)


def fingerprint(
    data: LabelledWindows, spec: SignalSpec, config: FitConfig, networks: Iterable[Sequence[npt.NDArray[Any]]] = ()
) -> str:
    """A hash of everything a fit follows from; ``networks`` are the weights of teachers it was given."""
    libraries = {library: version(library) for library in ("tensorflow", "keras")}
    facts = {"spec": spec.to_dict(), "config": config.to_dict(), "labels": data.labels, "libraries": libraries}
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16)
    arrays: Arrays = [data.windows, data.label, data.subject, *(value for weights in networks for value in weights)]
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


class Workplace:
    """The working folder of one fit."""

    def __init__(self, folder: Path, key: str, tensorboard: bool = False) -> None:
        """Makes the folder where there is none. ``key`` is the fit's ``fingerprint``."""
        self._folder, self._key = folder, key
        self._tensorboard = folder / TENSORBOARD if tensorboard else None
        self._writer: Any = None
        folder.mkdir(parents=True, exist_ok=True)

    def resume(self) -> State | None:
        """The state after the last whole epoch of this very fit; None where it has to start anew, and says why."""
        path = self._folder / CHECKPOINT
        try:
            with np.load(path, allow_pickle=False) as file:
                facts, arrays = json.loads(str(file["facts"])), dict(file)
            if facts["key"] == self._key:
                values = {name: [arrays[f"{name}{i}"] for i in range(n)] for name, n in facts["groups"].items()}
                history = curves.from_json(facts["history"])
                _log.info("%s: resumes after epoch %d", self._folder, len(history))
                return State(values, history)
            _log.warning("%s: starts anew, its checkpoint is of other data or another configuration", self._folder)
        except FileNotFoundError:
            pass
        except (OSError, EOFError, KeyError, TypeError, ValueError, BadZipFile) as error:
            _log.warning("%s: starts anew, its checkpoint cannot be read: %s", self._folder, error)
        for old in (self._folder / TENSORBOARD).glob("events.out.tfevents.*"):
            old.unlink()  # or the curves of two fits would be drawn as one
        return None

    def save(self, state: State) -> None:
        """Keep ``state``, of which the last epoch is new."""
        groups = {name: len(values) for name, values in state.values.items()}
        facts = {"key": self._key, "groups": groups, "history": [asdict(epoch) for epoch in state.history]}
        arrays = {f"{name}{i}": value for name, values in state.values.items() for i, value in enumerate(values)}
        buffer = io.BytesIO()
        np.savez(buffer, facts=np.array(json.dumps(facts)), **arrays)  # type: ignore[arg-type]
        write_whole(self._folder / CHECKPOINT, buffer.getvalue())
        write_whole(self._folder / HISTORY, curves.to_json(state.history).encode())
        if self._tensorboard is not None:
            if self._writer is None:
                self._writer = tf.summary.create_file_writer(str(self._tensorboard))
            with self._writer.as_default(step=state.history[-1].epoch):
                for name, value in asdict(state.history[-1]).items():
                    if name != "epoch" and value is not None:
                        _write_scalar(name, value)
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _write_scalar(name: str, value: float) -> None:
    """As ``tf.summary.scalar`` does, which is missing where the package tensorboard is."""
    metadata = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"}, data_class=1)  # 1: a scalar
    tf.summary.write(name, tf.constant(value, tf.float32), metadata=metadata)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that whoever reads it, even after a crash, finds the old or the new, never half of one."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def snapshot(variables: Sequence[tf.Variable]) -> Arrays:
    """The variables' values now."""
    return [variable.numpy().copy() for variable in variables]


def assign(variables: Sequence[tf.Variable], values: Arrays) -> None:
    """Give each variable its value of a snapshot."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
