"""Canonical messages in CBOR and MessagePack, compressed messages, and the format told from the message."""

from __future__ import annotations

import doctest
import gzip
import json
import random
import zlib
from collections.abc import Callable
from typing import Any

import cbor2
import msgspec
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from harstream.wire import documents, payloads
from harstream.wire.axes import Axes
from harstream.wire.canonical import encode_json
from harstream.wire.compression import unpack
from harstream.wire.decoder import Decoder
from harstream.wire.documents import form_of, found, read_document
from harstream.wire.packed import encode_packed
from harstream.wire.payloads import PAYLOADS, PayloadConfig, decode
from harstream.wire.reject import RejectError
from harstream.wire.samples import Units
from harstream.wire.topics import TopicTemplate

from . import shapes
from .payload_checks import ROWS, T_NS, check_rejected, decoder, encoded, f32, read, read_all, sent

CANONICAL = {"t_ns": T_NS, "rate_hz": 50, "acc": [[0.1, 0.2, 0.9]], "gyro": [[1, 2, 3]], "units": {"gyro": "deg/s"}}
ENCODERS: dict[str, Callable[[Any], bytes]] = {"cbor": cbor2.dumps, "msgpack": msgspec.msgpack.encode}


@pytest.mark.parametrize("module", [documents, payloads])
def test_the_examples_of_the_docstrings_are_right(module):
    results = doctest.testmod(module)
    assert results.attempted > 1
    assert results.failed == 0


# --- CBOR and MessagePack -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ENCODERS)
@pytest.mark.parametrize(
    "message",
    [
        CANONICAL,
        {"acc": [[0, 0, 1]], "timestamp": 1763668800123, "fs": 20, "hz": 3},
        {"t": 1.5, "ax": 0.1, "ay": 0.2, "az": 1, "gx": 1, "gy": 2, "gz": 3},
        {"acc": [[0, 0, 1]], "t": 10**18, "x": [1, {"y": None}]},
        {"acc": [[0, 0]]},
        {"acc": []},
        {"acc": [[0, 0, 1]], "units": {"acc": "ug"}},
        {"rate_hz": -1, "acc": [[0, 0, 1]]},
    ],
)
def test_a_canonical_message_means_the_same_in_every_form(form, message):
    """A map in CBOR or MessagePack is the JSON object with the same names."""
    outcomes: list[Any] = []
    for name, payload in (
        ("json", encoded(message)),
        (form, ENCODERS[form](message)),
        ("auto", ENCODERS[form](message)),
    ):
        try:
            samples = read(name, payload, names_device=False)
            gyro = None if samples.gyro is None else samples.gyro.tolist()
            ignored = [field.describe() for field in samples.ignored]
            outcomes.append((samples.t_ns, samples.rate_hz, samples.acc.tolist(), gyro, ignored))
        except RejectError as error:
            outcomes.append(error.reason)
    assert outcomes[1:] == outcomes[:1] * 2


@pytest.mark.parametrize("encode", [shapes.cbor, shapes.msgpack])
@pytest.mark.parametrize("topic", ["imu", "w/{device}"])
def test_the_device_is_named_by_the_payload_where_the_topic_does_not(encode, topic):
    content = encode(T_NS, 50.0, ROWS, "w7")
    batch, rejections = decoder("auto", topic=topic).decode(sent(content, topic=topic.replace("{device}", "w1")))
    assert (batch.devices, rejections) == ([{"imu": "w7"}.get(topic, "w1")], [])
    np.testing.assert_allclose(batch.samples, ROWS, atol=1e-6)


@pytest.mark.parametrize("n_records", [1, 3, 8, 15, 16, 24, 36, 40, 200, 300])
@pytest.mark.parametrize("name", ["senml", "auto"])
def test_a_list_of_any_length_is_told_apart_in_cbor_and_messagepack(name, n_records):
    records = [{"n": axis, "v": 0.5, "t": float(i)} for i in range(100) for axis in ("ax", "ay", "az")][:n_records]
    records += [{"n": "other", "v": 1}] * (n_records - len(records))
    outcomes = []
    for payload in (encoded(records), cbor2.dumps(records), msgspec.msgpack.encode(records)):
        try:
            outcomes.append(read(name, payload, names_device=False).acc.tolist())
        except RejectError as error:
            outcomes.append(error.detail)
    assert outcomes[1:] == outcomes[:1] * 2


