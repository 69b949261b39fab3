"""Checks of the length of a window against the needs of an architecture."""

from __future__ import annotations

from harstream.errors import ConfigError


def require_samples(name: str, window_samples: int, needed: int) -> None:
    """Raise ConfigError if a window is shorter than the ``needed`` samples."""
    if window_samples < needed:
        raise ConfigError(
            f"architecture {name} needs windows of at least {needed} samples with these settings, got {window_samples}"
        )


def block_samples(name: str, window_samples: int, blocks: int, needed: int) -> int:
    """Return the length of each of the ``blocks`` that a window is cut into.

    Raises:
        ConfigError: The blocks would differ in length, or have fewer than the ``needed`` samples.

    """
    require_samples(name, window_samples, blocks * needed)
    if window_samples % blocks:
        raise ConfigError(
            f"architecture {name} cuts a window into {blocks} blocks of equal length, but a window has "
            f"{window_samples} samples: change blocks or window_samples"
        )
    return window_samples // blocks
