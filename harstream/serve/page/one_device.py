"""Signals and probabilities of the devices whose pages are open.

Nothing is kept of a device before somebody opens its page, and everything is forgotten when the last viewer leaves.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from harstream.core.batches import Float32
from harstream.core.filters import gravity_split
from harstream.core.spec import SignalSpec
from harstream.core.window_maker import Tail
from harstream.serve.pipeline import LabelledWindows, Pipeline

#: Span of the signals that a page shows.
SIGNAL_S = 10.0
#: Windows whose probabilities are kept.
MAX_WINDOWS = 240
_ROW = np.zeros(1, np.int64)


class Signal:
    """Last ten seconds of a device: gravity, body acceleration and angular velocity of each sample.

    Gravity is what the gravity filter of the model finds. It begins when the page is opened, from the samples that are
    there then, as the filter of the engine begins with the first window.
    """

    def __init__(self, spec: SignalSpec) -> None:
        self._window = spec.window_samples
        self._split = gravity_split(spec.gravity_filter, spec.sample_rate_hz, 1)
        self._size = round(SIGNAL_S * spec.sample_rate_hz)
        self.is_in_g = False  # False: the unit is not decided yet, so acc is as it was sent
        self.begun = 0  # how often the signal began
        self.end = 0  # number of the newest sample, counted from the restart of the device
        self.total = 0  # samples so far
        self.values: Float32 = np.zeros((0, 9), np.float32)

    def add(self, tail: Tail) -> None:
        """Add the samples of ``tail`` that are new. If they do not continue the others, the signal begins again."""
        n_new, is_in_g = tail.written - self.end, tail.written >= self._window
        if n_new == 0 and is_in_g == self.is_in_g:
            return
        if n_new < 0 and not is_in_g:
            # While the unit cannot be decided, each full window empties the ring, but the signal goes on.
            n_new = tail.written
        begins = not self.begun or n_new < 0 or n_new > len(tail.acc) or is_in_g != self.is_in_g
        n_new = len(tail.acc) if begins else n_new
        acc = tail.acc[len(tail.acc) - n_new :]
        gyro = np.zeros_like(acc) if tail.gyro is None else tail.gyro[len(tail.gyro) - n_new :]
        samples = np.concatenate([acc, gyro], axis=1)
        if begins:
            self.begun += 1
            self.values = self.values[:0]
        if n_new:
            body = (
                self._split.seed(_ROW, samples[None])[0]
                if begins
                else self._split.feed(_ROW, np.array([n_new], np.int64), samples)
            )
            new = np.concatenate([acc - body, body, gyro], axis=1)
            self.values = np.concatenate([self.values, new])[-self._size :]
            self.total += n_new
        self.end, self.is_in_g = tail.written, is_in_g


class WatchedDevice:
    """Signal and probabilities of one device, as long as somebody looks at it."""

    def __init__(self, pipeline: Pipeline, device: str) -> None:
        self.pipeline, self.device = pipeline, device
        self.spec = pipeline.engine.spec
        self.signal = Signal(self.spec)
        #: Of each window: arrival in seconds since the epoch, outputs of the model, and their probabilities; None if it
        #: cannot be trusted.
        self.windows: deque[tuple[float, tuple[str, ...], list[float] | None]] = deque(maxlen=MAX_WINDOWS)
        self.n_windows = 0  # since it is watched
        self.viewers = 0


class WatchedDevices:
    """Devices whose pages are open.

    Args:
        clock: Returns seconds since the epoch.
        ask: Calls a function in the main loop and returns its result; None if it was not called in time.

    """

    def __init__(
        self,
        clock: Callable[[], float],
        ask: Callable[[Callable[[], list[Tail | None]]], list[Tail | None] | None],
    ) -> None:
        self._clock, self._ask = clock, ask
        self._lock = threading.Lock()  # guards the devices and their probabilities
        self._devices: dict[Pipeline, dict[str, WatchedDevice]] = {}  # replaced, never changed

    def on_labelled(self, pipeline: Pipeline, labelled: LabelledWindows) -> None:
        """Take the probabilities of watched devices. The labelling thread calls this after each batch."""
        watched = self._devices.get(pipeline)
        if not watched:  # the usual case
            return
        outputs = pipeline.classifier.bundle.outputs
        untrusted = labelled.windows.untrusted | labelled.predictions.unfamiliar
        with self._lock:
            for index, device in enumerate(labelled.windows.devices):
                if (found := watched.get(device)) is not None:
                    probabilities = None if untrusted[index] else labelled.predictions.probabilities[index].tolist()
                    arrival_s = float(labelled.windows.arrival_s[index])
                    found.windows.append((arrival_s, outputs, probabilities))
                    found.n_windows += 1

    def add(self, pipeline: Pipeline, device: str) -> WatchedDevice:
        """Watch a device for one more viewer."""
        with self._lock:
            found = self._devices.get(pipeline, {}).get(device)
            if found is None:
                found = WatchedDevice(pipeline, device)
                self._devices = {**self._devices, pipeline: {**self._devices.get(pipeline, {}), device: found}}
            found.viewers += 1
            return found

    def remove(self, watched: WatchedDevice) -> None:
        """Forget a device if this was its last viewer."""
        with self._lock:
            watched.viewers -= 1
            if not watched.viewers:
                others = {name: one for name, one in self._devices[watched.pipeline].items() if one is not watched}
                self._devices = {**self._devices, watched.pipeline: others}

    def refresh(self) -> None:
        """Fetch the newest samples of all watched devices from the main loop."""
        watched = [one for devices in self._devices.values() for one in devices.values()]
        if not watched:
            return
        tails = self._ask(lambda: [one.pipeline.engine.tail(one.device) for one in watched])
        for one, tail in zip(watched, tails or [], strict=False):
            if tail is not None:
                one.signal.add(tail)

    def new_windows(self, watched: WatchedDevice, since: int) -> tuple[int, list[dict[str, Any]]]:
        """Return how many windows there were, and the kept ones of those after the first ``since``."""
        with self._lock:
            n_new = min(watched.n_windows - since, len(watched.windows))
            new = list(watched.windows)[len(watched.windows) - n_new :]
            return watched.n_windows, [
                {"time": round(arrival_s, 2), **_by_output(outputs, probabilities)}
                for arrival_s, outputs, probabilities in new
            ]


def _by_output(outputs: tuple[str, ...], probabilities: list[float] | None) -> dict[str, Any]:
    if probabilities is None:
        return {"probabilities": None}
    return {"probabilities": {name: round(p, 3) for name, p in zip(outputs, probabilities, strict=True) if p >= 0.0005}}
