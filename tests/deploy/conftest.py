"""The shipped configuration of deploy/mosquitto, started on free ports."""

from __future__ import annotations

import os
import re
import shutil
import signal
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..servers import DEADLINE_S, free_port, listens, program, wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
DEVICES = ("sim-0001", "sim-0002")
SERVICES = ("harstream", "viewer")


class Site:
    """Copy of deploy/mosquitto with certificates and passwords from its script `prepare`, and the broker in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = shutil.copytree(DEPLOY / "mosquitto", folder / "site", ignore=shutil.ignore_patterns("secrets"))
        program("openssl")
        tools = Path(program("mosquitto_passwd")).parent
        self.environment = {**os.environ, "PATH": f"{os.environ['PATH']}:{tools}:/usr/sbin"}
        self.prepare("localhost", *DEVICES)
        names = "wearables", "wearables-certificates", "services", "services-certificates"
        self._ports = {name: free_port() for name in names}  # in the order of the listeners
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self, *arguments: str) -> None:
        subprocess.run(["./prepare", *arguments], cwd=self.folder, env=self.environment, check=True)

    def port(self, listener: str) -> int:
        """Return the port of a listener: wearables, services, or either with -certificates."""
        return self._ports[listener]

    def secret(self, name: str) -> Path:
        return self.folder / "secrets" / name

    def password(self, user: str) -> str:
        return self.secret(f"{user}.password").read_text()

    def sign(self, name: str, usage: str, *, days: str = "1", san: str = "", ca: str = "ca") -> None:
        """Write NAME.crt and NAME.key, a certificate signed by one of the authorities and its key."""
        secrets = self.folder / "secrets"
        extensions = secrets / f"{name}.ext"
        extensions.write_text(f"extendedKeyUsage={usage}\n" + (f"subjectAltName={san}\n" if san else ""))
        for command in (
            f"req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} -keyout {name}.key "
            f"-out {name}.csr",
            f"x509 -req -in {name}.csr -CA {ca}.crt -CAkey {ca}.key -CAcreateserial -days {days} "
            f"-extfile {extensions.name} -out {name}.crt",
        ):
            subprocess.run(["openssl", *command.split()], cwd=secrets, check=True, capture_output=True)

    def authority(self, name: str) -> None:
        """Write NAME.crt and NAME.key of another certificate authority."""
        command = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN={name}"
        command += f" -keyout {name}.key -out {name}.crt"
        subprocess.run(["openssl", *command.split()], cwd=self.folder / "secrets", check=True, capture_output=True)

    def start(self) -> None:
        text = (self.folder / "mosquitto.conf").read_text()
        for shipped, port in zip((8883, 8884, 8885, 8886), self._ports.values(), strict=True):
            text = re.sub(rf"(?m)^listener {shipped}$", f"listener {port} 127.0.0.1", text)
        # Without this line mosquitto would change to a user who cannot read the folder of a test.
        if os.getuid() == 0 and "user root" not in text:
            text += "user root\n"
        (self.folder / "mosquitto.conf").write_text(text)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program("mosquitto"), "-c", "mosquitto.conf"], cwd=self.folder, stdout=log, stderr=log
            )
        wait_until(self._listens, "mosquitto to listen")

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        return all(map(listens, self._ports.values()))

    def reload(self) -> None:
        """Let the broker read its passwords and access lists again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """Kill the broker."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stop the broker as its service manager does, so that it saves its state, and start it again."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(DEADLINE_S)
        self.start()

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.secret("ca.crt"))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    made.start()
    yield made
    made.stop()
