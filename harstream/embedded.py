"""The embedded broker: amqtt in a thread, for an installation of one process."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterable

from harstream.errors import ConfigError

DEFAULT_PORT = 1883
_TRIES = 50


class EmbeddedBroker:
    """MQTT 3.1.1 on 127.0.0.1, at ``port`` or the next free one; about 3,000 messages a second."""

    def __init__(self, port: int = DEFAULT_PORT) -> None:
        """Raises ConfigError where amqtt is not installed."""
        try:
            from amqtt.broker import Broker
        except ImportError as error:
            raise ConfigError(
                "no --broker is given, and the embedded one is not installed: pass --broker mqtt://HOST, "
                "or pip install 'harstream[demo]'"
            ) from error
        self._Broker = Broker
        self._wanted = port
        self.port = 0
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns when it listens. Raises ConfigError where it cannot."""
        for name in ("amqtt", "transitions"):  # they tell every connection, and every probe as an error
            logging.getLogger(name).setLevel(logging.CRITICAL)
        ports = range(self._wanted, self._wanted + _TRIES) if self._wanted else [0] * _TRIES
        for candidate in ports:
            port = free_port([candidate])
            if port is None:
                continue
            self.port = port
            self._failure = None
            self._started.clear()
            self._thread = threading.Thread(target=self._run, name="embedded-broker", daemon=True)
            self._thread.start()
            self._started.wait()
            if self._failure is None:
                return
            if free_port([port]) is not None:  # nobody was quicker: the fault is another
                raise ConfigError(f"the embedded broker cannot start: {self._failure}") from self._failure
        raise ConfigError(f"no free port from {ports[0]} to {ports[-1]} for the embedded broker")

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # told to the starting thread
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        broker = self._Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            }
        )
        await broker.start()
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._started.set()
        await self._stop.wait()
        await broker.shutdown()

    def close(self) -> None:
        """Stop listening; closing twice does nothing."""
        if self._thread is not None and self._thread.is_alive() and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(5)


def free_port(candidates: Iterable[int]) -> int | None:
    """The first of these ports of 127.0.0.1 that nobody listens on (0: any); None where there is none."""
    for port in candidates:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return None
