"""A real Home Assistant for tests; `python -m tests.home_assistant FOLDER` installs it.

It needs some 480 MB. The version is the newest that runs on this version of Python.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from pathlib import Path
from typing import Any, Self

import pytest

from .servers import DEADLINE_S, free_port, wait_until

#: Folder where .ci/run installs it.
FOLDER = Path(__file__).parents[1] / ".venv-home-assistant"
#: Version for a version of Python. One for Python 3.13 that is newer than this needs 3.13.2.
_VERSIONS = {(3, 11): "2024.3.3", (3, 12): "2025.1.4", (3, 13): "2025.4.4"}
#: What its packages and integrations need and do not say.
_UNSAID = ["josepy<2", "numpy"]
#: Integrations that it does without here.
_LEFT_OUT = {"sentry"}


def install(folder: Path) -> None:
    """Install Home Assistant and what MQTT and its default integrations need, with uv, which is faster than pip."""
    venv.create(folder, with_pip=True)
    program, version = folder / "bin", _VERSIONS[sys.version_info[:2]]
    subprocess.run([program / "python", "-m", "pip", "install", "-q", "uv"], check=True)

    def add(*arguments: str | Path) -> None:
        subprocess.run([program / "uv", "pip", "install", "-q", "--python", program / "python", *arguments], check=True)

    add(f"homeassistant=={version}")
    package = next((folder / "lib").glob("python3.*")) / "site-packages/homeassistant"
    add("-c", package / "package_constraints.txt", *_UNSAID, *_requirements(package))


def _requirements(package: Path) -> list[str]:
    """Return what the manifests of the integrations ask for that start always, and of MQTT."""
    sets = re.findall(
        r"^[A-Z_]+INTEGRATIONS[A-Z_]*(?:: [^=]+)? = \{(.*?)^\}", (package / "bootstrap.py").read_text(), re.M | re.S
    )
    todo = ["mqtt", "api", "sensor", *(name for text in sets for name in re.findall(r'^ +"([a-z_]+)"', text, re.M))]
    seen, requirements = set(_LEFT_OUT), set[str]()
    while todo:
        name = todo.pop()
        path = package / "components" / name / "manifest.json"
        if name not in seen and path.exists():
            seen.add(name)
            manifest = json.loads(path.read_text())
            requirements |= set(manifest.get("requirements", ()))
            todo += manifest.get("dependencies", ())
    return sorted(requirements)


class HomeAssistantServer:
    """Process of Home Assistant with MQTT at the broker on ``mqtt_port``, and its API on a free port."""

    def __init__(self, folder: Path, mqtt_port: int) -> None:
        self._program = FOLDER / "bin/hass"
        if not self._program.exists():
            pytest.skip(f"Home Assistant is not installed; python -m tests.home_assistant {FOLDER.name} does it")
        self._folder, self._port = folder, free_port()
        self._log = folder / "hass.log"
        self._process: subprocess.Popen[bytes] | None = None
        user, token, key = secrets.token_hex(16), secrets.token_hex(16), secrets.token_hex(64)
        (folder / "configuration.yaml").write_text(
            f"http:\n  server_host: 127.0.0.1\n  server_port: {self._port}\napi:\nlogger:\n  default: warning\n"
        )
        (folder / ".storage").mkdir()
        self._store("auth", _auth(user, token, key))
        self._store("onboarding", {"done": ["user", "core_config", "analytics", "integration"]})
        self._store("core.config_entries", {"entries": [_entry({"broker": "127.0.0.1", "port": mqtt_port})]})
        self._token = _signed({"iss": token, "iat": int(time.time()), "exp": int(time.time()) + 86400}, key)

    def _store(self, name: str, data: dict[str, Any]) -> None:
        text = json.dumps({"version": 1, "minor_version": 1, "key": name, "data": data})
        (self._folder / ".storage" / name).write_text(text)

    def start(self) -> Self:
        """Start it, and wait until it has set up its integrations."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-c", self._folder, "--skip-pip"], stdout=log, stderr=log, start_new_session=True
            )
        wait_until(lambda: self._ask("config").get("state") == "RUNNING", "Home Assistant", 3 * DEADLINE_S)
        return self

    def restart(self) -> None:
        """Let it stop in an orderly way, so that it stores what it knows, and start it again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(3 * DEADLINE_S)
        self.start()

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _ask(self, what: str) -> Any:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        headers = {"Authorization": f"Bearer {self._token}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/api/{what}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{what}: {error.code}: {error.read()!r}") from error
        except OSError:
            return {}

    @property
    def log(self) -> str:
        """Text that it has written."""
        return self._log.read_text(errors="replace")

    def sensors(self) -> dict[str, dict[str, Any]]:
        """Return state and attributes of each sensor by its entity id, but for those of Home Assistant's backup."""
        states = {state["entity_id"]: state for state in self._ask("states")}
        return {name: state for name, state in states.items() if name.startswith("sensor.") and "backup" not in name}

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()


def _auth(user: str, token: str, key: str) -> dict[str, Any]:
    """Return the content of the file of users: one with a token that is never asked for again."""
    owner = {"id": user, "group_ids": ["system-admin"], "is_owner": True, "is_active": True, "name": "test"}
    kind = {"token_type": "long_lived_access_token", "access_token_expiration": 315360000.0, "credential_id": None}
    client = {"client_id": None, "client_name": "test", "client_icon": None, "version": None, "expire_at": None}
    used = {"created_at": "2024-01-01T00:00:00+00:00", "last_used_at": None, "last_used_ip": None}
    return {
        "users": [{**owner, "system_generated": False, "local_only": False}],
        "groups": [{"id": f"system-{name}", "name": name} for name in ("admin", "users", "read-only")],
        "credentials": [],
        "refresh_tokens": [
            {"id": token, "user_id": user, "token": secrets.token_hex(64), "jwt_key": key, **kind, **client, **used}
        ],
    }


def _entry(data: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of MQTT, as a user would have added it."""
    names = {"entry_id": "mqtt", "domain": "mqtt", "title": "mqtt", "source": "user", "version": 1, "minor_version": 1}
    choices = {"pref_disable_new_entities": False, "pref_disable_polling": False, "disabled_by": None}
    return {**names, **choices, "data": data, "options": {}, "unique_id": None}


def _signed(claims: dict[str, Any], key: str) -> str:
    """Return a JSON Web Token (HS256)."""

    def encoded(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    head = encoded(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    body = head + b"." + encoded(json.dumps(claims).encode())
    return (body + b"." + encoded(hmac.new(key.encode(), body, hashlib.sha256).digest())).decode()


if __name__ == "__main__":
    install(Path(sys.argv[1]))
