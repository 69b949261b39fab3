"""Messages at QoS 1 that ``FastClient`` keeps until the broker has answered, in place of paho's slower ones."""

from __future__ import annotations

from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import MessageState, MQTTErrorCode


class Answer(NamedTuple):
    """The broker's answer to a message at QoS 1."""

    topic: str
    payload: bytes
    code: int  # reason code of MQTT 5; below 0x80 the message was accepted


class _UnwatchedInfo:
    """Replacement of paho's MQTTMessageInfo, whose condition and lock cost more than the rest of a message."""

    mid = 0
    rc = MQTTErrorCode.MQTT_ERR_SUCCESS

    def _set_as_published(self) -> None:
        pass


UNWATCHED: Any = _UnwatchedInfo()


class OutboundMessage(paho.MQTTMessage):
    """Message at QoS 1 that waits to be sent or to be acknowledged."""

    __slots__ = ("number",)
    _topic: bytes

    def __init__(self, mid: int, topic: bytes, payload: bytes, retain: bool, number: int) -> None:
        self.number = number  # counted since the start
        self.timestamp = 0.0
        self.state = MessageState.MQTT_MS_QUEUED
        self.dup = False
        self.mid = mid
        self._topic = topic
        self.payload = payload
        self.qos = 1
        self.retain = retain
        self.info = UNWATCHED
        self.properties = None
