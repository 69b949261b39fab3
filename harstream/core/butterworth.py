"""Butterworth low-pass as a cascade of second-order sections.

SciPy has the same, and ``recurse`` is its routine. But ``import scipy.signal`` takes more than half of the start of a
daemon, and a daemon that was killed labels that much later. So the design is here, and of SciPy only the compiled
routine is loaded.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import numpy as np

from harstream.core.batches import Float64


def _load_sosfilt() -> Callable[[Float64, Float64, Float64], None]:
    """Return SciPy's compiled ``sosfilt``: (sections, signals, states), in place. Do not import the package around it.

    A SciPy that keeps the routine elsewhere still gives it, in its own time.
    """
    package = importlib.util.find_spec("scipy")  # finds it without importing it
    for folder in package.submodule_search_locations or () if package is not None else ():
        for suffix in EXTENSION_SUFFIXES:
            path = Path(folder) / "signal" / f"_sosfilt{suffix}"
            if path.is_file():
                spec = importlib.util.spec_from_file_location("_sosfilt", path)
                if spec is not None and spec.loader is not None:
                    module: Any = importlib.util.module_from_spec(spec)
                    spec.loader.exec_module(module)
                    return module._sosfilt  # type: ignore[no-any-return]
    from scipy.signal import _sosfilt

    return _sosfilt._sosfilt  # type: ignore[no-any-return]


_sosfilt = _load_sosfilt()


def design(order: int, cutoff_hz: float, rate_hz: float) -> Float64:
    """Return the sections of a digital Butterworth low-pass, (n_sections, 6): b0, b1, b2, 1, a1, a2 of each.

    The poles of the analogue filter lie on a circle; the bilinear transform maps them, with the cutoff warped so that
    it stays where it is (Oppenheim and Schafer, Discrete-Time Signal Processing, section 7.1). As in SciPy, the pole
    nearest to the unit circle comes last, the first section has the gain, and an odd order has its single zero in the
    last section.

    Args:
        order: At least 1.
        cutoff_hz: Frequency at which the power is halved, below half the rate.
        rate_hz: Samples a second.

    """
    warped = 2.0 * np.tan(np.pi * cutoff_hz / rate_hz)
    angles = np.pi * (2 * np.arange(order) + order + 1) / (2 * order)
    analogue = warped * np.exp(1j * angles[: order // 2])  # one of each pair
    poles = (2.0 + analogue) / (2.0 - analogue)
    poles = poles[np.argsort(np.abs(poles))]
    sections = np.zeros(((order + 1) // 2, 6))
    sections[:, :4] = 1.0, 2.0, 1.0, 1.0  # two zeros at half the rate
    sections[order % 2 :, 4] = -2.0 * poles.real
    sections[order % 2 :, 5] = np.abs(poles) ** 2
    if order % 2:
        sections[0, 4] = -(2.0 - warped) / (2.0 + warped)
        sections[-1, 1:3] = 1.0, 0.0
    gains = sections[:, 3:].sum(axis=1) / sections[:, :3].sum(axis=1)
    sections[0, :3] *= np.prod(gains)  # a constant passes unchanged
    return sections


def steady(sections: Float64) -> Float64:
    """Return the state (n_sections, 2) in which a constant input of 1 gives a constant output."""
    state = np.empty((len(sections), 2))
    level = 1.0
    for (b0, b1, b2, _, a1, a2), delays in zip(sections.tolist(), state, strict=True):
        output = level * (b0 + b1 + b2) / (1.0 + a1 + a2)
        delays[1] = b2 * level - a2 * output
        delays[0] = b1 * level - a1 * output + delays[1]
        level = output
    return state


def recurse(sections: Float64, signals: Float64, states: Float64) -> tuple[Float64, Float64]:
    """Filter signals from their states on.

    The arithmetic is sample after sample, so the result does not depend on how a stream is cut, to the bit.

    Args:
        sections: (n_sections, 6), as ``design`` returns them.
        signals: (n_rows, n_samples, n_axes).
        states: (n_rows, n_sections, 2, n_axes).

    Returns:
        The filtered signals and the states after them, in the same shapes.

    """
    n_rows, n_samples, n_axes = signals.shape
    filtered = signals.transpose(0, 2, 1).reshape(-1, n_samples).copy()  # the routine overwrites both
    after = states.transpose(0, 3, 1, 2).reshape(-1, len(sections), 2).copy()
    _sosfilt(sections, filtered, after)
    return (
        filtered.reshape(n_rows, n_axes, n_samples).transpose(0, 2, 1),
        after.reshape(n_rows, n_axes, len(sections), 2).transpose(0, 2, 3, 1),
    )
