"""What flows between the steps: frozen, aligned arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """Messages of raw samples, in order of arrival; a device may occur more than once.

    The samples of all messages lie one after another in ``samples``: message ``i`` owns the next
    ``counts[i]`` rows.
    """

    devices: Sequence[str]  # (n_messages,)
    t_ns: Int64  # (n_messages,) event time of the first sample; ignored where not stamped
    stamped: Bool  # (n_messages,) False: no event time was sent, arrival time stands in
    rate_hz: Float64  # (n_messages,) the announced rate; 0: the spec's
    counts: Int64  # (n_messages,) samples in the message, at least 1
    arrival_s: Float64  # (n_messages,) arrival time, seconds since the epoch
    samples: Float32  # (n_samples, 6) acc in g, gyro in rad/s; gyro is 0 where the spec uses none

    def __post_init__(self) -> None:
        n = len(self.devices)
        for name in ("t_ns", "stamped", "rate_hz", "counts", "arrival_s"):
            if len(getattr(self, name)) != n:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries for {n} messages")
        if self.samples.shape != (int(self.counts.sum()), 6):
            raise ValueError(f"samples has shape {self.samples.shape} for {int(self.counts.sum())} samples")

    def __len__(self) -> int:
        return len(self.devices)

    def select(self, keep: Bool) -> SampleBatch:
        """Without the messages (n_messages,) that are not to be kept."""
        return SampleBatch(
            [device for device, kept in zip(self.devices, keep, strict=True) if kept],
            self.t_ns[keep],
            self.stamped[keep],
            self.rate_hz[keep],
            self.counts[keep],
            self.arrival_s[keep],
            self.samples[np.repeat(keep, self.counts)],
        )

    @classmethod
    def from_message(
        cls, device: str, samples: npt.ArrayLike, *, t_ns: int, rate_hz: float = 0.0, arrival_s: float | None = None
    ) -> SampleBatch:
        """One stamped message of one device; ``samples`` is (n_samples, 6). Arrives when it was made, unless told."""
        array = np.asarray(samples, np.float32)
        return cls(
            devices=[device],
            t_ns=np.array([t_ns], np.int64),
            stamped=np.array([True]),
            rate_hz=np.array([rate_hz], np.float64),
            counts=np.array([len(array)], np.int64),
            arrival_s=np.array([t_ns / 1e9 if arrival_s is None else arrival_s], np.float64),
            samples=array,
        )


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """Due windows, each device's in order of time."""

    devices: Sequence[str]  # (n_windows,)
    windows: Float32  # (n_windows, window_samples, n_channels) in g and rad/s, not normalised
    start_ns: Int64  # (n_windows,) event time of the first sample
    end_ns: Int64  # (n_windows,) event time of the last sample plus one sample period
    arrival_s: Float64  # (n_windows,) arrival time of the message that completed the window

    def __len__(self) -> int:
        return len(self.devices)

    @classmethod
    def empty(cls, window_samples: int, n_channels: int) -> WindowBatch:
        none = np.zeros(0, np.int64)
        return cls([], np.zeros((0, window_samples, n_channels), np.float32), none, none, np.zeros(0, np.float64))

    @classmethod
    def concatenate(cls, batches: Sequence[WindowBatch]) -> WindowBatch:
        """Several batches as one, in order; at least one."""
        if len(batches) == 1:
            return batches[0]
        return cls(
            [device for batch in batches for device in batch.devices],
            np.concatenate([batch.windows for batch in batches]),
            np.concatenate([batch.start_ns for batch in batches]),
            np.concatenate([batch.end_ns for batch in batches]),
            np.concatenate([batch.arrival_s for batch in batches]),
        )


@dataclass(frozen=True, slots=True)
class Predictions:
    """What the network says of a WindowBatch, window by window."""

    probabilities: Float32  # (n_windows, n_labels), calibrated, each row sums to 1
    label: Int64  # (n_windows,) index into the bundle's labels
    confidence: Float32  # (n_windows,) the probability of that label
