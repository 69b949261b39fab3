"""What the daemon is compared with: rows appear where it is installed, and its labels are those of the daemon."""

from __future__ import annotations

import dataclasses
import random
from importlib.machinery import ModuleSpec

import numpy as np
import pytest

from harstream import bundle as bundles
from harstream import shipped
from harstream.bench import latency, others, packets, throughput
from harstream.bench.latency import Latency
from harstream.bench.listener import split_publishes
from harstream.bench.pathway_script import PathwayScript, Step
from harstream.bench.plain_script import Fleet, Label, Network
from harstream.bench.run import SMOKE
from harstream.bench.suite import Suite
from harstream.bench.throughput import Throughput
from harstream.classifier import load_classifier
from harstream.core.engine import Engine
from harstream.wire.decoder import Decoder, Message
from harstream.wire.topics import TopicTemplate

from ..constants import T0_NS

PATHWAY = 'beside "the plain script\'s job in Pathway": needs Pathway (pip install pathway beside harstream)'
TUTORIAL = "beside 'callback, deques, predict per window': needs TensorFlow (pip install '.[train]' in a checkout)"

# --- rows ---------------------------------------------------------------------------------------------


def install(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    monkeypatch.setattr(others, "find_spec", lambda name: ModuleSpec(name, None) if name in modules else None)


def measured(monkeypatch: pytest.MonkeyPatch, mode: str) -> tuple[list[str], Suite]:
    """Run a mode of two rounds without processes; return the receivers in the order in which they were measured."""
    order: list[str] = []

    def live(testbed, receiver, *rest):
        order.append(receiver)
        return Latency(np.array([1.0]), 20, 20, 0, len(receiver) / 100, 0.0)

    def saturate(testbed, receiver, *rest, warm_up_messages):
        order.append(receiver)
        return Throughput(100.0 * len(receiver), 40.0 * len(receiver), 5.0, 1.0, 0)

    monkeypatch.setattr(latency, "live", live)
    monkeypatch.setattr("harstream.bench.run.saturate", saturate)
    suite = Suite(dataclasses.replace(SMOKE, repeats=2, costs=(10,)))
    getattr(suite, mode)(None)
    return order, suite


@pytest.mark.parametrize(("mode", "unit"), [("cost", 500.0), ("baseline", 40.0)])
def test_pathway_has_a_row_beside_the_plain_script_from_the_same_rounds(monkeypatch, mode, unit):
    install(monkeypatch, "pathway", "keras")
    order, suite = measured(monkeypatch, mode)
    compared = ["plain", "pathway"] if mode == "cost" else ["tutorial", "plain", "pathway"]
    assert order == [*compared, "daemon"] * 2
    assert suite.missing == []
    assert [figure.ceiling_name for figure in suite.figures] == [others.OTHERS[name].name for name in compared]
    assert [list(figure.ceiling) for figure in suite.figures] == [[unit * len(name)] * 2 for name in compared]
    assert all(list(figure.values) == [unit * len("daemon")] * 2 for figure in suite.figures)


@pytest.mark.parametrize(
    ("mode", "missing"), [("cost", [f"cost {PATHWAY}"]), ("baseline", [f"baseline {TUTORIAL}", f"baseline {PATHWAY}"])]
)
def test_what_is_not_installed_is_not_run_and_listed_with_what_it_needs(monkeypatch, mode, missing):
    install(monkeypatch)
    order, suite = measured(monkeypatch, mode)
    assert order == ["plain", "daemon"] * 2
    assert suite.missing == missing
    assert [figure.ceiling_name for figure in suite.figures] == ["plain script of an able engineer"]


# --- labels -------------------------------------------------------------------------------------------

N_DEVICES, N_ROUNDS = 6, 40


@pytest.fixture(scope="module")
def sent() -> list[tuple[str, bytes]]:
    """Return device and payload of each message of a load, in the order of sending."""
    rounds = packets.Rounds(N_DEVICES, "json", 1)
    messages = []
    for number in range(N_ROUNDS):
        t_ns = np.full(N_DEVICES, T0_NS + number * packets.PERIOD_NS)
        data, _, _ = rounds.packets(number, t_ns)
        messages += [(topic.split("/")[1], payload) for topic, payload, _ in split_publishes(bytes(data))]
    return messages


@pytest.fixture(scope="module")
def plain(sent: list[tuple[str, bytes]]) -> list[Label]:
    """Return the labels of the plain script's fleet and network."""
    bundle = bundles.load(shipped.find("waist"))
    fleet, network = Fleet(bundle.spec), Network(bundle, "litert")
    return [label for name, payload in sent for due in fleet.add(name, payload) for label in network.label([due])]


def test_the_plain_script_labels_the_windows_of_the_engine_as_the_classifier_does(sent, plain):
    classifier = load_classifier("waist", "litert")
    decoder, engine = Decoder(TopicTemplate("wearables/{device}/imu")), Engine(classifier.bundle.spec)
    batch, rejections = decoder.decode(
        [Message(f"wearables/{name}/imu", payload, T0_NS / 1e9) for name, payload in sent]
    )
    assert rejections == []
    windows = engine.feed(batch)
    best = classifier.predict(windows.windows).probabilities.argmax(1)
    labels: dict[str, list[str]] = {}
    for device, label in zip(windows.devices, best, strict=True):
        labels.setdefault(device, []).append(classifier.bundle.labels[label])
    assert len(labels) == N_DEVICES
    assert labels == {device: [label for name, label, _, _ in plain if name == device] for device in labels}


@pytest.mark.parametrize("minibatch", [1, 7, 1000])
def test_the_job_in_pathway_labels_as_the_plain_script_does_whatever_the_order_in_a_minibatch(sent, plain, minibatch):
    script = PathwayScript({"model": "waist", "backend": "litert"})
    step: Step | None = None
    labels: list[Label] = []
    done = 0
    rows = [[number, *message] for number, message in enumerate(sent)]
    for begin in range(0, len(rows), minibatch):
        part = rows[begin : begin + minibatch]
        done += len(part)
        last, step = step, script.step(step, random.Random(begin).sample(part, len(part)))
        assert script.messages == begin  # those of this step are not labelled yet
        labels += script.label(step)
        assert (script.messages, script.windows) == (done, len(labels))
        assert last is None or (last != step and Step.dumps(last) != Step.dumps(step))
    assert [(name, label, t) for name, label, _, t in labels] == [(name, label, t) for name, label, _, t in plain]
    assert [confidence for _, _, confidence, _ in labels] == pytest.approx(
        [confidence for _, _, confidence, _ in plain], abs=2e-4
    )
    assert len({label for _, label, _, _ in labels}) > 1


def test_messages_a_second_and_processor_time_stand_beside_windows_a_second():
    ours, theirs = Throughput(9.0, 4.0, 3.0, 1.0, 0), Throughput(8.0, 3.0, 2.0, 1.0, 0)
    assert throughput.compared([ours], [theirs]) == {
        "messages_s": [9.0],
        "ceiling_messages_s": [8.0],
        "cpu_us_per_message": [3.0],
        "ceiling_cpu_us_per_message": [2.0],
    }
