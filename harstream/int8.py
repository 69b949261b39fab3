"""Judgement of int8 against float32, by the figures that a bundle's training measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harstream import checks
from harstream.errors import ConfigError

#: Share of windows that int8 may label worse than float32 and still be chosen. And the share that int8 may miss of the
#: windows of strong signals that float32 finds unfamiliar: what exceeds its range looks like the end of that range.
MAX_LOSS, MAX_MISSED = 0.002, 0.05


@dataclass(frozen=True, slots=True)
class Int8Figures:
    """Figures of int8 that training measured; None: not measured."""

    loss: float | None  # accuracy of float32 minus that of int8 in the cross-validation
    missed: float | None  # share of strong windows unfamiliar to float32 that int8 takes for familiar
    added: float | None  # share of training windows familiar to float32 that int8 takes for unfamiliar

    @classmethod
    def of(cls, training: Mapping[str, Any]) -> Int8Figures:
        """Read the figures in the ``training`` of a bundle, which may hold anything."""
        float32, int8 = (_figure(training, "metrics", name, "accuracy", "mean") for name in ("float32", "int8"))
        # 0.98 - 0.978 is a little more than 0.002
        loss = None if float32 is None or int8 is None else round(float32 - int8, 9)
        return cls(loss, _figure(training, "int8_missed"), _figure(training, "int8_added"))

    def is_as_right(self, *, tells_unfamiliar: bool) -> bool:
        """Return whether int8 may be chosen; ``tells_unfamiliar``: the bundle has a test of unfamiliar windows."""
        if self.loss is None or not tells_unfamiliar:
            return self.loss is not None and self.loss <= MAX_LOSS
        if self.missed is None or self.added is None:
            return False
        return self.loss + self.added <= MAX_LOSS and self.missed <= MAX_MISSED


def _figure(training: Mapping[str, Any], *keys: str) -> float | None:
    """Return the number that the keys lead to, or None if there is no such number."""
    value: Any = training
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    try:
        return checks.number(value, ".".join(keys))
    except ConfigError:
        return None
