"""Simulated wearables as something to publish."""

from __future__ import annotations

from harstream.core.batches import Float32
from harstream.simulate.motion import Wearable


class SimulatedSource:
    """A synthetic subject with a device, by name."""

    def __init__(self, device: str, wearable: Wearable) -> None:
        self.device = device
        self.rate_hz = wearable.sample_rate_hz
        self._wearable = wearable

    def take(self, n: int) -> Float32:
        """The next ``n`` samples, (n, 6) in g and rad/s; it never ends."""
        return self._wearable.take(n).samples


#: So slow a day that its first activity never ends.
_STILL = 1e-9


def sources(
    n_devices: int, seed: int, *, rate_hz: float = 50.0, pace: float = 1.0, activity: str | None = None
) -> list[SimulatedSource]:
    """``n_devices`` different subjects, named ``sim-0001`` on; the same ones for the same ``seed``.

    With ``activity`` they do nothing but that. Raises ValueError where it is none.
    """
    if activity is not None:
        pace = _STILL
    return [
        SimulatedSource(f"sim-{i + 1:04d}", Wearable(seed * 1_000_003 + i, rate_hz, pace=pace, first=activity))
        for i in range(n_devices)
    ]
