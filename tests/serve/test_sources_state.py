"""State of several sources that outlives a stop, a crash and a reload."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harstream.bundle import Bundle
from harstream.classifier import load_classifier
from harstream.config import RunConfig
from harstream.serve import models
from harstream.serve.daemon import Daemon
from harstream.serve.reload import Reloader
from harstream.wire.decoder import Message

from ..constants import T0_NS
from ..live_streams import assert_labels, expected
from ..servers import Client, Mosquitto, metric, wait_until
from .daemons import WrappedClassifier, exposed, make_config, running
from .sources import LABELS_OF, TABLES, interleaved, labels_of, renamed, sources_config, stream

# --- state ------------------------------------------------------------------------------------------------


def durable(mosquitto: Mosquitto, folder: Path, tables: Sequence[dict[str, Any]] = TABLES) -> RunConfig:
    return sources_config(mosquitto.port, tables, state_dir=folder)


def test_a_durable_daemon_goes_on_with_each_source_where_it_was(mosquitto, tmp_path, classifier, subjects):
    """Devices of one name in three sources are restored apart, between any two messages."""
    config = durable(mosquitto, tmp_path / "state")
    streams = {source: stream(source, subject, "a") for source, subject in zip(LABELS_OF, subjects, strict=False)}
    wanted = {
        source: renamed(expected([subject], classifier), "a")
        for source, subject in zip(LABELS_OF, subjects, strict=False)
    }
    sent = interleaved(*streams.values())
    with Client(mosquitto.port) as client:
        for first in range(0, len(sent), 40):
            with running(Daemon(config, classifier, classifier, classifier)) as daemon:
                assert daemon.durability is not None
                assert all(source.pipeline.engine.n_devices == (first > 0) for source in daemon.sources)
                for topic, payload in sent[first : first + 40]:
                    client.publish(topic, payload)
                client.flush()
                durability, position = daemon.durability, min(first + 40, len(sent))
                wait_until(lambda: durability.position >= position, "the messages")  # noqa: B023
        for source, labels in wanted.items():
            wait_until(lambda: len(labels_of(client, source)) >= len(labels), f"labels of {source}")  # noqa: B023
            assert_labels(labels_of(client, source), labels)


def test_the_state_of_a_source_that_is_gone_is_ended_and_its_labels_are_cleared(
    mosquitto, tmp_path, classifier, subjects, caplog
):
    folder = tmp_path / "state"
    with Client(mosquitto.port) as client:
        with running(Daemon(durable(mosquitto, folder), classifier, classifier, classifier)):
            for message in interleaved(stream("boards", subjects[0], "a"), stream("tags", subjects[1], "a")):
                client.publish(*message)
            wait_until(lambda: labels_of(client, "boards") and labels_of(client, "tags"), "labels")
        with running(Daemon(durable(mosquitto, folder, TABLES[::2]), classifier, classifier)) as daemon:
            wait_until(lambda: client.payloads("boards/a/activity")[-1:] == [b""], "an empty label")
            assert daemon.sources[1].pipeline.engine.devices == ["a"]
            assert daemon.sources[1].pipeline.last_labels.devices == ["a"]
        assert json.loads(client.payloads("boards/a/event")[-1])["event"] == "exit"
        assert client.payloads("tags/a/activity")[-1] != b""
    assert "state-dir: it has the state of the source 'boards', which is not configured any more" in caplog.text
    # It is told once: the next checkpoint has nothing of it.
    caplog.clear()
    with running(Daemon(durable(mosquitto, folder, TABLES[::2]), classifier, classifier)):
        pass
    assert "boards" not in caplog.text


def test_an_eviction_in_the_journal_is_of_one_source(mosquitto, tmp_path, classifier, subjects):
    """After a crash, what is fed again forgets the device of the source in which it was idle, and no namesake."""
    config = durable(mosquitto, tmp_path / "state")
    crashed = Daemon(config, classifier, classifier, classifier)
    assert crashed.durability is not None
    crashed.durability.start()
    both = [*stream("belts", subjects[0], "a")[:8], *stream("tags", subjects[1], "a")[:8]]
    crashed.durability.admit([Message(topic, payload, T0_NS / 1e9) for topic, payload in both])
    crashed.durability.note_evicted("tags", ["a"])
    crashed.durability.note_evicted("of-an-earlier-time", ["a"])
    crashed.durability.finish()
    with running(Daemon(config, classifier, classifier, classifier)) as daemon:
        wait_until(lambda: daemon.labelling.windows_classified, "labels")
        assert [source.pipeline.engine.devices for source in daemon.sources] == [["a"], [], []]


# --- reload -----------------------------------------------------------------------------------------------


@pytest.fixture
def in_this_process(monkeypatch):
    """Keep pytest's handlers of the log, and verify models without a process of their own, which takes seconds."""
    monkeypatch.setattr("harstream.logs.set_up", lambda level, log_format: None)
    monkeypatch.setattr("harstream.trial.load", lambda model, backend, **_: load_classifier(model, backend))


def change(folder: Path, **fields: Any) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.fixture
def reloadable(random_bundle, own_bundle) -> RunConfig:
    tables = [dict(TABLES[0]), {**TABLES[1], "model": str(own_bundle)}, {**TABLES[2], "model": str(own_bundle)}]
    return sources_config(tables=tables, model=str(random_bundle))


