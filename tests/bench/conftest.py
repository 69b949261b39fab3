"""A broker for measurements, and measurements that take no time."""

from __future__ import annotations

from pathlib import Path

import pytest

from harstream.bench import broker as brokers
from harstream.bench import throughput
from harstream.bench.broker import Broker
from harstream.bench.testbed import Traffic

from ..servers import program


@pytest.fixture
def broker(tmp_path: Path):
    program("mosquitto")
    made = Broker(tmp_path)
    yield made
    made.close()


@pytest.fixture
def instant(monkeypatch):
    """Replace every measurement of throughput by a made-up result, and return what was asked for."""
    asked: list[tuple[str, Traffic]] = []

    def saturate(bench, receiver, traffic, seconds, *, warm_up_messages=None):
        asked.append((receiver, traffic))
        return throughput.Throughput(100.0, 10.0, 1.0, 1.0, 0)

    monkeypatch.setattr("harstream.bench.run.saturate", saturate)
    monkeypatch.setattr(brokers, "find", lambda program: program)
    return asked
