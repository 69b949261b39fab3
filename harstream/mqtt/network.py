"""paho's client with a network thread of its own, which nothing ends but a stop, and which notices a dead link.

paho's thread ends for good if anything but an OSError is raised in it, waits at least a second before it reconnects,
and takes up to twice the keep-alive to notice a link over which nothing comes any more.
"""

from __future__ import annotations

import logging
import math
import select
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.enums import _ConnectionState as ConnectionState

from harstream.mqtt.transport import Transport

log = logging.getLogger("harstream.mqtt")

#: Time between two pings, seconds.
PING_EVERY_S = 5.0
#: Longest time without a byte from the broker while a ping waits for its answer, seconds. With the one above it is the
#: time in which a dead link is noticed, and must stay below 15 s.
SILENCE_S = 8.0
#: Longest time to the answer of a ping while other data arrive, seconds: it waits behind them.
PONG_S = 30.0
#: Longest time from a stop to the end of the thread, seconds, if the broker does not take the DISCONNECT.
_STOP_S = 2.0
#: Reads after a broker has closed a connection. What it sent before is in the buffer of the system.
_MAX_LAST_READS = 64
#: Longest wait for the socket, seconds.
_WAIT_S = 1.0


class NetworkClient(Transport):
    """MQTT client whose network thread reconnects as often as it is told to, whatever is raised in it.

    ``on_disconnect`` is called once at the end of each connection.

    Attributes:
        next_pause: Called when a connection has ended or could not be made. Returns the seconds to wait before the
            next attempt; None ends the thread.
        on_attempt_failed: Called with the error for which a connection could not be made again.
        on_death: Called with the error that ends the thread: one that was raised outside of a connection.
        handshake_s: Time in which a connection that is made again must be taken by ``hold``, seconds.
        end_reason: Reason why the present or last connection ended, as far as we know it; "" if the broker closed it.
        closed_by_broker: True if the broker closed that connection without an error.
        dropped: True if we ended it.

    These functions are called in the network thread.

    """

    next_pause: Callable[[], float | None]
    on_attempt_failed: Callable[[Exception], None]
    on_death: Callable[[BaseException], None]

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.next_pause = lambda: None
        self.on_attempt_failed = lambda error: None
        self.on_death = lambda error: None
        self.handshake_s = math.inf
        self.end_reason = ""
        self.closed_by_broker = False
        self.dropped = self._reported = False
        self._timers: dict[str, tuple[float, Callable[[], None]]] = {}  # by name: time.monotonic() and the function
        self._next_timer_s = math.inf
        self._last_read_s = 0.0  # time.monotonic() of the last bytes from the broker
        self._pings: list[tuple[float, Callable[[], None]]] = []  # unanswered ones: time and what to call
        self._stop_by_s = math.inf

    # --- hooks for the connection's decisions, to be called in the network thread -----------------------

    def call_after(self, name: str, delay_s: float, function: Callable[[], None]) -> None:
        """Call a function after a delay if this connection lasts, in place of the one asked for under this name."""
        self._timers[name] = time.monotonic() + delay_s, function
        self._next_timer_s = min(due_s for due_s, _ in self._timers.values())

    def drop(self, reason: str, *, politely: bool = False) -> None:
        """Drop this connection as soon as the caller has returned, and reconnect as after a loss.

        Args:
            reason: Becomes ``end_reason``.
            politely: Whether to send a DISCONNECT first, so that the broker does not publish the will.

        """
        self.end_reason, self.dropped = reason, True
        if politely and not any(packet["pos"] for packet in self._out_packet):  # else it would follow half a packet
            with suppress(OSError, ValueError, AttributeError):
                self._sock_send(b"\xe0\x00")

    def ping(self, then: Callable[[], None] = lambda: None) -> None:
        """Ask the broker for a sign of life, and call a function when it is there."""
        self._pings.append((time.monotonic(), then))
        self._send_pingreq()
        self.call_after("pong", SILENCE_S, self._check_silence)

    def begin_pings(self) -> None:
        """Ping the broker from now on, after its CONNACK."""
        keepalive_s = self._keepalive or math.inf  # the broker may have asked for another one
        self.call_after("ping", min(PING_EVERY_S, keepalive_s / 2), self._ping_again)

    def hold(self) -> None:
        """Let the connection last from now on, because it is complete."""
        self._timers.pop("handshake", None)

    # --- the thread -----------------------------------------------------------------------------------

    def _thread_main(self) -> None:
        try:
            while True:
                self._serve()
                pause_s = None if self._leaving else self.next_pause()
                if pause_s is None or not self._pause(pause_s):
                    break
                self._connect_again()
        except BaseException as error:
            log.debug("the network thread ends", exc_info=True)
            self._sock_close()
            self.on_death(error)
        finally:
            self._sock_close()
            self._thread = None

    @property
    def _leaving(self) -> bool:
        return bool(self._thread_terminate) or self._state in (
            ConnectionState.MQTT_CS_DISCONNECTING,
            ConnectionState.MQTT_CS_DISCONNECTED,
        )

    def _serve(self) -> None:
        """Read and write until the connection has ended, whatever ends it, and report the end."""
        try:
            self._exchange()
        except Exception as error:
            self.note_error(error)
        try:
            if not self._reported:
                self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
        except Exception as error:
            self.note_error(error)
            log.error("the end of a connection cannot be handled: %s", self.end_reason)

    def _exchange(self) -> None:
        while self._sock is not None and not self.dropped and time.monotonic() < self._stop_by_s:
            rc = self._loop(min(max(self._next_timer_s - time.monotonic(), 0.0), _WAIT_S))
            if rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break
            # After reading: a process that was stopped for a while first sees what has arrived meanwhile.
            if time.monotonic() >= self._next_timer_s:
                self._run_timers()

    def note_error(self, error: Exception, what: str = "") -> None:
        """Keep an error that nobody expected as the reason why the connection ends. The log has more at level debug."""
        frame = traceback.extract_tb(error.__traceback__)[-1:]
        where = f" at {Path(frame[0].filename).name}:{frame[0].lineno}" if frame else ""
        self.dropped = True
        said = ": ".join(filter(None, [type(error).__name__, str(error).replace("\n", " ")]))
        self.end_reason = f"{what}{said}{where}"
        log.debug("the connection ends because of an error", exc_info=error)

    def _pause(self, seconds: float) -> bool:
        """Wait; return False if the client is stopped meanwhile."""
        until_s, waking = time.monotonic() + seconds, self._sockpairR
        assert waking is not None
        while not self._leaving and (left_s := until_s - time.monotonic()) > 0:
            if select.select([waking], [], [], min(left_s, _WAIT_S))[0]:
                with suppress(BlockingIOError):
                    waking.recv(10_000)
        return not self._leaving

    def _connect_again(self) -> None:
        try:
            self.reconnect()
            self.call_after("handshake", self.handshake_s, self._end_handshake)
        except Exception as error:  # an OSError mostly
            self._sock_close()
            self._reported = True  # there was no connection
            self.on_attempt_failed(error)

    def reconnect(self) -> MQTTErrorCode:
        """Connect again, without timers and pings of the last connection.

        Raises:
            OSError: The broker cannot be reached.

        """
        self._timers, self._next_timer_s, self._pings = {}, math.inf, []
        self.end_reason, self.closed_by_broker, self.dropped, self._reported = "", False, False, False
        return super().reconnect()

    def disconnect(self, *arguments: Any) -> MQTTErrorCode:
        """Send a DISCONNECT, which ends the network thread, or end its wait for the next attempt."""
        rc = super().disconnect(*arguments)
        self._wake_thread()
        return rc

    def loop_stop(self) -> MQTTErrorCode:
        """End the network thread and wait for its end; paho may fail if the thread ends by itself meanwhile."""
        thread = self._thread
        if thread is None:
            return MQTTErrorCode.MQTT_ERR_INVAL
        self._stop_by_s = time.monotonic() + _STOP_S
        self._thread_terminate = True
        self._wake_thread()
        if thread is not threading.current_thread():
            thread.join()
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _wake_thread(self) -> None:
        if self._sockpairW is not None:
            with suppress(BlockingIOError):  # the pipe is full, so the thread is about to wake
                self._sockpairW.send(b"0")

    def _do_on_disconnect(self, packet_from_broker: bool, *arguments: Any, **named: Any) -> None:
        """Report the end of a connection, once, and let messages wait from now on."""
        if self._state == ConnectionState.MQTT_CS_CONNECTED:
            self._state = ConnectionState.MQTT_CS_CONNECTION_LOST
        if not self._reported:
            self.closed_by_broker = self.closed_by_broker or packet_from_broker
            super()._do_on_disconnect(packet_from_broker, *arguments, **named)
            self._reported = True

    def _sock_send(self, data: Any) -> int:
        """Write to the socket. If the broker has closed it, first read its last words: a DISCONNECT, or a TLS alert."""
        try:
            return super()._sock_send(data)
        except BlockingIOError:
            raise
        except OSError as error:
            for _ in range(_MAX_LAST_READS):
                if self._sock is None or self._packet_read() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                    break
            if not self._reported:  # no DISCONNECT was there; the end of the data tells nothing after an error
                self.closed_by_broker, self.end_reason = False, str(error)
            raise

    # --- timers and pings -----------------------------------------------------------------------------

    def _run_timers(self) -> None:
        """Call the functions whose time has come."""
        now_s = time.monotonic()
        for name, timer in sorted(self._timers.items(), key=lambda item: item[1][0]):
            if timer[0] <= now_s and self._timers.get(name) is timer:
                del self._timers[name]
                timer[1]()
        self._next_timer_s = min((due_s for due_s, _ in self._timers.values()), default=math.inf)

    def loop_misc(self) -> MQTTErrorCode:
        """Do nothing: timers and pings replace paho's keep-alive."""
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _end_handshake(self) -> None:
        self.drop(f"no answer within {self.handshake_s:g} s")

    def _ping_again(self) -> None:
        if not self._pings:
            self.ping()
        self.begin_pings()

    def _check_silence(self) -> None:
        """Drop the connection if the broker has sent nothing since a ping for too long, or never answers it."""
        if not self._pings:
            return
        pinged_s, _ = self._pings[0]
        heard_s = max(pinged_s, self._last_read_s)
        left_s = min(heard_s + SILENCE_S, pinged_s + PONG_S) - time.monotonic()
        if left_s > 0:
            self.call_after("pong", left_s, self._check_silence)
        else:
            self.drop(f"no answer to a ping within {time.monotonic() - pinged_s:.0f} s")

    def _take_pong(self) -> None:
        """Note the answer to the oldest ping."""
        if self._pings:
            _, then = self._pings.pop(0)
            then()
