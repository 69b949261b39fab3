"""Recipe of a fit: the settings that ``train --set`` changes and that a bundle records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from harstream import checks
from harstream.errors import ConfigError
from harstream.train.fitting import architectures

#: The least and the greatest value of each number; limits that are ints belong to a whole number.
_LIMITS: dict[str, tuple[float, float]] = {
    "epochs": (1, 10_000),
    "batch_windows": (1, 65_536),
    "learning_rate": (1e-7, 10.0),
    "weight_decay": (0.0, 10.0),
    "label_smoothing": (0.0, 0.9),
    "average": (0.0, 0.99999),
    "patience": (0, 10_000),
    "held_out_share": (0.01, 0.9),
    "set_windows": (0, 10_000_000),
    "tilt_deg": (0.0, 180.0),
    "turned_share": (0.0, 1.0),
    "mirrored_share": (0.0, 1.0),
    "flipped_share": (0.0, 1.0),
    "smoothed_share": (0.0, 1.0),
    "unfamiliar_share": (0.0, 0.9),
    "stretch": (0.0, 1.0),
    "warp": (0.0, 2.0),
    "scale": (0.0, 2.0),
    "vigour": (0.0, 2.0),
    "coupling_db": (0.0, 40.0),
    "gyro_drift": (0.0, 1.0),
    "jitter": (0.0, 10.0),
    "channel_dropout": (0.0, 0.9),
    "mixup": (0.0, 100.0),
    "teachers": (0, 100),
    "distil_weight": (0.0, 1.0),
    "distil_temperature": (0.1, 100.0),
    "seed": (0, 2**31 - 1),
    "folds": (2, 1000),
}
_SWITCHES = ("standardise", "class_weights", "balance_sets")


@dataclass(frozen=True, slots=True)
class FitConfig:
    """The settings of training and validation; the defaults are the recipe of the shipped ``waist``.

    A setting that can be switched off is off at 0 or False, and then takes no time.

    Raises:
        ConfigError: A value is of the wrong type or out of range; the message names the field.

    """

    arch: str = architectures.DEFAULT
    arch_settings: Mapping[str, Any] = field(default_factory=dict)
    standardise: bool = True  # each channel to mean 0 and deviation 1; False: inputs in g and rad/s
    epochs: int = 15
    batch_windows: int = 256  # at most: fewer if an epoch had less than MIN_STEPS steps otherwise (see ``loop``)
    learning_rate: float = 2e-3  # the greatest, after the first epoch; it then falls to 0 by a half cosine
    weight_decay: float = 1e-4
    label_smoothing: float = 0.05
    class_weights: bool = False  # give every label the same share of the loss
    balance_sets: bool = False  # draw every data set as often as the others within a label (see ``balance``)
    set_windows: int = 0  # windows of one label of one data set that are trained on, at most; 0: all
    average: float = 0.99  # decay per step of the moving average of the weights; 0: the last weights are the result
    # Early stopping, on some subjects of the training data that are not trained on.
    patience: int = 0  # epochs without a lower loss on them after which the training stops
    held_out_share: float = 0.15  # share of the subjects, at least one
    # Augmentations in the order of their application; see ``augment`` for each. Shares are of the windows.
    stretch: float = 0.1  # standard deviation of the logarithm of the pace
    warp: float = 0.0  # the same of a pace that changes within the window
    tilt_deg: float = 20.0  # standard deviation of the angle
    turned_share: float = 0.15  # turned about the vertical by any angle
    mirrored_share: float = 0.0
    mirror_axis: str = "x"  # axis of the device that points to the side of the subject
    flipped_share: float = 0.0
    flip_axis: str = "z"  # axis of the device that is normal to its face
    scale: float = 0.0  # standard deviation of the logarithm of the gain of a sensor
    vigour: float = 0.0  # standard deviation of the logarithm of the gain of body acceleration
    coupling_db: float = 0.0  # standard deviation in dB of a gain of body acceleration at each frequency
    smoothed_share: float = 0.5  # low-pass filtered
    gyro_drift: float = 0.03  # greatest standard deviation of offset and drift, rad/s
    jitter: float = 0.0  # standard deviation of noise, in standard deviations of the channel
    channel_dropout: float = 0.0  # probability that a sensor's triad is set to 0
    unfamiliar_share: float = 0.1  # made unfamiliar, with all labels equally likely
    mixup: float = 0.0  # alpha of the Beta distribution of the blend
    # Distillation: an ensemble of teachers is trained first, and the network learns from its probabilities as well.
    teachers: int = 0
    teacher_arch: str = ""  # empty: the architecture of the network itself
    teacher_settings: Mapping[str, Any] = field(default_factory=dict)
    distil_weight: float = 0.7  # share of the teachers in the loss
    distil_temperature: float = 2.0
    seed: int = 0
    folds: int = 5  # of subjects, each held out once for validation

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            check = checks.whole_number if isinstance(low, int) else checks.number
            check(getattr(self, name), name, low, high)
        for name in _SWITCHES:
            checks.flag(getattr(self, name), name)
        for name in ("mirror_axis", "flip_axis"):
            checks.choice(getattr(self, name), name, ("x", "y", "z"))
        _check_settings("arch_settings", self.arch, self.arch_settings)
        if not isinstance(self.teacher_arch, str):
            raise ConfigError(f"teacher_arch: expected a name, got {self.teacher_arch!r}")
        _check_settings("teacher_settings", self.teacher_arch or self.arch, self.teacher_settings)

    def with_settings(self, settings: Mapping[str, Any]) -> FitConfig:
        """Return the config with these settings: fields of this class, or settings of the architecture.

        Raises:
            ConfigError: There is no such setting, or its value is not possible.

        """
        own = {f.name for f in fields(self)} - {"arch", "arch_settings"}
        known = architectures.settings_of(self.arch)
        for name in settings:
            if name not in own and name not in known:
                raise ConfigError(f"no setting {name!r}; the settings are {', '.join(sorted({*own, *known}))}")
        mine: dict[str, Any] = {name: value for name, value in settings.items() if name in own}
        of_arch = {name: value for name, value in settings.items() if name in known}
        return replace(self, arch_settings={**self.arch_settings, **of_arch}, **mine)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as JSON, with the defaults of the architecture filled in."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**values, "arch_settings": {**architectures.settings_of(self.arch), **self.arch_settings}}

    def of_teacher(self, number: int) -> FitConfig:
        """Return the config of teacher ``number`` (from 0): that of the network, with a seed of its own."""
        inherited = {} if self.teacher_arch and self.teacher_arch != self.arch else self.arch_settings
        return replace(
            self,
            arch=self.teacher_arch or self.arch,
            arch_settings={**inherited, **self.teacher_settings},
            teachers=0,
            teacher_arch="",
            teacher_settings={},
            seed=int(np.random.SeedSequence((self.seed, number + 1)).generate_state(1)[0]) % 2**31,
        )


def _check_settings(name: str, arch: str, settings: Any) -> None:
    """Raise ConfigError if ``settings`` are not valid settings of the architecture, by name."""
    if not isinstance(settings, Mapping):
        raise ConfigError(f"{name}: expected settings by name, got {settings!r}")
    architectures.check_settings(arch, settings)
