"""The live table of devices and labels."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from harstream.mqtt.urls import BrokerSettings, BrokerUrl
from harstream.watch import devices as watch_module
from harstream.watch import keyboard, view
from harstream.watch.devices import Watch
from harstream.watch.table import render
from harstream.watch.view import View
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


def shown(watch: Watch, max_rows: int = 30, footer: str = "", width: int = 120, chosen: View | None = None) -> str:
    terminal, chosen = console.Console(width=width, color_system=None), chosen or View()
    with terminal.capture() as capture:
        terminal.print(render(watch.overview(chosen, max_rows), chosen, width, footer))
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
    heading = next(line for line in lines if " device" in line and " problem" in line and " rate" in line)
    return next(line for line in lines if f" {device} " in line)[heading.index("problem") :].strip()


def test_the_problem_of_a_label_is_shown_until_a_label_has_none():
    watch = new_watch()
    watch._on_label("wearables/w1/activity", label("UNKNOWN", problem="gravity"), False)
    watch._on_label("wearables/w2/activity", label("WALKING"), False)
    assert (problem_of(watch, "w1"), problem_of(watch, "w2")) == ("no gravity found", "")
    watch._on_label("wearables/w1/activity", label("WALKING"), False)
    assert problem_of(watch, "w1") == ""


def test_a_problem_of_a_newer_daemon_is_shown_by_its_name():
    watch = new_watch()
    watch._on_label("wearables/w1/activity", label("UNKNOWN", problem="magnet"), False)
    assert problem_of(watch, "w1") == "magnet"


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
    payload = label("WALKING_DOWNSTAIRS", time.time() - 100, problem="gravity")
    watch._on_label("wearables/wrist-0017/activity", payload, False)
    watch._on_samples("wearables/wrist-0018/imu", b"HS", False)
    text = shown(watch, width=width)
    assert [line for line in text.splitlines() if "wrist-0017" in line and "no gravity found" in line], text
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
    row = next(line for line in text.splitlines() if " w1 " in line)
    assert "UNKNOWN" in row
    assert "0.41" not in row  # it is that of no label
    assert "WALKING" not in text
    assert "UNKNOWN: no activity can be told" in text


@pytest.mark.parametrize("t", [0, -1e300, 1e300])
def test_a_label_of_any_time_can_be_shown(t):
    watch = new_watch()
    watch._on_label("wearables/w1/activity", label("WALKING", t), False)
    assert "WALKING" in shown(watch)


# --- order, filters and keys ----------------------------------------------------------------------------


@pytest.fixture
def three() -> Watch:
    """Return a watch of three devices with labels, and one without."""
    watch = new_watch()
    for device, name, confidence, first, problem in (
        ("b", "WALKING", 0.9, 90.0, ""),
        ("a", "SITTING", 0.7, 10.0, ""),
        ("C", "UNKNOWN", 0.1, 50.0, "gravity"),
    ):
        for t in (first, 100.0):
            watch._on_label(f"wearables/{device}/activity", label(name, t, confidence, problem=problem), False)
    watch._on_samples("wearables/new/imu", SAMPLES, False)
    return watch


def names(watch: Watch, chosen: View, max_rows: int = 30) -> list[str]:
    return [row.device for row in watch.overview(chosen, max_rows).rows]


@pytest.mark.parametrize(
    ("chosen", "devices"),
    [
        (View(), ["C", "a", "b", "new"]),
        (View(descending=True), ["new", "b", "a", "C"]),
        (View(sort="activity"), ["a", "C", "b", "new"]),
        (View(sort="confidence"), ["C", "a", "b", "new"]),
        (View(sort="since"), ["a", "C", "b", "new"]),
        (View(sort="problem"), ["C", "a", "b", "new"]),
        (View(search="c"), ["C"]),
        (View(activity="WALKING"), ["b"]),
        (View(only_problems=True), ["C"]),
        (View(offset=2), ["b", "new"]),
    ],
)
def test_rows_are_sorted_filtered_and_scrolled(three, chosen, devices):
    assert names(three, chosen) == devices


def test_totals_count_all_devices_whatever_is_chosen(three):
    overview = three.overview(View(search="b"), 10)
    assert (overview.n_matching, overview.n_devices, overview.n_problems) == (1, 4, 1)
    assert overview.by_activity == {"WALKING": 1, "SITTING": 1, "UNKNOWN": 1}
    text = shown(three, chosen=View(search="b", only_problems=True))
    assert "4 devices" in text
    assert "1 with a problem" in text
    assert "name has b; with a problem: 0 of 4 devices" in text


def test_keys_choose_order_and_filters():
    chosen = View()

    def press(*keys: str) -> View:
        for key in keys:
            assert chosen.press(key, ["SITTING", "WALKING"], 5, 20)
        return chosen

    assert (press("s").sort, press("r").descending) == ("activity", True)
    assert press(*"s" * 6).sort == "device"
    assert not chosen.descending
    assert [press("a").activity for _ in range(3)] == ["SITTING", "WALKING", ""]
    assert press("p").only_problems
    assert press("/", "a", "b", "x", view.BACKSPACE, "q", "\x03", view.ENTER).search == "abq"
    assert not chosen.typing
    assert press("c") == View()
    assert press("/", "x", view.ESCAPE) == View()
    assert [press(key).offset for key in (view.DOWN, "j", view.PAGE_DOWN, view.UP, "k")] == [1, 2, 7, 6, 5]
    assert [press(key).offset for key in (view.END, view.DOWN, view.PAGE_UP, view.HOME, view.UP)] == [15, 15, 10, 0, 0]
    assert press("z", "?") == View()
    assert not chosen.press("q", [], 5, 20)


def test_an_activity_that_nobody_has_any_more_is_left_by_the_key():
    chosen = View(activity="GONE")
    chosen.press("a", ["WALKING"], 5, 20)
    assert chosen.activity == ""


def test_keys_of_a_terminal_are_told_apart():
    text = "a\x1b[A\x1bOB\x1b[5~\x1b[6~\x1b[H\x1b[F\x1b[1;5C\x7f\r\x1bq\x1b"
    assert keyboard.split(text) == [
        *("a", view.UP, view.DOWN, view.PAGE_UP, view.PAGE_DOWN, view.HOME, view.END),
        *(view.BACKSPACE, view.ENTER, view.ESCAPE, "q", view.ESCAPE),
    ]
    assert keyboard.split("\x1b[") == []


def test_the_strip_of_a_wide_table_shows_the_labels_of_the_last_minutes(monkeypatch):
    watch, clock = new_watch(), Clock()
    replace_monotonic(monkeypatch, watch_module, clock)
    for name, seconds in (("WALKING", 60), ("UNKNOWN", 30)):
        watch._on_label("wearables/w1/activity", label(name, clock.now_s), False)
        clock.now_s += seconds
    assert "······██" not in shown(watch, width=80)
    assert "·" * 6 + "█" * 12 + "░" * 6 in shown(watch, width=120)


def test_speeds_are_those_of_the_last_seconds(monkeypatch):
    watch, clock = new_watch(), Clock()
    replace_monotonic(monkeypatch, watch_module, clock)
    watch.overview(View(), 1)
    for _ in range(40):
        watch._on_samples("wearables/w1/imu", SAMPLES, False)
        watch._on_label("wearables/w1/activity", label("WALKING"), False)
        clock.now_s += 0.5
        overview = watch.overview(View(), 1)
    assert (overview.labels_per_s, overview.samples_per_s) == (2, 50)
