"""`harstream record`."""

from __future__ import annotations

import os
import secrets
import select
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harstream.cli import broker as broker_options
from harstream.config import DEFAULT_TOPIC
from harstream.wire.payloads import ACC_UNITS, GYRO_UNITS

if TYPE_CHECKING:
    from harstream.record import Recorder
    from harstream.wire.topics import TopicTemplate

#: Seconds between two live counts, on a terminal and off it.
_REFRESH_S, _LINE_S = 0.25, 5.0
_TICK_S = 0.05


@click.command()
@broker_options.options
@click.option("--device", "devices", multiple=True, required=True, help="Device to record; may be given repeatedly.")
@click.option("--subject", required=True, help="Who wears it: letters, digits, - and . only.", metavar="NAME")
@click.option("--label", help="What the subject does. Without, it is asked for, again and again.", metavar="NAME")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder of the csv files.")
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds to record. Without, Enter ends a recording.",
)
@click.option(
    "--countdown", type=click.IntRange(min=0), default=3, show_default=True, help="Seconds before a recording."
)
@click.option("--topic", default=DEFAULT_TOPIC, show_default=True, help="Where samples come from.", metavar="TEMPLATE")
@click.option(
    "--rate",
    type=click.FloatRange(1, 2000),
    default=50.0,
    show_default=True,
    help="Samples per second of devices that do not tell, until it is measured.",
)
@click.option(
    "--acc-unit",
    type=click.Choice(list(ACC_UNITS)),
    default="g",
    show_default=True,
    help="Unit of accelerations that do not name one.",
)
@click.option(
    "--gyro-unit",
    type=click.Choice(list(GYRO_UNITS)),
    default="rad/s",
    show_default=True,
    help="Unit of angular velocities that do not name one.",
)
def record(
    broker: str,
    ca: Path | None,
    user: str | None,
    password_file: Path | None,
    devices: Sequence[str],
    subject: str,
    label: str | None,
    out: Path,
    duration: float | None,
    countdown: int,
    topic: str,
    rate: float,
    acc_unit: str,
    gyro_unit: str,
) -> None:
    """Record live devices with a label into csv files, to train and evaluate with.

    One file per device and label, named SUBJECT_DEVICE_TIME.csv; `--data csv:DIR` reads the folder.
    """
    from harstream.record import Recorder, check_label
    from harstream.signals import on_stop
    from harstream.wire.payloads import Units
    from harstream.wire.topics import TopicTemplate

    if label is not None:
        check_label(label)
    template = TopicTemplate(topic)
    settings = broker_options.settings(broker, ca, user, password_file)
    recorder = Recorder(
        settings,
        f"harstream-record-{secrets.token_hex(4)}",
        template,
        devices,
        subject,
        out,
        units=Units(acc_unit, gyro_unit),
        rate_hz=rate,
    )
    stop = threading.Event()
    on_stop(lambda _: stop.set())
    recorder.open()
    try:
        _Session(recorder, template, str(settings.url), duration, countdown, stop).run(label)
    finally:
        recorder.close()


class _Session:
    """One sitting at the prompt: label, countdown, recording, and again."""

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
        self._told: set[str] = set()  # the devices whose silence was told

    def run(self, label: str | None) -> None:
        self._await_devices()
        for chosen in self._labels() if label is None else [label]:
            self._count_down(chosen)
            if not self._stop.is_set():
                self._record(chosen)

    def _await_devices(self) -> None:
        """Until something was heard of every device, so that a mistaken name shows before anybody moves."""
        names = ", ".join(self._recorder.devices)
        click.echo(f"waiting for {names} at {self._broker}", err=True)
        while not self._stop.is_set() and not all(state.heard for state in self._recorder.devices.values()):
            self._tell_silent()
            self._stop.wait(_TICK_S)
        if not self._stop.is_set():
            for name, state in self._recorder.devices.items():
                click.echo(f"{name} is there: {state.rate_hz:.1f} samples/s", err=True)

    def _labels(self) -> Iterator[str]:
        """What is asked for at the prompt, until that is nothing."""
        from harstream.errors import ConfigError
        from harstream.record import check_label

        while not self._stop.is_set():
            self._keyboard.forget()
            click.echo("label (none: end): ", nl=False, err=True)
            label = self._keyboard.ask()
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
        self._keyboard.forget()
        # What is piped in names labels, where a recording ends by itself.
        by_key = self._duration_s is None or self._keyboard.terminal
        click.echo(f"recording {label}" + ("; Enter ends it" if by_key else ""), err=True)
        began = shown = time.monotonic()
        while not self._stop.is_set() and not (by_key and self._keyboard.line() is not None):
            now = time.monotonic()
            left = _TICK_S if self._duration_s is None else began + self._duration_s - now
            if left <= 0:
                break
            self._recorder.check()
            self._tell_silent()
            if now - shown >= (_REFRESH_S if sys.stderr.isatty() else _LINE_S):
                shown = now
                self._show()
            self._stop.wait(min(_TICK_S, left))
        recorded = self._recorder.end()
        self._show(last=True)
        for file in recorded:
            click.echo(f"wrote {file.path}: {file.label}, {file.samples} samples, {file.seconds:.1f} s")
        if not recorded:
            click.echo(f"nothing was recorded of {label}", err=True)

    def _show(self, *, last: bool = False) -> None:
        """The live count: one line that is written over, or, off a terminal, now and then a new one."""
        lines = self._recorder.status()
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{'  |  '.join(lines)}", nl=last, err=True)
        else:
            click.echo("\n".join(lines), err=True)

    def _tell_silent(self) -> None:
        """Once for every silence: what we are waiting for, and where."""
        silent = self._recorder.silent()
        for name, seconds in silent.items():
            if name not in self._told:
                state = self._recorder.devices[name]
                why = f"; the last message was rejected: {state.detail}" if state.detail else ""
                why = why or (f"; {state.late} samples came late" if state.late else "")
                line = f"nothing from {name} for {seconds:.0f} s: {self._template.topic(name)} at {self._broker}{why}"
                click.echo(("\r\x1b[K" if sys.stderr.isatty() else "") + line, err=True)
        self._told = set(silent)


class _Keyboard:
    """Lines from standard input, without waiting for one longer than is wanted.

    `input` could not be interrupted by the end of a recording, and what it has buffered `select` cannot see.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._buffer = b""
        self._closed = sys.stdin is None or sys.stdin.closed
        self.terminal = not self._closed and sys.stdin.isatty()

    def line(self, timeout_s: float = 0.0) -> str | None:
        """The next line, or None where there is none yet."""
        if b"\n" not in self._buffer and not self._closed and select.select([sys.stdin], [], [], timeout_s)[0]:
            data = os.read(sys.stdin.fileno(), 4096)
            self._closed = not data
            self._buffer += data if data else b"\n" * bool(self._buffer)
        line, end, rest = self._buffer.partition(b"\n")
        if not end:
            return None
        self._buffer = rest
        return line.decode(errors="replace").strip()

    def ask(self) -> str:
        """Wait for the next line; nothing where there will be none, or we are told to stop."""
        while not self._stop.is_set():
            line = self.line(_TICK_S)
            if line is not None:
                return line
            if self._closed:
                break
        click.echo(err=True)
        return ""

    def forget(self) -> None:
        """What was typed before it was asked for."""
        while self.terminal and self.line() is not None:
            pass
