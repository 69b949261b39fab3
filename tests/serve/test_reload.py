"""Reload of model and settings while the daemon runs: verified first, and no window is lost."""

from __future__ import annotations

import json
import logging
import re
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harstream import bundle as bundles
from harstream.classifier import Classifier, load_classifier, seal_bundle
from harstream.config import RunConfig
from harstream.errors import BundleError
from harstream.serve import reload as reloading
from harstream.serve.daemon import Daemon
from harstream.serve.reload import Reloader

from ..damaged_models import crashing
from ..live_streams import assert_labels, expected, messages
from ..servers import Client, Process, http_get, metric, wait_until
from ..test_bundle import replace_file
from .daemons import exposed, make_config, publish_all, running


def change(folder: Path, **fields: Any) -> None:
    """Set fields of bundle.json."""
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.fixture
def daemon(mosquitto, own_bundle) -> Daemon:
    return Daemon(make_config(mosquitto.port, model=str(own_bundle)), load_classifier(own_bundle))


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Keep pytest's handlers of the log, and verify models without a process of their own, which takes seconds."""
    monkeypatch.setattr("harstream.logs.set_up", lambda level, log_format: None)
    monkeypatch.setattr("harstream.trial.load", lambda model, backend, **_: load_classifier(model, backend))


def test_a_new_model_is_used_from_one_window_to_the_next_and_none_is_lost(
    daemon, mosquitto, own_bundle, classifier, subjects
):
    wanted = expected(subjects, classifier)
    stream = list(messages(subjects))
    with Client(mosquitto.port) as client, running(daemon):
        for number, (topic, content) in enumerate(stream):
            client.publish(topic, content)
            if number == len(stream) // 2:
                client.flush()
                wait_until(client.labels, "the first labels")
                change(own_bundle, version="0.0.2")
                assert Reloader(daemon).reload("test")
        wait_until(lambda: len(client.labels()) >= len(wanted), "every label")
        assert_labels([(device, {**label, "model": "random@0.0.1"}) for device, label in client.labels()], wanted)
        models = [label["model"] for _, label in client.labels()]
        assert set(models) == {"random@0.0.1", "random@0.0.2"}
        assert models == sorted(models)  # no window has the old model after one with the new
        text = exposed(daemon)
        assert 'harstream_model_info{backend="litert",model="random@0.0.2"} 1.0' in text
        assert metric(text, 'harstream_reloads_total{result="done"}') == 1


def test_smoothing_goes_on_where_neither_it_nor_the_labels_change(daemon, own_bundle):
    pipeline = daemon.sources[0].pipeline
    smoother = pipeline.smoother
    change(own_bundle, version="0.0.2")
    other = load_classifier(own_bundle)
    pipeline.change_model(other, other.bundle.smoothing)
    assert pipeline.smoother is smoother
    change(own_bundle, smoothing={"type": "exponential", "weight": 0.5})
    other = load_classifier(own_bundle)
    pipeline.change_model(other, other.bundle.smoothing)
    assert pipeline.smoother.smoothing.type == "exponential"


def test_other_labels_are_counted_beside_the_old(mosquitto, own_bundle, subjects, daemon):
    with Client(mosquitto.port) as client, running(daemon):
        publish_all(client, subjects[:2])
        wait_until(client.labels, "labels of the old")
        bundle = bundles.load(own_bundle)
        change(own_bundle, version="0.0.2", labels=[f"NEW_{label}" for label in bundle.labels])
        with pytest.raises(Exception, match="labels"):  # sealed with other names
            load_classifier(own_bundle)
        seal_bundle(bundles.load(own_bundle))
        assert Reloader(daemon).reload("test")
        n_windows = len(expected(subjects, load_classifier(own_bundle)))
        publish_all(client, subjects[2:])
        wait_until(lambda: any(label["label"].startswith("NEW_") for _, label in client.labels()), "labels of the new")
        wait_until(lambda: metric(exposed(daemon), "harstream_devices") == len(subjects), "everybody")
        both = [f"{prefix}{label}" for prefix in ("", "NEW_") for label in bundle.labels]

        def all_counted() -> bool:
            text = exposed(daemon)
            counted = sum(metric(text, f'harstream_windows_classified_total{{label="{label}"}}') for label in both)
            confident = sum(metric(text, f'harstream_confidence_count{{label="{label}"}}') for label in both)
            return counted == confident == n_windows

        wait_until(all_counted, "every window to be counted under old names or new ones")
        text = exposed(daemon)
        new = sum(metric(text, f'harstream_confidence_count{{label="NEW_{label}"}}') for label in bundle.labels)
        assert new > 0


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "model.tflite").write_bytes(b"other"), "sha256"),
        (lambda folder: (folder / "bundle.json").unlink(), "neither a folder with a bundle.json"),
        (lambda folder: change(folder, labels=["A", "B"]), "labels"),
    ],
)
def test_a_model_that_does_not_verify_is_refused_and_the_old_one_stays(daemon, own_bundle, caplog, damage, reason):
    before = daemon.sources[0].pipeline.classifier
    damage(own_bundle)
    assert not Reloader(daemon).reload("test")
    assert daemon.sources[0].pipeline.classifier is before
    assert daemon.labelling._waiting.empty()
    assert reason in caplog.text
    assert "settings and model stay as they are" in caplog.text
    assert metric(exposed(daemon), 'harstream_reloads_total{result="refused"}') == 1


