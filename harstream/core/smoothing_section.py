"""Smoothing: the validated ``smoothing`` section of a bundle, which names a method and its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harstream import checks
from harstream.core.posteriors import ExponentialFilter, HmmFilter, HysteresisFilter, PosteriorFilter
from harstream.core.transitions import SHARE_VIA_UNKNOWN, transitions_from_dwell, transitions_with_unknown
from harstream.errors import ConfigError

#: Parameters of each type of smoothing, besides ``unknown_below``.
_PARAMETERS = {
    "none": (),
    "exponential": ("weight",),
    "hysteresis": ("margin", "windows"),
    "hmm": ("dwell_s", "unknown_dwell_s", "unknown_share", "trust", "transitions", "fixed_lag_windows"),
}
MAX_FIXED_LAG_WINDOWS = 16
MAX_UNKNOWN_BELOW = 0.99


@dataclass(frozen=True, slots=True)
class Smoothing:
    """Method that smooths the labels of successive windows, and threshold below which the model abstains.

    - ``none`` labels each window by itself.
    - ``exponential`` averages the probabilities, with the weight ``weight`` for the newest window.
    - ``hysteresis`` changes to a label that leads the current one by ``margin`` in ``windows`` windows in a row.
    - ``hmm`` is the forward filter of a hidden Markov model. Its transitions are ``transitions``, or follow from the
      mean duration ``dwell_s`` of an activity. ``unknown_share`` of the changes pass through UNKNOWN, if the model may
      abstain. Events wait for ``fixed_lag_windows`` more windows.

    Parameters of other types than ``type`` have no effect.

    Raises:
        ConfigError: A parameter has a value that is not allowed. The message names it.

    """

    type: str = "none"
    unknown_below: float = 0.0  # a window whose top probability is below it is evidence for UNKNOWN; 0: never
    weight: float = 0.5
    margin: float = 0.0
    windows: int = 2
    dwell_s: float = 5.0
    unknown_dwell_s: float = 1.5  # mean duration of UNKNOWN in an hmm
    unknown_share: float = SHARE_VIA_UNKNOWN  # of the changes in an hmm that pass through UNKNOWN
    trust: float = 0.7  # exponent of the probabilities of a window in an hmm
    transitions: tuple[tuple[float, ...], ...] | None = None  # per stride, in the order of the outputs; rows sum to 1
    fixed_lag_windows: int = 0

    def __post_init__(self) -> None:
        checks.choice(self.type, "smoothing.type", tuple(_PARAMETERS))
        checks.number(self.unknown_below, "smoothing.unknown_below", minimum=0.0, maximum=MAX_UNKNOWN_BELOW)
        checks.number(self.weight, "smoothing.weight", minimum=0.01, maximum=1.0)
        checks.number(self.margin, "smoothing.margin", minimum=0.0, maximum=1.0)
        checks.whole_number(self.windows, "smoothing.windows", minimum=1, maximum=100)
        checks.number(self.dwell_s, "smoothing.dwell_s", minimum=0.01, maximum=1e6)
        checks.number(self.unknown_dwell_s, "smoothing.unknown_dwell_s", minimum=0.01, maximum=1e6)
        checks.number(self.unknown_share, "smoothing.unknown_share", minimum=0.0, maximum=1.0)
        checks.number(self.trust, "smoothing.trust", minimum=0.01, maximum=1.0)
        checks.whole_number(
            self.fixed_lag_windows, "smoothing.fixed_lag_windows", minimum=0, maximum=MAX_FIXED_LAG_WINDOWS
        )
        if self.transitions is not None:
            _check_transitions(self.transitions)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Smoothing:
        """Read the ``smoothing`` section of a bundle.

        Raises:
            ConfigError: A field is unknown, belongs to another type, or has a value that is not allowed.

        """
        parameters = sorted({name for names in _PARAMETERS.values() for name in names})
        fields = checks.fields(data, "smoothing", ["type"], ["unknown_below", *parameters])
        own = _PARAMETERS.get(str(fields["type"]), parameters)  # an unknown type is reported by the constructor
        checks.fields(data, "smoothing", ["type"], ["unknown_below", *own])
        if "transitions" in fields:
            where = "smoothing.transitions"
            rows = checks.sequence(fields["transitions"], where)
            fields["transitions"] = tuple(checks.sequence(row, f"{where}: row {i}") for i, row in enumerate(rows))
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that ``from_dict`` reads, with the parameters of the type only."""
        out = {name: getattr(self, name) for name in ("type", "unknown_below", *_PARAMETERS[self.type])}
        if out.get("unknown_share") == SHARE_VIA_UNKNOWN:
            del out["unknown_share"]  # bundles of schema 1 do not have it
        if out.get("transitions") is not None:
            out["transitions"] = [list(row) for row in out["transitions"]]
            del out["dwell_s"]  # without effect beside transitions
        else:
            out.pop("transitions", None)
        return out

    def check_outputs(self, n_labels: int, n_states: int = 0) -> None:
        """Raise ConfigError if the transitions have another number of rows than the network has outputs."""
        if self.transitions is not None and len(self.transitions) != n_labels + n_states:
            each = " and state" if n_states else ""
            outputs = f"{n_labels} labels" + (f" and {n_states} states" if n_states else "")
            raise ConfigError(
                f"smoothing.transitions: got {len(self.transitions)} rows for {outputs}, expected one per label{each}"
            )

    def build_filter(self, n_outputs: int, stride_s: float, capacity: int) -> PosteriorFilter:
        """Return the filter for the outputs and, if the model may abstain, UNKNOWN as the state after them."""
        n_states = n_outputs + (self.unknown_below > 0)
        if self.type == "exponential":
            return ExponentialFilter(self.weight, n_states, capacity)
        if self.type == "hysteresis":
            return HysteresisFilter(self.margin, self.windows, n_states, capacity)
        if self.type == "hmm":
            if self.transitions is None:
                transitions = transitions_from_dwell(self.dwell_s, stride_s, n_outputs)
            else:
                transitions = np.array(self.transitions)
            if self.unknown_below > 0:
                transitions = transitions_with_unknown(transitions, self.unknown_dwell_s, stride_s, self.unknown_share)
            return HmmFilter(transitions, self.trust, self.fixed_lag_windows, capacity)
        return PosteriorFilter(n_states, capacity)


def _check_transitions(rows: tuple[tuple[float, ...], ...]) -> None:
    for i, row in enumerate(rows):
        where = f"smoothing.transitions: row {i}"
        if len(row) != len(rows):
            raise ConfigError(f"{where}: expected {len(rows)} numbers, one per row, got {len(row)}")
        total = sum(checks.number(value, where, minimum=0.0, maximum=1.0) for value in row)
        if abs(total - 1) > 1e-6:
            raise ConfigError(f"{where}: expected numbers that sum to 1, got a sum of {total:g}")
