"""A daemon in durable mode that is killed, restarted, and cut off: its labels are those of one that never was."""

from __future__ import annotations

import dataclasses
import json
import random
import signal
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from harstream.classifier import Classifier
from harstream.config import RunConfig
from harstream.errors import ConfigError
from harstream.mqtt import failures, recovery
from harstream.mqtt.connection import Connection
from harstream.serve import exchange
from harstream.serve.daemon import Daemon
from harstream.serve.durable.durability import Durability
from harstream.serve.durable.folder import StateFolder
from harstream.wire.decoder import Message

from ..constants import UNREACHABLE
from ..live_streams import expected, messages
from ..real_brokers import RabbitMq
from ..serve.daemons import WrappedClassifier, running
from ..serve.test_split import ACC, GYRO, split
from ..servers import Client, Mosquitto, Process, wait_until
from .processes import StoringMosquitto, publish_and_kill
from .proxy import FaultyNetwork

#: Smallest limit on the messages in flight that users meet: mosquitto's default.
INFLIGHT = 20


@pytest.fixture
def broker(tmp_path: Path):
    """Start a mosquitto with its default limit on messages in flight."""
    lines = f"allow_anonymous true\nmax_inflight_messages {INFLIGHT}\nmax_queued_messages 0"
    with Mosquitto(tmp_path, lines=lines) as mosquitto:
        yield mosquitto


def labels_of(client: Client) -> set[tuple[str, float, str]]:
    """Return device, time and label of every label received."""
    return {(device, message["t"], message["label"]) for device, message in client.labels()}


def wait_for_position(daemon: Daemon, position: int) -> None:
    """Wait until so many messages were taken."""
    durability = daemon.durability
    assert durability is not None
    wait_until(lambda: durability.position >= position, f"{position} messages")


def wait_for_reconnect(daemon: Daemon, connects: int) -> None:
    """Wait until the daemon has connected more than ``connects`` times."""
    connection = daemon.connection
    assert connection is not None
    wait_until(lambda: connection.connects > connects and daemon.connected, "a reconnect")


def wanted(subjects, classifier) -> set[tuple[str, float, str]]:
    """Return device, time and label of every label of a daemon that is never interrupted."""
    return {(device, round(t * 1e6) / 1e6, label) for device, t, label, *_ in expected(subjects, classifier)}


@pytest.mark.slow
@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_killed_at_any_moment_it_loses_and_changes_no_label(
    broker, tmp_path, random_bundle, classifier, subjects, version
):
    kill_again_and_again(
        broker.port, tmp_path, random_bundle, wanted(subjects, classifier), messages(subjects), version
    )


@pytest.mark.slow
def test_a_broker_that_sends_again_under_other_identifiers_changes_no_label(
    tmp_path, random_bundle, classifier, subjects
):
    broker = RabbitMq(tmp_path)
    try:
        kill_again_and_again(
            broker.port, tmp_path, random_bundle, wanted(subjects, classifier), messages(subjects), "3.1.1"
        )
    finally:
        broker.close()


@pytest.mark.slow
def test_killed_while_one_sensor_waits_for_the_other_it_loses_and_changes_no_label(
    broker, tmp_path, random_bundle, classifier, subjects
):
    labels = wanted(subjects, classifier)
    options = "--acc-topic", ACC, "--gyro-topic", GYRO
    kill_again_and_again(broker.port, tmp_path, random_bundle, labels, split(subjects), "5", *options)


def kill_again_and_again(
    port: int, tmp_path: Path, bundle: Path, labels, stream: Iterable[tuple[str, bytes]], version: str, *options: str
) -> None:
    """Kill a daemon at random moments while it gets all messages, and assert that it publishes these labels."""
    rng = random.Random(version)

    def start() -> Process:
        return Process(
            *("run", "--broker", f"127.0.0.1:{port}", "--model", str(bundle), "--http", "off"),
            *("--instance", "x", "--state-dir", str(tmp_path / "state"), "--mqtt-version", version),
            *options,
            folder=tmp_path,
        )

    with Client(port, "wearables/+/activity") as client:
        daemon = publish_and_kill(client, start, stream, rng)
        wait_until(lambda: labels <= labels_of(client), "every label")
        daemon.send(signal.SIGTERM)
        assert daemon.exit_code() == 0
        assert labels_of(client) == labels


