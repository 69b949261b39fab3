"""paho's MQTT client, made fast enough for tens of thousands of messages per second.

paho makes at least three system calls for each packet it reads, waits for the socket between two packets, writes each
packet by itself, wakes its thread for each, and walks through all unacknowledged messages at every acknowledgement.
``FastClient`` reads and writes the socket in large pieces and hands over the messages of one read together. Connecting,
keep-alive, sending again after a reconnect and TLS remain paho's. Decisions (which address, when to drop a connection,
what an error means) belong to ``connection``; ``FastClient`` offers the hooks for them.

This module alone uses private names of paho; ``paho_private`` lists them.
"""

from __future__ import annotations

import logging
import math
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MessageState, MQTTErrorCode

from harstream.mqtt.packets import CONNACK, DISCONNECT, PUBACK, PUBLISH, decode_length, encode_publish, packet_extent

log = logging.getLogger("harstream.mqtt")

#: Size of one read: several hundred messages. More would delay the first of them.
READ_BYTES = 256 * 1024
#: Pause between two small reads, seconds. Every read wakes three threads, which costs more than its messages do.
#: The pause grows with the traffic from the minimum (at 4 MB/s) to the maximum (at 10 MB/s).
MIN_PAUSE_S, MAX_PAUSE_S = 0.004, 0.010
_PAUSE_S_PER_BYTE_S = 1e-9
#: Size of one write.
WRITE_BYTES = 64 * 1024
#: Message from the broker: topic, payload, and whether the broker sent it because it was retained.
InboundMessage = tuple[str, bytes, bool]


class _UnwatchedInfo:
    """Replacement of paho's MQTTMessageInfo, whose condition and lock cost more than the rest of a message."""

    mid = 0
    rc = MQTTErrorCode.MQTT_ERR_SUCCESS

    def _set_as_published(self) -> None:
        pass


_UNWATCHED: Any = _UnwatchedInfo()


class _OutboundMessage(paho.MQTTMessage):
    """Message at QoS 1 that waits to be sent or to be acknowledged."""

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
        self.info = _UNWATCHED
        self.properties = None


