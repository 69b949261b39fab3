"""Real recordings of two sensors, streamed as two topics, give the windows of the loaders that merge them."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import msgspec
import numpy as np
import pytest

from harstream import shipped
from harstream.classifier import load_classifier
from harstream.core.batches import Float32, Sensor, WindowBatch
from harstream.core.engine import Engine
from harstream.core.spec import SignalSpec
from harstream.datasets import sp_sw, stamped, wisdm
from harstream.datasets.stamped import StampedSamples
from harstream.wire.decoder import Decoder, Message
from harstream.wire.topics import TopicTemplate

from ..core.streams import Message as Stream
from ..core.streams import feed
from ..servers import Client, Process, recorded, wait_until

ACC, GYRO = "w/{device}/accelerometer", "w/{device}/gyroscope"
Sources = dict[Sensor, StampedSamples]


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the loaders place also even stamps by the clocks of core, as the daemon does, and not in a shorter way."""
    monkeypatch.setattr(stamped, "_even", lambda *_: None)


def wisdm_sessions(subject: str) -> Iterator[tuple[str, Sources]]:
    """Yield name and sensors of each activity of a subject of WISDM that was recorded at one go."""
    sessions: dict[str, dict[Sensor, list[StampedSamples]]] = {}
    with ZipFile(recorded("wisdm-watch.zip")) as archive:
        for sensor, name in ((Sensor.ACC, "accel"), (Sensor.GYRO, "gyro")):
            last = f"data_{subject}_{name}_watch.txt"
            (path,) = [path for path in archive.namelist() if PurePosixPath(path).name == last]
            for code, session in wisdm._parse_sessions(archive.read(path), subject, path):
                sessions.setdefault(code, {}).setdefault(sensor, []).append(session)
    for code, by_sensor in sessions.items():
        if [len(some) for some in by_sensor.values()] == [1, 1]:
            yield f"{subject}{code}", {sensor: some[0] for sensor, some in by_sensor.items()}


def sp_sw_sessions(pattern: str) -> Iterator[tuple[str, Sources]]:
    """Yield name and sensors of executions of sp-sw. Both sensors have the same stamps there."""
    with ZipFile(recorded("sp-sw.zip")) as archive:
        for path in archive.namelist():
            name = PurePosixPath(path).stem
            if re.fullmatch(pattern, name):
                both, _ = sp_sw._parse(archive.read(path), path)
                yield (
                    name,
                    {
                        Sensor.ACC: StampedSamples(both.t_ns, both.samples[:, :3]),
                        Sensor.GYRO: StampedSamples(both.t_ns, both.samples[:, 3:]),
                    },
                )


def merged(sources: Sources, spec: SignalSpec) -> WindowBatch:
    """Return the windows of what the loader merges."""
    acc, gyro = stamped.resample_to_grid(list(sources.values()), spec.sample_rate_hz)
    pieces = stamped.merge_sources(acc, gyro, spec.sample_rate_hz)
    out = [feed(Engine(spec), [Stream("a", int(p.t_ns[0]), p.samples, spec.sample_rate_hz)]) for p in pieces]
    return WindowBatch.concatenate([WindowBatch.empty(spec.window_samples, spec.n_channels), *out])


def messages(device: str, sources: Sources, rate_hz: float) -> list[tuple[str, bytes]]:
    """Return (topic, payload) of a recording, with the samples of each message that the loader takes together."""
    out = []
    for (sensor, source), topic in zip(sources.items(), (ACC, GYRO), strict=True):
        bounds = [*stamped._message_starts(source.t_ns, 1e9 / rate_hz).tolist(), len(source.t_ns)]
        for a, b in pairwise(bounds):
            values = source.samples[a:b].astype(np.float64).tolist()
            name = "acc" if sensor == Sensor.ACC else "gyro"
            message = {"t_ns": int(source.t_ns[a]), name: values, "units": {"acc": "g"}}
            out.append((int(source.t_ns[a]), topic.replace("{device}", device), msgspec.json.encode(message)))
    return [(topic, content) for _, topic, content in sorted(out, key=lambda one: one[0])]


def streamed(device: str, sources: Sources, spec: SignalSpec, n_together: int) -> Float32:
    """Return the windows of a decoder and an engine that get the messages of both topics."""
    decoder = Decoder(TopicTemplate(ACC), gyro_template=TopicTemplate(GYRO))
    engine = Engine(spec, paired=True)
    sent = [
        Message(topic, content, msgspec.json.decode(content)["t_ns"] / 1e9)
        for topic, content in messages(device, sources, spec.sample_rate_hz)
    ]
    out = [np.zeros((0, spec.window_samples, spec.n_channels), np.float32)]
    for first in range(0, len(sent), n_together):
        batch, rejections = decoder.decode(sent[first : first + n_together])
        assert not rejections
        out.append(engine.feed(batch).windows)
    return np.concatenate(out)


@pytest.mark.slow
@pytest.mark.parametrize("subject", ["1601", "1610"])
def test_wisdm_as_two_topics_gives_the_windows_of_the_loader(subject):
    spec = SignalSpec(sample_rate_hz=wisdm.RATE_HZ, window_samples=100, stride_samples=50)
    n = 0
    for device, sources in wisdm_sessions(subject):
        want = merged(sources, spec).windows
        np.testing.assert_array_equal(streamed(device, sources, spec, 1 + n % 60), want, err_msg=device)
        n += len(want)
    assert n > 900


@pytest.mark.slow
def test_sp_sw_as_two_topics_gives_the_windows_of_the_loader():
    spec = SignalSpec(sample_rate_hz=sp_sw.RATE_HZ, window_samples=128, stride_samples=64)
    n = 0
    for device, sources in sp_sw_sessions(r"s0[1-3]_0[1-5]_s[pw]"):
        want = merged(sources, spec).windows
        np.testing.assert_array_equal(streamed(device, sources, spec, 1 + n % 60), want, err_msg=device)
        n += len(want)
    assert n > 300


@pytest.mark.slow
def test_a_live_daemon_labels_the_windows_of_the_loader(mosquitto, tmp_path: Path):
    classifier = load_classifier(shipped.find("wrist"))
    sessions = dict(list(wisdm_sessions("1601"))[:3])
    wanted = []
    for device, sources in sessions.items():
        windows = merged(sources, classifier.bundle.spec)
        labels = [classifier.bundle.published_labels[k] for k in classifier.predict(windows.windows).label.tolist()]
        wanted += [(device, label) for label in labels]
    run = [
        *("run", "--broker", mosquitto.address, "--model", "wrist", "--smoothing", "none", "--http", "off"),
        *("--acc-topic", ACC, "--gyro-topic", GYRO),
    ]
    with Client(mosquitto.port, "wearables/+/activity") as client, Process(*run, folder=tmp_path) as daemon:
        daemon.wait_for(" ready: ")
        for device, sources in sessions.items():
            for topic, content in messages(device, sources, wisdm.RATE_HZ):
                client.publish(topic, content)
        wait_until(lambda: len(client.labels()) >= len(wanted), "every label")
        daemon.send(signal.SIGTERM)
        assert daemon.exit_code() == 0
        received = [(device, message["label"]) for device, message in client.labels()]
    assert sorted(received, key=lambda one: one[0]) == sorted(wanted, key=lambda one: one[0])
    assert len(wanted) > 60