def test_what_cbor_and_messagepack_do_not_share_with_json():
    assert read("auto", bytes.fromhex("d9d9f7") + cbor2.dumps(CANONICAL), names_device=False).t_ns == T_NS
    stamped = cbor2.dumps({"t": cbor2.CBORTag(1, 1763668800), "acc": [[0, 0, 1]]})
    assert read("cbor", stamped, names_device=False).t_ns == 1763668800 * 10**9
    check_rejected("shape", "Expected `object`, got `int`", "cbor", b"\x05", names_device=False)
    check_rejected(
        "not_finite",
        "a sample is not a finite number",
        "msgpack",
        msgspec.msgpack.encode({"acc": [[0, 0, np.nan]]}),
        names_device=False,
    )
    check_rejected("msgpack", "", "msgpack", b"\xc1", names_device=False)


@pytest.mark.parametrize(
    "bad",
    [
        "a1 63616363 d81c 80",  # shared list
        "82 d81c 80 d81d 00",  # and a reference to it
        "d823 6128",  # regular expression
        "c4 82 1b000000ffffffffff 01",  # decimal fraction with an exponent of a million million
        "d90102 80",  # set
        "d8ff 80",  # unknown
        "9b7fffffffffffffff",  # a list that would not fit any memory
        "5bffffffffffffffff",
        "ff",
        "a1 80 01 02",
        "a0 a0",
    ],
)
def test_cbor_that_could_cost_more_than_its_length_is_rejected(bad):
    check_rejected("cbor", "", "cbor", bytes.fromhex(bad))


@given(st.binary(max_size=80), st.sampled_from([b"", b"\x9f", b"\xa2", b"\x82", b"\xde\x00\x02", b"\xd9\xd9\xf7"]))
def test_arbitrary_bytes_are_a_document_or_rejected(content, begin):
    try:
        assert found(read_document(begin + content))
    except RejectError as error:
        assert error.detail.isprintable()  # noqa: PT017
    _, rejections = decoder("auto").decode(sent(begin + content))
    assert "internal" not in {rejection.reason for rejection in rejections}


# --- compression --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [lambda data: gzip.compress(data, mtime=0), zstandard.ZstdCompressor().compress])
@pytest.mark.parametrize("encode", [encode_json, encode_packed])
def test_compressed_messages_of_any_format_are_unpacked(pack, encode):
    content = pack(encode(T_NS, 50.0, ROWS))
    batch, rejections = decoder("auto", topic="w/{device}").decode(sent(content, topic="w/w1"))
    assert rejections == []
    np.testing.assert_allclose(batch.samples, ROWS, atol=1e-6)
    batch, rejections = decoder("sensor-logger").decode(sent(pack(shapes.sensor_logger(T_NS, 50.0, ROWS, "p1"))))
    assert (batch.devices, rejections) == (["p1"], [])


def _gzip_bomb() -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(b"[" * 50_000_000) + packer.flush()


