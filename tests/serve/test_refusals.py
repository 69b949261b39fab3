"""Labels, events and status that the broker refuses: counted, logged, shown; the daemon is not ready meanwhile."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from harstream.config import RunConfig
from harstream.errors import BrokerError
from harstream.mqtt.link import Refusal
from harstream.serve import refusals
from harstream.serve.daemon import Daemon
from harstream.serve.http import daemon_routes, respond
from harstream.serve.refusals import Refusals
from harstream.wire.topics import TopicTemplate

from ..fakes import Clock, replace_monotonic
from ..live_streams import expected
from ..servers import Client, Mosquitto, metric, wait_until
from .daemons import exposed, make_config, publish_all, running

RULES = (
    "topic readwrite wearables/+/imu\ntopic readwrite harstream/+/status\ntopic readwrite wearables/+/activity/event\n"
)
LABELS = "topic readwrite wearables/+/activity\n"


class Guarded:
    """mosquitto with an access list that a test may change while it runs."""

    def __init__(self, folder: Path) -> None:
        self.acl = folder / "acl"
        self.acl.write_text(RULES)
        lines = f"allow_anonymous true\nacl_file {self.acl}"
        self.broker = Mosquitto(folder, "max_queued_messages 100000", lines)

    def allow(self, rules: str) -> None:
        """Replace the access list."""
        self.acl.write_text(rules)
        self.broker.reload()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    guarded = Guarded(tmp_path)
    with guarded.broker:
        yield guarded


def readiness(daemon: Daemon) -> tuple[int, str]:
    """Return status and text of /readyz."""
    answer = respond(daemon_routes(daemon.status, daemon.metrics.expose, daemon.read_devices), "/readyz")
    assert isinstance(answer, tuple)
    return answer[0], answer[2].decode().strip()


def refused(daemon: Daemon, kind: str) -> float:
    return metric(exposed(daemon), f'harstream_{kind}_dropped_total{{reason="refused"}}')


def test_refused_labels_are_counted_logged_once_and_shown_and_the_daemon_is_not_ready(
    guarded, classifier, subjects, caplog
):
    n_labels = len(expected(subjects, classifier))
    with running(Daemon(make_config(guarded.broker.port), classifier)) as daemon, Client(guarded.broker.port) as client:
        assert readiness(daemon) == (200, "ok")
        publish_all(client, subjects)
        wait_until(lambda: refused(daemon, "windows") == n_labels, "every label to be refused")
        status, text = readiness(daemon)
        assert (status, text.partition(": wearables/")[0]) == (503, "not ready; the broker refuses labels")
        assert text.endswith("/activity: Not authorized")
        assert "the broker refuses labels: wearables/" in daemon.status().state
        assert metric(exposed(daemon), 'harstream_publish_refused{kind="labels"}') == 1
        assert refused(daemon, "events") == 0
        assert daemon.connected
        assert client.labels() == []
        lines = [record.getMessage() for record in caplog.records if "refuses" in record.getMessage()]
        assert len(lines) == 1
        assert (
            "the broker refuses our labels: Not authorized (messages: 1); let this client publish to "
            "wearables/{device}/activity in the broker's access list. The last one was for wearables/" in lines[0]
        )
        guarded.allow(RULES + LABELS)
        later = [dataclasses.replace(subjects[0], name="another")]

        def ready_again() -> bool:
            publish_all(client, later)
            return readiness(daemon) == (200, "ok")

        wait_until(ready_again, "a label to be accepted")
        assert metric(exposed(daemon), 'harstream_publish_refused{kind="labels"}') == 0


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_refused_status_ends_the_start(tmp_path, classifier, version):
    """mosquitto closes the connection after each message that it refuses if its queues have no limit."""
    (tmp_path / "acl").write_text("topic readwrite wearables/#\n")
    with Mosquitto(tmp_path, "", f"allow_anonymous true\nacl_file {tmp_path / 'acl'}") as broker:
        daemon = Daemon(make_config(broker.port, mqtt_version=version), classifier)
        settings = daemon.config.read_broker_settings()
        assert settings is not None
        with pytest.raises(BrokerError, match="let this client publish to harstream/test/status in the broker's"):
            daemon.connect(settings)


# --- one object ---------------------------------------------------------------------------------------


@pytest.fixture
def counted() -> list[tuple[str, int]]:
    return []


@pytest.fixture
def known(counted) -> Refusals:
    config = RunConfig(instance="x")
    (source,) = config.sources
    assert source.events_template is not None
    templates = {"labels": [source.labels_template, TopicTemplate("b/{device}")], "events": [source.events_template]}
    return Refusals(templates, config.status_topic, "ann", lambda *seen: counted.append(seen))


def test_a_kind_counts_as_refused_until_one_of_it_is_accepted(known, counted):
    known.add([], [Refusal("wearables/a/activity", b"x", "Not authorized"), Refusal("b/a", b"", "Quota exceeded")])
    known.add([], [Refusal("wearables/a/activity/event", b"x", "Not authorized")])
    known.add(["harstream/x/status"], [])
    assert known.current == {"labels": "b/a: Quota exceeded", "events": "wearables/a/activity/event: Not authorized"}
    assert counted == [("labels", 1), ("events", 1)]  # an empty message clears a label and is no window
    known.add(["b/c"], [])
    assert list(known.current) == ["events"]
    known.add([], [Refusal("harstream/x/status", b"online", "Not authorized")])
    known.add(["wearables/c/activity/event"], [])
    assert known.current == {"status": "harstream/x/status: Not authorized"}


def test_ten_thousand_refusals_are_one_line_a_minute_for_each_kind_and_reason(known, monkeypatch, caplog):
    clock = Clock()
    replace_monotonic(monkeypatch, refusals, clock)
    for _ in range(3):
        for number in range(10_000):
            known.add([], [Refusal(f"wearables/{number}/activity", b"x", "Not authorized")])
        known.add([], [Refusal("b/1", b"x", "Quota exceeded")])
        clock.now_s += 61
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(lines) == 6
    assert lines[2].startswith(
        "the broker refuses our labels: Not authorized (messages: 10000); let user 'ann' publish to "
    )
    assert "access list" not in lines[1]
    assert len(known._counts) <= 2
