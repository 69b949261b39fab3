"""Workers as processes behind a real mosquitto, with a folder that they share: activities go on with the next one."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harstream.core.batches import SampleBatch
from harstream.core.engine import Engine
from harstream.serve.durable.folder import decode
from harstream.wire.labels import encode_event

from ..constants import T0_NS
from ..live_streams import assert_labels, expected
from ..serve.daemons import TOPIC, partitioned
from ..servers import Client, Mosquitto, Process, http_get, metric, wait_until

pytestmark = pytest.mark.slow
N_WORKERS, N_PARTITIONS = 2, 4


class Site:
    """Broker, two workers with one state folder, and four devices, one in each partition."""

    def __init__(self, folder: Path, model: Path, subjects) -> None:
        self._folder, self._model, self.subjects = folder, model, subjects[:N_PARTITIONS]
        self.state = folder / "state" / "workers-harstream"
        self.broker = Mosquitto(folder).start()
        self.workers = [self.start(number) for number in range(N_WORKERS)]
        for worker in self.workers:
            worker.wait_for(" ready: ")
        self.client = Client(self.broker.port, "wearables/#")
        self._n_probes = 0
        self._sent = list(partitioned(self.subjects))

    def start(self, number: int) -> Process:
        flags = ["--broker", self.broker.address, "--model", str(self._model), "--http", "127.0.0.1:0"]
        flags += ["--topic", TOPIC, "--partition-count", str(N_PARTITIONS), "--worker", f"{number}/{N_WORKERS}"]
        flags += ["--instance", f"w{number}", "--state-dir", str(self._folder / "state")]
        return Process("run", *flags, folder=self._folder)

    def get(self, worker: Process, path: str) -> str:
        address = re.search(r"http (http://\S+)", worker.err)
        assert address
        return http_get(f"{address[1]}{path}")[1]

    def wait_to_serve(self, worker: Process, *partitions: int) -> None:
        """Wait until messages in these partitions reach a worker. What is sent for that cannot be decoded."""
        self._n_probes += 1
        probes = {partition: f"probe-{self._n_probes}-{partition}" for partition in partitions}

        def come() -> bool:
            for partition, name in probes.items():
                self.client.publish(f"p/{partition}/wearables/{name}/imu", b"?")
            self.client.flush()
            known = self.get(worker, "/api/devices")
            return all(f'"{name}"' in known for name in probes.values())

        pause = threading.Event()
        wait_until(lambda: come() or pause.wait(0.3), f"partitions {partitions}")

    def label(self, first: int, last: int) -> None:
        """Publish a part of the messages, and wait for the labels of all windows up to there."""
        for topic, payload in self._sent[first:last]:
            self.client.publish(topic, payload)
        n_samples = last // N_PARTITIONS * 25
        wanted = N_PARTITIONS * ((n_samples - 128) // 64 + 1)
        wait_until(lambda: len(self.client.labels()) >= wanted, f"{wanted} labels")

    @property
    def n_messages(self) -> int:
        return len(self._sent)

    def events(self, device: str) -> list[bytes]:
        return self.client.payloads(f"wearables/{device}/activity/event")

    def close(self) -> None:
        self.client.__exit__()
        for worker in self.workers:
            worker.__exit__()
        self.broker.stop()


@pytest.fixture
def site(tmp_path: Path, random_bundle: Path, subjects) -> Iterator[Site]:
    made = Site(tmp_path, random_bundle, subjects)
    yield made
    made.close()


def expected_events(subject, classifier) -> list[bytes]:
    """Return the events of a daemon that serves a subject alone."""
    engine, smoother, bundle = Engine(classifier.bundle.spec), classifier.bundle.smoother(), classifier.bundle
    due = engine.feed(SampleBatch.from_message(subject.name, subject.samples, t_ns=T0_NS, rate_hz=subject.rate_hz))
    events = smoother.label(due, classifier.predict(due.windows)).events
    return [encode_event(event, bundle.outputs, bundle.id) for event in events]


def kinds(events: Sequence[bytes]) -> list[tuple[str, str]]:
    return [(event["event"], event["label"]) for event in map(json.loads, events)]


def test_workers_that_stop_and_come_back_change_no_label_and_end_no_activity(site, classifier):
    third = site.n_messages // (3 * N_PARTITIONS) * N_PARTITIONS
    first, second = site.workers
    site.wait_to_serve(first, 0, 2)
    site.wait_to_serve(second, 1, 3)
    site.label(0, third)
    second.send(signal.SIGTERM)
    assert second.exit_code() == 0
    site.wait_to_serve(first, 0, 1, 2, 3)
    site.label(third, 2 * third)
    site.workers[1] = site.start(1)
    site.workers[1].wait_for(" ready: ")
    site.wait_to_serve(first, 0, 2)
    site.wait_to_serve(site.workers[1], 1, 3)
    site.label(2 * third, site.n_messages)
    restored = [metric(site.get(worker, "/metrics"), "harstream_devices_restored_total") for worker in site.workers]
    assert restored == [2, 2]
    for worker in site.workers:
        worker.send(signal.SIGTERM)
        assert worker.exit_code() == 0
    assert_labels(site.client.labels(), expected(site.subjects, classifier))
    for subject in site.subjects:
        assert site.events(subject.name) == expected_events(subject, classifier)


def test_the_activities_of_a_killed_worker_end_with_the_next_before_others_begin(site):
    first, second = site.workers
    site.wait_to_serve(first, 0, 2)
    site.wait_to_serve(second, 1, 3)
    site.label(0, 64)
    last_ns = {device: round(label["t"] * 1e9) for device, label in site.client.labels()}

    def is_written(partition: int) -> bool:
        path = max((site.state / f"partition-{partition}").glob("state-*[0-9]"))
        written = decode(path.read_bytes())[0]["last_labels"] if path.stat().st_size else []
        return any(abs(t_ns - last_ns[device]) < 1e6 for device, *_, t_ns in written)

    wait_until(lambda: is_written(1) and is_written(3), "the state")
    second.send(signal.SIGKILL)
    second.exit_code()
    before = {subject.name: site.events(subject.name) for subject in site.subjects}
    site.wait_to_serve(first, 0, 1, 2, 3)
    assert metric(site.get(first, "/metrics"), "harstream_devices_restored_total") == 2
    for topic, payload in site._sent[80:]:  # those of two seconds are lost
        site.client.publish(topic, payload)
    last_s = T0_NS / 1e9 + 16 - 1.28
    devices = {subject.name for subject in site.subjects}
    wait_until(lambda: {d for d, label in site.client.labels() if label["t"] > last_s} == devices, "the last labels")
    for number in (1, 3):
        name = site.subjects[number].name
        all_events = site.events(name)
        assert before[name]
        assert len(all_events) > len(before[name])
        current: str | None = None
        for kind, label in kinds(all_events):
            assert (current is None) if kind == "enter" else (current == label)
            current = label if kind == "enter" else None
