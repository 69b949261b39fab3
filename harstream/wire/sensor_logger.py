"""Sensor Logger: what the phone app of Kelvin Choi publishes over MQTT (and HTTP), with the sensors of a watch.

The source is the app's documentation, https://github.com/tszheichoi/awesome-sensor-logger: PUSHING.md (messages),
UNITS.md, COORDINATES.md and CROSSPLATFORM.md. All phones publish to one topic; ``deviceId`` tells them apart:

    {"messageId": 27, "sessionId": "f08abd14-...", "deviceId": "0e35011f-...", "payload": [
      {"name": "accelerometer", "values": {"x": -0.1, "y": 0.0, "z": 0.2}, "accuracy": 3, "time": 1751729987417535200},
      {"name": "gravity", "values": {"x": 0.1, "y": 0.4, "z": 9.8}, "accuracy": 3, "time": 1751729987417535200},
      {"name": "gyroscope", "values": {"x": 0.01, "y": 0.0, "z": 0.0}, "accuracy": 3, "time": 1751729987417990100}]}

Each entry is a measurement of one sensor, with its time in nanoseconds since 1970. Each sensor has a clock and a rate
of its own. Of what a message holds, the first of these is the accelerometer:

1. ``totalacceleration`` (Android), with gravity, in m/s2;
2. ``accelerometer``, without gravity, in m/s2, to which ``gravity`` is added, interpolated at its times;
3. ``accelerometeruncalibrated``, with gravity, in m/s2, or in g with the signs of iOS.

``gyroscope``, else ``gyroscopeuncalibrated``, is in rad/s. ``wrist motion`` of a watch holds acceleration, gravity and
rotation together. A watch is another wearable than the phone that sends for it, so its device has ``-watch`` behind
the name of the phone's.

The names of sensors are compared without capitals and spaces. On iOS the signs of accelerometer and gravity are
the other way round than on Android, unless the app's setting "Standardise Units & Frames" is on. Nothing in
the message tells. Numbers in g are of iOS and are turned round here; for numbers in m/s2, configure the axes -x -y -z.

Whether numbers are in g or in m/s2 is decided from gravity. The watch states it apart, so that its length tells in
every message. ``accelerometeruncalibrated`` holds it together with the motion, so that a short message, or one of a
fall, could tell the wrong unit: `RawUnits` decides once for each recording.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from harstream.core.batches import Float32, Float64, Int64
from harstream.core.own_times import in_order, interpolate_at
from harstream.wire.device_names import device_name
from harstream.wire.documents import found, names_of, shown
from harstream.wire.reject import RejectError
from harstream.wire.samples import ACC_UNITS, Samples, convert, refuse
from harstream.wire.times import read_times
from harstream.wire.vectors import read_vectors

WATCH = "-watch"
_TOTAL, _LINEAR, _GRAVITY, _RAW = "totalacceleration", "accelerometer", "gravity", "accelerometeruncalibrated"
_GYROS = ("gyroscope", "gyroscopeuncalibrated")
_WRIST = "wristmotion"
_USED = frozenset((_TOTAL, _LINEAR, _GRAVITY, _RAW, *_GYROS, _WRIST))
#: Factor to g, with the signs of Android, of numbers in g with the signs of iOS.
_IOS_G = -1.0
#: A length of gravity within this ratio of 1 or of 9.80665 tells the unit: of gravity alone, and of the median of raw
#: accelerations. Between the two ranges nothing is told.
_GRAVITY_RATIO, _RAW_RATIO = 1.25, 2.0
#: Raw accelerations from which a unit is decided, and recordings that are remembered.
_ENOUGH, _MAX_RECORDINGS = 50, 10_000
#: Time that gravity is held before its first and after its last measurement. It turns slowly.
_GRAVITY_REACH_NS = 1_000_000_000
_MAX_NAME = 64  # characters of the name of a sensor that is looked at


def is_sensor_logger(document: Any) -> bool:
    """Return whether a document looks like a message of the app."""
    return (
        isinstance(document, dict)
        and isinstance(document.get("payload"), list)
        and any(name in document for name in ("deviceId", "sessionId", "messageId"))
    )


class RawUnits:
    """Unit of the raw accelerations of each recording, decided from the first samples that suffice, and kept."""

    def __init__(self) -> None:
        self._factors: dict[int, float] = {}  # by recording
        self._lengths: dict[int, Float64] = {}  # of the samples of undecided ones

    def factor(self, recording: int | None, raw: Float64) -> float:
        """Return the factor to g, with the signs of Android.

        Args:
            recording: Number of the recording; None if the message names none, so that it has to suffice alone.
            raw: Samples of a message, (n_samples, 3).

        Raises:
            RejectError: The samples of the recording so far do not suffice.

        """
        if recording in self._factors:
            return self._factors[recording]
        lengths = np.linalg.norm(raw, axis=1)
        if recording is not None:
            lengths = np.concatenate([self._lengths.pop(recording, np.zeros(0)), lengths])
        factor = _factor_of(float(np.median(lengths)), _RAW_RATIO) if len(lengths) >= _ENOUGH else None
        if recording is None:
            pass
        elif factor is None:
            self._lengths[recording] = lengths[-_ENOUGH:]
        else:
            self._factors[recording] = factor
        for kept in (self._factors, self._lengths):
            if len(kept) > _MAX_RECORDINGS:
                del kept[next(iter(kept))]
        if factor is not None:
            return factor
        seen = f"{len(lengths)} samples" if len(lengths) < _ENOUGH else f"a median length of {np.median(lengths):.3g}"
        raise RejectError(
            "units",
            f"{_RAW} is in g or in m/s2, which {seen} cannot tell; {_ENOUGH} samples near 1 or 9.8 decide for the rest "
            "of the recording",
        )


def decode_sensor_logger(document: Any, raw_units: RawUnits, *, names_device: bool) -> list[Samples]:
    """Return the samples of the phone and of its watch in one message.

    Args:
        document: Content of the message.
        raw_units: What is known of the units of recordings.
        names_device: Whether the message names the device.

    Raises:
        RejectError: The document is no message of the app, or has no measurement of acceleration or rotation.

    """
    if not isinstance(document, dict) or not isinstance(document.get("payload"), list):
        raise RejectError("shape", f"the message is {found(document)}, expected an object with a list called payload")
    entries = _by_sensor(document["payload"])
    device = device_name(document.get("deviceId")) if names_device else None
    results = []
    try:
        acc = _phone_acc(entries, raw_units, _recording(document))
        gyro = next((_vectors(name, *entries[name]) for name in _GYROS if name in entries), None)
        if acc is not None or gyro is not None:
            results.append(_samples(acc, gyro, device, ""))
    except RejectError as error:
        if _WRIST not in entries:
            raise
        results.append(refuse(error, device))
    if _WRIST in entries:
        try:
            results.append(_samples(*_wrist(*entries[_WRIST]), device, WATCH))
        except RejectError as error:
            if not results:
                raise
            results.append(refuse(error, device, WATCH))
    if not results:
        raise RejectError("empty", f"no acceleration with gravity and no rotation, but {_sensors_of(document)}")
    return results


def _recording(document: Mapping[Any, Any]) -> int | None:
    """Return a number for the recording that a message belongs to; None if it names none."""
    names = [document.get(key) for key in ("deviceId", "sessionId")]
    named = [name for name in names if isinstance(name, str | int)]
    return hash(tuple(map(str, names))) if named else None


class _Measured:
    """Measurements of one sensor."""

    __slots__ = ("t_ns", "values")

    def __init__(self, t_ns: Int64, values: Float32) -> None:
        self.t_ns, self.values = t_ns, values


def _samples(acc: _Measured | None, gyro: _Measured | None, device: str | None, part: str) -> Samples:
    none = _Measured(np.zeros(0, np.int64), np.zeros((0, 3), np.float32))
    acc = acc or none
    return Samples(
        None,
        0.0,
        acc.values,
        None if gyro is None else gyro.values,
        device=device,
        part=part,
        acc_t_ns=acc.t_ns,
        gyro_t_ns=None if gyro is None else gyro.t_ns,
    )


def _by_sensor(payload: Sequence[Any]) -> dict[str, tuple[list[Any], list[Any]]]:
    """Return the times and values of the measurements of each sensor that is used."""
    entries: dict[str, tuple[list[Any], list[Any]]] = {}
    for entry in payload:
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise RejectError(
                "shape", f"a measurement is {found(entry)}, expected an object with name, time and values"
            )
        known = _plain(name) if len(name) <= _MAX_NAME else ""
        if known:
            times, values = entries.get(known) or entries.setdefault(known, ([], []))
            times.append(entry.get("time"))
            values.append(entry.get("values"))
    return entries


@lru_cache(maxsize=1024)
def _plain(name: str) -> str:
    """Return the plain spelling of a sensor's name; "" for one that is not used."""
    plain = name.lower().replace(" ", "").replace("_", "")
    return plain if plain in _USED else ""


