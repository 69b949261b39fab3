"""Devices and their health, as the HTTP interface answers it."""

from __future__ import annotations

import http.client
import json
import threading
import urllib.parse
from typing import Any

import numpy as np
import pytest

from harstream.core.engine import EngineStats
from harstream.core.health import DeviceHealth
from harstream.core.problems import Incident, Problem
from harstream.serve import api
from harstream.serve import devices as module
from harstream.serve.daemon import Daemon
from harstream.serve.devices import Devices
from harstream.serve.last_labels import LastLabels
from harstream.serve.pipeline import UnfamiliarChanged
from harstream.wire.reject import Rejection

from ..fakes import Clock
from ..live_streams import messages
from ..servers import Client, Mosquitto, http_get, wait_until
from .daemons import exposed, make_config, publish_all, running
from .test_http import serving_http

#: Names that outside programs rely on.
FIELDS = [
    *("device", "source", "model", "label", "confidence", "since", "last_seen"),
    *("rate_hz", "late", "gaps", "restarts", "acc_unit", "problem"),
]


PROBLEMS = ["gravity", "overlap", "gyroscope", "unfamiliar", "rate", "stamps", "clock"]


class Engine:
    """Reports the health that a test gives it."""

    def __init__(self) -> None:
        self.masks: dict[str, int] = {}
        self.incidents: list[Incident] = []
        self.stats = EngineStats(0, 0, 0, 0, 0, 0)
        self.max_devices, self.turned_away = 1000, ""

    def take_incidents(self) -> list[Incident]:
        taken, self.incidents = self.incidents, []
        return taken

    def problem_counts(self) -> dict[Problem, int]:
        return {problem: sum(bool(mask & problem) for mask in self.masks.values()) for problem in Problem}

    def devices_with(self, problem: Problem) -> list[str]:
        return [device for device, mask in self.masks.items() if mask & problem]

    def problems_of(self, devices: list[str]) -> np.ndarray:
        return np.array([self.masks.get(device, 0) for device in devices], np.int64)

    def health(self) -> DeviceHealth:
        n = len(self.masks)
        counts = np.arange(n)
        return DeviceHealth(
            list(self.masks),
            np.array([1e9 + i for i in range(n)], np.float64),
            np.array([np.nan, *[50.0] * n], np.float64)[:n],
            counts,
            10 * counts,
            100 * counts,
            ["g"] * n,
            np.array(list(self.masks.values()), np.int64),
        )


class Pipeline:
    """Stands for the pipeline of a source."""

    source, where = "source1", ""

    def __init__(self, classifier) -> None:
        self.engine, self.last_labels, self.classifier = Engine(), LastLabels(["WALKING", "UNKNOWN"]), classifier

    def take_unfamiliar(self) -> list[UnfamiliarChanged]:
        return []


@pytest.fixture
def pipeline(classifier) -> Pipeline:
    return Pipeline(classifier)


@pytest.fixture
def devices(pipeline) -> Devices:
    return Devices(pipeline, Clock(2e9), Clock(), lambda: None)  # type: ignore[arg-type]


def read(devices: Devices, **query: str) -> dict[str, Any]:
    devices._wanted = True
    devices.refresh(idle_s=60)
    status, _, body = api.list_devices(lambda: [devices.snapshot(0)], query)
    assert status == 200
    return json.loads(body)


def show(devices: Devices, device: str) -> dict[str, Any]:
    devices._wanted = True
    devices.refresh(idle_s=60)
    return json.loads(api.show_device(lambda: [devices.snapshot(0)], device, {})[2])


def test_a_device_has_exactly_the_promised_fields(devices, pipeline):
    pipeline.engine.masks = {"a": 0, "b": int(Problem.CLOCK | Problem.GRAVITY)}
    pipeline.last_labels.update(["b", "b"], ["UNKNOWN"] * 2, [0.2, 0.16667], [1_500_000_000, 2_780_000_000])
    a, b = read(devices)["devices"]
    assert list(a) == list(b) == FIELDS
    assert a == dict.fromkeys(FIELDS) | {
        "device": "a",
        "source": "source1",
        "model": "random@0.0.1",
        "last_seen": 1e9,
        "late": 0,
        "gaps": 0,
        "restarts": 0,
        "acc_unit": "g",
    }
    assert (b["label"], b["confidence"], b["since"], b["problem"]) == ("UNKNOWN", 0.1667, 1.5, "gravity")
    assert (b["late"], b["gaps"], b["restarts"], b["rate_hz"], b["last_seen"]) == (1, 10, 100, 50.0, 1e9 + 1)


