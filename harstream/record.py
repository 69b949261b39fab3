"""Recording of live devices into csv files, which ``--data csv:DIR`` reads again."""

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

from harstream.core.batches import Float32, Int64, SampleBatch
from harstream.core.labels import UNKNOWN
from harstream.core.plausibility import ACC_UNIT_FACTORS, ACC_UNIT_NAMES, acc_unit
from harstream.core.rates import MEASURE_MAX_SAMPLES
from harstream.core.spec import SignalSpec
from harstream.core.timeline import Timeline
from harstream.datasets.csv import CsvWriter
from harstream.datasets.rows import NO_LABEL
from harstream.errors import ConfigError, DatasetError
from harstream.mqtt.connection import Connection
from harstream.mqtt.urls import BrokerSettings
from harstream.wire.decoder import Decoder, Message
from harstream.wire.payloads import PayloadConfig
from harstream.wire.reject import RejectError
from harstream.wire.samples import Units
from harstream.wire.topics import TopicTemplate, is_device_name

#: Seconds without new samples after which a device counts as silent.
SILENT_S = 5.0

_SUBJECT = re.compile(r"[^\W_](?:[^\W_]|[.-])*")
#: Characters that a device name may have and a file name should not.
_UNSAFE = re.compile(r"[^\w.-]")
#: Commas and quotes, control characters and surrogates, and the line ends of Unicode, at which a csv file is split.
_NOT_IN_LABEL = re.compile(r'[,"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')
#: Samples from which the unit of accelerations is told, if it is not stated.
_UNIT_SAMPLES = 50
#: Row of the only device in a Timeline.
_ROW = np.zeros(1, np.int64)


def check_subject(subject: str) -> str:
    """Return ``subject`` if a file name that begins with it and ``_`` can be split into its parts again.

    Raises:
        ConfigError: It is empty or has another character than letters, digits, ``-`` and ``.``.

    """
    if not _SUBJECT.fullmatch(subject):
        raise ConfigError(f"subject: {subject!r}: expected letters, digits, - and . only, with a letter or digit first")
    return subject


def check_label(label: str) -> str:
    """Return ``label`` if a csv file can hold it.

    Raises:
        ConfigError: It is empty, or has a comma, a quote, a line end, a control character, or a space at its start or
            end, or it stands for no label, such as NA, or for what a model does not know (UNKNOWN).

    """
    if not label or label != label.strip() or _NOT_IN_LABEL.search(label):
        raise ConfigError(
            f"label: {label!r}: expected a text without commas, quotes, control characters and spaces at its ends"
        )
    if label.lower() in NO_LABEL or label.upper() == UNKNOWN:
        raise ConfigError(f"label: {label!r}: it stands for no label when the file is read; choose another name")
    return label


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """Summary of a finished csv file."""

    path: Path
    device: str
    label: str
    samples: int
    seconds: float  # from its first sample to its last one


class _OpenFile:
    """Csv file that samples are appended to. Each call of ``write`` hands them to the operating system."""

    def __init__(self, path: Path, device: str, label: str, *, gyro: bool) -> None:
        self.device, self.label, self.gyro = device, label, gyro
        self._writer = CsvWriter(path, gyro=gyro)
        self._first_us = self._last_us = -1

    def write(self, t_ns: Int64, samples: Float32) -> int:
        """Append the samples (n, 6), taken at ``t_ns`` (n,), that are newer than the last one written.

        Returns:
            Number of samples appended.

        Raises:
            DatasetError: The file cannot be written.

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
        """Number of samples written."""
        return self._writer.n_samples

    def is_after(self, t_ns: int) -> bool:
        """Return whether the last sample is later than ``t_ns``."""
        return self._last_us > t_ns // 1000

    @property
    def seconds(self) -> float:
        """Time from the first sample to the last one."""
        return (self._last_us - self._first_us) / 1e6

    def close(self, *, keep: bool = True) -> RecordedFile | None:
        """Close the file. Delete it and return None if ``keep`` is False or it has fewer than two samples."""
        with contextlib.suppress(OSError):  # ``write`` has raised it already
            self._writer.close()
        if not keep or self.samples < 2:
            self._writer.path.unlink(missing_ok=True)
            return None
        return RecordedFile(self._writer.path, self.device, self.label, self.samples, self.seconds)


class _UnitFinder:
    """Finder of the unit of a device's accelerations, from its first samples whose unit is not stated."""

    def __init__(self) -> None:
        self.name = ""  # "": not found yet
        self._factor = np.float32(0)
        self._acc = np.zeros((0, 3), np.float32)

    def convert(self, batch: SampleBatch) -> SampleBatch | None:
        """Return a batch of one message with accelerations in g; None while there are too few samples to tell the unit.

        Raises:
            RejectError: The accelerations have gravity in no known unit.

        """
        if not batch.acc_unit_auto[0]:
            return batch
        if not self.name:
            self._acc = np.concatenate([self._acc, batch.samples[:, :3]])[-_UNIT_SAMPLES:]
            if len(self._acc) < _UNIT_SAMPLES:
                return None
            unit = int(acc_unit(self._acc[None])[0])
            if unit < 0:
                raise RejectError("units", f"acc shows gravity in none of {', '.join(ACC_UNIT_NAMES)}; state its unit")
            self.name, self._factor = ACC_UNIT_NAMES[unit], np.float32(ACC_UNIT_FACTORS[unit])
        samples = batch.samples.copy()
        samples[:, :3] *= self._factor
        return replace(batch, samples=samples, acc_unit_auto=np.zeros(1, np.bool_))


