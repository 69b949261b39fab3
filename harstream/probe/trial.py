"""Trial: settings tried on the messages that were heard, by the decoder and the engine of the daemon."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import islice

import numpy as np

from harstream.core.batches import Float32, Float64, Int64, SampleBatch, Sensor
from harstream.core.engine import Engine
from harstream.core.pairing import PairingStats
from harstream.core.plausibility import ACC_UNIT_FACTORS, ACC_UNIT_NAMES, acc_unit
from harstream.core.problems import Problem, problems_in
from harstream.core.spec import SignalSpec
from harstream.probe.settings import SourceSettings
from harstream.wire.decoder import Message

#: Messages that arrive within this time are decoded together, as in a daemon.
_BATCH_S = 0.5
#: Stamps that are earlier than this, in ns, count from the start of the device: September 2001.
_EARLIEST_NS = 10**18
#: A time without samples of so many periods, beyond what a message holds, is a gap.
_GAP_PERIODS = 4.0
#: Greatest factor between the speeds of a clock and of the arrivals: a burst of messages may come in between.
_ABOUT = 1.5
#: Messages of a source on which settings are tried, and those in which a gyroscope is looked for.
_MAX_TRIED, _MAX_LOOKED = 20_000, 2_000
#: Devices of a source that are described.
MAX_DEVICES = 100
#: Shortest time in s without a message of one sensor of a pair after which it has stopped, and the same in times of the
#: usual one between its messages.
_STOPPED_S, _STOPPED_STEPS = 2.0, 3.0
_G_NAMES = dict(zip(ACC_UNIT_NAMES, ACC_UNIT_FACTORS, strict=True))


@dataclass(frozen=True, slots=True)
class StreamFinding:
    """Findings about the messages of one device, or of its gyroscope if that has messages of its own."""

    device: str
    messages: int
    samples: int
    rate_hz: float  # samples a second, measured; 0: not known
    arriving_hz: float  # the same by the times of arrival
    announced_hz: float  # 0: the messages have no rate
    jitter_ms: float  # standard deviation of the time between messages, without that of their samples
    stamped: bool
    since_1970: bool
    clock_s: float  # time from the end of a message by its stamp to its arrival, median; 0 without a stamp
    gaps: int
    longest_gap_s: float

    @property
    def keeps_time(self) -> bool:
        """True if its stamps advance about as fast as its messages arrive."""
        if not self.stamped or self.rate_hz <= 0:
            return False
        return not self.arriving_hz or 1 / _ABOUT < self.rate_hz / self.arriving_hz < _ABOUT


@dataclass(frozen=True, slots=True)
class DeviceFinding(StreamFinding):
    """Findings about one device with an accelerometer."""

    norm: float  # median of |acc| as it was sent, or in g
    unit: str  # unit in which the acceleration shows gravity; "": none
    up: str  # axis on which gravity is positive, such as +z; "" without gravity
    up_share: float  # of gravity on it
    has_gyro: bool  # in the messages of the accelerometer
    windows: int  # that the engine made
    untrusted: int  # of these, windows that are UNKNOWN because of a problem
    problems: tuple[str, ...] = ()  # "name: detail" of each
    gyro: StreamFinding | None = None  # its gyroscope, if that has messages of its own
    missing: str = ""  # sensor of a pair that sent nothing, or has stopped: accelerometer or gyroscope


@dataclass(frozen=True, slots=True)
class Trial:
    """Outcome of settings."""

    accepted: int  # messages
    rejected: Counter[str]  # by reason
    examples: dict[str, str]  # reason to the detail of its first message
    notes: tuple[str, ...]  # fields that look like mistakes
    batch: SampleBatch
    devices: list[DeviceFinding] = field(default_factory=list)
    pairing: PairingStats | None = None  # of two sensors with messages of their own

    @property
    def share(self) -> float:
        """Share of messages that were accepted."""
        return self.accepted / max(1, self.accepted + sum(self.rejected.values()))

    @property
    def acc(self) -> SampleBatch:
        """Messages that hold the accelerometer."""
        return of_sensor(self.batch, Sensor.ACC)

    @property
    def gyro(self) -> SampleBatch:
        """Messages that hold the gyroscope alone."""
        return self.batch.select(self.batch.sensors == Sensor.GYRO)


def of_sensor(batch: SampleBatch, sensor: Sensor) -> SampleBatch:
    """Return the messages of a batch that hold a sensor, alone or with the other one."""
    return batch.select((batch.sensors == sensor) | (batch.sensors == Sensor.BOTH))


def decode(settings: SourceSettings, messages: Sequence[Message], *, needs_gyro: bool, max_bytes: int) -> Trial:
    """Decode messages by settings."""
    decoder = settings.decoder(needs_gyro=needs_gyro, max_payload_bytes=max_bytes)
    rejected: Counter[str] = Counter()
    examples: dict[str, str] = {}
    notes: list[str] = []
    batches, n_rejected = [decoder.decode([])[0]], 0
    for part in _parts(messages):
        batch, rejections = decoder.decode(part)
        batches.append(batch)
        for rejection in rejections:
            rejected[rejection.reason] += 1
            examples.setdefault(rejection.reason, rejection.detail)
        n_rejected += len(rejections)
        notes += decoder.take_notes()
    batch = SampleBatch.concatenate(batches)
    return Trial(max(0, len(messages) - n_rejected), rejected, examples, tuple(notes), batch)


def run(settings: SourceSettings, messages: Sequence[Message], spec: SignalSpec, max_bytes: int) -> Trial:
    """Decode messages by settings, feed the samples to an engine, and return what became of each device.

    Args:
        settings: The settings.
        messages: Messages of all topics of the settings, in order of arrival.
        spec: Signal of the model.
        max_bytes: Largest payload to accept.

    """
    messages = messages[:_MAX_TRIED]
    tried = decode(settings, messages, needs_gyro=spec.uses_gyro, max_bytes=max_bytes)
    engine = Engine(spec, paired=settings.is_paired)
    windows: Counter[str] = Counter()
    untrusted: Counter[str] = Counter()
    details: dict[str, dict[str, str]] = {}
    for part in _batches(tried.batch):
        due = engine.feed(part)
        windows.update(due.devices)
        untrusted.update(device for device, bad in zip(due.devices, due.untrusted.tolist(), strict=True) if bad)
        for incident in engine.take_incidents():
            details.setdefault(incident.device, {})[incident.problem.public_name] = incident.detail
    health = engine.health()
    mask = dict(zip(health.devices, health.problems.tolist(), strict=True))
    acc = tried.acc
    if spec.uses_gyro and not len(acc):  # nothing has the gyroscope that the model needs: describe what there is
        acc = decode(settings, messages, needs_gyro=False, max_bytes=max_bytes).acc
    both = acc
    if not spec.uses_gyro:
        both = decode(settings, messages[:_MAX_LOOKED], needs_gyro=True, max_bytes=max_bytes).acc
    with_gyro = {
        device
        for device, rows in by_device(both).items()
        if np.abs(both.samples[rows.samples, 3:]).max(initial=0.0) > 0
    }
    for device, rows in islice(by_device(acc).items(), MAX_DEVICES):
        present = {one.public_name for one in problems_in(mask.get(device, 0))}
        problems = tuple(f"{name}: {detail}" for name, detail in details.get(device, {}).items() if name in present)
        finding = describe(device, acc, rows, device in with_gyro, windows[device], untrusted[device], problems)
        tried.devices.append(finding)
    if not settings.is_paired:
        return tried
    describe_gyro(tried, tried.gyro)
    acc_s, gyro_s = _arrivals(acc), _arrivals(tried.gyro)
    tried.devices[:] = [_with_missing(one, acc_s[one.device], gyro_s.get(one.device)) for one in tried.devices]
    return replace(tried, pairing=engine.stats.pairing)


def describe_gyro(tried: Trial, gyro: SampleBatch) -> None:
    """Add what messages of gyroscopes show to the devices of a trial."""
    of_gyro = by_device(gyro)
    tried.devices[:] = [
        replace(one, gyro=describe_stream(one.device, gyro, of_gyro[one.device])) if one.device in of_gyro else one
        for one in tried.devices
    ]


def _arrivals(batch: SampleBatch) -> dict[str, Float64]:
    """Return the times of arrival of the messages of each device, sorted."""
    return {device: np.sort(batch.arrival_s[rows.messages]) for device, rows in by_device(batch).items()}


def _with_missing(finding: DeviceFinding, acc_s: Float64, gyro_s: Float64 | None) -> DeviceFinding:
    """Return the finding about a device of a pair with the sensor that is missing, and what is said of it."""
    if finding.has_gyro:
        return finding
    if gyro_s is None:
        return _missing(finding, "gyroscope", "no message of its gyroscope came")
    for name, one_s, other_s in (("accelerometer", acc_s, gyro_s), ("gyroscope", gyro_s, acc_s)):
        silent_s = float(other_s[-1] - one_s[-1])
        # How often the sensor sends is not known of a single message.
        usual_s = float(np.median(np.diff(one_s))) if len(one_s) > 1 else math.inf
        if silent_s > max(_STOPPED_S, _STOPPED_STEPS * usual_s):
            return _missing(finding, name, f"its {name} has stopped: nothing of it came in the last {silent_s:.1f} s")
    return finding


def _missing(finding: DeviceFinding, sensor: str, detail: str) -> DeviceFinding:
    problem = f"{Problem.GYROSCOPE.public_name}: {detail}; without both sensors there are no labels"
    return replace(finding, missing=sensor, problems=(problem, *finding.problems))


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one device in a batch, in order of arrival."""

    messages: Int64
    samples: Int64