def test_devices_of_rejected_messages_are_listed_and_forgotten(devices, pipeline):
    pipeline.engine.masks = {"a": int(Problem.CLOCK), "b": 0}
    rejections = [
        Rejection("t", reason, "bad", name) for reason, name in (("time", "new"), ("json", "b"), ("time", "b"))
    ]
    devices.reject(rejections)
    shown = {one["device"]: one for one in read(devices)["devices"]}
    assert list(shown) == ["a", "b", "new"]
    assert list(shown["new"]) == FIELDS
    assert (shown["new"]["problem"], shown["new"]["last_seen"], shown["new"]["rate_hz"]) == ("stamps", 2e9, None)
    assert shown["b"]["problem"] == "stamps"
    assert devices.counts == {**dict.fromkeys(PROBLEMS, 0), "stamps": 2, "clock": 1}
    detail = show(devices, "b")
    assert detail["problems"] == ["stamps"]
    assert detail["details"] == [
        {"problem": None, "since": 2e9, "detail": "message rejected (json): bad"},
        {"problem": "stamps", "since": 2e9, "detail": "message rejected (time): bad"},
    ]
    devices._monotonic.now_s += 71  # type: ignore[attr-defined]
    assert [one["device"] for one in read(devices)["devices"]] == ["a", "b"]
    assert devices.counts["stamps"] == 0


def test_a_device_with_a_problem_found_twice_counts_once(devices, pipeline):
    pipeline.engine.masks = {"a": int(Problem.STAMPS)}
    devices.reject([Rejection("t", "time", "bad", "a")])
    assert [one["problem"] for one in read(devices)["devices"]] == ["stamps"]
    assert devices.counts["stamps"] == 1


def test_details_are_the_newest_incidents_until_the_device_is_evicted(devices, pipeline, caplog):
    pipeline.engine.masks = {"a": int(Problem.CLOCK | Problem.GRAVITY)}
    pipeline.engine.incidents = [
        Incident("a", Problem.CLOCK, "jumped by 5 s"),
        Incident("a", Problem.GRAVITY, "median 4.2"),
        Incident("a", Problem.CLOCK, "jumped by 7 s"),
    ]
    found = show(devices, "a")
    assert found["problems"] == ["gravity", "clock"]
    assert found["details"] == [
        {"problem": "clock", "since": 2e9, "detail": "jumped by 7 s"},
        {"problem": "gravity", "since": 2e9, "detail": "median 4.2"},
    ]
    assert [line for line in caplog.messages if "jumped" in line] == [
        "device 'a' has the problem clock: jumped by 5 s (see docs/how-to/troubleshoot.md#clock)"
    ]
    devices.forget(["a"])
    assert show(devices, "a")["details"] == []


def test_the_newest_incidents_are_remembered(devices, pipeline, monkeypatch):
    monkeypatch.setattr(module, "MAX_DEVICES_WITH_NOTES", 2)
    pipeline.engine.masks = dict.fromkeys("abc", int(Problem.CLOCK))
    pipeline.engine.incidents = [Incident(name, Problem.CLOCK, "jumped") for name in "abca"]
    assert [len(show(devices, name)["details"]) for name in "abc"] == [1, 0, 1]


def test_devices_are_listed_in_parts_and_by_problem(devices, pipeline):
    pipeline.engine.masks = {f"w{i}": int(Problem.GRAVITY) if i % 10 == 0 else 0 for i in range(2500)}
    devices.reject([Rejection("t", "json", "bad", "x"), Rejection("t", "rate", "bad", "y")])
    first = read(devices)
    assert len(first["devices"]) == first["limit"] == 1000
    assert first["total"] == 2502
    names = [
        one["device"]
        for offset in range(0, 2600, 100)
        for one in read(devices, limit="100", offset=str(offset))["devices"]
    ]
    assert names == [*pipeline.engine.masks, "x", "y"]
    bad = read(devices, problem="gravity", limit="3", offset="1")
    assert [one["device"] for one in bad["devices"]] == ["w10", "w20", "w30"]
    assert bad["total"] == 250
    assert read(devices, problem="any")["total"] == 251
    assert read(devices, problem="overlap") == {"devices": [], "total": 0, "limit": 1000, "offset": 0}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            {"problem": "x"},
            "problem is 'x', expected one of gravity, overlap, gyroscope, unfamiliar, rate, stamps, clock, any",
        ),
        ({"limit": "0"}, "limit is '0', expected a whole number from 1 to 10000"),
        ({"limit": "10001"}, "limit is '10001', expected"),
        ({"offset": "-1"}, "offset is '-1', expected a whole number from 0"),
        ({"offset": "²"}, "offset is '²', expected"),
        ({"offset": "9" * 5000}, "expected a whole number"),
        ({"page": "1"}, "unknown parameter 'page', expected one of problem, source, limit, offset"),
    ],
)
def test_a_query_that_is_not_allowed_is_refused_naming_it(devices, query, message):
    status, media_type, body = api.list_devices(lambda: [devices.snapshot(0)], query)
    assert (status, media_type) == (400, "application/json")
    assert message in json.loads(body)["error"]


