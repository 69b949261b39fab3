"""deploy/cluster: three real NATS nodes, four workers, 64 partitions."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from harstream.publish import ENCODERS
from harstream.simulate.source import sources

from ..constants import T0_NS
from ..servers import DEADLINE_S, Process, free_port, http_get, metric, program, wait_until
from .conftest import DEPLOY

N_DEVICES, N_WORKERS, N_PARTITIONS = 500, 4, 64
RATE_HZ, BLOCK = 50.0, 128
DEVICES = [f"wearable-{number:03d}" for number in range(N_DEVICES)]


class Cluster:
    """Three nodes with the shipped configuration, on free ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = [1, 2, 3]
        self.ports = {i: free_port() for i in names}
        routes = {i: free_port() for i in names}
        for i in names:
            text = (DEPLOY / "cluster" / f"nats-{i}.conf").read_text()
            text = text.replace("0.0.0.0:1883", f"127.0.0.1:{self.ports[i]}").replace("4222", str(free_port()))
            text = text.replace("0.0.0.0:6222", f"127.0.0.1:{routes[i]}").replace("8222", str(free_port()))
            text = text.replace('store_dir: "data', f'store_dir: "{folder}/data')
            for j in names:
                text = text.replace(f"nats-{j}:6222", f"127.0.0.1:{routes[j]}")
            (folder / f"nats-{i}.conf").write_text(text)
        (folder / "partitions.conf").write_text((DEPLOY / "cluster" / "partitions.conf").read_text())
        self._nodes: dict[int, subprocess.Popen[bytes]] = {}
        for i in names:
            self.start(i)
        wait_until(lambda: all(map(self._serves, names)), "the cluster to elect its leaders")

    def start(self, i: int) -> None:
        with (self.folder / f"nats-{i}.log").open("ab") as log:
            self._nodes[i] = subprocess.Popen(
                [program("nats-server"), "-c", f"nats-{i}.conf"], cwd=self.folder, stdout=log, stderr=log
            )

    def _serves(self, i: int) -> bool:
        """Return True if a node answers MQTT clients, for which JetStream must have elected its leaders."""
        assert self._nodes[i].poll() is None, (self.folder / f"nats-{i}.log").read_text()
        try:
            with socket.create_connection(("127.0.0.1", self.ports[i]), 5) as sock:
                sock.settimeout(5)
                sock.sendall(_connect(f"probe{i}"))
                return sock.recv(4) == b"\x20\x02\x00\x00"
        except OSError:
            return False

    def kill(self, i: int) -> None:
        self._nodes[i].kill()
        self._nodes[i].wait()

    def close(self) -> None:
        for i in self._nodes:
            self.kill(i)


def _connect(name: str) -> bytes:
    body = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(name).to_bytes(2, "big") + name.encode()
    return bytes([0x10, len(body)]) + body


