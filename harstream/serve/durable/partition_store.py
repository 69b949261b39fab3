"""Two threads that read and write the state of partitions, so that a slow disk holds up nothing else.

They are apart, because whoever takes a partition over must not wait until a write is on disk.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from harstream.serve.durable.failure_log import FailureLog
from harstream.serve.durable.folder import decode, encode
from harstream.serve.durable.partition_files import PartitionFiles

log = logging.getLogger("harstream")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Load:
    """Request to begin a term of a partition and, unless ``only_term``, to read what the last one left."""

    number: int  # of the request
    partition: int
    only_term: bool = False


@dataclass(frozen=True, slots=True)
class Fetched:
    """The disk has given what was asked for; it is still to be made sense of."""


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """Answer to a request."""

    request: Load
    term: int | None  # None: the disk failed
    state: T | None = None  # None: there is none that can be used
    found: bool = False  # there is a file
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Save:
    """State of the devices of a partition, to be written."""

    partition: int
    term: int
    devices: Sequence[str]
    is_last: bool  # another worker goes on with it
    cost_s: float = 0.0  # time that it has held up labels so far
    facts: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Saved:
    """End of an attempt to write, without what was written."""

    partition: int
    term: int
    devices: Sequence[str]
    is_last: bool
    written: bool
    gone: bool = False  # nothing of the partition is left in the folder, so that nobody goes on with it
    cost_s: float = 0.0  # time that it has held up labels, and processor time of the thread
    took_s: float = 0.0


class PartitionStore(Generic[T]):
    """Reader and writer of the state of partitions.

    Args:
        files: Where it is.
        partition_count: Number of partitions of the group, which a file must be of too.
        read: Makes a state of the path, facts and arrays of a file, in the reading thread; it may raise any error if
            these are malformed.
        wake: Called in the threads when there is a result.
        monotonic: Clock for the log.
        on_failure: Called when a thread ends with an error, which is then in ``failure``.

    Attributes:
        results: What the threads have done, for the main loop.

    """

    def __init__(
        self,
        files: PartitionFiles,
        partition_count: int,
        read: Callable[[Path, Mapping[str, Any], Mapping[str, Any]], T],
        wake: Callable[[], None],
        monotonic: Callable[[], float],
        on_failure: Callable[[], None],
    ) -> None:
        self.files, self._partition_count, self._read, self._wake = files, partition_count, read, wake
        self._on_failure = on_failure
        self.failure: BaseException | None = None
        self.results: queue.SimpleQueue[Fetched | Loaded[T] | Saved] = queue.SimpleQueue()
        self._loads: queue.SimpleQueue[Load | None] = queue.SimpleQueue()
        self._saves: queue.SimpleQueue[Save | None] = queue.SimpleQueue()
        self._load_log = FailureLog(files.path, "devices that come from another worker begin anew", monotonic)
        self._save_log = FailureLog(
            files.path,
            "no state can be written, so the next worker of a partition goes on from an older one",
            monotonic,
        )
        self._started = False

    def load(self, request: Load) -> None:
        """Begin a term of a partition, and read its state. The main loop calls this."""
        self._start()
        self._loads.put(request)

    def save(self, save: Save) -> None:
        """Write the state of a partition that was loaded. Any thread may call this."""
        self._saves.put(save)

    def close(self) -> None:
        """End the threads when they have done what was asked for. It does not wait for them: the disk may hang."""
        self._loads.put(None)
        self._saves.put(None)

    def _start(self) -> None:
        if not self._started:
            self._started = True
            for name, run in (("state reader", self._run_loads), ("state writer", self._run_saves)):
                threading.Thread(target=self._guard, args=(run,), name=name, daemon=True).start()

    # --- reading thread -----------------------------------------------------------------------

    def _run_loads(self) -> None:
        while (request := self._loads.get()) is not None:
            self._put(self._load(request))

    def _load(self, request: Load) -> Loaded[T]:
        partition, term = request.partition, None
        try:
            term = self.files.begin_term(partition)
            found = None if request.only_term else self.files.load(partition, term)
        except OSError as error:
            self._load_log.add(error)
            return Loaded(request, term, failed=True)
        except ValueError as error:
            log.warning("state-dir: %s; the devices of partition %d begin anew", error, partition)
            return Loaded(request, term, found=True)
        self._load_log.end()
        if found is None:
            return Loaded(request, term)
        path, data = found
        self._put(Fetched())
        try:
            facts, arrays = decode(data)
            of = facts["partition"], facts["partition_count"]
            if of != (partition, self._partition_count):
                raise ValueError(
                    f"it is of partition {of[0]} of {of[1]}, expected partition {partition} of {self._partition_count}"
                )
            return Loaded(request, term, self._read(path, facts, arrays), found=True)
        except Exception as error:  # whatever is in the file, others wait for the partition
            reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            log.warning("state-dir: %s: %s; the devices of partition %d begin anew", path, reason, partition)
            return Loaded(request, term, found=True)

    # --- writing thread -----------------------------------------------------------------------

    def _run_saves(self) -> None:
        while (save := self._saves.get()) is not None:
            began_s, began_cpu_s = time.monotonic(), time.thread_time()
            written, gone = self._save(save)
            self._put(
                Saved(
                    save.partition,
                    save.term,
                    save.devices,
                    save.is_last,
                    written,
                    gone,
                    save.cost_s + time.thread_time() - began_cpu_s,
                    time.monotonic() - began_s,
                )
            )

    def _save(self, save: Save) -> tuple[bool, bool]:
        """Write a state. Return whether it was written, and whether nothing is left of the partition."""
        partition, term = save.partition, save.term
        try:
            self.files.save(partition, term, encode(save.facts, save.arrays))
        except OSError as error:
            self._save_log.add(error)
        else:
            self._save_log.end()
            return True, False
        if not save.is_last:
            return False, False
        try:
            if self.files.is_over(partition, term):  # another worker goes on already
                return False, False
            self.files.remove(partition, term)
        except OSError:
            return False, False
        return False, True

    # --- both ---------------------------------------------------------------------------------

    def _put(self, result: Fetched | Loaded[T] | Saved) -> None:
        self.results.put(result)
        self._wake()

    def _guard(self, run: Callable[[], None]) -> None:
        """Run a thread; an error in it ends the daemon."""
        try:
            run()
        except BaseException as error:  # a bug; the main loop raises it again
            self.failure = error
            self._on_failure()
