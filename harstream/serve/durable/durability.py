"""Durability of a daemon with ``--state-dir``: messages are kept until they are safe, and its state is restored.

    network thread -> inbox -> main loop -> journal thread -> acknowledgements
                                   |             ^
                                   v             | labels accepted by the broker
                            labelling thread -> checkpoint thread

The main loop numbers the messages (their *position*), of all sources together, and hands them to the journal thread,
which writes them to the journal. A message is acknowledged when it is in the journal on disk and the broker has
accepted the labels of all messages up to it. From time to time the main loop copies the state of the engines, and the
labelling thread that of the smoothers, both after the same message; the checkpoint thread writes them when the labels
up to there are accepted.

After a crash the newest checkpoint is restored, and the messages in the journals after it go through the engine again,
which makes the same windows. Labels that the broker is known to have are not published again. Then the broker sends
what was not acknowledged. Such a message is known by its packet identifier and checksum, if it is in a journal.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from harstream.mqtt.deliveries import MID, REPEATED
from harstream.serve.durable import journal
from harstream.serve.durable.failure_log import FailureLog
from harstream.serve.durable.folder import StateFolder, encode
from harstream.serve.durable.received import Deliveries, checksum_of
from harstream.serve.status import DurabilityStats
from harstream.wire.decoder import Message

#: Work of the main loop after a checkpoint, seconds, after which the next is made: so long takes the way to it again
#: after a crash. A checkpoint may cost at most a twentieth of the time.
_WORK_S, _COST = 0.2, 1 / 20
#: Size of the journals at which a checkpoint is made in any case, bytes.
_MAX_JOURNAL_BYTES = 64 * 2**20
#: Bytes that may wait for the journal, above which no further message is taken: the broker holds those at QoS 1, and
#: the inbox drops others.
_MAX_WAITING_BYTES = 64 * 2**20
#: Bytes of the Python objects that hold a message, beside its payload.
_OVERHEAD_BYTES = 300
#: Pause after a failed write to the journal, and after a failed checkpoint, seconds.
_RETRY_S, _RETRY_CHECKPOINT_S = 1.0, 10.0


class Broker(Protocol):
    """Part of the connection that durable mode uses. All of it may be used in any thread."""

    @property
    def published(self) -> int:
        """Number of messages that were queued for publishing since the start."""

    @property
    def answered(self) -> int:
        """Number of these messages up to which the broker has answered all."""

    def acknowledge(self, deliveries: Sequence[int]) -> None:
        """Acknowledge messages, if the connection on which they came is still there."""


@dataclass(frozen=True, slots=True)
class Restored:
    """State of the last run, of all sources or of one, for the pipelines to take over."""

    facts: Mapping[str, Any]
    arrays: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State after a message: of the engines from the beginning, of the smoothers once the labelling thread adds it."""

    generation: int
    position: int
    facts: dict[str, Any]
    arrays: dict[str, Any]

    def add(self, source: str, facts: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        """Add a part of the state of a source."""
        self.facts["sources"].setdefault(source, {}).update(facts)
        self.arrays.update({f"{source} {name}": array for name, array in arrays.items()})


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A batch for the journal thread: new messages, and all deliveries with the positions that they wait for."""

    record: journal.Messages | None
    deliveries: Sequence[tuple[int, int]]
    n_bytes: int


@dataclass(frozen=True, slots=True)
class _NextJournal:
    """Mark in the order of batches, from which on the journal of another generation is written."""

    generation: int


class Durability:
    """Journal, checkpoints and acknowledgements of a daemon.

    Args:
        path: The state folder.
        monotonic: Clock for the cadence of checkpoints.
        on_failure: Called when one of the threads ends with an error, which is then in ``failure``.

    Raises:
        ConfigError: The folder cannot be used, or what is in it cannot be read.

    """

    def __init__(self, path: Path, monotonic: Callable[[], float], on_failure: Callable[[], None]) -> None:
        self._folder = StateFolder(path)
        self._monotonic = monotonic
        self._on_failure = on_failure
        self.stats = DurabilityStats()
        self.failure: BaseException | None = None
        loaded = self._folder.load()
        self._restored = None if loaded is None else Restored(loaded[1], loaded[2])
        #: Topic filters of the session when the last checkpoint was made; None without a checkpoint.
        self.subscriptions: Sequence[str] | None = None if loaded is None else list(loaded[1]["subscriptions"])
        self._generation = 0 if loaded is None else loaded[0]
        self._deliveries = Deliveries()
        self.position = 0  # of the last message that was admitted
        if loaded is not None:
            self.position = int(loaded[1]["position"])
            self._deliveries.restore(loaded[2]["deliveries"])
        # Main loop.
        self._work_s = 0.0  # since the last checkpoint
        self._wanted = False  # a checkpoint is asked for
        self._admitted_bytes = 0  # since the start
        self._first_generation = self._next_generation = self._folder.new_generation()
        # Journal thread.
        self._written_bytes = 0  # of _admitted_bytes
        self._broker: Broker | None = None
        self._items: queue.SimpleQueue[_Admitted | journal.Evicted | _NextJournal | None] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._labelled: deque[tuple[int, int]] = deque()  # position, and number of messages published up to it
        self._cut_short = False  # some of what was to be published was given up
        self._pending: deque[tuple[int, int]] = deque()  # position and delivery, until both are safe
        self._journaled = self._accepted = self.position  # the latter: the broker has the labels up to there
        self._told = self.position  # accepted according to the journal
        self._log = FailureLog(self._folder.path, "nothing is acknowledged until it can be written", monotonic)
        self._writer: journal.JournalWriter | None = None  # None before the start, and after a stop on a full disk
        # Checkpoint thread.
        self._changed = threading.Condition()
        self._safe = self.position  # position up to which messages are in the journal and labels accepted
        self._answered = 0  # number of published messages that the broker has answered
        self._to_save: tuple[Checkpoint, int] | None = None  # and the number of messages published before it
        self._checkpoint_log = FailureLog(
            self._folder.path, "no checkpoint can be written, so the journals grow", monotonic
        )
        self._busy_until_s = 0.0  # the next checkpoint is not begun before; infinite while one is on its way
        self._ending = False  # after the end of the journal thread
        self._stopping = threading.Event()
        self._journal_thread = threading.Thread(target=self._guard, args=(self._run_journal,), name="journal")
        self._checkpoint_thread = threading.Thread(target=self._guard, args=(self._run_checkpoints,), name="checkpoint")
        for thread in (self._journal_thread, self._checkpoint_thread):
            thread.daemon = True

    # --- start, in the main thread ------------------------------------------------------------

    def take_restored(self) -> Restored | None:
        """Return the state of the last run once, so that its memory is free again; None without a checkpoint."""
        restored, self._restored = self._restored, None
        return restored

    def connect(self, broker: Broker) -> None:
        """Use a connection, before anything is labelled."""
        self._broker = broker

    def records(self) -> Iterator[tuple[journal.Messages | journal.Evicted, bool]]:
        """Yield what came after the checkpoint, and whether the broker has all that was published because of it.

        Raises:
            ConfigError: A journal cannot be read.

        """
        start = self.position
        records = list(self._folder.records(self._generation))
        accepted = max([start, *(record.position for record in records if isinstance(record, journal.Labelled))])
        for record in records:
            if isinstance(record, journal.Messages):
                self.position = record.position
                first = record.position - len(record.messages)
                for number, message in enumerate(record.messages, first + 1):
                    if message.delivery:
                        self._deliveries.note(message.delivery & MID, checksum_of(message), number)
                self.stats.restored += len(record.messages)
            if isinstance(record, journal.Messages):
                yield record, self.position <= accepted
            elif isinstance(record, journal.Evicted):  # what it caused was published before the labels that follow
                yield record, self.position < accepted
        self._journaled = self.position

    def start(self) -> None:
        """Start to write the journal and to acknowledge. On a full disk nothing is acknowledged until there is room."""
        self._next_generation += 1
        self._wanted = True
        self._journal_thread.start()
        self._checkpoint_thread.start()

    # --- main loop ----------------------------------------------------------------------------

    def admit(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Give numbers to messages and hand them to the journal. Return those that are new."""
        new: list[Message] = []
        deliveries: list[tuple[int, int]] = []
        known, position = self._deliveries, self.position
        for message in messages:
            if message.delivery:
                mid, checksum = message.delivery & MID, checksum_of(message)
                if message.delivery & REPEATED and (before := known.find(mid, checksum)) is not None:
                    self.stats.repeated += 1
                    deliveries.append((before, message.delivery))
                    continue
                known.note(mid, checksum, position + 1)
                deliveries.append((position + 1, message.delivery))
            position += 1
            new.append(message)
        self.position = position
        self.stats.delivered += len(deliveries)
        n_bytes = sum([len(message[1]) for message in new]) + _OVERHEAD_BYTES * len(messages)
        self._admitted_bytes += n_bytes
        self._items.put(_Admitted(journal.Messages(position, new) if new else None, deliveries, n_bytes))
        self._wake.set()
        return new

    @property
    def has_room(self) -> bool:
        """False while the journal cannot be written as fast as messages come, such as on a full disk."""
        return self._admitted_bytes - self._written_bytes < _MAX_WAITING_BYTES

    def note_evicted(self, source: str, devices: Sequence[str]) -> None:
        """Write to the journal that devices of a source were evicted."""
        if devices:
            self._items.put(journal.Evicted(source, devices))
            self._wake.set()

    def ask_for_checkpoint(self) -> None:
        """Make a checkpoint soon, such as after a change of the model. Any thread may call this."""
        self._wanted = True

    def checkpoint_due(self, work_s: float) -> bool:
        """Add to the work since the last checkpoint, and return True if it is time for the next."""
        self._work_s += work_s
        if self._monotonic() < self._busy_until_s:
            return False
        return self._wanted or self._work_s >= _WORK_S or self.stats.journal_bytes >= _MAX_JOURNAL_BYTES

    def begin_checkpoint(self, subscriptions: Sequence[str]) -> Checkpoint:
        """Return a checkpoint after the last admitted message, for the state of each source; a journal begins here.

        Args:
            subscriptions: Topic filters in use.

        """
        self._wanted, self._work_s, self._busy_until_s = False, 0.0, float("inf")
        generation = self._next_generation
        self._next_generation += 1
        self._items.put(_NextJournal(generation))
        self._wake.set()
        facts = {"position": self.position, "subscriptions": list(subscriptions), "sources": {}}
        return Checkpoint(generation, self.position, facts, {"deliveries": self._deliveries.to_array()})

    # --- labelling thread ---------------------------------------------------------------------

    def note_labelled(self, position: int) -> None:
        """Note that the labels of all messages up to ``position`` are queued for publishing."""
        assert self._broker is not None
        if self._cut_short:
            return
        self._labelled.append((position, self._broker.published))
        self._wake.set()

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint once everything that was published before it is accepted."""
        assert self._broker is not None
        if self._cut_short:
            return
        with self._changed:
            self._to_save = checkpoint, self._broker.published
        self._wake.set()

    def cut_short(self) -> None:
        """Note that something could not be published: neither that nor what comes later is acknowledged or saved."""
        self._cut_short = True

    @property
    def is_cut_short(self) -> bool:
        """True after ``cut_short``. The next daemon publishes what is missing."""
        return self._cut_short

    # --- network thread -----------------------------------------------------------------------

    def note_answers(self) -> None:
        """Look soon for labels that the broker has answered."""
        self._wake.set()

    # --- journal thread -----------------------------------------------------------------------

    def _run_journal(self) -> None:
        self._attempt(lambda: self._open(self._first_generation))
        while True:
            self._wake.wait()
            self._wake.clear()
            items = []
            while not self._items.empty():
                items.append(self._items.get())
            self._write(items)
            self._release()
            if None in items:
                return

    def _write(self, items: Sequence[_Admitted | journal.Evicted | _NextJournal | None]) -> None:
        """Write what has come, and wait until it is on disk."""
        data: list[bytes] = []
        position, n_bytes = self._journaled, 0
        for item in items:
            match item:
                case _Admitted(record, deliveries, size):
                    n_bytes += size
                    self._pending.extend(deliveries)
                    if record is not None:
                        data.append(journal.encode(record))
                        position = record.position
                case journal.Evicted():
                    data.append(journal.encode(item))
                case _NextJournal(generation):
                    self._append(b"".join(data), position)
                    data = []
                    if self._writer is not None:
                        self._attempt(lambda: self._open(generation))
        self._append(b"".join(data), position)
        self._written_bytes += n_bytes

    def _append(self, data: bytes, position: int) -> None:
        """Append records, of which the last message has this position, unless the daemon stops on a full disk."""
        if not data or self._writer is None:
            return

        def write() -> None:
            assert self._writer is not None
            self._writer.write(data)
            self.stats.journal_bytes = self._writer.size

        if self._attempt(write):
            self._journaled = position

    def _open(self, generation: int) -> None:
        writer = self._folder.open_journal(generation)
        if self._writer is not None:
            self._writer.close()
        self._writer = writer
        self.stats.journal_bytes = writer.size

    def _attempt(self, write: Callable[[], None]) -> bool:
        """Write, again and again if the disk is full. Meanwhile nothing is acknowledged, so the broker holds.

        Return False if the daemon stops before it succeeds. Then nothing is written any more, because a smaller record
        might find room, and would follow a gap.
        """
        while not self._try(write):
            if self._stopping.wait(_RETRY_S):
                if self._writer is not None:
                    self._writer.close()
                    self._writer = None
                return False
        return True

    def _try(self, write: Callable[[], None], failures: FailureLog | None = None) -> bool:
        failures = failures or self._log
        try:
            write()
        except OSError as error:
            self.stats.failures += 1
            failures.add(error)
            return False
        failures.end()
        return True

    def _release(self) -> None:
        """Acknowledge the messages that are in the journal and whose labels the broker has."""
        assert self._broker is not None
        answered = self._broker.answered
        while self._labelled and self._labelled[0][1] <= answered:
            self._accepted = self._labelled.popleft()[0]
        # Labels may be accepted before the messages are written; after a crash their positions belong to others.
        safe = min(self._journaled, self._accepted)
        if safe > self._told and self._writer is not None:
            self._told = safe
            self._try(partial(self._writer.write, journal.encode(journal.Labelled(safe)), sync=False))
        with self._changed:
            self._safe, self._answered = safe, answered
            if self._to_save is not None:
                self._changed.notify_all()
        ready = []
        while self._pending and self._pending[0][0] <= safe:
            ready.append(self._pending.popleft()[1])
        if ready:
            self._broker.acknowledge(ready)
            self.stats.acknowledged += len(ready)

    # --- checkpoint thread --------------------------------------------------------------------

    def _run_checkpoints(self) -> None:
        while self._save_next():
            pass

    def _save_next(self) -> bool:
        """Wait for a checkpoint that may be written, and write it. Return False at the end.

        Nothing of it stays in memory afterwards: it is as large as the state of all devices.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ending or self._may_save())
            if not self._may_save():
                return False
            assert self._to_save is not None
            (checkpoint, _), self._to_save = self._to_save, None
        started_s = self._monotonic()
        data = encode(checkpoint.facts, checkpoint.arrays)
        saved = self._try(partial(self._folder.save, checkpoint.generation, data), self._checkpoint_log)
        self.stats.checkpoints += saved
        self.stats.checkpoint_s = self._monotonic() - started_s
        pause_s = self.stats.checkpoint_s / _COST if saved else _RETRY_CHECKPOINT_S
        self._busy_until_s = self._monotonic() + pause_s
        return True

    def _may_save(self) -> bool:
        if self._to_save is None:
            return False
        checkpoint, published = self._to_save
        return checkpoint.position <= self._safe and published <= self._answered

    # --- stop, in the main thread -------------------------------------------------------------

    def finish(self) -> None:
        """Write what is waiting, acknowledge what is safe, and end the threads. Call it after the last label."""
        self._stopping.set()
        if self._journal_thread.is_alive():
            self._items.put(None)
            self._wake.set()
            self._journal_thread.join()
            with self._changed:
                self._ending = True
                self._changed.notify_all()
            self._checkpoint_thread.join()
        if self._writer is not None:
            self._writer.close()
        self._folder.close()

    def _guard(self, run: Callable[[], None]) -> None:
        """Run a thread; an error in it ends the daemon."""
        try:
            run()
        except BaseException as error:  # a bug; the main loop raises it again
            self.failure = error
            self._on_failure()
