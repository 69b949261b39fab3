"""Poison between good messages: every good window is labelled, and every other message is counted for its device."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from harstream.serve.daemon import Daemon
from harstream.serve.pipeline import Publication
from harstream.wire.decoder import Message
from harstream.wire.reject import REASONS

from ..fuzz import mutation
from ..fuzz.targets import TARGETS
from ..live_streams import assert_labels, expected, messages
from ..servers import metric
from .daemons import exposed, make_config


class RecordingDaemon(Daemon):
    """Daemon that keeps what it publishes."""

    published: list[Publication]

    def publish(self, messages: Sequence[Publication], *, retain: bool) -> int:
        self.published += messages
        return len(messages)

    def label(self, sent: Sequence[tuple[str, bytes]]) -> None:
        """Label messages, a few in each batch."""
        self.published = []
        self.labelling.start()
        for start in range(0, len(sent), 7):
            self.receive([(topic, content, False, 0) for topic, content in sent[start : start + 7]])
            self.step(0)
        self.labelling.finish()

    def labels(self) -> list[tuple[str, dict[str, object]]]:
        """Return device and label of each window of the subjects."""
        return [
            (topic.split("/")[1], json.loads(payload))
            for topic, payload in self.published
            if topic.startswith("wearables/subject") and topic.endswith("/activity")
        ]


def poison(number: int) -> tuple[str, bytes]:
    """Return a topic and a payload: an input of a fuzz target, or a mutation of one."""
    rng = random.Random(number)
    target = TARGETS[rng.choice(["json", "fast_path", "packed", "other_names", "payload_auto", "unpack"])]
    payload = mutation.mutate(rng.choice(target.seeds), rng)
    if payload and rng.random() < 0.3:
        payload = payload[: rng.randrange(len(payload))]
    return f"wearables/poison-{number % 50}/imu", payload


@pytest.fixture
def daemon(classifier) -> RecordingDaemon:
    return RecordingDaemon(make_config(events_topic="off"), classifier)


def rejected(daemon: Daemon) -> Counter[str]:
    text = exposed(daemon)
    name = "harstream_messages_rejected_total"
    return Counter({reason: int(metric(text, f'{name}{{reason="{reason}"}}')) for reason in REASONS})


def test_every_good_window_is_labelled_and_every_message_is_accepted_or_counted(daemon, classifier, subjects):
    good = list(messages(subjects))
    sent = [message for number, one in enumerate(good) for message in (one, poison(number))]
    decoder = daemon.sources[0].pipeline.decoder
    reasons: Counter[str] = Counter()
    for topic, payload in sent:
        _, rejections = decoder.decode([Message(topic, payload, 1.7e9)])
        reasons.update(rejection.reason for rejection in rejections)
    assert len(reasons) > 8
    assert not reasons["internal"]

    daemon.label(sent)
    assert_labels(daemon.labels(), expected(subjects, classifier))
    assert rejected(daemon) == reasons
    assert metric(exposed(daemon), "harstream_messages_received_total") == len(sent)


def test_a_bug_in_the_decoder_costs_the_messages_that_show_it(daemon, classifier, subjects, monkeypatch, caplog):
    def broken(payload):
        if payload.startswith(b"{bug"):
            raise ZeroDivisionError("a bug of ours")
        return False

    monkeypatch.setattr("harstream.wire.decoder.is_compressed", broken)
    good = list(messages(subjects))
    sent = [message for one in good for message in (one, ("wearables/clever/imu", b"{bug"))]
    daemon.label(sent)
    assert_labels(daemon.labels(), expected(subjects, classifier))
    assert rejected(daemon)["internal"] == len(good)
    assert (
        "of device 'clever' on topic 'wearables/clever/imu': ZeroDivisionError in test_hostile.py, line" in caplog.text
    )
    daemon.sources[0].devices.snapshot(0)
    daemon.step(0)
    described = daemon.sources[0].devices.snapshot(0).describe_in_detail("clever")
    assert described is not None
    assert f"{len(good)} messages rejected (internal): ZeroDivisionError" in described["details"][0]["detail"]


def test_samples_of_poison_are_finite(daemon):
    sent = [Message(*poison(number), 1.7e9) for number in range(2000)]
    batch, rejections = daemon.sources[0].pipeline.decode(sent)
    assert len(batch) + len(rejections) >= len(sent)  # one message may hold several stretches
    assert np.isfinite(batch.samples).all()
