"""Health of each device: what the engine, the decoder and the labelling thread know of it, for log, metrics and API.

The main loop calls `reject`, `refresh` and `forget`. Other threads read `counts`, and ask for a `snapshot`, which the
main loop makes when it is asked for, about once a second: at 100,000 devices it takes some twenty milliseconds.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from harstream.core.batches import Int64
from harstream.core.engine import MAX_INCIDENTS
from harstream.core.health import DeviceHealth
from harstream.core.problems import Incident, Problem, first_problem, problems_in
from harstream.serve.health_log import FullTableLog, HealthLog
from harstream.serve.last_labels import LastLabels
from harstream.serve.pipeline import Pipeline
from harstream.serve.rejections import Rejected, RejectedDevices, problem_mask
from harstream.wire.reject import Rejection

#: Devices whose incidents are remembered; those of the newest incidents stay.
MAX_DEVICES_WITH_NOTES = 10_000
#: Time between two looks at every device that has a problem: some 25 ms if 100,000 have one.
REVIEW_EVERY_S = 10.0
#: Age up to which a snapshot is given to another reader. A little less than a second, so that somebody who asks once a
#: second gets another one each time.
_MAX_AGE_S = 0.9


@dataclass(frozen=True, slots=True)
class Note:
    """Newest incident of a device and problem."""

    since_s: float  # time of the incident, seconds since the epoch
    detail: str


@dataclass(frozen=True)
class Snapshot:
    """State of every device of a source at one moment. Any thread may read it.

    Devices are in the order in which the engine got to know them. After these come the devices of which only rejected
    messages are known.
    """

    source: str
    model: str
    taken_s: float  # monotonic
    health: DeviceHealth
    rejected: Mapping[str, tuple[Rejected, ...]]
    namesakes: Mapping[str, Note]  # devices whose labels mix with those of another source
    notes: Mapping[str, Mapping[Problem, Note]]
    last_labels: LastLabels

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each device in ``health``."""
        return {device: position for position, device in enumerate(self.health.devices)}

    @cached_property
    def devices(self) -> list[str]:
        """All devices."""
        return [*self.health.devices, *(device for device in self.rejected if device not in self.index)]

    @cached_property
    def problems(self) -> Int64:
        """Mask of the problems of each of ``devices``, also of those that the engine does not see."""
        masks = np.zeros(len(self.devices), np.int64)
        masks[: len(self.health.devices)] = self.health.problems
        others = len(self.health.devices)
        for device, rejected in self.rejected.items():
            position = self.index.get(device)
            if position is None:
                position, others = others, others + 1
            masks[position] |= problem_mask(rejected)
        for device in self.namesakes:
            if (position := self.index.get(device)) is not None:
                masks[position] |= int(Problem.OVERLAP)
        return masks

    def describe(self, position: int) -> dict[str, Any]:
        """Return the JSON object that describes the device at a position in ``devices``."""
        device, health = self.devices[position], self.health
        label = self.last_labels.get(device)
        problem = first_problem(int(self.problems[position]))
        seen_s = max((rejected.last_s for rejected in self.rejected.get(device, ())), default=0.0)
        rate_hz, late, gaps, restarts, unit = 0.0, 0, 0, 0, None
        if position < len(health.devices):
            seen_s = max(seen_s, float(health.last_seen_s[position]))
            rate_hz, unit = float(health.rate_hz[position]), health.acc_unit[position]
            late, gaps = int(health.late[position]), int(health.gaps[position])
            restarts = int(health.restarts[position])
        return {
            "device": device,
            "source": self.source,
            "model": self.model,
            "label": None if label is None else label.label,
            "confidence": None if label is None else round(label.confidence, 4),
            "since": None if label is None else round(label.since_ns / 1e3) / 1e6,
            "last_seen": round(seen_s, 3),
            "rate_hz": round(rate_hz, 3) if rate_hz > 0 else None,
            "late": late,
            "gaps": gaps,
            "restarts": restarts,
            "acc_unit": unit,
            "problem": None if problem is None else problem.public_name,
        }

    def describe_in_detail(self, device: str) -> dict[str, Any] | None:
        """Return the JSON object that describes a device with all its problems; None if it is not known."""
        position = self.index.get(device)
        if position is None:
            if device not in self.rejected:
                return None
            position = self.devices.index(device, len(self.health.devices))
        details = [
            {"problem": problem.public_name, "since": round(note.since_s, 3), "detail": note.detail}
            for problem, note in self.notes.get(device, {}).items()
        ]
        if device in self.namesakes:
            note = self.namesakes[device]
            name = Problem.OVERLAP.public_name
            details.append({"problem": name, "since": round(note.since_s, 3), "detail": note.detail})
        for rejected in self.rejected.get(device, ()):
            shown = None if rejected.problem is None else rejected.problem.public_name
            details.append({"problem": shown, "since": round(rejected.first_s, 3), "detail": rejected.text})
        problems = [problem.public_name for problem in problems_in(int(self.problems[position]))]
        return {**self.describe(position), "problems": problems, "details": details}


