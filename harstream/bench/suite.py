"""Modes of ``harstream bench``. In each round a mode measures its figures and their ceilings one after another."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from harstream import bundle as bundles
from harstream import shipped
from harstream.bench import growth, inference, latency, startup, throughput
from harstream.bench.broker import Broker
from harstream.bench.others import installed
from harstream.bench.rates import Rates
from harstream.bench.run import MESSAGES_S
from harstream.bench.testbed import DAEMONS, Testbed, Traffic
from harstream.bench.throughput import Throughput
from harstream.classifier import load_classifier
from harstream.errors import HarstreamError
from harstream.publish import SAMPLES_PER_MESSAGE

#: Names of ceilings in the table.
ROUND_TRIP = "the broker's round trip"
WITHOUT = "the daemon without --state-dir"


class Suite(Rates):
    """One run of the benchmark, with all modes."""

    def run(self, modes: Sequence[str]) -> None:
        """Measure the modes in the order given.

        Raises:
            HarstreamError: A process failed, or nothing was received.

        """
        with tempfile.TemporaryDirectory(prefix="harstream-bench-") as name:
            broker = Broker(Path(name))
            self.broker = broker.name
            try:
                testbed = Testbed(broker, Path(name), model=self.options.model, backend=self.options.backend)
                for mode in modes:
                    MODES[mode](self, testbed)
            finally:
                broker.close()

    def rounds(self, modes: Sequence[str]) -> int:
        """Return the number of rounds that ``run`` will measure: the number of calls of ``tick``."""
        return sum(self.options.repeats if mode not in ONCE else 1 for mode in modes)

    def cost(self, testbed: Testbed) -> None:
        """Measure the processor time of a message at life speed, beside a plain script and Pathway (see ``others``)."""
        others = installed("cost", ("plain", "pathway"), self.missing)
        runs: dict[tuple[str, int], list[latency.Latency]] = defaultdict(list)
        for number in range(self.options.repeats):
            self._tick(f"cost {number + 1}")
            for n_devices in self.options.costs:
                for receiver in (*others, "daemon"):
                    seconds, warm_up_s = self.options.latency_s, self.options.warm_up_s
                    run = latency.live(testbed, receiver, Traffic(n_devices, "json"), seconds, warm_up_s)
                    runs[receiver, n_devices].append(run)
        for n_devices in self.options.costs:
            ours = runs["daemon", n_devices]
            for other, name in others.items():
                theirs = runs[other, n_devices]
                self._add(
                    "cost",
                    f"processor time a message with {n_devices:,} live wearables",
                    "us",
                    [1e6 * run.cpu / (MESSAGES_S * n_devices) for run in ours],
                    name,
                    [1e6 * run.cpu / (MESSAGES_S * n_devices) for run in theirs],
                    **latency.compared(ours, theirs),
                    dropped=sum(run.dropped for run in ours),
                )

    def baseline(self, testbed: Testbed) -> None:
        """Compare the throughput with that of the usual script, the plain script and Pathway (see ``others``)."""
        traffic = Traffic(self.options.n_devices, "json")
        others = installed("baseline", ("tutorial", "plain", "pathway"), self.missing)
        runs: dict[str, list[Throughput]] = defaultdict(list)
        for number in range(self.options.repeats):
            self._tick(f"baseline {number + 1}")
            for receiver in (*others, "daemon"):
                warm_up = 3 * traffic.n_devices if receiver == "tutorial" else None  # it is slow
                runs[receiver].append(self._saturate(testbed, receiver, traffic, warm_up_messages=warm_up))
        for other, name in others.items():
            ours, theirs = runs["daemon"], runs[other]
            self._add(
                "baseline",
                "windows a second, JSON at QoS 1",
                "1/s",
                [run.windows_s for run in ours],
                name,
                [run.windows_s for run in theirs],
                **throughput.compared(ours, theirs),
            )

    def inference(self, testbed: Testbed) -> None:
        """Measure the classifier alone, with each backend of the bundle."""
        bundle = bundles.load(shipped.find(self.options.model))
        backends = [name for name, file in inference.FILES.items() if file in bundle.files]
        runs: dict[str, list[inference.Inference]] = defaultdict(list)
        for number in range(self.options.repeats):
            self._tick(f"inference {number + 1}")
            for backend in backends:
                runs[backend].append(inference.measure(bundle, backend, self.options.n_windows))
        for backend in backends:
            self._add(
                "inference",
                f"{backend}: windows a second, one thread",
                "1/s",
                [run.windows_s for run in runs[backend]],
                "bare LiteRT interpreter",
                [run.bare_windows_s for run in runs[backend]],
            )

    # --- live ---------------------------------------------------------------------------------

    def latency(self, testbed: Testbed) -> None:
        """Measure latency at life speed: with few devices, and with half as many as saturate the daemon."""
        few = Traffic(self.options.n_live, "json")
        half = Traffic(self._half_of_saturation(testbed), "json")
        daemon: dict[Traffic, list[latency.Latency]] = defaultdict(list)
        round_trip: dict[Traffic, list[latency.Latency]] = defaultdict(list)
        for number in range(self.options.repeats):
            self._tick(f"latency {number + 1}")
            for traffic in (few, half):
                for receiver, runs in (("idle", round_trip), ("daemon", daemon)):
                    run = latency.live(testbed, receiver, traffic, self.options.latency_s, self.options.warm_up_s)
                    runs[traffic].append(run)
        for traffic, fleet in ((few, "live wearables"), (half, "live wearables, half of saturation")):
            for q in latency.PERCENTILES:
                self._add(
                    "latency",
                    f"p{q} at {traffic.n_devices:,} {fleet}: sample sent to label heard",
                    "ms",
                    [_received(run.percentile(q)) for run in daemon[traffic]],
                    ROUND_TRIP,
                    [_received(run.percentile(q)) for run in round_trip[traffic]],
                    cores=[run.cpu for run in daemon[traffic]],
                    load_late_ms=[run.load_late_ms for run in daemon[traffic]],
                    dropped=sum(run.dropped for run in daemon[traffic]),
                )

    def viewers(self, testbed: Testbed) -> None:
        """Measure latency at life speed while nobody, one and many watch the live page."""
        traffic = Traffic(self.options.n_live, "json")
        runs: dict[int, list[latency.Latency]] = defaultdict(list)
        for number in range(self.options.repeats):
            self._tick(f"viewers {number + 1}")
            for viewers in self.options.viewers:
                seconds, warm_up_s = self.options.latency_s, self.options.warm_up_s
                runs[viewers].append(latency.live(testbed, "daemon", traffic, seconds, warm_up_s, viewers))
        alone = runs[self.options.viewers[0]]
        for viewers in self.options.viewers[1:]:
            for q in latency.PERCENTILES:
                self._add(
                    "viewers",
                    f"p{q} at {traffic.n_devices:,} live wearables with {viewers} viewers",
                    "ms",
                    [_received(run.percentile(q)) for run in runs[viewers]],
                    f"{self.options.viewers[0]} viewers",
                    [_received(run.percentile(q)) for run in alone],
                    cores=[run.cpu for run in runs[viewers]],
                    cores_alone=[run.cpu for run in alone],
                    bytes_s_each=[run.viewed_bytes_s / viewers for run in runs[viewers]],
                    dropped=sum(run.dropped for run in runs[viewers]),
                )

    def _half_of_saturation(self, testbed: Testbed) -> int:
        """Return the number of devices whose messages at life speed are half of what saturates the daemon."""
        traffic = Traffic(self.options.n_devices, "json")
        if not self._saturated[traffic]:
            self._saturated[traffic].append(self._saturate(testbed, "daemon", traffic))
        runs = sorted(run.messages_s for run in self._saturated[traffic])
        return max(round(runs[len(runs) // 2] / MESSAGES_S / 2), 1)

    def durable(self, testbed: Testbed) -> None:
        """Measure throughput and latency in durable mode, beside those without it."""
        traffics = [Traffic(self.options.n_devices, payload) for payload in ("json", "packed")]
        few = Traffic(self.options.n_live, "json")
        rates: dict[tuple[Traffic, str], list[Throughput]] = defaultdict(list)
        delays: dict[str, list[latency.Latency]] = defaultdict(list)
        for number in range(self.options.repeats):
            self._tick(f"durable {number + 1}")
            for receiver in DAEMONS:
                for traffic in traffics:
                    rates[traffic, receiver].append(self._saturate(testbed, receiver, traffic))
                run = latency.live(testbed, receiver, few, self.options.latency_s, self.options.warm_up_s)
                delays[receiver].append(run)
        for traffic in traffics:
            ours, without = (rates[traffic, receiver] for receiver in ("durable", "daemon"))
            self._add(
                "durable",
                f"{traffic.payload} at QoS 1: messages a second",
                "1/s",
                [run.messages_s for run in ours],
                WITHOUT,
                [run.messages_s for run in without],
                cpu_us_per_message=[run.cpu_us for run in ours],
                ceiling_cpu_us_per_message=[run.cpu_us for run in without],
                dropped=sum(run.dropped for run in ours),
            )
        for q in latency.PERCENTILES:
            self._add(
                "durable",
                f"p{q} at {few.n_devices:,} live wearables: sample sent to label heard",
                "ms",
                [_received(run.percentile(q)) for run in delays["durable"]],
                WITHOUT,
                [_received(run.percentile(q)) for run in delays["daemon"]],
                cores=[run.cpu for run in delays["durable"]],
                dropped=sum(run.dropped for run in delays["durable"]),
            )

    def live(self, testbed: Testbed) -> None:
        """Count the messages that the daemon has not done when a large fleet at life speed stops."""
        self._tick("live")
        fleets = (("json", self.options.live_json, 25), ("packed", self.options.live_packed, 50))
        for payload, n_devices, n_samples in fleets:
            for qos in (1, 0):
                traffic = Traffic(n_devices, payload, qos, n_samples)
                # The last wearables start after eight messages.
                warm_up_s = self.options.warm_up_s * n_samples / SAMPLES_PER_MESSAGE
                run = latency.live(testbed, "daemon", traffic, self.options.live_s, warm_up_s)
                self._add(
                    "live",
                    f"{n_devices:,} wearables, {payload}, {n_samples} samples a message, QoS {qos}, "
                    f"{self.options.live_s:.0f} s: messages not done",
                    "",
                    [run.sent - run.done],
                    dropped=run.dropped,
                    sent=run.sent,
                    cores=run.cpu,
                    latency_p50_ms=run.percentile(50),
                    latency_p99_ms=run.percentile(99),
                    load_late_ms=run.load_late_ms,
                )

    # --- the process --------------------------------------------------------------------------

    def start(self, testbed: Testbed) -> None:
        """Measure the time to ready, and memory at rest."""
        ours, bare = [], []
        for number in range(self.options.repeats):
            self._tick(f"start {number + 1}")
            bare.append(startup.imports())
            ours.append(startup.start(testbed))
        imports = "importing numpy, scipy.signal, LiteRT"
        self._add("start", "start to ready", "s", [s for s, _ in ours], imports, [s for s, _ in bare])
        self._add("start", "memory at rest", "MB", [b / 1e6 for _, b in ours], imports, [b / 1e6 for _, b in bare])

    def memory(self, testbed: Testbed) -> None:
        """Measure memory with many devices."""
        resident: dict[int, list[int]] = defaultdict(list)
        for number in range(self.options.repeats):
            self._tick(f"memory {number + 1}")
            for n_devices in (0, *self.options.sizes):
                resident[n_devices].append(
                    startup.memory(testbed, n_devices) if n_devices else startup.start(testbed)[1]
                )
        for n_devices in self.options.sizes:
            per_device = [
                (full - rest) / n_devices for full, rest in zip(resident[n_devices], resident[0], strict=True)
            ]
            self._add(
                "memory", f"memory with {n_devices:,} devices", "MB", [each / 1e6 for each in resident[n_devices]]
            )
            self._add("memory", f"of it, for each of {n_devices:,} devices", "kB", [each / 1e3 for each in per_device])

    def growth(self, testbed: Testbed) -> None:
        """Measure the processor time per sample with few devices and with many."""
        classifier = load_classifier(self.options.model, self.options.backend)
        cost_us: dict[int, list[float]] = defaultdict(list)
        for number in range(self.options.repeats):
            self._tick(f"growth {number + 1}")
            for n_devices in self.options.grown:
                cost_us[n_devices].append(growth.us_per_sample(classifier, n_devices))
        least = min(self.options.grown)
        for n_devices in self.options.grown:
            self._add(
                "growth",
                f"a sample's cost with {n_devices:,} devices, message to label",
                "us",
                cost_us[n_devices],
                f"with {least:,} devices",
                cost_us[least],
            )


def _received(ms: float | None) -> float:
    if ms is None:
        raise HarstreamError(
            "bench: nothing sent during a measurement of latency arrived; the machine is too slow for that many devices"
        )
    return ms


MODES: dict[str, Callable[[Suite, Testbed], None]] = {
    mode.__name__: mode
    for mode in (
        Suite.ingest,
        Suite.tls,
        Suite.sources,
        Suite.baseline,
        Suite.inference,
        Suite.cost,
        Suite.latency,
        Suite.viewers,
        Suite.durable,
        Suite.poison,
        Suite.live,
        Suite.start,
        Suite.memory,
        Suite.growth,
    )
}
#: Modes that are measured once, whatever ``repeats`` is: a fleet keeps up for a minute, or it does not.
ONCE = {"live"}
