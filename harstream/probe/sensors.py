"""Sensors: which places hold an accelerometer and a gyroscope, told by names and by values.

A triple is three places whose paths differ in one letter, ``x``, ``y`` and ``z``, or in one digit; or a place that
holds vectors. An accelerometer shows gravity: the length of its vectors is near 1 g in one of the units that
``core.plausibility`` knows, or near the counts of a converter. A name speaks for or against it. Of a gyroscope values
say little, so a triple without the name of one is taken only where it comes right behind the accelerometer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from harstream.core.batches import Float32, Float64
from harstream.core.plausibility import ACC_UNIT_FACTORS, ACC_UNIT_NAMES, gyro_plausible
from harstream.probe.places import Held, Place
from harstream.probe.words import AXES, sensor_of

#: Counts of converters that stand for 1 g: of ADXL345 (256), and of MPU-6050 and its kin at 16, 8, 4 and 2 g.
COUNTS_PER_G = (256, 512, 2048, 4096, 8192, 16384)
#: Counts that stand for 1 deg/s, of MPU-6050 and its kin at 250, 500, 1,000 and 2,000 deg/s.
COUNTS_PER_DEG_S = (131.0, 65.5, 32.8, 16.4)
#: Lowest and highest mean of |acc|, in g, that still shows gravity, as in ``core.plausibility``.
_MEAN_G = (0.75, 2.5)
#: Lowest length of the mean vector, as a share of the mean length, as in ``core.plausibility``.
_MEAN_VECTOR_SHARE = 0.2
#: The same as _MEAN_G for counts, whose units are a factor of two apart.
_NEAR, _SURE = math.sqrt(2.0), 1.12
#: Whole numbers with a mean of |acc| from here on are counts of 2,048 rather than milli-g: few people run.
_COUNTS_ABOVE = 1600.0
#: Highest relative deviation of |acc| of a device at rest.
_AT_REST = 0.05
#: Whole numbers with a larger one than this among them may be counts.
_FEWEST_COUNTS = 4.0
#: Fastest rotation of a sensor, 2,000 deg/s, in rad/s.
_FASTEST = 35.0
#: Largest number that a sensor can send, of a converter with 40 bits.
_LARGEST = 1e12
_BY_NAME = {"acc": 4.0, "": 0.0, "linear": -5.0, "gravity": -6.0, "gyro": -6.0, "other": -8.0}
#: Triples of another quality than the best one are readings that were possible.
_MAX_OTHERS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Triple:
    """Places of three axes, with all values there."""

    paths: tuple[str, ...]  # three, or one
    places: tuple[Place, ...]
    values: Float64  # (n_samples, 3)
    counts: tuple[int, ...]  # samples of each message
    named: str  # result of ``sensor_of``
    in_step: bool = False  # by their numbers, a whole number of triples is left from this one on

    @property
    def samples(self) -> str:
        """Path of the list at whose elements the paths begin; "" for the message."""
        return self.places[0].samples

    @property
    def text(self) -> str:
        """Paths for people."""
        return ", ".join(place._replace(path=path).text for place, path in zip(self.places, self.paths, strict=False))

    @property
    def norm(self) -> float:
        """Median length of the vectors."""
        return float(np.median(np.linalg.norm(self.values, axis=1)))


@dataclass(frozen=True, slots=True)
class Scale:
    """Unit of a sensor's numbers, and the factor before it."""

    unit: str
    factor: float = 1.0
    doubt: str = ""  # why it may be another one; "": it is certain
    words: str = ""  # for people, where the factor is not 1


@dataclass(frozen=True, slots=True)
class Sensors:
    """Findings about both sensors."""

    acc: Triple | None
    acc_scale: Scale | None  # None: no gravity in any unit
    gyro: Triple | None
    doubts: tuple[str, ...]  # one line each
    triples: tuple[Triple, ...] = ()  # all that were looked at


