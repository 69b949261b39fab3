"""paho's client for tens of thousands of messages a second.

paho reads a packet in at least three calls to the system and waits for the socket between any two, writes each packet
by itself, wakes its thread for each, and at every acknowledgement goes through all messages on their way. Here the
socket is read and written in large pieces, and what one piece brought is handed on together. Connecting, keeping alive,
sending again after a reconnect, TLS: everything else stays paho's. That takes overriding private methods;
tests/test_client.py tells when a release of paho has changed what they rely on.
"""

from __future__ import annotations

import logging
import math
import select
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MessageState, MQTTErrorCode

log = logging.getLogger("harstream.mqtt")

#: Read at once: some hundred messages. More only delays the first of them.
READ_BYTES = 256 * 1024
#: Between two small reads: every one of them wakes three threads, which costs more than what it brings. The more
#: comes, the more is there to gain by working on it together: at 4 MB/s the least, at 10 MB/s the most.
GATHER_S, MOST_GATHER_S = 0.004, 0.010
_GATHER_S_PER_BYTE_S = 1e-9
#: Written at once.
WRITE_BYTES = 64 * 1024
_CONNACK, _PUBLISH, _PUBACK, _DISCONNECT = 0x20, 0x30, 0x40, 0xE0
#: (topic, payload, retained) of a message.
Received = tuple[str, bytes, bool]


class _NobodyWaits:
    """In place of paho's MQTTMessageInfo, whose condition and lock cost more than all the rest of a message."""

    mid = 0
    rc = MQTTErrorCode.MQTT_ERR_SUCCESS

    def _set_as_published(self) -> None:
        pass


_NOBODY_WAITS: Any = _NobodyWaits()


class _Outgoing(paho.MQTTMessage):
    """A message at QoS 1 on its way, or waiting to leave."""

    __slots__ = ()
    _topic: bytes

    def __init__(self, mid: int, topic: bytes, payload: bytes, retain: bool) -> None:
        self.timestamp = 0.0
        self.state = MessageState.MQTT_MS_QUEUED
        self.dup = False
        self.mid = mid
        self._topic = topic
        self.payload = payload
        self.qos = 1
        self.retain = retain
        self.info = _NOBODY_WAITS
        self.properties = None


