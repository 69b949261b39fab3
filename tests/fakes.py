"""Substitutes for clocks and networks."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest

from harstream.core.batches import Float32


class Clock:
    """Clock that stands still until a test sets ``now_s``."""

    def __init__(self, now_s: float = 100.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def replace_monotonic(monkeypatch: pytest.MonkeyPatch, module: ModuleType, clock: Callable[[], float]) -> None:
    """Replace the monotonic clock of one module; other modules, and threads of theirs, keep the real one."""
    monkeypatch.setattr(module, "time", SimpleNamespace(**{**vars(time), "monotonic": clock}))


class FunctionNetwork:
    """Network that computes its logits by a Python function of the normalised windows."""

    input_shape: tuple[int, ...] = (128, 9)
    n_outputs = 6

    def __init__(self, function: Callable[[Float32], Float32]) -> None:
        self._function = function

    def __call__(self, inputs: Float32) -> Float32:
        return self._function(inputs)
