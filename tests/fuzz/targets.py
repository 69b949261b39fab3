"""Fuzz targets: functions of bytes that raise if a decoder lets out another exception than its own, or a bad result.

``python -m tests.fuzz`` runs them under atheris, and ``test_targets.py`` a few examples of each with hypothesis.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import struct
import tomllib
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from harstream import bundle as bundles
from harstream import golden, shipped, storage
from harstream.bundle import Bundle
from harstream.classifier import to_predictions
from harstream.core.batches import Float32, Float64, Predictions, SampleBatch
from harstream.core.engine import Engine
from harstream.core.spec import SignalSpec
from harstream.errors import BundleError, ConfigError
from harstream.probe import report
from harstream.probe.findings import examine
from harstream.serve.durable import folder, journal
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

from ..wire import shapes
from ..wire.test_payloads import BAD, packed

ROWS = (np.arange(18).reshape(3, 6) / 7).astype(np.float32)
T_NS = 1_763_668_800_020_000_000
#: Between the parts of an input that has several.
SEPARATOR = b"\n--\n"


@dataclass(frozen=True, slots=True)
class Target:
    """Function that must not raise, and inputs to begin with."""

    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    share: float = 1.0  # of the executions asked for; less where one takes long


def check_line(text: str) -> None:
    """Check that a text about an input is one line for people, however long the input is."""
    assert text.isprintable()
    assert 0 < len(text) < 2000


# --- payloads -----------------------------------------------------------------------------------------

_JSON = (
    encode_json(T_NS, 50.0, ROWS),
    encode_json(T_NS, 50.0, ROWS[:, :3]),
    b'{"t": 1.5, "ax": 0.1, "ay": 0.2, "az": 1, "gx": 1, "gy": 2, "gz": 3}',
    b'{"t_ns":1763668800123456789,"acc":[[1,2,3]],"units":{"acc":"m/s^2","gyro":"dps","accelerometer":"g"}}',
    b'{"acc":[[1,2,3]],"timestamp":"2025-11-20T20:00:00.02Z","fs":50,"sampleInterval":20}',
    b'{"acc":[[1,2,3]],"ts":1763668800123,"rateHz":1e308,"x":{"y":[[[null,true,"\\u00e9"]]]}}',
    b'{"t_ms":1763668800123.456,"rate_hz":-1,"acc":[[1e308,NaN,99999999999999999999]],"gyro":[[0,0,0]]}',
    *(payload if isinstance(payload, bytes) else json.dumps(payload).encode() for _, payload in BAD),
)
_PACKED = (
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


# --- probe --------------------------------------------------------------------------------------------

_PROBED = SignalSpec(sample_rate_hz=50.0, window_samples=8, stride_samples=3, channels=("total_acc_x", "total_acc_y"))


def run_probe(data: bytes) -> None:
    """Look for devices in messages; the first byte of each is its topic. Settings that are found can be read again."""
    sent = []
    for number, part in enumerate(data.split(SEPARATOR)[:50]):
        topic = f"w/{(part[0] if part else 0) & 3}/{('imu', 'gyroscope')[part[:1] > b'~']}"
        sent.append(Message(topic, part[1:], 1.7e9 + number / 3))
    findings = examine(sent, _PROBED, max_payload_bytes=4096)
    for line in report.describe(findings, "x").splitlines():
        assert line.isprintable()
    json.dumps(report.figures(findings))
    tables = tomllib.loads(report.settings(findings)).get("source", [])
    assert len(tables) == len(findings.sources)
    for table in tables:
        Fields.parse(table.get("fields", {}))


def _probe_seeds() -> tuple[bytes, ...]:
    times = [T_NS + 60_000_000 * number for number in range(4)]
    return tuple(
        SEPARATOR.join(b"0" + shape(t_ns, 50.0, ROWS, "w1") for t_ns in times)
        for shape in (shapes.wrapped_triples, shapes.csv, shapes.sample_list, shapes.sensor_logger, shapes.phyphox)
    )


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


# --- batches ------------------------------------------------------------------------------------------

_DEVICES = ("w1", "w2", "steady", "a+b", "", "\u202e", "x" * 256, "x" * 257)
_GOOD = [
    Message("wearables/good/imu", encode_packed(T_NS, 50.0, ROWS), 1.7e9),
    Message("wearables/good/imu", encode_json(T_NS + 60_000_000, 50.0, ROWS), 1.7e9 + 0.06),
]
_SPEC = SignalSpec(sample_rate_hz=50.0, window_samples=8, stride_samples=3)


def _messages(data: bytes) -> tuple[Decoder, list[Message]]:
    """Return a decoder and messages: the first byte has the settings, and that of each part the device."""
    options = data[0] if data else 0
    decoder = Decoder(
        TopicTemplate("wearables/{device}/imu"),
        needs_gyro=bool(options & 1),
        units=Units(("g", "auto", "m/s2", "mg")[options >> 1 & 3], ("rad/s", "deg/s")[options >> 3 & 1]),
        max_payload_bytes=64 if options & 16 else 4096,
    )
    sent = []
    for number, part in enumerate(data[1:].split(SEPARATOR)):
        device, payload = part[0] if part else 0, part[1:]
        topic = f"wearables/{_DEVICES[device & 7]}/imu"
        sent.append(Message(topic, payload, 1.7e9 + (device >> 4) / 10 + number / 2, bool(device & 8)))
    return decoder, [_GOOD[0], *sent, _GOOD[1]]


def run_messages(data: bytes) -> None:
    """Decode several messages as one batch; good ones before and after them lose nothing."""
    decoder, sent = _messages(data)
    batch, rejections = decoder.decode(sent)
    assert len(batch) + len(rejections) == len(sent)
    assert np.isfinite(batch.samples).all()
    assert {rejection.reason for rejection in rejections}.isdisjoint({"internal"})
    at = [index for index, device in enumerate(batch.devices) if device == "good"]
    assert batch.t_ns[at].tolist() in ([T_NS, T_NS + 60_000_000], [T_NS], [])  # the second is longer than 64 bytes
    for note in decoder.take_notes():
        check_line(note)


def run_engine(data: bytes) -> None:
    """Make windows of several messages, each a batch of its own or all together."""
    decoder, sent = _messages(data)
    parts = [[message] for message in sent] if data[-1:] > b"\x80" else [sent]
    engine = Engine(_SPEC, max_devices=3)
    for number, part in enumerate(parts):
        batch, _ = decoder.decode(part)
        windows = engine.feed(batch, float(number))
        assert np.isfinite(windows.windows).all()
        assert (windows.end_ns > windows.start_ns).all()
    engine.take_incidents()
    engine.health()
    engine.evict(1.0)


# --- bundles ------------------------------------------------------------------------------------------


def run_npz(data: bytes) -> None:
    """Read an archive of arrays."""
    try:
        content = storage.from_npz(data, 2**20)
    except ValueError:
        return
    assert sum(array.nbytes for array in content.values() if isinstance(array, np.ndarray)) <= 2**20


def run_checkpoint(data: bytes) -> None:
    """Read a checkpoint, also one whose checksum is right although its content is not what was written."""
    for content in (data, folder.HEADER + hashlib.sha256(data).digest() + data):
        try:
            facts, arrays = folder.decode(content)
        except (ValueError, ConfigError) as error:
            check_line(str(error))
            continue
        assert isinstance(facts, dict)
        assert isinstance(arrays, dict)


def run_journal(data: bytes) -> None:
    """Read a journal, also one whose records have a right checksum although their content is not what was written."""
    start = journal.HEADER + bytes([7]) + bytes(7)
    sealed = b"".join(
        struct.pack("<BII", content[0] % 5, len(content) - 1, zlib.crc32(content[1:])) + content[1:]
        for content in data.split(SEPARATOR)
        if content
    )
    for content in (data, start + data, start + sealed):
        with suppress(ValueError):
            for record in journal.parse(content, Path("journal"), 7):
                if not isinstance(record, journal.Messages):
                    continue
                for message in record.messages:
                    assert isinstance(message.topic, str)
                    assert 0 <= message.delivery < 2**16


def _checkpoint_seeds() -> tuple[bytes, ...]:
    whole = folder.encode({"position": 3, "last_labels": [["w", "WALKING"]]}, {"a": ROWS, "model": np.array("waist-2")})
    return whole, whole[len(folder.HEADER) + 32 :], storage.to_npz({"facts": ROWS}, {"texts": {}})


def _journal_seeds() -> tuple[bytes, ...]:
    message = Message("wearables/w/imu", b"{}", 1.5, True, delivery=9)
    records: list[journal.Record] = [
        journal.Messages(4, [message, message]),
        journal.Labelled(3),
        journal.Evicted("s", ["w", "v"]),
    ]
    encoded = [journal.encode(record) for record in records]
    return b"".join(encoded), SEPARATOR.join(each[:1] + each[9:] for each in encoded)


@dataclass
class _Predictor:
    """Classifier without a network."""

    bundle: Bundle
    backend: str = "litert"

    def predict_with_features(self, windows: Float32) -> tuple[Predictions, Float32]:
        """Return equal probabilities and no features."""
        n_windows = len(windows)
        return to_predictions(np.zeros((n_windows, 2), np.float32), 1.0), np.zeros((n_windows, 0), np.float32)


@dataclass(frozen=True)
class _HeldBundle(Bundle):
    """Bundle whose golden.npz is in memory."""

    held: bytes = b""

    def read(self, name: str) -> bytes:
        """Return golden.npz."""
        return self.held


_ARRAYS = ("rate_hz", "stream_0", "stream_1", "windows", "probabilities", "labels", "signal", "familiar", "states")


def run_golden(data: bytes) -> None:
    """Verify a bundle with a golden file whose arrays are the parts of ``data``; checksums would hide most changes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, part in zip(_ARRAYS, data.split(SEPARATOR), strict=False):
            archive.writestr(f"{name}.npy", part)
    bundle = _HeldBundle(Path("folder"), "x", "1", ("A", "B"), _SPEC, 1.0, {}, held=buffer.getvalue())
    try:
        golden.verify(_Predictor(bundle), (2, 1))
    except BundleError as error:
        check_line(str(error))


