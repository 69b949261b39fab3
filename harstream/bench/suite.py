"""The modes of `harstream bench`: each measures its figures, and their ceilings, in every round."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from harstream import bundle as bundles
from harstream.bench import growth as growing
from harstream.bench import inference as inferring
from harstream.bench import latency as waiting
from harstream.bench import startup
from harstream.bench.broker import Broker
from harstream.bench.ingest import Bench, Throughput, Traffic
from harstream.bench.results import Figure
from harstream.classifier import load_classifier
from harstream.errors import HarstreamError

PAHO = "paho, empty callback"
ROUND_TRIP = "the broker's round trip"
#: What a device sends a second at life speed.
MESSAGES_S = 2


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured; ``repeats`` rounds, and the reported figure is their median."""

    model: str = bundles.DEFAULT_MODEL
    backend: str = "auto"
    repeats: int = 5
    seconds: float = 4.0  # that a throughput is measured for
    live_s: float = 60.0  # that a fleet must be held
    latency_s: float = 10.0
    warm_up_s: float = 8.0  # of both: the last wearables begin after 4 s, and their first windows take 2.56 s to fill
    n_devices: int = 2000  # of throughput
    n_windows: int = 4096  # of inference
    n_live: int = 1000  # of latency
    live_json: int = 12_000
    live_packed: int = 20_000
    sizes: tuple[int, ...] = (1_000, 10_000, 100_000)  # of memory
    grown: tuple[int, ...] = (100, 1_000, 10_000, 100_000)


#: Smallest figures that show whether a benchmark works, not what it measures.
SMOKE = Options(
    repeats=1,
    seconds=0.3,
    live_s=1.0,
    latency_s=1.0,
    warm_up_s=3.5,
    n_devices=20,
    n_windows=64,
    n_live=20,
    live_json=20,
    live_packed=30,
    sizes=(10,),
    grown=(10, 50),
)


