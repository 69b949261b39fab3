"""Samples: the content of one message, whatever its format, and the checks and units that all formats share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Float32
from harstream.wire.reject import RejectError

STANDARD_GRAVITY = 9.80665  # m/s2
#: Unit to the factor that converts it to g.
ACC_UNITS = {"g": 1.0, "m/s2": 1 / STANDARD_GRAVITY}
#: Unit to the factor that converts it to rad/s.
GYRO_UNITS = {"rad/s": 1.0, "deg/s": math.pi / 180}

#: Largest magnitude of a sample, in g or rad/s. No sensor reaches it, and the filters would take minutes to
#: settle after a larger one.
MAX_MAGNITUDE = 1000.0

YEAR_2200_NS = 7_258_118_400 * 10**9


@dataclass(frozen=True, slots=True)
class Samples:
    """The decoded content of one message."""

    t_ns: int | None  # event time of the first sample, nanoseconds since 1970; None: the message has no time
    rate_hz: float  # 0: the message has no rate
    acc: Float32  # (n_samples, 3) in g
    gyro: Float32 | None  # (n_samples, 3) in rad/s; None: the message has no gyroscope

    @property
    def n_samples(self) -> int:
        """Number of samples, at least 1."""
        return len(self.acc)


@dataclass(frozen=True, slots=True)
class Units:
    """Units of messages that do not name their own."""

    acc: str = "g"  # a key of ACC_UNITS
    gyro: str = "rad/s"  # a key of GYRO_UNITS


def check_time(t_ns: int) -> int:
    """Return an event time if it is between 1970 and 2200. Raise RejectError otherwise."""
    if not 0 <= t_ns <= YEAR_2200_NS:
        raise RejectError("time", f"event time is {t_ns} ns since 1970, expected a time between 1970 and 2200")
    return t_ns


def check_rate(rate_hz: float | None) -> float:
    """Return a rate if it is finite and not negative, and 0 for None. Raise RejectError otherwise."""
    if rate_hz is None:
        return 0.0
    if not (math.isfinite(rate_hz) and rate_hz >= 0):
        raise RejectError("rate", f"rate_hz is {rate_hz!r}, expected a finite number, at least 0")
    return rate_hz


def convert(values: npt.ArrayLike, unit: str, factors: Mapping[str, float]) -> Float32:
    """Return values (n_samples, 3) converted to g or rad/s.

    Args:
        values: Numbers in ``unit``.
        unit: A key of ``factors``.
        factors: ACC_UNITS or GYRO_UNITS.

    Raises:
        RejectError: The unit is unknown, or a number is not finite, does not fit float32, or exceeds MAX_MAGNITUDE.

    """
    if unit not in factors:
        raise RejectError("units", f"{unit!r} is not one of {', '.join(factors)}")
    with np.errstate(over="ignore", invalid="ignore"):
        converted = (np.asarray(values, np.float64) * factors[unit]).astype(np.float32)
    if not np.isfinite(converted).all():
        raise RejectError("not_finite", "a sample is not a finite number")
    largest = np.abs(converted).max(initial=0.0)
    if largest > MAX_MAGNITUDE:
        raise RejectError("range", f"a sample is {largest:.3g} g or rad/s, expected at most {MAX_MAGNITUDE:g}")
    return converted