def find_sensors(held: Held, sensor: str = "") -> Sensors:
    """Return the accelerometer and the gyroscope in places, and what is doubtful about them.

    Args:
        held: All places.
        sensor: Sensor that the topic names, for triples whose names say nothing.

    """
    triples = [replace(triple, named=triple.named or sensor) for triple in find_triples(held)]
    scales = [gravity_of(triple) for triple in triples]
    scores = [_score(triple, scale) for triple, scale in zip(triples, scales, strict=True)]
    doubts: list[str] = []
    acc = scale = None
    if scores and max(scores) > 0:
        best = scores.index(max(scores))
        acc, scale = triples[best], scales[best]
        of_gyro: list[str] = []
        gyro = _find_gyro(triples, scores, acc, of_gyro)
        others = [
            triple.text
            for triple, score in zip(triples, scores, strict=True)
            if score >= scores[best] - 1 and not _overlap(triple, acc) and (gyro is None or not _overlap(triple, gyro))
        ]
        if others:
            doubts.append(
                f"{acc.text} is taken for the accelerometer, but {' or '.join(others[:_MAX_OTHERS])} could be it too"
            )
        elif acc.named != "acc":
            doubts.append(f"{acc.text} is taken for the accelerometer because its length is near 1 g")
        doubts += of_gyro
    else:
        gyro = _find_gyro(triples, scores, None, [])
    return Sensors(acc, scale, gyro, tuple(doubts), tuple(triples))


def _score(triple: Triple, scale: Scale | None) -> float:
    """Return how much speaks for a triple as the accelerometer; 0 and less: too little."""
    score = _BY_NAME[triple.named]
    if scale is None:
        return score - 2
    # Of overlapping triples, as in [t, ax, ay, az, gx, gy, gz], several may be about as long as gravity.
    to_g = dict(zip(ACC_UNIT_NAMES, ACC_UNIT_FACTORS, strict=True))[scale.unit] * scale.factor
    score += 0.5 * triple.in_step + 0.4 * max(0.0, 1 - 4 * abs(triple.norm * to_g - 1))
    # Gravity does not cancel, as the rotations of a gyroscope do, unless devices lie in many ways.
    mean = float(np.linalg.norm(triple.values.mean(axis=0)))
    score -= 1.5 * (mean < _MEAN_VECTOR_SHARE * float(np.linalg.norm(triple.values, axis=1).mean()))
    return score + (1.0 if scale.factor != 1 and not triple.named and scale.doubt else 4.0)


def _overlap(one: Triple, other: Triple) -> bool:
    return not set(one.places).isdisjoint(other.places)


def _find_gyro(
    triples: Sequence[Triple], scores: Sequence[float], acc: Triple | None, doubts: list[str]
) -> Triple | None:
    """Return the gyroscope that belongs to an accelerometer, or the first one if there is none."""
    fitting = [
        triple
        for triple in triples
        if acc is None or (triple.samples == acc.samples and triple.counts == acc.counts and not _overlap(triple, acc))
    ]
    named = [triple for triple in fitting if triple.named == "gyro"]
    if named:
        return named[0]
    if acc is None or acc.named == "acc":
        return None
    if all(path.rpartition(".")[2].isdecimal() for path in acc.paths):
        behind = [str(int(path.rpartition(".")[2]) + 3) for path in acc.paths]
        fitting = [one for one in fitting if [path.rpartition(".")[2] for path in one.paths] == behind]
    else:
        best = max(scores)
        without = [one for one, score in zip(triples, scores, strict=True) if score < best - 1 and not one.named]
        fitting = [one for one in fitting if one in without]
    if len(fitting) != 1:
        return None
    doubts.append(f"{fitting[0].text} is taken for the gyroscope because it comes with the accelerometer")
    return fitting[0]


# --- triples ------------------------------------------------------------------------------------------