class Client(paho.Client):
    """Publishing is ``publish_all``'s, at QoS 0 or 1: messages on their way are always the oldest that wait.

    ``addresses``, where there are any, are connected to in turn.

    ``on_messages`` is called in the network thread with what one read brought, and may not raise.

    A message at QoS 1 is acknowledged when it returns. ``on_message`` is never called, but for QoS 2.
    """

    on_messages: Callable[[list[Received]], None]

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.on_messages = lambda messages: None
        self._ahead = bytearray()  # read, and not yet a whole packet
        self._wanted = 2  # bytes without which it is no use to look at it again
        self._read_at_s = 0.0  # not before
        self._last_read_s = 0.0
        self.addresses: list[tuple[str, int]] = []
        self.address = 0  # in use, of these
        self._tries = 0
        self._hangs_up_at_s = math.inf
        self.tls_alert = ""  # what the broker said of our certificate

    def reconnect(self) -> MQTTErrorCode:
        """As paho's, to the next address, forgetting the rest of a packet that the old connection broke off in."""
        self._ahead, self._wanted = bytearray(), 2
        if self.addresses:
            self.address = self._tries % len(self.addresses)
            self._tries += 1
            self._host, self._port = self.addresses[self.address]
        self._hangs_up_at_s = math.inf
        try:
            return super().reconnect()
        except OSError:  # that of a certificate is a ValueError too
            raise
        except ValueError as error:  # a name that cannot be one: paho expects only an OSError, and would end its thread
            raise OSError(str(error)) from error

    def hang_up(self, after_s: float) -> None:
        """In the network thread: give this connection up then, and connect again as after a loss."""
        self._hangs_up_at_s = time.monotonic() + after_s

    def use(self, context: ssl.SSLContext) -> None:
        """For the next connection; paho's own way takes one only once."""
        self._ssl_context = context

    def _loop(self, timeout: float = 1.0) -> MQTTErrorCode:
        """As paho's; but shortly after a read only what we publish moves, and what comes meanwhile is read together."""
        if time.monotonic() >= self._hangs_up_at_s:
            self._hangs_up_at_s = math.inf
            return self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
        while (left := self._read_at_s - time.monotonic()) > 0 and self._sock is not None:
            waiting: list[Any] = [self._sock] if self.want_write() else []
            waking: list[Any] = [self._sockpairR]
            try:
                woken, writable, _ = select.select(waking, waiting, [], left)
            except (TypeError, ValueError, OSError):  # closed by another thread: paho's own way of finding out
                break
            if woken and self._sockpairR is not None:
                with suppress(BlockingIOError):
                    self._sockpairR.recv(10_000)
            if woken or writable:
                rc = self.loop_write()
                if rc or self._sock is None:
                    return rc
        return super()._loop(timeout)

    def _packet_read(self) -> MQTTErrorCode:
        try:
            data = self._sock_recv(READ_BYTES)
        except BlockingIOError:
            return MQTTErrorCode.MQTT_ERR_AGAIN
        except (OSError, ValueError) as error:  # closed meanwhile by another thread is a ValueError of TLS
            self._note_alert(error)
            log.debug("cannot read: %s", error)
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        if not data:
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        now_s = time.monotonic()
        with self._msgtime_mutex:
            self._last_bytes_received = now_s
        if len(data) < READ_BYTES // 2:
            bytes_s = len(data) / max(now_s - self._last_read_s, GATHER_S)
            self._read_at_s = now_s + min(max(_GATHER_S_PER_BYTE_S * bytes_s, GATHER_S), MOST_GATHER_S)
        self._last_read_s = now_s
        if self._ahead:
            self._ahead += data
            if len(self._ahead) < self._wanted:
                return MQTTErrorCode.MQTT_ERR_AGAIN
            data = bytes(self._ahead)
            self._ahead = bytearray()
        return self._packets(data)

    def _sock_send(self, data: Any) -> int:
        """As paho's; where the broker has closed already, what it said before is still to be heard."""
        try:
            return super()._sock_send(data)
        except BlockingIOError:
            raise
        except OSError:
            if isinstance(self._sock, ssl.SSLSocket):
                try:
                    self._sock.recv(1)
                except (OSError, ValueError) as error:
                    self._note_alert(error)
            raise

    def _note_alert(self, error: Exception) -> None:
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            self.tls_alert = str(error.reason).partition("ALERT_")[2].replace("_", " ").lower()

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
                message = self._out_messages.get(mid)
                if message is not None and message.state == MessageState.MQTT_MS_WAIT_FOR_PUBACK:
                    del self._out_messages[mid]
                    self._inflight_messages -= 1
            return self._update_inflight()

    def _update_inflight(self) -> MQTTErrorCode:
        """Send as many as the broker takes of those that wait, which is right behind those on their way."""
        if self._sock is None:
            return MQTTErrorCode.MQTT_ERR_NO_CONN
        properties, n_inflight = self._no_properties, self._inflight_messages
        for message in list(islice(self._out_messages.values(), n_inflight, self._max_inflight_messages)):
            self._inflight_messages += 1
            message.state = MessageState.MQTT_MS_WAIT_FOR_PUBACK
            header = bytes([_PUBLISH | message.dup << 3 | 2 | message.retain])
            body = message.mid.to_bytes(2, "big") + properties + message.payload
            self._queue(_PUBLISH | 2, _publish_packet(header, message._topic, body), message.mid, 1)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _messages_reconnect_reset_out(self) -> None:
        """All wait again: what the new connection takes at once is known when the broker has answered."""
        with self._out_message_mutex:
            self._inflight_messages = 0
            for message in self._out_messages.values():
                message.dup = message.dup or message.state == MessageState.MQTT_MS_WAIT_FOR_PUBACK
                message.state = MessageState.MQTT_MS_QUEUED

    def _paho_packet(self, command: int, body: bytes) -> MQTTErrorCode:
        empty = self._in_packet
        whole: Any = {**empty, "command": command, "remaining_length": len(body), "packet": bytearray(body)}
        self._in_packet = whole
        try:
            rc = self._packet_handle()
        finally:
            self._in_packet = empty
        if command == _CONNACK and rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
            with self._out_message_mutex:
                return self._update_inflight()
        return rc

    # --- writing ----------------------------------------------------------------------------------

    def publish_all(self, messages: Sequence[tuple[str, bytes]], qos: int, retain: bool, most: int) -> int:
        """Hand over (topic, payload) of several messages at QoS 0 or 1; how many were taken: the first ones.

        No more than ``most`` wait for the broker afterwards. At QoS 0 none is taken without a connection; at
        QoS 1 they leave when it is there again. They are sent together: the network thread is woken once.
        """
        taken = messages[: max(most - self.outgoing, 0)]
        header, properties = bytes([_PUBLISH | qos << 1 | retain]), self._no_properties
        if qos == 0:
            if self._sock is None:
                return 0
            for topic, payload in taken:
                packet = _publish_packet(header, topic.encode(), properties + payload)
                self._queue(_PUBLISH, packet, 0, 0, _NOBODY_WAITS)
        else:
            with self._out_message_mutex:
                waiting = self._out_messages
                for topic, payload in taken:
                    mid = self._mid_generate()
                    while mid in waiting:
                        mid = self._mid_generate()
                    waiting[mid] = _Outgoing(mid, topic.encode(), payload, retain)
                self._update_inflight()
        self._wake()
        return len(taken)

    @property
    def _no_properties(self) -> bytes:
        return b"\0" if self._protocol == paho.MQTTv5 else b""

    @property
    def outgoing(self) -> int:
        """Messages handed over and not yet acknowledged (QoS 1) or sent (QoS 0)."""
        return len(self._out_messages) + len(self._out_packet)

    def _packet_queue(self, command: int, packet: Any, mid: int, qos: int, info: Any = None) -> MQTTErrorCode:
        if self._thread is None:
            return super()._packet_queue(command, packet, mid, qos, info)
        self._queue(command, packet, mid, qos, info)
        if threading.current_thread() is not self._thread:
            self._wake()
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _queue(self, command: int, packet: Any, mid: int, qos: int, info: Any = None) -> None:
        made: Any = {
            "command": command,
            "mid": mid,
            "qos": qos,
            "pos": 0,
            "to_process": len(packet),
            "packet": packet,
            "info": info,
        }
        self._out_packet.append(made)

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


def _publish_packet(header: bytes, topic: bytes, body: bytes) -> bytes:
    """``body`` is what follows the topic."""
    size = 2 + len(topic) + len(body)
    length = bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    length.append(size)
    return b"".join((header, length, len(topic).to_bytes(2, "big"), topic, body))


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
