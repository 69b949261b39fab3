"""Faults of processes: killed, stopped, without room on disk, restarted with and without what they had stored."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from ..servers import Client, Mosquitto, Process

#: Kills in one test, and the messages before each.
_KILLS, _MESSAGES_PER_KILL = 5, 25


def kill(process: Process) -> None:
    """End a process by SIGKILL, and wait for its end."""
    process.send(signal.SIGKILL)
    process.exit_code()


def publish_and_kill(
    client: Client, start: Callable[[], Process], stream: Iterable[tuple[str, bytes]], rng: random.Random
) -> Process:
    """Publish all messages, and kill the daemon that gets them a few times on the way. Return the last one."""
    sent = iter(list(stream))
    daemon = start()
    daemon.wait_for("ready")
    for _ in range(_KILLS):
        for topic, payload in islice(sent, _MESSAGES_PER_KILL):
            client.publish(topic, payload)
            time.sleep(rng.uniform(0, 0.01))
        kill(daemon)
        daemon = start()
        if rng.random() < 0.7:  # else it may be killed while it starts
            daemon.wait_for("ready")
    for topic, payload in sent:
        client.publish(topic, payload)
    return daemon


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process by SIGSTOP, and let it go on afterwards."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def disk_full(pid: int) -> Iterator[None]:
    """Let every write of a process to a file fail, and make room again afterwards.

    The limit on the size of files does it for one process only. Its writes fail with EFBIG in place of ENOSPC.
    """
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        if Path(f"/proc/{pid}").exists():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


class StoringMosquitto(Mosquitto):
    """mosquitto that stores sessions, queues and retained messages in ``store`` when it ends in order."""

    def __init__(self, folder: Path, lines: str = "allow_anonymous true", port: int = 0) -> None:
        self.store = folder / "store"
        self.store.mkdir(exist_ok=True)
        super().__init__(folder, "", f"{lines}\npersistence true\npersistence_location {self.store}/", port)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def end(self) -> None:
        """End it by SIGTERM. It stores everything first."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def restart(self, *, keep: bool = True) -> None:
        """End it and start it again, with what it has stored or, as after the loss of its disk, without."""
        self.end()
        if not keep:
            shutil.rmtree(self.store)
            self.store.mkdir()
        self.start()
