"""State of devices behind the engine, as it was saved: what the smoother knows, and their last labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harstream.bundle import Bundle
from harstream.core.engine import Engine
from harstream.core.problems import Problem
from harstream.core.smoothing import Smoother
from harstream.core.smoothing_section import Smoothing


@dataclass(frozen=True, slots=True)
class LabelState:
    """Smoother and last labels of some devices, and what their numbers stand for."""

    model: str  # id of the bundle in use when it was saved
    labels: tuple[str, ...]
    states: tuple[str, ...]
    smoother: Smoother
    last_labels: Sequence[Any]  # as ``LastLabels.to_list`` returns them
    to_clear: Sequence[str]

    @classmethod
    def read(cls, facts: Mapping[str, Any], arrays: Mapping[str, Any], model: str | None = None) -> LabelState:
        """Return the state that ``Pipeline.snapshot_labels`` returned, to go on with a model.

        Raises:
            ValueError: It is malformed.
            KeyError: A part of it is missing.

        """
        names, states = tuple(facts["labels"]), tuple(facts["states"])
        spec = json.loads(str(arrays["engine spec"]))
        stride_s = spec["stride_samples"] / spec["sample_rate_hz"]
        smoother = Smoother(Smoothing.from_dict(facts["smoothing"]), len(names), stride_s, len(states))
        smoother.restore(part(arrays, "smoother"))
        if facts["model"] != model:  # it may know other signals
            smoother.forget_unfamiliar()
        return cls(facts["model"], names, states, smoother, facts["last_labels"], facts["to_clear"])

    @property
    def outputs(self) -> tuple[str, ...]:
        """Labels, then states between them."""
        return *self.labels, *self.states

    def fits(self, bundle: Bundle, smoothing: Smoothing) -> bool:
        """Return whether activities go on with a bundle and its smoothing."""
        same = (self.labels, self.states) == (bundle.labels, bundle.states)
        return same and self.smoother.smoothing == smoothing


@dataclass(frozen=True, slots=True)
class PartitionState:
    """State of the devices of a partition, from the file in which another worker left it."""

    path: Path
    engine: Engine | None  # None: it is of a model with other windows
    labels: LabelState

    def agree_on_unfamiliar(self, detail: str) -> None:
        """Let the engine agree with the smoother on unfamiliar devices; a change may have been on its way to it.

        Args:
            detail: One line for people about the problem.

        """
        if self.engine is not None:
            found, noted = set(self.labels.smoother.unfamiliar_devices()), self.engine.devices_with(Problem.UNFAMILIAR)
            for device in set(noted) - found:
                self.engine.end_problem(device, Problem.UNFAMILIAR)
            for device in found:
                self.engine.set_problem(device, Problem.UNFAMILIAR, detail)


def part(arrays: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the arrays of one part of a checkpoint, by their names in it."""
    return {key.removeprefix(f"{name} "): array for key, array in arrays.items() if key.startswith(f"{name} ")}
