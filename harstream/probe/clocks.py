"""Clocks: the place of the time, its unit and its beginning, and the place of the sample rate.

A time since 1970 is told by its size, or is a date in ISO 8601. Another one grows with the time of arrival: by 1, 1,000
or more a second, which tells its unit. So does a counter of messages that come once a second; its name tells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from harstream.core.batches import Float64
from harstream.probe.places import Held, Place, is_number
from harstream.probe.words import names_counter, names_rate, names_time, unit_of_time
from harstream.wire.fields import WHOLE, find
from harstream.wire.other_names import read_rate
from harstream.wire.times import AUTO_UNIT, guess_time, guess_unit

#: Units of a second.
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
#: Times of one device may grow faster or slower than the time of arrival by this factor.
_TOLERANCE = 1.4
#: Shortest time between the first and the last message of a device from which a clock is told.
_MIN_SPAN_S = 1.0
#: Share of the messages of a device whose time may not be before that of the message before.
_IN_ORDER = 0.9


class Arrival(NamedTuple):
    """A document with its device and its time of arrival."""

    document: Any
    device: str
    arrival_s: float


@dataclass(frozen=True, slots=True)
class Clock:
    """Place of a time."""

    place: Place
    unit: str  # s, ms, us, ns or iso
    since_1970: bool
    per_sample: bool  # each sample has its own
    doubt: str = ""

    @property
    def t_unit(self) -> str:
        """Value of ``t_unit`` in ``wire.fields``."""
        return AUTO_UNIT if self.since_1970 else self.unit

    @property
    def words(self) -> str:
        """Unit and beginning for people."""
        if self.unit == "iso":
            return "a date"
        return f"{self.unit} since {'1970' if self.since_1970 else 'the start of the device'}"


def find_clock(held: Held, arrivals: Sequence[Arrival], samples: str, counts: Sequence[int]) -> Clock | None:
    """Return the time of messages or of samples; None if nothing is one.

    Args:
        held: All places.
        arrivals: The messages, in order of arrival.
        samples: Path of the list of samples; "" for none.
        counts: Samples of each message.

    """
    best: tuple[float, Clock] | None = None
    for place in held:
        if place.kind not in ("number", "text", "column") or place.hidden or place.samples not in ("", samples):
            continue
        if place.kind == "column" and (place.samples or tuple(map(len, held[place])) != tuple(counts)):
            continue
        clock = _clock_at(place, arrivals)
        if clock is None or (clock.per_sample and _stands_in_messages(held[place])):
            continue
        score = 2.0 * names_time(place.path) + 2.0 * clock.since_1970 - 4.0 * names_counter(place.path)
        score += 0.5 * clock.per_sample - 1.0 * bool(clock.doubt)
        if score > -1 and (best is None or score > best[0]):
            best = score, clock
    return None if best is None else best[1]


def find_rate(held: Held, measured_hz: float) -> tuple[Place | None, str]:
    """Return the place of the sample rate, and why a place with the name of one is passed over."""
    doubt = ""
    for place, values in held.items():
        if place.kind != "number" or place.samples or place.hidden or not names_rate(place.path):
            continue
        rates = {read_rate(value) for message in values for value in message}
        rate_hz = next(iter(rates))
        if len(rates) > 1 or not rate_hz:
            continue
        if measured_hz > 0 and max(rate_hz / measured_hz, measured_hz / rate_hz) > _TOLERANCE:
            doubt = f"{place.path} says {rate_hz:g} Hz, but {measured_hz:.3g} samples/s arrive: it is not used"
            continue
        return place, ""
    return None, doubt


def _clock_at(place: Place, arrivals: Sequence[Arrival]) -> Clock | None:
    """Return the clock at one place; None if its values are no times."""
    series = _series(place, arrivals)
    values = [value for one in series.values() for _, value in one]
    if not values:
        return None
    per_sample = bool(place.samples) or place.kind == "column"
    if all(guess_time(value) is not None for value in values):
        unit = "iso" if isinstance(values[0], str) else guess_unit(float(values[0]))
        times = {name: np.array([(a, (guess_time(v) or 0) / 1e9) for a, v in one]) for name, one in series.items()}
        still = all(len(one) > 2 and len(set(one[:, 1].tolist())) == 1 for one in times.values())
        doubt = "it stands still" if still else "" if _is_in_order(times) else "it jumps back and forth"
        return Clock(place, unit, True, per_sample, doubt)
    if not all(is_number(value) for value in values):
        return None
    numbers = {name: np.array([(arrival, float(value)) for arrival, value in one]) for name, one in series.items()}
    if min(float(one[:, 1].min()) for one in numbers.values()) < 0 or not _is_in_order(numbers):
        return None
    slopes = [
        (one[-1, 1] - one[0, 1]) / (one[-1, 0] - one[0, 0])
        for one in numbers.values()
        if len(one) > 2 and one[-1, 0] - one[0, 0] >= _MIN_SPAN_S
    ]
    if slopes:
        slope = float(np.median(slopes))
        for unit, per_second in _PER_SECOND.items():
            if slope > 0 and abs(math.log(slope / per_second)) < math.log(_TOLERANCE):
                return Clock(place, unit, False, per_sample)
        return None
    unit = unit_of_time(place.path)
    if unit and names_time(place.path):
        return Clock(place, unit, False, per_sample, "too few messages came to measure its unit, which its name tells")
    return None


def _stands_in_messages(values: Sequence[Sequence[Any]]) -> bool:
    """Return whether all samples of a message have one time, which is then none of their own."""
    return any(len(one) > 1 and len(set(map(str, one))) == 1 for one in values)


def _series(place: Place, arrivals: Sequence[Arrival]) -> Mapping[str, list[tuple[float, Any]]]:
    """Return the arrival and the first value at a place of the messages of each device."""
    series: dict[str, list[tuple[float, Any]]] = {}
    for arrival in arrivals:
        value = first_value(arrival.document, place)
        if value is not None:
            series.setdefault(arrival.device, []).append((arrival.arrival_s, value))
    return series


def first_value(document: Any, place: Place) -> Any:
    """Return the first value at a place in a document; None if there is none."""
    if place.samples:
        listed = document if place.samples == WHOLE else find(document, place.samples)
        document = listed[0] if isinstance(listed, list) and listed else None
    value = find(document, place.path)
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, str) and is_number(value):
        return float(value) if "." in value or "e" in value.lower() else int(value)
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _is_in_order(series: Mapping[str, Float64]) -> bool:
    """Return whether the values of nearly all messages (n_messages, 2) are not before that of the message before."""
    steps = [after >= before for one in series.values() for before, after in pairwise(one[:, 1].tolist())]
    return bool(sum(steps) >= _IN_ORDER * len(steps))