def test_a_model_that_needs_other_windows_is_refused_naming_field_and_both_values(daemon, own_bundle, caplog):
    spec = json.loads((own_bundle / "bundle.json").read_text())["signal"]
    change(own_bundle, signal={**spec, "stride_samples": 32})
    seal_bundle(bundles.load(own_bundle))
    assert not Reloader(daemon).reload("test")
    assert "stride_samples is 32, but the running model has 64" in caplog.text
    # The normalisation may differ: the classifier applies it, so the windows are the same.
    norm = {key: np.asarray(value).tolist() for key, value in spec["normalisation"].items()}
    norm["std"] = [2 * value for value in norm["std"]]
    change(own_bundle, signal={**spec, "normalisation": norm})
    seal_bundle(bundles.load(own_bundle))
    assert Reloader(daemon).reload("test")


def test_settings_that_need_a_restart_stay_and_are_named(daemon, caplog):
    read = RunConfig(
        broker=daemon.config.broker, model=daemon.config.model, instance="test", http="off", qos=0, idle_s=7.0
    )
    with caplog.at_level(logging.WARNING):
        assert Reloader(daemon, lambda: read).reload("test")
    assert "restart harstream to apply the changed settings: qos" in caplog.text
    assert (daemon.config.idle_s, daemon.config.qos) == (7.0, 1)


def test_devices_are_announced_to_home_assistant_again_with_another_time_after_which_they_are_forgotten(
    mosquitto, own_bundle, subjects
):
    settings = {"model": str(own_bundle), "homeassistant": True}
    daemon = Daemon(make_config(mosquitto.port, **settings), load_classifier(own_bundle))
    with Client(mosquitto.port) as client, running(daemon):

        def expires_s() -> set[int]:
            """Return after how long the last announcement of each activity lets it expire."""
            last = {topic: payload for topic, payload, _ in list(client.messages) if "-activity/" in topic}
            return {json.loads(payload)["expire_after"] for payload in last.values()}

        publish_all(client, subjects)
        wait_until(lambda: expires_s() == {300}, "the announcements")
        changed = make_config(mosquitto.port, **settings, idle_s=100.0)
        assert Reloader(daemon, lambda: changed).reload("test")
        wait_until(lambda: expires_s() == {100}, "the other time")


def test_a_changed_folder_is_noticed_once_and_only_when_its_files_are_complete(daemon, own_bundle):
    reloader = Reloader(daemon)
    assert not reloader.changed_models()
    for version in ("0.0.2", "0.0.20", "0.0.200"):
        change(own_bundle, version=version)
        assert not reloader.changed_models()
    assert reloader.changed_models()
    assert not reloader.changed_models()


def test_a_change_while_the_model_is_loaded_is_noticed_afterwards(daemon, own_bundle, monkeypatch):
    def load(model: str, backend: str, **_: Any) -> Classifier:
        loaded = load_classifier(model, backend)
        change(own_bundle, version="0.0.20")
        return loaded

    monkeypatch.setattr("harstream.trial.load", load)
    reloader = Reloader(daemon)
    assert reloader.reload("test") == "random@0.0.1"
    assert not reloader.changed_models()
    assert reloader.changed_models()


