"""A device whose windows the model finds unfamiliar: its labels, the log, the API and the metrics say so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harstream.bundle import Bundle
from harstream.classifier import Classifier
from harstream.core.familiar import Familiar, Limits
from harstream.core.problems import Problem
from harstream.core.smoothing_section import Smoothing
from harstream.datasets.base import Recording
from harstream.serve.daemon import Daemon
from harstream.serve.labelling import DevicesEvicted
from harstream.serve.pipeline import Publication, UnfamiliarChanged
from harstream.wire.decoder import Message

from ..constants import SPEC, T0_NS
from ..fakes import Clock, FunctionNetwork
from ..live_streams import messages
from ..servers import http_get, metric
from .daemons import exposed, make_config
from .test_http import serving_http

START_S = T0_NS / 1e9
METRIC = 'harstream_devices_with_problem{problem="unfamiliar"}'
X = SPEC.channels.index("total_acc_x")


def upright_only(inputs: np.ndarray) -> np.ndarray:
    """Return logits that always say WALKING, and one feature: mean acceleration along x in g."""
    outputs = np.zeros((len(inputs), 7), np.float32)
    outputs[:, 0] = 5
    outputs[:, 6] = inputs[:, :, X].mean(axis=1) * SPEC.norm.std[X] + SPEC.norm.mean[X]
    return outputs


def spotting(bundle: Bundle, **fields: Any) -> Classifier:
    """Return a classifier that knows devices whose x axis points up."""
    familiar = Familiar(np.array([[1.0]]), np.array([[1.0]]), Limits(0.25, 100.0))
    return Classifier(
        replace(bundle, **{"familiar": familiar, "placement": "at the waist", **fields}),
        "litert",
        FunctionNetwork(upright_only),
    )


class SyncDaemon(Daemon):
    """Daemon without threads, which keeps what it publishes."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(make_config(), classifier, clock=Clock(START_S), monotonic=Clock(1000.0))
        self.published: list[tuple[str, bytes]] = []
        self.sent_s = 0.0
        self.angles: dict[str, float] = {}

    def publish(self, messages: Sequence[Publication], *, retain: bool) -> int:
        self.published += messages
        return len(messages)

    def send(self, device: str, angle: float, seconds: int) -> list[dict[str, Any]]:
        """Let a device send, with its x axis at an angle in degrees to the vertical, to which it turns in two seconds.

        Return the messages of its labels, after the next refresh.
        """
        return self.send_together({device: angle}, seconds)

    def send_together(self, angles: dict[str, float], seconds: int) -> list[dict[str, Any]]:
        """Let several devices send at the same time: ``send`` for each of them."""
        before = len(self.published)
        sent = [self._messages(device, angle, seconds) for device, angle in angles.items()]
        for at_once in zip(*sent, strict=True):
            self.sent_s += 0.5
            self.clock.now_s, self.monotonic.now_s = START_S + self.sent_s, 1000 + self.sent_s  # type: ignore[attr-defined]
            due = self.make_windows([Message(topic, payload, self.clock()) for topic, payload in at_once])
            if due.parts:
                assert sorted(due.parts[0].windows.devices) == sorted(angles)
                self.labelling.label([due])
        self.refresh()
        return [json.loads(content) for topic, content in self.published[before:] if topic.endswith("/activity")]

    def _messages(self, device: str, angle: float, seconds: int) -> list[tuple[str, bytes]]:
        samples = np.random.default_rng(round(self.sent_s)).normal(scale=0.02, size=(50 * seconds, 6))
        angles = np.full(len(samples), np.radians(angle))
        angles[:100] = np.linspace(self.angles.get(device, angles[0]), angles[0], 100)
        self.angles[device] = angles[0]
        samples[:, 0] += np.cos(angles)
        samples[:, 1] += np.sin(angles)
        samples[:, 5] -= np.gradient(angles) * 50
        recording = Recording(device, device, 50.0, samples.astype(np.float32), ())
        return list(messages([recording], t0_ns=T0_NS + round(self.sent_s * 1e9)))

    def refresh(self) -> None:
        self.sources.refresh(self.config.idle_s)

    def problem(self, device: str) -> str | None:
        """Return the problem of a device by the API."""
        with serving_http(self) as url:
            self.sources[0].devices._wanted = True
            self.refresh()
            status, body = http_get(f"{url}/api/devices/{device}")
            assert status == 200
            found: str | None = json.loads(body)["problem"]
            assert (f'"{device}"' in http_get(f"{url}/api/devices?problem=unfamiliar")[1]) == (found == "unfamiliar")
            return found


