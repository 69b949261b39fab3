"""Four unlike devices in one daemon, each with the bundle for its place: walks from recordings are labelled WALKING.

The settings, labels and metrics are those that docs/how-to/sources.md shows.
"""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np

from harstream.core.batches import Float32, Float64
from harstream.datasets import hapt, umafall, wisdm
from harstream.datasets.base import Recording
from harstream.wire.canonical import encode_json

from ..constants import T0_NS
from ..servers import Client, Mosquitto, Process, http_get, recorded, wait_until
from ..test_documents import block, page
from ..wire import shapes

PAGE = "how-to/sources.md"


@dataclass(frozen=True, slots=True)
class Walk:
    """What the device of one source sends, and what is expected of it.

    Attributes:
        topic: Topic of its samples.
        messages: Seconds from the start of the walk at which a message is complete, and its payload.
        n_samples: Samples in all messages.
        labels_topic: Topic of its labels.
        model: Name of the model of its source.
        stride_s: Seconds between two labels.

    """

    topic: str
    messages: Sequence[tuple[float, bytes]]
    n_samples: int
    labels_topic: str
    model: str
    stride_s: float = 1.28


def extract(archive: str, folder: Path, *parts: str) -> Path:
    """Extract the files whose names contain one of some parts."""
    with ZipFile(recorded(archive)) as opened:
        for name in opened.namelist():
            if any(part in name for part in parts):
                opened.extract(name, folder)
    return folder


def walking(recordings: Sequence[Recording], seconds: float) -> tuple[Float32, float]:
    """Return so much of the longest walk in recordings, and its rate in Hz."""
    walks = [
        (segment.stop - segment.start, recording, segment)
        for recording in recordings
        for segment in recording.segments
        if segment.label == "WALKING"
    ]
    length, recording, segment = max(walks, key=lambda walk: walk[0])
    stop = segment.start + min(length, round(seconds * recording.rate_hz))
    return recording.samples[segment.start : stop], recording.rate_hz


def cut(samples: Float32, rate_hz: float, n: int) -> Iterator[tuple[float, int, Float32]]:
    """Yield parts of n samples: when the last one is measured, in seconds, the time of the first one, and the part."""
    for first in range(0, len(samples), n):
        part = samples[first : first + n]
        yield (first + len(part)) / rate_hz, T0_NS + round(first * 1e9 / rate_hz), part


def phone(folder: Path) -> Walk:
    """Sensor Logger on an iPhone in a pocket at 100 Hz: every other sample of a recording at 200 Hz."""
    trials = umafall.load(extract("umafall.zip", folder / "phone", "Subject_01_ADL_Walking"))
    samples, rate_hz = walking([trial for trial in trials if trial.placement == "pocket"], 30)
    samples, rate_hz = samples[::2], rate_hz / 2
    messages = [
        (at_s, shapes.sensor_logger(t_ns, rate_hz, part, "anna", ios=True))
        for at_s, t_ns, part in cut(samples, rate_hz, 50)
    ]
    return Walk("sensor-logger", messages, len(samples), "phones/anna/activity", "phone")


def watch(folder: Path) -> Walk:
    """Sensor Logger on a watch at 20 Hz. It needs 20 s for a window."""
    samples, rate_hz = walking(wisdm.load(extract("wisdm-watch.zip", folder / "watch", "_1601_")), 60)
    messages = [
        (at_s, shapes.wrist_motion(t_ns, rate_hz, part, "ben")) for at_s, t_ns, part in cut(samples, rate_hz, 20)
    ]
    return Walk("watches", messages, len(samples), "watches/ben-watch/activity", "wrist", stride_s=5.0)


def loop_times(seconds: float) -> Float64:
    """Return when a loop measures that ends with ``delay(20)``, in seconds.

    Measuring and publishing take 1 to 5 ms, and in one turn of fifty 30 ms more.
    """
    random, most = np.random.default_rng(7), round(seconds * 50)
    steps = 0.020 + random.uniform(0.001, 0.005, most) + 0.030 * (random.random(most) < 0.02)
    times = np.cumsum(steps)
    return times[times < seconds]


