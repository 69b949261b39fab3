"""Messages in every format: the samples of one device as public sketches and apps send them.

Each function takes the time of the first sample in ns, the rate in Hz, samples (n, 6) in g and rad/s, and the device.
"""

from __future__ import annotations

import gzip
import json
from typing import Any

import cbor2
import msgspec
import numpy as np
import zstandard

from harstream.core.batches import Float32, Int64
from harstream.wire.canonical import encode_json, message_of

G = 9.80665


def times_of(t_ns: int, rate_hz: float, n: int) -> Int64:
    return t_ns + np.rint(np.arange(n) * 1e9 / rate_hz).astype(np.int64)


def _rows(samples: Float32) -> list[list[float]]:
    return [[round(value, 6) for value in row] for row in samples.astype(np.float64).tolist()]


def _dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


def flat_columns(t_ns: int, rate_hz: float, samples: Float32, device: str) -> bytes:
    """``{"device_id","x":[..],"y":[..],"z":[..],"device_t"}``: one list for each axis."""
    columns = np.round(samples[:, :3].astype(np.float64) * G, 5).T.tolist()
    x, y, z = columns
    return _dumps({"device_id": device, "fs": rate_hz, "x": x, "y": y, "z": z, "device_t": t_ns // 10**6})


def sample_list(t_ns: int, rate_hz: float, samples: Float32, device: str) -> bytes:
    """``{"deviceId","sampleRateHz","samples":[{"x","y","z","tOffsetMs"}]}``: a list of objects."""
    listed = [
        {"x": x, "y": y, "z": z, "tOffsetMs": round(i * 1000 / rate_hz)}
        for i, (x, y, z, *_) in enumerate(_rows(samples))
    ]
    return _dumps({"deviceId": device, "ts": t_ns // 10**6, "sampleRateHz": rate_hz, "samples": listed})


def sensor_logger(t_ns: int, rate_hz: float, samples: Float32, device: str, *, ios: bool = False) -> bytes:
    """Sensor Logger: acceleration without gravity, gravity, and a gyroscope with a clock of its own."""
    t = times_of(t_ns, rate_hz, len(samples))
    sign = -1 if ios else 1
    gravity = np.tile(samples[:, :3].mean(axis=0), (len(samples), 1))
    signals = {
        "accelerometer": (t, sign * G * (samples[:, :3] - gravity)),
        "gravity": (t, sign * G * gravity),
        "gyroscope": (t + 400_000, samples[:, 3:]),
    }
    payload = [
        {"name": name, "time": int(at), "accuracy": 3, "values": dict(zip("zyx", reversed(row), strict=True))}
        for name, (times, rows) in signals.items()
        for at, row in zip(times, rows.astype(np.float64).tolist(), strict=True)
    ]
    payload.append({"name": "battery", "time": int(t[0]), "values": {"batteryLevel": 0.5}})
    return _dumps({"messageId": 7, "sessionId": "s", "deviceId": device, "payload": payload})


def wrist_motion(t_ns: int, rate_hz: float, samples: Float32, device: str) -> bytes:
    """Sensor Logger's watch: accelerations and gravity in g with the signs of iOS, beside the rotation."""
    rows = samples.astype(np.float64)
    gravity = rows[:, :3].mean(axis=0)
    gravity /= np.linalg.norm(gravity)
    motion = np.hstack([gravity - rows[:, :3], np.tile(-gravity, (len(rows), 1)), rows[:, 3:]])
    names = [f"{sensor}{axis}" for sensor in ("acceleration", "gravity", "rotationRate") for axis in "XYZ"]
    payload = [
        {"name": "wrist motion", "time": int(at), "values": dict(zip(names, row, strict=True))}
        for at, row in zip(times_of(t_ns, rate_hz, len(rows)), motion.tolist(), strict=True)
    ]
    return _dumps({"messageId": 7, "sessionId": "s", "deviceId": device, "payload": payload})


def phyphox(t_ns: int, rate_hz: float, samples: Float32, device: str) -> bytes:
    """Phyphox: a list for each buffer, with times from the start of the experiment."""
    start_s = 1_700_000_000.0
    acc_time = (times_of(t_ns, rate_hz, len(samples)) - round(start_s * 1e9)) / 1e9
    rows = samples.astype(np.float64)
    buffers = {
        **dict(zip(("accX", "accY", "accZ"), (G * rows[:, :3]).T.tolist(), strict=True)),
        **dict(zip(("gyrX", "gyrY", "gyrZ"), rows[:, 3:].T.tolist(), strict=True)),
        "acc_time": acc_time.tolist(),
        "gyr_time": (acc_time + 0.001).tolist(),
    }
    events = [{"event": "START", "experimentTime": 0.0, "systemTime": start_s}]
    return _dumps({**buffers, "time": {"now": t_ns / 1e9, "events": events}, "uniqueID": device})


def senml_records(t_ns: int, rate_hz: float, samples: Float32, device: str) -> list[dict[str, Any]]:
    names = ("ax", "ay", "az", "gx", "gy", "gz")
    records: list[dict[str, Any]] = [{"bn": f"{device}:", "bt": t_ns / 1e9}]
    for i, row in enumerate(samples.astype(np.float64) * [G, G, G, 1, 1, 1]):
        for name, value in zip(names, row.tolist(), strict=True):
            unit = "m/s2" if name[0] == "a" else "rad/s"
            records.append({"n": name, "u": unit, "v": value, "t": round(i / rate_hz, 6)})
    first = records.pop(1)
    records[0] |= first
    return records


def senml(t_ns: int, rate_hz: float, samples: Float32, device: str) -> bytes:
    """SenML in JSON."""
    return _dumps(senml_records(t_ns, rate_hz, samples, device))


def senml_cbor(t_ns: int, rate_hz: float, samples: Float32, device: str) -> bytes:
    """SenML in CBOR, with the labels of RFC 8428."""
    labels = {"bn": -2, "bt": -3, "n": 0, "u": 1, "v": 2, "t": 6}
    records = senml_records(t_ns, rate_hz, samples, device)
    return cbor2.dumps([{labels[name]: value for name, value in record.items()} for record in records])


def csv(t_ns: int, rate_hz: float, samples: Float32, device: str) -> bytes:
    """Lines of text: time in ms, acc in g, gyro in rad/s."""
    times = times_of(t_ns, rate_hz, len(samples)) // 10**6
    lines = [",".join(map(str, [at, *row])) for at, row in zip(times.tolist(), _rows(samples), strict=True)]
    return ("t,ax,ay,az,gx,gy,gz\n" + "\n".join(lines) + "\n").encode()


CSV_FIELDS: dict[str, Any] = {"t_unit": "ms", "columns": ["t", "ax", "ay", "az", "gx", "gy", "gz"]}


def cbor(t_ns: int, rate_hz: float, samples: Float32, device: str) -> bytes:
    """Canonical message in CBOR."""
    return cbor2.dumps({"device": device, **message_of(t_ns, rate_hz, samples)})


def msgpack(t_ns: int, rate_hz: float, samples: Float32, device: str) -> bytes:
    """Canonical message in MessagePack."""
    return msgspec.msgpack.encode({"device": device, **message_of(t_ns, rate_hz, samples)})


def gzipped(t_ns: int, rate_hz: float, samples: Float32, device: str) -> bytes:
    """Canonical JSON in gzip."""
    return gzip.compress(encode_json(t_ns, rate_hz, samples), mtime=0)


def zstd(t_ns: int, rate_hz: float, samples: Float32, device: str) -> bytes:
    """Canonical JSON in zstd."""
    return zstandard.ZstdCompressor().compress(encode_json(t_ns, rate_hz, samples))


def wrapped_triples(t_ns: int, rate_hz: float, samples: Float32, device: str) -> bytes:
    """A shape that needs a configuration: lists of triples inside, in mg and deg/s, with text times."""
    rows = samples.astype(np.float64)
    stamp = str(np.datetime64(t_ns // 1000, "us")) + "Z"
    motion = {"a": np.round(rows[:, :3] * 1000, 2).tolist(), "w": np.round(np.degrees(rows[:, 3:]), 4).tolist()}
    return _dumps({"meta": {"who": device, "at": stamp, "hz": rate_hz}, "data": {"motion": motion}})


WRAPPED_FIELDS = {
    "device": "meta.who",
    "t": "meta.at",
    "t_unit": "iso",
    "rate_hz": "meta.hz",
    "acc": "data.motion.a",
    "gyro": "data.motion.w",
}