def _vectors(name: str, times: list[Any], values: list[Any]) -> _Measured:
    """Return measurements in the unit of the message's numbers, of rotation: rad/s."""
    return _Measured(read_times(times, "ns", "time"), convert(read_vectors(values, name, each=True), 1.0))


def _phone_acc(
    entries: Mapping[str, tuple[list[Any], list[Any]]], raw_units: RawUnits, recording: int | None
) -> _Measured | None:
    """Return accelerations with gravity in g; None if the message has none."""
    factor = ACC_UNITS["m/s2"]
    if _TOTAL in entries:
        times, values = entries[_TOTAL]
        return _Measured(read_times(times, "ns", "time"), convert(read_vectors(values, _TOTAL, each=True), factor))
    if _LINEAR in entries and _GRAVITY in entries:
        times, values = entries[_LINEAR]
        t_ns, linear = read_times(times, "ns", "time"), read_vectors(values, _LINEAR, each=True)
        times, values = entries[_GRAVITY]
        gravity = in_order(read_times(times, "ns", "time"), convert(read_vectors(values, _GRAVITY, each=True), 1.0))
        added, known = interpolate_at(t_ns, *gravity, reach_ns=_GRAVITY_REACH_NS)
        if known.any():
            return _Measured(t_ns[known], convert((linear + added)[known], factor))
    if _RAW in entries:
        times, values = entries[_RAW]
        raw = read_vectors(values, _RAW, each=True)
        convert(raw, 1.0)  # only finite numbers tell a unit
        return _Measured(read_times(times, "ns", "time"), convert(raw, raw_units.factor(recording, raw)))
    return None


