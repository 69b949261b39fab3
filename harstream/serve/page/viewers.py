"""Viewers of the live page: one thread composes and sends what they see, and waits for none of them."""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from harstream.serve.page.table import TURN_S
from harstream.serve.page.views import Moment, View

log = logging.getLogger("harstream.http")

#: Viewers at a time; further ones are told to come back.
MAX_VIEWERS = 100
#: A viewer who takes nothing for so long is dropped.
SLOW_S = 10.0
#: Bytes that the kernel keeps for a viewer. Beyond, the viewer gets no message until it has taken the last one.
_SEND_BUFFER = 128 * 1024
#: Time between two looks at the daemon while nobody watches.
IDLE_S = 10.0


class Viewer:
    """One viewer: a socket, a view, and the rest of the last message."""

    def __init__(self, connection: socket.socket, view: View, now_s: float) -> None:
        self.connection, self.view = connection, view
        self.next_s = now_s  # monotonic time of the next message
        self.pending = memoryview(b"")
        self.took_s = now_s  # monotonic time at which it took something last
        connection.setblocking(False)
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    def send(self, now_s: float) -> bool:
        """Send as much of the message as there is room for. Return False if the viewer has left."""
        try:
            while self.pending:
                self.pending = self.pending[self.connection.send(self.pending) :]
                self.took_s = now_s
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            return False
        return True


class Viewers:
    """Thread that serves all viewers.

    A viewer whose last message is not sent yet gets no other one, so it has one message in memory. It is dropped when
    it takes nothing for ``SLOW_S``.

    Args:
        look: Called every ``IDLE_S`` and before messages, with the monotonic time. Returns what all views share.
        monotonic: Returns monotonic seconds.

    """

    def __init__(self, look: Callable[[float], Moment], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._look, self._monotonic = look, monotonic
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._lock = threading.Lock()  # guards the fields below
        self._new: list[Viewer] = []
        self._viewers: set[Viewer] = set()
        self._closing = False
        self.sent_bytes = 0
        self.dropped = 0  # viewers that were too slow
        self._thread = threading.Thread(target=self._run, name="viewers", daemon=True)

    def __len__(self) -> int:
        """Return the number of viewers."""
        with self._lock:
            return len(self._viewers) + len(self._new)

    @property
    def full(self) -> bool:
        """True if there is no room for another viewer."""
        return len(self) >= MAX_VIEWERS

    def add(self, connection: socket.socket, view: View) -> None:
        """Serve another viewer from now on. Any thread may call this; the socket then belongs to this object."""
        with self._lock:
            if self._closing:
                connection.close()
                view.close()
                return
            self._new.append(Viewer(connection, view, self._monotonic()))
        self._wake()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Disconnect all viewers and end the thread."""
        with self._lock:
            self._closing = True
        self._wake()
        if self._thread.is_alive():
            self._thread.join()
        for viewer in (*self._viewers, *self._new):
            viewer.connection.close()
        self._selector.close()
        self._woken.close()
        self._waker.close()

    def _wake(self) -> None:
        with suppress(OSError):
            self._waker.send(b"x")

    # --- in the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        next_look_s = self._monotonic()
        while not self._closing:
            for key, mask in self._selector.select(self._timeout_s(next_look_s)):
                if key.data is None:
                    with suppress(BlockingIOError):
                        self._woken.recv(4096)
                else:
                    self._serve(key.data, mask)
            self._admit()
            try:
                next_look_s = self._send_due(next_look_s)
            except Exception:
                log.exception("live page: a message cannot be composed; its viewers are disconnected")
                for viewer in list(self._viewers):
                    self._drop(viewer)
                next_look_s = self._monotonic() + IDLE_S

    def _timeout_s(self, next_look_s: float) -> float:
        waiting = [viewer.took_s + SLOW_S for viewer in self._viewers if viewer.pending]
        due = [viewer.next_s for viewer in self._viewers if not viewer.pending]
        return max(min([next_look_s, *waiting, *due]) - self._monotonic(), 0.0)

    def _admit(self) -> None:
        with self._lock:
            new, self._new = self._new, []
            self._viewers.update(new)
        for viewer in new:
            self._selector.register(viewer.connection, selectors.EVENT_READ, viewer)

    def _serve(self, viewer: Viewer, mask: int) -> None:
        """Send more of a message, or notice that the viewer has left."""
        if viewer not in self._viewers:
            return
        if mask & selectors.EVENT_READ:
            try:
                if not viewer.connection.recv(4096):
                    self._drop(viewer)
                    return
            except BlockingIOError:
                pass
            except OSError:
                self._drop(viewer)
                return
        if mask & selectors.EVENT_WRITE:
            self._send(viewer)

    def _send(self, viewer: Viewer) -> None:
        if not viewer.send(self._monotonic()):
            self._drop(viewer)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if viewer.pending else 0)
        self._selector.modify(viewer.connection, wanted, viewer)

    def _send_due(self, next_look_s: float) -> float:
        """Send what is due, drop who is too slow, and return the time of the next look at the daemon."""
        now_s = self._monotonic()
        moment: Moment | None = None
        turn_s = time.perf_counter()
        for viewer in list(self._viewers):
            if viewer.pending:
                if now_s - viewer.took_s >= SLOW_S:
                    log.info("live page: a viewer took nothing for %g s and is disconnected", SLOW_S)
                    self.dropped += 1
                    self._drop(viewer)
            elif viewer.next_s <= now_s:
                if moment is None:
                    moment = self._look(now_s)
                # Viewers are due together, so that they share one look at the daemon.
                every_s = viewer.view.every_s
                viewer.next_s = (now_s // every_s + 1) * every_s
                message = viewer.view.compose(moment)
                self.sent_bytes += len(message)
                viewer.pending, viewer.took_s = memoryview(message), now_s
                self._send(viewer)
                if time.perf_counter() - turn_s > TURN_S:
                    # Many viewers are due together, and labels must not wait for all of them.
                    time.sleep(TURN_S)
                    turn_s = time.perf_counter()
        if moment is None and now_s >= next_look_s:
            self._look(now_s)
            return now_s + IDLE_S
        return next_look_s if moment is None else now_s + IDLE_S

    def _drop(self, viewer: Viewer) -> None:
        with self._lock:
            self._viewers.discard(viewer)
        self._selector.unregister(viewer.connection)
        viewer.connection.close()
        viewer.view.close()