def test_no_error_whatever_ends_reloading(daemon, monkeypatch, caplog):
    def fail(model: str, backend: str, **_: Any) -> Classifier:
        raise RuntimeError("of the native code")

    monkeypatch.setattr(reloading, "WATCH_EVERY_S", 0.01)
    reloader = Reloader(daemon)
    reloader.start()
    with monkeypatch.context() as broken:
        broken.setattr("harstream.trial.load", fail)
        reloader.request()
        wait_until(lambda: "of the native code" in caplog.text, "the failure")
    reloader.request()
    wait_until(lambda: metric(exposed(daemon), 'harstream_reloads_total{result="done"}') == 1, "the next")
    assert metric(exposed(daemon), 'harstream_reloads_total{result="refused"}') == 1
    reloader.close()


@pytest.fixture
def start(tmp_path: Path, mosquitto) -> Callable[..., tuple[Process, str]]:
    def begin(file: Path) -> tuple[Process, str]:
        process = Process("run", "--config", str(file), "--http", "127.0.0.1:0", folder=tmp_path)
        process.wait_for(" ready: ")
        address = re.search(r"http (http://\S+)", process.err)
        assert address
        return process, f"{address[1]}/metrics"

    return begin


def test_sighup_reads_file_and_model_again(start, mosquitto, tmp_path, own_bundle, random_bundle):
    file = tmp_path / "harstream.toml"
    common = f'broker = "{mosquitto.address}"\n'
    file.write_text(f'{common}model = "{random_bundle}"\n')
    process, metrics = start(file)
    with process:
        change(own_bundle, version="0.0.2")
        file.write_text(f'{common}model = "{own_bundle}"\nlog_level = "debug"\n')
        process.send(signal.SIGHUP)
        process.wait_for("SIGHUP: reloaded, the model is now random@0.0.2 (litert)")
        wait_until(lambda: 'model="random@0.0.2"' in http_get(metrics)[1], "the metric")
        file.write_text(f"{common}modell = 1\n")
        process.send(signal.SIGHUP)
        process.wait_for("did you mean 'model'?")
        assert process.running()
        # Without a signal: a change of the model's folder is enough.
        shutil.copytree(random_bundle, tmp_path / "next")
        change(tmp_path / "next", version="0.0.3")
        shutil.copy(tmp_path / "next" / "bundle.json", own_bundle / "bundle.json")
        process.wait_for("the model's folder changed: reloaded, the model is now random@0.0.3")
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0


def test_a_model_that_would_end_the_daemon_is_refused_and_the_old_one_labels_on(
    start, mosquitto, tmp_path, own_bundle, subjects, classifier
):
    file = tmp_path / "harstream.toml"
    file.write_text(f'broker = "{mosquitto.address}"\nmodel = "{own_bundle}"\n')
    process, metrics = start(file)
    with process, Client(mosquitto.port) as client:
        replace_file(own_bundle, bundles.LITERT, crashing((own_bundle / bundles.LITERT).read_bytes()))
        process.wait_for(
            "the model's folder changed: reload refused, settings and model stay as they are: "
            f"{own_bundle}: its model ended the process that verified it by SIGSEGV"
        )
        assert metric(http_get(metrics)[1], 'harstream_reloads_total{result="refused"}') == 1
        publish_all(client, subjects)
        wanted = expected(subjects, classifier)
        wait_until(lambda: len(client.labels()) >= len(wanted), "every label of the old model")
        assert_labels(client.labels(), wanted)
        assert process.err.count("SIGSEGV") == 1


def test_a_stop_does_not_wait_for_the_trial_of_a_model(daemon, monkeypatch, caplog):
    """The trial of a model that never ends would last a minute."""
    asked = threading.Event()

    def load(model: str, backend: str, has_threads: bool, cancelled: Callable[[], bool]) -> Classifier:
        assert has_threads
        asked.set()
        wait_until(cancelled, "the stop")
        raise BundleError("given up")

    monkeypatch.setattr("harstream.trial.load", load)
    reloader = Reloader(daemon)
    reloader.start()
    reloader.request()
    wait_until(asked.is_set, "the trial")
    reloader.close()
    assert "given up" not in caplog.text