@pytest.mark.parametrize(
    ("detail", "content"),
    [
        ("gzip: unpacks to more than 100000 bytes", _gzip_bomb()),
        ("zstd: unpacks to more than 100000 bytes", zstandard.ZstdCompressor().compress(bytes(50_000_000))),
        ("gzip: the payload is cut off", gzip.compress(b"x" * 100, mtime=0)[:-3]),
        ("zstd: the payload is cut off", zstandard.ZstdCompressor().compress(b"x" * 100)[:-3]),
        ("gzip: the payload is cut off, or more follows", gzip.compress(b"x", mtime=0) + b"y"),
        ("zstd: the payload is cut off, or more follows", zstandard.ZstdCompressor().compress(b"x") + b"y"),
        ("gzip: ", b"\x1f\x8b\x08nonsense"),
        ("zstd: ", b"\x28\xb5\x2f\xfdnonsense"),
        (
            "zstd: ",
            zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=25))
            .compressobj()
            .compress(b"")
            + b"\x28\xb5\x2f\xfd\x00\xb8",
        ),
    ],
)
def test_what_cannot_be_unpacked_is_rejected_without_the_memory(detail, content):
    made = Decoder(TopicTemplate("w/{device}"), max_payload_bytes=100_000)
    _, (rejection,) = made.decode(sent(content, topic="w/w1"))
    assert (rejection.reason, rejection.device) == ("compressed", "w1")
    assert rejection.detail.startswith(detail)


def test_a_message_that_is_compressed_twice_is_rejected():
    content = gzip.compress(gzip.compress(encode_json(T_NS, 50.0, ROWS)))
    _, (rejection,) = decoder("auto", topic="w/{device}").decode(sent(content, topic="w/w1"))
    assert rejection.reason == "json"


