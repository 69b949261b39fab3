"""Live page over HTTP: its files, and the stream of the overview and of one device."""

from __future__ import annotations

import dataclasses
import re
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from harstream.classifier import Classifier
from harstream.core.problems import UNTRUSTED, Problem, problems_in
from harstream.serve import page as page_module
from harstream.serve.daemon import Daemon
from harstream.serve.http import HttpServer, daemon_routes
from harstream.serve.page import LivePage, viewers
from harstream.serve.page.views import Overview

from ..live_streams import messages
from ..servers import http_get, wait_until
from .daemons import make_config, receive_all
from .event_stream import EventStream
from .sources import sources_config, stream

STATIC = Path(page_module.__file__).parent / "static"


@contextmanager
def serving(daemon: Daemon) -> Iterator[tuple[str, LivePage]]:
    """Serve the daemon's page, and run its two threads; yield the address and the page."""
    page = LivePage(daemon)
    routes = {**daemon_routes(daemon.status, daemon.metrics.expose, daemon.read_devices), **page.routes()}
    server = HttpServer(("127.0.0.1", 0), routes)
    server.start()
    page.start()

    def run() -> None:
        while not daemon.stopping.is_set():
            daemon.step(0.05)

    thread = threading.Thread(target=run)
    daemon.labelling.start()
    thread.start()
    try:
        yield server.url, page
    finally:
        daemon.stop()
        thread.join()
        daemon.labelling.finish()
        server.close()
        page.close()
        assert daemon.labelling.failure is None


@pytest.fixture
def daemon(classifier: Classifier) -> Daemon:
    return Daemon(dataclasses.replace(make_config(), http="127.0.0.1:0"), classifier)


def label_all(daemon: Daemon, subjects) -> None:
    """Let the daemon receive all messages of the subjects, and wait for all labels."""
    receive_all(daemon, messages(subjects))
    wait_until(lambda: daemon.labelling.windows_classified == 11 * len(subjects), "all labels")


# --- files ----------------------------------------------------------------------------------------------


def test_the_page_and_its_files_are_answered_with_a_strict_policy(daemon):
    with serving(daemon) as (url, _):
        for name in ["", *(f"page/{path.name}" for path in STATIC.iterdir())]:
            with urllib.request.urlopen(f"{url}/{name}") as answer:
                assert answer.status == 200
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy
                assert "unsafe" not in policy
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert ("javascript" in answer.headers["Content-Type"]) == name.endswith(".js")
        assert http_get(f"{url}/page/other.js")[0] == 404
        assert http_get(f"{url}/page/..%2Ftable.py")[0] == 404


def test_the_files_name_no_address_but_their_own_and_hold_no_inline_script_or_style():
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"https?://[^\s\"']+", text)) <= {"http://www.w3.org/2000/svg"}, path
        assert "innerHTML" not in text, path
        if path.suffix == ".html":
            assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text)
            # Relative, so that the page works behind a proxy that serves it under another path.
            assert not re.search(r"(?:href|src)=\"/", text)


def test_problems_of_the_page_are_those_of_the_daemon():
    text = (STATIC / "words.js").read_text(encoding="utf-8")
    table = text.partition("PROBLEMS = {")[2].partition("\n};")[0]
    assert re.findall(r"^  (\w+): \{", table, re.MULTILINE) == [problem.public_name for problem in Problem]
    assert re.findall(r'^    short: "(.*)",$', table, re.MULTILINE) == [problem.in_words for problem in Problem]
    untrusted = [problem.public_name for problem in problems_in(int(UNTRUSTED))]
    assert f"UNTRUSTED = {untrusted};".replace("'", '"') in text


# --- overview -------------------------------------------------------------------------------------------


