"""A stop that was asked for by SIGINT or SIGTERM, and takes effect between two steps of long work.

An exception that a signal handler raises can come up anywhere: inside a library that ignores it, or half-way through
writing a file. So the handler only takes note, and the work calls ``check`` where it may end.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_asked: signal.Signals | None = None


class Interrupted(KeyboardInterrupt):
    """The program was asked to stop; ``number`` is the signal."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


def check() -> None:
    """Raise Interrupted if the program was asked to stop while ``watched`` is active."""
    if _asked is not None:
        raise Interrupted(_asked)


@contextmanager
def watched() -> Iterator[None]:
    """Take note of SIGINT and SIGTERM while the context is active; a second signal ends the program at once.

    Ignored signals stay ignored. Only the main thread can use this.
    """
    global _asked
    numbers = [one for one in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(one) is not signal.SIG_IGN]
    before = {number: signal.getsignal(number) for number in numbers}

    def ask(number: int, _: FrameType | None) -> None:
        global _asked
        _asked = signal.Signals(number)
        for one in numbers:
            signal.signal(one, signal.SIG_DFL)

    for number in numbers:
        signal.signal(number, ask)
    try:
        yield
        check()  # a stop that came after the last step
    finally:
        _asked = None
        for number, handler in before.items():
            signal.signal(number, handler)
