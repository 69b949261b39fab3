"""`harstream record` against a broker, with and without a terminal."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from harstream import datasets
from harstream.simulate.source import sources

from ..constants import UNREACHABLE
from ..servers import Mosquitto, Process, wait_until


@pytest.fixture
def devices(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Mosquitto]:
    """Two wearables that walk, in messages of a tenth of a second."""
    arguments = ["--devices", "2", "--activity", "WALKING", "--samples-per-message", "5"]
    with Process("simulate", "--broker", mosquitto.address, *arguments, folder=tmp_path):
        yield mosquitto


class Terminal:
    """``python -m harstream record ...`` on a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        os.set_blocking(self._ours, False)
        command = [sys.executable, "-m", "harstream", "record", *arguments]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        self._output = b""

    @property
    def text(self) -> str:
        """Everything that the terminal has shown."""
        try:
            while data := os.read(self._ours, 65536):
                self._output += data
        except OSError:  # no more output yet, or the process has ended
            pass
        return self._output.decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait_for(self, text: str, times: int = 1) -> None:
        wait_until(lambda: self.text.count(text) >= times or self.process.poll() is not None, text)
        assert self.text.count(text) >= times, self.text

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    started = Terminal(*arguments)
    try:
        yield started
    finally:
        started.close()


def wait_for_samples(out: Path) -> None:
    """Wait until a file has about fifty samples."""
    wait_until(lambda: any(path.stat().st_size > 4000 for path in out.glob("*.csv")), "samples in a file")


def sent_samples(device: int, n: int) -> np.ndarray:
    """Return the first samples that a simulated device sends, rounded as in its JSON."""
    return np.round(sources(2, 0, activity="WALKING")[device - 1].read(n).astype(np.float64), 6).astype(np.float32)


def arguments(broker: Mosquitto, out: Path, *more: str, device: str = "sim-0001") -> list[str]:
    return ["--broker", broker.address, "--device", device, "--subject", "anna", "--out", str(out), *more]


def test_a_label_by_flag_and_a_duration_make_a_file_per_device_and_end(devices, tmp_path):
    out = tmp_path / "out"
    more = ["--device", "sim-0002", "--label", "WALKING", "--duration", "2", "--countdown", "1"]
    with Process("record", *arguments(devices, out, *more), folder=tmp_path) as process:
        assert process.exit_code() == 0, process.err
    assert "WALKING in 1\nrecording WALKING\n" in process.err
    for device in (1, 2):
        [recording] = [r for r in datasets.load(f"csv:{out}") if f"sim-000{device}" in r.name]
        assert (recording.subject, recording.rate_hz) == ("anna", 50.0)
        assert {segment.label for segment in recording.segments} == {"WALKING"}
        # The recording is one part of the sent samples: none is lost, repeated or changed.
        sent = sent_samples(device, 30_000)
        [at] = np.flatnonzero((sent == recording.samples[0]).all(axis=1))
        np.testing.assert_array_equal(recording.samples, sent[at : at + len(recording.samples)])
        assert f"wrote {out}/anna_sim-000{device}_" in process.out
        assert f": WALKING, {len(recording.samples)} samples, " in process.out


def test_at_the_prompt_labels_follow_one_another_each_until_enter(devices, tmp_path):
    out = tmp_path / "out"
    with terminal(*arguments(devices, out, "--countdown", "1")) as shown:
        for number, label in enumerate(["WALKING", "SITTING down"], 1):
            shown.wait_for("label (none: end): ", number)
            shown.type(f"{label}\n")
            shown.wait_for(f"recording {label}; Enter ends it")
            shown.wait_for(" samples, 50.0 Hz, 0 gaps, 0 late", 3 * number)  # the live count
            shown.type("\n")
            shown.wait_for(f": {label}, ")
        shown.wait_for("label (none: end): ", 3)
        shown.type("\n")
        wait_until(lambda: shown.process.poll() is not None, "the end")
        assert shown.process.returncode == 0
    recordings = datasets.load(f"csv:{out}")
    assert sorted(r.segments[0].label for r in recordings) == ["SITTING down", "WALKING"]