def by_device(batch: SampleBatch) -> dict[str, Rows]:
    """Return the rows of each device, in the order of their names."""
    if not len(batch):
        return {}
    names, of_message = np.unique(np.array(batch.devices, np.str_), return_inverse=True)
    of_sample = np.repeat(of_message, batch.counts)
    messages, samples = (
        np.split(np.argsort(of, kind="stable"), np.cumsum(np.bincount(of))[:-1]) for of in (of_message, of_sample)
    )
    return {name: Rows(messages[i], samples[i]) for i, name in enumerate(names.tolist())}


def describe_stream(device: str, batch: SampleBatch, rows: Rows, problems: tuple[str, ...] = ()) -> StreamFinding:
    """Return what the times of the messages of one device show.

    Args:
        device: The device.
        batch: Messages of one sensor, or of both together.
        rows: Those of the device.
        problems: Problems of the device, "name: detail" of each.

    """
    at = rows.messages
    stamped = bool(batch.stamped[at].all())
    counts, arrival = batch.counts[at].astype(np.float64), batch.arrival_s[at]
    # Coarse stamps say nothing of the rate.
    by_stamps = stamped and not any(problem.startswith("stamps") for problem in problems)
    first_s = (batch.t_ns[at] - batch.t_ns[at[0]]) / 1e9 if by_stamps else arrival - arrival[0]
    rate_hz, jitter_ms, gaps, longest = pace(first_s, counts)
    if not by_stamps:  # how messages arrive says nothing of gaps
        gaps, longest = 0, 0.0
    arriving = pace(arrival - arrival[0], counts)[0] if by_stamps else rate_hz
    ends_s = batch.t_ns[at] / 1e9 + (counts / rate_hz if rate_hz else 0.0)
    return StreamFinding(
        device,
        len(at),
        len(rows.samples),
        rate_hz,
        arriving,
        max(0.0, float(np.median(batch.rate_hz[at]))),
        jitter_ms,
        stamped,
        bool(stamped and (batch.t_ns[at] >= _EARLIEST_NS).all()),
        float(np.median(arrival - ends_s)) if stamped else 0.0,
        gaps,
        longest,
    )


