"""Topic templates, such as ``wearables/{device}/imu``: the position of the device and the partition in a topic."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harstream.errors import ConfigError

DEVICE, PARTITION = "{device}", "{partition}"
_PLACEHOLDERS = (DEVICE, PARTITION)
MAX_DEVICE_LENGTH = 256
#: Characters that no topic may have: control characters, surrogates and noncharacters. MQTT forbids U+0000 and
#: surrogates. It lets a broker end the connection for the others, and mosquitto does so.
#: ``str.isprintable`` would not do: it rejects spaces and joiners, and depends on the Unicode tables of Python.
_FORBIDDEN = r"\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef" + "".join(
    chr(plane + 0xFFFE) + chr(plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000)
)
_FORBIDDEN_IN_TOPIC = re.compile(f"[{_FORBIDDEN}]")
_FORBIDDEN_IN_LEVEL = re.compile(f"[/+#{_FORBIDDEN}]")


def is_device_name(name: str) -> bool:
    """Return whether a name can be one level of a topic that harstream publishes to."""
    return 0 < len(name) <= MAX_DEVICE_LENGTH and is_topic_level(name)


def is_topic_level(text: str) -> bool:
    """Return whether a text has none of ``/``, ``+``, ``#``, control characters, surrogates and noncharacters."""
    return _FORBIDDEN_IN_LEVEL.search(text) is None


def escape_unprintable(text: str) -> str:
    """Return a text that is safe to print: line ends, controls of the terminal and of the writing direction escaped.

    Other text stays as it is, but for what the Unicode tables of Python do not know.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@dataclass(frozen=True, slots=True)
class TopicTemplate:
    """A topic with exactly one level ``{device}``, such as ``wearables/{device}/imu``.

    A topic that samples are received from may also have one level ``{partition}``, a number that the broker inserts. It
    is always the same for one device. Such a topic may also have no level at all for the device, if payloads name it.

    Args:
        text: The template.
        option: Name of the option that the text comes from, for error messages.
        may_partition: Whether a level ``{partition}`` is allowed.
        may_omit_device: Whether the level ``{device}`` may be missing.

    Raises:
        ConfigError: The text is not such a template.

    """

    text: str
    _levels: tuple[str, ...]

    def __init__(
        self, text: str, option: str = "topic", *, may_partition: bool = False, may_omit_device: bool = False
    ) -> None:
        levels = tuple(text.split("/"))
        if text.startswith("$share/"):
            raise ConfigError(
                f"{option}: {text!r} is a shared subscription, which spreads the messages of one device over several "
                f"subscribers, so that no window is complete; to share the load, use {PARTITION}"
            )
        if PARTITION in levels and not may_partition:
            raise ConfigError(
                f"{option}: {text!r}: {PARTITION} is allowed only in the topic that `harstream run` subscribes to"
            )
        n_devices = levels.count(DEVICE)
        n_braces = n_devices + (PARTITION in levels)
        if n_devices == 0 and PARTITION in levels and may_omit_device:
            raise ConfigError(f"{option}: {text!r} has a level {PARTITION}, so it needs a level {DEVICE} too")
        has_right_number = n_devices == 1 or (n_devices == 0 and may_omit_device and text != "")
        if not has_right_number or text.count("{") != n_braces or text.count("}") != n_braces:
            allowed = f", at most one {PARTITION}," if may_partition else ""
            raise ConfigError(f"{option}: {text!r} needs exactly one level {DEVICE}{allowed} and no other braces")
        if any(char in text for char in "+#"):
            raise ConfigError(f"{option}: {text!r} has a wildcard; write {DEVICE} for the level that varies")
        if _FORBIDDEN_IN_TOPIC.search(text):
            raise ConfigError(f"{option}: {text!r} has a control character, which no topic may have")
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "_levels", levels)

    @property
    def has_device(self) -> bool:
        """True if the template has a level ``{device}``; otherwise payloads name the device."""
        return DEVICE in self._levels

    @property
    def has_partition(self) -> bool:
        """True if the template has a level ``{partition}``."""
        return PARTITION in self._levels

    @property
    def subscription(self) -> str:
        """The topic filter that matches the topics of all devices."""
        return "/".join("+" if level in _PLACEHOLDERS else level for level in self._levels)

    def subscriptions(self, partitions: Sequence[int] = ()) -> tuple[str, ...]:
        """Return the topic filters that match the topics of these partitions; without partitions, of all devices."""
        if not partitions:
            return (self.subscription,)
        return tuple(self.text.replace(PARTITION, str(number)).replace(DEVICE, "+") for number in partitions)

    def topic(self, device: str) -> str:
        """Return the topic of a device."""
        return self.text.replace(DEVICE, device)

    def device(self, topic: str) -> str | None:
        """Return the device that a topic names; None if the topic does not fit or the name is not allowed."""
        name = self._match(topic)
        return name if name is not None and is_device_name(name) else None

    def matches(self, topic: str) -> bool:
        """Return whether a topic fits the template; a device that it names may have a name that is not allowed."""
        return self._match(topic) is not None

    def _match(self, topic: str) -> str | None:
        """Return the level at the place of the device, "" without such a place; None if the topic does not fit."""
        levels = topic.split("/")
        if len(levels) != len(self._levels):
            return None
        name = ""
        for expected, level in zip(self._levels, levels, strict=True):
            if expected == DEVICE:
                name = level
            elif not (level.isdecimal() if expected == PARTITION else level == expected):
                return None
        return name

    def partition(self, topic: str) -> int | None:
        """Return the partition that a topic or topic filter names; None if it names none."""
        if PARTITION not in self._levels:
            return None
        level = topic.split("/")[self._levels.index(PARTITION) :][:1]
        return int(level[0]) if level and level[0].isdecimal() else None

    def overlaps(self, other: TopicTemplate) -> bool:
        """Return whether a topic exists that fits both templates, so that harstream would receive its own messages."""
        return len(self._levels) == len(other._levels) and all(
            a == b or a in _PLACEHOLDERS or b in _PLACEHOLDERS for a, b in zip(self._levels, other._levels, strict=True)
        )
