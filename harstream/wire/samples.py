"""Samples: the content of one message, whatever its format, and the checks and units that all formats share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Float32, Int64, Sensor
from harstream.core.plausibility import ACC_UNIT_FACTORS, ACC_UNIT_NAMES
from harstream.wire.device_names import device_name
from harstream.wire.other_names import IgnoredField
from harstream.wire.reject import Rejected, RejectError

#: Unit to the factor that converts it to g.
ACC_UNITS = dict(zip(ACC_UNIT_NAMES, ACC_UNIT_FACTORS, strict=True))
#: Unit to the factor that converts it to rad/s.
GYRO_UNITS = {"rad/s": 1.0, "deg/s": math.pi / 180}
#: In place of a unit of accelerations: not known. The numbers stay as they were sent, and ``Engine`` finds the unit.
AUTO = "auto"
_ACC_FACTORS = {**ACC_UNITS, AUTO: 1.0}
#: Other spelling of a unit in a message, in small letters and without spaces, to the unit.
UNIT_ALIASES = {
    **dict.fromkeys(("m/s^2", "m/s²", "m/s/s", "m/s**2", "ms-2", "ms^-2", "ms⁻²"), "m/s2"),
    **dict.fromkeys(("rads-1", "rads^-1", "rads⁻¹", "radian/s", "radians/s"), "rad/s"),
    **dict.fromkeys(("dps", "°/s", "degree/s", "degrees/s"), "deg/s"),
}
_MAX_SHOWN = 40  # characters of an unknown unit

#: Largest absolute value of a number of a sample, in g or rad/s. No sensor reaches it, and the filters would take
#: minutes to settle after a larger one.
MAX_MAGNITUDE = 1000.0
#: The same for accelerations in an unknown unit, if at least half of them are longer than _MIN_MILLI_G: they are in mg.
_MAX_MILLI_G, _MIN_MILLI_G = 1000 * MAX_MAGNITUDE, 100.0


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples of one device in one message, whatever its format.

    Most devices measure both sensors together: acc and gyro have the same length, ``t_ns`` is the time of their first
    sample, and the others follow at an even rate. Where sensors have times of their own, ``acc_t_ns`` and ``gyro_t_ns``
    hold a time for each sample, in any order. The two may then differ in length and in their times, and a message may
    hold only one of the sensors: acc is then empty, or gyro is None. ``t_ns`` is not used. ``placing.place`` makes
    evenly spaced samples of such a message.

    A message of a device whose sensors send messages of their own may hold only the gyroscope at an even rate: acc is
    then empty, and ``t_ns`` is the time of the gyroscope's first sample.
    """

    t_ns: int | None  # event time of the first sample, nanoseconds since 1970; None: the message has no time
    rate_hz: float  # 0: the message has no rate
    acc: Float32  # (n_samples, 3) in g, or as they were sent if acc_auto is set
    gyro: Float32 | None  # (n_samples, 3) in rad/s; None: the message has no gyroscope
    acc_auto: bool = False  # the unit of acc is not known
    ignored: tuple[IgnoredField, ...] = ()
    device: str | None = None  # device that the payload names; None: it names none
    part: str = ""  # added to the name of the device, where a message holds two wearables of one person
    acc_t_ns: Int64 | None = None  # (n_samples,) time of each sample of acc; None: evenly spaced
    gyro_t_ns: Int64 | None = None  # (n_samples,) the same of gyro; None: the times of acc
    relative: bool = False  # whether acc_t_ns, which are also those of gyro, count from an unknown instant
    age_s: float = 0.0  # time from the last sample to the newest one of its message, where they have no time
    refused: Rejected | None = None  # why this device is rejected, although its message has others
    no_gyro: str = ""  # why what looks like the gyroscope is none, for the rejection

    @property
    def sensor(self) -> Sensor:
        """Sensors that are there."""
        return Sensor.GYRO if not len(self.acc) else Sensor.ACC if self.gyro is None else Sensor.BOTH

    @property
    def n_samples(self) -> int:
        """Number of samples of the accelerometer; if there is none, of the gyroscope."""
        return len(self.acc) or (0 if self.gyro is None else len(self.gyro))


