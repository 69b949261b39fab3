"""Validated definition of the signal that a model takes: the ``signal`` section of its bundle.

Training and the daemon cut their windows by the same spec, and neither has an option that repeats one of its fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from harstream import checks
from harstream.errors import ConfigError

GYRO = ("gyro_x", "gyro_y", "gyro_z")
TOTAL_ACC = ("total_acc_x", "total_acc_y", "total_acc_z")
BODY_ACC = ("body_acc_x", "body_acc_y", "body_acc_z")
#: Channels that are the same however the device lies; see ``core.orientation_free``.
ORIENTATION_FREE = ("vertical_acc", "horizontal_acc", "total_acc_norm", "gravity_turn")

#: All channels that the engine can compute, in the order in which it computes them.
CHANNELS = (*TOTAL_ACC, *BODY_ACC, *GYRO, *ORIENTATION_FREE)
#: The nine channels of UCI HAR, in the order of its files.
DEFAULT_CHANNELS = (*BODY_ACC, *GYRO, *TOTAL_ACC)

#: Units of the signal inside harstream. The wire formats and the dataset loaders convert to them.
UNITS = {"acc": "g", "gyro": "rad/s"}

MAX_WINDOW_SAMPLES = 4096


@dataclass(frozen=True, slots=True)
class NoiseFilter:
    """Filter of every raw channel before the gravity split.

    ``none`` passes the samples unchanged. ``median`` gives the causal median of the last ``size`` samples, which
    removes single spikes. The publishers of UCI HAR also began with a median of 3 (Anguita et al. 2013).

    Raises:
        ConfigError: A field has a value that is not allowed.

    """

    type: str = "median"  # none or median
    size: int = 3  # samples; odd; only for median

    def __post_init__(self) -> None:
        checks.choice(self.type, "noise_filter.type", ("none", "median"))
        if self.type == "median":
            checks.whole_number(self.size, "noise_filter.size", minimum=3, maximum=15)
            if self.size % 2 == 0:
                raise ConfigError(f"noise_filter.size: expected an odd number, got {self.size}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NoiseFilter:
        """Read a JSON object such as ``{"type": "median", "size": 3}``. Raise ConfigError if it is not valid."""
        fields = checks.fields(data, "noise_filter", ["type"], ["size"])
        if fields["type"] == "none":
            checks.fields(data, "noise_filter", ["type"])
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that ``from_dict`` reads."""
        return {"type": "none"} if self.type == "none" else {"type": self.type, "size": self.size}


