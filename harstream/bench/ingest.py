"""Messages a second of the whole daemon when there are more than it can take, against paho's with an empty callback."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harstream.bench.board import CPU_NS, DONE, DROPPED, READY, SENT, STOP, WINDOWS, Board
from harstream.bench.broker import Broker
from harstream.bench.processes import Process, cpu_s, process, wait_until

SUBSCRIPTION = "wearables/+/imu"
#: Messages that may be under way: enough that nobody ever waits for the load, too few to fill an inbox.
LEAD = 12_000


@dataclass(frozen=True, slots=True)
class Throughput:
    messages_s: float
    windows_s: float
    cpu_us: float  # of what is measured, a message
    broker_cpu_us: float
    dropped: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is published, and how it is received."""

    n_devices: int
    payload: str
    qos: int = 1
    tls: bool = False


class Bench:
    """What all measurements share: the broker, a folder, the model, how long and how often."""

    def __init__(self, broker: Broker, folder: Path, *, model: str, backend: str, seconds: float) -> None:
        self.broker, self.folder = broker, folder
        self.model, self.backend, self.seconds = model, backend, seconds
        self._boards = 0

    def board(self) -> tuple[Board, Path]:
        self._boards += 1
        path = self.folder / f"board-{self._boards}"
        return Board(path), path

    def daemon_settings(self, path: Path, traffic: Traffic) -> dict[str, Any]:
        broker = self.broker
        url = f"mqtts://127.0.0.1:{broker.tls_port}" if traffic.tls else f"mqtt://127.0.0.1:{broker.port}"
        config = {"broker": url, "model": self.model, "backend": self.backend, "qos": traffic.qos, "instance": "bench"}
        config["http"] = "127.0.0.1:0"
        if not broker.is_mosquitto:
            config["mqtt_version"] = "3.1.1"
        return {"board": str(path), "config": config, "ca": str(broker.ca) if traffic.tls else None}

    def paho_settings(self, path: Path, traffic: Traffic) -> dict[str, Any]:
        broker = self.broker
        return {
            "board": str(path),
            "host": "127.0.0.1",
            "port": broker.tls_port if traffic.tls else broker.port,
            "ca": str(broker.ca) if traffic.tls else None,
            "subscription": SUBSCRIPTION,
            "qos": traffic.qos,
            "version": 5 if broker.is_mosquitto else 4,
        }

    def settings(self, subject: str, path: Path, traffic: Traffic) -> dict[str, Any]:
        if subject == "daemon":
            return self.daemon_settings(path, traffic)
        return {**self.paho_settings(path, traffic), "model": self.model}

    @contextmanager
    def under_load(
        self,
        subject: str,
        traffic: Traffic,
        *,
        lead: int = LEAD,
        rounds: int = 0,
        log: Path | None = None,
        listen: tuple[str, Path] | None = None,
    ) -> Iterator[tuple[Board, Process, Process]]:
        """``subject`` receiving ``traffic``: the board, it, and the load, from the moment that both have begun.

        ``listen``: a subscription, and the folder for what is heard on it. ``lead`` 0: at life speed. ``rounds``:
        messages of a device, 0 for no end.
        """
        board, path = self.board()
        here = {"board": str(path), "host": "127.0.0.1", "port": self.broker.port}
        load_settings = {
            **here,
            "n_devices": traffic.n_devices,
            "payload": traffic.payload,
            "qos": traffic.qos,
            "lead": lead,
            "rounds": rounds,
            "log": str(log) if log is not None else None,
        }
        with ExitStack() as stack:
            listener = None
            if listen is not None:
                said = {**here, "subscription": listen[0], "folder": str(listen[1])}
                listener = stack.enter_context(process("-m", "harstream.bench.listener", said))
                wait_until(lambda: "ready" in listener.said, "somebody to listen", listener)
            load = stack.enter_context(process("-m", "harstream.bench.load", load_settings))
            wait_until(lambda: "ready" in load.said, "the load to be built", load)
            measured = stack.enter_context(
                process("-m", "harstream.bench.subject", subject, self.settings(subject, path, traffic))
            )
            wait_until(lambda: board[READY] and board[SENT], f"{subject} to begin", load, measured)
            yield board, measured, load
            board[STOP] = 1
            for each in (load, measured, listener):
                if each is not None:
                    each.wait()

    def saturate(self, subject: str, traffic: Traffic, *, least: int | None = None) -> Throughput:
        """Messages a second, over ``seconds``, once ``least`` are done: by default sixteen of every device.

        By then every device has had its windows, and who is measured is warm.
        """
        with self.under_load(subject, traffic) as (board, measured, load):
            enough = 16 * traffic.n_devices if least is None else least
            wait_until(lambda: board[DONE] >= enough, f"{subject} to get going", measured, load)
            before = self._look(board)
            time.sleep(self.seconds)
            measured.check()
            after = self._look(board)
        elapsed, done, windows, cpu, broker_cpu = (b - a for a, b in zip(before, after, strict=True))
        messages = max(done, 1)
        return Throughput(
            messages_s=done / elapsed,
            windows_s=windows / elapsed,
            cpu_us=1e6 * cpu / messages,
            broker_cpu_us=1e6 * broker_cpu / messages,
            dropped=board[DROPPED],
        )

    def _look(self, board: Board) -> tuple[float, int, int, float, float]:
        return time.monotonic(), board[DONE], board[WINDOWS], board[CPU_NS] / 1e9, cpu_s(self.broker.pid)