@pytest.fixture
def daemon(bundle: Bundle) -> SyncDaemon:
    return SyncDaemon(spotting(bundle))


def test_an_unfamiliar_device_is_named_everywhere_until_it_is_familiar_again(daemon, caplog):
    right = daemon.send("w1", 0, 20)
    assert {(one["label"], one.get("problem")) for one in right} == {("WALKING", None)}
    assert daemon.problem("w1") is None
    assert metric(exposed(daemon), METRIC) == 0

    wrong = daemon.send("w1", 90, 60)
    assert {one["label"] for one in wrong[3:]} == {"UNKNOWN"}
    names = [one.get("problem") for one in wrong]
    begins = names.index("unfamiliar")
    assert names == [None] * begins + ["unfamiliar"] * (len(names) - begins)
    assert 15 < begins < 25
    assert max(wrong[-1]["probabilities"].values()) == pytest.approx(1 / 6, abs=1e-4)
    assert daemon.problem("w1") == "unfamiliar"
    assert metric(exposed(daemon), METRIC) == 1
    for _ in range(3):
        daemon.refresh()
    lines = [line for line in caplog.messages if "unfamiliar" in line]
    assert lines == [
        "device 'w1' has the problem unfamiliar: most of its windows are unlike everything that random@0.0.1 was "
        "trained on; wear it as the training data were recorded (at the waist), check its axes and units, or use "
        "another model (see docs/how-to/troubleshoot.md#unfamiliar)"
    ]

    again = daemon.send("w1", 0, 60)
    assert (again[0]["label"], again[-1]["label"]) == ("UNKNOWN", "WALKING")
    assert "problem" not in again[-1]
    assert daemon.problem("w1") is None
    assert metric(exposed(daemon), METRIC) == 0
    assert [line for line in caplog.messages if "unfamiliar" in line] == lines


def test_an_odd_window_is_unknown_and_no_problem(daemon, caplog):
    daemon.send("w1", 0, 20)
    odd = daemon.send("w1", 90, 5)
    assert "UNKNOWN" in {one["label"] for one in odd}
    assert not any("problem" in one for one in odd)
    assert daemon.problem("w1") is None
    assert "unfamiliar" not in caplog.text


def test_a_bundle_that_cannot_tell_finds_nothing_unfamiliar(bundle: Bundle):
    network = FunctionNetwork(lambda inputs: upright_only(inputs)[:, :6])
    daemon = SyncDaemon(Classifier(bundle, "litert", network))
    assert bundle.familiar is None
    assert {one["label"] for one in daemon.send("w1", 90, 30)} == {"WALKING"}
    assert daemon.problem("w1") is None


