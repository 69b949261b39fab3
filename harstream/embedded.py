"""Embedded MQTT broker, for an installation of a single process."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterable

from harstream.errors import ConfigError

DEFAULT_PORT = 1883
#: Number of ports that are tried, from the desired one on.
_MAX_PORTS = 50
_CLOSE_S = 5.0


class EmbeddedBroker:
    """amqtt in a thread: MQTT 3.1.1 on 127.0.0.1, for about 3,000 messages per second.

    Args:
        port: Desired port. If it is occupied, the next free one is used. 0: any free port.

    Raises:
        ConfigError: amqtt is not installed.

    """

    def __init__(self, port: int = DEFAULT_PORT) -> None:
        try:
            from amqtt.broker import Broker
        except ImportError as error:
            raise ConfigError(
                "broker: not set, and the embedded broker is not installed; "
                "pass --broker mqtt://HOST, or pip install '.[demo]' in a checkout"
            ) from error
        self._Broker = Broker
        self._desired_port = port
        self.port = 0
        self._startup_ended = threading.Event()  # successfully or not
        self._startup_error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Address of the broker."""
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the broker, and return when it listens.

        Raises:
            ConfigError: No port is free, or amqtt failed.

        """
        # Without this, amqtt logs every connection, and as an error every client that closes one.
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        desired = self._desired_port
        ports = range(desired, desired + _MAX_PORTS) if desired else [0] * _MAX_PORTS
        for candidate in ports:
            port = first_free_port([candidate])
            if port is None:
                continue
            self.port = port
            self._startup_error = None
            self._startup_ended.clear()
            self._thread = threading.Thread(target=self._run, name="embedded-broker", daemon=True)
            self._thread.start()
            self._startup_ended.wait()
            if self._startup_error is None:
                return
            if first_free_port([port]) is not None:  # the port is still free, so it is not the reason
                raise ConfigError(f"the embedded broker cannot start: {self._startup_error}") from self._startup_error
        raise ConfigError(
            f"the embedded broker found no free port from {ports[0]} to {ports[-1]}; pass --broker mqtt://HOST"
        )

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # start() raises it in the thread of the caller
            self._startup_error = error
        finally:
            self._startup_ended.set()

    async def _serve(self) -> None:
        broker = self._Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            }
        )
        await broker.start()
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._startup_ended.set()
        await self._stop.wait()
        await broker.shutdown()

    def close(self) -> None:
        """Stop the broker. A second call does nothing."""
        if self._thread is not None and self._thread.is_alive() and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_CLOSE_S)


def first_free_port(candidates: Iterable[int]) -> int | None:
    """Return the first of these ports of 127.0.0.1 on which nobody listens (0: any), or None."""
    for port in candidates:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return None
