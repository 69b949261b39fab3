"""Being told to stop, or to read the settings again."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType


def on_stop(stop: Callable[[signal.Signals], None], *more: signal.Signals) -> None:
    """Call ``stop`` when SIGTERM or SIGINT comes, or one of ``more``; what is ignored, as under nohup, stays so.

    It is called in a thread of its own. A handler runs in the main thread wherever that happens to be, and
    setting an event there that the main thread is just waiting for would wait for itself.
    """

    def handle(number: int, _: FrameType | None) -> None:
        threading.Thread(target=stop, args=(signal.Signals(number),), name="stop", daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT, *more):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handle)


def on_reload(reload: Callable[[], None]) -> None:
    """Call ``reload`` when SIGHUP comes, in a thread of its own; unless that is ignored, as under nohup."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=reload, name="hup", daemon=True).start())
