"""Log of devices that have a problem, and of those for which there is no room."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from harstream.core.problems import Incident, Problem
from harstream.wire.topics import escape_unprintable

log = logging.getLogger("harstream")

#: Page whose sections explain the problems, each under the name of the problem.
GUIDE = "docs/how-to/troubleshoot.md"

#: A device is named again for a problem that lasts after this time.
REPEAT_AFTER_S = 3600.0
#: Devices named for one problem within _WINDOW_S. One line then counts the others, at most once within _WINDOW_S.
MAX_NAMED = 10
_WINDOW_S = 600.0
#: Devices often get a problem together, after an update or with their broker. Their number is logged when it is known.
_SETTLE_S = 20.0


class FullTableLog:
    """Log of devices that are turned away because as many have state as may: a line at first, and then one an hour.

    Args:
        where: Beginning of each line.

    """

    def __init__(self, where: str = "") -> None:
        self._where = where
        self._n_dropped = 0  # at the last report
        self._next_s = -math.inf

    def report(self, n_dropped: int, max_devices: int, device: str, now_s: float) -> None:
        """Log if samples were dropped since the last report.

        Args:
            n_dropped: Samples dropped since the start.
            max_devices: Limit on the devices.
            device: Newest device that was turned away.
            now_s: Monotonic time.

        """
        dropped, self._n_dropped = n_dropped > self._n_dropped, n_dropped
        if not dropped or now_s < self._next_s:
            return
        self._next_s = now_s + REPEAT_AFTER_S
        log.warning(
            "%sthe device table is full: %d devices have state, as many as max-devices allows, and samples of further "
            "devices such as %r are dropped (%d so far); raise --max-devices, or let the broker's access rules allow "
            "each wearable only its own name",
            self._where,
            max_devices,
            device,
            n_dropped,
            extra={"fields": {"max_devices": max_devices, "device": device}},
        )


class HealthLog:
    """Log of devices with problems: a line for each device, problem and hour, and a summary where that were too many.

    It holds at most ``MAX_NAMED * REPEAT_AFTER_S / _WINDOW_S`` devices for each problem.

    Args:
        where: Beginning of each line.
        source: Name of the source, in the fields of each line.

    """

    def __init__(self, where: str = "", source: str = "source1") -> None:
        self._where, self._source = where, source
        self._named_s: dict[tuple[str, Problem], float] = {}  # time of the last line, in this order
        self._unnamed_since_s: dict[Problem, float] = {}
        self._last_summary_s: dict[Problem, float] = {}

    def report(self, incidents: Iterable[Incident], now_s: float) -> None:
        """Name the devices of new incidents, as long as there is room.

        Args:
            incidents: Beginnings of problems.
            now_s: Monotonic time.

        """
        self._forget(now_s)
        room = {problem: self._room(problem, now_s) for problem in Problem}
        for incident in incidents:
            if room[incident.problem] and (incident.device, incident.problem) not in self._named_s:
                room[incident.problem] -= 1
                self._name(incident.device, incident.problem, incident.detail, now_s)

    def review(
        self, devices: Mapping[Problem, Sequence[str]], detail: Callable[[str, Problem], str], now_s: float
    ) -> None:
        """Name devices whose problem lasts and was not logged within the hour, and count those without room.

        Args:
            devices: Devices that have each problem now.
            detail: Returns the text about a problem of a device.
            now_s: Monotonic time.

        """
        self._forget(now_s)
        for problem, names in devices.items():
            unnamed = [device for device in names if (device, problem) not in self._named_s]
            room = self._room(problem, now_s)
            for device in unnamed[:room]:
                self._name(device, problem, detail(device, problem), now_s)
            if len(unnamed) > room:
                self._summarise(problem, len(unnamed) - room, now_s)
            else:
                self._unnamed_since_s.pop(problem, None)

    def _forget(self, now_s: float) -> None:
        while self._named_s:
            first = next(iter(self._named_s))
            if self._named_s[first] > now_s - REPEAT_AFTER_S:
                return
            del self._named_s[first]

    def _room(self, problem: Problem, now_s: float) -> int:
        """Return how many devices may be named for a problem now."""
        recent = sum(other == problem and at_s > now_s - _WINDOW_S for (_, other), at_s in self._named_s.items())
        return max(MAX_NAMED - recent, 0)

    def _name(self, device: str, problem: Problem, detail: str, now_s: float) -> None:
        self._named_s[device, problem] = now_s
        name = problem.public_name
        log.warning(
            "%sdevice %r has the problem %s%s (see %s#%s)",
            self._where,
            device,
            name,
            f": {escape_unprintable(detail)}" if detail else "",
            GUIDE,
            name,
            extra={"fields": {"device": device, "source": self._source, "problem": name}},
        )

    def _summarise(self, problem: Problem, number: int, now_s: float) -> None:
        since_s = self._unnamed_since_s.setdefault(problem, now_s)
        last_s = self._last_summary_s.get(problem, -_WINDOW_S + since_s)
        if now_s < max(since_s + _SETTLE_S, last_s + _WINDOW_S):
            return
        self._last_summary_s[problem] = now_s
        name = problem.public_name
        log.warning(
            "%s%d more devices have the problem %s, not named here: see /api/devices?problem=%s and %s#%s",
            self._where,
            number,
            name,
            name,
            GUIDE,
            name,
            extra={"fields": {"devices": number, "source": self._source, "problem": name}},
        )
