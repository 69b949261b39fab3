"""Simulated wearables as sources of samples for ``publish.publish``."""

from __future__ import annotations

from harstream.core.batches import Float32
from harstream.simulate.motion import Wearable


class SimulatedSource:
    """Samples of a simulated wearable under a device name.

    It has the interface that ``publish.SampleSource`` asks for: a device name, a rate, and the next samples. It drops
    the true labels, as a real device does not know them.
    """

    def __init__(self, device: str, wearable: Wearable) -> None:
        self.device = device
        self.rate_hz = wearable.sample_rate_hz
        self._wearable = wearable

    def read(self, n: int) -> Float32:
        """Return the next ``n`` samples (n, 6), in g and rad/s. The stream never ends."""
        return self._wearable.read(n).samples


#: Pace so slow that the first activity never ends.
_NO_CHANGE_PACE = 1e-9


def sources(
    n_devices: int, seed: int, *, rate_hz: float = 50.0, pace: float = 1.0, activity: str | None = None
) -> list[SimulatedSource]:
    """Return a source for each of ``n_devices`` different simulated subjects, named from ``sim-0001`` on.

    Args:
        n_devices: Number of sources.
        seed: The same seed gives the same subjects and samples.
        rate_hz: Sample rate, 10 to 1000 Hz.
        pace: Divisor of the durations of activities (see ``day.script``).
        activity: If given, the subjects never leave this activity.

    Raises:
        ValueError: The rate or the pace is out of range, or the activity is unknown.

    """
    if activity is not None:
        pace = _NO_CHANGE_PACE
    return [
        SimulatedSource(f"sim-{i + 1:04d}", Wearable(seed * 1_000_003 + i, rate_hz, pace=pace, first=activity))
        for i in range(n_devices)
    ]
