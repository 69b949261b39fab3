"""Topic templates: where a device's name stands in a topic."""

from __future__ import annotations

from dataclasses import dataclass

from harstream.errors import ConfigError

DEVICE = "{device}"
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

    Raises ConfigError where the text is no such thing.
    """

    text: str
    _prefix: str
    _suffix: str

    def __init__(self, text: str, option: str = "topic") -> None:
        levels = text.split("/")
        if text.startswith("$share/"):
            raise ConfigError(
                f"{option}: {text!r}: a shared subscription deals each device's messages out among the "
                "subscribers, which destroys every window"
            )
        if levels.count(DEVICE) != 1 or text.count("{") != 1 or text.count("}") != 1:
            raise ConfigError(f"{option}: {text!r} needs exactly one level {DEVICE} and no other braces")
        if any(char in text for char in "+#"):
            raise ConfigError(f"{option}: {text!r} has a wildcard; {DEVICE} is the only place that varies")
        if not text.isprintable():
            raise ConfigError(f"{option}: {text!r} has a control character, which no topic may have")
        prefix, _, suffix = text.partition(DEVICE)
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "_prefix", prefix)
        object.__setattr__(self, "_suffix", suffix)

    @property
    def subscription(self) -> str:
        """The filter that matches every device's topic."""
        return f"{self._prefix}+{self._suffix}"

    def topic(self, device: str) -> str:
        return f"{self._prefix}{device}{self._suffix}"

    def device(self, topic: str) -> str | None:
        """The device a topic names; None where the topic or the name is not ours to accept."""
        end = len(topic) - len(self._suffix)
        if not (topic.startswith(self._prefix) and topic.endswith(self._suffix) and end > len(self._prefix)):
            return None
        name = topic[len(self._prefix) : end]
        return name if is_device_name(name) else None

    def overlaps(self, other: TopicTemplate) -> bool:
        """Whether some topic fits both: what is published to one would come back through the other."""
        ours, theirs = self.text.split("/"), other.text.split("/")
        return len(ours) == len(theirs) and all(a == b or DEVICE in (a, b) for a, b in zip(ours, theirs, strict=True))
