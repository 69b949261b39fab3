"""Modes of ``harstream bench`` about throughput: payloads, TLS, several sources, malformed messages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from harstream import shipped
from harstream.bench import broker as brokers
from harstream.bench import latency
from harstream.bench.run import MESSAGES_S, Run
from harstream.bench.testbed import Testbed, Traffic
from harstream.bench.throughput import Throughput

#: Names of ceilings in the table.
PAHO = "paho, empty callback"
C_CLIENT = "mosquitto_sub, a client in C"
SOUND = "only sound messages"
ONE_SOURCE = "the daemon with one source"


class Rates(Run):
    """Modes that measure throughput."""

    def ingest(self, testbed: Testbed) -> None:
        """Measure throughput with JSON and packed payloads, at QoS 1 and QoS 0, and with those of boards and apps."""
        n_devices = self.options.n_devices
        canonical = [Traffic(n_devices, payload, qos) for qos in (1, 0) for payload in ("json", "packed")]
        beside_c_client = canonical if brokers.find("mosquitto_sub") else []
        if not beside_c_client:
            self.missing.append("ingest beside a client in C: needs mosquitto_sub (package mosquitto-clients)")
        others = [Traffic(n_devices, payload) for payload in ("fields", "sensor-logger")]
        self._throughput(testbed, "ingest", [*canonical, *others], beside_c_client)

    def tls(self, testbed: Testbed) -> None:
        """Measure throughput over TLS."""
        if not testbed.broker.tls_port:
            self.missing.append("tls: needs mosquitto and openssl")
            return
        traffics = [Traffic(self.options.n_devices, payload, tls=True) for payload in ("json", "packed")]
        self._throughput(testbed, "tls", traffics)

    def _throughput(
        self, testbed: Testbed, mode: str, traffics: Sequence[Traffic], beside_c_client: Sequence[Traffic] = ()
    ) -> None:
        """Measure the daemon and paho by turns, and for some traffics the client in C."""
        daemon: dict[Traffic, list[Throughput]] = defaultdict(list)
        ceilings: dict[Traffic, list[Throughput]] = defaultdict(list)
        others: dict[Traffic, list[Throughput]] = defaultdict(list)
        for number in range(self.options.repeats):
            self._tick(f"{mode} {number + 1}")
            for traffic in traffics:
                ceilings[traffic].append(self._saturate(testbed, "paho", traffic))
                if traffic in beside_c_client:
                    others[traffic].append(self._saturate(testbed, "c-client", traffic))
                daemon[traffic].append(self._saturate(testbed, "daemon", traffic))
        for traffic in traffics:
            self._saturated[traffic] += daemon[traffic]
            ours, bare = daemon[traffic], ceilings[traffic]
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
            if traffic in others:
                self._add(
                    mode,
                    f"{name}: messages a second",
                    "1/s",
                    [run.messages_s for run in ours],
                    C_CLIENT,
                    [run.messages_s for run in others[traffic]],
                    ceiling_cpu_us_per_message=[run.cpu_us for run in others[traffic]],
                )

    def sources(self, testbed: Testbed) -> None:
        """Measure a daemon with four sources, which have one model or two, beside one with one source."""
        model = self.options.model
        other = shipped.DEFAULT_MODEL if model != shipped.DEFAULT_MODEL else shipped.SIMULATED_MODEL
        one, *several = kinds = {
            "one source": (),
            "four sources, one model": (model,) * 4,
            "four sources, two models": (model, other) * 2,
        }
        rates: dict[str, list[Throughput]] = defaultdict(list)
        ceilings: list[Throughput] = []  # with the topics of four sources, whatever their models
        lives: dict[str, list[latency.Latency]] = defaultdict(list)
        for number in range(self.options.repeats):
            self._tick(f"sources {number + 1}")
            ceilings.append(
                self._saturate(testbed, "paho", Traffic(self.options.n_devices, "json", models=kinds[several[0]]))
            )
            for kind, models in kinds.items():
                full = Traffic(self.options.n_devices, "json", models=models)
                few = Traffic(self.options.n_shared, "json", models=models)
                rates[kind].append(self._saturate(testbed, "daemon", full))
                lives[kind].append(latency.live(testbed, "daemon", few, self.options.latency_s, self.options.warm_up_s))
        for kind in several:
            for ceiling_name, bare in ((PAHO, ceilings), (ONE_SOURCE, rates[one])):
                self._add(
                    "sources",
                    f"json at QoS 1, {kind}: messages a second",
                    "1/s",
                    [run.messages_s for run in rates[kind]],
                    ceiling_name,
                    [run.messages_s for run in bare],
                    windows_s=[run.windows_s for run in rates[kind]],
                    cpu_us_per_message=[run.cpu_us for run in rates[kind]],
                    ceiling_cpu_us_per_message=[run.cpu_us for run in bare],
                    dropped=sum(run.dropped for run in rates[kind]),
                )
        messages_s = MESSAGES_S * self.options.n_shared
        for kind in several:
            self._add(
                "sources",
                f"processor time a message with {self.options.n_shared:,} live wearables, {kind}",
                "us",
                [1e6 * run.cpu / messages_s for run in lives[kind]],
                ONE_SOURCE,
                [1e6 * run.cpu / messages_s for run in lives[one]],
                latency_p50_ms=[run.percentile(50) for run in lives[kind]],
                latency_p99_ms=[run.percentile(99) for run in lives[kind]],
                ceiling_latency_p50_ms=[run.percentile(50) for run in lives[one]],
                ceiling_latency_p99_ms=[run.percentile(99) for run in lives[one]],
                dropped=sum(run.dropped for run in lives[kind]),
            )

    def poison(self, testbed: Testbed) -> None:
        """Measure throughput when every other message must be rejected, beside that of sound messages only."""
        sound, poisoned = (Traffic(self.options.n_devices, payload) for payload in ("json", "poisoned"))
        runs: dict[Traffic, list[Throughput]] = defaultdict(list)
        for number in range(self.options.repeats):
            self._tick(f"poison {number + 1}")
            for traffic in (sound, poisoned):
                runs[traffic].append(self._saturate(testbed, "daemon", traffic))
        self._add(
            "poison",
            "every other message malformed, JSON at QoS 1: messages a second",
            "1/s",
            [run.messages_s for run in runs[poisoned]],
            SOUND,
            [run.messages_s for run in runs[sound]],
            cpu_us_per_message=[run.cpu_us for run in runs[poisoned]],
            ceiling_cpu_us_per_message=[run.cpu_us for run in runs[sound]],
            windows_s=[run.windows_s for run in runs[poisoned]],
            dropped=sum(run.dropped for run in runs[poisoned]),
        )
