"""The live table of devices and labels."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from harstream import watch as watch_module
from harstream.mqtt.urls import BrokerSettings, BrokerUrl
from harstream.watch import Watch
from harstream.wire.canonical import encode_json
from harstream.wire.fields import Fields
from harstream.wire.payloads import PayloadConfig
from harstream.wire.topics import TopicTemplate

from .constants import UNREACHABLE
from .fakes import Clock, replace_monotonic
from .servers import Client, wait_until

SAMPLES = encode_json(10**18, 50.0, np.zeros((25, 6), np.float32))
console = pytest.importorskip("rich.console")


def label(name: str, t: float = 1e9, confidence: float = 0.5, **more: str) -> bytes:
    return json.dumps({"t": t, "label": name, "confidence": confidence, "model": "x@1", **more}).encode()


def new_watch(broker: str = UNREACHABLE) -> Watch:
    settings = BrokerSettings(BrokerUrl.parse(broker))
    return Watch(
        settings, "watch", TopicTemplate("wearables/{device}/imu"), TopicTemplate("wearables/{device}/activity")
    )


def shown(watch: Watch, max_rows: int = 30, footer: str = "", width: int = 120) -> str:
    terminal = console.Console(width=width, color_system=None)
    with terminal.capture() as capture:
        terminal.print(watch.table(max_rows, footer))
    return str(capture.get())


def test_every_format_of_samples_is_counted_for_the_devices_that_it_names():
    template = TopicTemplate("imu", may_omit_device=True)
    labels = TopicTemplate("activity/{device}")
    config = PayloadConfig("csv", Fields.parse({"columns": ["device", "t", "ax", "ay", "az"], "t_unit": "ms"}))
    watch = Watch(BrokerSettings(BrokerUrl.parse(UNREACHABLE)), "watch", template, labels, config)
    lines = "".join(f"w{i % 2},{1763668800000 + 20 * i},0,0,1\n" for i in range(10))
    watch._on_samples("imu", lines.encode(), False)
    watch._on_samples("imu", b"w2,1763668800000,0,0,nan\nw3,1763668800000,0,0,1", False)
    watch._on_samples("imu", b"w4,1763668800000,0,0,1", True)  # a retained message
    assert watch.n_samples == 11
    assert {name: device.rejected for name, device in watch.devices.items()} == {
        **dict.fromkeys(("w0", "w1", "w3"), ""),
        "w2": "not_finite",
    }
    watch._on_samples("imu", b"no csv", False)  # of no device
    assert len(watch.devices) == 4


def test_devices_and_labels_on_a_broker_are_shown_and_cleared_ones_are_not(mosquitto):
    watch = new_watch(mosquitto.address)
    with Client(mosquitto.port) as client:
        client.publish("wearables/old/activity", label("LAYING"), retain=True)
        client.flush()
        watch.open()
        client.publish("wearables/w1/imu", SAMPLES)
        client.publish("wearables/w2/imu", SAMPLES)
        wait_until(lambda: {"old", "w1", "w2"} <= set(watch.devices))
        client.publish("wearables/w1/activity", label("WALKING", confidence=0.873))
        wait_until(lambda: watch.devices["w1"].label)
        text = shown(watch, footer="ends in 3 s")
        for part in ("WALKING", "0.87", "LAYING", "none yet", "ends in 3 s"):
            assert part in text
        assert (watch.n_samples, watch.n_labels) == (50, 1)  # the retained label does not count
        client.publish("wearables/w1/activity", b"", retain=True)
        wait_until(lambda: "w1" not in watch.devices)
        assert "WALKING" not in shown(watch)
        client.publish("wearables/w2/imu", SAMPLES, retain=True)
    watch.close()


def test_since_is_the_event_time_of_the_first_equal_label():
    watch = new_watch()
    for t, name in ((10.0, "SITTING"), (12.0, "WALKING"), (14.0, "WALKING")):
        watch._on_label("wearables/w1/activity", label(name, t), False)
    assert watch.devices["w1"].since_s == 12.0


@pytest.mark.parametrize("t", [1.7e9, 2.0])
def test_since_begins_again_when_the_clock_of_the_device_jumps(t):
    watch = new_watch()
    for at in (10.0, 70.0, t, t + 5.0):
        watch._on_label("wearables/w1/activity", label("WALKING", at), False)
    assert watch.devices["w1"].since_s == t
    assert " 0:05 " in shown(watch)


def test_latency_is_from_the_newest_samples_to_the_label(monkeypatch):
    watch, clock = new_watch(), Clock()
    replace_monotonic(monkeypatch, watch_module, clock)
    watch._on_samples("wearables/w1/imu", SAMPLES, False)
    clock.now_s += 0.25
    watch._on_label("wearables/w1/activity", label("WALKING"), False)
    assert watch.devices["w1"].latency_s == 0.25
    assert "250.0 ms" in shown(watch)


def test_the_rate_is_that_of_the_samples(monkeypatch):
    watch, clock = new_watch(), Clock()
    replace_monotonic(monkeypatch, watch_module, clock)
    for _ in range(40):
        watch._on_samples("wearables/w1/imu", SAMPLES, False)
        clock.now_s += 0.5
    assert "50 Hz" in shown(watch)


def test_rows_are_limited_and_the_others_are_counted():
    watch = new_watch()
    for number in range(25):
        watch._on_label(f"wearables/w{number:02d}/activity", label("WALKING"), False)
    text = shown(watch, 20)
    assert "w19" in text
    assert "w20" not in text
    assert "and 5 more" in text


def test_memory_of_a_device_that_is_not_shown_is_bounded(monkeypatch):
    watch, clock = new_watch(), Clock()
    replace_monotonic(monkeypatch, watch_module, clock)
    for _ in range(1000):
        watch._on_samples("wearables/w1/imu", SAMPLES, False)
        clock.now_s += 0.5
    assert len(watch.devices["w1"].recent) < 50


@pytest.mark.parametrize("payload", [b"?", b"[]", b"{}", b'{"t": "x", "label": 1, "confidence": 2}', b"\xff"])
def test_malformed_labels_and_messages_of_no_device_are_ignored(payload):
    watch = new_watch()
    watch._on_label("wearables/w1/activity", payload, False)
    watch._on_samples("elsewhere", payload, False)
    watch._on_samples("wearables/w1/imu", payload, True)  # retained
    watch._on_label("elsewhere/activity", label("WALKING"), False)
    assert watch.devices == {}


# --- problems -------------------------------------------------------------------------------------------


def problem_of(watch: Watch, device: str) -> str:
    """Return the last cell of a device's row."""
    lines = shown(watch).splitlines()
    heading = next(line for line in lines if " problem" in line)
    return next(line for line in lines if f" {device} " in line)[heading.index("problem") :].strip()