@given(st.binary(max_size=60), st.sampled_from([b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08\0\0\0\0\0\0\3"]))
def test_arbitrary_compressed_bytes_are_unpacked_or_rejected(content, magic):
    try:
        assert len(unpack(magic + content, 1000)) <= 1000
    except RejectError as error:
        assert error.detail.isprintable()  # noqa: PT017


# --- auto ---------------------------------------------------------------------------------------------

TOLD = {
    "json": lambda *arguments: encode_json(*arguments[:3]),
    "packed": lambda *arguments: encode_packed(*arguments[:3]),
    "cbor": shapes.cbor,
    "msgpack": shapes.msgpack,
    "senml": shapes.senml,
    "senml in CBOR": shapes.senml_cbor,
    "sensor-logger": shapes.sensor_logger,
    "gzip": shapes.gzipped,
    "zstd": shapes.zstd,
}


@pytest.mark.parametrize("seed", range(5))
def test_formats_are_told_apart_message_by_message_in_one_batch(seed):
    order = list(TOLD)
    random.Random(seed).shuffle(order)
    messages = [
        message
        for i, name in enumerate(order)
        for message in sent(TOLD[name](T_NS + i * 10**9, 50.0, ROWS + np.float32(i / 100), "x"), topic=f"w/{name}")
    ]
    batch, rejections = decoder("auto", topic="w/{device}").decode(messages)
    assert rejections == []
    assert batch.devices == order
    assert np.abs(batch.t_ns - T_NS - np.arange(len(order)) * 10**9).max() <= 1000
    for i, rows in enumerate(np.split(batch.samples, len(order))):
        atol = 0.02 if order[i] == "sensor-logger" else 1e-6  # its gyroscope has times of its own
        np.testing.assert_allclose(rows[:, :3], (ROWS + np.float32(i / 100))[:, :3], atol=1e-6)
        np.testing.assert_allclose(rows[:, 3:], (ROWS + np.float32(i / 100))[:, 3:], atol=atol)


@pytest.mark.parametrize("name", [name for name in PAYLOADS if name not in ("auto", "fields", "csv")])
def test_a_format_that_is_configured_is_the_only_one(name):
    foreign = [payload(T_NS, 50.0, ROWS, "x") for told, payload in TOLD.items() if told not in ("gzip", "zstd")]
    _, rejections = decoder(name, topic="w/{device}").decode(sent(*foreign, topic="w/w1"))
    assert len(rejections) == len(foreign) - {"senml": 2, "phyphox": 0}.get(name, 1)


def test_phyphox_buffers_have_common_names_too():
    samples = decode(encoded({"accX": [0, 0], "accY": [0, 0], "accZ": [9.8, 9.8]}), Units("auto"))
    assert (samples.n_samples, samples.acc_auto) == (2, True)


def test_an_array_that_is_no_pack_is_no_samples():
    check_rejected("shape", "got `array`", "auto", [1, 2], names_device=False)
    check_rejected("shape", "no records named ax", "auto", [{"n": "t", "v": 1}], names_device=False)


def test_without_a_device_in_topic_and_payload_a_message_is_rejected():
    _, (rejection,) = decoder("auto").decode(sent(encode_json(T_NS, 50.0, ROWS)))
    assert (rejection.reason, rejection.device) == ("device", "")
    assert "expected a field such as deviceId" in rejection.detail
    for value in ("", "a/b", "x" * 257, True, ["w"], 2**70):
        _, (rejection,) = decoder("auto").decode(sent(encoded({"device": value, **CANONICAL})))
        assert rejection.reason == "device"
    batch, _ = decoder("auto").decode(sent(encoded({"mac": 17, **CANONICAL})))
    assert batch.devices == ["17"]
    _, (rejection,) = decoder("auto").decode(sent(encode_json(T_NS, 50.0, ROWS), topic="other"))
    assert "the topic" in rejection.detail


@pytest.mark.parametrize("form", ["json", *ENCODERS])
def test_an_id_is_no_device_as_it_often_numbers_the_messages(form):
    """Each message would be a device of its own."""
    encode = {"json": encoded, **ENCODERS}[form]
    messages = [encode({"id": number, "deviceId": name, **CANONICAL}) for number, name in enumerate(["w1", "w1", None])]
    batch, (rejection,) = decoder("auto").decode(sent(*messages))
    assert batch.devices == ["w1", "w1"]
    assert rejection.reason == "device"
    assert 'payload = "fields" with the path of the device' in rejection.detail


def test_the_name_of_the_device_costs_no_second_parsing(monkeypatch):
    monkeypatch.setattr(msgspec.json, "decode", None)
    batch, rejections = decoder("json").decode(sent(encoded({"device": "w1", **CANONICAL})))
    assert (batch.devices, rejections) == (["w1"], [])


def test_the_form_of_whatever_has_no_form_is_json():
    for content in (b"", b" ", b"{", b"\x7f", b"\xc1", b"\xff"):
        assert form_of(content) == "json"


# --- axes ---------------------------------------------------------------------------------------------


def turned(text: str) -> list[float]:
    row = f32([[1, 2, 3, 4, 5, 6]])
    return Axes.parse(text).apply(row)[0].tolist()


def test_axes_of_the_model_in_terms_of_the_device():
    assert turned("x y z") == [1, 2, 3, 4, 5, 6]
    assert turned("-y x z") == [-2, 1, 3, -5, 4, 6]
    assert turned("z,x,y") == [3, 1, 2, 6, 4, 5]


def test_a_mirror_turns_accelerations_round_and_not_rotations():
    """iOS has the signs of Android for rotations, and the others for accelerations."""
    assert turned("-x -y -z") == [-1, -2, -3, 4, 5, 6]
    assert turned("y x z") == [2, 1, 3, -5, -4, -6]


def test_the_decoder_turns_the_axes_of_every_path():
    config = PayloadConfig(axes=Axes.parse("-y x z"))
    made = Decoder(TopicTemplate("w/{device}"), payload=config)
    row = f32([[0.1, 0.2, 0.9, 1, 2, 3]])
    contents = [encode_json(T_NS, 50.0, row), encode_packed(T_NS, 50.0, row), shapes.cbor(T_NS, 50.0, row, "x")]
    batch, _ = made.decode(sent(*contents, topic="w/w1"))
    np.testing.assert_allclose(batch.samples, [[-0.2, 0.1, 0.9, -2, 1, 3]] * 3, rtol=1e-6)


def test_json_that_is_not_canonical_keeps_its_rejection():
    for message in ({"acc": [[1, 2]]}, {"acc": [[0, 0, 1]], "gyro": []}, {"ax": 1, "ay": 2, "az": 3, "gx": 1}):
        with pytest.raises(RejectError) as caught:
            read_all("auto", json.dumps(message).encode(), names_device=False)
        assert caught.value.reason == "shape"
