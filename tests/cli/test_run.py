"""`harstream run` as a process of its own."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from ..constants import UNREACHABLE
from ..live_streams import assert_labels, expected, messages
from ..servers import (
    DEADLINE_S,
    Client,
    Mosquitto,
    Process,
    default_ports,
    free_port,
    http_get,
    metric,
    mosquitto_passwords,
    occupied,
    processes_of_group,
    wait_until,
)

READY = " ready: "
#: The command with a drain that may take as long as a test may wait.
PATIENT = f"""
from harstream.serve import daemon
daemon.UNSUBSCRIBE_TIMEOUT_S = daemon.DRAIN_TIMEOUT_S = {DEADLINE_S}
from harstream.cli import main
main()
"""


@pytest.fixture
def start(tmp_path: Path, random_bundle: Path) -> Iterator[Callable[..., Process]]:
    """Start `harstream run` with the small bundle; the fixture kills what still runs after the test."""
    started: list[Process] = []

    def begin(*arguments: str, model: Path = random_bundle, ready: bool = True, **options) -> Process:
        chosen = ["run", "--model", str(model), "--instance", "test"]
        if "--http" not in arguments:
            chosen += ["--http", "127.0.0.1:0"]
        started.append(Process(*chosen, *arguments, folder=tmp_path, **options))
        if ready:
            started[-1].wait_for(READY)
        return started[-1]

    yield begin
    for process in started:
        process.__exit__()


def http_of(process: Process) -> str:
    found = re.search(r"http (http://\S+)", process.err)
    assert found
    return found[1]


@pytest.mark.parametrize("payload", ["json", "packed"])
def test_it_labels_published_samples_and_a_signal_stops_it(start, mosquitto, classifier, subjects, payload):
    wanted = expected(subjects, classifier)
    with Client(mosquitto.port) as client:
        process = start("--broker", mosquitto.address)
        assert http_get(f"{http_of(process)}/readyz") == (200, "ok\n")
        for topic, content in messages(subjects, payload):
            client.publish(topic, content)
        wait_until(lambda: len(client.labels()) >= len(wanted), "every label")
        text = http_get(f"{http_of(process)}/metrics")[1]
        assert metric(text, "harstream_messages_received_total") == sum(1 for _ in messages(subjects))
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0
        wait_until(lambda: client.states("harstream/test/status") == [b"online", b"stopped"], "the status")
        assert_labels(client.labels(), wanted)
    assert "SIGTERM: draining" in process.err
    assert process.err.rstrip().endswith("stopped")
    assert "Traceback" not in process.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_loses_no_message_that_the_broker_has_acknowledged(
    start, mosquitto, classifier, subjects, number
):
    wanted = expected(subjects, classifier)
    with Client(mosquitto.port) as client:
        process = start("--broker", mosquitto.address, code=PATIENT)
        for topic, content in messages(subjects):
            client.publish(topic, content)
        client.flush()
        process.send(number)
        assert process.exit_code() == 0
        wait_until(lambda: client.payloads("harstream/test/status")[-1:] == [b"stopped"], "the status")
        assert_labels(client.labels(), wanted)


def test_a_second_signal_leaves_at_once(start, tmp_path, subjects):
    with Mosquitto(tmp_path) as broker:
        process = start("--broker", broker.address, code=PATIENT)
        assert broker._process is not None
        broker._process.send_signal(signal.SIGSTOP)  # it acknowledges nothing, so the drain has to wait
        process.send(signal.SIGTERM)
        process.wait_for("draining")
        process.send(signal.SIGTERM)
        assert process.exit_code() == 128 + signal.SIGTERM
        assert "stopped" not in process.err


def test_killed_it_leaves_its_will(start, mosquitto):
    with Client(mosquitto.port) as client:
        process = start("--broker", mosquitto.address)
        wait_until(lambda: client.payloads("harstream/test/status"), "its status")  # the status may follow the log line
        process.send(signal.SIGKILL)
        assert process.exit_code() == -signal.SIGKILL
        wait_until(lambda: client.states("harstream/test/status") == [b"online", b"offline"], "the will")
    with Client(mosquitto.port) as client:
        wait_until(lambda: client.messages)
        assert client.messages == [("harstream/test/status", b"offline", True)]


def test_it_waits_for_a_broker_and_survives_its_restart(start, tmp_path, classifier, subjects):
    wanted = expected(subjects, classifier)
    broker = Mosquitto(tmp_path)
    port = free_port()
    process = start("--broker", broker.address, "--http", f"127.0.0.1:{port}", ready=False)
    process.wait_for("trying again")
    assert http_get(f"http://127.0.0.1:{port}/readyz")[0] == 503
    assert http_get(f"http://127.0.0.1:{port}/healthz")[0] == 200
    with broker:
        process.wait_for(READY)
        broker.stop()
        process.wait_for("connection lost")
        broker.start()
        process.wait_for("reconnected")
        with Client(broker.port) as client:
            for topic, content in messages(subjects):
                client.publish(topic, content)
            wait_until(lambda: len(client.labels()) >= len(wanted), "every label")
            assert_labels(client.labels(), wanted)
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0


BROKEN = """
import sys
from harstream.classifier import Classifier
predict = Classifier.predict
def broken(self, windows):
    if len(windows) and windows[0, 0, 0] != 0 and "go" in GO:
        raise ZeroDivisionError("a bug of ours")
    return predict(self, windows)
