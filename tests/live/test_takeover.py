"""Workers as processes behind a real mosquitto: killed, stopped, overloaded, and with their broker away."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from harstream.publish import ENCODERS
from harstream.simulate.source import sources

from ..constants import T0_NS
from ..servers import Client, Mosquitto, Process, http_get, metric, wait_until

pytestmark = pytest.mark.slow
N_WORKERS, N_PARTITIONS, BLOCK = 3, 12, 64
GAINED, LOST = (f'harstream_partition_changes_total{{change="{change}"}}' for change in ("gained", "lost"))


class Worker:
    """Worker whose labels tell who made them."""

    def __init__(self, folder: Path, model: Path, port: int, number: int) -> None:
        flags = ["--broker", f"mqtt://127.0.0.1:{port}", "--model", str(model), "--http", "127.0.0.1:0"]
        flags += ["--topic", "p/{partition}/wearables/{device}/imu", "--partition-count", str(N_PARTITIONS)]
        flags += ["--worker", f"{number}/{N_WORKERS}", "--instance", f"w{number}"]
        flags += ["--labels-topic", f"labels/w{number}/{{device}}", "--events-topic", "off"]
        self.number = number
        self.process = Process("run", *flags, folder=folder)

    def metric(self, series: str) -> float:
        address = re.search(r"http (http://\S+)", self.process.err)
        assert address
        return metric(http_get(f"{address[1]}/metrics")[1], series)


class Site:
    """Broker, workers, and twelve devices, one in each partition."""

    def __init__(self, folder: Path, model: Path) -> None:
        self._folder, self._model = folder, model
        self.broker = Mosquitto(folder).start()
        self.workers = [self.start(number) for number in range(N_WORKERS)]
        for worker in self.workers:
            worker.process.wait_for(" ready: ")
        self._sources = list(sources(N_PARTITIONS, seed=5))
        self._number = 0  # of the next block of every device
        self.client = Client(self.broker.port, "labels/+/+")

    def start(self, number: int) -> Worker:
        return Worker(self._folder, self._model, self.broker.port, number)

    def publish(self) -> None:
        """Publish the samples of one stride of every device."""
        t_ns = T0_NS + self._number * round(BLOCK * 1e9 / 50)
        self._number += 1
        for partition, source in enumerate(self._sources):
            payload = ENCODERS["packed"](t_ns, 50.0, source.read(BLOCK))
            self.client.publish(f"p/{partition}/wearables/d{partition}/imu", payload)

    def labels(self) -> list[tuple[str, str, bytes]]:
        """Return worker, device and message of every label so far."""
        return [
            (topic.split("/")[1], topic.split("/")[2], payload)
            for topic, payload, retained in list(self.client.messages)
            if payload and not retained
        ]

    def repeated(self) -> list[tuple[str, float]]:
        """Return device and end of the windows that were labelled twice."""
        windows = Counter((device, json.loads(payload)["t"]) for _, device, payload in self.labels())
        return [window for window, number in windows.items() if number > 1]

    def wait_for_labels_of(self, *workers: str) -> None:
        """Publish until the newest labels of the devices come from these workers, in the order of the partitions."""

        def come() -> bool:
            self.publish()
            newest = {device: worker for worker, device, _ in self.labels()}
            return [newest.get(f"d{partition}") for partition in range(N_PARTITIONS)] == list(workers)

        pause = threading.Event()
        wait_until(lambda: come() or pause.wait(0.3), f"labels of {workers}")

    def changes(self) -> list[tuple[float, float]]:
        """Return how many partitions each worker has gained and lost."""
        return [(worker.metric(GAINED), worker.metric(LOST)) for worker in self.workers]

    def close(self) -> None:
        self.client.__exit__()
        for worker in self.workers:
            worker.process.__exit__()
        self.broker.stop()


@pytest.fixture
def site(tmp_path: Path, random_bundle: Path) -> Iterator[Site]:
    made = Site(tmp_path, random_bundle)
    yield made
    made.close()


HOMES = ("w0", "w1", "w2") * 4


def test_a_killed_worker_is_relieved_and_gets_its_partitions_back(site):
    site.wait_for_labels_of(*HOMES)
    site.workers[1].process.send(signal.SIGKILL)
    site.wait_for_labels_of("w0", "w2", "w2", "w0", "w0", "w2", "w0", "w2", "w2", "w0", "w0", "w2")
    site.workers[1] = site.start(1)
    site.wait_for_labels_of(*HOMES)
    assert site.repeated() == []


def test_a_stopped_worker_is_relieved_and_continues_when_it_may(site):
    site.wait_for_labels_of(*HOMES)
    site.workers[2].process.send(signal.SIGSTOP)
    site.wait_for_labels_of("w0", "w1", "w0", "w0", "w1", "w1", "w0", "w1", "w0", "w0", "w1", "w1")
    for _ in range(20):  # its connection still takes these
        site.publish()
    site.client.flush()
    site.workers[2].process.send(signal.SIGCONT)
    wait_until(lambda: site.workers[2].metric(LOST) == 4, "the end of its old partitions")
    site.wait_for_labels_of(*HOMES)
    assert site.repeated() == []
    assert site.workers[2].metric('harstream_messages_dropped_total{reason="partition"}') >= 4 * 20


def test_an_outage_of_the_broker_moves_no_partition(site):
    site.wait_for_labels_of(*HOMES)
    for _ in range(2):
        site.broker.stop()
        wait_until(lambda: not any(worker.metric("harstream_mqtt_connected") for worker in site.workers), "the loss")
        site.broker.start()
        wait_until(lambda: all(worker.metric("harstream_mqtt_connected") for worker in site.workers), "the return")
        site.wait_for_labels_of(*HOMES)
    assert site.changes() == [(4, 0)] * N_WORKERS


def test_overload_moves_no_partition(site):
    site.wait_for_labels_of(*HOMES)
    payload = ENCODERS["packed"](T0_NS, 50.0, next(iter(site._sources)).read(25))
    received = [worker.metric("harstream_messages_received_total") for worker in site.workers]
    with Client(site.broker.port, "none") as load:
        for _ in range(5):
            for number in range(10_000):  # of devices that are new in each round, as fast as Python can
                load.publish(f"p/{number % N_PARTITIONS}/wearables/l{number}/imu", payload, qos=0)
    wait_until(
        lambda: all(
            worker.metric("harstream_messages_received_total") + worker.metric(DROPPED) - before >= 10_000
            for worker, before in zip(site.workers, received, strict=True)
        ),
        "most of the load",
    )
    site.wait_for_labels_of(*HOMES)
    assert site.changes() == [(4, 0)] * N_WORKERS


DROPPED = 'harstream_messages_dropped_total{reason="inbox"}'