def test_the_stream_of_the_overview_sends_everything_first_and_then_what_has_changed(daemon, subjects):
    with serving(daemon) as (url, page):
        label_all(daemon, subjects)
        with EventStream(f"{url}/api/stream?limit=3") as stream:
            assert (stream.status, stream.headers["Content-Type"]) == (200, "text/event-stream")
            events = stream.events()
            names, contents = zip(*(next(events) for _ in range(3)), strict=True)
            assert names == ("trend", "totals", "view")
            trend, totals, view = contents
            assert totals["models"][0].startswith("random@0.0.1 (")
            assert totals["labels"][-1] == "UNKNOWN"
            assert totals["devices_known"] == 5
            assert set(totals["devices_by_label"]) == set(totals["labels"])
            assert totals["sources"] == ["source1"]
            assert (totals["broker"], totals["topics"]) == (None, ["wearables/{device}/imu"])  # it is not connected
            assert trend["number"] == totals["point"]["number"]
            assert view["order"] == [["source1", f"subject-{number}"] for number in range(3)]
            assert (view["matching"], view["offset"], [number for number, _ in view["rows"]]) == (5, 0, [0, 1, 2])
            row = view["rows"][0][1]
            assert row["label"] == daemon.sources[0].pipeline.last_labels.get("subject-0").label
            assert row["strip"][-1][1] == row["label"]
            assert abs(row["strip"][-1][0] - time.time()) < 1000
            later = [next(events), next(events)]
            assert sum(later[0][1]["devices_by_label"].values()) == 5
            assert [name for name, _ in later] == ["totals", "view"]
            assert later[1][1] == {"matching": 5, "offset": 0, "rows": []}  # nothing came meanwhile
            receive_all(daemon, messages(subjects[:1], t0_ns=round(time.time() * 1e9)))
            changed = next(content for name, content in events if name == "view" and content["rows"])
            assert "order" not in changed
            assert [number for number, _ in changed["rows"]] == [0]
            assert "device" not in changed["rows"][0][1]
        wait_until(lambda: len(page.viewers) == 0, "the viewer to be forgotten")


def test_filters_and_rows_are_those_of_the_query(daemon, subjects):
    with serving(daemon) as (url, _):
        label_all(daemon, subjects)
        with EventStream(f"{url}/api/stream?search=JECT-3&limit=10") as stream:
            assert stream.next("view")["order"] == [["source1", "subject-3"]]
        with EventStream(f"{url}/api/stream?descending=1&offset=3&limit=10") as stream:
            assert stream.next("view")["order"] == [["source1", "subject-1"], ["source1", "subject-0"]]
        for query, error in (("sort=x", "sort is 'x'"), ("colour=1", "unknown parameter 'colour'"), ("limit=0", "")):
            status, text = http_get(f"{url}/api/stream?{query}")
            assert status == 400
            assert error in text
        assert http_get(f"{url}/api/stream?device=x&source=other")[0] == 400


def test_a_name_may_hold_anything(daemon, subjects):
    name = "a\"'<b>\u2028 &é\\"
    with serving(daemon) as (url, _):
        receive_all(daemon, ((f"wearables/{name}/imu", payload) for _, payload in messages(subjects[:1])))
        with EventStream(f"{url}/api/stream?search={urllib.parse.quote(name)}") as stream:
            events = stream.events()
            wanted = (content for kind, content in events if kind == "view" and content["matching"])
            assert next(wanted)["order"] == [["source1", name]]
        with EventStream(f"{url}/api/stream?device={urllib.parse.quote(name)}") as stream:
            assert stream.next("device")["device"]["device"] == name


# --- one device -----------------------------------------------------------------------------------------


def test_the_stream_of_a_device_has_signal_probabilities_strip_events_and_settings(daemon, subjects):
    with serving(daemon) as (url, page):
        label_all(daemon, subjects)
        with EventStream(f"{url}/api/stream?device=subject-2&source=source1") as stream:
            events = stream.events()
            name, state = next(events)
            assert (name, len(state["models"]), state["ready"]) == ("daemon", 1, False)
            name, first = next(events)
            assert name == "device"
            assert first["device"]["device"] == "subject-2"
            assert first["device"]["details"] == []
            bundle = daemon.sources[0].pipeline.classifier.bundle
            assert first["settings"]["outputs"] == [*bundle.labels, *first["settings"]["states"]]
            assert first["strip"][-1][1] == first["device"]["label"]
            assert first["events"][0][1] == "enter"
            assert len(first["signal"]["values"]) == 9
            assert len(first["signal"]["values"][0]) == 128
            assert first["signal"]["begins"]
            t0_ns = round(time.time() * 1e9)
            receive_all(daemon, messages(subjects[2:3], t0_ns=t0_ns))
            windows = next(content["windows"] for _, content in events if "windows" in content)
            assert sum(windows[0]["probabilities"].values()) == pytest.approx(1, abs=0.01)
            with EventStream(f"{url}/api/stream?device=subject-2") as second:
                late = second.next("device")
                assert late["windows"][: len(windows)] == windows
            assert page._watched._devices[daemon.sources[0].pipeline]
        wait_until(lambda: not page._watched._devices[daemon.sources[0].pipeline], "the signal to be forgotten")


