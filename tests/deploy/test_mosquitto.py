"""deploy/mosquitto: TLS, passwords and access control of the real broker."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ..servers import DEADLINE_S, Process, mosquitto_passwords, wait_until
from .conftest import DEVICES, SERVICES, Site


class User:
    """Client of the site's broker with a user name; it keeps the messages that the broker lets it receive.

    Args:
        site: The broker.
        name: User name, or with ``certificate`` the common name of its certificate.
        subscriptions: Topic filters.
        client_id: Client identifier that it asks for.
        listener: Listener to connect to; without it, the one for this user's password.
        session: Whether the broker keeps subscriptions and waiting messages while the client is away.
        certificate: Whether to connect with a certificate in place of a password.

    """

    def __init__(
        self,
        site: Site,
        name: str,
        *subscriptions: str,
        client_id: str = "",
        listener: str = "",
        session: bool = False,
        certificate: bool = False,
    ) -> None:
        self.received: list[tuple[str, bytes]] = []
        self.admitted: bool | None = None
        self.thrown_off = 0
        self._reason_codes: dict[int, int] = {}  # by message identifier
        self._answered, self._subscribed = threading.Event(), threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        context = site.context()
        listener = listener or ("services" if name in SERVICES else "wearables")
        if certificate:
            listener += "-certificates"
            context.load_cert_chain(site.secret(f"{name}.crt"), site.secret(f"{name}.key"))
        else:
            self._client.username_pw_set(name, site.password(name))
        self._client.tls_set_context(context)
        self._client.on_message = lambda _, __, message: self.received.append((message.topic, bytes(message.payload)))
        self._client.on_publish = lambda _, __, mid, reason, ___: self._reason_codes.__setitem__(mid, reason.value)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600 if session else 0
        self._client.connect("localhost", site.port(listener), clean_start=not session, properties=properties)
        self._client.loop_start()
        assert self._answered.wait(DEADLINE_S)
        for subscription in subscriptions:
            self._subscribed.clear()
            self._client.subscribe(subscription, qos=1)
            assert self._subscribed.wait(DEADLINE_S)

    def _on_connect(self, _: object, __: object, ___: object, reason: ReasonCode, ____: object) -> None:
        self.admitted = not reason.is_failure
        self._answered.set()

    def _on_disconnect(self, _: object, __: object, ___: object, reason: ReasonCode, ____: object) -> None:
        self.thrown_off += reason.is_failure
        if self.admitted is None:  # during the TLS handshake
            self.admitted = False
            self._answered.set()

    def publish(self, topic: str, payload: bytes = b"x", *, retain: bool = False) -> bool:
        """Publish a message; return False if the broker refuses it, which the reason code of MQTT 5 tells."""
        sent = self._client.publish(topic, payload, qos=1, retain=retain)
        wait_until(lambda: sent.mid in self._reason_codes, "the acknowledgement")
        return self._reason_codes.pop(sent.mid) < 128

    def __enter__(self) -> User:
        assert self.admitted
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def admitted(site: Site, name: str, listener: str, *, certificate: bool = False) -> bool:
    """Return whether the broker admits a user at a listener."""
    user = User(site, name, listener=listener, certificate=certificate)
    user.__exit__()
    assert user.admitted is not None
    return user.admitted


@pytest.fixture
def run(tmp_path: Path, random_bundle: Path, site: Site) -> Iterator[Callable[..., Process]]:
    """Start `harstream run` at the site's broker; ``changes`` replace settings. It is killed after the test."""
    started: list[Process] = []

    def begin(**changes: str) -> Process:
        settings = {
            "broker": f"mqtts://localhost:{site.port('services')}",
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
    with User(site, "viewer", "wearables/sim-0001/activity") as viewer:
        arguments = ["--broker", f"mqtts://localhost:{site.port('wearables')}", "--ca", str(site.secret("ca.crt"))]
        arguments += ["--user", "sim-0001", "--password-file", str(site.secret("sim-0001.password"))]
        with Process(
            "simulate", *arguments, "--devices", "1", "--duration", "6", "--speed", "20", folder=tmp_path
        ) as load:
            assert load.exit_code() == 0, load.err
        wait_until(lambda: viewer.received, "a label")
    with User(site, "sim-0001", "wearables/sim-0001/activity") as wearable:
        wait_until(lambda: wearable.received, "its label, retained")
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
    acl = site.folder / "services.acl"
    acl.write_text(acl.read_text().replace("topic readwrite harstream/+/status", ""))
    site.stop()
    site.start()
    error = refusal(run(instance="ward"))
    assert "refused the status message to harstream/ward/status: Not authorized; let user 'harstream' publish" in error


def test_a_client_certificate_replaces_the_password(site, run):
    site.sign("harstream", "clientAuth", ca="services-ca")
    broker = f"mqtts://localhost:{site.port('services-certificates')}"
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
        site.sign("harstream", "clientAuth")  # by the one of the wearables
    else:
        site.sign("harstream", "clientAuth", days="-1", ca="services-ca")
    files = {"cert": str(site.secret("harstream.crt")), "key": str(site.secret("harstream.key"))}
    if fault == "missing":
        files = {}
    broker = f"mqtts://localhost:{site.port('services-certificates')}"
    assert "TLS" in refusal(run(broker=broker, user="", **{"password-file": ""}, **files))


def test_a_wearable_can_publish_only_its_own_samples(site):
    with (
        User(site, "viewer", "wearables/+/activity", "wearables/+/activity/event", "harstream/+/status") as viewer,
        User(site, "harstream", "wearables/+/imu") as daemon,
    ):
        with User(site, "sim-0001") as wearable:
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
    with User(site, "harstream") as daemon:
        with User(site, "sim-0001", "#", "wearables/+/activity") as wearable:
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


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_cannot_act_as_a_device_of_its_name(site, name):
    with User(site, name) as service:
        assert not service.publish(f"wearables/{name}/imu")
    assert not admitted(site, name, "wearables")


def test_a_wearable_is_not_admitted_as_a_service(site):
    site.sign("sim-0001", "clientAuth")
    assert admitted(site, "sim-0001", "wearables", certificate=True)
    assert not admitted(site, "sim-0001", "services")
    assert not admitted(site, "sim-0001", "services", certificate=True)


@pytest.mark.parametrize("certificate", [False, True])
def test_a_wearable_cannot_take_the_client_id_of_another_client(site, certificate):
    site.sign("sim-0001", "clientAuth")
    thief = {"client_id": "dashboard", "certificate": certificate}
    with User(site, "harstream") as daemon:
        with User(site, "viewer", "wearables/+/activity", client_id="dashboard", session=True) as dashboard:
            for _ in range(3):
                with User(site, "sim-0001", **thief) as wearable:
                    assert wearable.publish("wearables/sim-0001/imu")
            assert daemon.publish("wearables/sim-0002/activity", b"heard")
            wait_until(lambda: dashboard.received, "a label")
            assert dashboard.thrown_off == 0
        assert daemon.publish("wearables/sim-0002/activity", b"queued")  # while the dashboard is away
        with User(site, "sim-0001", **thief):
            pass
        with User(site, "viewer", client_id="dashboard", session=True) as dashboard:
            wait_until(lambda: dashboard.received, "the label that waited")
            assert dashboard.received == [("wearables/sim-0002/activity", b"queued")]
        with User(site, "sim-0002") as other, User(site, "sim-0001", client_id="sim-0002", certificate=certificate):
            assert other.publish("wearables/sim-0002/imu")
            assert other.thrown_off == 0


def test_labels_that_wait_or_are_retained_outlive_a_restart_of_the_broker(site):
    with User(site, "viewer", "wearables/+/activity", client_id="dashboard", session=True):
        pass
    with User(site, "harstream") as daemon:
        assert daemon.publish("wearables/sim-0001/activity", b"label", retain=True)
    site.restart()
    with User(site, "viewer", client_id="dashboard", session=True) as dashboard:
        wait_until(lambda: dashboard.received, "the label that waited")
        assert dashboard.received == [("wearables/sim-0001/activity", b"label")]
    with User(site, "sim-0001", "wearables/sim-0001/activity") as wearable:
        wait_until(lambda: wearable.received, "the retained label")


def test_the_broker_publishes_the_will_of_a_daemon_that_is_killed(site, run):
    topic = "harstream/ward/status"
    daemon = run(instance="ward")
    daemon.wait_for(" ready: ")
    with User(site, "viewer", topic) as viewer:
        daemon.send(signal.SIGKILL)
        wait_until(lambda: viewer.received[-1:] == [(topic, b"offline")], "the will")


def test_prepare_keeps_existing_secrets_and_adds_new_ones(site):
    before = {path.name: path.read_bytes() for path in (site.folder / "secrets").iterdir()}
    site.prepare("localhost", "sim-0003")
    after = {path.name: path.read_bytes() for path in (site.folder / "secrets").iterdir()}
    assert set(after) - set(before) == {"sim-0003.password"}
    assert {name for name in before if before[name] != after[name]} == {"passwords"}
    assert after["passwords"].startswith(before["passwords"])
    public = ("ca.crt", "services-ca.crt")
    private = [path for path in (site.folder / "secrets").iterdir() if path.name not in public]
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)
    site.reload()
    wait_until(lambda: admitted(site, "sim-0003", "wearables"), "the new device to be admitted")


def test_prepare_makes_a_password_for_each_service_and_none_for_a_device_of_that_name(site):
    acl, passwords = site.folder / "services.acl", site.secret("service-passwords")
    acl.write_text(acl.read_text().replace("# user simulate\n# topic", "user simulate\ntopic"))
    mosquitto_passwords(site.secret("passwords"), viewer="of an earlier version")
    site.prepare("localhost")
    assert [line.split(":")[0] for line in passwords.read_text().splitlines()] == [*SERVICES, "simulate"]
    assert [line.split(":")[0] for line in site.secret("passwords").read_text().splitlines()] == list(DEVICES)
    site.reload()
    wait_until(lambda: admitted(site, "simulate", "services"), "the new service to be admitted")
    with pytest.raises(subprocess.CalledProcessError):
        site.prepare("localhost", "viewer")