def _factor_of(gravity: float, ratio: float) -> float | None:
    """Return the factor to g, with the signs of Android, by a length of gravity; None if it is in neither unit."""
    factors = {1.0: _IOS_G, 1 / ACC_UNITS["m/s2"]: ACC_UNITS["m/s2"]}
    return next((factor for length, factor in factors.items() if length / ratio < gravity < length * ratio), None)


def _wrist(times: list[Any], values: list[Any]) -> tuple[_Measured, _Measured]:
    """Return acceleration with gravity in g, and rotation in rad/s, of a watch."""
    t_ns = read_times(times, "ns", "time")
    linear, gravity, rotation = (
        read_vectors([_triple(value, prefix) for value in values], f"{_WRIST} {prefix}", each=True)
        for prefix in ("acceleration", "gravity", "rotationRate")
    )
    length = float(np.median(np.linalg.norm(gravity, axis=1)))
    factor = _factor_of(length, _GRAVITY_RATIO)
    if factor is None:
        raise RejectError("units", f"the gravity of {_WRIST} is {length:.3g} long, expected 1 (g) or 9.81 (m/s2)")
    acc = convert(linear + gravity, factor)
    return _Measured(t_ns, acc), _Measured(t_ns, convert(rotation, 1.0))


def _triple(values: Any, prefix: str) -> list[Any]:
    try:
        return [values[f"{prefix}X"], values[f"{prefix}Y"], values[f"{prefix}Z"]]
    except (TypeError, KeyError):
        raise RejectError(
            "shape", f"the values of {_WRIST} are {found(values)}, expected {prefix}X, {prefix}Y, ..."
        ) from None


def _sensors_of(document: Mapping[Any, Any]) -> str:
    """Return the names of the sensors in a message, for people."""
    names = {shown(str(entry.get("name"))[:40]): None for entry in document["payload"][:100]}
    return f"measurements of {names_of(names)}" if names else "no measurement"