def test_a_daemon_that_is_stopped_goes_on_where_it_was(broker, tmp_path, classifier, subjects):
    labels, sent = wanted(subjects, classifier), list(messages(subjects))
    config = RunConfig(broker=broker.address, instance="test", http="off", state_dir=tmp_path / "state")
    with Client(broker.port, "wearables/+/activity") as client:
        for first in range(0, len(sent), 100):
            with running(Daemon(config, classifier)) as daemon:
                for topic, payload in sent[first : first + 100]:
                    client.publish(topic, payload)
                client.flush()
                wait_for_position(daemon, 50)
        with running(Daemon(config, classifier)):
            wait_until(lambda: labels <= labels_of(client), "every label")
        assert labels_of(client) == labels
        assert len(client.labels()) == len(labels)  # after a stop none is published again
    assert not list((tmp_path / "state").glob("*.tmp"))


def test_while_the_broker_has_no_label_no_message_is_acknowledged(mosquitto, tmp_path, classifier, subjects):
    sent = list(messages(subjects))[:50]
    hold = threading.Event()
    hold.set()
    acknowledged: list[int] = []

    class Held(Connection):
        """Connection to a broker that answers no label while ``hold`` is set."""

        @property
        def answered(self) -> int:
            return 0 if hold.is_set() else super().answered

        def acknowledge(self, numbers) -> None:
            acknowledged.extend(numbers)
            super().acknowledge(numbers)

    config = RunConfig(broker=mosquitto.address, instance="test", http="off", state_dir=tmp_path / "state")
    with running(Daemon(config, classifier)) as daemon, Client(mosquitto.port, "wearables/+/activity") as client:
        assert daemon.connection is not None
        daemon.connection.__class__ = Held
        for topic, payload in sent:
            client.publish(topic, payload)
        wait_for_position(daemon, len(sent))
        wait_until(lambda: labels_of(client), "a label")
        assert len(acknowledged) < len(sent)
        hold.clear()
        assert daemon.durability is not None
        daemon.durability.note_answers()
        wait_until(lambda: len(acknowledged) == len(sent), "the acknowledgements")


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["cut", "reset", "half_open"])
def test_cut_off_again_and_again_it_loses_and_changes_no_label(
    broker, tmp_path, classifier, subjects, fault, monkeypatch
):
    # Cut off right after a label each time, the daemon would take the broker for one that does not allow the label.
    for module in (failures, recovery):
        monkeypatch.setattr(module, "MAX_ENDS", 1_000)
    labels, sent = wanted(subjects, classifier), list(messages(subjects))
    with FaultyNetwork(broker.port) as network, Client(broker.port, "wearables/+/activity") as client:
        config = RunConfig(broker=network.address, instance="test", http="off", state_dir=tmp_path / "state")
        with running(Daemon(config, classifier)) as daemon:
            assert daemon.connection is not None
            for number in range(0, len(sent), 40):
                connects = daemon.connection.connects
                for topic, payload in sent[number : number + 40]:
                    client.publish(topic, payload)
                getattr(network, fault)()
                wait_for_reconnect(daemon, connects)
            wait_until(lambda: labels <= labels_of(client), "every label")
    assert labels_of(client) == labels


@pytest.mark.slow
def test_the_broker_restarted_again_and_again_loses_and_changes_no_label(tmp_path, classifier, subjects):
    labels, sent = wanted(subjects, classifier), list(messages(subjects))
    config = {"instance": "test", "http": "off", "state_dir": tmp_path / "state"}
    received: set[tuple[str, float, str]] = set()
    with (
        StoringMosquitto(tmp_path) as broker,
        running(Daemon(RunConfig(broker=broker.address, **config), classifier)) as daemon,
    ):
        for number in range(0, len(sent), 40):
            with Client(broker.port, "wearables/+/activity") as client:
                for topic, payload in sent[number : number + 40]:
                    client.publish(topic, payload)
                client.flush()
                wait_until(lambda: labels_of(client), "a label")
                received |= labels_of(client)
            broker.restart()
            wait_until(lambda: daemon.connected, "a reconnect")
        with Client(broker.port, "wearables/+/activity") as client:
            wait_for_position(daemon, len(sent))
    # Labels that came while no client listened are those that the engine and the smoother have given since.
    assert received <= labels
    assert daemon.labelling.windows_classified == len(labels)


def journal_of(folder: Path, sent) -> None:
    """Leave a state folder behind as after a crash: all messages are in the journal, and none was labelled."""
    durability = Durability(folder, lambda: 0.0, lambda: None)
    durability.start()
    durability.admit([Message(topic, payload, 0.0) for topic, payload in sent])
    durability.finish()


