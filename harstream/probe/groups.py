"""Groups: messages of one shape, on topics of one kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from harstream.probe.contents import Content, open_payload
from harstream.probe.places import Held, collect
from harstream.probe.words import sensor_of, sensor_of_level
from harstream.wire.csv_text import is_header
from harstream.wire.decoder import Message

#: Messages of a group in which places are looked for.
MAX_SEARCHED = 1_000
#: Share of the names at the top of two messages of one shape that they have in common.
_ALIKE = 0.6
_MAX_NAMES = 64
#: Groups that are looked at; a broker with more kinds of messages is not for a person to read.
MAX_GROUPS = 200
#: Names in messages that a daemon publishes itself.
_LABEL = {"label", "confidence", "model"}
_STATUS = (b"online", b"offline", b"stopped")


@dataclass(slots=True)
class Group:
    """Messages of one shape on topics with the same number of levels, in order of arrival."""

    form: str  # one of ``contents.FORMS``
    name: str  # the form for people
    messages: list[Message] = field(default_factory=list)
    searched: list[Message] = field(default_factory=list)  # those in which places are looked for
    contents: list[Content] = field(default_factory=list)  # of these
    sensor: str = ""  # that a level of the topic, or the text at ``told_by``, names: acc, gyro, linear, ...
    told_by: str = ""  # path of the text that tells these messages from others of the same topic
    value: str = ""  # that text
    is_gyro: bool = False  # names in the messages are those of a gyroscope, and none those of an accelerometer
    documents: list[Any] = field(default_factory=list)  # the same; of lines: columns by name
    columns: tuple[str, ...] = ()  # names of the columns of lines, or their numbers
    held: Held = field(default_factory=dict)

    @property
    def topics(self) -> list[str]:
        """Topics, sorted."""
        return sorted({message.topic for message in self.messages})


@dataclass(frozen=True, slots=True)
class Grouped:
    """All groups, and what belongs to none."""

    groups: list[Group]
    retained: Counter[str]  # topic to the number of retained messages
    own: Counter[str]  # topic to the number of messages of a harstream daemon
    passed_over: int  # messages of further groups


def group(messages: Iterable[Message], max_bytes: int) -> Grouped:
    """Return the groups of messages, those with most messages first."""
    grouped = Grouped([], Counter(), Counter(), 0)
    by_key: dict[tuple[Any, ...], list[tuple[frozenset[str], Group]]] = {}
    n_groups = passed_over = 0
    for message in messages:
        if message.retained:
            grouped.retained[message.topic] += 1
            continue
        content = open_payload(message.payload[: max_bytes + 1], max_bytes)
        if _is_own(message, content):
            grouped.own[message.topic] += 1
            continue
        levels = message.topic.split("/")
        sensors = tuple(sensor_of_level(level) for level in levels)
        names, detail = _outline(content)
        is_gyro = _holds_gyro_alone(content.document)
        alike = by_key.setdefault((len(levels), sensors, content.form, content.packing, detail, is_gyro), [])
        found = next((one for known, one in alike if _similar(known, names)), None)
        if found is None:
            if n_groups == MAX_GROUPS:
                passed_over += 1
                continue
            n_groups += 1
            sensor = next((one for one in reversed(sensors) if one), "")
            found = Group(content.form, content.name, sensor=sensor, is_gyro=is_gyro)
            alike.append((names, found))
        found.messages.append(message)
    groups = [part for alike in by_key.values() for _, one in alike for part in _finish(one, max_bytes)]
    groups.sort(key=lambda one: (-len(one.messages), one.topics))
    return Grouped(groups, grouped.retained, grouped.own, passed_over)


def _outline(content: Content) -> tuple[frozenset[str], Any]:
    """Return the names at the top of a document, and what else must be the same in messages of one shape."""
    document = content.document
    if isinstance(document, dict):
        return frozenset(str(name)[:_MAX_NAMES] for name in islice(document, _MAX_NAMES)), "object"
    if content.form == "lines":
        return frozenset(), len(document[0])
    if isinstance(document, list):
        return frozenset(), ("list", type(document[0]).__name__ if document else "")
    return frozenset(), content.shown[:2] in ("'{", "'[")


def _holds_gyro_alone(document: Any) -> bool:
    """Return whether the names in a document are those of a gyroscope, and none those of an accelerometer."""
    sensors = set(map(sensor_of, _names_in(document)))
    return "gyro" in sensors and "acc" not in sensors


def _names_in(document: Any) -> Iterator[str]:
    """Yield the names at the top of a document and below, and the texts in lists that may name a sensor."""
    members = document.items() if isinstance(document, dict) else (("", document),)
    for name, member in islice(members, _MAX_NAMES):
        yield str(name)[:_MAX_NAMES]
        in_list = isinstance(member, list | tuple)
        for one in islice(member if in_list else (member,), _MAX_NAMES):
            if isinstance(one, dict):
                for inner, value in islice(one.items(), _MAX_NAMES):
                    yield str(inner)[:_MAX_NAMES]
                    if in_list and isinstance(value, str):
                        yield value[:_MAX_NAMES]


def _similar(one: frozenset[str], other: frozenset[str]) -> bool:
    return one == other or len(one & other) >= _ALIKE * len(one | other)


def _is_own(message: Message, content: Content) -> bool:
    """Return whether a message is a label, an event or the status of a harstream daemon."""
    if isinstance(content.document, dict):
        return content.document.keys() >= _LABEL
    return message.topic.startswith("harstream/") and message.payload in _STATUS


def _finish(one: Group, max_bytes: int) -> list[Group]:
    """Find the places in a group; return its parts if a text tells messages of several sensors apart."""
    one.searched = _choose(one.messages)
    one.contents = [open_payload(message.payload, max_bytes) for message in one.searched]
    if one.form in ("json", "cbor", "msgpack"):
        one.documents = [content.document for content in one.contents]
        one.held = collect(one.documents)
        path = _told_by(one.held, len(one.documents))
        if path:
            return _split(one, path)
    elif one.form == "lines":
        one.columns, one.documents = _columns(one.contents)
        one.held = collect(one.documents)
    return [one]


def _choose(messages: Sequence[Message]) -> list[Message]:
    """Return the messages in which places are looked for: all of some topics, so that rates and clocks show."""
    counts = Counter(message.topic for message in messages)
    topics: set[str] = set()
    n_messages = 0
    for topic, count in counts.items():
        if topics and n_messages + count > MAX_SEARCHED:
            continue
        topics.add(topic)
        n_messages += count
    return list(islice((message for message in messages if message.topic in topics), MAX_SEARCHED))


def _told_by(held: Held, n_documents: int) -> str:
    """Return the path of a text that names the sensor of each message, of which there are several."""
    for place, values in held.items():
        if place.kind == "text" and not place.samples and len(values) == n_documents and "." not in place.path:
            texts = {str(value) for message in values for value in message}
            sensors = {sensor_of(text) for text in texts}
            if 2 <= len(texts) <= 16 and not sensors.isdisjoint({"acc", "linear"}) and len(sensors - {""}) > 1:
                return place.path
    return ""


def _split(one: Group, path: str) -> list[Group]:
    parts: dict[str, Group] = {}
    for message, content in zip(one.searched, one.contents, strict=True):
        value = str(content.document.get(path))
        part = parts.setdefault(value, Group(one.form, one.name, sensor=sensor_of(value), told_by=path, value=value))
        part.messages.append(message)
        part.searched.append(message)
        part.contents.append(content)
    for part in parts.values():
        part.documents = [content.document for content in part.contents]
        part.held = collect(part.documents)
    return list(parts.values())


def _columns(contents: Sequence[Content]) -> tuple[tuple[str, ...], list[dict[str, list[str]]]]:
    """Return the names of the columns of lines, their numbers where no line has names, and the columns of each."""
    width = len(contents[0].document[0])
    names = tuple(map(str, range(width)))
    for content in contents:
        header = content.document[0]
        if is_header(header) and len(set(header)) == width and all(name and name.isprintable() for name in header):
            names = tuple(name.replace(".", "_") for name in header)
            break
    documents = []
    for content in contents:
        rows = content.document[1:] if is_header(content.document[0]) else content.document
        documents.append(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if rows else {})
    return names, documents
