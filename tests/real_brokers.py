"""Real brokers beside mosquitto: RabbitMQ, NATS and rumqttd, each in a folder and on ports of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from .servers import free_port, listens, program, wait_until


class RealBroker:
    """Server process that speaks MQTT on a free port of 127.0.0.1. Nothing of it stays after ``close``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._log = folder / "log"
        self._processes: list[subprocess.Popen[bytes]] = []

    def _start(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        with self._log.open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    env={**os.environ, **(environment or {})},
                    start_new_session=True,
                )
            )

    def wait(self, port: int = 0) -> None:
        """Wait until the broker listens."""
        wait_until(lambda: self._listens(port or self.port), f"{type(self).__name__} to listen")

    def _listens(self, port: int) -> bool:
        for process in self._processes:
            assert process.poll() is None, self._log.read_text(errors="replace")
        return listens(port)

    def close(self) -> None:
        """Kill its processes, the last one first."""
        while self._processes:
            process = self._processes.pop()
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class RabbitMq(RealBroker):
    """RabbitMQ with its MQTT plugin: MQTT 3.1.1, since 3.13 also 5. Starting it takes ten seconds.

    Its name server, epmd, which it would share with every other Erlang program of the machine, is one of its own.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        program("rabbitmq-server")
        # The program of that name changes to another user, folder and log.
        script = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
        if not script.exists():
            pytest.skip(f"rabbitmq-server is installed, but not as Debian does it: no {script}")
        names = free_port()
        (folder / "rabbitmq.conf").write_text(f"listeners.tcp = none\nmqtt.listeners.tcp.1 = 127.0.0.1:{self.port}\n")
        (folder / "plugins").write_text("[rabbitmq_mqtt].\n")
        environment = {
            "HOME": str(folder),  # for the cookie
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(names),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_NODENAME": f"harstream-{self.port}@localhost",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        self._start(program("epmd"), "-port", str(names), environment=environment)
        self.wait(names)
        self._start(str(script), environment=environment)
        self.wait()


class Nats(RealBroker):
    """nats-server with JetStream, which its MQTT needs: MQTT 3.1.1."""

    def __init__(self, folder: Path, extra: str = "") -> None:
        super().__init__(folder)
        (folder / "nats.conf").write_text(
            f'server_name: tests\nlisten: "127.0.0.1:{free_port()}"\njetstream {{ store_dir: "{folder}/data" }}\n'
            f'mqtt {{ listen: "127.0.0.1:{self.port}" }}\n{extra}\n'
        )
        self._start(program("nats-server"), "-c", "nats.conf")
        self.wait()


class Rumqttd(RealBroker):
    """rumqttd, which iotcore brings along: a port for MQTT 3.1.1, and ``port_5`` for MQTT 5."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        pytest.importorskip("iotcore")
        self.port_5 = free_port()
        text = "id = 0\n[router]\nid = 0\nmax_connections = 100\nmax_outgoing_packet_count = 200\n"
        text += "max_segment_size = 104857600\nmax_segment_count = 10\n"
        for version, port in (("v4", self.port), ("v5", self.port_5)):
            text += f'[{version}.1]\nname = "{version}"\nlisten = "127.0.0.1:{port}"\nnext_connection_delay_ms = 1\n'
            text += f"[{version}.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 262144\n"
            text += "max_inflight_count = 100\ndynamic_filters = true\n"
        (folder / "rumqttd.toml").write_text(text)
        self._start(sys.executable, "-m", "iotcore", "--config", "rumqttd.toml", "--log-level", "CRITICAL")
        self.wait()
        self.wait(self.port_5)