def describe(
    device: str,
    batch: SampleBatch,
    rows: Rows,
    has_gyro: bool,
    windows: int = 0,
    untrusted: int = 0,
    problems: tuple[str, ...] = (),
) -> DeviceFinding:
    """Return what the messages of one device with an accelerometer show."""
    stream = describe_stream(device, batch, rows, problems)
    acc = batch.samples[rows.samples, :3]
    unit = unit_of(acc, batch, rows.messages)
    mean = acc.astype(np.float64).mean(axis=0)
    axis = int(np.abs(mean).argmax())
    length = float(np.linalg.norm(mean)) or 1.0
    return DeviceFinding(
        **{one.name: getattr(stream, one.name) for one in fields(StreamFinding)},
        norm=float(np.median(np.linalg.norm(acc, axis=1))),
        unit=unit,
        up=f"{'+' if mean[axis] > 0 else '-'}{'xyz'[axis]}" if unit else "",
        up_share=float(abs(mean[axis]) / length),
        has_gyro=has_gyro,
        windows=windows,
        untrusted=untrusted,
        problems=problems,
    )


def pace(first_s: Float64, counts: Float64) -> tuple[float, float, int, float]:
    """Return the rate in Hz, the jitter in ms, and number and greatest length in s of the gaps of one device.

    Args:
        first_s: Time of the first sample of each message (n_messages,).
        counts: Samples of each message (n_messages,).

    """
    order = np.argsort(first_s, kind="stable")
    steps, counts = np.diff(first_s[order]), counts[order][:-1]
    if not len(steps) or first_s[order[-1]] <= first_s[order[0]]:
        return 0.0, 0.0, 0, 0.0
    period = float(np.median(steps / counts))
    if period <= 0:
        period = float(steps.sum() / counts.sum())
    extra = steps - counts * period
    is_gap = extra > np.maximum(_GAP_PERIODS, counts) * period
    usual = ~is_gap
    if usual.any() and steps[usual].sum() > 0:
        period = float(steps[usual].sum() / counts[usual].sum())
    jitter = float((steps - counts * period)[usual].std()) if usual.any() else 0.0
    return 1 / period, 1000 * jitter, int(is_gap.sum()), float(extra[is_gap].max(initial=0.0))


