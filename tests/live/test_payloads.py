"""A walk in every payload format, simulated or recorded, through a real broker, is labelled WALKING."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from harstream import shipped
from harstream.classifier import Classifier, load_classifier
from harstream.core.batches import Float32
from harstream.datasets import hapt
from harstream.serve.daemon import Daemon
from harstream.simulate.source import sources

from ..constants import T0_NS
from ..serve.daemons import make_config, running
from ..servers import Client, Mosquitto, wait_until
from ..wire import shapes
from .test_recorded_sources import extract, walking

SECONDS, SAMPLES_PER_MESSAGE = 14, 25


@pytest.fixture(scope="module")
def models() -> dict[str, Classifier]:
    return {name: load_classifier(shipped.find(name)) for name in ("phone", "waist")}


def walk(rate_hz: float) -> Float32:
    """Return a walk (n_samples, 6) in g and rad/s."""
    (source,) = sources(1, 3, rate_hz=rate_hz, activity="WALKING")
    return source.read(round(SECONDS * rate_hz))


IN_MG = {"fields": shapes.WRAPPED_FIELDS, "acc_unit": "mg", "gyro_unit": "deg/s"}
PHONE = partial(shapes.sensor_logger, ios=True)
TURNED = {"axes": "-x -y -z"}
#: Name: encoder, payload, model, topic, device of the labels, and further settings.
CASES: dict[str, tuple[Any, str, str, str, str, dict[str, Any]]] = {
    "fields": (shapes.wrapped_triples, "fields", "waist", "imu", "w1", IN_MG),
    "sensor-logger": (shapes.sensor_logger, "sensor-logger", "waist", "sensor-logger", "w1", {}),
    "sensor-logger of iOS": (PHONE, "sensor-logger", "waist", "sensor-logger", "w1", TURNED),
    "sensor-logger, auto": (PHONE, "auto", "phone", "sensor-logger", "w1", {}),
    "phyphox": (shapes.phyphox, "phyphox", "waist", "phyphox", "w1", {}),
    "senml": (shapes.senml, "senml", "waist", "senml", "w1", {}),
    "senml in CBOR, auto": (shapes.senml_cbor, "auto", "waist", "senml", "w1", {}),
    "csv": (shapes.csv, "csv", "waist", "lines/{device}", "w2", {"fields": shapes.CSV_FIELDS}),
    "cbor": (shapes.cbor, "cbor", "waist", "imu", "w1", {}),
    "msgpack": (shapes.msgpack, "msgpack", "waist", "imu", "w1", {}),
    "cbor, auto": (shapes.cbor, "auto", "waist", "imu/{device}", "w2", {}),
    "gzip": (shapes.gzipped, "auto", "waist", "imu/{device}", "w2", {}),
    "zstd": (shapes.zstd, "json", "waist", "imu/{device}", "w2", {}),
    "columns, auto": (shapes.flat_columns, "auto", "phone", "imu", "w1", {}),
    "a list of samples, auto": (shapes.sample_list, "auto", "phone", "imu", "w1", {}),
}
#: Formats with times of their own show their rate, others announce it.
AT_100_HZ = ("sensor-logger", "phyphox", "a list of samples, auto")


@pytest.fixture(scope="module")
def recorded_walk(tmp_path_factory: pytest.TempPathFactory) -> Float32:
    """Return a recorded walk (n_samples, 6) in g and rad/s at 50 Hz, with a phone at the waist."""
    folder = extract("hapt.zip", tmp_path_factory.mktemp("hapt"), "exp05_user03", "labels.txt")
    samples, rate_hz = walking(hapt.load(folder), SECONDS)
    assert rate_hz == 50.0
    return samples


@pytest.mark.parametrize("name", CASES)
def test_a_recorded_walk_is_labelled_walking(
    mosquitto: Mosquitto, models: dict[str, Classifier], recorded_walk: Float32, name: str
) -> None:
    check_labels(mosquitto, models, name, recorded_walk, 50.0)


@pytest.mark.parametrize(
    ("name", "rate_hz"), [*((name, 50.0) for name in CASES), *((name, 100.0) for name in AT_100_HZ)]
)
def test_a_walk_is_labelled_walking(
    mosquitto: Mosquitto, models: dict[str, Classifier], name: str, rate_hz: float
) -> None:
    check_labels(mosquitto, models, name, walk(rate_hz), rate_hz)


def check_labels(
    mosquitto: Mosquitto, models: dict[str, Classifier], name: str, samples: Float32, rate_hz: float
) -> None:
    """Publish a walk as a case says, and check that its labels are WALKING."""
    encode, payload, model, topic, device, settings = CASES[name]
    config = make_config(mosquitto.port, payload=payload, topic=topic, **settings)
    daemon = Daemon(config, models[model])
    with Client(mosquitto.port, "wearables/+/activity") as client, running(daemon):
        for first in range(0, len(samples), SAMPLES_PER_MESSAGE):
            part = samples[first : first + SAMPLES_PER_MESSAGE]
            t_ns = T0_NS + round(first * 1e9 / rate_hz)
            client.publish(topic.replace("{device}", device), encode(t_ns, rate_hz, part, "w1"))
        client.flush()
        end_s = T0_NS / 1e9 + len(samples) / rate_hz  # the last label is of a window that ends at most a stride before
        wait_until(lambda: client.labels() and client.labels()[-1][1]["t"] > end_s - 2, f"the last label of {name}")
    labels = client.labels()
    assert {sender for sender, _ in labels} == {device}
    names = [label["label"] for _, label in labels]
    assert names.count("WALKING") >= 0.8 * len(names), names
    assert names[-1] == "WALKING"
    assert np.diff([label["t"] for _, label in labels]).min() > 0
