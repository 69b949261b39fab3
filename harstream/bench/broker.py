"""The broker of a benchmark: a real mosquitto on a free port, or the embedded one where that is missing."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from harstream.embedded import free_port
from harstream.errors import ConfigError

_START_S = 30.0


def find(program: str) -> str | None:
    """A program of the system, in sbin too."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))


class Broker:
    """Listens at ``port``, and with TLS at ``tls_port`` where there is openssl to make a certificate (else 0)."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigError where there is neither mosquitto nor amqtt, or it does not start."""
        self.port, self.tls_port = _free(), 0
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
        return self._process.pid

    def _configure(self, folder: Path) -> Path:
        # Nothing is dropped on the way: what does not keep up shows in what it has done, not in what the broker threw
        # away. Nagle off: it would hold back acknowledgements and labels alike.
        lines = ["allow_anonymous true", "max_queued_messages 0", "max_inflight_messages 0", "set_tcp_nodelay true"]
        lines += [f"listener {self.port} 127.0.0.1"]
        if self.ca is not None:
            self.tls_port = _free()
            lines += [f"listener {self.tls_port} 127.0.0.1", f"certfile {self.ca}", f"keyfile {folder / 'key.pem'}"]
        if os.getuid() == 0:
            lines.insert(0, "user root")
        path = folder / "mosquitto.conf"
        path.write_text("\n".join(lines) + "\n")
        return path

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        self.close()
        raise ConfigError(f"bench: {self.name} does not start: {self._log.read_text(errors='replace').strip()}")

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()


def _free() -> int:
    port = free_port([0])
    assert port is not None
    return port


def _version(program: str) -> str:
    said = subprocess.run([program, "-h"], capture_output=True, text=True, check=False).stdout.split()
    return said[2] if len(said) > 2 else "(of unknown version)"


def _certificate(folder: Path) -> Path | None:
    """A certificate for 127.0.0.1 that vouches for itself, and its key beside it; None without openssl."""
    openssl = find("openssl")
    if openssl is None:
        return None
    certificate = folder / "certificate.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(certificate)]
    made = subprocess.run(command, capture_output=True, check=False)
    return certificate if made.returncode == 0 else None
