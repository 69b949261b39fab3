"""Discovery messages for Home Assistant: three sensors for each device, which read its label message.

One retained message announces one sensor, on `<prefix>/sensor/<node>/<object>/config`; an empty one removes it. Home
Assistant has read this form in every version since 2021; the form with all sensors in one message needs 2024.11.

*Source*: MQTT discovery and MQTT sensor in Home Assistant's documentation, and its `components/mqtt`.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import msgspec

from harstream.wire.topics import TopicTemplate

#: Topic on which Home Assistant says ``online`` when it has started, whatever its discovery prefix.
BIRTH_TOPIC, BIRTH = "homeassistant/status", b"online"
#: Sensors of a device. The first one stands for all: it is announced first and removed last.
SENSORS = ("activity", "confidence", "last-seen")
#: Longest time without a label, in seconds, after which Home Assistant does not show the last one any more.
_MAX_EXPIRE_S = 300
#: A clock that is further from Home Assistant's, in seconds, is not set, and the time of arrival counts.
_MAX_OFF_S = 86400
#: The message that clears a label is empty.
_LABEL = "{{ value_json.label if value_json is defined else None }}"
_PERCENT = "{{ (value_json.confidence * 100) | round(0) | int if value_json is defined else None }}"
#: Whole minutes, because Home Assistant stores every change.
_LAST_SEEN = (
    "{% if value_json is defined %}{% set now_s = as_timestamp(now()) %}{% set t = value_json.t %}"
    f"{{{{ ((t if (now_s - t) | abs < {_MAX_OFF_S} else now_s) // 60 * 60) | as_datetime }}}}"
    "{% else %}{{ None }}{% endif %}"
)
_AVAILABILITY = "{{ 'online' if value == 'online' else 'offline' }}"


@dataclass(frozen=True, slots=True)
class Announcement:
    """Content of a retained message about the sensors of a device.

    Attributes:
        key: Name of the device in topics and unique ids.
        owner: Daemon that announced it last; None: it was removed, or the message is none of harstream's.

    """

    key: str
    owner: str | None


class Discovery:
    """Topics and messages of the sensors of all devices of one source.

    Its unique ids are made of the topic template of its labels and the name of the device. So daemons with the same
    template announce the same sensors, and each device has one of them as its owner.

    Args:
        prefix: Prefix of Home Assistant's discovery topics.
        labels: Template of the topics of labels.
        status_topic: Topic of the daemon's status.
        owner: Name of the daemon, different from those of all others with the same template.
        version: Version of harstream.
        source: Name of the source, shown beside the model; empty if the settings name none.
        apart: Whether unique ids are made of the name of the source too, because an earlier source of the same daemon
            has the same template.

    """

    def __init__(
        self,
        prefix: str,
        labels: TopicTemplate,
        status_topic: str,
        owner: str,
        version: str,
        *,
        source: str = "",
        apart: bool = False,
    ) -> None:
        self._scope = _digest(f"{labels.text}\n{source}" if apart else labels.text, 8)
        self._source = source
        self._topics = [f"{prefix}/sensor/harstream-{self._scope}-{sensor}" for sensor in SENSORS]
        self._labels, self._status_topic = labels, status_topic
        self._owner = _digest(owner, 16)
        self._version = version

    @property
    def owner(self) -> str:
        """Name of this daemon in its messages."""
        return self._owner

    @property
    def topics(self) -> str:
        """What the topics of one message for each device begin with, up to the name of the device."""
        return self._topics[0]

    @property
    def subscription(self) -> str:
        """Topic filter of one message for each device."""
        return f"{self.topics}/+/config"

    @staticmethod
    def key(device: str) -> str:
        """Return the name of a device in topics and unique ids, which may have only some characters."""
        return _digest(device, 16)

    def announce(self, device: str, labels: list[str], model: str, idle_s: float) -> list[tuple[str, bytes]]:
        """Return the publications that announce the sensors of a device.

        Args:
            device: Device id.
            labels: Labels that it may have, UNKNOWN included.
            model: Id of the model.
            idle_s: Seconds without samples after which the device is forgotten.

        """
        expire_after = min(math.ceil(idle_s), _MAX_EXPIRE_S)
        key = self.key(device)
        unique = f"harstream_{self._scope}_{key}"
        common: dict[str, Any] = {
            "state_topic": self._labels.topic(device),
            "availability": [{"topic": self._status_topic, "value_template": _AVAILABILITY}],
            "device": {
                "identifiers": [unique],
                "name": device,
                "manufacturer": "harstream",
                "model": f"{model}, source {self._source}" if self._source else model,
            },
            "origin": {"name": "harstream", "sw_version": self._version},
            "harstream": self._owner,  # Home Assistant passes over what it does not know
        }
        sensors: list[dict[str, Any]] = [
            {
                "name": "Activity",
                "device_class": "enum",
                "options": labels,
                "icon": "mdi:walk",
                "value_template": _LABEL,
                "expire_after": expire_after,
            },
            {
                "name": "Confidence",
                "unit_of_measurement": "%",
                "state_class": "measurement",
                "icon": "mdi:percent",
                "entity_category": "diagnostic",
                "value_template": _PERCENT,
                "expire_after": expire_after,
            },
            {
                "name": "Last seen",
                "device_class": "timestamp",
                "entity_category": "diagnostic",
                "value_template": _LAST_SEEN,
            },
        ]
        return [
            (
                f"{topic}/{key}/config",
                msgspec.json.encode(sensor | {"unique_id": f"{unique}_{name.replace('-', '_')}"} | common),
            )
            for topic, name, sensor in zip(self._topics, SENSORS, sensors, strict=True)
        ]

    def remove(self, key: str) -> list[tuple[str, bytes]]:
        """Return the publications that remove the sensors of a device."""
        return [(f"{topic}/{key}/config", b"") for topic in reversed(self._topics)]

    def read(self, topic: str, payload: bytes) -> Announcement:
        """Return what a message says that ``subscription`` has let through."""
        return Announcement(topic.split("/")[-2], _owner_of(payload))


class _Owned(msgspec.Struct):
    """Part of an announcement that harstream reads."""

    harstream: str


def _owner_of(payload: bytes) -> str | None:
    try:
        return msgspec.json.decode(payload, type=_Owned).harstream
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _digest(text: str, length: int) -> str:
    """Return the first digits of a hash, which is the same everywhere. A device id may hold any Unicode."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]