def unit_of(acc: Float32, batch: SampleBatch, at: Int64) -> str:
    """Return the unit in which most of a device's accelerations (n_samples, 3) show gravity; "" for none."""
    size = min(len(acc), 128)
    blocks = acc[: len(acc) // size * size].reshape(-1, size, 3)
    units = acc_unit(blocks)
    unit = int(np.bincount(units + 1).argmax()) - 1
    if unit < 0:
        return ""
    # Converted samples are in g, whatever their messages say.
    return ACC_UNIT_NAMES[unit] if bool(batch.acc_unit_auto[at].all()) or unit == 0 else ""


def in_g(finding: DeviceFinding) -> float:
    """Return the median of |acc| of a device in g, if its unit is known."""
    return finding.norm * _G_NAMES.get(finding.unit, 1.0)


def _parts(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Yield messages that arrive within a short time."""
    part: list[Message] = []
    for message in messages:
        if part and message.arrival_s - part[0].arrival_s > _BATCH_S:
            yield part
            part = []
        part.append(message)
    if part:
        yield part


def _batches(batch: SampleBatch) -> Iterator[SampleBatch]:
    """Yield the messages of a batch that arrive within a short time."""
    parts = np.floor((batch.arrival_s - batch.arrival_s[:1].sum()) / _BATCH_S) if len(batch) else np.zeros(0)
    for part in np.unique(parts):
        yield batch.select(parts == part)
