"""Which partitions of the devices a worker serves, where one machine is not enough.

The broker puts every device on a fixed one of a fixed number of partitions, as a hash of its name says, and each
partition is served by one worker: what a worker knows of a device stays with it.
"""

from __future__ import annotations

import re

from harstream.errors import ConfigError

MAX_PARTITIONS = 65_536
#: In place of a worker's number: the one that its host's name ends with, as that of a StatefulSet's pod does.
AUTO = "auto"


def parse(text: str) -> tuple[int, ...]:
    """Partitions such as ``0-7,12``, in order. Raises ConfigError."""
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part)
        first, last = (0, -1) if match is None else (int(match[1]), int(match[2] or match[1]))
        if last < first:
            raise ConfigError(f"partitions: {text!r}: {part.strip()!r} is not a number or a range such as 0-7")
        numbers.update(range(first, last + 1))
    if max(numbers) >= MAX_PARTITIONS:
        raise ConfigError(f"partitions: {text!r}: there are no more than {MAX_PARTITIONS}")
    return tuple(sorted(numbers))


def of_worker(worker: str, count: int, host: str) -> tuple[int, ...]:
    """The share of worker ``3/8``, the fourth of eight, in ``count`` partitions: every eighth, from 3 on.

    ``auto/8`` is the worker whose number ``host`` ends with. Raises ConfigError.
    """
    match = re.fullmatch(r"(\d{1,5}|auto)/(\d{1,5})", worker)
    if match is None:
        raise ConfigError(f"worker: {worker!r} is not NUMBER/WORKERS, such as 3/8, or {AUTO}/8")
    number, workers = match[1], int(match[2])
    if number == AUTO:
        ordinal = re.search(r"\d+$", host)
        if ordinal is None:
            raise ConfigError(f"worker: {worker!r}: the host's name {host!r} ends with no number")
        number = ordinal[0]
    if not int(number) < workers <= count <= MAX_PARTITIONS:
        raise ConfigError(
            f"worker: {worker!r} of {count} partitions: numbers begin with 0, and no worker may be left without one"
        )
    return tuple(range(int(number), count, workers))
