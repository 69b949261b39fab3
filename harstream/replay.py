"""Recorded sessions as live devices."""

from __future__ import annotations

from harstream.core.batches import Float32
from harstream.datasets.base import Recording


class RecordedSource:
    """One recording, to be published under its name. The device's name is the recording's."""

    def __init__(self, recording: Recording) -> None:
        self.device = recording.name
        self.rate_hz = recording.rate_hz
        self._samples = recording.samples if recording.has_gyro else recording.samples[:, :3]
        self._position = 0

    def take(self, n: int) -> Float32:
        """The next ``n`` samples, (n, 6) in g and rad/s; fewer at the end, then none.

        Of what was recorded without a gyroscope, (n, 3): its messages then have none either.
        """
        chunk = self._samples[self._position : self._position + n]
        self._position += len(chunk)
        return chunk
