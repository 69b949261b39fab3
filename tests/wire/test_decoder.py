"""A batch of messages: the well-formed ones become one SampleBatch, each other one a Rejection."""

from __future__ import annotations

import gc
import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harstream.core.engine import Engine
from harstream.core.spec import SignalSpec
from harstream.wire import decoder as decoding
from harstream.wire.canonical import encode_json
from harstream.wire.decoder import Decoder, Message
from harstream.wire.fast_path import JsonReader
from harstream.wire.packed import encode_packed
from harstream.wire.samples import Units
from harstream.wire.topics import TopicTemplate

from .test_payloads import BAD

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


def test_the_devices_of_partitions_are_known():
    decoder = Decoder(TopicTemplate("p/{partition}/{device}/imu", may_partition=True))
    decoder.decode([message(topic=f"p/{number % 3}/w{number}/imu") for number in range(6)])
    assert sorted(decoder.devices_of([0, 2])) == ["w0", "w2", "w3", "w5"]
    assert decoder.devices_of(range(3, 100)) == []


def test_a_rejection_names_the_device_unless_the_topic_names_none():
    bad = {"device": message(topic="elsewhere/w1/imu"), "json": message(b"?"), "retained": message(retained=True)}
    bad |= {"too_large": message(b" " * 300_000), "range": message(encode_packed(10**18, 50.0, 1e9 * ROWS))}
    _, rejections = DECODER.decode(list(bad.values()))
    assert {rejection.reason: rejection.device for rejection in rejections} == {
        "device": "", "json": "w1", "retained": "w1", "too_large": "w1", "range": "w1"
    }  # fmt: skip


def test_fields_that_look_like_a_mistake_are_noted_once_for_each_device():
    decoder = Decoder(DECODER.template, needs_gyro=False)
    sent = [
        message(b'{"ax":0,"ay":0,"az":1,"t":1,"hz":50}', f"wearables/{device}/imu") for device in ("w1", "w2", "w1")
    ]
    decoder.decode(sent)
    end = "field 'hz' is ignored: send the number of samples per second as rate_hz"
    assert decoder.take_notes() == [f"device 'w1': {end}", f"device 'w2': {end}"]
    decoder.decode(sent)
    assert decoder.take_notes() == []


def test_what_is_remembered_of_topics_is_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(decoding, "_MAX_TOPIC_BYTES", 1_000_000)
    decoder = Decoder(TopicTemplate("w/{device}/imu"))
    for number in range(3000):
        name = f"{number:06}" + "\U0001f469" * 250  # of four bytes each
        batch, _ = decoder.decode([Message(f"w/{name}/imu", GOOD, 1.0)])
        assert batch.devices == [name]
        assert decoder.device_of(f"w/{name}/imu") == name
    assert 0 < sum(map(sys.getsizeof, [*decoder._device_by_topic, *decoder._device_by_topic.values()])) < 1_000_000


def test_topics_of_devices_that_are_gone_are_forgotten():
    decoder = Decoder(TopicTemplate("w/{device}/imu"))
    decoder.decode([Message(f"w/{number}/imu", GOOD, 1.0) for number in range(3000)])
    decoder.forget_idle_topics(2000, tuple)
    assert len(decoder._device_by_topic) == 3000
    decoder.forget_idle_topics(900, tuple)
    assert decoder._device_by_topic == {}
    assert decoder.device_of("w/7/imu") == "7"
    assert decoder.device_of("x/7/imu") is None


def _fail_on(monkeypatch, name, error):
    """Let a function of the decoder's module fail for payloads that end in a space: a bug."""
    real = getattr(decoding, name)

    def broken(payloads, *rest):
        one_or_many = payloads if isinstance(payloads, list) else [payloads]
        if any(payload.endswith(b" ") for payload in one_or_many):
            raise error
        return real(payloads, *rest)

    monkeypatch.setattr(decoding, name, broken)


@pytest.mark.parametrize(
    "error", [KeyError("x"), MemoryError(), RecursionError("too deep\n"), SystemError("\x1b" * 999)]
)
@pytest.mark.parametrize(("name", "bad"), [("is_compressed", b"? "), ("read_packed", GOOD[:-1] + b" ")])
def test_a_message_for_which_the_decoder_fails_is_counted_for_its_device_and_no_other_is_lost(
    monkeypatch, error, name, bad
):
    _fail_on(monkeypatch, name, error)
    still = json.dumps({"acc": [[1, 2, 3]], "gyro": [[4, 5, 6]], "more": 1}).encode()
    sent = [
        message(topic="wearables/w1/imu", arrival_s=1.0),
        message(bad, "wearables/w2/imu", 2.0),
        message(b"nonsense", "wearables/w3/imu", 3.0),
        message(still, "wearables/w4/imu", 4.0),
        message(bad, "wearables/w5/imu", 5.0),
        message(encode_json(10**18, 50.0, ROWS), "wearables/w6/imu", 6.0),
    ]
    decoder = Decoder(DECODER.template)
    for _ in range(2):
        batch, rejections = decoder.decode(sent)
        assert list(batch.devices) == ["w1", "w4", "w6"]
        assert batch.arrival_s.tolist() == [1.0, 4.0, 6.0]
        np.testing.assert_array_equal(batch.samples, np.vstack([ROWS, [[1, 2, 3, 4, 5, 6]], ROWS]))
        reasons = {rejection.device: rejection.reason for rejection in rejections}
        assert reasons == {"w2": "internal", "w3": "json", "w5": "internal"}
        detail = rejections[0].detail
        assert detail.startswith(f"{type(error).__name__} in test_decoder.py, line ")
        assert len(detail) < 300