@dataclass(slots=True)
class RecordedDevice:
    """State of one device. Counts start at zero with every recording."""

    timeline: Timeline  # with this device in its only row
    last_received_s: float  # time of the last new samples, or of the recorder's start; seconds since the epoch
    received: bool = False  # whether any sample has been accepted since the recorder's start
    unit: _UnitFinder = field(default_factory=_UnitFinder)
    file: _OpenFile | None = None
    samples: int = 0  # written
    seconds: float = 0.0  # in files that are closed
    gaps: int = 0
    late: int = 0  # samples
    rejected: Counter[str] = field(default_factory=Counter)  # messages, by reason
    last_rejection: str = ""

    @property
    def rate_hz(self) -> float:
        """Sample rate by the device's own clock; 0 before the first samples."""
        return 1e9 / float(self.timeline.clock.period_ns[0]) if self.received else 0.0

    def status_line(self) -> str:
        """Describe the recording so far: seconds, samples, rate, gaps, late samples and rejected messages."""
        seconds = self.seconds + (self.file.seconds if self.file else 0.0)
        line = f"{seconds:.1f} s, {self.samples} samples, {self.rate_hz:.1f} Hz, {self.gaps} gaps, {self.late} late"
        return line + "".join(f", {count} messages rejected ({reason})" for reason, count in self.rejected.items())


