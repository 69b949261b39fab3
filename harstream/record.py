"""Live devices into csv files: what `harstream record` writes and `--data csv:DIR` reads."""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from harstream.core.batches import Float32, Int64
from harstream.core.spec import SignalSpec
from harstream.core.timeline import MEASURE_MAX_SAMPLES, Timeline
from harstream.datasets.csv import Writer
from harstream.errors import ConfigError, DatasetError
from harstream.mqtt.connection import Connection
from harstream.mqtt.urls import BrokerSettings
from harstream.wire.payloads import Units
from harstream.wire.samples import Decoder, Message
from harstream.wire.topics import TopicTemplate, is_device_name

#: After so many seconds without new samples a device is said to be silent.
SILENT_S = 5.0

_SUBJECT = re.compile(r"[^\W_](?:[^\W_]|[.-])*")
#: What a device may be called and a file should not.
_UNSAFE = re.compile(r"[^\w.-]")
_ROW = np.zeros(1, np.int64)


def check_subject(subject: str) -> str:
    """Raises ConfigError where a file name that begins with ``subject`` and _ would not give it back."""
    if not _SUBJECT.fullmatch(subject):
        raise ConfigError(f"subject: {subject!r} is not made of letters, digits, - and . only")
    return subject


def check_label(label: str) -> str:
    """Raises ConfigError where ``label`` cannot stand in a csv file, or stands for nothing."""
    if not label or label != label.strip() or not label.isprintable() or not {",", '"'}.isdisjoint(label):
        raise ConfigError(f"label: {label!r} is empty, or has a comma, a quote or a blank at an end")
    return label


@dataclass(frozen=True, slots=True)
class Recorded:
    """One file that was written."""

    path: Path
    device: str
    label: str
    samples: int
    seconds: float  # from its first sample to its last


class _File:
    """One recording being written; every message is on disk before the next comes."""

    def __init__(self, path: Path, device: str, label: str, *, gyro: bool) -> None:
        self.device, self.label, self.gyro = device, label, gyro
        self._writer = Writer(path, gyro=gyro)
        self._first_us = self._last_us = -1

    def write(self, t_ns: Int64, samples: Float32) -> int:
        """Append samples (n, 6) taken at ``t_ns``; how many. Those not newer than the last written are left out.

        Raises DatasetError where the file cannot be written.
        """
        t_us = t_ns // 1000
        new = t_us > self._last_us
        t_us = t_us[new]
        if len(t_us):
            self._first_us = int(t_us[0]) if self._first_us < 0 else self._first_us
            self._last_us = int(t_us[-1])
            try:
                self._writer.write(t_us / 1e6, samples[new], self.label)
            except OSError as error:
                raise DatasetError(f"{self._writer.path}: cannot be written: {error.strerror}") from error
        return len(t_us)

    @property
    def samples(self) -> int:
        return self._writer.n_samples

    @property
    def seconds(self) -> float:
        return (self._last_us - self._first_us) / 1e6

    def close(self, *, keep: bool = True) -> Recorded | None:
        """None, and no file, where it is not to be kept, or has a single sample, which is no recording."""
        with contextlib.suppress(OSError):  # what could not be written, ``write`` has told already
            self._writer.close()
        if not keep or self.samples < 2:
            self._writer.path.unlink(missing_ok=True)
            return None
        return Recorded(self._writer.path, self.device, self.label, self.samples, self.seconds)


@dataclass(slots=True)
class DeviceState:
    """What is known of one device; the counts are those since the recording began."""

    timeline: Timeline
    heard_s: float  # when something new last came, or we began to listen
    heard: bool = False
    file: _File | None = None
    samples: int = 0
    seconds: float = 0.0  # in files already closed
    gaps: int = 0
    late: int = 0
    rejected: Counter[str] = field(default_factory=Counter)  # by reason
    detail: str = ""  # of the last rejection

    @property
    def rate_hz(self) -> float:
        """By the device's own clock; 0 before anything was heard."""
        return 1e9 / float(self.timeline.period_ns[0]) if self.heard else 0.0

    def line(self) -> str:
        seconds = self.seconds + (self.file.seconds if self.file else 0.0)
        line = f"{seconds:.1f} s, {self.samples} samples, {self.rate_hz:.1f} Hz, {self.gaps} gaps, {self.late} late"
        return line + "".join(f", {count} messages rejected ({reason})" for reason, count in self.rejected.items())