class Suite:
    """One run: a broker, and the modes by name, each adding its figures to ``figures``."""

    def __init__(self, options: Options, tick: Callable[[str], None] = lambda what: None) -> None:
        self.options = options
        self.figures: list[Figure] = []
        self.broker = ""
        self.missing: list[str] = []  # what could not be measured, and why
        self._tick = tick
        self._saturated: dict[Traffic, list[Throughput]] = defaultdict(list)  # the daemon's, as measured so far

    def run(self, modes: Sequence[str]) -> None:
        """Measure, in the order given. Raises HarstreamError where something breaks."""
        with tempfile.TemporaryDirectory(prefix="harstream-bench-") as name:
            broker = Broker(Path(name))
            self.broker = broker.name
            try:
                options = self.options
                bench = Bench(broker, Path(name), model=options.model, backend=options.backend, seconds=options.seconds)
                for mode in modes:
                    MODES[mode](self, bench)
            finally:
                broker.close()

    def rounds(self, modes: Sequence[str]) -> int:
        """How many ticks ``run`` will give."""
        return sum(self.options.repeats if mode not in ONCE else 1 for mode in modes)

    # --- throughput ---------------------------------------------------------------------------

    def ingest(self, bench: Bench) -> None:
        """JSON and packed, at QoS 1 and at QoS 0."""
        self._throughput(bench, "ingest", [(payload, qos, False) for qos in (1, 0) for payload in ("json", "packed")])

    def tls(self, bench: Bench) -> None:
        if not bench.broker.tls_port:
            self.missing.append("tls: needs mosquitto and openssl")
            return
        self._throughput(bench, "tls", [("json", 1, True), ("packed", 1, True)])

    def _throughput(self, bench: Bench, mode: str, kinds: Sequence[tuple[str, int, bool]]) -> None:
        traffics = [Traffic(self.options.n_devices, payload, qos, tls) for payload, qos, tls in kinds]
        ceilings: dict[Traffic, list[Throughput]] = defaultdict(list)
        for number in range(self.options.repeats):
            self._tick(f"{mode} {number + 1}")
            for traffic in traffics:
                ceilings[traffic].append(bench.saturate("paho", traffic))
                self._saturated[traffic].append(bench.saturate("daemon", traffic))
        for traffic in traffics:
            ours, bare = self._saturated[traffic], ceilings[traffic]
            name = f"{traffic.payload} at QoS {traffic.qos}{' over TLS' if traffic.tls else ''}"
            details = {
                "samples_s": [25 * run.messages_s for run in ours],
                "live_wearables": [run.messages_s / MESSAGES_S for run in ours],
                "windows_s": [run.windows_s for run in ours],
                "cpu_us_per_message": [run.cpu_us for run in ours],
                "broker_cpu_us_per_message": [run.broker_cpu_us for run in ours],
                "ceiling_cpu_us_per_message": [run.cpu_us for run in bare],
                "dropped": sum(run.dropped for run in ours),
            }
            self._add(
                mode,
                f"{name}: messages a second",
                "1/s",
                [run.messages_s for run in ours],
                PAHO,
                [run.messages_s for run in bare],
                **details,
            )

    def baseline(self, bench: Bench) -> None:
        """Against the script that people run today."""
        traffic = Traffic(self.options.n_devices, "json")
        if find_spec("keras") is None:
            self.missing.append("baseline: needs TensorFlow (pip install 'harstream[train]')")
            return
        today, ours = [], []
        for number in range(self.options.repeats):
            self._tick(f"baseline {number + 1}")
            today.append(bench.saturate("today", traffic, least=3 * traffic.n_devices))
            ours.append(bench.saturate("daemon", traffic))
        self._add(
            "baseline",
            "windows a second, JSON at QoS 1",
            "1/s",
            [run.windows_s for run in ours],
            "callback, deques, predict per window",
            [run.windows_s for run in today],
        )

    def inference(self, bench: Bench) -> None:
        """The classifier alone."""
        bundle = bundles.load(bundles.find(self.options.model))
        backends = [name for name, file in inferring.FILES.items() if file in bundle.files]
        runs: dict[str, list[inferring.Inference]] = defaultdict(list)
        for number in range(self.options.repeats):
            self._tick(f"inference {number + 1}")
            for backend in backends:
                runs[backend].append(inferring.measure(bundle, backend, self.options.n_windows))
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

    def latency(self, bench: Bench) -> None:
        """Of labels, at life speed: few devices, and half of what saturates."""
        few = Traffic(self.options.n_live, "json")
        half = Traffic(self._half_of_saturation(bench), "json")
        ours: dict[Traffic, list[waiting.Latency]] = defaultdict(list)
        bare: dict[Traffic, list[waiting.Latency]] = defaultdict(list)
        for number in range(self.options.repeats):
            self._tick(f"latency {number + 1}")
            for traffic in (few, half):
                bare[traffic].append(
                    waiting.live(bench, "nobody", traffic, self.options.latency_s, self.options.warm_up_s)
                )
                ours[traffic].append(
                    waiting.live(bench, "daemon", traffic, self.options.latency_s, self.options.warm_up_s)
                )
        for traffic, what in ((few, "live wearables"), (half, "live wearables, half of saturation")):
            for q in waiting.PERCENTILES:
                self._add(
                    "latency",
                    f"p{q} at {traffic.n_devices:,} {what}: sample sent to label heard",
                    "ms",
                    [_heard(run.percentile(q)) for run in ours[traffic]],
                    ROUND_TRIP,
                    [_heard(run.percentile(q)) for run in bare[traffic]],
                    cores=[run.cpu for run in ours[traffic]],
                    load_late_ms=[run.load_late_ms for run in ours[traffic]],
                    dropped=sum(run.dropped for run in ours[traffic]),
                )

    def _half_of_saturation(self, bench: Bench) -> int:
        """Devices."""
        traffic = Traffic(self.options.n_devices, "json")
        if not self._saturated[traffic]:
            self._saturated[traffic].append(bench.saturate("daemon", traffic))
        runs = sorted(run.messages_s for run in self._saturated[traffic])
        return max(round(runs[len(runs) // 2] / MESSAGES_S / 2), 1)

    def live(self, bench: Bench) -> None:
        """Fleets at life speed: held without a drop, or not."""
        self._tick("live")
        for payload, n_devices in (("json", self.options.live_json), ("packed", self.options.live_packed)):
            for qos in (1, 0):
                traffic = Traffic(n_devices, payload, qos)
                run = waiting.live(bench, "daemon", traffic, self.options.live_s, self.options.warm_up_s)
                self._add(
                    "live",
                    f"{n_devices:,} wearables, {payload} at QoS {qos}, {self.options.live_s:.0f} s: messages not done",
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

    def start(self, bench: Bench) -> None:
        """Time to ready, and memory at rest."""
        ours, bare = [], []
        for number in range(self.options.repeats):
            self._tick(f"start {number + 1}")
            bare.append(startup.imports())
            ours.append(startup.start(bench))
        what = "importing numpy, scipy.signal, LiteRT"
        self._add("start", "start to ready", "s", [s for s, _ in ours], what, [s for s, _ in bare])
        self._add("start", "memory at rest", "MB", [b / 1e6 for _, b in ours], what, [b / 1e6 for _, b in bare])

    def memory(self, bench: Bench) -> None:
        """Memory with many devices."""
        held: dict[int, list[int]] = defaultdict(list)
        for number in range(self.options.repeats):
            self._tick(f"memory {number + 1}")
            for n_devices in (0, *self.options.sizes):
                held[n_devices].append(startup.memory(bench, n_devices) if n_devices else startup.start(bench)[1])
        for n_devices in self.options.sizes:
            a_device = [(full - rest) / n_devices for full, rest in zip(held[n_devices], held[0], strict=True)]
            self._add("memory", f"memory with {n_devices:,} devices", "MB", [each / 1e6 for each in held[n_devices]])
            self._add("memory", f"of it, for each of {n_devices:,} devices", "kB", [each / 1e3 for each in a_device])

    def growth(self, bench: Bench) -> None:
        """Cost per sample with few devices and with many."""
        classifier = load_classifier(self.options.model, self.options.backend)
        spent: dict[int, list[float]] = defaultdict(list)
        for number in range(self.options.repeats):
            self._tick(f"growth {number + 1}")
            for n_devices in self.options.grown:
                spent[n_devices].append(growing.us_per_sample(classifier, n_devices))
        least = min(self.options.grown)
        for n_devices in self.options.grown:
            self._add(
                "growth",
                f"a sample's cost with {n_devices:,} devices, message to label",
                "us",
                spent[n_devices],
                f"with {least:,} devices",
                spent[least],
            )

    def _add(
        self,
        mode: str,
        name: str,
        unit: str,
        values: Sequence[float],
        ceiling_name: str = "",
        ceiling: Sequence[float] = (),
        **details: object,
    ) -> None:
        self.figures.append(Figure(mode, name, unit, values, ceiling_name, ceiling, details))


def _heard(ms: float | None) -> float:
    if ms is None:
        raise HarstreamError("bench: nothing was heard")
    return ms


MODES: dict[str, Callable[[Suite, Bench], None]] = {
    mode.__name__: mode
    for mode in (
        Suite.ingest,
        Suite.tls,
        Suite.baseline,
        Suite.inference,
        Suite.latency,
        Suite.live,
        Suite.start,
        Suite.memory,
        Suite.growth,
    )
}
#: What is measured once, whatever the repeats: a fleet is held, or it is not.
ONCE = {"live"}
