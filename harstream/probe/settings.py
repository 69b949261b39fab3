"""Settings of one source, as ``[[source]]`` of the settings file takes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harstream.wire.decoder import Decoder
from harstream.wire.fields import Fields, toml_value
from harstream.wire.payloads import AUTO_PAYLOAD, PayloadConfig
from harstream.wire.samples import AUTO, Units
from harstream.wire.topics import DEVICE, TopicTemplate


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """Settings that tell how the messages of a source are decoded."""

    topic: str  # template
    payload: str = AUTO_PAYLOAD
    fields: Fields = field(default_factory=Fields)
    acc_unit: str = AUTO
    gyro_unit: str = "rad/s"
    gyro_topic: str = ""  # template of the gyroscope's topics; ``topic`` is then the accelerometer's
    model: str = ""  # "": the default, as for the next ones
    labels_topic: str = ""
    events_topic: str = ""
    name: str = ""

    @property
    def names_device(self) -> bool:
        """True if payloads name the device, because the topic does not."""
        return DEVICE not in self.topic.split("/")

    @property
    def is_paired(self) -> bool:
        """True if the two sensors have messages of their own."""
        return bool(self.gyro_topic)

    def table(self) -> dict[str, Any]:
        """Return the settings that differ from the defaults, by their names in the settings file."""
        table: dict[str, Any] = {"name": self.name} if self.name else {}
        topics = {"acc_topic": self.topic, "gyro_topic": self.gyro_topic} if self.gyro_topic else {"topic": self.topic}
        table |= topics
        defaults = SourceSettings("")
        for key in ("payload", "acc_unit", "gyro_unit", "model", "labels_topic", "events_topic"):
            if getattr(self, key) != getattr(defaults, key):
                table[key] = getattr(self, key)
        fields = self.fields.given()
        return table | ({"fields": fields} if fields else {})

    def to_toml(self) -> str:
        """Return the table ``[[source]]``."""
        table = self.table()
        fields = table.pop("fields", {})
        lines = ["[[source]]", *(f"{key} = {toml_value(value)}" for key, value in table.items())]
        if fields:
            # One path is written as a text, not as a list with one element.
            plain = {
                key: value[0] if isinstance(value, tuple) and len(value) == 1 else value
                for key, value in fields.items()
            }
            lines += ["[source.fields]", *(f"{key} = {toml_value(value)}" for key, value in plain.items())]
        return "\n".join(lines)

    def decoder(self, *, needs_gyro: bool, max_payload_bytes: int) -> Decoder:
        """Return the decoder that a daemon with these settings has."""
        template = TopicTemplate(self.topic, may_omit_device=True)
        gyro = TopicTemplate(self.gyro_topic, may_omit_device=True) if self.is_paired else None
        return Decoder(
            template,
            needs_gyro=needs_gyro,
            units=Units(self.acc_unit, self.gyro_unit),
            max_payload_bytes=max_payload_bytes,
            payload=PayloadConfig(self.payload, self.fields),
            gyro_template=gyro,
        )