def test_the_problem_of_a_label_is_shown_until_a_label_has_none():
    watch = new_watch()
    watch._on_label("wearables/w1/activity", label("UNKNOWN", problem="gravity"), False)
    watch._on_label("wearables/w2/activity", label("WALKING"), False)
    assert (problem_of(watch, "w1"), problem_of(watch, "w2")) == ("gravity", "")
    watch._on_label("wearables/w1/activity", label("WALKING"), False)
    assert problem_of(watch, "w1") == ""


def test_a_device_whose_messages_cannot_be_decoded_is_shown_with_the_reason():
    watch = new_watch()
    watch._on_samples("wearables/w1/imu", b"[1]", False)
    assert problem_of(watch, "w1") == "rejected: shape"
    assert watch.n_samples == 0
    watch._on_samples("wearables/w1/imu", SAMPLES, False)
    assert problem_of(watch, "w1") == ""
    assert "none yet" in shown(watch)


def test_a_device_that_sends_for_a_while_without_a_label_is_shown(monkeypatch):
    watch, clock = new_watch(), Clock()
    replace_monotonic(monkeypatch, watch_module, clock)

    def send(seconds: int, labels: bool = False) -> str:
        for _ in range(seconds):
            clock.now_s += 1
            watch._on_samples("wearables/w1/imu", SAMPLES, False)
            if labels:
                watch._on_label("wearables/w1/activity", label("WALKING"), False)
        return problem_of(watch, "w1")

    watch._on_label("wearables/w1/activity", label("LAYING"), True)  # retained, of an earlier run
    assert send(25) == ""
    assert send(10) == "no label"
    assert send(1, labels=True) == ""
    assert send(25) == ""
    assert send(10) == "no label"
    clock.now_s += 600
    assert problem_of(watch, "w1") == ""  # it does not send at all
    assert send(25) == ""
    assert send(10) == "no label"


@pytest.mark.parametrize("width", [80, 120])
def test_a_row_stays_on_one_line(width):
    watch = new_watch()
    watch._on_samples("wearables/wrist-0017/imu", SAMPLES, False)
    payload = label("WALKING_DOWNSTAIRS", time.time() - 100, problem="gyroscope")
    watch._on_label("wearables/wrist-0017/activity", payload, False)
    watch._on_samples("wearables/wrist-0018/imu", b"HS", False)
    text = shown(watch, width=width)
    assert [line for line in text.splitlines() if "wrist-0017" in line and "gyroscope" in line], text
    assert [line for line in text.splitlines() if "wrist-0018" in line and "rejected: packed" in line], text
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("name", ["[bold]", "[/]", "[/nothing]", "a[link=x]b"])
def test_a_device_or_label_may_be_called_anything(name):
    watch = new_watch()
    watch._on_samples(f"wearables/{name.replace('/', '')}/imu", SAMPLES, False)
    watch._on_label("wearables/w1/activity", label(name), False)
    text = shown(watch)
    assert f" {name} " in text
    assert f" {name.replace('/', '')} " in text


def test_controls_in_a_name_or_label_do_not_reach_the_terminal():
    watch = new_watch()
    watch._on_samples("wearables/a\u202eb/imu", SAMPLES, False)
    watch._on_label("wearables/w1/activity", label("\x1b[2J"), False)
    text = shown(watch)
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert r"a\u202eb" in text


def test_the_label_unknown_is_shown():
    watch = new_watch()
    watch._on_label("wearables/w1/activity", label("WALKING"), False)
    watch._on_label("wearables/w1/activity", label("UNKNOWN", confidence=0.41), False)
    text = shown(watch)
    assert "UNKNOWN" in text
    assert "0.41" in text
    assert "WALKING" not in text


@pytest.mark.parametrize("t", [0, -1e300, 1e300])
def test_a_label_of_any_time_can_be_shown(t):
    watch = new_watch()
    watch._on_label("wearables/w1/activity", label("WALKING", t), False)
    assert "WALKING" in shown(watch)
