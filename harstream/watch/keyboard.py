"""Keys that are pressed at a terminal, one at a time and without Enter."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from types import TracebackType
from typing import Any, Self

from harstream.watch.view import BACKSPACE, DOWN, END, ENTER, ESCAPE, HOME, PAGE_DOWN, PAGE_UP, UP

#: Sequences of xterm and of those that follow it.
_SEQUENCES = {
    "[A": UP, "OA": UP, "[B": DOWN, "OB": DOWN, "[5~": PAGE_UP, "[6~": PAGE_DOWN,
    "[H": HOME, "OH": HOME, "[1~": HOME, "[F": END, "OF": END, "[4~": END,
}  # fmt: skip
_CHARACTERS = {"\r": ENTER, "\n": ENTER, "\x7f": BACKSPACE, "\b": BACKSPACE}


def split(text: str) -> list[str]:
    """Return the keys in what was read from a terminal, by the names of `view`. Unknown sequences are left out."""
    keys, rest = [], text
    while rest:
        if rest[0] != "\x1b":
            keys.append(_CHARACTERS.get(rest[0], rest[0]))
            rest = rest[1:]
        elif len(rest) == 1 or rest[1] not in "[O":
            keys.append(ESCAPE)
            rest = rest[1:]
        else:
            end = next((i for i in range(2, len(rest)) if rest[i].isalpha() or rest[i] == "~"), len(rest) - 1)
            if (key := _SEQUENCES.get(rest[1 : end + 1])) is not None:
                keys.append(key)
            rest = rest[end + 1 :]
    return keys


class Keyboard:
    """Keys of standard input, if that is a terminal. It is set back in the end."""

    def __init__(self) -> None:
        self._file = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else -1
        self._before: list[Any] | None = None

    @property
    def is_there(self) -> bool:
        """True if keys can be read."""
        return self._file >= 0

    def read(self, timeout_s: float) -> list[str]:
        """Return the keys that were pressed. Wait for the first one at most ``timeout_s``."""
        if not select.select([self._file], [], [], timeout_s)[0]:
            return []
        data = os.read(self._file, 1024)
        if not data:  # the terminal is gone
            self._file = -1
        return split(data.decode(errors="replace"))

    def __enter__(self) -> Self:
        if self.is_there:
            self._before = termios.tcgetattr(self._file)
            tty.setcbreak(self._file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._before is not None:
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._before)
