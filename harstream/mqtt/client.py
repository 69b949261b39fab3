"""paho's MQTT client, made fast enough for tens of thousands of messages per second.

paho makes at least three system calls for each packet it reads, waits for the socket between two packets, writes each
packet by itself, wakes its thread for each, and walks through all unacknowledged messages at every acknowledgement.
``FastClient`` reads and writes the socket in large pieces and hands over the messages of one read together. Connecting,
sending again after a reconnect and TLS remain paho's. Decisions (which address, when to drop a connection,
what an error means) belong to ``connection``; ``FastClient`` offers the hooks for them.

This module, ``network`` and ``transport`` alone use private names of paho; ``paho_private`` lists them.
"""

from __future__ import annotations

import logging
import math
import select
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MessageState, MQTTErrorCode

from harstream.mqtt import deliveries
from harstream.mqtt.network import NetworkClient
from harstream.mqtt.outbound import UNWATCHED, Answer, OutboundMessage
from harstream.mqtt.packets import (
    CONNACK,
    DISCONNECT,
    PINGRESP,
    PUBACK,
    PUBLISH,
    Incomplete,
    decode_length,
    encode_publish,
    packet_extent,
)
from harstream.mqtt.pauses import ReadPauses

log = logging.getLogger("harstream.mqtt")

#: Size of one read: several hundred messages. More would delay the first of them.
READ_BYTES = 256 * 1024
#: Size of one write.
WRITE_BYTES = 64 * 1024
#: Message from the broker: topic, payload, whether the broker sent it because it was retained, and the number of its
#: delivery if it waits to be acknowledged, else 0 (see ``deliveries``).
InboundMessage = tuple[str, bytes, bool, int]


