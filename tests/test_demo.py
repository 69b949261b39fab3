"""`harstream demo`: everything with one command, and nothing left behind."""

from __future__ import annotations

import re
import signal

import pytest

from .servers import Process, http_get, metric, occupied, processes_of_group, wait_until

pytest.importorskip("amqtt")
pytest.importorskip("rich")


@pytest.fixture
def demo(tmp_path, random_bundle):
    started = []

    def start(*arguments: str, model: str = str(random_bundle)) -> Process:
        environment = {"COLUMNS": "160", "TERM": "dumb"}
        started.append(Process("demo", "--model", model, *arguments, folder=tmp_path, environment=environment))
        return started[-1]

    yield start
    for process in started:
        process.__exit__()


def test_it_ends_by_itself_with_a_summary_and_leaves_nothing_running(demo):
    process = demo("--duration", "12", "--devices", "3")
    assert process.exit_code() == 0, process.err
    assert processes_of_group(process.group) == []
    found = re.search(
        r"(\d+) devices, ([\d,]+) samples, (\d+) labels, median latency ([\d.]+) ms; at the end: (.+)", process.out
    )
    assert found, process.out
    assert int(found[1]) == 3
    assert int(found[2].replace(",", "")) > 3 * 128
    assert int(found[3]) >= 3
    assert re.fullmatch(r"\d [A-Z_]+(, \d [A-Z_]+)*", found[5])
    assert "mosquitto_sub" in process.out
    assert "Traceback" not in process.err


def test_it_works_beside_another_broker_and_another_daemon(demo):
    with occupied(1883), occupied(9464):
        process = demo("--devices", "2")
        wait_until(lambda: "metrics" in process.out or not process.running(), "the demo")
        broker = re.search(r"mqtt://127\.0\.0\.1:(\d+)", process.out)
        metrics = re.search(r"(http://127\.0\.0\.1:(\d+))/metrics", process.out)
        assert broker, process.err
        assert metrics
        assert int(broker[1]) != 1883
        assert int(metrics[2]) != 9464
        assert http_get(f"{metrics[1]}/readyz") == (200, "ok\n")
        wait_until(lambda: metric(http_get(f"{metrics[1]}/metrics")[1], "harstream_devices") == 2, "the wearables")
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0
        assert "2 devices" in process.out
    assert processes_of_group(process.group) == []


def test_a_model_that_is_not_there_ends_it_with_what_the_daemon_said(demo):
    process = demo("--duration", "60", model="no-such-model")
    assert process.exit_code() != 0
    assert "'no-such-model'" in process.err
    assert "Traceback" not in process.err
    assert processes_of_group(process.group) == []