def _golden_seed() -> bytes:
    rate_hz, stream = golden.synthetic_stream(_SPEC, 0)
    windows = golden.cut_windows(_SPEC, rate_hz, stream)
    probabilities = np.full((2 * len(windows), 2), 0.5, np.float32)
    sealed = golden.Golden(
        (rate_hz, rate_hz),
        (stream, stream),
        np.concatenate([windows, windows]),
        probabilities,
        np.zeros((len(probabilities), 0), np.float32),
        ("A", "B"),
        (),
        _SPEC.to_dict(),
        "",
    )
    with zipfile.ZipFile(io.BytesIO(sealed.to_bytes())) as archive:
        return SEPARATOR.join(archive.read(f"{name}.npy") for name in _ARRAYS if name != "states")


def run_bundle(data: bytes) -> None:
    """Read the text of bundle.json; one that is accepted can be published, smoothed and written again."""
    try:
        bundle = bundles._parse(Path("folder"), data)
    except BundleError as error:
        check_line(str(error))
        return
    msgspec.json.encode([bundle.id, *bundle.outputs, *bundle.published_labels])
    assert bundle.best_backend
    bundle.smoother()
    assert bundle.table.labels == bundle.labels
    bundle.missing  # noqa: B018 (it must not raise)
    try:
        text = bundles._to_json(bundle)
    except BundleError as error:
        check_line(str(error))
        return
    assert bundles._parse(Path("folder"), text).spec == bundle.spec


