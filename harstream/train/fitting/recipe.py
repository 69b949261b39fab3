"""FitConfig: how a network is trained, in figures that provenance keeps and ``train --set`` changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from harstream.errors import ConfigError
from harstream.train.fitting import architectures

#: Limits of the numbers; those of a whole number are whole.
_LIMITS: dict[str, tuple[float, float]] = {
    "epochs": (1, 10_000),
    "batch_windows": (1, 65_536),
    "learning_rate": (1e-7, 10.0),
    "weight_decay": (0.0, 10.0),
    "label_smoothing": (0.0, 0.9),
    "average": (0.0, 0.99999),
    "patience": (0, 10_000),
    "held_out_share": (0.01, 0.9),
    "tilt_deg": (0.0, 180.0),
    "turned_share": (0.0, 1.0),
    "mirrored_share": (0.0, 1.0),
    "flipped_share": (0.0, 1.0),
    "smoothed_share": (0.0, 1.0),
    "strangers_share": (0.0, 0.9),
    "stretch": (0.0, 1.0),
    "warp": (0.0, 2.0),
    "scale": (0.0, 2.0),
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
_SWITCHES = ("standardise", "class_weights")


@dataclass(frozen=True, slots=True)
class FitConfig:
    """How to train and validate. The defaults are the shipped recipe; see docs/results for what it reaches.

    What can be switched off is off at 0 or False, and then costs nothing. Raises ConfigError from its
    constructor, naming the field.
    """

    arch: str = architectures.DEFAULT
    arch_settings: Mapping[str, Any] = field(default_factory=dict)
    standardise: bool = True  # else the network is given g and rad/s as they are
    epochs: int = 15
    batch_windows: int = 256  # at most; fewer where an epoch would have less than MIN_STEPS steps
    learning_rate: float = 2e-3  # the peak, reached after the first epoch; a half cosine leads to 0
    weight_decay: float = 1e-4
    label_smoothing: float = 0.05
    class_weights: bool = False  # every label counts the same in the loss, however rare
    average: float = 0.99  # decay per step of the weights' moving average, which is then the result; 0: the last ones
    # Early stopping: some subjects of the training data are not trained on but watched.
    patience: int = 0  # epochs to wait for a lower loss on them
    held_out_share: float = 0.15  # of the subjects, at least one
    # Augmentation, in the order it is done; see ``augment`` for each.
    stretch: float = 0.1
    warp: float = 0.0
    tilt_deg: float = 20.0
    turned_share: float = 0.15  # of the windows, turned about the vertical as well, by any angle
    mirrored_share: float = 0.0
    mirror_axis: str = "x"  # of the device, across which the subject's other side is the mirror image
    flipped_share: float = 0.0
    flip_axis: str = "z"  # of the device, about which it may be worn half a turn round
    scale: float = 0.0
    smoothed_share: float = 0.5
    gyro_drift: float = 0.03  # rad/s
    jitter: float = 0.0  # in standard deviations of the channel over all windows
    channel_dropout: float = 0.0
    strangers_share: float = 0.1  # made into what no subject does, to be in doubt of
    mixup: float = 0.0
    # Distillation: an ensemble is trained first, on the same windows, and the network then learns from it as well.
    teachers: int = 0
    teacher_arch: str = ""  # the same where it is empty
    teacher_settings: Mapping[str, Any] = field(default_factory=dict)
    distil_weight: float = 0.7  # of the teachers in the loss; the labels have the rest
    distil_temperature: float = 2.0
    seed: int = 0
    folds: int = 5  # groups of subjects held out in turn for validation

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            whole = isinstance(low, int)
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise ConfigError(f"{name}: expected a {'whole ' if whole else ''}number, got {value!r}")
            if not low <= value <= high:
                raise ConfigError(f"{name}: {value!r} is not between {low} and {high}")
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}: expected true or false, got {getattr(self, name)!r}")
        for name in ("mirror_axis", "flip_axis"):
            if getattr(self, name) not in ("x", "y", "z"):
                raise ConfigError(f"{name}: {getattr(self, name)!r} is not x, y or z")
        _check_settings("arch_settings", self.arch, self.arch_settings)
        if not isinstance(self.teacher_arch, str):
            raise ConfigError(f"teacher_arch: expected a name, got {self.teacher_arch!r}")
        _check_settings("teacher_settings", self.teacher_arch or self.arch, self.teacher_settings)

    def with_settings(self, settings: Mapping[str, Any]) -> FitConfig:
        """With ``--set`` applied: names of fields here or of the architecture's settings. Raises ConfigError."""
        own = {f.name for f in fields(self)} - {"arch", "arch_settings"}
        known = architectures.settings_of(self.arch)
        for name in settings:
            if name not in own and name not in known:
                raise ConfigError(f"no setting {name!r}; there are {', '.join(sorted({*own, *known}))}")
        mine: dict[str, Any] = {name: value for name, value in settings.items() if name in own}
        of_arch = {name: value for name, value in settings.items() if name in known}
        return replace(self, arch_settings={**self.arch_settings, **of_arch}, **mine)

    def to_dict(self) -> dict[str, Any]:
        """For provenance: every figure that decided the training."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**values, "arch_settings": {**architectures.settings_of(self.arch), **self.arch_settings}}

    def of_teacher(self, number: int) -> FitConfig:
        """How the teacher of this number, from 0, is trained: as its pupil, but from another seed."""
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
    if not isinstance(settings, Mapping):
        raise ConfigError(f"{name}: expected settings by name, got {settings!r}")
    known = architectures.settings_of(arch)
    for key in settings:
        if key not in known:
            raise ConfigError(f"architecture {arch} has no setting {key!r}; it has {', '.join(known)}")
