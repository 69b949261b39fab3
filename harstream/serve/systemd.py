"""Notifications to systemd: ready, reloading, stopping, and the watchdog.

The protocol is a datagram of a few lines, see sd_notify(3). A library for it would need the headers of systemd to be
built, so none is used.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

log = logging.getLogger("harstream")


class Notifier:
    """Sender of notifications to systemd. It does nothing if systemd did not start the process.

    Args:
        environment: Variables that systemd sets: NOTIFY_SOCKET, WATCHDOG_PID, WATCHDOG_USEC.

    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):  # a socket in Linux's abstract namespace
            self._address = "\0" + self._address[1:]
        watched = environment.get("WATCHDOG_PID") in (None, str(os.getpid()))
        # Half of the watchdog's timeout, as sd_watchdog_enabled(3) recommends.
        self._heartbeat_every_s = int(environment.get("WATCHDOG_USEC", "0")) / 2e6 if watched else 0.0
        self._next_heartbeat_s = 0.0

    def send(self, *lines: str) -> None:
        """Send lines such as ``READY=1`` or ``STATUS=...``, without waiting. A failure is logged, not raised."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:  # systemd notices a missing notification and acts on it
            log.warning("systemd: cannot send %s: %s", lines[0], error)

    def ready(self, status: str) -> None:
        """Notify that the daemon is ready, with a line of text for ``systemctl status``."""
        self.send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Notify that the daemon reloads its configuration. `ready` must follow."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def heartbeat(self, now_s: float) -> None:
        """Notify the watchdog as often as it needs; the main loop calls this each time it moves.

        Args:
            now_s: Present time of the monotonic clock, in seconds.

        """
        if self._heartbeat_every_s and now_s >= self._next_heartbeat_s:
            self._next_heartbeat_s = now_s + self._heartbeat_every_s
            self.send("WATCHDOG=1")