class Devices:
    """Health of the devices of one source.

    Args:
        pipeline: Source.
        clock: Returns seconds since the epoch.
        monotonic: Returns monotonic seconds.
        wake: Lets the main loop call ``refresh`` soon. Any thread may call it.

    """

    def __init__(
        self,
        pipeline: Pipeline,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self._pipeline, self._clock, self._monotonic, self._wake = pipeline, clock, monotonic, wake
        self._rejected = RejectedDevices()
        self._notes: dict[str, dict[Problem, Note]] = {}  # the device with the newest incident is the last
        self._namesakes: Mapping[str, Note] = {}
        self._log = HealthLog(pipeline.where, pipeline.source)
        self._full_log = FullTableLog(pipeline.where)
        self._incidents: list[Incident] = []  # of rejected messages, since the last refresh
        self._next_review_s = 0.0
        # Devices that have each problem and of which the engine does not know that, at the last review.
        self._only_outside: dict[Problem, int] = dict.fromkeys(Problem, 0)
        #: Number of devices that have each problem, by its public name. It is replaced, never changed.
        self.counts: Mapping[str, int] = {problem.public_name: 0 for problem in Problem}
        self._changed = threading.Condition()  # guards the fields below
        self._wanted = False
        self._snapshot = replace(self._take_snapshot(), taken_s=-math.inf)  # the first reader asks for another

    # --- main loop ----------------------------------------------------------------------------

    def reject(self, rejections: Sequence[Rejection]) -> None:
        """Note rejected messages."""
        incidents = self._rejected.add(rejections, self._clock(), self._monotonic())
        self._incidents += incidents[: max(MAX_INCIDENTS - len(self._incidents), 0)]  # the review names the others

    def forget(self, devices: Sequence[str]) -> None:
        """Forget the incidents of evicted devices."""
        for device in devices:
            self._notes.pop(device, None)

    def refresh(self, idle_s: float, find_namesakes: Callable[[], Mapping[str, str]] = dict) -> None:
        """Take the incidents of the engine, log, count, and make a snapshot if somebody asked for one.

        Args:
            idle_s: Seconds after which rejected messages are forgotten.
            find_namesakes: Returns the devices whose labels mix with those of another source, and one line for people
                about each. It is called now and then.

        """
        now_s, engine = self._monotonic(), self._pipeline.engine
        self._take_unfamiliar()
        incidents = engine.take_incidents()
        self._remember(incidents)
        self._log.report((*incidents, *self._incidents), now_s)
        self._incidents.clear()
        self._full_log.report(engine.stats.samples_devices, engine.max_devices, engine.turned_away, now_s)
        counts = engine.problem_counts()
        if now_s >= self._next_review_s:
            self._next_review_s = now_s + REVIEW_EVERY_S
            self._rejected.forget(now_s - idle_s)
            known, epoch_s = self._namesakes, self._clock()
            self._namesakes = {
                device: known.get(device) or Note(epoch_s, text) for device, text in find_namesakes().items()
            }
            self._review(counts, now_s)
        self.counts = {problem.public_name: number + self._only_outside[problem] for problem, number in counts.items()}
        with self._changed:
            if self._wanted:
                self._wanted = False
                self._snapshot = self._take_snapshot()
                self._changed.notify_all()

    @property
    def wanted(self) -> bool:
        """True while somebody waits for a snapshot."""
        return self._wanted

    def _take_unfamiliar(self) -> None:
        """Tell the engine what the labelling thread found: devices that became unfamiliar, or ceased to be."""
        engine = self._pipeline.engine
        for change in self._pipeline.take_unfamiliar():
            if change.detail is None:
                engine.end_problem(change.device, Problem.UNFAMILIAR)
            else:
                engine.set_problem(change.device, Problem.UNFAMILIAR, change.detail)

    def _remember(self, incidents: Sequence[Incident]) -> None:
        epoch_s = self._clock()
        for incident in incidents:
            notes = self._notes.pop(incident.device, {})
            notes[incident.problem] = Note(epoch_s, incident.detail)
            self._notes[incident.device] = notes
        while len(self._notes) > MAX_DEVICES_WITH_NOTES:
            del self._notes[next(iter(self._notes))]

    def _review(self, counts: Mapping[Problem, int], now_s: float) -> None:
        """Look at every device that has a problem: count those that the engine does not know of, and log.

        Args:
            counts: Number of devices of which the engine found each problem.
            now_s: Monotonic time.

        """
        engine, masks = self._pipeline.engine, self._rejected.masks()
        for device in self._namesakes:
            masks[device] = masks.get(device, 0) | int(Problem.OVERLAP)
        outside = list(masks)
        new = np.array([masks[device] for device in outside], np.int64) & ~engine.problems_of(outside)
        by_problem: dict[Problem, list[str]] = {}
        for problem in Problem:
            only_outside = [outside[i] for i in np.flatnonzero(new & int(problem)).tolist()]
            self._only_outside[problem] = len(only_outside)
            if counts[problem] or only_outside:
                by_problem[problem] = [*engine.devices_with(problem), *only_outside]
        self._log.review(by_problem, self._detail, now_s)

    def _detail(self, device: str, problem: Problem) -> str:
        """Return the newest text about a problem of a device; "" if it is not remembered."""
        if (note := self._notes.get(device, {}).get(problem)) is not None:
            return note.detail
        if problem is Problem.OVERLAP and device in self._namesakes:
            return self._namesakes[device].detail
        texts = [one.text for one in self._rejected.get(device).values() if one.problem == problem]
        return texts[0] if texts else ""

    def _take_snapshot(self) -> Snapshot:
        pipeline = self._pipeline
        return Snapshot(
            pipeline.source,
            pipeline.classifier.bundle.id,
            self._monotonic(),
            pipeline.engine.health(),
            self._rejected.snapshot(),
            self._namesakes,
            {device: notes.copy() for device, notes in self._notes.items()},
            pipeline.last_labels,
        )

    # --- other threads ------------------------------------------------------------------------

    def snapshot(self, timeout_s: float) -> Snapshot:
        """Return a snapshot at most a second old; the last one if the main loop makes none within ``timeout_s``."""
        with self._changed:
            last = self._snapshot
            if self._monotonic() - last.taken_s > _MAX_AGE_S:
                self._wanted = True
                self._wake()
                self._changed.wait_for(lambda: self._snapshot is not last, timeout_s)
            return self._snapshot
