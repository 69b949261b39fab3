"""Reactions to the signals that stop the program or reload its settings."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType


def on_stop(stop: Callable[[signal.Signals], None], *more: signal.Signals) -> None:
    """Call ``stop`` with the signal when SIGTERM, SIGINT or one of ``more`` arrives. Ignored signals stay ignored.

    ``stop`` runs in a thread of its own. A signal handler interrupts the main thread anywhere; if that thread were
    waiting for an event and the handler set the same event, it would wait for itself.
    """

    def handle(number: int, _: FrameType | None) -> None:
        threading.Thread(target=stop, args=(signal.Signals(number),), name="stop", daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT, *more):
        if signal.getsignal(number) is not signal.SIG_IGN:  # ignored under nohup, for example
            signal.signal(number, handle)


def on_reload(reload: Callable[[], None]) -> None:
    """Call ``reload`` in a thread of its own when SIGHUP arrives, unless SIGHUP is ignored, as under nohup."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=reload, name="hup", daemon=True).start())
