"""A stop by a signal: noted at any time, and raised only where the work looks."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import weakref

import pytest

from harstream import interruption
from harstream.progress import track_progress


class Thing:
    """Something that a weak reference can point to."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_raised_at_the_next_step_and_nowhere_else(number: signal.Signals) -> None:
    done: list[int] = []
    before = signal.getsignal(number)

    def work() -> None:
        with interruption.watched():
            for item in track_progress(range(9), "working", lambda *_: None):
                if item == 3:
                    signal.raise_signal(number)
                done.append(item)

    with pytest.raises(interruption.Interrupted) as stop:
        work()
    assert done == [0, 1, 2, 3]
    assert stop.value.number == number
    assert signal.getsignal(number) is before
    interruption.check()  # the next piece of work is not stopped


def test_a_stop_within_a_callback_that_ignores_exceptions_is_not_lost() -> None:
    called: list[object] = []

    def ask(reference: object) -> None:
        called.append(reference)
        signal.raise_signal(signal.SIGINT)

    def work() -> None:
        thing = Thing()
        reference = weakref.ref(thing, ask)
        with interruption.watched():
            del thing
            gc.collect()
            assert called == [reference]
            interruption.check()

    with pytest.raises(interruption.Interrupted):
        work()


def test_a_stop_after_the_last_step_is_raised_at_the_end() -> None:
    with pytest.raises(interruption.Interrupted), interruption.watched():
        signal.raise_signal(signal.SIGTERM)


def test_a_second_signal_ends_the_program_at_once() -> None:
    code = (
        "import os, signal\n"
        "from harstream import interruption\n"
        "with interruption.watched():\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('still here', flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (-signal.SIGINT, "")


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruption.watched():
            signal.raise_signal(signal.SIGINT)
            interruption.check()
    finally:
        signal.signal(signal.SIGINT, before)
