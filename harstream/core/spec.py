"""SignalSpec: what a bundle says about the signal, validated.

The spec is the ``signal`` section of a bundle. Training cuts its windows by it, the daemon cuts
its windows by it, and neither takes an option that repeats one of its fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from harstream import checks
from harstream.errors import ConfigError

ACC = ("acc_x", "acc_y", "acc_z")
GYRO = ("gyro_x", "gyro_y", "gyro_z")
TOTAL_ACC = ("total_acc_x", "total_acc_y", "total_acc_z")
BODY_ACC = ("body_acc_x", "body_acc_y", "body_acc_z")

#: Every channel the engine can compute, in the order of its ring buffer.
CHANNELS = (*TOTAL_ACC, *BODY_ACC, *GYRO)
#: The nine channels of UCI HAR.
DEFAULT_CHANNELS = (*BODY_ACC, *GYRO, *TOTAL_ACC)

#: The units of the signal inside harstream; wire and datasets convert to them.
UNITS = {"acc": "g", "gyro": "rad/s"}

MAX_WINDOW_SAMPLES = 4096


@dataclass(frozen=True, slots=True)
class NoiseFilter:
    """The filter every raw channel passes before the gravity split.

    ``none``, or ``median``: the causal median of the last ``size`` samples, which takes out single
    spikes. UCI HAR cleaned its signals with a median of 3 first (Anguita et al. 2013).
    """

    type: str = "median"
    size: int = 3

    def __post_init__(self) -> None:
        if self.type not in ("none", "median"):
            raise ConfigError(f"noise_filter.type: {self.type!r} is not 'none' or 'median'")
        if self.type == "median":
            checks.whole_number(self.size, "noise_filter.size", minimum=3, maximum=15)
            if self.size % 2 == 0:
                raise ConfigError(f"noise_filter.size: {self.size} is not odd")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NoiseFilter:
        fields = checks.fields(data, "noise_filter", ["type"], ["size"])
        if fields["type"] == "none":
            checks.fields(data, "noise_filter", ["type"])
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        return {"type": "none"} if self.type == "none" else {"type": self.type, "size": self.size}


@dataclass(frozen=True, slots=True)
class GravityFilter:
    """The low-pass whose output is gravity; body acceleration is the rest.

    ``butterworth``: a causal Butterworth of the given order, as UCI HAR's published signals show: third
    order at 0.3 Hz (Anguita et al. 2013). ``complementary``: the same low-pass in a frame that does not turn
    with the device, the gyroscope telling how it turned; so gravity stays known on a swinging limb.
    """

    type: str = "butterworth"
    order: int = 3
    cutoff_hz: float = 0.3

    def __post_init__(self) -> None:
        if self.type not in ("butterworth", "complementary"):
            raise ConfigError(f"gravity_filter.type: {self.type!r} is not 'butterworth' or 'complementary'")
        checks.whole_number(self.order, "gravity_filter.order", minimum=1, maximum=8)
        checks.number(self.cutoff_hz, "gravity_filter.cutoff_hz", minimum=0.01, maximum=10.0)

    @property
    def uses_gyro(self) -> bool:
        return self.type == "complementary"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GravityFilter:
        return cls(**checks.fields(data, "gravity_filter", ["type", "order", "cutoff_hz"]))

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Mean and standard deviation per channel, in the order of the spec's channels."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def identity(cls, n_channels: int) -> Normalisation:
        return cls((0.0,) * n_channels, (1.0,) * n_channels)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Normalisation:
        fields = checks.fields(data, "normalisation", ["mean", "std"])
        for name, values in fields.items():
            if not isinstance(values, Sequence) or isinstance(values, str):
                raise ConfigError(f"normalisation.{name}: expected a list, got {values!r}")
        return cls(tuple(fields["mean"]), tuple(fields["std"]))

    def to_dict(self) -> dict[str, Any]:
        return {"mean": list(self.mean), "std": list(self.std)}

    def apply(self, windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(n_windows, window_samples, n_channels) in g and rad/s to the network's input, float32."""
        mean = np.asarray(self.mean, np.float32)
        scale = np.asarray(1.0 / np.asarray(self.std), np.float32)
        return (windows - mean) * scale


