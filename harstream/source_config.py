"""Settings of one source of samples: its topics, the format of its messages, and its model."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from harstream.errors import ConfigError
from harstream.options import Option
from harstream.wire.axes import Axes
from harstream.wire.fields import Fields
from harstream.wire.payloads import PayloadConfig
from harstream.wire.samples import Units
from harstream.wire.topics import TopicTemplate

#: A name is part of metrics, logs and state files.
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
#: Value of ``events_topic`` that stands for no events.
OFF = "off"
DEFAULT_TOPIC = "wearables/{device}/imu"
#: Settings with topics of samples: the first alone, or the others together.
SAMPLES_TOPICS = frozenset(("topic", "acc_topic", "gyro_topic"))
_TOPIC, _ACC, _GYRO = "topic", "acc-topic", "gyro-topic"
_LABELS, _EVENTS = "labels-topic", "events-topic"


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """One source, with the settings that a ``[[source]]`` table leaves to the top level filled in.

    Raises:
        ConfigError: A value is not allowed, or two values contradict each other.

    """

    name: str  # in logs, metrics, the API and state files
    where: str  # begins what is said about it, such as "source phones: "; "" for the one source without a table
    topic: str
    acc_topic: str | None
    gyro_topic: str | None
    payload: str
    fields: Fields | None
    axes: str
    model: str
    acc_unit: str
    gyro_unit: str
    labels_topic: str
    events_topic: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"{self.where}name: {self.name!r} is not 1 to 64 letters, digits, dots, hyphens and underscores"
            )
        try:
            self._check_gyro_topic()
            paired = self.gyro_topic is not None
            self.payload_config.check(not self.samples_template.has_device, paired)
            _ = self.labels_template, self.events_template
        except ConfigError as error:
            raise ConfigError(f"{self.where}{error}") from error

    def _check_gyro_topic(self) -> None:
        """Raise ConfigError unless the topics of the two sensors go together."""
        acc, gyro = self.samples_template, self.gyro_template
        if (self.acc_topic is None) != (gyro is None):
            given, other = (_GYRO, _ACC) if self.acc_topic is None else (_ACC, _GYRO)
            raise ConfigError(f"{given}: it goes with {other}; give both, or only topic")
        if gyro is None:
            return
        if self.topic != DEFAULT_TOPIC:
            raise ConfigError("topic: acc-topic and gyro-topic are in its place; leave it out")
        for level, in_acc, in_gyro in (
            ("{device}", acc.has_device, gyro.has_device),
            ("{partition}", acc.has_partition, gyro.has_partition),
        ):
            if in_acc != in_gyro:
                raise ConfigError(
                    f"gyro-topic: {gyro.text!r} and acc-topic {acc.text!r}: only one has a level {level}; both need "
                    "it, or none"
                )

    @property
    def samples_template(self) -> TopicTemplate:
        """Template of the topics that samples are received from; with ``gyro_template``, those of the accelerometer."""
        text, name = (self.topic, _TOPIC) if self.acc_topic is None else (self.acc_topic, _ACC)
        return TopicTemplate(text, name, may_partition=True, may_omit_device=True)

    @property
    def gyro_template(self) -> TopicTemplate | None:
        """Template of the topics of the gyroscope; None: it comes with the accelerometer."""
        if self.gyro_topic is None:
            return None
        return TopicTemplate(self.gyro_topic, _GYRO, may_partition=True, may_omit_device=True)

    @property
    def _samples_templates(self) -> dict[str, TopicTemplate]:
        """Templates of the topics of samples, each once, by the flag of the option."""
        samples, gyro = self.samples_template, self.gyro_template
        if gyro is None:
            return {_TOPIC: samples}
        return {_ACC: samples} if gyro == samples else {_ACC: samples, _GYRO: gyro}

    @property
    def samples_topics(self) -> str:
        """Templates of the topics of samples, for people."""
        return " and ".join(template.text for template in self._samples_templates.values())

    def samples_filters(self, partitions: Sequence[int] = ()) -> tuple[str, ...]:
        """Return the filters of the topics of samples, of these partitions or, without any, of all devices."""
        return tuple(
            name for template in self._samples_templates.values() for name in template.subscriptions(partitions)
        )

    @property
    def labels_template(self) -> TopicTemplate:
        """Template of the topics that labels are published to."""
        return TopicTemplate(self.labels_topic, _LABELS)

    @property
    def events_template(self) -> TopicTemplate | None:
        """Template of the topics that events are published to; None for ``off``."""
        return None if self.events_topic == OFF else TopicTemplate(self.events_topic, _EVENTS)

    @property
    def payload_config(self) -> PayloadConfig:
        """Format of the samples."""
        return PayloadConfig(self.payload, self.fields or Fields(), Axes.parse(self.axes))

    @property
    def units(self) -> Units:
        """Units of messages that name none."""
        return Units(self.acc_unit, self.gyro_unit)

    @property
    def templates(self) -> dict[str, TopicTemplate]:
        """All its templates, by the flag of the option."""
        templates = {**self._samples_templates, _LABELS: self.labels_template}
        return templates if self.events_template is None else {**templates, _EVENTS: self.events_template}


#: Settings of a source that the top level has too.
SOURCE_SETTINGS = tuple(field.name for field in fields(SourceConfig) if field.name not in ("name", "where"))
#: Keys of a ``[[source]]`` table.
SOURCE_KEYS = ("name", *SOURCE_SETTINGS)


def default_name(number: int) -> str:
    """Return the name of the source with a number, counted from 1, that gives none."""
    return f"source{number}"


def check_tables(tables: Any, options: Mapping[str, Option], where: str = "") -> tuple[dict[str, Any], ...]:
    """Return ``[[source]]`` tables with checked values. A key is one of SOURCE_KEYS, with - or _.

    Args:
        tables: The tables.
        options: The options of the settings, by name.
        where: What errors begin with.

    Raises:
        ConfigError: There are no tables, a key is unknown or repeated, or a value is not allowed.

    """
    if not isinstance(tables, list | tuple) or not all(isinstance(table, Mapping) for table in tables):
        raise ConfigError(f"{where}source: expected tables that begin with [[source]], each in double brackets")
    return tuple(_check_table(table, options, where, number) for number, table in enumerate(tables, 1))


def _check_table(table: Mapping[str, Any], options: Mapping[str, Option], where: str, number: int) -> dict[str, Any]:
    name = table.get("name", default_name(number))
    if not isinstance(name, str):
        raise ConfigError(f"{where}source {number}: name: expected a text, got {type(name).__name__}")
    where = f"{where}source {name}: "
    checked: dict[str, Any] = {}
    for key, value in table.items():
        setting = key.replace("-", "_")
        if setting not in SOURCE_KEYS:
            raise ConfigError(f"{where}{key!r} does not exist in [[source]]; known are {', '.join(SOURCE_KEYS)}")
        if setting in checked:
            raise ConfigError(f"{where}{key}: the setting is given twice, once with - and once with _; remove one")
        checked[setting] = value if setting == "name" else options[setting].check_in_file(value, f"{where}{key}")
    return checked


def check_together(sources: Sequence[SourceConfig]) -> None:
    """Raise ConfigError if two sources have one name, or two topics of different use match the same topics.

    Several sources may publish to the same topics. What happens there if two of their devices have one name is seen
    only when they send.
    """
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"source {name}: two sources have this name; give each its own")
    for (source, first, one), (other_source, second, other) in itertools.combinations(_templates(sources), 2):
        is_shared = first == second and first in (_LABELS, _EVENTS) and one.text == other.text
        shared = source is not other_source and is_shared
        if one.overlaps(other) and not shared:
            raise ConfigError(
                f"{other_source.where}{second}: {other.text!r} and {source.where}{first} {one.text!r} match the same "
                "topics; make them differ"
            )


def check_own_topic(sources: Sequence[SourceConfig], kind: str, topic: str, option: str) -> None:
    """Raise ConfigError if a source uses a topic on which the daemon publishes something of another kind.

    Args:
        sources: All sources.
        kind: What is published there.
        topic: The topic.
        option: Name of the option that changes it.

    """
    for source, name, template in _templates(sources):
        if template.device(topic) is not None or (not template.has_device and template.matches(topic)):
            raise ConfigError(
                f"{source.where}{name}: {template.text!r} matches the daemon's {kind} {topic!r}; "
                f"choose another topic or {option}"
            )


def _templates(sources: Sequence[SourceConfig]) -> Iterator[tuple[SourceConfig, str, TopicTemplate]]:
    for source in sources:
        for name, template in source.templates.items():
            yield source, name, template
