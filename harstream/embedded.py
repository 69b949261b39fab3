"""Embedded MQTT broker, for an installation of a single command."""

from __future__ import annotations

import importlib.util
import logging
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

from harstream.addresses import LOOPBACK, family, first_free_port, in_brackets, reachable
from harstream.errors import ConfigError

log = logging.getLogger("harstream")

DEFAULT_PORT = 1883
DEFAULT_WEBSOCKET_PORT = 8083
#: Number of ports that are tried, from the desired one on.
_MAX_PORTS = 50
_PROGRAM = Path(__file__).with_name("embedded_process.py")
_START_S, _POLL_S = 60.0, 0.01
#: Pause before a broker that has ended is started again, seconds.
_AGAIN_S = 1.0
#: Lines of the broker's standard error that are kept for the log.
_LINES = 20


class EmbeddedBroker:
    """rumqttd, from the package iotcore, in a process of its own: MQTT 3.1.1, without passwords.

    Its MQTT 5 is left out, since one malformed packet of MQTT 5 stops rumqttd 0.20 from accepting clients.

    The process ends with this one, however that ends, and not before: it ignores the signals that ask a whole process
    group to stop, because the daemon still publishes then. If it fails, it is started again. What it retains is then
    lost; a daemon publishes its status again, and the next label of each device replaces the last.

    Args:
        port: Port of MQTT. If it is occupied, the next free one is used, unless ``exact``. 0: any free port.
        host: IP address to listen on.
        exact: Whether an occupied port is an error.
        websocket_port: Port of MQTT in WebSockets; if it is occupied, the next free one. None: no WebSockets.

    Attributes:
        port: Port of MQTT; 0 before the start.
        websocket_port: Port of MQTT in WebSockets; 0 without.

    Raises:
        ConfigError: iotcore is not installed.

    """

    def __init__(
        self,
        port: int = DEFAULT_PORT,
        host: str = LOOPBACK,
        *,
        exact: bool = False,
        websocket_port: int | None = None,
    ) -> None:
        if not _is_installed():
            raise ConfigError(
                "broker: not set, and the embedded broker is not installed; "
                "pass --broker mqtt://HOST, or pip install '.[demo]' in a checkout"
            )
        self.host = host
        self.port = self.websocket_port = 0
        self._desired_port, self._exact, self._desired_websocket_port = port, exact, websocket_port
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._closing = threading.Event()
        self._keeper: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Address of the broker for clients on this machine."""
        return f"mqtt://{in_brackets(reachable(self.host))}:{self.port}"

    def start(self) -> None:
        """Start the broker, and return when it listens.

        Raises:
            ConfigError: No port is free, the address is none of this machine, or the broker failed.

        """
        desired = self._desired_port
        ports = [desired] if self._exact else range(desired, desired + _MAX_PORTS) if desired else [0] * _MAX_PORTS
        for candidate in ports:
            port = first_free_port([candidate], self.host)
            if port is None:
                continue
            self.port, self.websocket_port = port, self._free_websocket_port(port)
            if self._start_process():
                self._keeper = threading.Thread(target=self._keep, name="embedded-broker", daemon=True)
                self._keeper.start()
                return
            if first_free_port([port], self.host) is not None:  # the port is still free, so it is not the reason
                raise ConfigError(f"the embedded broker cannot start: {self._last_words()}")
        if first_free_port([0], self.host) is None:
            raise ConfigError(f"listen: {self.host} is no address of this machine; listen on 0.0.0.0 for all of them")
        if self._exact:
            raise ConfigError(f"listen: port {desired} of {self.host} is occupied; give another port")
        raise ConfigError(
            f"the embedded broker found no free port from {ports[0]} to {ports[-1]}; pass --broker mqtt://HOST"
        )

    def _free_websocket_port(self, other: int) -> int:
        """Return the port for WebSockets, which is not ``other``; 0 if there are to be none."""
        first = self._desired_websocket_port
        if first is None:
            return 0
        candidates = [port for port in range(first, first + _MAX_PORTS) if port != other]
        port = first_free_port(candidates, self.host)
        if port is None:
            raise ConfigError(
                f"the embedded broker found no free port from {first} to {first + _MAX_PORTS - 1} for WebSockets"
            )
        return port

    def _start_process(self) -> bool:
        """Start the process, and return whether it listens. If not, it has ended."""
        command = [sys.executable, "-P", str(_PROGRAM), in_brackets(self.host), str(self.port)]
        process = subprocess.Popen(
            [*command, str(self.websocket_port)],
            stdin=subprocess.PIPE,  # when this end closes, the process ends
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is not for it
        )
        self._process = process
        deadline_s = time.monotonic() + _START_S
        while process.poll() is None and time.monotonic() < deadline_s and not self._closing.is_set():
            if all(self._listens(port) for port in (self.port, self.websocket_port) if port):
                return True
            time.sleep(_POLL_S)
        process.kill()
        self._drain(process)
        return False

    def _listens(self, port: int) -> bool:
        with socket.socket(family(self.host)) as probe:
            return probe.connect_ex((reachable(self.host), port)) == 0

    def _drain(self, process: subprocess.Popen[bytes]) -> None:
        """Read the broker's standard error until its end, and wait for it."""
        assert process.stderr is not None
        assert process.stdin is not None
        for line in process.stderr:
            self._lines.append(line.decode(errors="replace").strip())
            if b" panicked at " in line:  # what is left of it may accept connections and never answer
                process.kill()
        process.wait()
        process.stderr.close()
        process.stdin.close()

    def _last_words(self) -> str:
        return " / ".join(filter(None, self._lines)) or "it wrote nothing"

    def _keep(self) -> None:
        """Start the broker again whenever it ends."""
        while self._process is not None:
            self._drain(self._process)
            if self._closing.is_set():
                return
            log.error(
                "the embedded broker ended with exit code %d, and is started again; it wrote: %s",
                self._process.returncode,
                self._last_words(),
            )
            self._lines.clear()
            while not self._closing.wait(_AGAIN_S) and not self._start_process():
                log.error("the embedded broker cannot start again: %s", self._last_words())

    def close(self) -> None:
        """Stop the broker. A second call does nothing."""
        self._closing.set()
        if self._keeper is not None:
            while self._keeper.is_alive():
                if self._process is not None:
                    self._process.kill()
                self._keeper.join(_POLL_S)


def _is_installed() -> bool:
    """Return whether iotcore is installed, without importing it."""
    if "iotcore" in sys.modules:
        return sys.modules["iotcore"] is not None
    return importlib.util.find_spec("iotcore") is not None
