"""deploy/mosquitto: TLS, passwords and access control of the real broker."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from ..servers import DEADLINE_S, Process, wait_until
from .conftest import Site


class User:
    """Client of the site's broker with a user name; it keeps the messages that the broker lets it receive."""

    def __init__(self, site: Site, name: str, *subscriptions: str) -> None:
        self.received: list[tuple[str, bytes]] = []
        self._reason_codes: dict[int, int] = {}  # by message identifier
        self._connected, self._subscribed = threading.Event(), threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.tls_set_context(site.context())
        self._client.username_pw_set(name, site.password(name))
        self._client.on_message = lambda _, __, message: self.received.append((message.topic, bytes(message.payload)))
        self._client.on_publish = lambda _, __, mid, reason, ___: self._reason_codes.__setitem__(mid, reason.value)
        self._client.on_connect = lambda *_: self._connected.set()
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.connect("localhost", site.port)
        self._client.loop_start()
        assert self._connected.wait(DEADLINE_S)
        for subscription in subscriptions:
            self._subscribed.clear()
            self._client.subscribe(subscription, qos=1)
            assert self._subscribed.wait(DEADLINE_S)

    def publish(self, topic: str, payload: bytes = b"x", *, retain: bool = False) -> bool:
        """Publish a message; return False if the broker refuses it, which the reason code of MQTT 5 tells."""
        sent = self._client.publish(topic, payload, qos=1, retain=retain)
        wait_until(lambda: sent.mid in self._reason_codes, "the acknowledgement")
        return self._reason_codes.pop(sent.mid) < 128

    def __enter__(self) -> User:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def run(tmp_path: Path, random_bundle: Path, site: Site) -> Iterator[Callable[..., Process]]:
    """Start `harstream run` at the site's broker; ``changes`` replace settings. It is killed after the test."""
    started: list[Process] = []

    def begin(**changes: str) -> Process:
        settings = {
            "broker": f"mqtts://localhost:{site.port}",
            "ca": str(site.secret("ca.crt")),
            "user": "harstream",
            "password-file": str(site.secret("harstream.password")),
            "model": str(random_bundle),
            "http": "off",
            **changes,
        }
        flags = [f"--{name}={value}" for name, value in settings.items() if value]
        started.append(Process("run", *flags, folder=tmp_path))
        return started[-1]

    yield begin
    for process in started:
        process.__exit__()


def refusal(process: Process) -> str:
    """Wait for the end of the process with exit code 4, and return the one line that it wrote."""
    assert process.exit_code() == 4, process.err
    lines = process.err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_a_wearables_samples_become_labels_that_it_may_read(site, run, tmp_path):
    daemon = run()
    daemon.wait_for(" ready: ")
    with User(site, "sim-0001", "wearables/sim-0001/activity") as wearable:
        arguments = ["--broker", f"mqtts://localhost:{site.port}", "--ca", str(site.secret("ca.crt"))]
        arguments += ["--user", "sim-0001", "--password-file", str(site.secret("sim-0001.password"))]
        with Process(
            "simulate", *arguments, "--devices", "1", "--duration", "6", "--speed", "20", folder=tmp_path
        ) as load:
            assert load.exit_code() == 0, load.err
        wait_until(lambda: wearable.received, "a label")
        assert {topic for topic, _ in wearable.received} == {"wearables/sim-0001/activity"}
    daemon.send(signal.SIGTERM)
    assert daemon.exit_code() == 0


def test_the_daemon_may_correct_its_own_status(site, run):
    run(instance="ward").wait_for(" ready: ")
    topic = "harstream/ward/status"
    with User(site, "viewer", topic) as viewer, User(site, "harstream") as predecessor:
        assert predecessor.publish(topic, b"stopped", retain=True)
        wait_until(lambda: (topic, b"stopped") in viewer.received, "what the predecessor says")
        wait_until(lambda: viewer.received[-1] == (topic, b"online"), "the correction")


def test_a_daemon_without_the_right_to_publish_its_status_is_one_line_and_exit_4(site, run):
    acl = site.folder / "acl"
    acl.write_text(acl.read_text().replace("topic readwrite harstream/+/status", ""))
    site.stop()
    site.start()
    error = refusal(run(instance="ward"))
    assert "refused the status message to harstream/ward/status: Not authorized; let user 'harstream' publish" in error


def test_a_client_certificate_replaces_the_password(site, run):
    site.sign("harstream", "clientAuth")
    broker = f"mqtts://localhost:{site.certificate_port}"
    certificate = {"cert": str(site.secret("harstream.crt")), "key": str(site.secret("harstream.key"))}
    run(broker=broker, user="", **{"password-file": ""}, **certificate).wait_for(" ready: ")