@dataclass(frozen=True, slots=True)
class SignalSpec:
    """What a network was trained on, and so what it must be fed.

    Raises ConfigError from its constructor, naming the field, when a value makes no sense.
    """

    sample_rate_hz: float = 50.0
    window_samples: int = 128
    stride_samples: int = 64
    channels: tuple[str, ...] = DEFAULT_CHANNELS
    noise_filter: NoiseFilter = field(default_factory=NoiseFilter)
    gravity_filter: GravityFilter = field(default_factory=GravityFilter)
    normalisation: Normalisation | None = None
    max_gap_s: float = 0.5

    def __post_init__(self) -> None:
        checks.number(self.sample_rate_hz, "sample_rate_hz", minimum=1.0, maximum=2000.0)
        checks.whole_number(self.window_samples, "window_samples", minimum=8, maximum=MAX_WINDOW_SAMPLES)
        checks.whole_number(self.stride_samples, "stride_samples", minimum=1, maximum=self.window_samples)
        if not self.channels:
            raise ConfigError("channels: at least one is needed")
        for channel in self.channels:
            if channel not in CHANNELS:
                raise ConfigError(f"channels: {channel!r} is not one of {', '.join(CHANNELS)}")
        if len(set(self.channels)) != len(self.channels):
            raise ConfigError(f"channels: one is named twice in {', '.join(self.channels)}")
        if self.gravity_filter.cutoff_hz >= self.sample_rate_hz / 2:
            raise ConfigError(
                f"gravity_filter.cutoff_hz: {self.gravity_filter.cutoff_hz} is not below half of "
                f"sample_rate_hz ({self.sample_rate_hz})"
            )
        checks.number(self.max_gap_s, "max_gap_s", minimum=0.0, maximum=60.0)
        if self.normalisation is None:
            object.__setattr__(self, "normalisation", Normalisation.identity(len(self.channels)))
        for name in ("mean", "std"):
            values = getattr(self.normalisation, name)
            if len(values) != len(self.channels):
                raise ConfigError(f"normalisation.{name}: {len(values)} values for {len(self.channels)} channels")
            for value in values:
                checks.number(value, f"normalisation.{name}", minimum=-1e6 if name == "mean" else 1e-6, maximum=1e6)

    @property
    def n_channels(self) -> int:
        return len(self.channels)

    @property
    def period_ns(self) -> float:
        """Nanoseconds between two samples of the grid."""
        return 1e9 / self.sample_rate_hz

    @property
    def uses_gyro(self) -> bool:
        """Whether the windows depend on the gyroscope: by a channel, or by the gravity filter."""
        return self.gravity_filter.uses_gyro or any(channel in GYRO for channel in self.channels)

    @property
    def norm(self) -> Normalisation:
        """The normalisation, never None: the identity where none was given."""
        assert self.normalisation is not None
        return self.normalisation

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SignalSpec:
        """The ``signal`` section of a bundle, or a ``train --spec`` file. Raises ConfigError."""
        names = [f.name for f in dataclasses.fields(cls)]
        fields = checks.fields(data, "signal", [], [*names, "units"])
        units = fields.pop("units", UNITS)
        if units != UNITS:
            raise ConfigError(f"units: {units!r} is not {UNITS!r}")
        if "channels" in fields:
            if not isinstance(fields["channels"], Sequence) or isinstance(fields["channels"], str):
                raise ConfigError(f"channels: expected a list, got {fields['channels']!r}")
            fields["channels"] = tuple(fields["channels"])
        parts = {"noise_filter": NoiseFilter, "gravity_filter": GravityFilter, "normalisation": Normalisation}
        for name, part in parts.items():
            if name in fields:
                fields[name] = part.from_dict(fields[name])  # type: ignore[attr-defined]
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        return {
            "sample_rate_hz": self.sample_rate_hz,
            "window_samples": self.window_samples,
            "stride_samples": self.stride_samples,
            "channels": list(self.channels),
            "units": dict(UNITS),
            "noise_filter": self.noise_filter.to_dict(),
            "gravity_filter": self.gravity_filter.to_dict(),
            "normalisation": self.norm.to_dict(),
            "max_gap_s": self.max_gap_s,
        }
