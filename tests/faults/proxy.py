"""TCP proxy between clients and a server that has the faults of networks: delays, low rates, cuts, silence, resets."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

#: Largest piece that is forwarded at once, so that a delay or a rate takes effect soon.
_CHUNK_BYTES = 16 * 1024
#: SO_LINGER with a time of 0: closing the socket sends a RST in place of a FIN.
_LINGER_0 = struct.pack("ii", 1, 0)


class _Pair:
    """One forwarded connection."""

    def __init__(self, writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter], flows: bool) -> None:
        self.writers = writers
        self.flows = asyncio.Event()
        if flows:
            self.flows.set()


class FaultyNetwork:
    """Proxy in front of a port of 127.0.0.1. All methods may be called from any thread and return when it is done.

    Attributes:
        port: Port to connect to.
        connections: Connections accepted since the start.
        delay_s: Time by which each piece of data is delayed, seconds.
        bytes_s: Limit of the rate in each direction of a connection, bytes a second; 0: none.

    """

    def __init__(self, target_port: int) -> None:
        self.connections = 0
        self.delay_s = 0.0
        self.bytes_s = 0.0
        self._target_port = target_port
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself would let them be collected
        self._forwards_new = self._accepts = True
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    # --- faults ---------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Close every connection as a server does that ends in order: both sides read the end of the data."""
        self._call(self._close)

    def reset(self) -> None:
        """Close every connection by a RST, as a firewall or a restarted router does."""
        self._call(lambda: self._close(reset=True))

    def half_open(self, *, new: bool = False) -> None:
        """Forward nothing more of the present connections, which stay open; with ``new`` nor of those to come."""

        def stop() -> None:
            self._forwards_new = not new
            for pair in self._pairs:
                pair.flows.clear()

        self._call(stop)

    def refuse(self) -> None:
        """Close every connection, and each new one at once, until ``heal`` is called."""

        def stop() -> None:
            self._accepts = False
            self._close(reset=True)

        self._call(stop)

    def heal(self) -> None:
        """Forward everything again."""

        def go_on() -> None:
            self.delay_s = self.bytes_s = 0.0
            self._forwards_new = self._accepts = True
            for pair in self._pairs:
                pair.flows.set()

        self._call(go_on)

    # --- in the thread of the event loop --------------------------------------------------------------

    def _call(self, function: Callable[[], None]) -> None:
        async def call() -> None:
            function()

        asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    def _close(self, reset: bool = False) -> None:
        for pair in self._pairs:
            for writer in pair.writers:
                _close(writer, reset)
        self._pairs.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        if not self._accepts:
            _close(writer, reset=True)
            return
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            _close(writer, reset=True)
            return
        pair = _Pair((writer, server_writer), self._forwards_new)
        self._pairs.add(pair)
        with suppress(asyncio.CancelledError):  # at the end, where asyncio would log it
            await asyncio.gather(self._pump(pair, reader, server_writer), self._pump(pair, server_reader, writer))
        self._pairs.discard(pair)

    async def _pump(self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                await pair.flows.wait()
                if wait_s := self.delay_s + (len(data) / self.bytes_s if self.bytes_s else 0):
                    await asyncio.sleep(wait_s)
                writer.write(data)
                await writer.drain()
            await pair.flows.wait()
        writer.close()

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._listener)

    async def _end(self) -> None:
        self._server.close()
        self._close(reset=True)
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def __enter__(self) -> FaultyNetwork:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
        return self

    def __exit__(self, *_: Any) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _close(writer: asyncio.StreamWriter, reset: bool) -> None:
    sock = writer.get_extra_info("socket")
    if reset and sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        writer.transport.abort()
    else:
        writer.close()
