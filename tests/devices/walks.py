"""A simulated walk as devices measure it, and the labels that a daemon with the model ``phone`` gives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from harstream import shipped
from harstream.classifier import load_classifier
from harstream.core.batches import Float32
from harstream.serve.daemon import Daemon
from harstream.simulate.source import sources

from ..serve.daemons import make_config, running
from ..servers import Client, wait_until


def walk(rate_hz: float, seconds: float) -> Float32:
    """Return a walk (n_samples, 6) in g and rad/s."""
    (source,) = sources(1, 3, rate_hz=rate_hz, activity="WALKING")
    return source.read(round(seconds * rate_hz))


def labels_of(
    port: int, send: Callable[[Client], object], end_s: float, device: str, **settings: Any
) -> list[dict[str, Any]]:
    """Let a daemon at the broker on ``port`` label what ``send`` publishes, and return its labels.

    Args:
        port: Port of the broker.
        send: Publishes all samples; it may use the client.
        end_s: Event time of their end, up to which labels are waited for.
        device: Device that the labels must have.
        settings: Settings of the daemon.

    """
    daemon = Daemon(make_config(port, **settings), load_classifier(shipped.find("phone")))
    with Client(port, "wearables/+/activity") as client, running(daemon):
        send(client)
        client.flush()
        # The last label is of a window that ends at most a stride of 1.28 s, and a message of 0.5 s, before.
        wait_until(lambda: client.labels() and client.labels()[-1][1]["t"] > end_s - 2, "the last label")
    labels = client.labels()
    assert {sender for sender, _ in labels} == {device}
    return [label for _, label in labels]


def assert_walking(labels: list[dict[str, Any]]) -> None:
    """Assert that at least 80 % of the labels, and the last, are WALKING, and that none comes twice."""
    names = [label["label"] for label in labels]
    assert names.count("WALKING") >= 0.8 * len(names), names
    assert names[-1] == "WALKING"
    assert np.diff([label["t"] for label in labels]).min() > 0
