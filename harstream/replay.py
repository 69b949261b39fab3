"""Recordings as sources of samples for ``publish.publish``."""

from __future__ import annotations

from harstream.core.batches import Float32
from harstream.datasets.base import Recording
from harstream.sources import SampleSource


class RecordedSource(SampleSource):
    """Samples of a recording, published under the recording's name."""

    def __init__(self, recording: Recording) -> None:
        self.device = recording.name
        self.rate_hz = recording.rate_hz
        self._samples = recording.samples if recording.has_gyro else recording.samples[:, :3]
        self._position = 0

    def read(self, n: int) -> Float32:
        """Return the next ``n`` samples (see ``SampleSource.read``)."""
        chunk = self._samples[self._position : self._position + n]
        self._position += len(chunk)
        return chunk
