"""Rejected messages: a line in the log now and then, and what was rejected of each device."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harstream.core.problems import Incident, Problem
from harstream.wire.reject import Rejection
from harstream.wire.topics import escape_unprintable

log = logging.getLogger("harstream")

_LOG_EVERY_S = 10.0
#: Length to which topic and detail are cut: both may repeat what a device sent.
_MAX_CHARACTERS = 300
#: Devices of which rejected messages are remembered, and which one line counts; the ones rejected last stay.
MAX_DEVICES = 10_000
#: Reasons that are remembered of all these devices together, each with a text of up to _MAX_CHARACTERS.
MAX_REASONS = 20_000
#: Problem of a device whose messages are rejected for a reason. Other reasons are no problem of the device's signal.
PROBLEM_OF_REASON = {"gyroscope": Problem.GYROSCOPE, "time": Problem.STAMPS, "rate": Problem.RATE}
_MASK_OF_REASON = {reason: int(problem) for reason, problem in PROBLEM_OF_REASON.items()}  # plain numbers are faster


class RejectionLog:
    """Log of rejected messages: one line now and then, however many are rejected.

    Each line shows one rejection in full, if possible one of a device and reason that no line has shown yet.

    Args:
        where: Beginning of each line.

    """

    def __init__(self, where: str = "") -> None:
        self._where = where
        self._shown: set[tuple[str, str]] = set()  # device and reason
        self._next: Rejection | None = None  # the last one since the last line that was not shown yet
        self._counts: Counter[str] = Counter()  # by reason, since the last line
        self._devices: set[str] = set()  # since the last line
        self._next_s = 0.0  # monotonic clock

    def add(self, rejections: Sequence[Rejection]) -> None:
        """Count rejections. If a line is due, log the counts by reason and one rejection in full."""
        self._counts.update(rejection.reason for rejection in rejections)
        if len(self._devices) < MAX_DEVICES:
            self._devices.update(rejection.device for rejection in rejections if rejection.device)
        self._next = next((one for one in reversed(rejections) if self._is_new(one)), self._next)
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + _LOG_EVERY_S
        last, self._next = self._next or rejections[-1], None
        if len(self._shown) >= MAX_DEVICES:
            self._shown.clear()
        self._shown.add((last.device, last.reason))
        log.warning(
            "%srejected messages%s, by reason: %s. An example (%s) is %son topic %r: %s",
            self._where,
            f" of {len(self._devices)} devices" if self._devices else "",
            ", ".join(f"{reason} {count}" for reason, count in self._counts.most_common()),
            last.reason,
            f"of device {last.device!r} " if last.device else "",
            last.topic[:_MAX_CHARACTERS],
            _shown(last.detail),
        )
        self._counts.clear()
        self._devices.clear()

    def _is_new(self, rejection: Rejection) -> bool:
        return (rejection.device, rejection.reason) not in self._shown


@dataclass(frozen=True, slots=True)
class Rejected:
    """Messages of one device that were rejected for one reason."""

    reason: str
    count: int
    first_s: float  # seconds since the epoch
    last_s: float  # seconds since the epoch
    detail: str  # of the newest
    last_monotonic_s: float

    @property
    def problem(self) -> Problem | None:
        """Problem of the device that the reason shows."""
        return PROBLEM_OF_REASON.get(self.reason)

    @property
    def text(self) -> str:
        """Line for people."""
        messages = "message" if self.count == 1 else f"{self.count} messages"
        return f"{messages} rejected ({self.reason}): {self.detail}"


class RejectedDevices:
    """Devices of which messages were rejected, also those without any good message. Bounded; it belongs to one thread.

    Each reason of a device is forgotten when no further message was rejected for it for a while.
    """

    def __init__(self) -> None:
        self._devices: dict[str, dict[str, Rejected]] = {}  # to reason; the device rejected last is the last
        self._n_reasons = 0  # of all devices

    def __len__(self) -> int:
        return len(self._devices)

    def add(self, rejections: Sequence[Rejection], epoch_s: float, monotonic_s: float) -> list[Incident]:
        """Note rejections, and return the problems of devices that begin with them."""
        incidents = []
        for rejection in rejections:
            if not rejection.device:
                continue
            reasons = self._devices.pop(rejection.device, {})
            before = reasons.get(rejection.reason)
            self._n_reasons += before is None
            reasons[rejection.reason] = now = Rejected(
                rejection.reason,
                1 if before is None else before.count + 1,
                epoch_s if before is None else before.first_s,
                epoch_s,
                _shown(rejection.detail),
                monotonic_s,
            )
            self._devices[rejection.device] = reasons
            if before is None and now.problem is not None:
                incidents.append(Incident(rejection.device, now.problem, now.text))
        while len(self._devices) > MAX_DEVICES or self._n_reasons > MAX_REASONS:
            self._n_reasons -= len(self._devices.pop(next(iter(self._devices))))
        return incidents

    def forget(self, before_s: float) -> None:
        """Forget every reason for which no message was rejected since the monotonic time ``before_s``."""
        for device, reasons in list(self._devices.items()):
            for reason, rejected in list(reasons.items()):
                if rejected.last_monotonic_s < before_s:
                    del reasons[reason]
                    self._n_reasons -= 1
            if not reasons:
                del self._devices[device]

    def masks(self) -> dict[str, int]:
        """Return the mask of the problems of each device that has one."""
        masks = {device: problem_mask(reasons.values()) for device, reasons in self._devices.items()}
        return {device: mask for device, mask in masks.items() if mask}

    def get(self, device: str) -> Mapping[str, Rejected]:
        """Return what was rejected of a device, by reason."""
        return self._devices.get(device, {})

    def snapshot(self) -> dict[str, tuple[Rejected, ...]]:
        """Return what was rejected of each device, in order of the last rejection."""
        return {device: tuple(reasons.values()) for device, reasons in self._devices.items()}


def _shown(detail: str) -> str:
    """Return a detail that fits a line and cannot disturb a terminal."""
    return escape_unprintable(detail[:_MAX_CHARACTERS])


def problem_mask(rejected: Iterable[Rejected]) -> int:
    """Return the mask of the problems that rejected messages show."""
    mask = 0
    for one in rejected:
        mask |= _MASK_OF_REASON.get(one.reason, 0)
    return mask
