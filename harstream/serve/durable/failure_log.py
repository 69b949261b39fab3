"""Log of writes that fail again and again."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger("harstream")

#: Failed writes are logged this often, seconds.
_LOG_EVERY_S = 60.0


class FailureLog:
    """Log of the failures of one kind of write, one line a minute while they last and one at their end."""

    def __init__(self, path: Path, consequence: str, monotonic: Callable[[], float]) -> None:
        self._path, self._consequence, self._monotonic = path, consequence, monotonic
        self._logged_s = -math.inf

    def add(self, error: OSError) -> None:
        """Note a failure."""
        if self._monotonic() - self._logged_s >= _LOG_EVERY_S:
            self._logged_s = self._monotonic()
            log.error("state-dir: %s: %s; %s", self._path, error.strerror or error, self._consequence)

    def end(self) -> None:
        """Note that it has succeeded."""
        if self._logged_s > -math.inf:
            self._logged_s = -math.inf
            log.info("state-dir: %s: works again", self._path)
