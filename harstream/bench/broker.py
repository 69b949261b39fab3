"""Broker of a benchmark: a mosquitto of its own on a free port, or the embedded broker if mosquitto is missing."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from harstream.addresses import first_free_port
from harstream.errors import ConfigError

_START_TIMEOUT_S = 30.0


def find(program: str) -> str | None:
    """Return the path of a program, also from the sbin folders; None if it is not installed."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))


class Broker:
    """Broker process that listens on 127.0.0.1.

    Attributes:
        port: Port without TLS.
        tls_port: Port with TLS; 0 if openssl is missing (it makes the certificate) or the broker is the embedded one.
        ca: File of the certificate; None without TLS.
        is_mosquitto: False for the embedded broker.
        name: Name and version for the table.

    """

    def __init__(self, folder: Path) -> None:
        """Start the broker with its files in ``folder``.

        Raises:
            ConfigError: Neither mosquitto nor iotcore is installed, or the broker did not start.

        """
        self.port, self.tls_port = _free_port(), 0
        self.ca: Path | None = None
        program = find("mosquitto")
        self.is_mosquitto = program is not None
        if program is not None:
            self.name = f"mosquitto {_version(program)}"
            self.ca = _certificate(folder)
            command = [program, "-c", str(self._configure(folder))]
        else:
            self.name = "the embedded broker (mosquitto is not installed)"
            code = (
                "import signal, sys\nfrom harstream.embedded import EmbeddedBroker\n"
                "broker = EmbeddedBroker(int(sys.argv[1])); broker.start(); signal.pause()"
            )
            command = [sys.executable, "-c", code, str(self.port)]
        self._log = folder / "broker.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._wait()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def _configure(self, folder: Path) -> Path:
        """Write the configuration of mosquitto and return its path."""
        # Without limits on queues the broker drops nothing, so a receiver that is too slow shows in its own count.
        # Nagle's algorithm would hold back acknowledgements and labels.
        lines = ["allow_anonymous true", "max_queued_messages 0", "max_inflight_messages 0", "set_tcp_nodelay true"]
        lines += [f"listener {self.port} 127.0.0.1"]
        if self.ca is not None:
            self.tls_port = _free_port()
            lines += [f"listener {self.tls_port} 127.0.0.1", f"certfile {self.ca}", f"keyfile {folder / 'key.pem'}"]
        if os.getuid() == 0:
            lines.insert(0, "user root")
        path = folder / "mosquitto.conf"
        path.write_text("\n".join(lines) + "\n")
        return path

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        code = self._process.poll()
        state = f"did not listen within {_START_TIMEOUT_S:.0f} s" if code is None else f"ended with exit code {code}"
        self.close()
        log = self._log.read_text(errors="replace").strip() or "nothing"
        raise ConfigError(f"bench: {self.name} at port {self.port} {state}; it wrote: {log}")

    def close(self) -> None:
        """Kill the broker."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()


def _free_port() -> int:
    port = first_free_port([0])
    assert port is not None
    return port


def _version(program: str) -> str:
    done = subprocess.run([program, "-h"], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    return words[2] if len(words) > 2 else "(of unknown version)"


def _certificate(folder: Path) -> Path | None:
    """Make a self-signed certificate for 127.0.0.1 and its key (key.pem); return None if openssl is missing."""
    openssl = find("openssl")
    if openssl is None:
        return None
    certificate = folder / "certificate.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(certificate)]
    done = subprocess.run(command, capture_output=True, check=False)
    return certificate if done.returncode == 0 else None
