"""`harstream demo`: one command starts everything, and leaves no process behind."""

from __future__ import annotations

import re
import signal

import pytest

from .servers import Process, default_ports, http_get, metric, occupied, processes_of_group, wait_until

pytest.importorskip("iotcore")
pytest.importorskip("rich")


@pytest.fixture
def demo(tmp_path, random_bundle):
    processes: list[Process] = []

    def start(*arguments: str, model: str = str(random_bundle)) -> Process:
        environment = {"COLUMNS": "160", "TERM": "dumb"}
        processes.append(Process("demo", "--model", model, *arguments, folder=tmp_path, environment=environment))
        return processes[-1]

    with default_ports():
        yield start
        for process in processes:
            process.__exit__()


SUMMARY = r"(\d+) devices, ([\d,]+) samples, (\d+) labels, median latency ([\d.]+) ms; at the end: (.+)"


def test_it_ends_by_itself_with_a_summary_and_leaves_no_process(demo):
    process = demo("--duration", "3", "--devices", "3")
    assert process.exit_code() == 0, process.err
    assert processes_of_group(process.group) == []
    assert re.search(SUMMARY, process.out), process.out
    assert "mosquitto_sub" in process.out
    assert "Traceback" not in process.err


def test_it_works_beside_another_broker_and_another_daemon(demo):
    with occupied(1883), occupied(9464):
        process = demo("--devices", "2")
        wait_until(lambda: "metrics" in process.out or not process.running(), "the addresses of the demo")
        broker = re.search(r"mqtt://127\.0\.0\.1:(\d+)", process.out)
        http = re.search(r"(http://127\.0\.0\.1:(\d+))/metrics", process.out)
        assert broker, process.err
        assert http
        assert int(broker[1]) != 1883
        assert int(http[2]) != 9464
        assert http_get(f"{http[1]}/readyz") == (200, "ok\n")

        def value(series: str) -> float:
            return metric(http_get(f"{http[1]}/metrics")[1], series)

        wait_until(lambda: value("harstream_devices") == 2, "both devices")
        wait_until(lambda: value("harstream_inference_duration_seconds_count") >= 4, "labels")
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0
    summary = re.search(SUMMARY, process.out)
    assert summary, process.out
    assert int(summary[1]) == 2
    assert int(summary[2].replace(",", "")) > 3 * 128
    assert int(summary[3]) > 0
    assert re.fullmatch(r"\d [A-Z_]+(, \d [A-Z_]+)*", summary[5])
    assert processes_of_group(process.group) == []


def test_an_unknown_model_ends_it_with_the_error_of_the_daemon(demo):
    process = demo("--duration", "60", model="no-such-model")
    assert process.exit_code() != 0
    assert "'no-such-model'" in process.err
    assert "Traceback" not in process.err
    assert processes_of_group(process.group) == []