def board(samples: Float32, rate_hz: float) -> Walk:
    """An ESP32 at the waist that publishes one sample in each turn of its loop, in m/s2 and deg/s, stamped in ms."""
    times_s = loop_times((len(samples) - 1) / rate_hz)
    axes = [np.interp(times_s * rate_hz, np.arange(len(samples)), axis) for axis in samples.T]
    rows = np.column_stack(axes) * ([shapes.G] * 3 + [180 / np.pi] * 3)
    names = ("accX", "accY", "accZ", "gycX", "gycY", "gycZ")
    messages = []
    for at_s, row in zip(times_s.tolist(), np.round(rows, 3).tolist(), strict=True):
        message = {**dict(zip(names, row, strict=True)), "timestamp": (T0_NS + round(at_s * 1e9)) // 10**6}
        messages.append((at_s, json.dumps(message).encode()))
    return Walk("imu/esp32", messages, len(rows), "imu/esp32/activity", "waist")


def belt(samples: Float32, rate_hz: float) -> Walk:
    """A sensor at the waist with canonical messages at 50 Hz."""
    messages = [(at_s, encode_json(t_ns, rate_hz, part)) for at_s, t_ns, part in cut(samples, rate_hz, 25)]
    return Walk("wearables/b1/imu", messages, len(samples), "wearables/b1/activity", "waist")


def walks_of(folder: Path) -> dict[str, Walk]:
    """Return the walk of the device of each source."""
    sessions = hapt.load(extract("hapt.zip", folder / "waist", "exp01_user01", "exp05_user03", "labels.txt"))
    first, second = [walking([session], 30) for session in sessions]
    return {"phones": phone(folder), "watches": watch(folder), "boards": board(*first), "belts": belt(*second)}


def test_four_devices_get_the_labels_of_three_models_from_one_daemon(mosquitto: Mosquitto, tmp_path: Path) -> None:
    walks, settings = walks_of(tmp_path), tmp_path / "harstream.toml"
    text = block(page(PAGE), "four-devices settings")
    settings.write_text(text.replace("mqtt://localhost", f"mqtt://{mosquitto.address}"))
    sent = sorted((at_s, source, payload) for source, walk in walks.items() for at_s, payload in walk.messages)
    flags = ("--config", str(settings), "--http", "127.0.0.1:0", "--instance", "test")
    with Process("run", *flags, folder=tmp_path) as process, Client(mosquitto.port, "+/+/activity") as client:
        process.wait_for(" ready: ")
        address = re.search(r"http (http://\S+)", process.err)
        assert address

        def metrics() -> str:
            return http_get(f"{address[1]}/metrics")[1]

        def count(text: str, name: str, source: str, **labels: str) -> float:
            """Return the sum of the series of a source that have these labels."""
            wanted = {f'{key}="{value}"' for key, value in {**labels, "source": source}.items()}
            found = [
                float(value)
                for series, labels_of, value in re.findall(r"^(\w+)\{(.*)\} (\S+)$", text, re.MULTILINE)
                if series == name and wanted <= set(labels_of.split(","))
            ]
            assert found, (name, source)
            return sum(found)

        def labels_of(walk: Walk) -> list[dict[str, Any]]:
            return [json.loads(payload) for payload in client.payloads(walk.labels_topic)]

        for _, source, payload in sent:
            client.publish(walks[source].topic, payload)
        client.flush()
        for source, walk in walks.items():
            # The last window ends less than a stride, and a sample, before the last message that is complete.
            last_s = T0_NS / 1e9 + walk.messages[-1][0] - walk.stride_s - 0.1
            wait_until(
                lambda walk=walk, last_s=last_s: labels_of(walk) and labels_of(walk)[-1]["t"] > last_s,  # type: ignore[misc]
                f"the last label of {source}: {process.err}",
            )

        def total(name: str) -> float:
            text = metrics()
            return sum(count(text, name, source) for source in walks)

        wait_until(lambda: total("harstream_messages_received_total") == len(sent), "all messages")
        n_labels = sum(len(labels_of(walk)) for walk in walks.values())
        wait_until(lambda: total("harstream_windows_classified_total") == n_labels, "the count of the last labels")
        text = metrics()
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0
        for source, walk in walks.items():
            labels = labels_of(walk)
            names = [label["label"] for label in labels]
            assert names.count("WALKING") >= 0.8 * len(names), (source, names)
            assert len(names) >= 5
            assert {label["model"].partition("@")[0] for label in labels} == {walk.model}
            assert not any("problem" in label for label in labels)
            assert count(text, "harstream_messages_received_total", source) == len(walk.messages)
            assert count(text, "harstream_samples_received_total", source) == walk.n_samples
            assert count(text, "harstream_windows_classified_total", source) == len(names)
            for name, number in Counter(names).items():
                assert count(text, "harstream_windows_classified_total", source, label=name) == number
            assert count(text, "harstream_messages_rejected_total", source) == 0
            assert count(text, "harstream_devices_with_problem", source) == 0
            assert count(text, "harstream_devices", source) == 1
        assert "rejected" not in process.err
        topics = {walk.labels_topic for walk in walks.values()}
        assert {topic for topic, _, _ in client.messages} == topics
        assert [line for line in block(page(PAGE), "four-devices metrics").splitlines() if line not in text] == []
        for line in block(page(PAGE), "four-devices labels").splitlines():
            topic, t, label, confidence, model = json.loads(line)
            (published,) = [one for one in map(json.loads, client.payloads(topic)) if one["t"] == t]
            assert (published["label"], published["model"]) == (label, model)
            assert abs(published["confidence"] - confidence) < 0.01
