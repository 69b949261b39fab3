"""Targets of batches and engine, and of the probe, which needs both."""

from __future__ import annotations

import json
import tomllib
import zlib

import numpy as np

from harstream.core.engine import Engine
from harstream.core.spec import SignalSpec
from harstream.probe import report
from harstream.probe.findings import Findings, examine
from harstream.wire.canonical import encode_json
from harstream.wire.decoder import Decoder, Message
from harstream.wire.fields import Fields
from harstream.wire.packed import encode_packed
from harstream.wire.samples import Units
from harstream.wire.topics import TopicTemplate

from ...wire import shapes
from .base import ROWS, SEPARATOR, SPEC, T_NS, Target, check_line
from .payloads import JSON, PACKED

_DEVICES = ("w1", "w2", "steady", "a+b", "", "\u202e", "x" * 256, "x" * 257)
_GOOD = [
    Message("wearables/good/imu", encode_packed(T_NS, 50.0, ROWS), 1.7e9),
    Message("wearables/good/imu", encode_json(T_NS + 60_000_000, 50.0, ROWS), 1.7e9 + 0.06),
]


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
    engine = Engine(SPEC, max_devices=3)
    for number, part in enumerate(parts):
        batch, _ = decoder.decode(part)
        windows = engine.feed(batch, float(number))
        assert np.isfinite(windows.windows).all()
        assert (windows.end_ns > windows.start_ns).all()
    engine.take_incidents()
    engine.health()
    engine.evict(1.0)


_BATCHES = (
    b"\x03" + SEPARATOR.join([b"\x00" + encode_packed(T_NS, 50.0, ROWS), b"\x01" + JSON[0], b"\x02nonsense"]),
    b"\x10" + SEPARATOR.join([b"\x08" + PACKED[0], b"\x00" + PACKED[2], b"\x07" + JSON[3], b"\x01" + JSON[1]]),
    *(b"\x02" + SEPARATOR.join([b"\x20" + payload] * 3) for payload in (JSON[4], JSON[5], PACKED[1])),
    b"\x00"
    + SEPARATOR.join(b"\x20" + encode_packed(T_NS + 200_000_000 * i, 50.0, np.resize(ROWS, (10, 6))) for i in range(9)),
)


# --- probe --------------------------------------------------------------------------------------------

_PROBED = SignalSpec(sample_rate_hz=50.0, window_samples=8, stride_samples=3, channels=("total_acc_x", "total_acc_y"))


#: Samples of a device that shows gravity.
_UPRIGHT = (0.05 * ROWS + np.array([1, 0, 0, 0, 0, 0])).astype(np.float32)


def probe(data: bytes, spec: SignalSpec) -> Findings:
    """Look for devices in messages; the first byte of each is its topic."""
    sent = []
    for number, part in enumerate(data.split(SEPARATOR)[:50]):
        topic = f"w/{(part[0] if part else 0) & 3}/{('imu', 'gyroscope')[part[:1] > b'~']}"
        sent.append(Message(topic, part[1:], 1.7e9 + number / 3))
    return examine(sent, spec, max_payload_bytes=4096)


def run_probe(data: bytes) -> None:
    """Look for devices in messages. A daemon takes the settings that are found.

    The checksum of the messages chooses whether the model needs a gyroscope, which may have messages of its own.
    """
    findings = probe(data, SPEC if zlib.crc32(data) % 2 else _PROBED)
    for line in report.describe(findings, "x").splitlines():
        assert line.isprintable()
    json.dumps(report.figures(findings))
    tables = tomllib.loads(report.settings(findings)).get("source", [])
    assert len(tables) == len(findings.sources)
    for source, table in zip(findings.sources, tables, strict=True):
        Fields.parse(table.get("fields", {}))
        assert source.error == ""


def _probe_seeds() -> tuple[bytes, ...]:
    times = [T_NS + 60_000_000 * number for number in range(4)]
    of_both = tuple(
        SEPARATOR.join(b"0" + shape(t_ns, 50.0, _UPRIGHT, "w1") for t_ns in times)
        for shape in (shapes.wrapped_triples, shapes.csv, shapes.sample_list, shapes.sensor_logger, shapes.phyphox)
    )
    # The gyroscope on a topic of its own, or on that of the accelerometer.
    apart = tuple(
        SEPARATOR.join(
            begin + json.dumps({"t": t_ns / 1e9, name: _UPRIGHT[:, columns].tolist()}).encode()
            for t_ns in times
            for begin, name, columns in ((b"0", acc, slice(0, 3)), (of_gyro, gyro, slice(3, 6)))
        )
        for of_gyro, acc, gyro in ((b"\xf0", "v", "v"), (b"\xf0", "acc", "gyro"), (b"0", "acc", "gyro"))
    )
    return of_both + apart


TARGETS = {
    "probe": Target(run_probe, _probe_seeds(), share=0.02),
    "messages": Target(run_messages, _BATCHES),
    "engine": Target(run_engine, _BATCHES, share=0.1),
}
