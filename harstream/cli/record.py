"""`harstream record`."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harstream.cli import options

if TYPE_CHECKING:
    from harstream.mqtt.urls import BrokerSettings
    from harstream.record import Recorder
    from harstream.wire.topics import TopicTemplate

_REFRESH_S = 0.25  # between two live counts on a terminal
_LINE_S = 5.0  # between two of them elsewhere, such as in a file
_TICK_S = 0.05  # between two looks at the recorder and the keyboard


@click.command()
@options.broker
@click.option(
    "--device",
    "devices",
    multiple=True,
    required=True,
    help="Name of the device to record; may be given several times.",
)
@click.option(
    "--subject",
    required=True,
    help="Name of the subject, in letters, digits, - and . only.",
    metavar="NAME",
)
@click.option(
    "--label", show_default="asked for before each recording", help="Activity of the subject.", metavar="NAME"
)
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder of the csv files.")
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    show_default="until Enter",
    help="Seconds of a recording.",
)
@click.option(
    "--countdown", type=click.IntRange(min=0), default=3, show_default=True, help="Seconds before a recording begins."
)
@options.topic
@options.payload
@click.option(
    "--rate",
    type=click.FloatRange(1, 2000),
    default=50.0,
    show_default=True,
    help="Sample rate in Hz of devices that do not announce it, until it is measured.",
)
@options.units
def record(
    broker: BrokerSettings,
    devices: Sequence[str],
    subject: str,
    label: str | None,
    out: Path,
    duration: float | None,
    countdown: int,
    topic: str,
    payload: str,
    fields: str | None,
    rate: float,
    acc_unit: str,
    gyro_unit: str,
) -> None:
    """Record live devices with a label into csv files, for training and evaluation.

    Each recording of a device becomes a file SUBJECT_DEVICE_TIME.csv with the columns t (seconds), ax, ay, az (g),
    gx, gy, gz (rad/s) and label; `--data csv:DIR` reads the folder, and `harstream data inspect csv:DIR` tells what is
    understood of it.
    """
    from harstream.record import Recorder, check_label
    from harstream.signals import on_stop
    from harstream.wire.samples import Units
    from harstream.wire.topics import TopicTemplate

    if label is not None:
        check_label(label)
    template = TopicTemplate(topic)
    recorder = Recorder(
        broker,
        broker.name_client("harstream-record"),
        template,
        devices,
        subject,
        out,
        units=Units(acc_unit, gyro_unit),
        payload=options.payload_config(payload, fields, template),
        rate_hz=rate,
    )
    stop = threading.Event()
    on_stop(lambda _: stop.set())
    recorder.open()
    try:
        _Session(recorder, template, str(broker.url), duration, countdown, stop).run(label)
    finally:
        recorder.close()


class _Session:
    """Recordings one after another: ask for a label, count down, record, and begin again.

    Args:
        recorder: The open recorder.
        template: Topics of the samples, for messages.
        broker: Address of the broker, for messages.
        duration_s: Length of a recording in seconds; None: until Enter.
        countdown_s: Seconds between the choice of a label and its recording.
        stop: Set by a signal; ends everything in order.

    """

    def __init__(
        self,
        recorder: Recorder,
        template: TopicTemplate,
        broker: str,
        duration_s: float | None,
        countdown_s: int,
        stop: threading.Event,
    ) -> None:
        self._recorder = recorder
        self._template = template
        self._broker = broker
        self._duration_s = duration_s
        self._countdown_s = countdown_s
        self._stop = stop
        self._keyboard = _Keyboard(stop)
        self._reported: set[str] = set()  # silent devices that a message has named

    def run(self, label: str | None) -> None:
        """Record once with ``label``, or, if it is None, with each label that the user enters."""
        self._await_devices()
        for chosen in self._labels() if label is None else [label]:
            self._count_down(chosen)
            if not self._stop.is_set():
                self._record(chosen)

    def _await_devices(self) -> None:
        """Wait for a message of every device, so that a wrong name is noticed before anybody moves."""
        names = ", ".join(self._recorder.devices)
        click.echo(f"waiting for {names} at {self._broker}", err=True)
        while not self._stop.is_set() and not all(device.received for device in self._recorder.devices.values()):
            self._report_silent()
            self._stop.wait(_TICK_S)
        if not self._stop.is_set():
            for name, state in self._recorder.devices.items():
                unit = f", accelerations in {state.unit.name}" if state.unit.name else ""
                click.echo(f"{name} is sending: {state.rate_hz:.1f} samples/s{unit}", err=True)

    def _labels(self) -> Iterator[str]:
        """Ask for labels until the answer is empty; yield those that are valid."""
        from harstream.errors import ConfigError
        from harstream.record import check_label

        while not self._stop.is_set():
            self._keyboard.discard()
            click.echo("label (none: end): ", nl=False, err=True)
            label = self._keyboard.read_line()
            if not label:
                return
            try:
                yield check_label(label)
            except ConfigError as error:
                click.echo(str(error), err=True)

    def _count_down(self, label: str) -> None:
        for left in range(self._countdown_s, 0, -1):
            if self._stop.is_set():
                return
            click.echo(f"{label} in {left}", err=True)
            self._stop.wait(1.0)

    def _record(self, label: str) -> None:
        self._recorder.begin(label)
        self._keyboard.discard()
        # If a recording ends by itself, a line from a pipe is the next label and does not end the recording.
        by_key = self._duration_s is None or self._keyboard.terminal
        click.echo(f"recording {label}" + ("; Enter ends it" if by_key else ""), err=True)
        began = shown = time.monotonic()
        while not self._stop.is_set() and not (by_key and self._keyboard.poll() is not None):
            now = time.monotonic()
            left = _TICK_S if self._duration_s is None else began + self._duration_s - now
            if left <= 0:
                break
            self._recorder.raise_failure()
            self._report_silent()
            if now - shown >= (_REFRESH_S if sys.stderr.isatty() else _LINE_S):
                shown = now
                self._show()
            self._stop.wait(min(_TICK_S, left))
        recorded = self._recorder.end()
        self._show(last=True)
        for file in recorded:
            click.echo(f"wrote {file.path}: {file.label}, {file.samples} samples, {file.seconds:.1f} s")
        if not recorded:
            click.echo(f"no sample of {label} arrived; nothing was recorded", err=True)

    def _show(self, *, last: bool = False) -> None:
        """Write the live count: on a terminal over the line before, elsewhere as a new line."""
        lines = self._recorder.status_lines()
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{'  |  '.join(lines)}", nl=last, err=True)
        else:
            click.echo("\n".join(lines), err=True)

    def _report_silent(self) -> None:
        """Write once for each silence of a device what is awaited, and on which topic."""
        silent = self._recorder.silent_devices()
        for name, seconds in silent.items():
            if name not in self._reported:
                state = self._recorder.devices[name]
                reason = f"; the last message was rejected: {state.last_rejection}" if state.last_rejection else ""
                reason = reason or (f"; {state.late} samples came late" if state.late else "")
                topic = self._template.topic(name)
                line = f"no samples from {name} for {seconds:.0f} s on {topic} at {self._broker}{reason}"
                click.echo(("\r\x1b[K" if sys.stderr.isatty() else "") + line, err=True)
        self._reported = set(silent)


class _Keyboard:
    """Lines from standard input, read without blocking.

    `input` is no help: the end of a recording could not interrupt it, and `select` does not see its buffer.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._buffer = b""
        self._closed = sys.stdin is None or sys.stdin.closed
        self.terminal = not self._closed and sys.stdin.isatty()

    def poll(self, timeout_s: float = 0.0) -> str | None:
        """Return the next line, or None if none comes within ``timeout_s`` seconds."""
        if not self._is_readable():
            self._stop.wait(timeout_s)
            return None
        if b"\n" not in self._buffer and not self._closed and select.select([sys.stdin], [], [], timeout_s)[0]:
            data = os.read(sys.stdin.fileno(), 4096)
            self._closed = not data
            self._buffer += data if data else b"\n" * bool(self._buffer)
        line, end, rest = self._buffer.partition(b"\n")
        if not end:
            return None
        self._buffer = rest
        return line.decode(errors="replace").strip()

    def _is_readable(self) -> bool:
        """Return False in the background of a terminal, whose keys are for others: reading them stops the process."""
        try:
            return not self.terminal or os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
        except OSError:  # it is not the terminal that controls this process
            return True

    def read_line(self) -> str:
        """Wait for the next line and return it; empty at the end of the input or when a signal stops the command."""
        while not self._stop.is_set():
            line = self.poll(_TICK_S)
            if line is not None:
                return line
            if self._closed:
                break
        click.echo(err=True)
        return ""

    def discard(self) -> None:
        """Throw away lines that were typed before a question was asked. Lines from a pipe stay."""
        while self.terminal and self.poll() is not None:
            pass
