"""paho's client for tens of thousands of messages a second.

paho reads a packet in at least three calls to the system and waits for the socket between any two, writes each packet
by itself, wakes its thread for each, and at every acknowledgement goes through all messages on their way. Here the
socket is read and written in large pieces, and what one piece brought is handed on together. Connecting, keeping alive,
sending again after a reconnect, TLS: everything else stays paho's. That takes overriding private methods;
tests/test_client.py tells when a release of paho has changed what they rely on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MessageState, MQTTErrorCode

log = logging.getLogger("harstream.mqtt")

#: Read at once: some hundred messages. More only delays the first of them.
READ_BYTES = 256 * 1024
#: Written at once.
WRITE_BYTES = 64 * 1024
_PUBLISH, _PUBACK, _DISCONNECT = 0x30, 0x40, 0xE0
#: (topic, payload, retained) of a message.
Received = tuple[str, bytes, bool]


class Client(paho.Client):
    """``on_messages`` is called in the network thread with what one read brought, and may not raise.

    A message at QoS 1 is acknowledged when it returns. ``on_message`` is never called, but for QoS 2.
    """

    on_messages: Callable[[list[Received]], None]

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.on_messages = lambda messages: None
        self._ahead = bytearray()  # read, and not yet a whole packet
        self._wanted = 2  # bytes without which it is no use to look at it again
        self._gathering = False

    def reconnect(self) -> MQTTErrorCode:
        """As paho's, forgetting the rest of a packet that the old connection broke off in."""
        self._ahead, self._wanted = bytearray(), 2
        return super().reconnect()

    def _packet_read(self) -> MQTTErrorCode:
        try:
            data = self._sock_recv(READ_BYTES)
        except BlockingIOError:
            return MQTTErrorCode.MQTT_ERR_AGAIN
        except (OSError, ValueError) as error:  # closed meanwhile by another thread is a ValueError of TLS
            log.debug("cannot read: %s", error)
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        if not data:
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        with self._msgtime_mutex:
            self._last_bytes_received = time.monotonic()
        if self._ahead:
            self._ahead += data
            if len(self._ahead) < self._wanted:
                return MQTTErrorCode.MQTT_ERR_AGAIN
            data = bytes(self._ahead)
            self._ahead = bytearray()
        return self._packets(data)

    def _packets(self, data: bytes) -> MQTTErrorCode:
        """Every whole packet in ``data``; the rest is kept."""
        messages: list[Received] = []
        acknowledged = bytearray()  # by us
        published: list[int] = []  # by us, as the broker acknowledges
        version_5 = self._protocol == paho.MQTTv5
        at, rc = 0, MQTTErrorCode.MQTT_ERR_SUCCESS
        try:
            while rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                body, end = _extent(data, at)
                if end > len(data):
                    self._ahead += data[at:]
                    self._wanted = end - at
                    break
                command = data[at]
                qos = command >> 1 & 3
                if command & 0xF0 == _PUBLISH and qos < 2:
                    start = body + 2 + (data[body] << 8 | data[body + 1])
                    if start > end:
                        raise ValueError("a topic longer than its packet")
                    topic = data[body + 2 : start].decode()
                    if qos:
                        acknowledged += b"\x40\x02"
                        acknowledged += data[start : start + 2]
                        start += 2
                    if version_5:
                        start, length = _length(data, start)
                        start += length
                    messages.append((topic, data[start:end], bool(command & 1)))
                elif command == _PUBACK and (end == body + 2 or data[body + 2] < 0x80):
                    published.append(data[body] << 8 | data[body + 1])
                else:  # in its turn: behind the answer to our unsubscribing, nothing more comes
                    self._hand_on(messages, acknowledged, published)
                    messages, acknowledged, published = [], bytearray(), []
                    rc = self._paho_packet(command, data[body:end])
                at = end
        except (IndexError, UnicodeDecodeError, ValueError) as error:
            log.error("malformed packet: %s", error)
            rc = MQTTErrorCode.MQTT_ERR_PROTOCOL
        self._hand_on(messages, acknowledged, published)
        return rc

    def _hand_on(self, messages: list[Received], acknowledged: bytearray, published: list[int]) -> None:
        if messages:
            self.on_messages(messages)
        if acknowledged:
            self._packet_queue(_PUBACK, acknowledged, 0, 0)
        if published:
            self._acknowledge(published)

    def _acknowledge(self, mids: list[int]) -> MQTTErrorCode:
        """The broker has these messages; as many others may leave. All in one pass, in the order of publishing."""
        with self._out_message_mutex:
            for mid in mids:
                message = self._out_messages.pop(mid, None)
                if message is not None:
                    message.info._set_as_published()
                    self._inflight_messages -= 1
            return self._update_inflight()

    def _update_inflight(self) -> MQTTErrorCode:
        # Those on their way were published first: what waits is right behind them.
        free = self._max_inflight_messages - self._inflight_messages
        first = max(self._inflight_messages, 0)
        for message in list(islice(self._out_messages.values(), first, first + max(free, 0))):
            if message.qos != 1 or message.state != MessageState.MQTT_MS_QUEUED:
                return super()._update_inflight()
            self._inflight_messages += 1
            message.state = MessageState.MQTT_MS_WAIT_FOR_PUBACK
            rc = self._send_publish(
                message.mid, message.topic.encode(), message.payload, 1, message.retain, message.dup, message.info
            )
            if rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return rc
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _paho_packet(self, command: int, body: bytes) -> MQTTErrorCode:
        empty = self._in_packet
        whole: Any = {**empty, "command": command, "remaining_length": len(body), "packet": bytearray(body)}
        self._in_packet = whole
        try:
            return self._packet_handle()
        finally:
            self._in_packet = empty

    # --- writing ----------------------------------------------------------------------------------

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """What is published inside leaves together at the end: the network thread is woken once."""
        self._gathering = True
        try:
            yield
        finally:
            self._gathering = False
            self._wake()

    def _packet_queue(self, command: int, packet: Any, mid: int, qos: int, info: Any = None) -> MQTTErrorCode:
        if self._thread is None:
            return super()._packet_queue(command, packet, mid, qos, info)
        made = {"command": command, "mid": mid, "qos": qos, "pos": 0, "to_process": len(packet), "packet": packet}
        self._out_packet.append({**made, "info": info})  # type: ignore[typeddict-item]
        if not self._gathering and threading.current_thread() is not self._thread:
            self._wake()
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _wake(self) -> None:
        if self._sockpairW is not None:
            with suppress(BlockingIOError):  # it is being woken already
                self._sockpairW.send(b"0")

    def _packet_write(self) -> MQTTErrorCode:
        waiting = self._out_packet
        while len(waiting) > 1:
            packets, size = [], 0
            while waiting and size < WRITE_BYTES and waiting[0]["command"] & 0xF0 != _DISCONNECT:
                packets.append(waiting.popleft())
                size += packets[-1]["to_process"]
            if not packets:
                break
            try:
                sent = self._sock_send(b"".join(packet["packet"][packet["pos"] :] for packet in packets))
            except (OSError, ValueError, AttributeError) as error:  # closed by another thread: one of the latter
                waiting.extendleft(reversed(packets))
                again = isinstance(error, BlockingIOError)
                return MQTTErrorCode.MQTT_ERR_AGAIN if again else MQTTErrorCode.MQTT_ERR_CONN_LOST
            with self._msgtime_mutex:
                self._last_msg_out = time.monotonic()
            for number, packet in enumerate(packets):
                if sent < packet["to_process"]:
                    packet["pos"] += sent
                    packet["to_process"] -= sent
                    waiting.extendleft(reversed(packets[number:]))
                    return MQTTErrorCode.MQTT_ERR_AGAIN
                sent -= packet["to_process"]
                if packet["qos"] == 0 and packet["info"] is not None:
                    packet["info"]._set_as_published()
        return super()._packet_write()


def _extent(data: bytes, at: int) -> tuple[int, int]:
    """Where the body of the packet at ``at`` begins, and where it ends; beyond ``data`` where that is not known yet."""
    try:
        body, length = _length(data, at + 1)
    except IndexError:
        return at, len(data) + 1
    return body, body + length


def _length(data: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer (MQTT 5, 1.5.5): where it ends, and what it is. Raises IndexError, ValueError."""
    value = data[at]
    if value < 128:
        return at + 1, value
    value, shift = value & 127, 7
    while shift < 28:
        at += 1
        byte = data[at]
        value |= (byte & 127) << shift
        if byte < 128:
            return at + 1, value
        shift += 7
    raise ValueError("a length of more than four bytes")