def refuse(error: RejectError, device: str | None, part: str = "") -> Samples:
    """Return samples of a device that is rejected, although its message has others."""
    none = np.zeros((0, 3), np.float32)
    return Samples(None, 0.0, none, None, device=device, part=part, refused=error.kept())


def samples_or_refused(read: Callable[[str | None], Samples], name: str | None, n_devices: int) -> Samples:
    """Return the samples of one of ``n_devices`` devices in a message; an error refuses only this device.

    Args:
        read: Returns the samples of a device with this name.
        name: Name of the device; None if the topic has it.
        n_devices: Devices in the message.

    Raises:
        RejectError: The message has no other device.

    """
    device = None
    try:
        device = None if name is None else device_name(name)
        return read(device)
    except RejectError as error:
        if n_devices == 1:
            raise
        return refuse(error, device)


@dataclass(frozen=True, slots=True)
class Units:
    """Units of messages that do not name their own."""

    acc: str = "g"  # a key of ACC_UNITS, or AUTO
    gyro: str = "rad/s"  # a key of GYRO_UNITS


def check_rate(rate_hz: float | None) -> float:
    """Return a rate if it is finite and not negative, and 0 for None. Raise RejectError otherwise."""
    if rate_hz is None:
        return 0.0
    if not (math.isfinite(rate_hz) and rate_hz >= 0):
        raise RejectError("rate", f"rate_hz is {rate_hz!r}, expected a finite number, at least 0")
    return rate_hz


def acc_factor(unit: str) -> float:
    """Return the factor for accelerations in ``unit``: to g, or 1 for AUTO. Raise RejectError for an unknown unit."""
    return _factor(unit, _ACC_FACTORS)


def gyro_factor(unit: str) -> float:
    """Return the factor from ``unit`` to rad/s. Raise RejectError for an unknown unit."""
    return _factor(unit, GYRO_UNITS)


def _factor(unit: str, factors: Mapping[str, float]) -> float:
    if unit in factors:
        return factors[unit]
    plain = unit.lower().replace(" ", "")
    factor = factors.get(UNIT_ALIASES.get(plain, plain))
    if factor is None:
        shown = repr(unit) if len(unit) <= _MAX_SHOWN else f"{unit[:_MAX_SHOWN]!r}... ({len(unit)} characters)"
        raise RejectError("units", f"unit {shown}, expected one of {', '.join(factors)}")
    return factor


def convert(values: npt.ArrayLike, factor: float, *, auto: bool = False) -> Float32:
    """Return numbers (n_samples, 3) multiplied by ``factor``, in float32.

    Args:
        values: Numbers as they were sent.
        factor: Result of ``acc_factor`` or ``gyro_factor``.
        auto: Whether the unit is not known, so that accelerations may be in mg.

    Raises:
        RejectError: A number is not finite, does not fit float32, or is too large.

    """
    with np.errstate(over="ignore", invalid="ignore"):
        converted = (np.asarray(values, np.float64) * factor).astype(np.float32)
    largest = np.abs(converted).max(initial=0.0)
    if largest <= MAX_MAGNITUDE:  # not so if a number is NaN
        return converted
    if not np.isfinite(largest):
        raise RejectError("not_finite", "a sample is not a finite number")
    if auto and may_be_milli_g(converted):
        return converted
    unit = "in an unknown unit" if auto else "g or rad/s"
    raise RejectError("range", f"a sample is {largest:.3g} {unit}, expected at most {MAX_MAGNITUDE:g}")


def may_be_milli_g(acc: Float32) -> bool:
    """Return whether accelerations (n_samples, 3) of one message may be in mg, as at least half are longer than 100.

    A device in mg reads 1,000 at rest. In a message in g or m/s2, numbers as large are a few corrupt ones.
    """
    if not np.abs(acc).max(initial=0.0) <= _MAX_MILLI_G:  # also if one is NaN
        return False
    return 2 * int(np.count_nonzero(np.linalg.norm(acc, axis=1) > _MIN_MILLI_G)) >= len(acc)