class Recorder:
    """Recorder of one subject's devices. It writes the samples that arrive between ``begin`` and ``end``.

    Samples get the event times that the daemon would give them: a filter follows the stamps of the device, and samples
    between two stamps are counted; without stamps, the times of arrival are followed. Samples are written as they are:
    not resampled, gaps not bridged, late samples left out. Only samples at irregular intervals are interpolated, as the
    daemon does it. A clock that is set back begins another file. The time of its arrival decides which recording a
    message belongs to. Messages are received from ``open`` on, so that the clock and the rate of each device are known
    when a recording begins.

    Args:
        settings: How to reach the broker.
        client_id: Prefix of the client identifiers; each device has a connection of its own.
        template: Topics of the samples.
        devices: Names of the devices.
        subject: Name of the person who wears the devices.
        out: Folder of the csv files.
        units: Units of messages that do not name theirs; None: g and rad/s. With ``auto``, the unit of accelerations is
            told from the first samples of a device, which are not recorded.
        payload: Format of the messages; None: each message tells it.
        rate_hz: Rate of devices that do not announce theirs, until it is measured.
        clock: Source of the time, in seconds since the epoch.

    Raises:
        ConfigError: The name of the subject or of a device is not allowed.

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
        payload: PayloadConfig | None = None,
        rate_hz: float = 50.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.subject = check_subject(subject)
        for device in devices:
            if not is_device_name(device):
                raise ConfigError(
                    f"device: {device!r} is not one level of a topic; leave out /, +, # and control characters"
                )
        self._out = out
        self._clock = clock
        self._lock = threading.Lock()
        self._label: str | None = None  # None: nothing is being recorded
        self._finished: list[RecordedFile] = []
        self._failure: Exception | None = None
        self._decoder = Decoder(template, units=units, payload=payload)
        self._decoder_without_gyro = Decoder(template, needs_gyro=False, units=units, payload=payload)
        spec = SignalSpec(sample_rate_hz=rate_hz)
        self.devices = {device: RecordedDevice(Timeline(spec, 1), clock()) for device in dict.fromkeys(devices)}
        self._connections = [
            Connection(
                settings, f"{client_id}-{number}", subscriptions=[template.topic(device)], on_message=self.receive
            )
            for number, device in enumerate(self.devices)
        ]

    def open(self) -> None:
        """Create the folder and subscribe.

        Raises:
            BrokerError: The broker cannot be reached or refuses a connection.
            ConfigError: The folder cannot be created.

        """
        try:
            self._out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"out: {self._out}: {error.strerror}") from error
        for connection in self._connections:
            connection.open()

    def close(self) -> None:
        """Disconnect, and end the recording. Raises as ``end`` does."""
        for connection in self._connections:
            connection.close()
        self.end()

    def begin(self, label: str) -> None:
        """Begin a recording of the activity ``label``.

        Raises:
            ConfigError: The label is not allowed.

        """
        with self._lock:
            self._label = check_label(label)
            for device in self.devices.values():
                device.samples = device.gaps = device.late = 0
                device.seconds = 0.0
                device.rejected.clear()

    def end(self) -> list[RecordedFile]:
        """End the recording, and return its files.

        Raises:
            DatasetError: A file could not be written.

        """
        with self._lock:
            self._label = None
            for device in self.devices.values():
                self._close_file(device)
            finished, self._finished = self._finished, []
        self.raise_failure()
        return finished

    def raise_failure(self) -> None:
        """Raise DatasetError if a file could not be written. The recording has then ended."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise DatasetError(str(failure)) from failure

    def silent_devices(self) -> dict[str, float]:
        """Return the devices without new samples for at least ``SILENT_S``, and for how many seconds."""
        now_s = self._clock()
        silence_s = {name: now_s - device.last_received_s for name, device in self.devices.items()}
        return {name: seconds for name, seconds in silence_s.items() if seconds >= SILENT_S}

    def status_lines(self) -> list[str]:
        """Describe the recording so far, one line for each device."""
        with self._lock:
            return [f"{name}: {device.status_line()}" for name, device in self.devices.items()]

    # --- in the network thread -----------------------------------------------------------------

    def receive(self, topic: str, payload: bytes, retained: bool) -> None:
        """Write the samples of a message, if something is being recorded."""
        message = Message(topic, payload, self._clock(), retained)
        name = self._decoder.template.device(topic)
        if name not in self.devices:
            return
        with self._lock:
            try:
                self._receive(name, self.devices[name], message)
            except (OSError, DatasetError) as error:
                self._label, self._failure = None, error

    def _receive(self, name: str, device: RecordedDevice, message: Message) -> None:
        batch, rejections = self._decoder.decode([message])
        gyro = not (rejections and rejections[0].reason == "gyroscope")
        if not gyro:
            batch, rejections = self._decoder_without_gyro.decode([message])
        for rejection in rejections:
            if rejection.reason != "retained":
                device.rejected[rejection.reason] += 1
                device.last_rejection = rejection.detail
        for k, sender in enumerate(batch.devices):  # one message may hold several stretches, and a watch beside a phone
            if sender == name:
                part = batch if len(batch) == 1 else batch.select(np.arange(len(batch)) == k)
                self._take(name, device, part, message.arrival_s, gyro=gyro)

    def _take(self, name: str, device: RecordedDevice, batch: SampleBatch, arrival_s: float, *, gyro: bool) -> None:
        """Write the samples of a batch of one message."""
        try:
            converted = device.unit.convert(batch)
        except RejectError as error:
            device.rejected[error.reason] += 1
            device.last_rejection = error.detail
            return
        if converted is None:
            return
        batch = converted
        timeline, stats = device.timeline, device.timeline.stats
        before, nominal_ns = replace(stats), float(timeline.clock.nominal_ns[0])
        accepted = timeline.feed(_ROW, batch)
        device.late += stats.samples_late - before.samples_late
        device.gaps += stats.gaps - before.gaps
        device.rejected.update({"rate": 1} if stats.samples_rate > before.samples_rate else {})
        if not len(accepted.row):
            return
        device.received, device.last_received_s = True, arrival_s
        if self._label is None:
            return
        if device.file is not None and (timeline.clock.nominal_ns[0] != nominal_ns or device.file.gyro != gyro):
            # A file has one rate. If the rate was measured, the times written so far were wrong from the beginning.
            wrong = stats.rates_measured > before.rates_measured and device.file.samples < MEASURE_MAX_SAMPLES
            self._close_file(device, keep=not wrong)
        # Usually one message; two if the one before was far ahead of its clock and has waited for this one.
        for k in range(len(accepted.row)):
            first, count = int(accepted.first[k]), int(accepted.count[k])
            index = np.arange(count) + accepted.missing[k]
            t_ns = accepted.t_ns[k] + np.rint(index * accepted.period_ns[k]).astype(np.int64)
            if accepted.restart[k] and device.file is not None and device.file.is_after(int(t_ns[0])):
                self._close_file(
                    device, keep=True
                )  # the clock of the device was set back, and times in a file increase
            if device.file is None:
                device.file = _OpenFile(self._new_path(name), name, self._label, gyro=gyro)
            written = device.file.write(t_ns, accepted.samples[first : first + count])
            device.samples += written
            device.late += count - written

    def _close_file(self, device: RecordedDevice, *, keep: bool = True) -> None:
        if device.file is None:
            return
        if keep:
            device.seconds += device.file.seconds
        else:
            device.samples -= device.file.samples
        finished, device.file = device.file.close(keep=keep), None
        self._finished += [finished] if finished else []

    def _new_path(self, device: str) -> Path:
        """Return a path at which there is no file yet: SUBJECT_DEVICE_TIME.csv, with a number if necessary."""
        start = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock()))
        name = f"{self.subject}_{_UNSAFE.sub('-', device)}_{start}"
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        return next(path for name in names if not (path := self._out / f"{name}.csv").exists())
