"""systemd, where it started us: told when we are ready, and that the loop moves.

The protocol is a datagram of a few lines, sd_notify(3); a library for it would have to be built against systemd.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

log = logging.getLogger("harstream")


class Service:
    """What we are to systemd; without it, all of this does nothing."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        mine = environment.get("WATCHDOG_PID") in (None, str(os.getpid()))
        # Twice as often as it wants to hear of us, as sd_watchdog_enabled(3) advises.
        self._every_s = int(environment.get("WATCHDOG_USEC", "0")) / 2e6 if mine else 0.0
        self._next_s = 0.0

    def tell(self, *lines: str) -> None:
        """Such as ``READY=1`` or ``STATUS=...``."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:  # it will say itself what it has not heard
            log.warning("systemd: %s: %s", lines[0], error)

    def ready(self, status: str) -> None:
        self.tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def beat(self, now_s: float) -> None:
        """From the loop, each time round; ``now_s`` by the monotonic clock. The watchdog hears of it often enough."""
        if self._every_s and now_s >= self._next_s:
            self._next_s = now_s + self._every_s
            self.tell("WATCHDOG=1")
