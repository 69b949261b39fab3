"""Soak: two daemons in durable mode live through every fault at once, for as long as asked for.

``python -m tests.faults.soak --minutes 30`` prints how long each fault kept labels away, the memory of the daemon that
is never killed, and how its labels and those of the other one differ from labels made without any fault. The faults are
those of the network, of mosquitto, of the disk, and of the processes; half of all messages make no sense.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from harstream.classifier import Classifier, load_classifier
from harstream.datasets.base import Recording
from harstream.mqtt.connection import Connection
from harstream.mqtt.urls import BrokerSettings, BrokerUrl
from harstream.simulate.motion import Wearable

from ..live_streams import PER_MESSAGE, expected, messages
from ..servers import Process, free_port, http_get, wait_until
from .processes import StoringMosquitto, disk_full, kill, stopped
from .proxy import FaultyNetwork

RATE_HZ = 50.0
#: Labels topic of each daemon. The one named killed is killed and stopped, the other lives as long as the soak.
TOPICS = {"steady": "steady/{device}/activity", "killed": "killed/{device}/activity"}
#: Longest wait for the last labels without a single new one, seconds.
PATIENCE_S = 120.0
#: Time after a fault in which labels may arrive that were published before it, seconds.
IN_TRANSIT_S = 0.5
#: Part of the time after which memory is measured: what a process needs at first is no growth.
WARM_UP = 1 / 3

Key = tuple[str, float, str]  # device, end of the window in seconds, label


class Instrument:
    """Clients of the broker that outlive everything: one sends each message, the other keeps each label.

    The sender is harstream's connection, not paho: after a reconnection paho may send a new message before those that
    it repeats, and what comes behind a newer message of its device is late.
    """

    def __init__(self, port: int) -> None:
        self.labels: dict[str, Counter[Key]] = {name: Counter() for name in TOPICS}
        self.arrivals: dict[str, list[float]] = {name: [] for name in TOPICS}  # monotonic
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="instrument", protocol=paho.MQTTv311, clean_session=False
        )
        client.reconnect_delay_set(0.1, 0.1)  # type: ignore[arg-type]  # a wait, so a fraction serves as well
        client.on_connect = lambda client, *_: client.subscribe([(f"{name}/+/activity", 1) for name in TOPICS])
        client.on_message = lambda _, __, message: self._note(message)
        client.connect("127.0.0.1", port)
        client.loop_start()
        self._client = client
        self._sender = Connection(BrokerSettings(BrokerUrl.parse(f"127.0.0.1:{port}")), "wearables")
        self._sender.open()

    def _note(self, message: paho.MQTTMessage) -> None:
        if message.payload:
            name, device, _ = message.topic.split("/")
            label = json.loads(message.payload)
            self.arrivals[name].append(time.monotonic())
            self.labels[name][device, label["t"], label["label"]] += 1

    def publish(self, topic: str, payload: bytes) -> None:
        """Send a message; wait while there is no room for it."""
        while not self._sender.publish(topic, payload, qos=1):
            time.sleep(0.01)

    def close(self) -> None:
        self._sender.close()
        self._client.disconnect()
        self._client.loop_stop()


def wearables(n: int, seconds: float, seed: int) -> list[Recording]:
    """Return simulated recordings; three decimals of a number are the same in JSON and in float32."""
    made = []
    for number in range(n):
        samples = Wearable(seed * 1000 + number, pace=4).read(round(seconds * RATE_HZ)).samples
        made.append(Recording(f"w{number:03d}", str(number), RATE_HZ, samples.round(3).astype(np.float32), ()))
    return made


def poison(rng: random.Random, topic: str, payload: bytes) -> tuple[str, bytes]:
    """Return a message that must be rejected, from the device of a good one or from another."""
    text = payload.decode()
    bad = rng.choice(
        [
            payload[: len(payload) // 2],
            text.replace('"t":', '"t":-').encode(),
            text.replace("[[", '[["x",', 1).encode(),
            b"\x00\xff" + rng.randbytes(200),
            b"[" * 5000,
            b"{}",
        ]
    )
    return rng.choice([topic, f"wearables/bad-{rng.randrange(300)}/imu"]), bad


@dataclass
class Outage:
    """One fault and what came of it."""

    name: str
    daemon: str  # whose labels tell how long it took
    start_s: float  # monotonic
    lasted_s: float  # the fault itself
    silence_s: float = 0.0  # longest time without a label around it


@dataclass
class Report:
    """Findings of a soak."""

    outages: list[Outage] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)  # seconds, MB of the steady daemon
    missing: dict[str, int] = field(default_factory=dict)
    extra: dict[str, int] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)
    labels: int = 0
    poison: int = 0
    rejected: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """Growth of memory over the measured time by a straight line, as part of its mean."""
        seconds, megabytes = np.array(self.memory).T
        late = seconds >= seconds[-1] * WARM_UP
        slope = np.polyfit(seconds[late], megabytes[late], 1)[0]
        return float(slope * np.ptp(seconds[late]) / megabytes[late].mean())

    def lines(self) -> Iterator[str]:
        """Yield the report as text."""
        yield f"{'fault':<22}{'times':>6}{'lasted s':>10}{'further silence s: median':>27}{'worst':>8}"
        for name in dict.fromkeys(outage.name for outage in self.outages):
            some = [outage for outage in self.outages if outage.name == name]
            further = [max(0.0, outage.silence_s - outage.lasted_s) for outage in some]
            lasted = np.median([outage.lasted_s for outage in some])
            yield f"{name:<22}{len(some):>6}{lasted:>10.1f}{np.median(further):>27.2f}{max(further):>8.2f}"
        for name in TOPICS:
            yield (
                f"daemon {name}: of {self.labels} labels {self.missing[name]} missing, {self.extra[name]} that should "
                f"not be, {self.repeated[name]} repeated"
            )
        yield f"messages without sense: {self.poison} sent, {self.rejected} rejections counted (some come twice)"
        first, last = self.memory[0][1], self.memory[-1][1]
        yield (
            f"memory of daemon steady: {first:.1f} MB at first, {max(m for _, m in self.memory):.1f} at most, "
            f"{last:.1f} at last; {self.growth:+.2%} over the last {1 - WARM_UP:.0%} of the time"
        )
        yield from self.problems


class Soak:
    """Run of all faults.

    Args:
        folder: For the state of daemons and broker, and their logs.
        bundle: Model of both daemons.
        seconds: Time during which wearables send and faults occur.
        devices: Number of wearables.
        seed: Decides streams and faults.

    """

    def __init__(self, folder: Path, bundle: Path | str, seconds: float, devices: int, seed: int) -> None:
        self.folder, self.bundle, self.seconds = folder, bundle, seconds
        self.rng = random.Random(seed)
        self.report = Report()
        self.subjects = wearables(devices, seconds, seed)
        self.http = f"127.0.0.1:{free_port()}"
        self.over = threading.Event()

    # --- processes ----------------------------------------------------------------------------

    def start(self, name: str) -> Process:
        """Start a daemon, its connection through its own network."""
        return Process(
            *("run", "--broker", self.networks[name].address, "--model", str(self.bundle), "--instance", name),
            *("--http", self.http if name == "steady" else "off", "--state-dir", str(self.folder / name)),
            *("--labels-topic", TOPICS[name], "--events-topic", TOPICS[name] + "/event"),
            folder=self.folder,
        )

    def end_all(self) -> None:
        """Kill what still runs."""
        for process in self.daemons.values():
            with process:
                pass

    def wait_for_label(self, name: str, after_s: float) -> None:
        """Wait until a daemon has published again, or the wearables have ended, after which it need not."""
        arrivals = self.instrument.arrivals[name]
        wait_until(
            lambda: (arrivals and arrivals[-1] > after_s) or self.over.is_set(),
            f"a label of daemon {name}",
        )

    # --- faults -------------------------------------------------------------------------------

    def deck(self) -> list[tuple[str, Callable[[], None]]]:
        """Return name and cause of each fault; those of most interest twice."""
        uniform = self.rng.uniform

        def network(act: Callable[[FaultyNetwork], None]) -> Callable[[], None]:
            def act_on_all() -> None:
                for each in self.networks.values():
                    act(each)

            return act_on_all

        def away() -> None:
            network(FaultyNetwork.refuse)()
            time.sleep(uniform(1, 8))
            network(FaultyNetwork.heal)()

        def slow() -> None:
            for each in self.networks.values():
                each.delay_s, each.bytes_s = 0.2, 50_000.0
            time.sleep(uniform(3, 8))
            network(FaultyNetwork.heal)()

        def restart_broker() -> None:
            self.broker.end()
            time.sleep(uniform(0, 5))
            self.broker.start()

        def killed() -> None:
            kill(self.daemons["killed"])
            self.daemons["killed"] = self.start("killed")

        def killed_again() -> None:
            killed()
            time.sleep(uniform(0, 3))
            killed()

        def restarted() -> None:
            self.daemons["killed"].send(signal.SIGTERM)
            if code := self.daemons["killed"].exit_code():
                self.report.problems.append(f"daemon killed: exit code {code} after SIGTERM")
            self.daemons["killed"] = self.start("killed")

        def during(begin: Callable[[], Sequence[AbstractContextManager[None]]], most_s: float) -> Callable[[], None]:
            def act() -> None:
                with ExitStack() as stack:
                    for each in begin():
                        stack.enter_context(each)
                    time.sleep(uniform(1, most_s))

            return act

        def each_daemon(
            fault: Callable[[int], AbstractContextManager[None]],
        ) -> Callable[[], list[AbstractContextManager[None]]]:
            return lambda: [fault(process.group) for process in self.daemons.values()]

        cards = [
            ("cut", network(FaultyNetwork.cut)),
            ("reset", network(FaultyNetwork.reset)),
            ("half-open", network(FaultyNetwork.half_open)),
            ("network away", away),
            ("slow network", slow),
            ("broker restarted", restart_broker),
            ("broker restarted", restart_broker),
            ("broker stopped", during(lambda: [stopped(self.broker.pid)], 8)),
            ("daemons stopped", during(each_daemon(stopped), 8)),
            ("disk full", during(each_daemon(disk_full), 8)),
            ("killed", killed),
            ("killed", killed),
            ("killed while starting", killed_again),
            ("restarted", restarted),
        ]
        self.rng.shuffle(cards)
        return cards

    def cause_faults(self) -> None:
        """Cause one fault after the other until the time is over, and note how long labels were away."""
        while not self.over.is_set():
            for name, cause in self.deck():
                whose = "killed" if name in ("killed", "killed while starting", "restarted") else "steady"
                start_s = time.monotonic()
                cause()
                outage = Outage(name, whose, start_s, time.monotonic() - start_s)
                for each in TOPICS:
                    self.wait_for_label(each, start_s + outage.lasted_s + IN_TRANSIT_S)
                if self.over.is_set():  # too late to tell how long labels were away
                    return
                self.report.outages.append(outage)
                if self.over.wait(self.rng.uniform(1, 4)):
                    return

    def measure_memory(self) -> None:
        """Note the memory of the steady daemon each second."""
        start_s, status = time.monotonic(), Path(f"/proc/{self.daemons['steady'].group}/status")
        while not self.over.wait(1.0):
            line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
            self.report.memory.append((time.monotonic() - start_s, int(line.split()[1]) / 1024))

    # --- the run ------------------------------------------------------------------------------

    def send(self) -> None:
        """Send the messages in time, and as many that make no sense."""
        start_s, step_s = time.monotonic(), PER_MESSAGE / RATE_HZ / len(self.subjects)
        for number, (topic, payload) in enumerate(messages(self.subjects)):
            time.sleep(max(0.0, start_s + number * step_s - time.monotonic()))
            self.instrument.publish(topic, payload)
            self.instrument.publish(*poison(self.rng_poison, topic, payload))
            self.report.poison += 1

    def run(self, classifier: Classifier) -> Report:
        """Run everything and return the report."""
        self.rng_poison = random.Random(self.rng.random())
        lines = "allow_anonymous true\nmax_inflight_messages 20\nmax_queued_messages 0"
        with ExitStack() as stack:
            self.broker = stack.enter_context(StoringMosquitto(self.folder, lines))
            self.networks = {name: stack.enter_context(FaultyNetwork(self.broker.port)) for name in TOPICS}
            self.instrument = Instrument(self.broker.port)
            stack.callback(self.instrument.close)
            self.daemons: dict[str, Process] = {}
            stack.callback(self.end_all)
            for name in TOPICS:
                self.daemons[name] = self.start(name)
                self.daemons[name].wait_for("ready")
            threads = [
                threading.Thread(target=self.guard, args=(run,)) for run in (self.cause_faults, self.measure_memory)
            ]
            for thread in threads:
                thread.start()
            try:
                self.send()
            finally:
                self.over.set()
                for thread in threads:
                    thread.join()
            self.wait_for_the_rest()
            self.report.rejected = round(sum(rejections(http_get(f"http://{self.http}/metrics")[1])))
            for name, process in self.daemons.items():
                process.send(signal.SIGTERM)
                if code := process.exit_code():
                    self.report.problems.append(f"daemon {name}: exit code {code} at the end")
        self.compare(classifier)
        return self.report

    def guard(self, run: Callable[[], None]) -> None:
        """Run a part in a thread, and report an error that ends it."""
        try:
            run()
        except Exception as error:
            self.report.problems.append(f"{type(error).__name__}: {error}")

    def wait_for_the_rest(self) -> None:
        """Wait until no further label comes: a tenth of the patience once there are as many as windows."""
        wanted = sum((len(subject.samples) - 128) // 64 + 1 for subject in self.subjects)
        over_s = time.monotonic()
        for name, arrivals in self.instrument.arrivals.items():
            labels = self.instrument.labels[name]
            while True:
                patience_s = PATIENCE_S / 10 if len(labels) >= wanted else PATIENCE_S
                if time.monotonic() - max(arrivals[-1:], default=over_s) > patience_s:
                    break
                time.sleep(0.2)
            if not self.daemons[name].running():
                self.report.problems.append(f"daemon {name} has ended: {self.daemons[name].err[-2000:]}")

    def compare(self, classifier: Classifier) -> None:
        """Compare the labels of both daemons with those made without any fault, and find the silences."""
        report = self.report
        wanted = {(device, round(t * 1e6) / 1e6, label) for device, t, label, *_ in expected(self.subjects, classifier)}
        report.labels = len(wanted)
        for name, received in self.instrument.labels.items():
            report.missing[name] = len(wanted - received.keys())
            report.extra[name] = len(received.keys() - wanted)
            report.repeated[name] = received.total() - len(received)
        ends = [*(outage.start_s for outage in report.outages[1:]), np.inf]
        for outage, end_s in zip(report.outages, ends, strict=False):
            at = np.array(self.instrument.arrivals[outage.daemon])
            near = at[(at >= outage.start_s - 1) & (at < end_s)]
            outage.silence_s = float(np.diff(near).max()) if len(near) > 1 else 0.0


def rejections(metrics: str) -> Iterator[float]:
    """Yield the counts of rejected messages by reason."""
    for line in metrics.splitlines():
        if line.startswith("harstream_messages_rejected_total{"):
            yield float(line.rpartition(" ")[2])


def main() -> int:
    """Run a soak as the command line says; return 1 if a label is missing or wrong, or a daemon failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="time during which faults occur")
    parser.add_argument("--devices", type=int, default=40, help="number of wearables")
    parser.add_argument("--model", default="waist", help="name or folder of the bundle")
    parser.add_argument("--seed", type=int, default=1, help="of streams and faults")
    given = parser.parse_args()
    logging.getLogger("harstream").setLevel(logging.ERROR)  # the sender loses the broker again and again
    with tempfile.TemporaryDirectory(prefix="harstream-soak-") as folder:
        soak = Soak(Path(folder), given.model, 60 * given.minutes, given.devices, given.seed)
        report = soak.run(load_classifier(given.model))
    print("\n".join(report.lines()))
    return bool(report.problems or any(report.missing.values()) or any(report.extra.values()))


if __name__ == "__main__":
    sys.exit(main())
