"""Whether a window is long enough, and divides, for an architecture."""

from __future__ import annotations

from harstream.errors import ConfigError


def at_least(name: str, window_samples: int, needed: int) -> None:
    """Raises ConfigError where a window is shorter than the ``needed`` samples."""
    if window_samples < needed:
        raise ConfigError(
            f"architecture {name} needs windows of at least {needed} samples with these settings, not {window_samples}"
        )


def block_samples(name: str, window_samples: int, blocks: int, needed: int) -> int:
    """The length of each of the ``blocks`` a window is cut into, one after another.

    Raises ConfigError where they cannot be of equal length, or have less than the ``needed`` samples.
    """
    at_least(name, window_samples, blocks * needed)
    if window_samples % blocks:
        raise ConfigError(
            f"architecture {name} cuts a window into {blocks} blocks of equal length, "
            f"which {window_samples} samples do not give: set blocks or window_samples"
        )
    return window_samples // blocks