def test_a_snapshot_is_shared_for_a_second_and_then_made_when_asked_for(devices, pipeline):
    first = devices.snapshot(0)
    assert first.devices == []
    pipeline.engine.masks = {"a": 0}
    assert devices.wanted
    devices.refresh(60)
    second = devices.snapshot(0)
    assert second.devices == ["a"]
    devices.refresh(60)
    assert devices.snapshot(0) is second
    devices._monotonic.now_s += 2  # type: ignore[attr-defined]
    devices.refresh(60)
    assert not devices.wanted
    waiting = threading.Thread(target=lambda: found.append(devices.snapshot(60)))
    found: list[module.Snapshot] = []
    waiting.start()
    wait_until(lambda: devices.wanted, "the reader to ask")
    devices.refresh(60)
    waiting.join()
    assert found[0] is not second


# --- of a daemon ----------------------------------------------------------------------------------------


def test_a_daemon_names_its_devices_but_only_where_it_is_asked(mosquitto: Mosquitto, classifier, subjects, monkeypatch):
    monkeypatch.setattr(module, "REVIEW_EVERY_S", 0.0)
    name = "ä b%\u202e"
    daemon = Daemon(make_config(mosquitto.port), classifier)
    with Client(mosquitto.port) as client, running(daemon), serving_http(daemon) as url:
        publish_all(client, subjects)
        client.publish(f"wearables/{name}/imu", b'{"t": -1, "acc": [[0, 0, 1]], "gyro": [[0, 0, 0]]}')
        client.flush()

        def all_labelled() -> bool:
            found = json.loads(http_get(f"{url}/api/devices")[1])["devices"]
            return sum(one["label"] is not None for one in found) == len(subjects) and len(found) > len(subjects)

        wait_until(all_labelled, "a label of every device")
        found = {one["device"]: one for one in json.loads(http_get(f"{url}/api/devices")[1])["devices"]}
        assert set(found) == {name, *(subject.name for subject in subjects)}
        for subject in subjects:
            one = found[subject.name]
            assert list(one) == FIELDS
            assert one["label"] in classifier.bundle.published_labels
            assert 0 <= one["confidence"] <= 1
            assert one["rate_hz"] == pytest.approx(subject.rate_hz, rel=0.05)
            assert one["model"] == "random@0.0.1"
        status, body = http_get(f"{url}/api/devices/{urllib.parse.quote(name)}")
        assert status == 200
        assert json.loads(body)["problems"] == ["stamps"]
        assert http_get(f"{url}/api/devices/nobody")[0] == 404
        assert "nobody" in json.loads(http_get(f"{url}/api/devices/nobody")[1])["error"]
        assert http_get(f"{url}/api/devices?limit=x")[0] == 400
        wait_until(lambda: 'harstream_devices_with_problem{problem="stamps"} 1.0' in exposed(daemon), "the gauge")
        host = http.client.HTTPConnection(url.removeprefix("http://"))
        host.request("GET", "/api/devices")
        answer = host.getresponse()
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.read().isascii()
        host.close()


def test_the_health_of_many_devices_is_read_while_they_send(classifier, subjects, monkeypatch):
    """Readers in other threads never see half of a change, because the thread that makes the changes makes the copy."""
    monkeypatch.setattr(module, "_MAX_AGE_S", 0.0)  # a reader that asks wants a new snapshot
    daemon = Daemon(make_config(), classifier)
    sent = list(messages(subjects))
    names = {subject.name for subject in subjects}
    failures: list[object] = []
    totals: list[int] = []
    copying: set[int] = set()  # threads that copied the state of the engine
    done = threading.Event()
    health = daemon.sources[0].pipeline.engine.health

    def recorded_health() -> DeviceHealth:
        copying.add(threading.get_ident())
        return health()

    monkeypatch.setattr(daemon.sources[0].pipeline.engine, "health", recorded_health)

    def read_all() -> None:
        try:
            while not done.is_set():
                status, _, body = api.list_devices(daemon.read_devices, {})
                assert status == 200, body
                answer = json.loads(body)
                assert all(list(one) == FIELDS for one in answer["devices"])
                shown = [one["device"] for one in answer["devices"]]
                assert len(shown) == len(set(shown)) == answer["total"]
                assert set(shown) <= names
                totals.append(answer["total"])
        except Exception as error:  # it would end this thread without a word
            failures.append(error)

    readers = [threading.Thread(target=read_all) for _ in range(3)]
    daemon.labelling.start()
    for reader in readers:
        reader.start()
    for first in range(0, len(sent), 10):
        daemon.receive([(topic, payload, False, 0) for topic, payload in sent[first : first + 10]])
        daemon.step(0)

    def all_seen() -> bool:
        daemon.step(0)
        return bool(failures) or len(names) in totals

    try:
        wait_until(all_seen, "an answer with every device")
    finally:
        done.set()
        while any(reader.is_alive() for reader in readers):
            daemon.step(0)
        daemon.labelling.finish()
    assert not failures
    assert len(names) in totals
    assert copying == {threading.get_ident()}