GO = []
Classifier.predict = broken
from harstream import trial
load = trial.load
trial.load = lambda *a: (load(*a), GO.append("go"))[0]
from harstream.cli import main
main()
"""


def test_a_bug_in_the_labelling_thread_is_exit_1_and_a_traceback(start, mosquitto, subjects):
    with Client(mosquitto.port) as client:
        process = start("--broker", mosquitto.address, code=BROKEN)
        for topic, content in messages(subjects):
            client.publish(topic, content)
        assert process.exit_code() == 1
        wait_until(lambda: client.states("harstream/test/status") == [b"online", b"offline"], "goodbye")
    assert "Traceback" in process.err
    assert "ZeroDivisionError: a bug of ours" in process.err


DEAF = """
from harstream.mqtt.link import Link
class LastError(BaseException):
    pass
def fail(*_):
    raise LastError("a bug of ours")
Link._on_received = fail
from harstream.cli import main
main()
"""


def test_a_network_thread_that_dies_is_exit_1_and_a_traceback(start, mosquitto, subjects):
    with Client(mosquitto.port) as client:
        process = start("--broker", mosquitto.address, code=DEAF)
        for topic, content in messages(subjects[:1]):
            client.publish(topic, content)
        assert process.exit_code() == 1
        wait_until(lambda: client.states("harstream/test/status") == [b"online", b"offline"], "the will")
    assert "LastError: a bug of ours" in process.err


# --- what it refuses ----------------------------------------------------------------------------------


def test_a_port_in_use_is_exit_2_and_one_line(start):
    with occupied() as port:
        process = start("--broker", UNREACHABLE, "--http", f"127.0.0.1:{port}", ready=False)
        assert process.exit_code() == 2
    reason = f"http: cannot listen on 127.0.0.1:{port}: Address already in use; choose another address"
    assert process.err == f"harstream: {reason}\n"


def test_an_unknown_variable_is_exit_2(start):
    process = start(ready=False, environment={"HARSTREAM_RUN_BROKE": "x"})
    assert process.exit_code() == 2
    assert "did you mean 'HARSTREAM_RUN_BROKER'?" in process.err


def test_a_damaged_bundle_is_exit_3_and_one_line(start, own_bundle):
    (own_bundle / "model.tflite").write_bytes(b"something else")
    process = start("--broker", UNREACHABLE, model=own_bundle, ready=False)
    assert process.exit_code() == 3
    assert process.err.startswith(f"harstream: {own_bundle / 'model.tflite'}: sha256 is ")
    assert process.err.count("\n") == 1


def test_a_wrong_password_is_exit_4_and_not_repeated(start, tmp_path):
    passwords = mosquitto_passwords(tmp_path / "passwords", ann="right")
    (tmp_path / "password").write_text("wrong-horse\n")
    with Mosquitto(tmp_path, "", f"allow_anonymous false\npassword_file {passwords}") as broker:
        by_url = start("--broker", f"mqtt://ann:wrong-horse@{broker.address}", ready=False)
        password_file = ["--user", "ann", "--password-file", str(tmp_path / "password")]
        by_file = start("--broker", broker.address, *password_file, "--log-level", "debug", ready=False)
        (tmp_path / "password-right").write_text("right\n")
        right = start("--broker", broker.address, "--user", "ann", "--password-file", str(tmp_path / "password-right"))
        for process in (by_url, by_file):
            assert process.exit_code() == 4
            assert f"harstream: broker mqtt://{broker.address}: refused the connection: " in process.err
            assert "wrong-horse" not in process.err + process.out
            assert "Traceback" not in process.err
        right.send(signal.SIGTERM)
        assert right.exit_code() == 0
        assert "right" not in right.err


# --- what it loads and starts -------------------------------------------------------------------------

LOADED = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(name for name in sys.modules if "." not in name))))
from harstream.cli import main
main()
"""


