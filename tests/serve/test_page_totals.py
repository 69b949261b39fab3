"""Totals of the live page: rates, latencies, and devices by activity over time."""

from __future__ import annotations

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from harstream.serve.histogram import ArrayHistogram
from harstream.serve.page.totals import LATENCY_SPAN_S, TREND_POINTS, TREND_STEP_S, Totals, quantile
from harstream.serve.status import DaemonStatus, SourceStatus

from ..fakes import Clock


class Daemon:
    """Daemon that labels 5 windows of 40 samples a second, and each with the latency that is set."""

    def __init__(self) -> None:
        self.seconds, self.walking, self.latency_s = 0, 3, 0.004
        self._latency = ArrayHistogram("x", "x", (0.001, 0.01, 0.1), CollectorRegistry())

    def step(self, seconds: int = 1) -> None:
        self.seconds += seconds
        self._latency.observe(np.full(5 * seconds, self.latency_s))

    def status(self) -> DaemonStatus:
        phones = SourceStatus(
            "phones",
            "m@1",
            "litert",
            ("WALKING", "UNKNOWN"),
            devices_by_label={"WALKING": self.walking, "UNKNOWN": 1},
            samples_received=150 * self.seconds,
        )
        watches = SourceStatus(
            "watches",
            "w@1",
            "int8",
            ("WALKING", "TYPING", "UNKNOWN"),
            devices_by_label={"TYPING": 2, "UNKNOWN": 1},
            samples_received=50 * self.seconds,
        )
        return DaemonStatus((phones, watches), windows_classified=5 * self.seconds)

    def totals(self) -> Totals:
        return Totals(self.status, self._latency.counts, Clock(), lambda: {"broker": "mqtt://b:1883", "topics": ["t"]})


def test_rates_and_latencies_are_those_of_the_last_seconds():
    daemon = Daemon()
    totals = daemon.totals()
    totals.sample(0.0)
    first = totals.describe()
    assert (first["labels_per_s"], first["samples_per_s"], first["latency_ms"]["p50"]) == (None, None, None)
    for second in range(1, 200):
        daemon.latency_s = 0.004 if second < 190 - LATENCY_SPAN_S else 0.05
        daemon.step()
        totals.sample(float(second))
    last = totals.describe()
    assert (last["labels_per_s"], last["samples_per_s"]) == (5, 200)
    assert last["latency_ms"]["p50"] == pytest.approx(55)  # the middle of the bucket from 10 to 100 ms
    assert len(totals._samples) <= LATENCY_SPAN_S + 2


def test_rates_are_right_although_nobody_looked_for_a_while():
    daemon = Daemon()
    totals = daemon.totals()
    for second in range(0, 60, 10):
        totals.sample(float(second))
        daemon.step(10)
    totals.sample(60.0)
    totals.sample(60.5)
    assert totals.describe()["labels_per_s"] == pytest.approx(50 / 10.5, abs=0.05)


def test_the_trend_has_one_point_every_ten_seconds_and_is_bounded():
    daemon = Daemon()
    totals = daemon.totals()
    for second in range(round(TREND_STEP_S) * (TREND_POINTS + 5)):
        daemon.walking = second
        totals.sample(float(second))
    trend = totals.trend()
    assert trend["number"] == TREND_POINTS + 5
    assert len(trend["counts"]["WALKING"]) == TREND_POINTS
    assert trend["counts"]["WALKING"][-2:] == [round(TREND_STEP_S) * (TREND_POINTS + n) for n in (3, 4)]
    assert totals.describe()["point"]["number"] == trend["number"]


def test_models_labels_and_devices_of_all_sources_are_one():
    totals = Daemon().totals()
    totals.sample(0.0)
    content = totals.describe()
    assert content["models"] == ["m@1 (litert)", "w@1 (int8)"]
    assert content["labels"] == ["WALKING", "TYPING", "UNKNOWN"]
    assert content["devices_by_label"] == {"WALKING": 3, "TYPING": 2, "UNKNOWN": 2}


@pytest.mark.parametrize(
    ("counts", "q", "value"),
    [
        ([0, 0, 0, 0], 0.5, None),
        ([4, 0, 0, 0], 0.5, 0.5),
        ([1, 1, 2, 0], 0.5, 2.0),
        ([1, 1, 2, 0], 0.75, 3.0),
        ([0, 0, 0, 9], 0.5, 4.0),  # above the last bound nobody knows more
    ],
)
def test_a_quantile_is_interpolated_in_its_bucket(counts, q, value):
    assert quantile(np.array([1.0, 2.0, 4.0]), np.array(counts), q) == value
