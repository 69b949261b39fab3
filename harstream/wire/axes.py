"""Axes: those of the model in terms of those of a device, such as ``-y x z``."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

import numpy as np

from harstream.core.batches import Float32
from harstream.errors import ConfigError

_NAMES = "xyz"
_AXIS = re.compile(r"[+-]?[xyz]")


@dataclass(frozen=True, slots=True)
class Axes:
    """Mapping of axes.

    A mapping that mirrors, such as ``-x -y -z``, turns the sign of accelerations round and leaves rotations as they
    are, which is the difference between the signs of iOS and of Android.
    """

    columns: tuple[int, int, int] = (0, 1, 2)  # axis of the device for each axis of the model
    signs: tuple[int, int, int] = (1, 1, 1)

    @classmethod
    def parse(cls, text: str, option: str = "axes") -> Axes:
        """Return the mapping of a text such as ``-y x z``; commas may separate the axes too.

        Raises:
            ConfigError: The text does not name x, y and z once each.

        """
        parts = text.replace(",", " ").split()
        columns = tuple(_NAMES.index(part[-1]) for part in parts if _AXIS.fullmatch(part))
        if len(parts) != 3 or sorted(columns) != [0, 1, 2]:
            raise ConfigError(
                f"{option}: {text!r} does not name x, y and z once each, with or without -, as in '-y x z'"
            )
        signs = tuple(-1 if part.startswith("-") else 1 for part in parts)
        return cls(columns, signs)  # type: ignore[arg-type]

    @property
    def is_identity(self) -> bool:
        """True if the axes are those of the device."""
        return self == Axes()

    @property
    def mirrors(self) -> bool:
        """True if the mapping is no rotation."""
        swaps = sum(a > b for a, b in itertools.combinations(self.columns, 2))
        return bool(np.prod(self.signs) * (-1) ** swaps < 0)

    def apply(self, samples: Float32) -> Float32:
        """Return samples (n_samples, 6) of acc and gyro along the axes of the model."""
        columns = [*self.columns, *(3 + column for column in self.columns)]
        turn = -1 if self.mirrors else 1
        signs = np.array([*self.signs, *(turn * sign for sign in self.signs)], np.float32)
        return np.asarray(samples[:, columns] * signs, np.float32)
