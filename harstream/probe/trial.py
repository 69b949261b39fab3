"""Trial: settings tried on the messages that were heard, by the decoder and the engine of the daemon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from harstream.core.batches import Float32, Float64, Int64, SampleBatch
from harstream.core.engine import Engine
from harstream.core.plausibility import ACC_UNIT_FACTORS, ACC_UNIT_NAMES, acc_unit
from harstream.core.problems import problems_in
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
_G_NAMES = dict(zip(ACC_UNIT_NAMES, ACC_UNIT_FACTORS, strict=True))


@dataclass(frozen=True, slots=True)
class DeviceFinding:
    """Findings about one device."""

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
    norm: float  # median of |acc| as it was sent, or in g
    unit: str  # unit in which the acceleration shows gravity; "": none
    up: str  # axis on which gravity is positive, such as +z; "" without gravity
    up_share: float  # of gravity on it
    has_gyro: bool
    windows: int  # that the engine made
    untrusted: int  # of these, windows that are UNKNOWN because of a problem
    problems: tuple[str, ...] = ()  # "name: detail" of each

    @property
    def keeps_time(self) -> bool:
        """True if its stamps advance about as fast as its messages arrive."""
        if not self.stamped or self.rate_hz <= 0:
            return False
        return not self.arriving_hz or 1 / _ABOUT < self.rate_hz / self.arriving_hz < _ABOUT


@dataclass(frozen=True, slots=True)
class Trial:
    """Outcome of settings."""

    accepted: int  # messages
    rejected: Counter[str]  # by reason
    examples: dict[str, str]  # reason to the detail of its first message
    notes: tuple[str, ...]  # fields that look like mistakes
    batch: SampleBatch
    devices: list[DeviceFinding] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Share of messages that were accepted."""
        return self.accepted / max(1, self.accepted + sum(self.rejected.values()))


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
    """Decode messages by settings, feed the samples to an engine, and return what became of each device."""
    tried = decode(settings, messages[:_MAX_TRIED], needs_gyro=spec.uses_gyro, max_bytes=max_bytes)
    engine = Engine(spec)
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
    both = tried
    if not spec.uses_gyro:
        both = decode(settings, messages[:_MAX_LOOKED], needs_gyro=True, max_bytes=max_bytes)
    with_gyro = {
        device
        for device, rows in by_device(both.batch).items()
        if np.abs(both.batch.samples[rows.samples, 3:]).max(initial=0.0) > 0
    }
    for device, rows in islice(by_device(tried.batch).items(), MAX_DEVICES):
        present = {one.public_name for one in problems_in(mask.get(device, 0))}
        problems = tuple(f"{name}: {detail}" for name, detail in details.get(device, {}).items() if name in present)
        finding = describe(device, tried.batch, rows, device in with_gyro, windows[device], untrusted[device], problems)
        tried.devices.append(finding)
    return tried


def look(settings: SourceSettings, messages: Sequence[Message], max_bytes: int) -> Trial:
    """Decode messages of an accelerometer by settings, and describe its devices without any windows."""
    tried = decode(settings, messages[:_MAX_TRIED], needs_gyro=False, max_bytes=max_bytes)
    for device, rows in islice(by_device(tried.batch).items(), MAX_DEVICES):
        tried.devices.append(describe(device, tried.batch, rows, has_gyro=False))
    return tried


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


def describe(
    device: str,
    batch: SampleBatch,
    rows: Rows,
    has_gyro: bool,
    windows: int = 0,
    untrusted: int = 0,
    problems: tuple[str, ...] = (),
) -> DeviceFinding:
    """Return what the messages of one device show."""
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
    announced = float(np.median(batch.rate_hz[at]))
    ends_s = batch.t_ns[at] / 1e9 + (counts / rate_hz if rate_hz else 0.0)
    acc = batch.samples[rows.samples, :3]
    unit = unit_of(acc, batch, at)
    mean = acc.astype(np.float64).mean(axis=0)
    axis = int(np.abs(mean).argmax())
    length = float(np.linalg.norm(mean)) or 1.0
    return DeviceFinding(
        device,
        len(at),
        len(acc),
        rate_hz,
        arriving,
        max(0.0, announced),
        jitter_ms,
        stamped,
        bool(stamped and (batch.t_ns[at] >= _EARLIEST_NS).all()),
        float(np.median(arrival - ends_s)) if stamped else 0.0,
        gaps,
        longest,
        float(np.median(np.linalg.norm(acc, axis=1))),
        unit,
        f"{'+' if mean[axis] > 0 else '-'}{'xyz'[axis]}" if unit else "",
        float(abs(mean[axis]) / length),
        has_gyro,
        windows,
        untrusted,
        problems,
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