def test_piped_labels_are_recorded_one_after_another_and_a_bad_one_is_asked_for_again(devices, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "harstream", "record", *arguments(devices, out)]
    done = subprocess.run(
        [*command, "--duration", "1.5", "--countdown", "0"],
        input="WALKING\na,b\nRUNNING",
        capture_output=True,
        text=True,
        check=True,
    )
    assert "label: 'a,b'" in done.stderr
    assert sorted(r.segments[0].label for r in datasets.load(f"csv:{out}")) == ["RUNNING", "WALKING"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_and_the_samples_so_far_are_kept(devices, tmp_path, number):
    out = tmp_path / "out"
    with Process("record", *arguments(devices, out, "--label", "WALKING", "--countdown", "0"), folder=tmp_path) as it:
        wait_for_samples(out)
        it.send(number)
        assert it.exit_code() == 0, it.err
    assert "wrote " in it.out
    assert len(datasets.load(f"csv:{out}")) == 1


def test_killed_it_leaves_a_file_that_can_be_read(devices, tmp_path):
    out = tmp_path / "out"
    with Process("record", *arguments(devices, out, "--label", "WALKING", "--countdown", "0"), folder=tmp_path) as it:
        wait_for_samples(out)
        it.send(signal.SIGKILL)
        it.exit_code()
    [recording] = datasets.load(f"csv:{out}")
    assert len(recording.samples) > 20


def test_a_silent_device_is_named_with_topic_and_broker(mosquitto, tmp_path):
    with Process(
        "record", *arguments(mosquitto, tmp_path / "out", "--label", "X", device="nobody"), folder=tmp_path
    ) as process:
        process.wait_for(f" s on wearables/nobody/imu at mqtt://{mosquitto.address}")
        assert re.search(r"no samples from nobody for \d+ s on ", process.err)
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--subject", "a_b"], "subject: 'a_b'"),
        (["--label", "a,b"], "label: 'a,b'"),
        (["--label", "NA"], "label: 'NA': it stands for no label"),
        (["--device", "a/b"], "device: 'a/b'"),
        (["--topic", "x"], "topic: 'x'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, more, message):
    given = ["--broker", UNREACHABLE, "--device", "d", "--subject", "s", "--label", "L", "--out", str(tmp_path / "o")]
    with Process("record", *given, *more, folder=tmp_path) as process:
        assert process.exit_code() == 2
    assert process.err.startswith(f"harstream: {message}")
    assert process.err.count("\n") == 1


def test_without_a_broker_it_exits_with_4(tmp_path):
    given = ["--broker", UNREACHABLE, "--device", "d", "--subject", "s", "--label", "L", "--out", str(tmp_path / "o")]
    with Process("record", *given, folder=tmp_path) as process:
        assert process.exit_code() == 4
    assert f"broker mqtt://{UNREACHABLE}" in process.err


#: A session whose leader is in the foreground of a terminal with a line typed, and a child in the background of it.
SESSION = """
import os, sys, threading
from harstream.cli.record import _Keyboard
ours, theirs = os.openpty()
os.setsid()
terminal = os.open(os.ttyname(theirs), os.O_RDWR)
os.write(ours, b"x\\n")
def state(foreground):
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.dup2(terminal, 0)
        sys.stdin = open(0)
        ready.wait()
        os._exit(1 if _Keyboard(threading.Event()).poll(0.1) == "x" else 0)
    if foreground:
        os.setpgid(child, child)
        os.tcsetpgrp(terminal, child)
    ready.set()
    return os.waitpid(child, os.WUNTRACED)[1]
import multiprocessing
ready = multiprocessing.Event()
background = state(False)
ready.clear()
foreground = state(True)
print(os.WIFSTOPPED(background), os.waitstatus_to_exitcode(background), os.waitstatus_to_exitcode(foreground))
"""


def test_in_the_background_of_a_terminal_the_keyboard_is_left_to_others():
    done = subprocess.run([sys.executable, "-c", SESSION], capture_output=True, text=True, check=True)
    assert done.stdout == "False 0 1\n"  # not stopped; nothing read in the background, the line in the foreground
