"""A daemon among devices that do what real ones do: each is named with its problem, and no label is wrong.

Show the log of this meeting:

    make test PYTEST_ARGS="tests/serve/test_bad_devices.py -o log_cli=true --log-cli-format='%(message)s'"
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

import numpy as np
import pytest

from harstream.classifier import load_classifier
from harstream.core.batches import Predictions
from harstream.core.familiar import MEMORY
from harstream.serve.daemon import Daemon
from harstream.serve.health_log import GUIDE
from harstream.serve.pipeline import Publication
from harstream.simulate.source import sources

from ..fakes import Clock
from ..servers import http_get, metric
from ..test_documents import ROOT
from .daemons import WrappedClassifier, exposed, make_config
from .test_http import serving_http

START_S = 1.7636688e9
DURATION_S = 90.0

#: A message: when it arrives, in s since the start, and its content.
Sent = tuple[float, bytes]
Content = dict[str, Any]


def healthy(seed: int, offset_s: float = 0.0, rate_hz: float = 50.0) -> Iterator[tuple[float, Content]]:
    """Yield the messages of a walking subject: half a second each, with stamps, rate and both sensors."""
    source = sources(1, seed, rate_hz=rate_hz, activity="WALKING")[0]
    for sent in source.messages(round(rate_hz / 2), offset_s, 0):
        samples = sent.samples.astype(np.float64)
        content = {
            "t": START_S + sent.t_ns / 1e9,
            "rate_hz": rate_hz,
            "acc": samples[:, :3].tolist(),
            "gyro": samples[:, 3:].tolist(),
        }
        yield sent.leaves_s, content


def changed(seed: int, change: Callable[[float, Content], object]) -> Iterator[Sent]:
    """Yield the messages of a subject after ``change`` of each."""
    for at_s, content in healthy(seed):
        change(at_s, content)
        yield at_s, json.dumps(content).encode()


def linear_acceleration(at_s: float, content: Content) -> None:
    acc = np.array(content["acc"])
    content["acc"] = (acc - acc.mean(axis=0)).tolist()


def degrees(at_s: float, content: Content) -> None:
    content["gyro"] = np.degrees(content["gyro"]).tolist()


def y_axis_up(at_s: float, content: Content) -> None:
    for name in ("acc", "gyro"):
        x, y, z = np.array(content[name]).T
        content[name] = np.stack([-y, x, z], axis=1).tolist()


def without_gyroscope(at_s: float, content: Content) -> None:
    del content["gyro"]


def before_1970(at_s: float, content: Content) -> None:
    content["t"] -= 2e9


def whole_seconds(at_s: float, content: Content) -> None:
    content["t"] = int(content["t"])


def reboot(at_s: float, content: Content) -> None:
    if at_s > 40:
        content["t"] -= START_S + 38


def negative_rate(at_s: float, content: Content) -> None:
    content["rate_hz"] = -50


def half_the_rate(at_s: float, content: Content) -> None:
    content["rate_hz"] = 100


def two_phones() -> Iterator[Sent]:
    for at_s, content in heapq.merge(healthy(71), healthy(72, 0.25), key=lambda sent: sent[0]):
        yield at_s, json.dumps(content).encode()


def once_a_second() -> Iterator[Sent]:
    """Yield one sample a second, from which no model's rate can be made."""
    for at_s, content in healthy(8):
        if at_s % 1 < 0.01:
            one = {**content, "rate_hz": 1, "acc": content["acc"][:1], "gyro": content["gyro"][:1]}
            yield at_s, json.dumps(one).encode()


def broken_json() -> Iterator[Sent]:
    for at_s, content in healthy(10):
        yield at_s, json.dumps(content).encode()[:-20]


#: Device to its messages and its problem; None: a message that cannot be read is no problem of the signal.
DEVICES: dict[str, tuple[Callable[[], Iterator[Sent]], str | None]] = {
    "linear-acceleration": (lambda: changed(1, linear_acceleration), "gravity"),
    "degrees": (lambda: changed(2, degrees), "gyroscope"),
    "y-axis-up": (lambda: changed(13, y_axis_up), "unfamiliar"),
    "without-gyroscope": (lambda: changed(3, without_gyroscope), "gyroscope"),
    "before-1970": (lambda: changed(4, before_1970), "stamps"),
    "whole-seconds": (lambda: changed(5, whole_seconds), "stamps"),
    "rebooted": (lambda: changed(6, reboot), "clock"),
    "two-phones": (two_phones, "overlap"),
    "once-a-second": (once_a_second, "rate"),
    "negative-rate": (lambda: changed(9, negative_rate), "rate"),
    "half-the-rate": (lambda: changed(11, half_the_rate), "rate"),
    "broken-json": (broken_json, None),
    "as-it-should-be": (lambda: changed(12, lambda at_s, content: None), None),
}
UNTRUSTED = {"gravity", "gyroscope", "overlap", "unfamiliar"}
#: Devices that get labels, right ones or UNKNOWN.
LABELLED = {
    *("linear-acceleration", "degrees", "y-axis-up", "whole-seconds", "rebooted", "two-phones", "half-the-rate"),
    "as-it-should-be",
}


def as_messages(device: str, sent: Iterator[Sent]) -> Iterator[tuple[float, str, bytes]]:
    return ((at_s, f"wearables/{device}/imu", payload) for at_s, payload in sent)