def find_triples(held: Held) -> list[Triple]:
    """Return all triples in places, those that are told by letters before those by digits."""
    by_key = {(place.samples, place.kind, place.path): place for place in held}
    found: dict[tuple[Place, ...], Triple] = {}
    for place in held:
        if place.kind == "vectors" and not place.samples:
            rows = np.array([row for rows in held[place] for row in rows], np.float64).reshape(-1, 3)
            counts = tuple(map(len, held[place]))
            if not _may_be_sensor(rows):
                continue
            found[(place,)] = Triple((place.path,), (place,), rows, counts, sensor_of(place.path) or place.sensor)
    for letters in (True, False):
        for place in held:
            if place.kind not in ("number", "column"):
                continue
            for paths in _siblings(place.path, letters):
                places = tuple(by_key.get((place.samples, place.kind, path)) for path in paths)
                if None not in places and places not in found:
                    triple = _triple(held, places)  # type: ignore[arg-type]
                    if triple is not None:
                        found[triple.places] = triple
    # Three samples of one axis are no triple, nor are first samples of three.
    columns = {place.path for places in found for place in places if place.kind == "column"}
    return [
        triple
        for triple in found.values()
        if columns.isdisjoint(place.path.rpartition(".")[0] for place in triple.places if place.hidden)
    ]


def _may_be_sensor(values: Float64) -> bool:
    """Return whether numbers are not larger than those of any sensor, as times in us are, and finite."""
    return bool((np.abs(values) <= _LARGEST).all())


def _siblings(path: str, letters: bool) -> list[tuple[str, str, str]]:
    """Return the paths of three axes of which ``path`` may be the first."""
    siblings = []
    for at, character in enumerate(path):
        if letters and character in "xX":
            names = AXES if character == "x" else AXES.upper()
        elif not letters and character in "01234567" and not path[at + 1 : at + 2].isdecimal():
            names = "".join(str(int(character) + step) for step in range(3))
        else:
            continue
        siblings.append(tuple(path[:at] + name + path[at + 1 :] for name in names))
    return siblings  # type: ignore[return-value]


def _triple(held: Held, places: tuple[Place, ...]) -> Triple | None:
    columns = [held[place] for place in places]
    lengths = [tuple(map(len, column)) for column in columns]
    if len(set(lengths)) > 1 or sum(lengths[0]) == 0:
        return None
    values = np.array([[float(one) for message in column for one in message] for column in columns]).T
    if not _may_be_sensor(values):
        return None
    paths = tuple(place.path for place in places)
    without_axis = paths[0]
    changed = next((at for at, pair in enumerate(zip(*paths, strict=False)) if len(set(pair)) > 1), 0)
    if paths[0][changed : changed + 1] in ("x", "X"):
        # Neither "x" alone nor the axis of "values.x" names a sensor; "ax" without it does.
        without_axis = (paths[0][:changed] + paths[0][changed + 1 :]).replace("..", ".").strip(".")
    in_step = paths[0][changed : changed + 1].isdecimal() and _n_siblings(held, places[0], paths[0], changed) % 3 == 0
    return Triple(
        _shortened(held, paths, places),
        places,
        values,
        lengths[0],
        sensor_of(without_axis) or places[0].sensor,
        in_step,
    )


def _n_siblings(held: Held, place: Place, path: str, at: int) -> int:
    """Return how many places there are whose paths have the same or a higher number at one position."""
    number, n_places = int(path[at]), 0
    while place._replace(path=f"{path[:at]}{number + n_places}{path[at + 1 :]}") in held:
        n_places += 1
    return n_places


def _shortened(held: Held, paths: tuple[str, ...], places: tuple[Place, ...]) -> tuple[str, ...]:
    """Return one path in place of those of its members x, y and z, or of the elements of a list of three."""
    parents, names = {path.rpartition(".")[0] for path in paths}, [path.rpartition(".")[2] for path in paths]
    parent = next(iter(parents))
    if len(parents) != 1 or not parent:
        return paths
    if names in (list(AXES), list(AXES.upper())):
        return (parent,)
    if names == ["0", "1", "2"]:
        column = held.get(places[0]._replace(path=parent, kind="column", hidden=False))
        if column is not None and all(len(values) == 3 for values in column):
            return (parent,)
    return paths


