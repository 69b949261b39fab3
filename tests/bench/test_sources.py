"""The benchmark of a daemon with several sources: topics of load, daemon, and what the daemon is compared with."""

from __future__ import annotations

import dataclasses
import urllib.request
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from harstream.bench import latency, packets, testbed
from harstream.bench.counters import DONE, DROPPED, SENT, WINDOWS
from harstream.bench.listener import received, split_publishes
from harstream.bench.processes import wait_until
from harstream.bench.run import SMOKE
from harstream.bench.suite import Suite
from harstream.bench.testbed import Traffic

from ..constants import T0_NS
from ..servers import program


def test_every_message_and_window_of_four_sources_is_processed_by_the_source_it_belongs_to(broker, tmp_path):
    bench = testbed.Testbed(broker, tmp_path, model="waist", backend="auto")
    n_devices, rounds = 64, 20
    traffic = Traffic(n_devices, "json", models=("waist", "phone") * 2)
    sent = [rounds - i % packets.STARTS for i in range(n_devices)]
    windows = sum((25 * n - 128) // 64 + 1 for n in sent)
    of_each = {f"site-{source}": 0 for source in range(4)}
    for i, n in enumerate(sent):
        of_each[f"site-{packets.source_of(i, 4)}"] += n
    with bench.under_load("daemon", traffic, rounds=rounds) as running:
        counters = running.counters
        wait_until(lambda: counters[DONE] == sum(sent), "every message", running.receiver, running.load)
        wait_until(lambda: counters[WINDOWS] == windows, "every window", running.receiver, running.load)
        assert (counters[SENT], counters[DROPPED]) == (sum(sent), 0)
        with urllib.request.urlopen(f"http://127.0.0.1:{running.http_port}/metrics") as answer:
            families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}

    def by_source(family: str) -> dict[str, float]:
        """Return the sum of the family's values for each source; one without the label ``source`` is an error."""
        totals: dict[str, float] = defaultdict(float)
        for sample in families[family].samples:
            if not sample.name.endswith("_created"):
                totals[sample.labels["source"]] += sample.value
        return dict(totals)

    assert by_source("harstream_messages_received") == of_each
    assert len(set(of_each.values())) == 1
    assert set(by_source("harstream_messages_rejected").values()) == {0}
    labelled = by_source("harstream_windows_classified")
    assert sum(labelled.values()) == windows
    assert len(set(labelled.values())) == 1
    models = {sample.labels["source"]: sample.labels["model"] for sample in families["harstream_model_info"].samples}
    assert {source: model.partition("@")[0] for source, model in models.items()} == {
        f"site-{source}": model for source, model in enumerate(traffic.models)
    }


@pytest.mark.parametrize("receiver", ["paho", "c-client", "plain"])
def test_a_ceiling_receives_the_messages_of_all_sources(broker, tmp_path, receiver):
    if receiver == "c-client":
        program("mosquitto_sub")
    bench = testbed.Testbed(broker, tmp_path, model="waist", backend="auto")
    n_devices, rounds = 16, 10
    with bench.under_load(receiver, Traffic(n_devices, "json", models=("waist",) * 4), rounds=rounds) as running:
        sent = sum(rounds - i % packets.STARTS for i in range(n_devices))
        wait_until(lambda: running.counters[DONE] == sent, "every message", running.receiver, running.load)


@pytest.mark.parametrize(
    ("receiver", "seconds"),
    [("idle", 1.0), *(pytest.param(name, 10.0, marks=pytest.mark.slow) for name in ("daemon", "plain"))],
)
def test_latency_is_measured_over_the_topics_of_all_sources(broker, tmp_path, receiver, seconds):
    bench = testbed.Testbed(broker, tmp_path, model="waist", backend="auto")
    traffic = Traffic(16, "json", models=("waist",) * 4)
    run = latency.live(bench, receiver, traffic, seconds, warm_up_s=2.5)
    assert len(run.ms) > 0
    (folder,) = tmp_path.glob("live-*")
    kind = "imu" if receiver == "idle" else "activity"
    heard = {topic.split("/", 1)[0] for topic, _ in received(folder)[0] if topic.endswith(f"/{kind}")}
    assert heard == {f"site-{source}" for source in range(4)}


@pytest.mark.parametrize(("model", "other"), [("waist", "phone"), ("phone", "waist"), ("wrist", "phone")])
def test_four_sources_are_measured_with_as_many_devices_as_one_beside_paho_on_their_topics(
    instant, monkeypatch, model, other
):
    live = latency.Latency(np.ones(3), 1, 1, 0, 0.5, 0.0)
    monkeypatch.setattr(latency, "live", lambda *_: live)
    suite = Suite(dataclasses.replace(SMOKE, model=model))
    bench: Any = None
    suite.sources(bench)
    (paho, bare), *daemons = instant
    assert paho == "paho"
    assert [(receiver, traffic.models) for receiver, traffic in daemons] == [
        ("daemon", ()),
        ("daemon", (model,) * 4),
        ("daemon", (model, other) * 2),
    ]
    assert {(traffic.n_devices, traffic.payload, traffic.qos) for _, traffic in instant} == {(20, "json", 1)}
    assert {traffic.samples_filters for _, traffic in daemons[1:]} == {bare.samples_filters}
    assert bare.samples_filters == tuple(f"site-{source}/wearables/+/imu" for source in range(4))
    assert {figure.ceiling_name for figure in suite.figures} == {"paho, empty callback", "the daemon with one source"}


def test_devices_belong_evenly_to_the_sources_in_every_round_of_starts():
    topics = [f"site-{source}/wearables/{{device}}/imu" for source in range(4)]
    rounds = packets.Rounds(64, "json", 1, topics=topics)
    for number_ in (0, 3, packets.STARTS):
        data, _, devices = rounds.packets(number_, np.full(64, T0_NS))
        sent = [topic for topic, _, _ in split_publishes(bytes(data))]
        counts = Counter(topic.partition("/")[0] for topic in sent)
        assert set(counts.values()) == {len(devices) // 4}
        assert [topic.partition("/")[2] for topic in sent] == [
            f"wearables/{packets.device_name(i)}/imu" for i in devices
        ]
