"""Progress bar of commands that take a long time."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

_WIDTH = 24  # of the bar, in characters
_REFRESH_S = 0.1  # between two renderings on a terminal
_LINE_S = 10.0  # between two lines elsewhere
_ERASE_LINE = "\r\x1b[K"


class ProgressBar:
    """Progress of the steps of a command on standard error, with the time that the current step still needs.

    A terminal shows one line, which is overwritten, for each step. Elsewhere, such as in a log file, a line is written
    when a step begins and ends, and every ten seconds.

    Args:
        unit: Unit of the shown counts, such as ``" MB"``.
        scale: Steps per unit, such as 1e6 for bytes shown as MB.
        file: Where to write; standard error by default.
        clock: Source of monotonic time in seconds.

    """

    def __init__(
        self,
        unit: str = "",
        scale: float = 1,
        file: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._unit = unit
        self._scale = scale
        self._file = sys.stderr if file is None else file
        self._clock = clock
        self._terminal = self._file.isatty()
        self._line = ""  # of the current step; empty while there is none
        self._step: str | None = None
        self._ended = False  # whether everything of the step is done
        self._began_s = self._shown_s = 0.0
        self._began_at = 0  # what was done when the step began, such as by an earlier process

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, step: str, done: int, total: int, detail: str = "") -> None:
        """Show that ``done`` of ``total`` are done in ``step``. A new name begins a new line."""
        now = self._clock()
        begins = step != self._step
        if begins:
            self.close()
            self._step, self._ended, self._began_s, self._began_at = step, False, now, done
        self._line = self._format(step, done, total, detail, now)
        ends = done >= total and not self._ended
        self._ended = done >= total
        if begins or ends or now - self._shown_s >= (_REFRESH_S if self._terminal else _LINE_S):
            self._shown_s = now
            self._write(f"{_ERASE_LINE}{self._line}" if self._terminal else f"{self._line}\n")

    def print(self, text: str) -> None:
        """Write a line of text above the bar."""
        self._write(f"{_ERASE_LINE}{text}\n{self._line}" if self._terminal else f"{text}\n")

    def close(self) -> None:
        """Leave the line of the current step as it is. The next update begins a new one."""
        if self._terminal and self._step is not None:
            self._write(f"{_ERASE_LINE}{self._line}\n")
        self._step, self._line = None, ""

    def _format(self, step: str, done: int, total: int, detail: str, now: float) -> str:
        share = min(done / total, 1.0) if total else 1.0
        shown, of = (f"{count / self._scale:.0f}" for count in (done, total))
        parts = [f"{step:<24}", f"{shown}/{of}{self._unit}"]
        if self._terminal:
            parts.insert(1, f"[{'#' * round(share * _WIDTH):<{_WIDTH}}]")
        if self._began_at < done < total:
            left_s = (now - self._began_s) / (done - self._began_at) * (total - done)
            parts.append(f"{_duration(left_s)} left")
        elif done >= total:
            parts.append(f"in {_duration(now - self._began_s)}")
        line = "  ".join([*parts, *([detail] if detail else [])])
        # A line that wraps could not be overwritten.
        return line[: shutil.get_terminal_size().columns - 1] if self._terminal else line

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()


def _duration(seconds: float) -> str:
    """Return hours, minutes and seconds, such as 0:01:30."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