def test_a_broker_certificate_of_another_authority_is_one_line_and_exit_4(site, run):
    site.authority("other")
    assert "certificate" in refusal(run(ca=str(site.secret("other.crt"))))


def test_a_broker_certificate_for_another_name_is_one_line_and_exit_4(site, run):
    site.stop()
    (site.folder / "secrets" / "server.crt").unlink()
    site.sign("server", "serverAuth", san="DNS:broker.example")
    site.start()
    assert "localhost" in refusal(run())


def test_an_expired_broker_certificate_is_one_line_and_exit_4(site, run):
    site.stop()
    site.sign("server", "serverAuth", days="-1", san="DNS:localhost")
    site.start()
    assert "expired" in refusal(run())


def test_a_wrong_password_is_one_line_and_exit_4_and_is_not_repeated(site, run, tmp_path):
    (tmp_path / "wrong").write_text("wrong-horse")
    error = refusal(run(**{"password-file": str(tmp_path / "wrong")}))
    assert "Not authorized" in error or "Bad user name or password" in error
    assert "wrong-horse" not in error


@pytest.mark.parametrize("fault", ["expired", "of another authority", "missing"])
def test_an_unusable_client_certificate_is_one_line_and_exit_4(site, run, fault):
    if fault == "of another authority":
        site.authority("other")
        site.sign("harstream", "clientAuth", ca="other")
    else:
        site.sign("harstream", "clientAuth", days="-1")
    files = {"cert": str(site.secret("harstream.crt")), "key": str(site.secret("harstream.key"))}
    if fault == "missing":
        files = {}
    broker = f"mqtts://localhost:{site.certificate_port}"
    assert "TLS" in refusal(run(broker=broker, user="", **{"password-file": ""}, **files))


def test_a_wearable_can_publish_only_its_own_samples(site):
    with (
        User(site, "viewer", "wearables/+/activity", "wearables/+/activity/event", "harstream/+/status") as viewer,
        User(site, "harstream", "wearables/+/imu") as daemon,
        User(site, "sim-0001") as wearable,
    ):
        assert wearable.publish("wearables/sim-0001/imu", b"mine")
        for topic in (
            "wearables/sim-0002/imu",
            "wearables/sim-0001/activity",
            "wearables/sim-0002/activity",
            "wearables/sim-0001/activity/event",
            "harstream/harstream/status",
            "wearables/sim-0001",
        ):
            with User(site, "sim-0001") as again:  # mosquitto 2.0.11 closes the connection after a refusal
                assert not again.publish(topic, retain=True), topic
        assert daemon.publish("wearables/sim-0002/activity", b"label", retain=True)
        wait_until(lambda: viewer.received and daemon.received, "the messages that are allowed")
        assert viewer.received == [("wearables/sim-0002/activity", b"label")]
        assert daemon.received == [("wearables/sim-0001/imu", b"mine")]


def test_a_wearable_receives_only_its_own_labels(site):
    with User(site, "harstream") as daemon, User(site, "sim-0001", "#", "wearables/+/activity") as wearable:
        assert daemon.publish("wearables/sim-0002/activity", b"of another", retain=True)
        assert daemon.publish("wearables/sim-0001/activity", b"its own", retain=True)
        wait_until(lambda: wearable.received, "its label")
        assert set(wearable.received) == {("wearables/sim-0001/activity", b"its own")}
        with User(site, "sim-0001", "wearables/sim-0002/activity", "wearables/sim-0001/activity") as again:
            wait_until(lambda: again.received, "its label, retained")
            assert set(again.received) == {("wearables/sim-0001/activity", b"its own")}


@pytest.mark.parametrize(
    "topic", ["wearables/sim-0001/imu", "wearables/sim-0001/activity", "harstream/harstream/status"]
)
def test_a_viewer_cannot_publish(site, topic):
    with User(site, "viewer") as viewer:
        assert not viewer.publish(topic)


def test_prepare_keeps_existing_secrets_and_adds_new_ones(site):
    before = {path.name: path.read_bytes() for path in (site.folder / "secrets").iterdir()}
    site.prepare("localhost", "sim-0003")
    after = {path.name: path.read_bytes() for path in (site.folder / "secrets").iterdir()}
    assert set(after) - set(before) == {"sim-0003.password"}
    assert {name for name in before if before[name] != after[name]} == {"passwords"}
    assert after["passwords"].startswith(before["passwords"])
    private = [path for path in (site.folder / "secrets").iterdir() if path.name != "ca.crt"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)
