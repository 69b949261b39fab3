"""Faults of processes: killed, stopped, without room on disk, restarted with and without what they had stored."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..servers import Mosquitto, Process


def kill(process: Process) -> None:
    """End a process by SIGKILL, and wait for its end."""
    process.send(signal.SIGKILL)
    process.exit_code()


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
