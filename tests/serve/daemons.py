"""Helpers for daemons in the process of the tests."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from harstream.bundle import Bundle
from harstream.classifier import Classifier
from harstream.config import RunConfig
from harstream.core.batches import Predictions
from harstream.datasets.base import Recording
from harstream.serve.daemon import Daemon

from ..constants import UNREACHABLE
from ..live_streams import messages
from ..servers import Client, wait_until


def make_config(port: int = 0, **settings) -> RunConfig:
    """Return settings of a daemon named ``test`` at the broker on ``port``; 0: at none that can be reached."""
    return RunConfig(broker=f"127.0.0.1:{port}" if port else UNREACHABLE, instance="test", http="off", **settings)


@contextmanager
def running(daemon: Daemon) -> Iterator[Daemon]:
    """Connect the daemon and run it in a thread; stop and drain it in the end.

    A ZeroDivisionError, which the tests of bugs raise, is left in ``daemon.failure``.
    """

    def run() -> None:
        with contextlib.suppress(ZeroDivisionError):
            daemon.run()

    settings = daemon.config.read_broker_settings()
    assert settings is not None
    daemon.connect(settings)
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        thread.join()


def exposed(daemon: Daemon) -> str:
    """Return the daemon's metrics in the text format."""
    return daemon.metrics.expose().decode()


def publish_all(client: Client, subjects: Sequence[Recording], payload: str = "json") -> None:
    """Publish all messages of the subjects."""
    for topic, content in messages(subjects, payload):
        client.publish(topic, content)


def wait_for_labels(client: Client, number: int) -> None:
    """Wait until the client has received that many labels."""
    wait_until(lambda: len(client.labels()) >= number, f"{number} labels")


def receive_all(daemon: Daemon, sent: Iterable[tuple[str, bytes]]) -> None:
    """Put messages into the daemon's inbox, without a broker."""
    for topic, content in sent:
        daemon.receive([(topic, content, False, 0)])


class WrappedClassifier(Classifier):
    """Classifier that calls ``before_predict`` with the number of each call, counted from 1."""

    def __init__(self, inner: Classifier, before_predict: Callable[[int], None] = lambda call: None) -> None:
        self.inner, self.before_predict, self.batch_sizes = inner, before_predict, list[int]()
        self.bundle: Bundle = inner.bundle
        self.backend = inner.backend

    def predict(self, windows: np.ndarray) -> Predictions:
        self.batch_sizes.append(len(windows))
        self.before_predict(len(self.batch_sizes))
        return self.inner.predict(windows)


def slow(classifier: Classifier, seconds: float = 0.05) -> WrappedClassifier:
    """Return a classifier that sleeps for ``seconds`` before each batch."""
    return WrappedClassifier(classifier, lambda call: time.sleep(seconds))


def failing(classifier: Classifier, at: int) -> WrappedClassifier:
    """Return a classifier whose call number ``at`` fails."""

    def fail(call: int) -> None:
        if call == at:
            raise ZeroDivisionError("a bug")

    return WrappedClassifier(classifier, fail)


#: Topic of samples of workers.
TOPIC = "p/{partition}/wearables/{device}/imu"


def partitioned(subjects: Sequence[Recording]) -> Iterator[tuple[str, bytes]]:
    """Yield the messages of the subjects, those of the first in partition 0, of the second in 1, and so on."""
    partition_of = {subject.name: number for number, subject in enumerate(subjects)}
    for topic, payload in messages(subjects, "packed"):
        yield f"p/{partition_of[topic.split('/')[1]]}/{topic}", payload


def make_worker(
    port: int,
    classifier: Classifier,
    number: int,
    workers: int = 2,
    monotonic: Callable[[], float] = time.monotonic,
    **settings,
) -> Daemon:
    """Return a worker of a group that shares two partitions."""
    settings = {"partition_count": 2, "max_devices": 10, **settings}
    config = make_config(port, topic=TOPIC, worker=f"{number}/{workers}", **settings)
    return Daemon(config, classifier, monotonic=monotonic)