def test_a_window_that_cannot_be_trusted_has_no_probabilities(daemon, subjects):
    without_gravity = dataclasses.replace(subjects[0], samples=subjects[0].samples * np.float32(0.2))
    with serving(daemon) as (url, _), EventStream(f"{url}/api/stream?device=subject-0") as stream:
        events = stream.events()
        next(events)
        receive_all(daemon, messages([without_gravity]))
        windows = next(content["windows"] for _, content in events if "windows" in content)
        assert [window["probabilities"] for window in windows] == [None] * len(windows)


def test_a_device_that_is_not_known_yet_appears_on_its_page(daemon, subjects):
    with serving(daemon) as (url, _), EventStream(f"{url}/api/stream?device=subject-0") as stream:
        events = stream.events()
        assert next(content for name, content in events if name == "device")["device"] is None
        receive_all(daemon, messages(subjects[:1]))
        assert next(content["device"]["device"] for _, content in events if content.get("device")) == "subject-0"


# --- several sources ------------------------------------------------------------------------------------


def test_devices_of_all_sources_are_rows_and_one_name_may_be_in_several(classifier, subjects):
    config = dataclasses.replace(sources_config(), http="127.0.0.1:0")
    daemon = Daemon(config, classifier, classifier, classifier)
    names = [source.config.name for source in daemon.sources]
    with serving(daemon) as (url, _):
        for name in names:
            receive_all(daemon, stream(name, subjects[0], "a"))
        wait_until(lambda: daemon.labelling.windows_classified == 11 * len(names), "all labels")
        with EventStream(f"{url}/api/stream?sort=source") as watching:
            assert watching.next("totals")["sources"] == names
            assert watching.next("view")["order"] == [[name, "a"] for name in names]
        with EventStream(f"{url}/api/stream?source=boards") as watching:
            assert watching.next("view")["order"] == [["boards", "a"]]
        with EventStream(f"{url}/api/stream?device=a&source=boards") as watching:
            first = watching.next("device")
        settings = first["settings"]
        assert (first["device"]["source"], settings["source"], settings["payload"]) == ("boards", "boards", "fields")
        assert (settings["topic"], settings["acc_unit"]) == ("boards/{device}", "m/s2")


# --- viewers --------------------------------------------------------------------------------------------


def test_a_viewer_who_takes_nothing_is_dropped_and_the_others_are_served(daemon, subjects, monkeypatch):
    monkeypatch.setattr(viewers, "SLOW_S", 0.5)
    monkeypatch.setattr(Overview, "every_s", 0.01)
    with serving(daemon) as (url, page):
        label_all(daemon, subjects)
        with EventStream(f"{url}/api/stream", buffer=4096) as slow, EventStream(f"{url}/api/stream") as quick:
            events = quick.events()
            with suppress(StopIteration):
                while not page.viewers.dropped:
                    next(events)
            assert next(events)
            assert len(page.viewers) == 1
            with suppress(ConnectionError):  # what is left in its buffers, and then the end
                slow.drain()


def test_there_is_room_for_a_bounded_number_of_viewers(daemon, monkeypatch):
    monkeypatch.setattr(viewers, "MAX_VIEWERS", 2)
    with serving(daemon) as (url, page):
        with EventStream(f"{url}/api/stream"), EventStream(f"{url}/api/stream?device=x"):
            wait_until(lambda: len(page.viewers) == 2, "both viewers")  # the headers come before the viewer counts
            status, text = http_get(f"{url}/api/stream")
            assert status == 503
            assert "viewers watch already" in text
        wait_until(lambda: len(page.viewers) == 0, "the viewers to be forgotten")
        with EventStream(f"{url}/api/stream") as stream:
            assert stream.next("totals")


def test_an_error_in_a_message_is_logged_and_later_viewers_are_served(daemon, monkeypatch, caplog):
    with serving(daemon) as (url, page):
        with monkeypatch.context() as context, EventStream(f"{url}/api/stream") as stream:
            events = stream.events()
            next(events)
            context.setattr(page, "_totals", None)
            with suppress(ConnectionError):
                list(events)
        assert "a message cannot be composed" in caplog.text
        with EventStream(f"{url}/api/stream") as stream:
            assert stream.next("totals")


def test_without_a_page_nothing_is_kept_for_it(classifier):
    config = make_config()
    assert config.http == "off"
    for without in (config, dataclasses.replace(config, http="127.0.0.1:0", page=False)):
        assert Daemon(without, classifier).sources[0].pipeline.history is None
