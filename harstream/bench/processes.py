"""Processes of a measurement: start, end, output, processor time and memory."""

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

#: Time that a process has to end by itself, in s.
_END_TIMEOUT_S = 30.0


class Process:
    """Process ``python ARGUMENTS`` whose output is kept, for the error message if it fails."""

    def __init__(self, *arguments: str) -> None:
        self._name = " ".join(arguments[:3])
        # Output is read by the name of the file: with a shared handle, reading would move the position of the writer.
        handle, name = tempfile.mkstemp(prefix="harstream-bench-")
        self._output = Path(name)
        # Settings of the user's own daemon must not reach this one.
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
        """Process id."""
        return self._process.pid

    @property
    def output(self) -> str:
        """Standard output and standard error so far."""
        return self._output.read_text(errors="replace").strip() if self._output.exists() else ""

    def check(self) -> None:
        """Check that the process still runs.

        Raises:
            HarstreamError: It has ended.

        """
        if self._process.poll() is not None:
            raise HarstreamError(f"bench: {self._name} ended with exit code {self._process.returncode}: {self.output}")

    def wait(self) -> None:
        """Wait until the process ends by itself; kill it after 30 s.

        Raises:
            HarstreamError: Its exit code is not 0.

        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_TIMEOUT_S)
        code, output = self._process.poll(), self.output
        self.kill()
        if code not in (0, None):
            raise HarstreamError(f"bench: {self._name} failed with exit code {code}: {output}")

    def kill(self) -> None:
        """Kill the process if it still runs, and delete its output."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._output.unlink(missing_ok=True)


@contextlib.contextmanager
def process(*arguments: Any) -> Iterator[Process]:
    """Start ``python ARGUMENTS`` and kill it at the end of the block. Arguments other than str are passed as JSON."""
    started = Process(*(part if isinstance(part, str) else json.dumps(part) for part in arguments))
    try:
        yield started
    finally:
        started.kill()


def wait_until(condition: Callable[[], object], what: str, *running: Process, timeout_s: float = 120.0) -> None:
    """Wait until ``condition`` is true; ``what`` describes it in the error.

    Raises:
        HarstreamError: One of the ``running`` processes ended meanwhile, or ``timeout_s`` has passed.

    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        for each in running:
            each.check()
        if time.monotonic() > deadline:
            raise HarstreamError(f"bench: gave up after {timeout_s:.0f} s of waiting for {what}")
        time.sleep(0.005)


def cpu_s(pid: int) -> float:
    """Return the processor time of all threads of a process, in s (Linux only)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process (Linux only)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