def connect(port: int) -> paho.Client:
    """Return a client that is connected to a node and has a network thread."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
    connected = threading.Event()
    client.max_inflight_messages_set(100)
    client.on_connect = lambda *_: connected.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert connected.wait(DEADLINE_S)
    return client


def subscribe(client: paho.Client, topic: str, qos: int) -> None:
    """Subscribe, and wait for the answer."""
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.subscribe(topic, qos)
    assert subscribed.wait(DEADLINE_S)


class Fleet:
    """500 wearables that publish at one node, and a client that receives all labels at the same node."""

    def __init__(self, port: int) -> None:
        self.workers_of: dict[str, set[str]] = defaultdict(set)
        self.labels: dict[str, int] = defaultdict(int)
        self.repeated: list[tuple[str, float]] = []  # windows that were labelled twice: device and end
        self._windows: set[tuple[str, float]] = set()
        self._since_s = 0.0  # end of the last window that is of no more interest
        self._sources = list(sources(8, seed=5))
        self.number = 0  # of the next message of every device
        self._publisher, self._listener = connect(port), connect(port)
        self._listener.on_message = self._receive
        subscribe(self._listener, "labels/+/+", qos=1)

    def _receive(self, _: object, __: object, message: paho.MQTTMessage) -> None:
        if message.payload and not message.retain:
            _, worker, device = message.topic.split("/")
            window = device, json.loads(message.payload)["t"]
            if window in self._windows:
                self.repeated.append(window)
            self._windows.add(window)
            if window[1] > self._since_s:
                self.workers_of[device].add(worker)
                self.labels[device] += 1

    def publish(self) -> None:
        """Publish the samples of one window of every device."""
        blocks = [source.read(BLOCK) for source in self._sources]
        t_ns = T0_NS + self.number * int(BLOCK * 1e9 / RATE_HZ)
        payloads = [ENCODERS["packed"](t_ns, RATE_HZ, block) for block in blocks]
        published = [
            self._publisher.publish(f"wearables/{device}/imu", payloads[number % len(payloads)], qos=1)
            for number, device in enumerate(DEVICES)
        ]
        wait_until(lambda: all(message.is_published() for message in published), "the broker's acknowledgements")
        self.number += 1

    def forget(self) -> None:
        """Forget the labels of all messages published so far, also of those that are still to come."""
        self._since_s = T0_NS / 1e9 + self.number * BLOCK / RATE_HZ
        self.workers_of.clear()
        self.labels.clear()

    def close(self) -> None:
        for client in (self._publisher, self._listener):
            client.disconnect()
            client.loop_stop()


class Worker:
    """Worker with the shipped settings, except for the addresses."""

    def __init__(self, folder: Path, model: Path, ports: list[int], number: int, of: int = N_WORKERS) -> None:
        settings = (DEPLOY / "cluster" / "worker.toml").read_text()
        addresses = [f"mqtt://127.0.0.1:{port}" for port in ports]
        settings = re.sub(r"(?m)^broker = .*$", f"broker = {json.dumps(addresses)}", settings)
        file = folder / f"worker-{number}-{time.monotonic_ns()}.toml"
        file.write_text(settings)
        flags = ["--config", str(file), "--model", str(model), "--worker", f"{number}/{of}"]
        flags += ["--labels-topic", f"labels/w{number}/{{device}}", "--events-topic", "off"]
        flags += ["--http", "127.0.0.1:0", "--instance", f"w{number}"]
        self.process = Process("run", *flags, folder=folder)

    def wait_until_ready(self) -> None:
        self.process.wait_for(" ready: ")

    def metric(self, series: str) -> float:
        address = re.search(r"http (http://\S+)", self.process.err)
        assert address
        return metric(http_get(f"{address[1]}/metrics")[1], series)

    def kill(self) -> None:
        self.process.send(signal.SIGKILL)
        self.process.exit_code()


def wait_to_serve(workers: dict[int, Worker], *numbers: int) -> None:
    """Wait until each worker serves so many partitions; without numbers, until all of them serve all partitions."""

    def served() -> bool:
        each = [int(worker.metric("harstream_partitions")) for worker in workers.values()]
        return each == list(numbers) if numbers else sum(each) == N_PARTITIONS

    wait_until(served, f"partitions {numbers}")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.close()


def settle(fleet: Fleet, what: str) -> None:
    """Publish until every device has labels, from one worker only, and none twice.

    A node hears of a subscription at another node only after a while, so the first messages may be lost, or the last
    ones may reach the worker before. No label may come from two workers for good, and no window may be labelled twice
    even then.
    """
    fleet.publish()
    fleet.forget()

    def are_labelled() -> bool:
        fleet.publish()
        time.sleep(0.2)
        if any(len(by) > 1 for by in list(fleet.workers_of.values())):
            fleet.forget()
        return all(fleet.labels[device] >= 3 for device in DEVICES)

    wait_until(are_labelled, f"labels of all devices {what}, from one worker each")
    assert fleet.repeated == []


@pytest.mark.slow
def test_partitions_of_a_lost_worker_move_to_the_others_and_back_and_to_added_workers(cluster, tmp_path, random_bundle):
    ports = [cluster.ports[i] for i in (1, 2, 3)]
    # Each worker has another first address; worker 2 is at node 3, which is killed later.
    workers = {n: Worker(tmp_path, random_bundle, ports[n % 3 :] + ports[: n % 3], n) for n in range(N_WORKERS)}
    fleet = Fleet(cluster.ports[1])
    try:
        for worker in workers.values():
            worker.wait_until_ready()

        # The labels of a device come from one worker only, and every worker has devices.
        settle(fleet, "at the start")
        home = {device: next(iter(by)) for device, by in fleet.workers_of.items()}
        assert set(home.values()) == {"w0", "w1", "w2", "w3"}
        assert sum(worker.metric("harstream_devices") for worker in workers.values()) == N_DEVICES

        # When a worker is killed, the others share its partitions; their own devices stay where they are.
        workers[1].kill()
        del workers[1]
        wait_to_serve(workers)
        assert max(worker.metric("harstream_partitions") for worker in workers.values()) == 22
        settle(fleet, "without worker 1")
        assert {d: w for d, by in fleet.workers_of.items() for w in by if home[d] != "w1"} == {
            d: w for d, w in home.items() if w != "w1"
        }
        assert {w for d, by in fleet.workers_of.items() for w in by if home[d] == "w1"} == {"w0", "w2", "w3"}

        # When it is back, it has its partitions again.
        workers = {**workers, 1: Worker(tmp_path, random_bundle, ports, 1)}
        workers[1].wait_until_ready()
        wait_to_serve(workers, 16, 16, 16, 16)
        settle(fleet, "with worker 1 again")
        assert {device: next(iter(by)) for device, by in fleet.workers_of.items()} == home
        assert sum(worker.metric("harstream_devices") for worker in workers.values()) == N_DEVICES

        # When its node is killed, worker 2 connects to another one. The others may serve its partitions meanwhile.
        cluster.kill(3)
        wait_until(lambda: workers[2].metric("harstream_mqtt_reconnects_total") >= 1, "another node")
        wait_to_serve(workers, 16, 16, 16, 16)
        settle(fleet, "without node 3")
        assert {device: next(iter(by)) for device, by in fleet.workers_of.items()} == home
        cluster.start(3)

        # Four workers are added to the four, one after the other. Whole partitions move.
        partitions: dict[str, int] = {}
        listener = connect(cluster.ports[1])
        listener.on_message = lambda _, __, message: partitions.__setitem__(
            message.topic.split("/")[3], int(message.topic.split("/")[1])
        )
        subscribe(listener, "p/+/wearables/+/imu", qos=0)
        for number in range(4, 8):
            workers[number] = Worker(tmp_path, random_bundle, ports[:2], number, 8)
            workers[number].wait_until_ready()
        for number in range(4):
            workers[number].process.send(signal.SIGTERM)
            assert workers[number].process.exit_code() == 0
            workers[number] = Worker(tmp_path, random_bundle, ports[:2], number, 8)
            workers[number].wait_until_ready()
        wait_to_serve(workers, *[8] * 8)
        settle(fleet, "with eight workers")
        wait_until(lambda: len(partitions) == N_DEVICES, "the partition of each device")
        listener.disconnect()
        listener.loop_stop()
        assert len(set(partitions.values())) > N_PARTITIONS * 0.9
        assert all(home[device] == f"w{partitions[device] % 4}" for device in DEVICES)
        assert all(fleet.workers_of[device] == {f"w{partitions[device] % 8}"} for device in DEVICES)
    finally:
        fleet.close()
        for worker in workers.values():
            worker.process.__exit__()
