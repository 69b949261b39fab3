"""Partitions of the devices, for more devices than one worker can serve.

The broker assigns every device to one of a fixed number of partitions, by a hash of its name. Each partition is served
by one worker, so that all messages of a device reach the worker that holds its state: by its home while that is there,
otherwise by another worker.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from harstream.errors import ConfigError

MAX_PARTITIONS = 65_536
#: In place of a worker's number: the number at the end of its host name, as a StatefulSet numbers its pods.
AUTO = "auto"


def parse(text: str) -> tuple[int, ...]:
    """Parse a list of partitions such as ``0-7,12`` and return it sorted.

    Raises:
        ConfigError: It is not such a list, or a partition is too large.

    """
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part)
        first, last = (0, -1) if match is None else (int(match[1]), int(match[2] or match[1]))
        if last < first:
            raise ConfigError(f"partitions: {text!r}: expected a number or a range such as 0-7, got {part.strip()!r}")
        numbers.update(range(first, last + 1))
    if max(numbers) >= MAX_PARTITIONS:
        raise ConfigError(f"partitions: {text!r}: expected numbers below {MAX_PARTITIONS}, got {max(numbers)}")
    return tuple(sorted(numbers))


def to_text(partitions: Iterable[int]) -> str:
    """Return a list of partitions such as ``0,4,8``, which ``parse`` reads, sorted; "" for none."""
    return ",".join(map(str, sorted(partitions)))


def parse_worker(worker: str, count: int, host: str) -> tuple[int, int]:
    """Parse the number of a worker, counted from 0, and the number of workers.

    Args:
        worker: Text such as ``3/8``; ``auto/8`` takes the number from ``host``.
        count: Number of partitions.
        host: Host name, such as ``harstream-3``.

    Raises:
        ConfigError: ``worker`` is malformed, its number is out of range, or a worker would have no partition.

    """
    match = re.fullmatch(r"(\d{1,5}|auto)/(\d{1,5})", worker)
    if match is None:
        raise ConfigError(f"worker: {worker!r}: expected NUMBER/WORKERS such as 3/8, or {AUTO}/8")
    number, workers = match[1], int(match[2])
    if number == AUTO:
        ordinal = re.search(r"\d+$", host)
        if ordinal is None:
            raise ConfigError(
                f"worker: {worker!r} needs a host name that ends with a number, got {host!r}; "
                f"set the number instead of {AUTO}"
            )
        number = ordinal[0]
    if not int(number) < workers:
        raise ConfigError(f"worker: {worker!r}: expected a number from 0 to {workers - 1}, got {number}")
    if not workers <= count <= MAX_PARTITIONS:
        raise ConfigError(
            f"worker: {worker!r}: expected {workers} to {MAX_PARTITIONS} partitions, one for each worker, got {count}"
        )
    return int(number), workers


def homes(number: int, workers: int, count: int) -> tuple[int, ...]:
    """Return the partitions whose home is worker ``number``: every N-th, from its own number on."""
    return tuple(range(number, count, workers))


def owner(partition: int, workers: int, alive: Collection[int]) -> int | None:
    """Return the worker that is to serve a partition: its home, or the next living one of its own order.

    The orders differ, so that the partitions of a lost worker are spread evenly over the others, and those of living
    workers stay where they are.

    Args:
        partition: Number of the partition.
        workers: Number of workers, living or not.
        alive: Numbers of the living workers.

    Returns:
        Number of the worker; None if none is alive.

    """
    home = partition % workers
    if home in alive:
        return home
    others = workers - 1
    order = ((home + 1 + (partition // workers + step) % others) % workers for step in range(others))
    return next((number for number in order if number in alive), None)