class FastClient(paho.Client):
    """MQTT client that receives and publishes messages in batches.

    Publish with ``publish_all`` only: ``_update_inflight`` needs the messages in flight to be the oldest ones.
    A received message at QoS 1 is acknowledged after ``on_messages`` has returned. ``on_message`` is called for
    messages at QoS 2 only.

    Attributes:
        on_messages: Called in the network thread with the messages of one read. It must not raise.
        on_socket_error: Called in the network thread with the error that ended a connection. It must not raise.

    """

    on_messages: Callable[[list[InboundMessage]], None]
    on_socket_error: Callable[[Exception], None]

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.on_messages = lambda messages: None
        self.on_socket_error = lambda error: None
        self._is_mqtt_5 = self.protocol == paho.MQTTv5
        self._no_properties = b"\0" if self._is_mqtt_5 else b""
        self._unparsed = bytearray()  # beginning of a packet whose end has not been read yet
        self._needed_bytes = 2  # size of ``_unparsed`` below which parsing cannot succeed
        self._next_read_s = 0.0  # time.monotonic() before which nothing is read
        self._last_read_s = 0.0
        self._drop_s = math.inf  # time.monotonic() at which the connection is dropped

    # --- hooks for the connection's decisions ---------------------------------------------------------

    def set_address(self, host: str, port: int) -> None:
        """Set the address of the next connection. Call it in ``on_pre_connect``."""
        self._host, self._port = host, port

    def set_tls_context(self, context: ssl.SSLContext) -> None:
        """Use ``context`` from the next connection on. paho's ``tls_set_context`` works only once."""
        self._ssl_context = context

    def limit_inflight(self, count: int) -> None:
        """Limit the messages sent and not yet acknowledged; unlike paho's setter, while connected too."""
        self._max_inflight_messages = count

    def drop_after(self, delay_s: float) -> None:
        """Drop this connection after a delay and reconnect as after a loss. Call it in the network thread."""
        self._drop_s = time.monotonic() + delay_s

    # --- connecting -----------------------------------------------------------------------------------

    def reconnect(self) -> MQTTErrorCode:
        """Connect again, without the beginning of a packet that the lost connection left behind.

        Raises:
            OSError: The broker cannot be reached.

        """
        self._unparsed, self._needed_bytes = bytearray(), 2
        self._drop_s = math.inf
        try:
            return super().reconnect()
        except OSError:  # first, because the error of an untrusted certificate is a ValueError too
            raise
        except ValueError as error:  # a malformed host name; paho's thread would end with anything but an OSError
            raise OSError(str(error)) from error

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        """Do the TLS handshake, and close the socket if it fails. The context verifies the host name."""
        assert self._ssl_context is not None
        sock = tcp_sock  # wrap_socket() detaches it: from then on the TLS socket has to be closed
        try:
            sock = self._ssl_context.wrap_socket(tcp_sock, server_hostname=self._host, do_handshake_on_connect=False)
            sock.settimeout(self._connect_timeout)
            sock.do_handshake()
        except BaseException:
            sock.close()
            raise
        return sock

    # --- reading --------------------------------------------------------------------------------------

    def _loop(self, timeout: float = 1.0) -> MQTTErrorCode:
        """Wait for the socket, then read and write. During the pause after a read only write, so that input gathers."""
        if time.monotonic() >= self._drop_s:
            self._drop_s = math.inf
            return self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
        while (pause_s := self._next_read_s - time.monotonic()) > 0 and self._sock is not None:
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
        return super()._loop(timeout)

    def _packet_read(self) -> MQTTErrorCode:
        """Read once and handle every whole packet."""
        try:
            data = self._sock_recv(READ_BYTES)
        except BlockingIOError:
            return MQTTErrorCode.MQTT_ERR_AGAIN
        except (OSError, ValueError) as error:  # ValueError: another thread closed a TLS socket
            self.on_socket_error(error)
            log.debug("cannot read from the broker: %s", error)
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        if not data:
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        now_s = time.monotonic()
        with self._msgtime_mutex:
            self._last_bytes_received = now_s
        if len(data) < READ_BYTES // 2:
            bytes_s = len(data) / max(now_s - self._last_read_s, MIN_PAUSE_S)
            self._next_read_s = now_s + min(max(_PAUSE_S_PER_BYTE_S * bytes_s, MIN_PAUSE_S), MAX_PAUSE_S)
        self._last_read_s = now_s
        if self._unparsed:
            self._unparsed += data
            if len(self._unparsed) < self._needed_bytes:
                return MQTTErrorCode.MQTT_ERR_AGAIN
            data = bytes(self._unparsed)
            self._unparsed = bytearray()
        return self._handle_packets(data)

    def _handle_packets(self, data: bytes) -> MQTTErrorCode:
        """Handle every whole packet in ``data`` and keep the rest."""
        messages: list[InboundMessage] = []
        acknowledgements = bytearray()  # PUBACK packets to be sent
        acknowledged: list[int] = []  # identifiers of our messages that the broker has acknowledged
        version_5 = self._is_mqtt_5
        at, rc = 0, MQTTErrorCode.MQTT_ERR_SUCCESS
        try:
            while rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                body, end = packet_extent(data, at)
                if end > len(data):
                    self._unparsed += data[at:]
                    self._needed_bytes = end - at
                    break
                command = data[at]
                qos = command >> 1 & 3
                if command & 0xF0 == PUBLISH and qos < 2:
                    start = body + 2 + (data[body] << 8 | data[body + 1])
                    if start > end:
                        raise ValueError("the topic is longer than its packet")
                    topic = data[body + 2 : start].decode()
                    if qos:
                        acknowledgements += b"\x40\x02"
                        acknowledgements += data[start : start + 2]
                        start += 2
                    if version_5:
                        start, length = decode_length(data, start)
                        start += length
                    messages.append((topic, data[start:end], bool(command & 1)))
                elif command == PUBACK and (end == body + 2 or data[body + 2] < 0x80):
                    acknowledged.append(data[body] << 8 | data[body + 1])
                else:  # in the order of arrival: no message may follow the answer to an UNSUBSCRIBE
                    self._deliver(messages, acknowledgements, acknowledged)
                    messages, acknowledgements, acknowledged = [], bytearray(), []
                    rc = self._handle_with_paho(command, data[body:end])
                at = end
        except (IndexError, UnicodeDecodeError, ValueError) as error:
            log.error("the broker sent a malformed MQTT packet: %s; dropping the connection", error)
            rc = MQTTErrorCode.MQTT_ERR_PROTOCOL
        self._deliver(messages, acknowledgements, acknowledged)
        return rc

    def _deliver(self, messages: list[InboundMessage], acknowledgements: bytearray, acknowledged: list[int]) -> None:
        if messages:
            self.on_messages(messages)
        if acknowledgements:
            self._packet_queue(PUBACK, acknowledgements, 0, 0)
        if acknowledged:
            self._remove_acknowledged(acknowledged)

    def _handle_with_paho(self, command: int, body: bytes) -> MQTTErrorCode:
        """Let paho handle one packet of any other type."""
        empty = self._in_packet
        packet: Any = {**empty, "command": command, "remaining_length": len(body), "packet": bytearray(body)}
        self._in_packet = packet
        try:
            rc = self._packet_handle()
        finally:
            self._in_packet = empty
        if command == CONNACK and rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
            with self._out_message_mutex:
                return self._update_inflight()
        return rc

    def _remove_acknowledged(self, mids: list[int]) -> MQTTErrorCode:
        """Forget messages that the broker has acknowledged, and send as many others in the order of publishing."""
        with self._out_message_mutex:
            for mid in mids:
                message = self._out_messages.get(mid)
                if message is not None and message.state == MessageState.MQTT_MS_WAIT_FOR_PUBACK:
                    del self._out_messages[mid]
                    self._inflight_messages -= 1
            return self._update_inflight()

    def _update_inflight(self) -> MQTTErrorCode:
        """Send waiting messages until the limit in flight is reached. They follow right behind those in flight."""
        if self._sock is None:
            return MQTTErrorCode.MQTT_ERR_NO_CONN
        properties, n_inflight = self._no_properties, self._inflight_messages
        for message in list(islice(self._out_messages.values(), n_inflight, self._max_inflight_messages)):
            self._inflight_messages += 1
            message.state = MessageState.MQTT_MS_WAIT_FOR_PUBACK
            header = bytes([PUBLISH | message.dup << 3 | 2 | message.retain])
            rest = message.mid.to_bytes(2, "big") + properties + message.payload
            self._append_packet(PUBLISH | 2, encode_publish(header, message._topic, rest), message.mid, 1)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _messages_reconnect_reset_out(self) -> None:
        """Let every message wait again, until the CONNACK of the new connection limits the messages in flight."""
        with self._out_message_mutex:
            self._inflight_messages = 0
            for message in self._out_messages.values():
                message.dup = message.dup or message.state == MessageState.MQTT_MS_WAIT_FOR_PUBACK
                message.state = MessageState.MQTT_MS_QUEUED

    # --- writing --------------------------------------------------------------------------------------

    def publish_all(self, messages: Sequence[tuple[str, bytes]], qos: int, retain: bool, max_outgoing: int) -> int:
        """Queue messages (topic, payload) at QoS 0 or 1. Return how many were accepted, always the first ones.

        At most ``max_outgoing`` messages are queued afterwards. Without a connection no message is accepted at QoS 0,
        while messages at QoS 1 wait for the next connection. The network thread is woken once, to send all together.
        """
        accepted = messages[: max(max_outgoing - self.outgoing, 0)]
        header, properties = bytes([PUBLISH | qos << 1 | retain]), self._no_properties
        if qos == 0:
            if self._sock is None:
                return 0
            for topic, payload in accepted:
                packet = encode_publish(header, topic.encode(), properties + payload)
                self._append_packet(PUBLISH, packet, 0, 0, _UNWATCHED)
        else:
            with self._out_message_mutex:
                waiting = self._out_messages
                for topic, payload in accepted:
                    mid = self._mid_generate()
                    while mid in waiting:
                        mid = self._mid_generate()
                    waiting[mid] = _OutboundMessage(mid, topic.encode(), payload, retain)
                self._update_inflight()
        self._wake_thread()
        return len(accepted)

    @property
    def outgoing(self) -> int:
        """Number of messages queued and not yet acknowledged (QoS 1) or sent (QoS 0)."""
        return len(self._out_messages) + len(self._out_packet)

    def _packet_queue(self, command: int, packet: Any, mid: int, qos: int, info: Any = None) -> MQTTErrorCode:
        """Queue a packet of paho's; wake the network thread unless the caller is the network thread."""
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

    def _wake_thread(self) -> None:
        if self._sockpairW is not None:
            with suppress(BlockingIOError):  # the pipe is full, so the thread is about to wake
                self._sockpairW.send(b"0")

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
            with self._msgtime_mutex:
                self._last_msg_out = time.monotonic()
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

    def _sock_send(self, data: Any) -> int:
        """Write to the socket. If the broker has closed it, read the TLS alert that the broker may have sent first."""
        try:
            return super()._sock_send(data)
        except BlockingIOError:
            raise
        except OSError:
            if isinstance(self._sock, ssl.SSLSocket):
                try:
                    self._sock.recv(1)
                except (OSError, ValueError) as error:
                    self.on_socket_error(error)
            raise