def _bundle_seeds() -> tuple[bytes, ...]:
    digest = {"sha256": hashlib.sha256(b"").hexdigest()}
    content: dict[str, Any] = {
        "schema": 2,
        "name": "x",
        "version": "1",
        "labels": ["A", "B"],
        "signal": {"window_samples": 16, "stride_samples": 8},
        "files": {"model.tflite": digest, "golden.npz": digest},
    }
    more = {
        "states": ["A_TO_B"],
        "orientation": "any",
        "placement": "waist",
        "temperature": 0.5,
        "smoothing": {"type": "hmm", "unknown_below": 0.5, "transitions": [[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]]},
        "covers": {"A": ["SITTING", "hapt:STANDING"]},
        "familiar": {"means": [[0.5], [1.5]], "whitening": [[1.0]], "max_distance": 9, "max_energy": -1.5},
        "training": {"missing": {"model.int8.tflite": "no"}, "int8_missed": 0.1, "metrics": {"int8": {}}},
    }
    shortest = min((folder / "bundle.json" for folder in shipped.folders()), key=lambda path: path.stat().st_size)
    return _to_bytes(content), _to_bytes(content | more), shortest.read_bytes()


def _to_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


_BATCHES = (
    b"\x03" + SEPARATOR.join([b"\x00" + encode_packed(T_NS, 50.0, ROWS), b"\x01" + _JSON[0], b"\x02nonsense"]),
    b"\x10" + SEPARATOR.join([b"\x08" + _PACKED[0], b"\x00" + _PACKED[2], b"\x07" + _JSON[3], b"\x01" + _JSON[1]]),
    *(b"\x02" + SEPARATOR.join([b"\x20" + payload] * 3) for payload in (_JSON[4], _JSON[5], _PACKED[1])),
    b"\x00"
    + SEPARATOR.join(b"\x20" + encode_packed(T_NS + 200_000_000 * i, 50.0, np.resize(ROWS, (10, 6))) for i in range(9)),
)

