"""Targets of harstream.wire: payloads, and the texts in them and around them."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from harstream.core.batches import Float64, SampleBatch
from harstream.wire.canonical import decode_json, encode_json
from harstream.wire.compression import GZIP_MAGIC, ZSTD_MAGIC, is_compressed, unpack
from harstream.wire.decoder import Decoder, Message
from harstream.wire.fast_path import PACKED_PREFIX, JsonReader, read_packed
from harstream.wire.fields import Fields
from harstream.wire.other_names import ignored_units, read_other_names
from harstream.wire.packed import HEADER, decode_packed, encode_packed
from harstream.wire.payloads import PayloadConfig
from harstream.wire.reject import RejectError
from harstream.wire.samples import ACC_UNITS, AUTO, GYRO_UNITS, UNIT_ALIASES, Samples, Units, acc_factor, gyro_factor
from harstream.wire.times import YEAR_2200_NS, event_time, guess_time
from harstream.wire.topics import TopicTemplate

from ...wire import shapes
from ...wire.test_payloads import BAD, packed
from .base import ROWS, T_NS, Target, check_line

JSON = (
    encode_json(T_NS, 50.0, ROWS),
    encode_json(T_NS, 50.0, ROWS[:, :3]),
    b'{"t": 1.5, "ax": 0.1, "ay": 0.2, "az": 1, "gx": 1, "gy": 2, "gz": 3}',
    b'{"t_ns":1763668800123456789,"acc":[[1,2,3]],"units":{"acc":"m/s^2","gyro":"dps","accelerometer":"g"}}',
    b'{"acc":[[1,2,3]],"timestamp":"2025-11-20T20:00:00.02Z","fs":50,"sampleInterval":20}',
    b'{"acc":[[1,2,3]],"ts":1763668800123,"rateHz":1e308,"x":{"y":[[[null,true,"\\u00e9"]]]}}',
    b'{"t_ms":1763668800123.456,"rate_hz":-1,"acc":[[1e308,NaN,99999999999999999999]],"gyro":[[0,0,0]]}',
    *(payload if isinstance(payload, bytes) else json.dumps(payload).encode() for _, payload in BAD),
)
PACKED = (
    encode_packed(T_NS, 50.0, ROWS),
    encode_packed(0, 0.0, ROWS[:, :3]),
    packed([[1, 2, 3, 4, 5, 6]] * 2, flags=3, scales=(0.1, 0.1), form="<i2"),
    packed([[1, 2, 3]], flags=2, scales=(math.nan, 1), form="<i2"),
    *(payload for reason, payload in BAD if reason == "packed" and isinstance(payload, bytes)),
)


def check_samples(decode: Callable[[], Samples]) -> Samples | None:
    """Return valid samples, or None for a message that is rejected with a detail of one line that is not too long."""
    try:
        samples = decode()
    except RejectError as error:  # the constructor asserts that the reason is a known one
        check_line(error.detail)
        return None
    assert samples.acc.ndim == 2
    assert samples.acc.shape[1] == 3
    assert samples.n_samples > 0
    assert np.isfinite(samples.acc).all()
    if samples.gyro is not None:
        assert samples.gyro.shape == samples.acc.shape
        assert np.isfinite(samples.gyro).all()
    assert samples.t_ns is None or 0 <= samples.t_ns <= YEAR_2200_NS
    assert 0 <= samples.rate_hz < math.inf
    for field in samples.ignored:
        check_line(field.describe())
    return samples


def run_json(data: bytes) -> None:
    """Decode JSON by the general path, in known and in unknown units."""
    check_samples(lambda: decode_json(data, Units()))
    check_samples(lambda: decode_json(data, Units(AUTO, "deg/s")))


_reader = JsonReader()


def run_fast_path(data: bytes) -> None:
    """Decode by the fast path, and check that the general path reads the same.

    The fast path may read numbers that are not finite or too large, which the decoder finds later.
    """
    if data.startswith(b"HS"):
        if not data.startswith(PACKED_PREFIX) or len(data) < HEADER.size:
            return
        read = read_packed([data])
        if not read.counts[0]:
            return
        rows = read.samples.astype(np.float64)
        t_ns: int | None = int(read.t_ns[0]) or None
        rate_hz, acc = float(read.rate_hz[0]), rows[:, :3]
        gyro: Float64 | None = rows[:, 3:]
        samples = check_samples(lambda: decode_packed(data, Units()))
    else:
        message = _reader.read(data)
        if message is None:
            return
        acc = np.frombuffer(bytes(message.acc), np.float64).reshape(-1, 3)
        gyro = None if message.gyro is None else np.frombuffer(bytes(message.gyro), np.float64).reshape(-1, 3)
        assert len(acc) == message.n_samples
        t_ns, rate_hz = message.t_ns, message.rate_hz
        samples = check_samples(lambda: decode_json(data, Units()))
    with np.errstate(over="ignore"):
        numbers = np.hstack([acc, acc if gyro is None else gyro]).astype(np.float32)
    if samples is None:
        assert not (np.abs(numbers) <= 1000).all()
        return
    assert (samples.t_ns, samples.rate_hz) == (t_ns, rate_hz)
    np.testing.assert_array_equal(samples.acc, numbers[:, :3])
    assert (samples.gyro is None) == (gyro is None)
    if samples.gyro is not None:
        np.testing.assert_array_equal(samples.gyro, numbers[:, 3:])


def run_packed(data: bytes) -> None:
    """Decode a packed payload by the general path."""
    check_samples(lambda: decode_packed(b"HS" + data[2:], Units()))
    check_samples(lambda: decode_packed(b"HS" + data[2:], Units(AUTO, "deg/s")))


def run_other_names(data: bytes) -> None:
    """Read time and rate under other names, and the names of units."""
    for wanted in (["time"], ["rate", "units"], ["time", "rate", "units"]):
        others = read_other_names(data, wanted)
        assert others.t_ns is None or 10**18 <= others.t_ns <= YEAR_2200_NS
        assert others.rate_hz is None or 0 <= others.rate_hz < math.inf
        assert len(others.ignored) < 200
        for field in others.ignored:
            check_line(field.describe())
    try:
        units = msgspec.json.decode(data, type=dict[str, str])
    except ValueError:
        return
    assert len(ignored_units(units)) < 200


# --- other payloads -----------------------------------------------------------------------------------

_FORMATS: dict[str, tuple[Any, tuple[bytes, ...]]] = {
    "fields": (
        shapes.WRAPPED_FIELDS,
        (shapes.wrapped_triples(T_NS, 50.0, ROWS, "w1"), b'{"meta":{"at":"x"},"data":{"motion":{"a":{"x":[1]}}}}'),
    ),
    "sensor-logger": (
        {},
        (
            shapes.sensor_logger(T_NS, 50.0, ROWS, "w1"),
            b'{"deviceId":"w","payload":[{"name":"wrist motion","time":1.7e18,"values":{"accelerationX":1}}]}',
        ),
    ),
    "phyphox": (
        {},
        (
            shapes.phyphox(T_NS, 50.0, ROWS, "w1"),
            b'{"buffer":{"accX":{"buffer":[null,1e308]},"accY":{"buffer":[1,2]},"accZ":{"buffer":[1,2]}},"id":"w"}',
        ),
    ),
    "senml": ({}, (shapes.senml(T_NS, 50.0, ROWS, "w1"), shapes.senml_cbor(T_NS, 50.0, ROWS, "w1"))),
    "csv": (
        {**shapes.CSV_FIELDS, "columns": [*shapes.CSV_FIELDS["columns"], "device"]},
        (
            b"\n".join(line + b",w1" for line in shapes.csv(T_NS, 50.0, ROWS, "w1").splitlines()),
            b'1763668800123;0,1;-0,2;1e5;nan;x;0;"w,1"',
        ),
    ),
    "cbor": ({}, (shapes.cbor(T_NS, 50.0, ROWS, "w1"), bytes.fromhex("bf 63616363 9f 83 00 f97e00 c1 05 ff ff"))),
    "msgpack": ({}, (shapes.msgpack(T_NS, 50.0, ROWS, "w1"), bytes.fromhex("81 a3616363 91 93 ca7fc00000 00 c0"))),
    "auto": (
        {},
        (
            shapes.sensor_logger(T_NS, 50.0, ROWS, "w1"),
            shapes.sample_list(T_NS, 50.0, ROWS, "w1"),
            shapes.flat_columns(T_NS, 50.0, ROWS, "w1"),
            shapes.senml(T_NS, 50.0, ROWS, "w1"),
            shapes.cbor(T_NS, 50.0, ROWS, "w1"),
            b'{"Time":"2018-12-08T18:19:25","MPU6050":{"AccelXAxis":1,"AccelYAxis":2,"AccelZAxis":3,"GyroXAxis":1}}',
        ),
    ),
}


def format_target(name: str) -> Target:
    """Return the target of a format: a message alone, or between two good ones, which must be read as without it.

    The checksum of the message chooses whether the topic names the device and the model needs no gyroscope, or neither,
    or whether the sensors may come apart, and one in four messages to be between good ones: all would take four times
    as long.
    """
    fields, seeds = _FORMATS[name]
    units = Units("mg", "deg/s") if name == "fields" else Units()
    named, unnamed = TopicTemplate("w/{device}"), TopicTemplate("w/x", may_omit_device=True)
    good = Message("w/x", seeds[0], 1.7e9)

    def made() -> list[Decoder]:
        config = PayloadConfig(name, Fields.parse(fields))
        return [
            Decoder(template, needs_gyro, units, max_payload_bytes=4096, payload=config, gyro_template=gyro_template)
            for template, needs_gyro, gyro_template in (
                (named, False, None),
                (unnamed, True, None),
                (unnamed, True, unnamed),
            )
        ]

    decoders, alone = made(), [_read_all(decoder, [good]) for decoder in made()]

    def run(data: bytes) -> None:
        number, choice = divmod(zlib.crc32(data) % 12, 3)
        message = Message("w/x", data, 1.7e9)
        if number:
            assert len(_read_all(decoders[choice], [message]).samples) <= max(4 * len(data), 4 * 8 * 4096)
            return
        expected = alone[choice]
        batch = _read_all(decoders[choice], [good, message, good])
        n, n_samples = len(expected), len(expected.samples)
        assert len(batch) >= 2 * n
        for messages, samples in (
            (slice(None, n), slice(None, n_samples)),
            (slice(len(batch) - n, None), slice(len(batch.samples) - n_samples, None)),
        ):
            assert batch.devices[messages] == expected.devices
            assert batch.t_ns[messages].tobytes() == expected.t_ns.tobytes()
            assert batch.rate_hz[messages].tobytes() == expected.rate_hz.tobytes()
            assert batch.counts[messages].tobytes() == expected.counts.tobytes()
            assert batch.samples[samples].tobytes() == expected.samples.tobytes()
        assert len(batch.samples) - 2 * n_samples <= max(4 * len(data), 4 * 8 * 4096)

    return Target(run, seeds)


def _read_all(decoder: Decoder, messages: list[Message]) -> SampleBatch:
    """Return the samples of the good messages at both ends, and of the one between them, which may be rejected."""
    batch, rejections = decoder.decode(messages)
    assert len(batch.devices) + len(rejections) >= len(messages)
    assert np.isfinite(batch.samples).all()
    assert ((batch.t_ns >= 0) & (batch.t_ns <= YEAR_2200_NS)).all()
    assert (batch.counts > 0).all()
    for rejection in rejections:
        assert rejection.reason != "internal", rejection.detail
        check_line(rejection.detail)
    for note in decoder.take_notes():
        check_line(note)
    return batch


def run_unpack(data: bytes) -> None:
    """Unpack a compressed payload."""
    for magic in (GZIP_MAGIC, ZSTD_MAGIC):
        try:
            assert len(unpack(data if is_compressed(data) else magic + data, 1000)) <= 1000
        except RejectError as error:
            check_line(error.detail)


# --- texts --------------------------------------------------------------------------------------------

_TEMPLATES = tuple(
    TopicTemplate(text, may_partition=True)
    for text in ("wearables/{device}/imu", "{device}", "a/{partition}/{device}", "/{device}//")
)


def run_topics(data: bytes) -> None:
    """Find the device in a topic."""
    topic = data.decode(errors="replace")
    for template in _TEMPLATES:
        device = template.device(topic)
        if device is not None:
            assert 0 < len(device) <= 256
            assert not {"/", "+", "#", "\0", "\n", "\ufffe"} & set(device)
            assert template.has_partition or template.topic(device) == topic


def run_units(data: bytes) -> None:
    """Find the factor of a unit."""
    text = data.decode(errors="surrogateescape")
    for factor in (acc_factor, gyro_factor):
        try:
            assert factor(text) > 0
        except RejectError as error:
            check_line(error.detail)


def run_times(data: bytes) -> None:
    """Read a time from any JSON value and, if it is a number, in each unit."""
    try:
        value = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return
    guessed = guess_time(value)
    assert guessed is None or 10**18 <= guessed <= YEAR_2200_NS
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    for field in ("t", "t_ms", "t_us", "t_ns"):
        try:
            time_ns = event_time(**{field: value})
        except RejectError as error:
            check_line(error.detail)
            continue
        assert time_ns is not None
        assert 0 <= time_ns <= YEAR_2200_NS


TARGETS = {
    **{f"payload_{name.replace('-', '_')}": format_target(name) for name in _FORMATS},
    "unpack": Target(
        run_unpack, (shapes.gzipped(T_NS, 50.0, ROWS, ""), shapes.zstd(T_NS, 50.0, ROWS, ""), GZIP_MAGIC, ZSTD_MAGIC)
    ),
    "json": Target(run_json, JSON),
    "fast_path": Target(run_fast_path, (*JSON, *PACKED)),
    "packed": Target(run_packed, PACKED),
    "other_names": Target(run_other_names, (*JSON, b'{"acc":"g","gyroscope":"dps","sensor_acc":"x"}')),
    "topics": Target(
        run_topics,
        (b"wearables/w1/imu", "a/7/\u00e9\u202e".encode(), b"/x//", b"w+", b"wearables/" + b"x" * 257 + b"/imu"),
    ),
    "units": Target(run_units, tuple(text.encode() for text in (*ACC_UNITS, *GYRO_UNITS, *UNIT_ALIASES, " M/S ^ 2 "))),
    "times": Target(
        run_times,
        (b"1763668800.02", b"1763668800123456789", b'"2025-11-20T20:00:00.02+01:00"', b"1e308", b"-1", b"9" * 400),
    ),
}