# --- units --------------------------------------------------------------------------------------------


def gravity_of(triple: Triple) -> Scale | None:
    """Return the unit in which a triple shows gravity; None if it shows none."""
    norms = np.linalg.norm(triple.values, axis=1)
    mean, median = float(norms.mean()), triple.norm
    whole = bool((triple.values == np.rint(triple.values)).all())
    if whole and (median >= _COUNTS_ABOVE or 150 <= median < 750):
        counts = min(COUNTS_PER_G, key=lambda one: abs(math.log(median / one)))
        ratio = max(median / counts, counts / median)
        if ratio < _NEAR:
            doubt = (
                "" if ratio < _SURE else f"|acc| is {median:.0f}, not near {counts}: hold the device still to be sure"
            )
            return Scale("g", _rounded(1 / counts), doubt, f"counts, {counts} per g")
    for unit, factor in zip(ACC_UNIT_NAMES, ACC_UNIT_FACTORS, strict=True):
        if _MEAN_G[0] <= mean * factor <= _MEAN_G[1]:
            return Scale(unit)
    at_rest = len(norms) > 5 and float(norms.std()) < _AT_REST * mean
    if triple.named == "acc" and at_rest and 1e-3 < median < 1e6:
        doubt = f"{median:.4g} is taken for 1 g because the device seems to lie still"
        return Scale("g", _rounded(1 / median), doubt, f"a scale of its own, {median:.4g} per g")
    return None


def _rounded(factor: float) -> float:
    """Return a factor with ten digits, for people."""
    return float(f"{factor:.10g}")


def rotation_of(
    acc: Float64, gyro: Float64, rate_hz: float, name: str = "", sent: Float32 | Float64 | None = None
) -> Scale:
    """Return the unit of a gyroscope, by which it turns as the accelerometer does.

    Args:
        acc: (n_samples, 3) of one device, evenly spaced, in any unit.
        gyro: (n_samples, 3) of the same samples, in the unit in which they were sent.
        rate_hz: Sample rate; 0: not known.
        name: Name of the gyroscope in messages, which may tell the unit.
        sent: (n_sent, 3) as they were sent, if ``gyro`` is interpolated between them: counts are whole numbers there.

    """
    sent = gyro if sent is None else sent
    deg, largest = math.pi / 180, float(np.abs(sent).max(initial=0.0))
    factors = {("rad/s", 1.0): 1.0, ("deg/s", 1.0): deg}
    if largest >= _FEWEST_COUNTS and (np.abs(sent - np.rint(sent)) < 0.01).all():
        factors = {("deg/s", _rounded(1 / count)): deg / count for count in COUNTS_PER_DEG_S} | factors
    # No sensor measures faster rotations.
    possible = [key for key, factor in factors.items() if largest * factor <= _FASTEST]
    plausible = [key for key in possible if _turns_alike(acc, gyro * factors[key], rate_hz)]
    unit, factor = (plausible or possible or [("rad/s", 1.0)])[0]
    words = "" if factor == 1 else f"counts, {1 / factor:g} per deg/s"
    if not gyro.any():
        return Scale(unit, factor, "it is 0 throughout", words)
    if not plausible:
        return Scale(unit, factor, "in no unit does it turn as the accelerometer does", words)
    if "dps" in name.lower() or "deg" in name.lower():
        return Scale("deg/s", factor if words else 1.0, "", words)
    others = " or ".join(one if scale == 1 else f"{1 / scale:g} per deg/s" for one, scale in plausible[1:])
    doubt = f"{words or unit}, but {others} is possible too; turn the device while probing" if others else ""
    return Scale(unit, factor, doubt, words)


def _turns_alike(acc: Float64, gyro: Float64, rate_hz: float) -> bool:
    if rate_hz <= 0 or len(acc) != len(gyro):
        return True
    one = np.asarray(acc[None], np.float32), np.asarray(gyro[None], np.float32)
    return bool(gyro_plausible(*one, rate_hz)[0])
