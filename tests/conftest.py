"""Fixtures of all tests: a small bundle with random weights, built once, and synthetic subjects to feed it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from scipy.spatial.transform import Rotation

from harstream import bundle as bundles
from harstream import golden
from harstream.bundle import Bundle
from harstream.classifier import Classifier, load_classifier, seal_bundle
from harstream.datasets.base import Recording

from .constants import LABELS, SPEC, STATE_LABELS, STATES
from .made_recordings import done, recordings
from .servers import Mosquitto

__all__ = ["done", "recordings"]

# A shell starts background jobs with SIGINT ignored, nohup its program with SIGHUP. The programs that the tests start,
# reload and stop would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# No deadline, because a loaded machine is slow, not wrong. The same examples in every run, so that a test that passed
# passes again; `--hypothesis-profile explore` tries others.
settings.register_profile("harstream", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=500)
settings.load_profile("harstream")


def _fail_if_skipped(report: Any) -> Any:
    """Turn a skipped test into a failed one if HARSTREAM_REQUIRE_SERVICES=1 demands that everything is installed."""
    if report.skipped and os.environ.get("HARSTREAM_REQUIRE_SERVICES") == "1":
        report.outcome = "failed"
        report.longrepr = f"HARSTREAM_REQUIRE_SERVICES=1, and this was skipped: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[Any]:
    return _fail_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[Any]:
    return _fail_if_skipped((yield))


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """Restore the handlers of signals after a command has run in this process; `run` would exit with 0 at Ctrl-C."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number in numbers:
        if signal.getsignal(number) is not before[number]:
            signal.signal(number, before[number])


@pytest.fixture(scope="session")
def random_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a complete bundle with random weights. Tests only read it."""
    keras = pytest.importorskip("keras")
    from harstream.train import export

    folder = tmp_path_factory.mktemp("bundle")
    inputs = keras.Input((SPEC.window_samples, SPEC.n_channels))
    x = keras.layers.Conv1D(16, 5, strides=4, activation="relu")(inputs)
    x = keras.layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, keras.layers.Dense(len(LABELS))(x))
    rng = np.random.default_rng(1)  # the same ones in every version of Keras
    model.set_weights([rng.normal(scale=0.25, size=weight.shape) for weight in model.get_weights()])
    export.save_keras(model, folder / "network.keras")
    windows = [golden.cut_windows(SPEC, *golden.synthetic_stream(SPEC, seed)) for seed in range(20)]
    bundle = bundles.save(
        folder / "random",
        name="random",
        version="0.0.1",
        labels=LABELS,
        spec=SPEC,
        temperature=0.5,
        training={"seed": 1},
        keras_path=folder / "network.keras",
        tflite=export.to_litert(model),
        int8=export.to_int8(model, SPEC.norm.apply(np.concatenate(windows))),
        card="Random weights.\n",
    )
    seal_bundle(bundle)
    return folder / "random"


@pytest.fixture
def own_bundle(random_bundle: Path, tmp_path: Path) -> Path:
    """Return a copy of the bundle that the test may change."""
    return shutil.copytree(random_bundle, tmp_path / "own")


@pytest.fixture(scope="session")
def bundle(random_bundle: Path) -> Bundle:
    return bundles.load(random_bundle)


@pytest.fixture(scope="session")
def classifier(random_bundle: Path) -> Classifier:
    return load_classifier(random_bundle)


@pytest.fixture(scope="session")
def states_bundle(random_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the same network with the last two outputs as states between labels. Tests only read it."""
    folder = shutil.copytree(random_bundle, tmp_path_factory.mktemp("states") / "random")
    loaded = dataclasses.replace(bundles.load(folder), labels=STATE_LABELS, states=STATES)
    seal_bundle(loaded)
    return folder


@pytest.fixture(scope="session")
def subjects() -> list[Recording]:
    """Return 16 s of five subjects, still and moving in turn. Numbers have three decimals, which JSON keeps exactly."""
    five = []
    for number in range(5):
        rng = np.random.default_rng(number)
        t = np.arange(800)[:, None] / 50.0
        gravity = rng.normal(size=3)
        samples = rng.normal(scale=0.01, size=(800, 6))
        samples[:, :3] += gravity / np.linalg.norm(gravity)
        moving = np.sin(0.8 * t + number) > 0
        swing = 2 * np.pi * (1.4 + 0.2 * number) * t
        turn = rng.normal(scale=0.2, size=3)  # rad; gravity turns with the gyroscope, as it does on a body
        rotation = Rotation.from_rotvec(moving * turn * np.sin(swing))
        samples[:, :3] = rotation.apply(samples[:, :3], inverse=True)
        samples[:, :3] += moving * rng.normal(scale=0.2, size=3) * np.sin(3 * swing)
        samples[:, 3:] += moving * turn * np.cos(swing) * 2 * np.pi * (1.4 + 0.2 * number)
        five.append(Recording(f"subject-{number}", str(number), 50.0, samples.round(3).astype(np.float32), ()))
    return five


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as broker:
        yield broker
