"""Starting and ending the processes of one measurement, and what the system says of them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harstream.errors import HarstreamError

_END_S = 30.0


class Process:
    """``python ARGUMENTS``, what it says kept for the error if it fails."""

    def __init__(self, *arguments: str) -> None:
        self._name = " ".join(arguments[:3])
        # Read by its name: a file that both have open has one position, which reading would move under the writer.
        handle, name = tempfile.mkstemp(prefix="harstream-bench-")
        self._said = Path(name)
        # What is set for a daemon of the user's is not meant for this one.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HARSTREAM_")}
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=handle,
            stderr=handle,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
        os.close(handle)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def said(self) -> str:
        return self._said.read_text(errors="replace").strip() if self._said.exists() else ""

    def check(self) -> None:
        """Raises HarstreamError where it has ended."""
        if self._process.poll() is not None:
            raise HarstreamError(f"bench: {self._name} ended with {self._process.returncode}: {self.said}")

    def wait(self) -> None:
        """Until it has ended by itself; then by force. Raises HarstreamError where it failed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        failed, said = self._process.poll() not in (0, None), self.said
        self.kill()
        if failed:
            raise HarstreamError(f"bench: {self._name} failed: {said}")

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._said.unlink(missing_ok=True)


@contextlib.contextmanager
def process(*arguments: Any) -> Iterator[Process]:
    """It, killed at the end if it still runs then. What is no text is passed as JSON."""
    made = Process(*(part if isinstance(part, str) else json.dumps(part) for part in arguments))
    try:
        yield made
    finally:
        made.kill()


def wait_until(condition: Callable[[], object], what: str, *running: Process, timeout_s: float = 120.0) -> None:
    """Raises HarstreamError where a process ended meanwhile, or time is up."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        for each in running:
            each.check()
        if time.monotonic() > deadline:
            raise HarstreamError(f"bench: waited {timeout_s:.0f} s for {what}")
        time.sleep(0.005)


def cpu_s(pid: int) -> float:
    """Processor time that a process has used, of all its threads (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Resident memory of a process (Linux)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
