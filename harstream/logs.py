"""Logging to standard error, as text for people or as JSON for programs. It never waits for whoever reads that."""

from __future__ import annotations

import atexit
import io
import json
import logging
import os
import select
import sys
import threading
import time
from collections import deque

#: Bytes of lines that may wait to be written, some thousand lines.
MAX_BYTES = 1024 * 1024
#: Bytes of a line; the rest is left out.
_MAX_LINE = 64 * 1024
#: Longest time that the end of the process waits for its last lines, seconds.
EXIT_S = 2.0
#: The same for ``sys.stderr.flush()``, which comes after a traceback: a process may end without its exit functions.
FLUSH_S = 0.2


class JsonFormatter(logging.Formatter):
    """Formatter that writes each log record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the JSON object: time in UTC, level, logger, message, and further fields of the record.

        ``extra={"fields": {...}}`` in a logging call adds fields, and an exception adds ``exception``.
        """
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        text = json.dumps(entry, ensure_ascii=False)
        return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


class LineWriter:
    """Thread that writes lines to a file descriptor, and the bounded queue before it.

    A pipe whose reader is stuck blocks who writes to it, and with a log, sooner or later, every thread. So only this
    thread writes. When too many lines wait, the oldest are dropped and counted.

    Args:
        fd: File descriptor; the writer uses it until the process ends.
        max_bytes: Bytes of lines that may wait.

    """

    def __init__(self, fd: int, max_bytes: int) -> None:
        self._fd, self._max_bytes = fd, max_bytes
        self._lines: deque[bytes] = deque()
        self._n_bytes = 0
        self._n_writing = 0  # lines that are being written
        self._dropped = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Number of lines that were not written: too many waited, or they could not be written."""
        return self._dropped

    def put(self, line: bytes) -> None:
        """Let a line be written, without waiting for it."""
        line = line if len(line) <= _MAX_LINE else line[:_MAX_LINE] + b" ...\n"
        with self._changed:
            self._lines.append(line)
            self._n_bytes += len(line)
            while self._n_bytes > self._max_bytes:
                self._n_bytes -= len(self._lines.popleft())
                self._dropped += 1
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until every line is written; return False if that takes longer than ``timeout_s``."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._lines and not self._n_writing, timeout_s)

    def _run(self) -> None:
        told = 0  # dropped lines that the log tells of
        while True:
            with self._changed:
                self._n_writing = 0
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines)
                text, self._n_writing = b"".join(self._lines), len(self._lines)
                self._lines.clear()
                self._n_bytes = 0
            try:
                while text:
                    text = text[self._write(text) :]
            except OSError:  # such as a full disk, or a pipe that nobody reads any more; later lines may succeed
                with self._changed:
                    self._dropped += self._n_writing
                continue
            if (dropped := self._dropped) > told:  # read once, since other threads count on
                logging.getLogger("harstream").warning(
                    "%d log lines were dropped, because standard error was not read in time or not writable",
                    dropped - told,
                )
                told = dropped

    def _write(self, text: bytes) -> int:
        """Write a part of a text, and return its length. Raise OSError if that is not possible."""
        try:
            return os.write(self._fd, text)
        except BlockingIOError:  # another program has made a terminal that we share non-blocking
            select.select([], [self._fd], [])
            return 0


class StandardError(io.TextIOBase):
    """Replacement of ``sys.stderr``, for what is written there beside the log: tracebacks, warnings, errors.

    Args:
        writer: Writes the lines.
        encoding: Encoding of the text.

    """

    errors = "backslashreplace"

    def __init__(self, writer: LineWriter, encoding: str) -> None:
        self._writer, self._encoding = writer, encoding
        self._begun = threading.local()  # beginning of a line of each thread, in ``text``

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Encoding of the text."""
        return self._encoding

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the file descriptor of standard error."""
        return 2

    def isatty(self) -> bool:
        """Return whether standard error is a terminal."""
        try:
            return os.isatty(2)
        except OSError:
            return False

    def write(self, text: str) -> int:
        """Write the whole lines in a text, and keep the rest until the line is complete or flushed."""
        if not isinstance(text, str):
            raise TypeError(f"write() takes a str, not {type(text).__name__}")
        lines, newline, rest = (getattr(self._begun, "text", "") + text).rpartition("\n")
        self._begun.text = rest
        if newline:
            self._writer.put(f"{lines}\n".encode(self._encoding, self.errors))
        return len(text)

    def flush(self) -> None:
        """Let the beginning of a line be written. Wait for it for a moment only."""
        if begun := getattr(self._begun, "text", ""):
            self._begun.text = ""
            self._writer.put(begun.encode(self._encoding, self.errors))
        self._writer.flush(FLUSH_S)


class _Handler(logging.Handler):
    """Handler that hands formatted records to a writer."""

    def __init__(self, writer: LineWriter, encoding: str) -> None:
        super().__init__()
        self._writer, self._encoding = writer, encoding

    def emit(self, record: logging.LogRecord) -> None:
        """Let a record be written."""
        try:
            self._writer.put(f"{self.format(record)}\n".encode(self._encoding, StandardError.errors))
        except Exception:
            self.handleError(record)


_writer: LineWriter | None = None  # of this process, from the first set_up on


def set_up(level: str, log_format: str) -> None:
    """Log to standard error at ``level``, in the format ``text`` or ``json``.

    From the first call on, neither the log nor anything else that Python writes to standard error waits for its reader.
    A later call changes level and format.
    """
    global _writer
    encoding = getattr(sys.__stderr__, "encoding", None) or "utf-8"
    if _writer is None:
        _writer = LineWriter(_own_standard_error(), MAX_BYTES)
        sys.stderr = StandardError(_writer, encoding)
        logging.captureWarnings(True)
        atexit.register(flush)
    handler = _Handler(_writer, encoding)
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _own_standard_error() -> int:
    """Return a file descriptor of standard error that stays, where others redirect theirs for a while; -1: closed."""
    try:
        return os.dup(2)
    except OSError:
        return -1


def flush(timeout_s: float = EXIT_S) -> None:
    """Wait until the lines so far are written, at most for ``timeout_s``."""
    if _writer is not None:
        _writer.flush(timeout_s)


def lines_dropped() -> int:
    """Return the number of lines that were not written to standard error."""
    return 0 if _writer is None else _writer.dropped
