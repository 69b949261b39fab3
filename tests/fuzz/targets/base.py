"""What all targets share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harstream.core.spec import SignalSpec

ROWS = (np.arange(18).reshape(3, 6) / 7).astype(np.float32)
T_NS = 1_763_668_800_020_000_000
#: Signal of an engine and of a bundle, with short windows.
SPEC = SignalSpec(sample_rate_hz=50.0, window_samples=8, stride_samples=3)
#: Between the parts of an input that has several.
SEPARATOR = b"\n--\n"


@dataclass(frozen=True, slots=True)
class Target:
    """Function that must not raise, and inputs to begin with."""

    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    share: float = 1.0  # of the executions asked for; less where one takes long


def check_line(text: str) -> None:
    """Check that a text about an input is one line for people, however long the input is."""
    assert text.isprintable()
    assert 0 < len(text) < 2000