@dataclass(frozen=True, slots=True)
class GravityFilter:
    """Low-pass filter that separates gravity from total acceleration. Body acceleration is the rest.

    ``butterworth`` is a causal Butterworth filter on each axis of the device. The published signals of UCI HAR were
    made by one of third order at 0.3 Hz (Anguita et al. 2013). ``complementary`` applies the same filter in a frame
    that does not turn with the device; the gyroscope tracks that frame. Gravity is then also right on a limb that
    swings.

    Raises:
        ConfigError: A field has a value that is not allowed.

    """

    type: str = "butterworth"  # butterworth or complementary
    order: int = 3
    cutoff_hz: float = 0.3

    def __post_init__(self) -> None:
        checks.choice(self.type, "gravity_filter.type", ("butterworth", "complementary"))
        checks.whole_number(self.order, "gravity_filter.order", minimum=1, maximum=8)
        checks.number(self.cutoff_hz, "gravity_filter.cutoff_hz", minimum=0.01, maximum=10.0)

    @property
    def uses_gyro(self) -> bool:
        """True if the filter needs the gyroscope."""
        return self.type == "complementary"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GravityFilter:
        """Read a JSON object with all three fields. Raise ConfigError if it is not valid."""
        return cls(**checks.fields(data, "gravity_filter", ["type", "order", "cutoff_hz"]))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that ``from_dict`` reads."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Mean and standard deviation of each channel over the training data, in the order of the spec's channels."""

    mean: tuple[float, ...]  # (n_channels,) in g or rad/s
    std: tuple[float, ...]  # (n_channels,) in g or rad/s

    @classmethod
    def identity(cls, n_channels: int) -> Normalisation:
        """Return the normalisation that changes nothing."""
        return cls((0.0,) * n_channels, (1.0,) * n_channels)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Normalisation:
        """Read a JSON object with the lists ``mean`` and ``std``. Raise ConfigError if it is not valid."""
        fields = checks.fields(data, "normalisation", ["mean", "std"])
        return cls(**{name: checks.sequence(values, f"normalisation.{name}") for name, values in fields.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that ``from_dict`` reads."""
        return {"mean": list(self.mean), "std": list(self.std)}

    def apply(self, windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the input of the network for windows (n_windows, window_samples, n_channels) in g and rad/s."""
        mean = np.asarray(self.mean, np.float32)
        scale = np.asarray(1.0 / np.asarray(self.std), np.float32)
        return (windows - mean) * scale


@dataclass(frozen=True, slots=True)
class SignalSpec:
    """Signal that a network was trained on and needs as its input.

    Raises:
        ConfigError: A field has a value that is not allowed. The message names the field.

    """

    sample_rate_hz: float = 50.0  # of the grid, 1 to 2,000
    window_samples: int = 128  # 8 to MAX_WINDOW_SAMPLES
    stride_samples: int = 64  # from the start of a window to that of the next, 1 to window_samples
    channels: tuple[str, ...] = DEFAULT_CHANNELS  # each of CHANNELS at most once, in the order of the network's input
    noise_filter: NoiseFilter = field(default_factory=NoiseFilter)
    gravity_filter: GravityFilter = field(default_factory=GravityFilter)
    normalisation: Normalisation | None = None  # None becomes the identity
    max_gap_s: float = 0.5  # a longer gap causes a restart, a shorter one is interpolated; 0 to 60

    def __post_init__(self) -> None:
        checks.number(self.sample_rate_hz, "sample_rate_hz", minimum=1.0, maximum=2000.0)
        checks.whole_number(self.window_samples, "window_samples", minimum=8, maximum=MAX_WINDOW_SAMPLES)
        checks.whole_number(self.stride_samples, "stride_samples", minimum=1, maximum=self.window_samples)
        if not self.channels:
            raise ConfigError(f"channels: expected at least one of {', '.join(CHANNELS)}, got none")
        for channel in self.channels:
            checks.choice(channel, "channels", CHANNELS)
            if self.channels.count(channel) > 1:
                raise ConfigError(f"channels: {channel} is listed more than once; list each channel once")
        if self.gravity_filter.cutoff_hz >= self.sample_rate_hz / 2:
            raise ConfigError(
                f"gravity_filter.cutoff_hz: expected less than half of sample_rate_hz ({self.sample_rate_hz / 2:g}), "
                f"got {self.gravity_filter.cutoff_hz:g}"
            )
        checks.number(self.max_gap_s, "max_gap_s", minimum=0.0, maximum=60.0)
        if self.normalisation is None:
            object.__setattr__(self, "normalisation", Normalisation.identity(len(self.channels)))
        for name in ("mean", "std"):
            values = getattr(self.normalisation, name)
            if len(values) != len(self.channels):
                raise ConfigError(
                    f"normalisation.{name}: got {len(values)} values for {len(self.channels)} channels, "
                    f"expected one per channel"
                )
            for value in values:
                checks.number(value, f"normalisation.{name}", minimum=-1e6 if name == "mean" else 1e-6, maximum=1e6)

    @property
    def n_channels(self) -> int:
        """Number of channels in a window."""
        return len(self.channels)

    @property
    def period_ns(self) -> float:
        """Time between two samples of the grid, in ns."""
        return 1e9 / self.sample_rate_hz

    @property
    def uses_gyro(self) -> bool:
        """True if the windows depend on the gyroscope, through a channel or through the gravity filter."""
        return self.gravity_filter.uses_gyro or any(channel in GYRO for channel in self.channels)

    @property
    def orientation_free(self) -> bool:
        """True if the windows are the same however the device lies.

        The median filters each axis by itself, so its result depends on how the device lies.
        """
        return self.noise_filter.type == "none" and set(self.channels) <= set(ORIENTATION_FREE)

    @property
    def norm(self) -> Normalisation:
        """The normalisation, typed as never None."""
        assert self.normalisation is not None
        return self.normalisation

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SignalSpec:
        """Read the ``signal`` section of a bundle or a ``train --spec`` file. Missing fields get their defaults.

        Raises:
            ConfigError: A field is unknown or has a value that is not allowed. The message names the field.

        """
        names = [f.name for f in dataclasses.fields(cls)]
        fields = checks.fields(data, "signal", [], [*names, "units"])
        units = fields.pop("units", UNITS)
        if units != UNITS:
            raise ConfigError(f"units: expected {UNITS!r}, got {units!r}")
        if "channels" in fields:
            fields["channels"] = checks.sequence(fields["channels"], "channels")
        parts = {"noise_filter": NoiseFilter, "gravity_filter": GravityFilter, "normalisation": Normalisation}
        for name, part in parts.items():
            if name in fields:
                fields[name] = part.from_dict(fields[name])  # type: ignore[attr-defined]
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that ``from_dict`` reads."""
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