class FastClient(NetworkClient):
    """MQTT client that receives and publishes messages in batches.

    Publish with ``publish_all`` only: ``_update_inflight`` needs the messages in flight to be the oldest ones.
    A received message at QoS 1 is acknowledged after ``on_messages`` has returned, or with ``manual_ack`` by
    ``acknowledge``. ``on_message`` is called for messages at QoS 2 only.

    Attributes:
        on_messages: Called with the messages of one read.
        on_answers: Called with the broker's answers to messages at QoS 1: with the refusals, and if
            ``report_accepted`` is set, with the others too.
        on_settled: Called when the broker has answered messages at QoS 1, after they are counted in ``answered``.
        report_accepted: See ``on_answers``.
        manual_ack: Let messages at QoS 1 wait for ``acknowledge``. Do not change it on a connection.

    These functions are called in the network thread. What they raise ends the connection.

    """

    on_messages: Callable[[list[InboundMessage]], None]
    on_answers: Callable[[list[Answer]], None]
    on_settled: Callable[[], None]

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.on_messages = lambda messages: None
        self.on_answers = lambda answers: None
        self.on_settled = lambda: None
        self.report_accepted = False
        self.manual_ack = False
        self.published = 0  # messages at QoS 1 that were queued since the start
        self._connection = 0  # number of the connection, for the numbers of deliveries
        self._connection_lock = threading.Lock()  # so that no PUBACK of a lost connection gets into the next one
        self._n_held = self._n_acknowledged = 0  # on this connection: messages to ``acknowledge``, and those that were
        self._is_mqtt_5 = self.protocol == paho.MQTTv5
        self._no_properties = b"\0" if self._is_mqtt_5 else b""
        self._incomplete = Incomplete(self._is_mqtt_5)
        self._pauses = ReadPauses()
        self._n_received = 0  # messages
        self._last_sent: tuple[bytes, float] = b"", -math.inf  # topic and time of the last message on this connection

    # --- hooks for the connection's decisions ---------------------------------------------------------

    def limit_inflight(self, count: int) -> None:
        """Limit the messages sent and not yet acknowledged; unlike paho's setter, while connected too."""
        self._max_inflight_messages = count

    def limit_payload(self, max_bytes: int) -> None:
        """Keep no payload that is much longer than this; zeros replace it, one byte too many."""
        self._incomplete.max_payload_bytes = max_bytes

    def last_publish(self, max_age_s: float) -> str:
        """Return the topic that the broker may have closed the connection for; "" if there is none.

        It is that of the oldest message sent and not acknowledged, else that of the last message sent if that is no
        longer ago than ``max_age_s``. Call it in ``on_disconnect``.
        """
        with self._out_message_mutex:
            oldest = next(iter(self._out_messages.values()), None)
        if oldest is not None and oldest.state == MessageState.MQTT_MS_WAIT_FOR_PUBACK:
            return oldest._topic.decode()
        topic, sent_s = self._last_sent
        return topic.decode() if time.monotonic() - sent_s <= max_age_s else ""

    def take_oldest(self) -> tuple[str, bytes] | None:
        """Give up the oldest message that was sent and not acknowledged. Return topic and payload; None without one.

        Call it in ``on_disconnect``.
        """
        with self._out_message_mutex:
            mid, message = next(iter(self._out_messages.items()), (0, None))
            if message is None or message.state != MessageState.MQTT_MS_WAIT_FOR_PUBACK:
                return None
            del self._out_messages[mid]
            self._inflight_messages -= 1
            return message._topic.decode(), bytes(message.payload)

    def count_waiting(self, topic: str) -> int:
        """Return the number of messages on a topic that the broker has not answered."""
        name = topic.encode()
        with self._out_message_mutex:
            return sum(message._topic == name for message in self._out_messages.values())

    def reconnect(self) -> MQTTErrorCode:
        """Connect again, without the beginning of a packet that the lost connection left behind.

        Raises:
            OSError: The broker cannot be reached.

        """
        self._incomplete.clear()
        self._last_sent = b"", -math.inf
        with self._connection_lock:
            self._connection += 1  # what came before is sent again, with the same packet identifiers
        self._n_held = self._n_acknowledged = 0
        return super().reconnect()

    # --- reading --------------------------------------------------------------------------------------

    def _loop(self, timeout: float = 1.0) -> MQTTErrorCode:
        """Wait for the socket, then read and write. During the pause after a read only write, so that input gathers."""
        while (pause_s := self._pauses.until_s - time.monotonic()) > 0 and self._sock is not None:
            waiting: list[Any] = [self._sock] if self.want_write() else []
            waking: list[Any] = [self._sockpairR]
            try:
                woken, writable, _ = select.select(waking, waiting, [], pause_s)
            except (TypeError, ValueError, OSError):  # another thread closed the socket; paho's _loop will notice it
                break
            if woken and self._sockpairR is not None:
                with suppress(BlockingIOError):
                    self._sockpairR.recv(10_000)
            if woken or writable:
                rc = self.loop_write()
                if rc or self._sock is None:
                    return rc
        rc = super()._loop(timeout)
        if rc == MQTTErrorCode.MQTT_ERR_SUCCESS and self.want_write() and self._sock is not None:
            return self.loop_write()  # what was read is acknowledged without another wait for the socket
        return rc

    def _packet_read(self) -> MQTTErrorCode:
        """Read once and handle every whole packet."""
        try:
            data = self._sock_recv(READ_BYTES)
        except BlockingIOError:
            return MQTTErrorCode.MQTT_ERR_AGAIN
        except (OSError, ValueError) as error:  # ValueError: another thread closed a TLS socket
            self.on_socket_error(error)
            self.end_reason = self.end_reason or str(error)
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        if not data:
            self.closed_by_broker = True
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        self._last_read_s = time.monotonic()
        whole = self._incomplete.add(data) if self._incomplete else data
        n_before = self._n_received
        rc = MQTTErrorCode.MQTT_ERR_AGAIN if whole is None else self._handle_packets(whole)
        more = len(data) >= READ_BYTES // 2 or self._decrypted()
        self._pauses.note_read(self._last_read_s, len(data), self._n_received - n_before, more=more)
        return rc

    def _handle_packets(self, data: bytes) -> MQTTErrorCode:
        """Handle every whole packet in ``data`` and keep the rest."""
        messages: list[InboundMessage] = []
        acknowledgements = bytearray()  # PUBACK packets to be sent
        acknowledged: list[int] = []  # identifiers of our messages that the broker has acknowledged
        refused: list[tuple[int, int]] = []  # identifiers and reason codes of those that it refuses
        version_5, manual_ack, connection = self._is_mqtt_5, self.manual_ack, self._connection
        at, rc = 0, MQTTErrorCode.MQTT_ERR_SUCCESS
        try:
            while rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                body, end = packet_extent(data, at)
                if end > len(data):
                    if at < len(data):
                        self._incomplete.begin(data[at:], end - at)
                    break
                command = data[at]
                qos = command >> 1 & 3
                if command & 0xF0 == PUBLISH and qos < 2:
                    start = body + 2 + (data[body] << 8 | data[body + 1])
                    topic = data[body + 2 : start].decode()
                    delivery, identifier = 0, b""
                    if qos:
                        identifier = data[start : start + 2]
                        start += 2
                    if version_5:
                        start, length = decode_length(data, start)
                        start += length
                    if start > end:
                        raise ValueError("a part of it is longer than the packet")
                    if qos and manual_ack:
                        mid = int.from_bytes(identifier, "big")
                        delivery = deliveries.number(mid, repeated=bool(command & 8), connection=connection)
                        self._n_held += 1
                    elif qos:
                        acknowledgements += b"\x40\x02"
                        acknowledgements += identifier
                    messages.append((topic, data[start:end], bool(command & 1), delivery))
                elif command == PUBACK and end == body + 2:
                    acknowledged.append(data[body] << 8 | data[body + 1])
                elif command == PUBACK:
                    if end < body + 2:
                        raise ValueError("it has no identifier")
                    mid, code = data[body] << 8 | data[body + 1], data[body + 2]
                    if code < 0x80:
                        acknowledged.append(mid)
                    else:
                        refused.append((mid, code))
                else:  # in the order of arrival: no message may follow the answer to an UNSUBSCRIBE
                    before = messages, acknowledgements, acknowledged, refused
                    messages, acknowledgements, acknowledged, refused = [], bytearray(), [], []
                    self._deliver(*before)
                    rc = self._handle_with_paho(command, data[body:end])
                    if rc != MQTTErrorCode.MQTT_ERR_SUCCESS and command != CONNACK:  # which may refuse us
                        raise ValueError("it is not expected here")
                    if self._sock is None:  # it was a DISCONNECT
                        return rc
                at = end
        except Exception as error:  # paho raises errors of many types
            self.note_error(error, f"cannot handle the packet {data[at : at + 8].hex(' ')} of the broker: ")
            rc = MQTTErrorCode.MQTT_ERR_PROTOCOL
        self._deliver(messages, acknowledgements, acknowledged, refused)
        return rc

    def _deliver(
        self,
        messages: list[InboundMessage],
        acknowledgements: bytearray,
        acknowledged: list[int],
        refused: list[tuple[int, int]],
    ) -> None:
        if messages:
            self._n_received += len(messages)
            self.on_messages(messages)
        if acknowledgements:
            self._packet_queue(PUBACK, acknowledgements, 0, 0)
        if refused or (acknowledged and self.report_accepted):
            accepted = [(mid, 0) for mid in acknowledged] if self.report_accepted else []
            self.on_answers(self._answers([*accepted, *refused]))
            acknowledged += [mid for mid, _ in refused]
        if acknowledged:
            self._remove_acknowledged(acknowledged)
            self.on_settled()

    def _handle_with_paho(self, command: int, body: bytes) -> MQTTErrorCode:
        """Let paho handle one packet of any other type."""
        empty = self._in_packet
        packet: Any = {**empty, "command": command, "remaining_length": len(body), "packet": bytearray(body)}
        self._in_packet = packet
        try:
            rc = self._packet_handle()
        finally:
            self._in_packet = empty
        if command == PINGRESP:
            self._take_pong()
        if command == CONNACK and rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
            with self._out_message_mutex:
                return self._update_inflight()
        return rc

    def _answers(self, codes: Sequence[tuple[int, int]]) -> list[Answer]:
        """Return the answers to the messages with the given identifiers, those that wait for one."""
        with self._out_message_mutex:
            waiting = [(self._out_messages.get(mid), code) for mid, code in codes]
            return [
                Answer(message._topic.decode(), bytes(message.payload), code)
                for message, code in waiting
                if message is not None and message.state == MessageState.MQTT_MS_WAIT_FOR_PUBACK
            ]

    def _remove_acknowledged(self, mids: list[int]) -> MQTTErrorCode:
        """Forget messages that the broker has answered, and send as many others in the order of publishing."""
        with self._out_message_mutex:
            for mid in mids:
                message = self._out_messages.get(mid)
                if message is not None and message.state == MessageState.MQTT_MS_WAIT_FOR_PUBACK:
                    del self._out_messages[mid]
                    self._inflight_messages -= 1
            return self._update_inflight()

    def _update_inflight(self) -> MQTTErrorCode:
        """Send waiting messages until the limit in flight is reached. They follow right behind those in flight."""
        if not self.is_connected():  # also between CONNECT and CONNACK, after which this is called again
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        properties, n_inflight = self._no_properties, self._inflight_messages
        message = None
        for message in list(islice(self._out_messages.values(), n_inflight, self._max_inflight_messages)):
            self._inflight_messages += 1
            message.state = MessageState.MQTT_MS_WAIT_FOR_PUBACK
            header = bytes([PUBLISH | message.dup << 3 | 2 | message.retain])
            rest = message.mid.to_bytes(2, "big") + properties + message.payload
            self._append_packet(PUBLISH | 2, encode_publish(header, message._topic, rest), message.mid, 1)
        if message is not None:
            self._last_sent = message._topic, time.monotonic()
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _messages_reconnect_reset_out(self) -> None:
        """Let every message wait again, until the CONNACK of the new connection limits the messages in flight."""
        with self._out_message_mutex:
            self._inflight_messages = 0
            for message in self._out_messages.values():
                message.dup = message.dup or message.state == MessageState.MQTT_MS_WAIT_FOR_PUBACK
                message.state = MessageState.MQTT_MS_QUEUED

    def acknowledge(self, numbers: Sequence[int]) -> None:
        """Acknowledge messages by the numbers of their deliveries. Those of a lost connection are sent again anyway."""
        with self._connection_lock:
            connection = self._connection
            mids = [number & deliveries.MID for number in numbers if deliveries.connection_of(number) == connection]
            if mids and self.is_connected():
                self._n_acknowledged += len(mids)
                packets = b"".join(b"\x40\x02" + mid.to_bytes(2, "big") for mid in mids)
                self._packet_queue(PUBACK, bytearray(packets), 0, 0)

    @property
    def holds_messages(self) -> bool:
        """True while messages of this connection wait for ``acknowledge``; the broker may wait for that too."""
        return self._n_acknowledged < self._n_held

    # --- writing --------------------------------------------------------------------------------------

    def publish_all(self, messages: Sequence[tuple[str, bytes]], qos: int, retain: bool, max_outgoing: int) -> int:
        """Queue messages (topic, payload) at QoS 0 or 1. Return how many were accepted, always the first ones.

        At most ``max_outgoing`` messages are queued afterwards. Without a connection no message is accepted at QoS 0,
        while messages at QoS 1 wait for the next connection. The network thread is woken once, to send all together.
        """
        accepted = messages[: max(max_outgoing - self.outgoing, 0)]
        header, properties = bytes([PUBLISH | qos << 1 | retain]), self._no_properties
        if qos == 0:
            if not self.is_connected():
                return 0
            for topic, payload in accepted:
                packet = encode_publish(header, topic.encode(), properties + payload)
                self._append_packet(PUBLISH, packet, 0, 0, UNWATCHED)
            if accepted:
                self._last_sent = accepted[-1][0].encode(), time.monotonic()
        else:
            with self._out_message_mutex:
                waiting = self._out_messages
                for topic, payload in accepted:
                    mid = self._mid_generate()
                    while mid in waiting:
                        mid = self._mid_generate()
                    self.published += 1
                    waiting[mid] = OutboundMessage(mid, topic.encode(), payload, retain, self.published)
                self._update_inflight()
        self._wake_thread()
        return len(accepted)

    @property
    def answered(self) -> int:
        """Number of the ``published`` messages up to which the broker has answered all."""
        with self._out_message_mutex:
            oldest = next(iter(self._out_messages.values()), None)
            return oldest.number - 1 if isinstance(oldest, OutboundMessage) else self.published

    @property
    def outgoing(self) -> int:
        """Number of messages queued and not yet acknowledged (QoS 1) or sent (QoS 0)."""
        return len(self._out_messages) + len(self._out_packet)

    def _packet_queue(self, command: int, packet: Any, mid: int, qos: int, info: Any = None) -> MQTTErrorCode:
        """Queue a packet of paho's; wake the network thread unless the caller is the network thread."""
        packet = self._complete(command, packet)
        if self._thread is None:
            return super()._packet_queue(command, packet, mid, qos, info)
        self._append_packet(command, packet, mid, qos, info)
        if threading.current_thread() is not self._thread:
            self._wake_thread()
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _append_packet(self, command: int, packet: Any, mid: int, qos: int, info: Any = None) -> None:
        entry: Any = {
            "command": command,
            "mid": mid,
            "qos": qos,
            "pos": 0,
            "to_process": len(packet),
            "packet": packet,
            "info": info,
        }
        self._out_packet.append(entry)

    def _packet_write(self) -> MQTTErrorCode:
        """Write the queued packets in large pieces; paho writes a last single one and a DISCONNECT."""
        queue = self._out_packet
        while len(queue) > 1:
            packets, size = [], 0
            while queue and size < WRITE_BYTES and queue[0]["command"] & 0xF0 != DISCONNECT:
                packets.append(queue.popleft())
                size += packets[-1]["to_process"]
            if not packets:
                break
            try:
                sent = self._sock_send(b"".join(packet["packet"][packet["pos"] :] for packet in packets))
            except (OSError, ValueError, AttributeError) as error:  # the last two: another thread closed the socket
                queue.extendleft(reversed(packets))
                again = isinstance(error, BlockingIOError)
                return MQTTErrorCode.MQTT_ERR_AGAIN if again else MQTTErrorCode.MQTT_ERR_CONN_LOST
            for number, packet in enumerate(packets):
                if sent < packet["to_process"]:
                    packet["pos"] += sent
                    packet["to_process"] -= sent
                    queue.extendleft(reversed(packets[number:]))
                    return MQTTErrorCode.MQTT_ERR_AGAIN
                sent -= packet["to_process"]
                if packet["qos"] == 0 and packet["info"] is not None:
                    packet["info"]._set_as_published()
        return super()._packet_write()