TARGETS = {
    **{f"payload_{name.replace('-', '_')}": format_target(name) for name in _FORMATS},
    "probe": Target(run_probe, _probe_seeds(), share=0.02),
    "unpack": Target(
        run_unpack, (shapes.gzipped(T_NS, 50.0, ROWS, ""), shapes.zstd(T_NS, 50.0, ROWS, ""), GZIP_MAGIC, ZSTD_MAGIC)
    ),
    "json": Target(run_json, _JSON),
    "fast_path": Target(run_fast_path, (*_JSON, *_PACKED)),
    "packed": Target(run_packed, _PACKED),
    "other_names": Target(run_other_names, (*_JSON, b'{"acc":"g","gyroscope":"dps","sensor_acc":"x"}')),
    "topics": Target(
        run_topics,
        (b"wearables/w1/imu", "a/7/\u00e9\u202e".encode(), b"/x//", b"w+", b"wearables/" + b"x" * 257 + b"/imu"),
    ),
    "units": Target(run_units, tuple(text.encode() for text in (*ACC_UNITS, *GYRO_UNITS, *UNIT_ALIASES, " M/S ^ 2 "))),
    "times": Target(
        run_times,
        (b"1763668800.02", b"1763668800123456789", b'"2025-11-20T20:00:00.02+01:00"', b"1e308", b"-1", b"9" * 400),
    ),
    "messages": Target(run_messages, _BATCHES),
    "engine": Target(run_engine, _BATCHES, share=0.1),
    "npz": Target(
        run_npz,
        (
            storage.to_npz({"a": ROWS, "names": np.array(["x", "yz"]), "n": np.array(7)}, {"v": {"k": [1]}}),
            storage.to_npz({"a": ROWS.T, "flags": np.zeros((0, 2), np.bool_)}, {"v": "text"}, compress=False),
        ),
    ),
    "checkpoint": Target(run_checkpoint, _checkpoint_seeds()),
    "journal": Target(run_journal, _journal_seeds()),
    "golden": Target(run_golden, (_golden_seed(),)),
    "bundle": Target(run_bundle, _bundle_seeds()),
}
