"""Naming: what names the device of a message, a level of its topic or a place in its payload."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harstream.errors import ConfigError
from harstream.probe.clocks import Arrival
from harstream.probe.places import Held
from harstream.probe.words import GENERIC, names_device, sensor_of, sensor_of_level
from harstream.wire.device_names import DEVICE_NAMES, device_name
from harstream.wire.fields import find
from harstream.wire.reject import RejectError
from harstream.wire.topics import DEVICE, PARTITION, TopicTemplate

#: Result of ``_identifies`` for a level with a number or an address in it.
_CERTAIN = 2.0
#: Sensors of a device, of which a level of the topic may tell one.
_SENSORS = ("acc", "gyro", "linear", "gravity")
_IDENTIFIER = re.compile(r"(?:[0-9a-fA-F]{2}[:-]?){3,}|.*\d.*")


@dataclass(frozen=True, slots=True)
class Template:
    """Topic template of some topics, and what is doubtful about it."""

    text: str
    topics: tuple[str, ...]
    doubt: str = ""


def find_templates(topics: Sequence[str], filters: Sequence[str], payload_names: dict[str, set[str]]) -> list[Template]:
    """Return the templates that fit topics of one kind, which have the same number of levels.

    Args:
        topics: The topics.
        filters: Topic filters of the user, whose ``{device}``, or only ``+``, is a hint.
        payload_names: Devices that payloads name, by topic; none: they name none.

    """
    several = [topic for topic in topics if len(payload_names.get(topic, ())) > 1]
    if several or (len(topics) == 1 and _prefers_payload(topics[0], payload_names.get(topics[0], set()), filters)):
        return [Template(topic, (topic,)) for topic in topics]
    levels = [topic.split("/") for topic in topics]
    varying = [at for at in range(len(levels[0])) if len({one[at] for one in levels}) > 1]
    hint = _hinted(topics, filters)
    doubt = ""
    if hint is not None:
        at = hint
    elif len(varying) == 1:
        at = varying[0]
    elif varying:
        at = max(varying, key=lambda level: (len({one[level] for one in levels}), _identifies(levels[0][level])))
    else:
        at = max(range(len(levels[0])), key=lambda level: (_identifies(levels[0][level]), level))
        named = sorted(payload_names.get(topics[0], set()) - {levels[0][at]})
        if named or _identifies(levels[0][at]) < _CERTAIN:
            doubt = f"one topic came, and its level {levels[0][at]!r} is taken for the device"
            doubt += f", although payloads name {named[0]!r}" if named else ""
    grouped: dict[str, list[str]] = {}
    for topic, one in zip(topics, levels, strict=True):
        grouped.setdefault("/".join(DEVICE if level == at else text for level, text in enumerate(one)), []).append(
            topic
        )
    names = [one[at] for one in levels]
    if len(set(names)) < len(names):
        doubt = "devices of different topics have the same name, and so the same topic of labels: give them others"
    return [Template(text, tuple(found), doubt) for text, found in grouped.items() if is_template(text)]


def is_template(text: str) -> bool:
    """Return whether a source can have a template of topics."""
    try:
        TopicTemplate(text, may_omit_device=True)
    except ConfigError:
        return False
    return True


def _prefers_payload(topic: str, names: set[str], filters: Sequence[str]) -> bool:
    """Return whether the payload, rather than a level of the only topic, is to name the device."""
    levels = topic.split("/")
    if not names or not names.isdisjoint(levels) or _hinted([topic], filters) is not None:
        return False
    return max(map(_identifies, levels)) < _CERTAIN


def _hinted(topics: Sequence[str], filters: Sequence[str]) -> int | None:
    """Return the level of ``{device}``, or of the only ``+``, in a filter that fits the topics."""
    for text in filters:
        levels = text.split("/")
        wild = [at for at, level in enumerate(levels) if level == DEVICE]
        wild = wild or [at for at, level in enumerate(levels) if level == "+" and not _is_sensor(topics, at)]
        if len(wild) == 1 and "#" not in levels and all(_fits(topic, levels) for topic in topics):
            return wild[0]
    return None


def _is_sensor(topics: Sequence[str], at: int) -> bool:
    """Return whether a level of topics names a sensor, and so no device."""
    return any(sensor_of_level(level) in _SENSORS for topic in topics for level in topic.split("/")[at : at + 1])


def _fits(topic: str, levels: Sequence[str]) -> bool:
    parts = topic.split("/")
    return len(parts) == len(levels) and all(
        level in ("+", DEVICE, PARTITION, part) for part, level in zip(parts, levels, strict=True)
    )


def _identifies(level: str) -> float:
    """Return how much a level looks like the name of a device; less than 0: it names a sensor."""
    plain = level.lower()
    if sensor_of_level(level) in _SENSORS:
        return -1.0
    if not level or plain in GENERIC or (sensor_of(level) and len(level) > 1 and not _IDENTIFIER.fullmatch(level)):
        return 0.0
    return _CERTAIN if _IDENTIFIER.fullmatch(level) else 1.0


def find_device(held: Held, arrivals: Sequence[Arrival]) -> str:
    """Return the path of the name of the device in payloads; "" if they have none.

    A common name counts most. Another one must stay the same from message to message, or come back.
    """
    best = ("", 0.0)
    for place, values in held.items():
        if place.samples or place.hidden or place.kind not in ("text", "number") or not names_device(place.path):
            continue
        found = [value for message in values for value in message]
        if len(found) < len(arrivals) or not all(_may_be_name(value) for value in found):
            continue
        last = place.path.rpartition(".")[2]
        score = 2.0 if last in DEVICE_NAMES else 1.0
        score += 0.5 * (place.kind == "text") - 0.1 * place.path.count(".")
        score -= sensor_of(str(found[0])) != "" or str(found[0]).lower() in GENERIC
        if recur(list(map(str, found))) and score > best[1]:
            best = place.path, score
    return best[0]


def recur(names: Sequence[str]) -> bool:
    """Return whether names come back from message to message, as those of devices do and those of messages do not."""
    return 2 * len(set(names)) <= max(len(names), 2)


def _may_be_name(value: Any) -> bool:
    try:
        device_name(value)
    except RejectError:
        return False
    return True


def named_in(document: Any, path: str) -> str:
    """Return the device that a document names at a path; "" if it names none."""
    value = find(document, path) if path else None
    return device_name(value) if _may_be_name(value) else ""