def test_with_a_litert_bundle_it_never_imports_tensorflow(start, mosquitto):
    process = start("--broker", mosquitto.address, code=LOADED)
    process.send(signal.SIGTERM)
    assert process.exit_code() == 0
    loaded = set(json.loads(process.out))
    assert "ai_edge_litert" in loaded
    assert loaded.isdisjoint({"tensorflow", "keras", "matplotlib", "rich", "iotcore"})


def test_without_a_broker_it_starts_the_embedded_one_and_logs_its_address(start, classifier, subjects):
    pytest.importorskip("iotcore")
    wanted = expected(subjects, classifier)
    with default_ports(), occupied(1883):
        process = start()
        found = re.search(r"broker embedded, wearables publish to mqtt://127\.0\.0\.1:(\d+) ", process.err)
        assert found
        port = int(found[1])
        assert 1883 < port < 1933
        with Client(port) as client:
            for topic, content in messages(subjects):
                client.publish(topic, content)
            wait_until(lambda: len(client.labels()) >= len(wanted), "every label")
            process.send(signal.SIGTERM)
            assert process.exit_code() == 0
            assert_labels(client.labels(), wanted)
    assert processes_of_group(process.group) == []


def test_the_embedded_broker_serves_the_network_with_a_warning_and_the_address_for_an_app(start, classifier, subjects):
    pytest.importorskip("iotcore")
    wanted, port = expected(subjects, classifier), free_port()
    process = start("--listen", f"0.0.0.0:{port}", "--topic", "phones/{device}/imu")
    warning = (
        "listen: the broker on 0.0.0.0 has no password: everyone in the network can publish samples and read labels"
    )
    assert process.err.count(warning) == 1
    found = re.search(
        rf"wearables publish to mqtt://(\S+):{port}; apps that need WebSockets, such as Sensor Logger: broker (\S+), "
        r"port (\d+), no TLS, topic phones/{device}/imu\n",
        process.err,
    )
    assert found
    assert found[1] == found[2] != "127.0.0.1"
    phone = paho.Client(CallbackAPIVersion.VERSION2, transport="websockets")
    phone.connect("127.0.0.1", int(found[3]))
    phone.loop_start()
    with Client(port) as client:
        for topic, content in messages(subjects):
            phone.publish(topic.replace("wearables", "phones"), content, 1)
        wait_until(lambda: len(client.labels()) >= len(wanted), "every label")
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0
        assert_labels(client.labels(), wanted)
    phone.disconnect()
    phone.loop_stop()


def test_without_a_broker_and_without_iotcore_the_error_names_the_remedy(start):
    code = "import sys; sys.modules['iotcore'] = None\nfrom harstream.cli import main\nmain()"
    process = start(code=code, ready=False)
    assert process.exit_code() == 2
    assert process.err.startswith("harstream: broker: not set, and the embedded broker is not installed")
    assert process.err.count("\n") == 1


def test_logs_can_be_json_one_object_a_line(start, mosquitto):
    process = start("--broker", mosquitto.address, "--log-format", "json")
    process.send(signal.SIGTERM)
    assert process.exit_code() == 0
    lines = [json.loads(line) for line in process.err.splitlines()]
    assert {"time", "level", "logger", "message"} <= set(lines[0])
    assert READY in lines[0]["message"]
    assert lines[-1]["message"] == "stopped"


def test_a_password_on_the_command_line_is_in_the_list_of_processes_no_more(start):
    process = start("--broker", f"mqtt://ann:s3cr3t-horse@{UNREACHABLE}", ready=False)
    process.wait_for(f"{UNREACHABLE}: cannot connect")
    shown = Path(f"/proc/{process.group}/cmdline").read_bytes()
    assert b"harstream" in shown
    assert b"s3cr3t-horse" not in shown
    assert "s3cr3t-horse" not in process.err


def test_a_hangup_before_it_serves_does_not_end_it(start, tmp_path):
    broker = Mosquitto(tmp_path)
    process = start("--broker", broker.address, ready=False)
    process.wait_for("cannot connect")
    process.send(signal.SIGHUP)
    with broker:
        process.wait_for(READY)
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0
