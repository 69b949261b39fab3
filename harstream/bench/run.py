"""One run of ``harstream bench``: its amount of measurement and its figures, which all modes share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harstream import shipped
from harstream.bench.results import Figure
from harstream.bench.testbed import Testbed, Traffic
from harstream.bench.throughput import Throughput, saturate

#: Messages per second of a device at life speed.
MESSAGES_S = 2


@dataclass(frozen=True, slots=True)
class Options:
    """Amount of measurement. A reported figure is the median of ``repeats`` rounds."""

    model: str = shipped.SIMULATED_MODEL
    backend: str = "auto"
    repeats: int = 5
    seconds: float = 4.0  # duration of a measurement of throughput
    live_s: float = 60.0  # duration of a live fleet
    latency_s: float = 10.0  # duration of a measurement of latency
    warm_up_s: float = 8.0  # of both: the last wearables start after 4 s, and their first window takes 2.56 s
    n_devices: int = 2000  # devices in measurements of throughput
    n_windows: int = 4096  # windows in measurements of inference
    n_live: int = 1000  # devices in measurements of latency
    n_shared: int = 500  # devices in measurements of processor time with several sources
    costs: tuple[int, ...] = (10, 50, 500, 5000)  # numbers of devices in measurements of processor time
    viewers: tuple[int, ...] = (0, 1, 50)  # of the live page; the first is what the others are compared with
    live_json: int = 12_000  # devices of the live fleet with JSON
    live_packed: int = 20_000  # devices of the live fleet with packed payloads
    sizes: tuple[int, ...] = (1_000, 10_000, 100_000)  # numbers of devices in measurements of memory
    grown: tuple[int, ...] = (100, 1_000, 10_000, 100_000)  # numbers of devices in measurements of growth


#: Smallest amount of measurement: it shows that the benchmark works, not how fast anything is.
SMOKE = Options(
    repeats=1,
    seconds=0.3,
    live_s=1.0,
    latency_s=2.0,
    warm_up_s=3.5,
    n_devices=20,
    n_windows=64,
    n_live=20,
    n_shared=20,
    costs=(10, 20),
    live_json=20,
    live_packed=30,
    sizes=(10,),
    grown=(10, 50),
)


class Run:
    """One run of the benchmark. Its subclasses measure.

    Attributes:
        figures: Figures measured so far.
        broker: Name and version of the broker.
        missing: Modes that could not be measured, with the reason.

    """

    def __init__(self, options: Options, tick: Callable[[str], None] = lambda step: None) -> None:
        """Prepare a run; ``tick`` is called with the name of each round when it begins."""
        self.options = options
        self.figures: list[Figure] = []
        self.broker = ""
        self.missing: list[str] = []
        self._tick = tick
        self._saturated: dict[Traffic, list[Throughput]] = defaultdict(list)  # of the daemon, as measured so far

    def _saturate(
        self, testbed: Testbed, receiver: str, traffic: Traffic, warm_up_messages: int | None = None
    ) -> Throughput:
        return saturate(testbed, receiver, traffic, self.options.seconds, warm_up_messages=warm_up_messages)

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