def test_a_topic_for_which_the_decoder_fails_costs_no_other_message(monkeypatch):
    def broken(self, topic):
        if "bad" in topic:
            raise IndexError("levels")
        return topic.split("/")[1]

    monkeypatch.setattr(TopicTemplate, "device", broken)
    sent = [message(topic="wearables/w1/imu"), message(topic="wearables/bad/imu"), message(topic="wearables/w2/imu")]
    batch, rejections = Decoder(TopicTemplate("wearables/{device}/imu")).decode(sent)
    assert list(batch.devices) == ["w1", "w2"]
    assert [(rejection.reason, rejection.device) for rejection in rejections] == [("internal", "")]


def test_a_reader_that_fails_leaves_the_message_to_the_general_path(monkeypatch):
    class Broken:
        def parse(self, payload):
            raise MemoryError

    payload = encode_json(10**18, 50.0, ROWS)
    reader = JsonReader()
    monkeypatch.setattr(reader, "_parser", Broken())
    assert reader.read(payload) is None
    assert reader.read(payload) is not None  # with a new parser


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


# --- units --------------------------------------------------------------------------------------------


def batch_of(rows, decoder):
    """Decode the same samples sent in every way; return the batch of those that are accepted."""
    acc, gyro = rows[:, :3].tolist(), rows[:, 3:].tolist()
    # Numbers of float32 are the same in all formats. Units in a message lead to the general path.
    other = {"acc": decoder.units.acc, "gyro": decoder.units.gyro}
    payloads = [
        encode_packed(10**18, 50.0, rows),
        json.dumps({"t": 10**9, "rate_hz": 50, "acc": acc, "gyro": gyro}).encode(),
        json.dumps({"t": 10**9, "rate_hz": 50, "acc": acc, "gyro": gyro, "units": other}).encode(),
        json.dumps({"t": 10**9, "rate_hz": 50, "acc": acc, "gyro": gyro, "x": 0}).encode(),
    ]
    batch, rejections = decoder.decode([message(payload, f"wearables/{i}/imu") for i, payload in enumerate(payloads)])
    assert {rejection.reason for rejection in rejections} <= {"range"}
    return batch, len(payloads)


large = st.sampled_from([0.0, 1.0, 99.0, 101.0, 999.0, 1001.0, 9e5, 1.1e6, np.inf])
any_rows = st.lists(st.tuples(*[large] * 3, *[st.sampled_from([0.0, 5.0, 2000.0])] * 3), min_size=1, max_size=5)


@given(any_rows, st.sampled_from(["auto", "g", "m/s2", "mg"]), st.sampled_from(["rad/s", "deg/s"]))
def test_every_path_reads_the_same_samples_alike_in_every_unit(rows, acc_unit, gyro_unit):
    array = np.array(rows, np.float32)
    array[~np.isfinite(array)] = 3e38
    batch, n_payloads = batch_of(array, Decoder(DECODER.template, units=Units(acc_unit, gyro_unit)))
    assert len(batch) in (0, n_payloads)
    if len(batch):
        assert batch.acc_unit_auto.tolist() == [acc_unit == "auto"] * n_payloads
        copies = batch.samples.reshape(n_payloads, len(rows), 6)
        np.testing.assert_array_equal(copies[1:], copies[:1].repeat(n_payloads - 1, axis=0))
        if acc_unit == "auto":
            np.testing.assert_array_equal(copies[0, :, :3], array[:, :3])


def test_a_message_that_names_its_unit_is_not_auto_and_one_that_names_auto_is():
    sent = [b'{"acc":[[0,0,1]]}', b'{"acc":[[0,0,1]],"units":{"acc":"g"}}', b'{"acc":[[0,0,1]],"units":{"acc":"auto"}}']
    for unit, expected in (("g", [False, False, True]), ("auto", [True, False, True])):
        decoder = Decoder(DECODER.template, needs_gyro=False, units=Units(unit))
        assert decoder.decode([message(payload) for payload in sent])[0].acc_unit_auto.tolist() == expected


def test_milli_g_is_accepted_beside_corrupt_messages_where_the_unit_is_unknown():
    milli = np.array([[20.0, -30.0, 1010.0, 0, 0, 0]] * 4, np.float32)
    corrupt = np.array([[0, 0, 1, 0, 0, 0]] * 3 + [[0, 0, 5000, 0, 0, 0]], np.float32)
    turned = np.array([[0, 0, 1010.0, 0, 0, 1001.0]], np.float32)
    sent = [message(encode_packed(10**18, 50.0, rows)) for rows in (milli, corrupt, turned, milli, ROWS)]
    batch, rejections = Decoder(DECODER.template, units=Units("auto")).decode(sent)
    assert [rejection.reason for rejection in rejections] == ["range", "range"]
    np.testing.assert_array_equal(batch.samples, np.vstack([milli, milli, ROWS]))
    assert len(DECODER.decode(sent)[0]) == 1  # in g, only ROWS are possible


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


def _bytes(payload: object) -> bytes:
    return payload if isinstance(payload, bytes) else json.dumps(payload).encode()


@pytest.mark.parametrize(
    "payload",
    [
        *(pytest.param(_bytes(payload), id=f"{reason}-{k}") for k, (reason, payload) in enumerate(BAD)),
        pytest.param(b'{"accX":0.1,"accY":0.2,"accZ":0.9,"gyroX":0,"gyroY":0,"gyroZ":0}', id="common names"),
    ],
)
def test_no_message_leaves_anything_for_the_garbage_collector_which_runs_rarely(payload):
    decoder = Decoder(TopicTemplate("wearables/{device}/imu"))
    messages = [Message("wearables/w/imu", payload, 0.0)] * 3
    decoder.decode(messages)
    gc.collect()
    gc.disable()
    try:
        decoder.decode(messages)
        assert gc.collect() == 0
    finally:
        gc.enable()
