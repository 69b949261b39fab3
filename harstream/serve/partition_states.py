"""State of the devices of a worker's partitions in the folder that its group shares: when it is read and written.

Everything here runs in the main loop. A partition is read before it is subscribed to, and written after the labels of
its last message, so that the next worker goes on where this one ended. Meanwhile the partitions that have changed are
written in turn, for the worker that goes on after a crash. The messages themselves are not kept.

A copy of the engine's state of one partition is made in the main loop; the labelling thread adds the smoother's after
the same message; the store's thread writes it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from harstream.serve.durable.failure_log import FailureLog
from harstream.serve.durable.partition_store import Fetched, Load, Loaded, PartitionStore, Save, Saved
from harstream.serve.label_state import PartitionState
from harstream.serve.labelling import DevicesAdopted, DevicesLost, Labelling, PartitionDue
from harstream.serve.pipeline import Pipeline
from harstream.serve.status import DurabilityStats

#: Time without progress after which a disk is not waited for any longer, seconds: by who takes a partition over, and by
#: who gives it up.
LOAD_S, SAVE_S = 1.5, 2.0
#: Shortest time from one writing of a partition to the next, seconds, and largest share of the time that this may cost.
SAVE_EVERY_S = 10.0
_COST = 1 / 20
#: Pause after the disk failed, seconds.
_RETRY_S = 10.0


@dataclass(slots=True)
class _Term:
    """Term of a partition that is served here."""

    request: int  # by which the number was asked for
    number: int | None  # None: it is not known yet, so that nothing can be written
    again_s: float = math.inf  # when to ask for the number again
    written_s: float = -math.inf  # time of the state that was written last, and its devices
    devices: Sequence[str] = ()
    changed: bool = False  # since then, in another way than by samples


@dataclass(slots=True)
class _Leaving:
    """Partitions that are given up."""

    waiting: dict[int, Sequence[str]]  # those that are being written, with their devices
    then: Callable[[], None]
    go_on: list[str] = field(default_factory=list)  # devices whose activities go on with the next worker
    ended: list[str] = field(default_factory=list)  # devices whose activities end here


class PartitionStates:
    """Reads the state of partitions that are gained, and writes that of the served ones.

    Args:
        pipeline: Source.
        labelling: Thread with the smoother.
        store: Threads that read and write.
        partition_count: Number of partitions of the group.
        gained: Called with a partition whose devices may send from now on.
        monotonic: Clock.

    """

    def __init__(
        self,
        pipeline: Pipeline,
        labelling: Labelling,
        store: PartitionStore[PartitionState],
        partition_count: int,
        gained: Callable[[int], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._pipeline, self._labelling, self.store = pipeline, labelling, store
        self._partition_count, self._gained, self._monotonic = partition_count, gained, monotonic
        self.stats = DurabilityStats()
        self._requests = 0  # so far
        self._loading: dict[int, Load] = {}
        self._load_until_s = math.inf  # when to go on without the state of what is being read
        self._terms: dict[int, _Term] = {}
        self._leaving: list[_Leaving] = []
        self._round: list[tuple[int, list[str]]] = []  # partitions still to be looked at in this round, with devices
        self._next_round_s = self._next_save_s = -math.inf
        self._saving: tuple[int, float] | None = None  # partition that is written in its turn, and since when
        self._begun_s: deque[float] = deque()  # when what is being written was handed over, in order
        self._saved_s = -math.inf  # when something was written last, or could not be
        self._slow_log = FailureLog(store.files.path, "labels go on without it", monotonic)

    @property
    def is_waiting(self) -> bool:
        """True while somebody waits for the disk."""
        return bool(self._loading or self._leaving)

    @property
    def is_leaving(self) -> bool:
        """True while partitions that were given up are being written."""
        return bool(self._leaving)

    @property
    def has_results(self) -> bool:
        """True if the store has done something."""
        return not self.store.results.empty()

    def load(self, partitions: Collection[int], now_s: float) -> None:
        """Read the state of partitions that shall be served, and call ``gained`` with each."""
        for partition in partitions:
            self._loading[partition] = self._ask(partition)
        self._load_until_s = now_s + LOAD_S

    def _ask(self, partition: int, *, only_term: bool = False) -> Load:
        self._requests += 1
        request = Load(self._requests, partition, only_term)
        self.store.load(request)
        return request

    def lose(self, partitions: Collection[int], now_s: float, then: Callable[[], None]) -> list[str]:
        """Write the state of partitions that are given up, forget it here, and return their devices.

        No samples are pending in the engine.

        Args:
            partitions: The partitions.
            now_s: Monotonic time.
            then: Called when the last labels and events of the devices are published, and the state is written or the
                wait for the disk has ended. The next worker waits for that.

        """
        leaving, hangs = _Leaving({}, then), self._hangs(now_s)
        by_partition = self._devices_by_partition(partitions)
        for partition in partitions:
            term, devices = self._terms.pop(partition, None), by_partition.get(partition, [])
            if term is None or term.number is None:
                leaving.ended += devices
            elif hangs or not self._has_changed(partition, term, devices):  # copies would pile up in memory
                leaving.go_on += devices
            else:
                leaving.waiting[partition] = devices
                self._save(partition, term.number, devices, is_last=True)
        devices = self._pipeline.engine.forget([device for each in by_partition.values() for device in each])
        self._leaving.append(leaving)
        self._let_go(now_s)
        return devices

    def note_evicted(self, devices: Sequence[str]) -> None:
        """Note devices that were evicted: the state of their partitions has changed."""
        known = self._pipeline.decoder.partition_by_device
        for partition in {known[device] for device in devices if device in known}:
            if partition in self._terms:
                self._terms[partition].changed = True

    def step(self, now_s: float, lease_end_s: float) -> None:
        """Take what the disk has answered, give up waiting for it after a while, and write the next partition in turn.

        Args:
            now_s: Monotonic time.
            lease_end_s: When others may take over, monotonic.

        """
        self._take_results(now_s, lease_end_s)
        if self._loading and now_s > self._load_until_s and not self.has_results:
            self._note_slow("reading", LOAD_S)
            for partition, request in self._loading.items():
                self._begin(partition, _Term(request.number, None, changed=True))
            self._loading = {}
        self._let_go(now_s)
        if self._saving is not None and now_s > self._saving[1] + _RETRY_S:
            self._note_slow("writing", _RETRY_S)
        if now_s <= lease_end_s and now_s >= self._next_save_s and self._saving is None:
            self._write_next(now_s)

    def _take_results(self, now_s: float, lease_end_s: float) -> None:
        """Take what the disk has answered. Of several states that were read, the others wait until labels are made."""
        while self.has_results:
            match self.store.results.get():
                case Fetched():
                    self._load_until_s = now_s + LOAD_S
                case Loaded() as loaded:
                    self._take_loaded(loaded, now_s, lease_end_s)
                    if loaded.state is not None:
                        return
                case Saved() as saved:
                    self._take_saved(saved, now_s)

    # --- what was read ------------------------------------------------------------------------

    def _take_loaded(self, loaded: Loaded[PartitionState], now_s: float, lease_end_s: float) -> None:
        request, term = loaded.request, loaded.term
        partition = request.partition
        self.stats.failures += loaded.failed
        again_s = now_s + _RETRY_S if term is None else math.inf
        if self._loading.get(partition) == request:
            del self._loading[partition]
            self._load_until_s = now_s + LOAD_S
            if loaded.state is not None:
                self._adopt(partition, loaded.state, now_s)
            # What was found and could not be used must not be read by the next worker.
            self._begin(partition, _Term(request.number, term, again_s, changed=loaded.found))
        # An answer that comes late. While the lease lasts nobody has taken over, so a later term is not begun yet.
        elif (served := self._terms.get(partition)) is not None and served.request == request.number:
            served.number = term if now_s <= lease_end_s else None
            served.again_s = again_s if now_s <= lease_end_s else now_s + _RETRY_S

    def _adopt(self, partition: int, state: PartitionState, now_s: float) -> None:
        """Let the devices of a state go on here."""
        engine = self._pipeline.engine
        devices = [] if state.engine is None else engine.adopt(state.engine, now_s)
        self._pipeline.decoder.partition_by_device.update(dict.fromkeys(devices, partition))
        self.stats.devices_restored += len(devices)
        self._labelling.hand_over_early(DevicesAdopted(self._pipeline, state.labels, devices))

    def _begin(self, partition: int, term: _Term) -> None:
        self._terms[partition] = term
        self._gained(partition)

    # --- what is written ----------------------------------------------------------------------

    def _write_next(self, now_s: float) -> None:
        """Write the next partition that has changed since it was written."""
        if self._pipeline.engine.n_pending:
            return
        if not self._round:
            if now_s < self._next_round_s:
                return
            self._next_round_s = now_s + SAVE_EVERY_S
            by_partition = self._devices_by_partition(self._terms)
            self._round = [(partition, by_partition.get(partition, [])) for partition in self._terms]
        while self._round:
            partition, devices = self._round.pop()
            term = self._terms.get(partition)
            if term is None:
                continue
            if term.number is None:
                if now_s >= term.again_s:
                    term.again_s, term.request = math.inf, self._ask(partition, only_term=True).number
            elif self._has_changed(partition, term, devices):
                term.written_s, term.devices, term.changed = now_s, devices, False
                self._saving = partition, now_s
                self._save(partition, term.number, devices, is_last=False)
                return

    def _has_changed(self, partition: int, term: _Term, devices: Sequence[str]) -> bool:
        """Return whether a partition with these devices has changed since it was written, or is still being written."""
        if term.changed or devices != term.devices or self._pipeline.engine.last_accepted_s(devices) >= term.written_s:
            return True
        return self._saving is not None and self._saving[0] == partition

    def _hangs(self, now_s: float) -> bool:
        """Return whether the disk has taken too long for what is to be written."""
        return bool(self._begun_s) and now_s > max(self._begun_s[0], self._saved_s) + SAVE_S

    def _save(self, partition: int, term: int, devices: Sequence[str], *, is_last: bool) -> None:
        began_s = self._monotonic()
        facts = {"partition": partition, "partition_count": self._partition_count}
        arrays = {f"engine {name}": array for name, array in self._pipeline.engine.snapshot(devices).items()}
        save = Save(partition, term, devices, is_last, self._monotonic() - began_s, facts, arrays)
        self._labelling.hand_over(PartitionDue(self._pipeline, save, self.store.save))
        self._begun_s.append(self._monotonic())

    def _take_saved(self, saved: Saved, now_s: float) -> None:
        self.stats.failures += not saved.written
        self.stats.checkpoints += saved.written
        self.stats.checkpoint_s = saved.took_s
        self._begun_s.popleft()
        self._saved_s = now_s
        if not saved.is_last:
            self._saving = None
            self._next_save_s = now_s + (saved.cost_s / _COST if saved.written else _RETRY_S)
            served = self._terms.get(saved.partition)
            if served is not None and served.number == saved.term and not saved.written:
                served.changed = True
            return
        for leaving in self._leaving:
            if leaving.waiting.get(saved.partition) is saved.devices:
                del leaving.waiting[saved.partition]
                (leaving.ended if saved.gone else leaving.go_on).extend(saved.devices)

    def _let_go(self, now_s: float) -> None:
        """Let other workers go on with partitions that are written, or for which the disk has taken too long."""
        hangs = self._hangs(now_s)
        for leaving in [each for each in self._leaving if hangs or not each.waiting]:
            self._leaving.remove(leaving)
            if leaving.waiting:
                self._note_slow("writing", SAVE_S)
            for devices in leaving.waiting.values():  # the next worker goes on from what was written before
                leaving.go_on += devices
            self._labelling.hand_over(DevicesLost(self._pipeline, leaving.ended, leaving.then, leaving.go_on))

    def _note_slow(self, what: str, seconds: float) -> None:
        self.stats.failures += 1
        self._slow_log.add(TimeoutError(f"{what} takes more than {seconds:g} s"))

    def _devices_by_partition(self, partitions: Collection[int]) -> dict[int, list[str]]:
        """Return the devices of each of some partitions, also those without state."""
        found: dict[int, list[str]] = {}
        for device, partition in self._pipeline.decoder.partition_by_device.items():
            if partition in partitions:
                found.setdefault(partition, []).append(device)
        return found