def meet(daemon: Daemon) -> None:
    """Let all devices send for a while."""
    streams = [as_messages(device, make()) for device, (make, _) in DEVICES.items()]
    daemon.labelling.start()
    for at_s, topic, payload in takewhile(lambda one: one[0] < DURATION_S, heapq.merge(*streams)):
        daemon.clock.now_s, daemon.monotonic.now_s = START_S + at_s, 1000.0 + at_s  # type: ignore[attr-defined]
        daemon.receive([(topic, payload, False, 0)])
        daemon.step(0)
    daemon.labelling.finish()


def without_values(line: str) -> str:
    """Return a line of the log without the name of the device and without numbers."""
    return re.sub(r"-?\d+(\.\d+)?", "N", re.sub("'.*?'", "NAME", line, count=1))


def shown_lines() -> list[str]:
    """Return the lines about devices that the guide shows."""
    return re.findall(r"(?m)^    (device .*)$", (ROOT / GUIDE).read_text())


class RecordingDaemon(Daemon):
    """Daemon that keeps what it publishes."""

    published: list[tuple[str, bytes]]

    def publish(self, messages: Sequence[Publication], *, retain: bool) -> int:
        self.published += messages
        return len(messages)

    def labels(self, device: str) -> list[Content]:
        return [json.loads(payload) for topic, payload in self.published if topic == f"wearables/{device}/activity"]


class KnowsUpright(WrappedClassifier):
    """Classifier that knows devices whose x axis points up."""

    def predict(self, windows: np.ndarray) -> Predictions:
        x = windows[:, :, self.bundle.spec.channels.index("total_acc_x")]
        return replace(super().predict(windows), unfamiliar=x.mean(axis=1) < 0.5)


@pytest.fixture
def daemon() -> RecordingDaemon:
    classifier, settings = KnowsUpright(load_classifier("waist", "litert")), make_config(events_topic="off")
    daemon = RecordingDaemon(settings, classifier, clock=Clock(START_S), monotonic=Clock(1000.0))
    daemon.published = []
    return daemon


def test_each_device_is_named_with_its_problem_and_no_label_is_wrong(daemon, caplog):
    meet(daemon)
    wanted = {device: problem for device, (_, problem) in DEVICES.items() if problem}

    # The log: a line for each device and problem, and none for devices without a problem.
    lines = [line for line in caplog.messages if line.startswith("device ")]
    named = [(line.split("'")[1], line.split(" has the problem ")[1].split(":")[0]) for line in lines]
    assert len(named) == len(set(named))
    assert set(wanted.items()) <= set(named)
    # Until their messages are known not to continue each other, two devices look like one that is twice as fast.
    assert set(named) - set(wanted.items()) <= {("two-phones", "rate")}

    # The guide shows these lines; if this fails, copy the new ones there.
    shown = [line for line in shown_lines() if "'belt-9'" not in line]  # whose two sensors are those of ``test_split``
    assert {line.partition("(see ")[2] for line in shown} == {f"{GUIDE}#{problem})" for problem in wanted.values()}
    assert set(map(without_values, shown)) <= set(map(without_values, lines))

    uniform = 1 / len(daemon.sources[0].pipeline.classifier.bundle.outputs)
    # Labels: right where the data can be used, UNKNOWN where they cannot, or none.
    for device, problem in wanted.items() | {("as-it-should-be", None)}:
        labels = daemon.labels(device)
        if device not in LABELLED:
            assert labels == []
            continue
        assert len(labels) > 30
        if problem in UNTRUSTED:
            seen = labels[MEMORY - 1 :] if problem == "unfamiliar" else labels
            assert {one["label"] for one in labels} == {"UNKNOWN"}
            assert {one["problem"] for one in seen} == {problem}
            assert max(one["confidence"] for one in labels) == pytest.approx(uniform, abs=1e-4)
            assert max(max(one["probabilities"].values()) for one in labels) == pytest.approx(uniform, abs=1e-4)
        else:
            assert {one.get("problem") for one in labels} <= {problem, None}
            assert sum(one["label"] == "WALKING" for one in labels) > 0.9 * len(labels)

    # Metrics and API: the same problems.
    daemon.sources[0].devices.snapshot(0)  # asks for a fresh one
    daemon.step(0)
    with serving_http(daemon) as url:
        listed = json.loads(http_get(f"{url}/api/devices?problem=any")[1])
        assert {one["device"]: one["problem"] for one in listed["devices"]} == wanted
        for problem in set(wanted.values()):
            total = json.loads(http_get(f"{url}/api/devices?problem={problem}")[1])["total"]
            assert metric(exposed(daemon), f'harstream_devices_with_problem{{problem="{problem}"}}') == total
            assert total >= sum(one == problem for one in wanted.values())
        for device, problem in wanted.items():
            details = json.loads(http_get(f"{url}/api/devices/{device}")[1])["details"]
            assert [one for one in details if one["problem"] == problem and one["detail"]]
        broken = json.loads(http_get(f"{url}/api/devices/broken-json")[1])
        assert (broken["problems"], broken["details"][0]["problem"]) == ([], None)
        assert "rejected (json)" in broken["details"][0]["detail"]