class Recorder:
    """Subscribes to devices and, between ``begin`` and ``end``, writes what they send.

    Samples get the times the daemon would give them: the device's stamps by a followed clock, counted in
    between; arrival times where there are none. They are written as they came, neither resampled nor
    bridged, late ones left out. A message belongs to the recording in which it arrives. Devices are
    listened to from ``open`` on, so that their clocks and rates are known when the recording begins.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        client_id: str,
        template: TopicTemplate,
        devices: Sequence[str],
        subject: str,
        out: Path,
        *,
        units: Units | None = None,
        rate_hz: float = 50.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``rate_hz`` is that of devices which do not announce theirs, until their messages' spacing tells it.

        Raises ConfigError for a subject or a device that cannot be one.
        """
        self.subject = check_subject(subject)
        self.failure: Exception | None = None
        for device in devices:
            if not is_device_name(device):
                raise ConfigError(f"device: {device!r} cannot stand in a topic")
        self._out = out
        self._clock = clock
        self._lock = threading.Lock()
        self._label: str | None = None  # None: nothing is being recorded
        self._done: list[Recorded] = []
        self._decoder = Decoder(template, units=units)
        self._without_gyro = Decoder(template, needs_gyro=False, units=units)
        spec = SignalSpec(sample_rate_hz=rate_hz)
        self.devices = {device: DeviceState(Timeline(spec, 1), clock()) for device in dict.fromkeys(devices)}
        self._connections = [
            Connection(
                settings, f"{client_id}-{number}", subscriptions=[template.topic(device)], on_message=self.receive
            )
            for number, device in enumerate(self.devices)
        ]

    def open(self) -> None:
        """Raises BrokerError where the broker is not there or refuses us, ConfigError where ``out`` is no folder."""
        try:
            self._out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"out: {self._out}: {error.strerror}") from error
        for connection in self._connections:
            connection.open()

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        self.end()

    def begin(self, label: str) -> None:
        """What arrives from now on is ``label``. Raises ConfigError for one that cannot be one."""
        with self._lock:
            self._label = check_label(label)
            for state in self.devices.values():
                state.samples = state.gaps = state.late = 0
                state.seconds = 0.0
                state.rejected.clear()

    def end(self) -> list[Recorded]:
        """Close the files; those that were written since ``begin``. Raises DatasetError where writing failed."""
        with self._lock:
            self._label = None
            for state in self.devices.values():
                self._finish(state)
            done, self._done = self._done, []
        self.check()
        return done

    def check(self) -> None:
        """Raises DatasetError where a file cannot be written."""
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise DatasetError(str(failure)) from failure

    def silent(self) -> dict[str, float]:
        """The devices of which nothing new has come for SILENT_S, and for how long."""
        now = self._clock()
        return {name: now - s.heard_s for name, s in self.devices.items() if now - s.heard_s >= SILENT_S}

    def status(self) -> list[str]:
        """A line for each device."""
        with self._lock:
            return [f"{name}: {state.line()}" for name, state in self.devices.items()]

    # --- in the network thread -----------------------------------------------------------------

    def receive(self, topic: str, payload: bytes, retained: bool) -> None:
        """A message has come."""
        message = Message(topic, payload, self._clock(), retained)
        device = self._decoder.template.device(topic)
        if device not in self.devices:
            return
        with self._lock:
            try:
                self._take(device, self.devices[device], message)
            except (OSError, DatasetError) as error:
                self._label, self.failure = None, error

    def _take(self, device: str, state: DeviceState, message: Message) -> None:
        batch, rejections = self._decoder.decode([message])
        gyro = not (rejections and rejections[0].reason == "gyroscope")
        if not gyro:
            batch, rejections = self._without_gyro.decode([message])
        for rejection in rejections:
            if rejection.reason != "retained":
                state.rejected[rejection.reason] += 1
                state.detail = rejection.detail
        if not len(batch):
            return
        timeline, stats = state.timeline, state.timeline.stats
        before, nominal_ns = replace(stats), float(timeline.nominal_ns[0])
        accepted = timeline.feed(_ROW, batch)
        state.late += stats.samples_late - before.samples_late
        state.gaps += stats.gaps - before.gaps
        state.rejected.update({"rate": 1} if stats.samples_rate > before.samples_rate else {})
        if not len(accepted.row):
            return
        state.heard, state.heard_s = True, message.arrival_s
        if self._label is None:
            return
        if state.file is not None and (timeline.nominal_ns[0] != nominal_ns or state.file.gyro != gyro):
            # Another rate, another recording. One found out by the messages' spacing has been wrong all along.
            wrong = stats.rates_measured > before.rates_measured and state.file.samples < MEASURE_MAX_SAMPLES
            self._finish(state, keep=not wrong)
        if state.file is None:
            state.file = _File(self._path(device), device, self._label, gyro=gyro)
        first, count = int(accepted.first[0]), int(accepted.count[0])
        within = np.arange(count) + accepted.missing[0]
        t_ns = accepted.t_ns[0] + np.rint(within * accepted.period_ns[0]).astype(np.int64)
        written = state.file.write(t_ns, batch.samples[first : first + count])
        state.samples += written
        state.late += count - written

    def _finish(self, state: DeviceState, *, keep: bool = True) -> None:
        if state.file is None:
            return
        if keep:
            state.seconds += state.file.seconds
        else:
            state.samples -= state.file.samples
        done, state.file = state.file.close(keep=keep), None
        self._done += [done] if done else []

    def _path(self, device: str) -> Path:
        """A file that is not there yet."""
        start = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock()))
        name = f"{self.subject}_{_UNSAFE.sub('-', device)}_{start}"
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        return next(path for name in names if not (path := self._out / f"{name}.csv").exists())
