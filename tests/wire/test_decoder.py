"""A batch of messages: the well-formed ones become one SampleBatch, each other one a Rejection."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harstream.core.engine import Engine
from harstream.core.spec import SignalSpec
from harstream.wire.canonical import encode_json
from harstream.wire.decoder import Decoder, Message
from harstream.wire.packed import encode_packed
from harstream.wire.topics import TopicTemplate

DECODER = Decoder(TopicTemplate("wearables/{device}/imu"))
ROWS = (np.arange(12).reshape(2, 6) / 8).astype(np.float32)
GOOD = encode_packed(10**18, 50.0, ROWS)


def message(payload=GOOD, topic="wearables/w1/imu", arrival_s=5.0, retained=False):
    return Message(topic, payload, arrival_s, retained)


def test_messages_become_one_batch_in_their_order():
    still = json.dumps({"acc": [[1, 2, 3]], "gyro": [[4, 5, 6]]}).encode()
    batch, rejections = DECODER.decode(
        [
            message(arrival_s=1.0),
            message(still, "wearables/w2/imu", 2.0),
            message(encode_json(10**18, 100.0, ROWS), arrival_s=3.0),
        ]
    )
    assert rejections == []
    assert list(batch.devices) == ["w1", "w2", "w1"]
    assert batch.t_ns.tolist() == [10**18, 0, 10**18]
    assert batch.stamped.tolist() == [True, False, True]
    assert batch.rate_hz.tolist() == [50.0, 0.0, 100.0]
    assert batch.counts.tolist() == [2, 1, 2]
    assert batch.arrival_s.tolist() == [1.0, 2.0, 3.0]
    np.testing.assert_array_equal(batch.samples, np.vstack([ROWS, [[1, 2, 3, 4, 5, 6]], ROWS]))


def test_no_messages_are_an_empty_batch():
    batch, rejections = DECODER.decode([])
    assert (len(batch), rejections) == (0, [])


@pytest.mark.parametrize(
    ("reason", "bad"),
    [
        ("retained", message(retained=True)),
        ("device", message(topic="wearables/a\nb/imu")),
        ("device", message(topic="elsewhere/w1/imu")),
        ("too_large", message(b" " * (256 * 1024 + 1))),
        ("gyroscope", message(b'{"acc": [[1, 2, 3]]}')),
        ("gyroscope", message(b'{"ax": 1, "ay": 2, "az": 3}')),
        ("empty", message(b"")),
        ("json", message(b"?")),
    ],
)
def test_a_bad_message_is_rejected_with_its_reason_and_its_neighbours_survive(reason, bad):
    batch, rejections = DECODER.decode([message(), bad, message(topic="wearables/w2/imu")])
    assert [(rejection.topic, rejection.reason) for rejection in rejections] == [(bad.topic, reason)]
    assert list(batch.devices) == ["w1", "w2"]
    np.testing.assert_array_equal(batch.samples, np.vstack([ROWS, ROWS]))


def test_the_limit_of_size_is_the_configured_one():
    assert len(Decoder(DECODER.template, max_payload_bytes=len(GOOD)).decode([message()])[0]) == 1
    assert len(Decoder(DECODER.template, max_payload_bytes=len(GOOD) - 1).decode([message()])[0]) == 0


def test_a_model_without_gyroscope_accepts_messages_with_and_without():
    batch, rejections = Decoder(DECODER.template, needs_gyro=False).decode(
        [message(b'{"acc": [[1, 2, 3]]}'), message()]
    )
    assert rejections == []
    np.testing.assert_array_equal(batch.samples, np.vstack([[[1, 2, 3, 0, 0, 0]], ROWS]))


numbers = st.floats(width=64) | st.integers(-(2**70), 2**70)
wild = st.fixed_dictionaries(
    {"acc": st.just([[1, 2, 3]] * 3), "gyro": st.just([[1, 2, 3]] * 3)},
    optional=dict.fromkeys(("t", "t_ms", "t_us", "t_ns", "rate_hz"), numbers),
).map(lambda value: json.dumps(value).encode())


@given(st.lists(st.tuples(st.sampled_from(["w1", "w2", "good", "a\nb"]), st.binary(max_size=60) | wild), max_size=12))
def test_whatever_is_sent_neither_decoder_nor_engine_raises_and_a_good_stream_loses_nothing(sent):
    stream = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
    good = [
        message(encode_packed(10**18 + first * 20_000_000, 50.0, stream[first : first + 50]), "wearables/steady/imu")
        for first in range(0, 200, 50)
    ]
    alone = Engine(SignalSpec()).feed(DECODER.decode(good)[0])
    assert len(alone) == 2

    mixed = [*good]
    for i, (device, payload) in enumerate(sent):
        mixed.insert((7 * i) % (len(mixed) + 1), message(payload, f"wearables/{device}/imu"))
    engine, windows = Engine(SignalSpec()), []
    for part in (mixed[:5], mixed[5:]):
        batch, rejections = DECODER.decode(part)
        assert len(batch) + len(rejections) == len(part)
        due = engine.feed(batch)
        windows += [due.windows[i] for i, device in enumerate(due.devices) if device == "steady"]
    np.testing.assert_array_equal(np.array(windows), alone.windows)
