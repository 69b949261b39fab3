"""Simulated wearables as sources of samples for ``publish.publish``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harstream.core.batches import Float32
from harstream.simulate.faults import FAULTS
from harstream.simulate.motion import Wearable
from harstream.sources import OutgoingMessage, SampleSource


class SimulatedSource(SampleSource):
    """Samples of a simulated wearable under a device name.

    It drops the true labels, as a real device does not know them. With a fault, its messages are those of a device
    that has this fault; its samples are not changed.
    """

    def __init__(self, device: str, wearable: Wearable, fault: str | None = None, seed: int = 0) -> None:
        """Take the samples of ``wearable``.

        Args:
            device: Name of the device.
            wearable: Wearable whose samples have not been read.
            fault: Key of ``faults.FAULTS``; None: the device works as it should.
            seed: Seed of what is random in the fault.

        """
        self.device = device
        self.rate_hz = wearable.sample_rate_hz
        self._wearable = wearable
        self._fault = fault
        self._seed = seed

    def read(self, n: int) -> Float32:
        """Return the next ``n`` samples (n, 6), in g and rad/s. The stream never ends."""
        return self._wearable.read(n).samples

    def messages(self, n: int, offset_s: float, start_ns: int) -> Iterator[OutgoingMessage]:
        """Yield the messages of the device, as its fault makes them (see ``SampleSource.messages``)."""
        messages = super().messages(n, offset_s, start_ns)
        if self._fault is None:
            return messages
        return FAULTS[self._fault](messages, np.random.default_rng(self._seed))


#: Pace so slow that the first activity never ends.
_NO_CHANGE_PACE = 1e-9


def sources(
    n_devices: int,
    seed: int,
    *,
    rate_hz: float = 50.0,
    pace: float = 1.0,
    activity: str | None = None,
    faults: Sequence[str] = (),
) -> list[SimulatedSource]:
    """Return a source for each of ``n_devices`` different simulated subjects, named from ``sim-0001`` on.

    Args:
        n_devices: Number of sources.
        seed: The same seed gives the same subjects, samples and faults.
        rate_hz: Sample rate, 10 to 1000 Hz.
        pace: Divisor of the durations of activities (see ``day.script``).
        activity: If given, the subjects never leave this activity.
        faults: Keys of ``faults.FAULTS``. The devices have them in turn, and their names end in them, as in
            ``sim-0001-loop``. Empty: no device has a fault.

    Raises:
        ValueError: The rate or the pace is out of range, or the activity is unknown.

    """
    if activity is not None:
        pace = _NO_CHANGE_PACE
    made = []
    for i in range(n_devices):
        wearable = Wearable(seed * 1_000_003 + i, rate_hz, pace=pace, first=activity)
        fault = faults[i % len(faults)] if faults else None
        name = f"sim-{i + 1:04d}" + (f"-{fault}" if fault else "")
        made.append(SimulatedSource(name, wearable, fault, seed=seed * 1_000_003 + i))
    return made