def with_tables(config: RunConfig, tables: Sequence[dict[str, Any]], **settings: Any) -> RunConfig:
    return dataclasses.replace(config, source=tuple(tables), **settings)


def test_sources_with_one_model_share_its_classifier(reloadable, in_this_process):
    first, second, third = models.load(reloadable)
    assert second is third is not first


def test_a_folder_that_changes_reloads_the_models_of_its_sources_only(reloadable, own_bundle, in_this_process, caplog):
    daemon = Daemon(reloadable, *models.load(reloadable))
    reloader = Reloader(daemon)
    before = daemon.sources.classifiers
    change(own_bundle, version="0.0.2")
    assert not reloader.changed_models()
    changed = reloader.changed_models()
    assert changed == {str(own_bundle)}
    daemon.labelling.start()
    assert reloader.reload("test", changed) == "random@0.0.1, random@0.0.2"
    daemon.labelling.finish()
    after = daemon.sources.classifiers
    assert after[0] is before[0]
    assert after[1] is after[2] is not before[1]
    assert [each.bundle.version for each in after] == ["0.0.1", "0.0.2", "0.0.2"]
    assert metric(exposed(daemon), 'harstream_model_info{backend="litert",model="random@0.0.2",source="tags"}') == 1


def test_a_reload_takes_the_model_of_a_source_and_says_what_waits_for_a_restart(
    reloadable, random_bundle, own_bundle, in_this_process, caplog
):
    belts, _, tags = map(dict, reloadable.source)
    change(own_bundle, version="0.0.2")
    new = with_tables(
        reloadable,
        [
            {**belts, "model": str(own_bundle), "axes": "-y x z", "acc_unit": "m/s2"},
            tags,
            {"name": "phones", "topic": "sensor-logger", "labels_topic": "phones/{device}"},
        ],
        idle_s=60.0,
        qos=0,
    )
    daemon = Daemon(reloadable, *models.load(reloadable))
    daemon.labelling.start()
    with caplog.at_level(logging.WARNING):
        assert Reloader(daemon, lambda: new).reload("SIGHUP") == "random@0.0.2"
    daemon.labelling.finish()
    assert [record.getMessage() for record in caplog.records] == [
        "restart harstream to apply the changed settings: qos, source belts: axes, source belts: acc-unit, "
        "source boards: removed, source phones: added; subscriptions and windows in progress depend on those of sources"
    ]
    assert daemon.config.idle_s == 60.0
    assert daemon.config.qos == 1
    assert [source.model for source in daemon.config.sources] == [str(own_bundle)] * 3
    assert [source.axes for source in daemon.config.sources] == ["x y z"] * 3
    assert [source.pipeline.classifier.bundle.version for source in daemon.sources] == ["0.0.2"] * 3


def test_the_default_of_a_model_reaches_the_sources_that_leave_it_out(reloadable, own_bundle, in_this_process, caplog):
    daemon = Daemon(reloadable, *models.load(reloadable))
    daemon.labelling.start()
    new = dataclasses.replace(reloadable, model=str(own_bundle), acc_unit="m/s2")
    assert Reloader(daemon, lambda: new).reload("SIGHUP")
    daemon.labelling.finish()
    assert [source.model for source in daemon.config.sources] == [str(own_bundle)] * 3
    # The unit is that of each source: belts names its own, the others took the default.
    assert "changed settings: source tags: acc-unit;" in caplog.text


def test_a_source_that_is_gone_keeps_its_model_until_the_restart(
    reloadable, random_bundle, own_bundle, in_this_process, caplog
):
    daemon = Daemon(reloadable, *models.load(reloadable))
    daemon.labelling.start()
    new = with_tables(reloadable, reloadable.source[1:], model=str(own_bundle))
    assert Reloader(daemon, lambda: new).reload("SIGHUP")
    daemon.labelling.finish()
    assert "changed settings: source belts: removed;" in caplog.text
    assert [source.model for source in daemon.config.sources] == [str(random_bundle), str(own_bundle), str(own_bundle)]


def test_tables_that_appear_wait_for_a_restart(random_bundle, in_this_process, caplog):
    config = make_config(model=str(random_bundle))
    daemon = Daemon(config, *models.load(config))
    daemon.labelling.start()
    new = with_tables(config, TABLES[:1])
    assert Reloader(daemon, lambda: new).reload("SIGHUP")
    daemon.labelling.finish()
    assert "changed settings: source belts: added;" in caplog.text
    assert daemon.config.sources == config.sources


def test_of_several_models_one_that_needs_other_windows_refuses_the_reload_for_all(
    reloadable, in_this_process, monkeypatch, caplog
):
    daemon = Daemon(reloadable, *models.load(reloadable))
    before = daemon.sources.classifiers
    other = [WrappedClassifier(each) for each in before]
    bundle: Bundle = before[1].bundle
    other[1].bundle = dataclasses.replace(bundle, spec=dataclasses.replace(bundle.spec, stride_samples=32))
    monkeypatch.setattr(models, "load", lambda *_, **__: other)
    assert not Reloader(daemon).reload("test")
    assert "source boards: " in caplog.text
    assert "stride_samples is 32, but the running model has 64" in caplog.text
    assert daemon.sources.classifiers == before
    assert daemon.labelling._waiting.empty()
