"""Frozen dataclasses of aligned arrays that pass between the steps: samples, windows, predictions."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harstream.core.labels import UNKNOWN_INDEX
from harstream.core.problems import UNTRUSTED
from harstream.core.rows import any_true

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Int8 = npt.NDArray[np.int8]


class Sensor(enum.IntEnum):
    """Sensors that a message holds."""

    BOTH = 0
    ACC = 1
    GYRO = 2


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """Messages of raw samples in order of arrival, with any number of messages per device.

    The samples of all messages are concatenated in ``samples``. Message ``i`` owns ``counts[i]`` rows of it, after
    those of messages ``0`` to ``i - 1``.

    Raises:
        ValueError: The arrays differ in their number of messages, or the shape of ``samples`` does not fit ``counts``.

    """

    devices: Sequence[str]  # (n_messages,) device ids
    t_ns: Int64  # (n_messages,) event time of the first sample, ns since the epoch; ignored where not stamped
    stamped: Bool  # (n_messages,) False: the message has no event time, so the arrival time is used
    rate_hz: Float64  # (n_messages,) sample rate announced in the message; 0 or less, or NaN: none announced
    counts: Int64  # (n_messages,) number of samples in the message, at least 1
    arrival_s: Float64  # (n_messages,) arrival time, seconds since the epoch
    acc_unit_auto: Bool  # (n_messages,) True: acc is in an unknown unit, as it was sent
    samples: Float32  # (n_samples, 6) acc in g, then gyro in rad/s; gyro is 0 where the spec does not use it
    # (n_messages,) Sensor of each message, of which only a paired engine takes single ones; None: all hold both. The
    # numbers of the other sensor are 0.
    sensor: Int8 | None = None

    def __post_init__(self) -> None:
        n = len(self.devices)
        for name in ("t_ns", "stamped", "rate_hz", "counts", "arrival_s", "acc_unit_auto"):
            if len(getattr(self, name)) != n:
                raise ValueError(f"{name}: got {len(getattr(self, name))} entries for {n} messages, expected {n}")
        expected = (int(self.counts.sum()), 6)
        if self.samples.shape != expected:
            raise ValueError(f"samples: got shape {self.samples.shape}, expected {expected} from counts")

    def __len__(self) -> int:
        """Return the number of messages."""
        return len(self.devices)

    def select(self, keep: Bool) -> SampleBatch:
        """Return a batch of the messages where ``keep`` (n_messages,) is true."""
        return SampleBatch(
            [device for device, kept in zip(self.devices, keep, strict=True) if kept],
            self.t_ns[keep],
            self.stamped[keep],
            self.rate_hz[keep],
            self.counts[keep],
            self.arrival_s[keep],
            self.acc_unit_auto[keep],
            self.samples[np.repeat(keep, self.counts)],
            None if self.sensor is None else self.sensor[keep],
        )

    @classmethod
    def concatenate(cls, batches: Sequence[SampleBatch]) -> SampleBatch:
        """Return the messages of several batches as one batch, in order."""
        arrays = ("t_ns", "stamped", "rate_hz", "counts", "arrival_s", "acc_unit_auto", "samples")
        sensor = None
        if any(batch.sensor is not None for batch in batches):
            sensor = np.concatenate([batch.sensors for batch in batches])
        return cls(
            [device for batch in batches for device in batch.devices],
            **{name: np.concatenate([getattr(batch, name) for batch in batches]) for name in arrays},
            sensor=sensor,
        )

    @property
    def sensors(self) -> Int8:
        """(n_messages,) Sensor of each message."""
        return np.zeros(len(self), np.int8) if self.sensor is None else self.sensor

    @classmethod
    def from_message(
        cls,
        device: str,
        samples: npt.ArrayLike,
        *,
        t_ns: int,
        rate_hz: float = 0.0,
        arrival_s: float | None = None,
        acc_unit_auto: bool = False,
        sensor: Sensor = Sensor.BOTH,
    ) -> SampleBatch:
        """Return a batch of one stamped message.

        Args:
            device: Device id.
            samples: (n_samples, 6) acc in g, gyro in rad/s.
            t_ns: Event time of the first sample.
            rate_hz: Announced rate; 0: none.
            arrival_s: Arrival time, seconds since the epoch; None: the same as ``t_ns``.
            acc_unit_auto: Whether acc is in an unknown unit, as it was sent, and not in g.
            sensor: Sensors in it; the numbers of another one are 0.

        """
        array = np.asarray(samples, np.float32)
        return cls(
            devices=[device],
            t_ns=np.array([t_ns], np.int64),
            stamped=np.array([True]),
            rate_hz=np.array([rate_hz], np.float64),
            counts=np.array([len(array)], np.int64),
            arrival_s=np.array([t_ns / 1e9 if arrival_s is None else arrival_s], np.float64),
            acc_unit_auto=np.array([acc_unit_auto]),
            samples=array,
            sensor=None if sensor == Sensor.BOTH else np.array([sensor], np.int8),
        )


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """Due windows; those of one device are in order of time."""

    devices: Sequence[str]  # (n_windows,) device ids
    windows: Float32  # (n_windows, window_samples, n_channels) in g and rad/s, not normalised
    start_ns: Int64  # (n_windows,) event time of the first sample
    end_ns: Int64  # (n_windows,) event time of the last sample plus one sample period
    arrival_s: Float64  # (n_windows,) arrival time of the message that completed the window
    # (n_windows,) mask of the problems of the device when the window fell due. Only those in UNTRUSTED are the same
    # however the messages are batched.
    problems: Int64

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.devices)

    @property
    def untrusted(self) -> Bool:
        """(n_windows,) True where a problem of the device makes every label of the window meaningless."""
        untrusted: Bool = (self.problems & int(UNTRUSTED)) != 0
        return untrusted

    @classmethod
    def empty(cls, window_samples: int, n_channels: int) -> WindowBatch:
        """Return a batch of no windows, with arrays of the right types and shapes."""
        none = np.zeros(0, np.int64)
        return cls([], np.zeros((0, window_samples, n_channels), np.float32), none, none, np.zeros(0), none)

    @classmethod
    def concatenate(cls, batches: Sequence[WindowBatch]) -> WindowBatch:
        """Return one or more batches as one, in order."""
        if len(batches) == 1:
            return batches[0]
        return cls(
            [device for batch in batches for device in batch.devices],
            np.concatenate([batch.windows for batch in batches]),
            np.concatenate([batch.start_ns for batch in batches]),
            np.concatenate([batch.end_ns for batch in batches]),
            np.concatenate([batch.arrival_s for batch in batches]),
            np.concatenate([batch.problems for batch in batches]),
        )


@dataclass(frozen=True, slots=True)
class Predictions:
    """Output of the network for a WindowBatch, before smoothing."""

    probabilities: Float32  # (n_windows, n_outputs) of labels and states, calibrated, each row sums to 1
    # (n_windows,) index of the label with the highest probability; UNKNOWN_INDEX: a state's is higher, or all are equal
    label: Int64
    confidence: Float32  # (n_windows,) the highest probability of a label
    unfamiliar: Bool  # (n_windows,) True: the window is unlike all training data, so the others mean nothing

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.label)

    @classmethod
    def concatenate(cls, parts: Sequence[Predictions]) -> Predictions:
        """Return the predictions of all parts, in order; there is at least one."""
        names = ("probabilities", "label", "confidence", "unfamiliar")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def split(self, sizes: Sequence[int]) -> list[Predictions]:
        """Return the predictions of successive groups of ``sizes`` windows."""
        ends = np.cumsum(sizes)[:-1]
        arrays = (self.probabilities, self.label, self.confidence, self.unfamiliar)
        return [Predictions(*parts) for parts in zip(*(np.split(array, ends) for array in arrays), strict=True)]

    def output_names(self, outputs: Sequence[str]) -> list[str]:
        """Return the most probable of ``outputs``, the labels and states of the bundle, for each window."""
        return [outputs[index] for index in self.probabilities.argmax(axis=1).tolist()]

    def without(self, untrusted: Bool) -> Predictions:
        """Return predictions in which all outputs of the windows where ``untrusted`` (n_windows,) are equally likely.

        Their label is UNKNOWN: a network is often sure of a window in a wrong unit, but that is no evidence.
        """
        if not any_true(untrusted):
            return self
        uniform = np.float32(1 / self.probabilities.shape[1])
        return Predictions(
            np.where(untrusted[:, None], uniform, self.probabilities),
            np.where(untrusted, UNKNOWN_INDEX, self.label),
            np.where(untrusted, uniform, self.confidence),
            self.unfamiliar,
        )
