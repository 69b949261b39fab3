"""Topic templates: where a device's name, and its partition, stand in a topic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harstream.errors import ConfigError

DEVICE, PARTITION = "{device}", "{partition}"
_VARY = (DEVICE, PARTITION)
MAX_DEVICE_LENGTH = 256
#: Characters that a device name may not have: MQTT's separators and wildcards. Control characters
#: are refused too.
FORBIDDEN = frozenset("/+#")


def is_device_name(name: str) -> bool:
    """Whether a name can stand as one level of a topic we publish."""
    return (
        0 < len(name) <= MAX_DEVICE_LENGTH
        and FORBIDDEN.isdisjoint(name)
        and (name.isprintable() or all(char.isprintable() or char == " " for char in name))
    )


@dataclass(frozen=True, slots=True)
class TopicTemplate:
    """A topic with exactly one level ``{device}``, such as ``wearables/{device}/imu``.

    Where samples come from there may be one level ``{partition}`` too, a number that the broker has put there: one
    device's topic always has the same. Raises ConfigError where the text is no such thing.
    """

    text: str
    _levels: tuple[str, ...]

    def __init__(self, text: str, option: str = "topic", *, may_partition: bool = False) -> None:
        levels = tuple(text.split("/"))
        if text.startswith("$share/"):
            raise ConfigError(
                f"{option}: {text!r}: a shared subscription deals each device's messages out among the "
                "subscribers, which destroys every window"
            )
        if PARTITION in levels and not may_partition:
            raise ConfigError(f"{option}: {text!r}: only where the daemon takes samples from can {PARTITION} stand")
        n_braces = 1 + (PARTITION in levels)
        if levels.count(DEVICE) != 1 or text.count("{") != n_braces or text.count("}") != n_braces:
            allowed = f", at most one {PARTITION}," if may_partition else ""
            raise ConfigError(f"{option}: {text!r} needs exactly one level {DEVICE}{allowed} and no other braces")
        if any(char in text for char in "+#"):
            raise ConfigError(f"{option}: {text!r} has a wildcard; {DEVICE} is the only place that varies")
        if not text.isprintable():
            raise ConfigError(f"{option}: {text!r} has a control character, which no topic may have")
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "_levels", levels)

    @property
    def has_partition(self) -> bool:
        return PARTITION in self._levels

    @property
    def subscription(self) -> str:
        """The filter that matches every device's topic."""
        return "/".join("+" if level in _VARY else level for level in self._levels)

    def subscriptions(self, partitions: Sequence[int] = ()) -> tuple[str, ...]:
        """The filters that match the topics of these partitions' devices; without, of all."""
        if not partitions:
            return (self.subscription,)
        return tuple(self.text.replace(PARTITION, str(number)).replace(DEVICE, "+") for number in partitions)

    def topic(self, device: str) -> str:
        """Where a device's messages go."""
        return self.text.replace(DEVICE, device)

    def device(self, topic: str) -> str | None:
        """The device a topic names; None where the topic or the name is not ours to accept."""
        levels = topic.split("/")
        if len(levels) != len(self._levels):
            return None
        name = None
        for ours, theirs in zip(self._levels, levels, strict=True):
            if ours == DEVICE:
                name = theirs
            elif not (theirs.isdecimal() if ours == PARTITION else theirs == ours):
                return None
        return name if name is not None and is_device_name(name) else None

    def overlaps(self, other: TopicTemplate) -> bool:
        """Whether some topic fits both: what is published to one would come back through the other."""
        ours, theirs = self._levels, other._levels
        return len(ours) == len(theirs) and all(
            a == b or a in _VARY or b in _VARY for a, b in zip(ours, theirs, strict=True)
        )