def test_stopped_while_the_broker_is_away_it_publishes_the_rest_later(mosquitto, tmp_path, classifier, subjects):
    folder = tmp_path / "state"
    journal_of(folder, messages(subjects))
    away = Daemon(RunConfig(broker=UNREACHABLE, instance="test", http="off", state_dir=folder), classifier)
    away.stop()
    settings = away.config.read_broker_settings()
    assert settings is not None
    away.connect(settings)
    away.run()
    labels = wanted(subjects, classifier)
    with Client(mosquitto.port, "wearables/+/activity") as client:
        config = RunConfig(broker=mosquitto.address, instance="test", http="off", state_dir=folder)
        with running(Daemon(config, classifier)):
            wait_until(lambda: labels <= labels_of(client), "every label")
        assert labels_of(client) == labels


def test_stopped_while_the_broker_answers_nothing_it_gives_up_and_publishes_the_rest_later(
    mosquitto, tmp_path, classifier, subjects, monkeypatch
):
    folder = tmp_path / "state"
    journal_of(folder, messages(subjects))
    config = RunConfig(broker=mosquitto.address, instance="test", http="off", state_dir=folder)

    class Full(Connection):
        """Connection whose queue has no room."""

        def publish_all(self, messages, **options) -> int:
            return 0

    with monkeypatch.context() as patch:
        patch.setattr(exchange, "DRAIN_TIMEOUT_S", 0.1)
        patch.setattr(exchange, "Connection", Full)
        with running(Daemon(config, classifier)):
            pass
    labels = wanted(subjects, classifier)
    with Client(mosquitto.port, "wearables/+/activity") as client, running(Daemon(config, classifier)):
        wait_until(lambda: labels <= labels_of(client), "every label")


def test_while_the_journal_has_no_room_nothing_is_taken_from_the_inbox(mosquitto, tmp_path, classifier, subjects):
    config = RunConfig(broker=mosquitto.address, instance="test", http="off", state_dir=tmp_path / "state")

    class Full(Durability):
        """Journal without room while ``full`` is set."""

        full = True

        @property
        def has_room(self) -> bool:
            return not self.full

    daemon = Daemon(config, classifier)
    durability = daemon.durability
    assert durability is not None
    durability.__class__ = Full
    labels = wanted(subjects, classifier)
    with running(daemon), Client(mosquitto.port, "wearables/+/activity") as client:
        for topic, payload in messages(subjects):
            client.publish(topic, payload)
        client.flush()
        wait_until(lambda: len(daemon.inbox), "messages in the inbox")
        assert durability.position == 0
        durability.full = False  # type: ignore[attr-defined]
        wait_until(lambda: labels <= labels_of(client), "every label")


@pytest.fixture
def stopped(mosquitto, tmp_path, classifier, subjects) -> RunConfig:
    """Return settings of a daemon that was stopped after some labels."""
    config = RunConfig(broker=mosquitto.address, instance="test", http="off", state_dir=tmp_path / "state")
    with running(Daemon(config, classifier)), Client(mosquitto.port, "wearables/+/activity") as client:
        for topic, payload in list(messages(subjects))[:100]:
            client.publish(topic, payload)
        wait_until(lambda: labels_of(client), "a label")
    return config


def other(classifier: Classifier, **changes) -> Classifier:
    """Return a classifier whose bundle differs."""
    wrapped = WrappedClassifier(classifier)
    wrapped.bundle = dataclasses.replace(classifier.bundle, **changes)
    return wrapped


def test_state_of_a_model_with_other_windows_is_refused_in_one_line(stopped, classifier):
    spec = dataclasses.replace(classifier.bundle.spec, stride_samples=32)
    with pytest.raises(ConfigError, match=r"state-dir: its windows are those of .*start with the old model") as error:
        Daemon(stopped, other(classifier, spec=spec))
    assert "\n" not in str(error.value)
    StateFolder(stopped.state_dir).close()  # nobody has it locked


def test_with_a_model_of_other_labels_the_windows_go_on_and_every_activity_ends(stopped, classifier, caplog):
    labels = tuple(f"NEW_{name}" for name in classifier.bundle.labels)
    daemon = Daemon(stopped, other(classifier, labels=labels, version="2.0.0"))
    assert daemon.sources[0].pipeline.engine.n_devices == 5
    exits = [json.loads(payload) for _, payload in daemon._farewell.events]
    assert len(exits) == 5
    assert {event["event"] for event in exits} == {"exit"}
    assert {event["model"] for event in exits} == {classifier.bundle.id}
    assert "every activity ends" in caplog.text


def test_with_another_network_for_the_same_labels_everything_goes_on(stopped, classifier):
    daemon = Daemon(stopped, other(classifier, version="2.0.0"))
    assert daemon.sources[0].pipeline.engine.n_devices == len(daemon.sources[0].pipeline.smoother) == 5
    assert daemon._farewell.events == []
