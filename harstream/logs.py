"""Logging to standard error, as text for people or as JSON for programs."""

from __future__ import annotations

import json
import logging
import sys
import time


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


def set_up(level: str, log_format: str) -> None:
    """Log to standard error at ``level``, in the format ``text`` or ``json``."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
