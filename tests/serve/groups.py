"""Groups of workers in simulated time: real `Workers`, without threads, sockets and clocks."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import paho.mqtt.client as paho

from harstream.config import RunConfig
from harstream.mqtt.subscriptions import Subscriptions
from harstream.serve.takeover import Gained, Lost
from harstream.serve.workers import Workers

TOPIC = "p/{partition}/wearables/{device}/imu"
TICK_S = 0.1


class SimulatedClient:
    """Stands for the client of a connection whose subscriptions change."""

    protocol = paho.MQTTv311

    def __init__(self, worker: SimulatedWorker, subscriptions: Subscriptions) -> None:
        self._worker, self._subscriptions, self._mids = worker, subscriptions, itertools.count(1)

    def subscribe(self, topics: list[tuple[str, int]]) -> tuple[int, int]:
        mid, site = next(self._mids), self._worker.site
        refuses = tuple(self._worker.refuses)
        codes = [SimpleNamespace(is_failure=name.startswith(refuses)) for name, _ in topics]
        site.after(site.delay_s(), lambda: self._subscriptions.take_suback(mid, codes))
        return 0, mid

    def unsubscribe(self, topics: list[str]) -> tuple[int, int]:
        mid, site = next(self._mids), self._worker.site
        site.after(site.delay_s(), lambda: self._subscriptions.take_unsuback(mid))
        return 0, mid


class SimulatedWorker:
    """Worker with its connections. ``running`` False: the process stands still; ``alive`` False: it was killed."""

    def __init__(self, site: Site, number: int, workers: int) -> None:
        self.site, self.number = site, number
        self.alive = self.running = True
        self.connected = self.able = False  # connections for heartbeats, and for samples
        self.refuses: set[str] = set()  # beginnings of topic filters that the broker refuses
        self.asked: list[Gained | Lost] = []
        config = RunConfig(topic=TOPIC, worker=f"{number}/{workers}", partition_count=site.partition_count)
        takeover: Any = SimpleNamespace(ask=self._ask, confirm=None, closed=frozenset())
        self._takeover = takeover
        self.workers = Workers(config, takeover, lambda: self.able, lambda: site.now_s, on_failure=lambda: None)
        self.workers._connection = self  # type: ignore[assignment]
        self._subscriptions = (self.workers.subscriptions, self.workers._guests)

    # --- stands for the connections -------------------------------------------------------------

    @property
    def ready(self) -> bool:
        return self.connected

    def publish(self, topic: str, payload: bytes, *, qos: int) -> bool:
        if self.connected and self.site.broker:
            self.site.publish(topic, payload)
        return self.connected

    def _ask(self, change: Gained | Lost) -> None:
        """Let the main loop take its time."""
        self.site.after(self.site.delay_s(), lambda: self._takeover.confirm(change))

    def connect(self, connected: bool) -> None:
        """Make or lose both connections."""
        self.connected = connected
        self.connect_samples(connected)

    def connect_samples(self, connected: bool) -> None:
        """Make or lose the connections for samples."""
        for subscriptions in self._subscriptions:
            if connected and not self.able:
                subscriptions.open(SimulatedClient(self, subscriptions))  # type: ignore[arg-type]
            elif not connected:
                subscriptions.close()
        self.able = connected

    @property
    def served(self) -> frozenset[int]:
        """Partitions of which samples become labels now."""
        if not (self.alive and self.running and self.able):
            return frozenset()
        template = self.workers._config.sources[0].samples_template
        accepted = frozenset().union(*(each.accepted for each in self._subscriptions))
        return frozenset(template.partition(name) for name in accepted)  # type: ignore[misc]


class Site:
    """Broker and workers. ``broker`` False: it loses every message."""

    def __init__(self, workers: int = 4, partition_count: int = 16, seed: int = 1) -> None:
        self.partition_count, self.now_s, self.broker = partition_count, 1000.0, True
        self.random = random.Random(seed)
        self._due: list[tuple[float, int, Callable[[], Any]]] = []
        self._order = itertools.count()
        self.workers: list[SimulatedWorker] = []
        self.size = workers
        self.doubled_s = [0.0] * partition_count  # time with several workers, and without any
        self.missing_s = [0.0] * partition_count

    def delay_s(self) -> float:
        return self.random.uniform(0.001, 0.05)

    def after(self, delay_s: float, function: Callable[[], Any]) -> None:
        heapq.heappush(self._due, (self.now_s + delay_s, next(self._order), function))

    def start(self, number: int, workers: int = 0) -> SimulatedWorker:
        worker = SimulatedWorker(self, number, workers or self.size)
        worker.connect(True)
        self.workers.append(worker)
        return worker

    def publish(self, topic: str, payload: bytes) -> None:
        delay_s = self.delay_s()
        for worker in self.workers:
            if worker.connected:
                self.after(delay_s, partial(self._deliver, worker, topic, payload))

    def _deliver(self, worker: SimulatedWorker, topic: str, payload: bytes) -> None:
        if worker.connected and worker.alive and self.broker:  # one that stands still reads it later
            worker.workers._hear(topic, payload, False)

    def kill(self, worker: SimulatedWorker) -> None:
        worker.alive = False
        worker.connect(False)

    def run(self, seconds: float) -> None:
        """Let time pass, and add up how long partitions had no worker or several."""
        for _ in range(round(seconds / TICK_S)):
            self.now_s += TICK_S
            while self._due and self._due[0][0] <= self.now_s:
                heapq.heappop(self._due)[2]()
            for worker in self.workers:
                if worker.alive and worker.running:
                    worker.workers._step(self.now_s)
            for partition, servers in enumerate(self.servers()):
                self.doubled_s[partition] += TICK_S * (len(servers) > 1)
                self.missing_s[partition] += TICK_S * (not servers)

    def servers(self) -> list[list[int]]:
        """Return the numbers of the workers that serve each partition."""
        served = [(worker.number, worker.served) for worker in self.workers]
        return [
            [number for number, partitions in served if partition in partitions]
            for partition in range(self.partition_count)
        ]

    def forget(self) -> None:
        """Forget how long partitions had no worker or several so far."""
        self.doubled_s = [0.0] * self.partition_count
        self.missing_s = [0.0] * self.partition_count