@pytest.mark.parametrize("other_labels", [False, True])
def test_another_model_judges_anew_and_the_same_model_does_not(daemon, bundle: Bundle, other_labels: bool):
    daemon.send("w1", 90, 30)
    pipeline, smoothing = daemon.sources[0].pipeline, bundle.smoothing
    daemon.labelling.change_model(pipeline, spotting(bundle, version="0.0.2"), smoothing)
    daemon.refresh()
    assert daemon.problem("w1") == "unfamiliar"
    assert {one["problem"] for one in daemon.send("w1", 90, 5)} == {"unfamiliar"}

    wider = replace(spotting(bundle).bundle.familiar, limits=Limits(99.0, 100.0))  # type: ignore[type-var]
    fields: dict[str, Any] = {"labels": tuple(f"NEW_{one}" for one in bundle.labels)} if other_labels else {}
    daemon.labelling.change_model(pipeline, spotting(bundle, familiar=wider, **fields), smoothing)
    daemon.refresh()
    assert daemon.problem("w1") is None
    assert metric(exposed(daemon), METRIC) == 0
    after = daemon.send("w1", 90, 5)
    assert {one["label"] for one in after} == {"NEW_WALKING" if other_labels else "WALKING"}
    assert not any("problem" in one for one in after)


def test_another_smoothing_does_not_judge_anew(daemon, bundle: Bundle):
    daemon.send("w1", 90, 30)
    daemon.send("w2", 0, 30)
    other = Smoothing("none", 0.4)
    assert other != bundle.smoothing
    daemon.labelling.change_model(daemon.sources[0].pipeline, daemon.sources[0].pipeline.classifier, other)
    assert daemon.sources[0].pipeline.smoother.smoothing == other
    daemon.refresh()
    assert [daemon.problem("w1"), daemon.problem("w2")] == ["unfamiliar", None]
    assert {(one["label"], one["problem"]) for one in daemon.send("w1", 0, 10)} == {("UNKNOWN", "unfamiliar")}
    assert {one["label"] for one in daemon.send("w2", 0, 5)} == {"WALKING"}


def test_a_model_that_cannot_tell_ends_the_problem(daemon, bundle: Bundle):
    daemon.send("w1", 90, 30)
    network = FunctionNetwork(lambda inputs: upright_only(inputs)[:, :6])
    daemon.labelling.change_model(daemon.sources[0].pipeline, Classifier(bundle, "litert", network), bundle.smoothing)
    daemon.refresh()
    assert daemon.problem("w1") is None
    assert {one["label"] for one in daemon.send("w1", 90, 5)} == {"WALKING"}


def test_a_device_that_is_back_after_its_eviction_does_not_keep_the_problem(daemon):
    """The labelling thread is behind: it hears of the eviction when the main loop has seen the device again."""
    daemon.send("w1", 90, 30)
    assert daemon.problem("w1") == "unfamiliar"
    evicted = daemon.sources[0].pipeline.engine.evict(1e9)
    assert evicted == ["w1"]
    daemon.sources[0].pipeline._unfamiliar.put(UnfamiliarChanged("w1", "it was found before the eviction"))
    daemon.make_windows(
        [Message(*next(messages([Recording("w1", "w1", 50.0, np.ones((25, 6), np.float32), ())])), 0.0)]
    )
    daemon.refresh()
    assert daemon.problem("w1") == "unfamiliar"
    handed_over = DevicesEvicted(daemon.sources[0].pipeline, evicted)
    daemon.labelling.evict(handed_over.pipeline, handed_over.devices)
    daemon.refresh()
    assert daemon.problem("w1") is None


def test_what_is_found_of_a_device_without_state_is_ignored(daemon):
    daemon.sources[0].pipeline._unfamiliar.put(UnfamiliarChanged("nobody", "it is gone"))
    daemon.sources[0].pipeline._unfamiliar.put(UnfamiliarChanged("nobody", None))
    daemon.refresh()
    assert daemon.sources[0].pipeline.engine.problem_counts()[Problem.UNFAMILIAR] == 0
    assert daemon.sources[0].pipeline.take_unfamiliar() == []


def test_the_devices_of_one_batch_are_told_apart(daemon, caplog):
    daemon.send_together({"w1": 90, "w2": 0, "w3": 180}, 30)
    assert [daemon.problem(f"w{i}") for i in (1, 2, 3)] == ["unfamiliar", None, "unfamiliar"]
    assert metric(exposed(daemon), METRIC) == 2
    assert sum("has the problem unfamiliar" in line for line in caplog.messages) == 2
