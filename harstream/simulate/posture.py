"""Directions of gravity: charts on the sphere, rotations, and the angular velocity that belongs to them.

A direction is the unit vector that an ideal accelerometer at rest reads, in the axes of the wearable.
"""

from __future__ import annotations

import numpy as np

from harstream.simulate.parameters import BASE_RATE_HZ, Float


def _basis(pole: Float) -> Float:
    """Return two unit vectors (2, 3) that are orthogonal to the unit vector ``pole`` (3,) and to each other."""
    away = np.eye(3)[np.argmin(np.abs(pole))]
    first = away - pole * float(away @ pole)
    first /= np.linalg.norm(first)
    return np.array([first, np.cross(pole, first)])


def to_chart(direction: Float, pole: Float) -> Float:
    """Map unit vectors (..., 3) to the plane (..., 2) that touches the sphere at ``pole``, in rad.

    This is the logarithmic map of the sphere: the length of the result is the angle from the pole.
    """
    along = np.clip(direction @ pole, -1.0, 1.0)
    across = direction @ _basis(pole).T
    length = np.linalg.norm(across, axis=-1)
    scale = np.where(length > 1e-12, np.arccos(along) / np.maximum(length, 1e-12), 1.0)
    return np.asarray(across * scale[..., None], np.float64)


def from_chart(chart: Float, pole: Float) -> Float:
    """Return the unit vectors (..., 3) that ``to_chart`` maps to ``chart`` (..., 2), in rad."""
    angle = np.linalg.norm(chart, axis=-1)[..., None]
    return np.asarray(np.cos(angle) * pole + np.sinc(angle / np.pi) * (chart @ _basis(pole)), np.float64)


def tilt(direction: Float) -> Float:
    """Return the smallest rotation (3, 3) that turns the x axis to ``direction`` (3,), by Rodrigues' formula.

    Row vectors times its transpose go from the frame whose x axis points against gravity to the wearable's frame.
    """
    cosine = float(direction[0])
    axis = np.array([0.0, -direction[2], direction[1]])  # e_x x direction
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.asarray(np.eye(3) + cross + cross @ cross / max(1.0 + cosine, 1e-6), np.float64)


def between(start: Float, stop: Float, share: Float) -> Float:
    """Interpolate between unit vectors on the great circle (spherical linear interpolation).

    Args:
        start: (n, 3) unit vectors.
        stop: (n, 3) unit vectors.
        share: (n,) position between them, 0 at ``start`` and 1 at ``stop``.

    """
    angle = np.arccos(np.clip((start * stop).sum(1), -1.0, 1.0))
    safe = np.maximum(np.sin(angle), 1e-9)
    blend = (np.sin((1 - share) * angle) / safe)[:, None] * start + (np.sin(share * angle) / safe)[:, None] * stop
    straight = (1 - share)[:, None] * start + share[:, None] * stop
    mixed = np.where((angle > 1e-4)[:, None], blend, straight)
    return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), np.float64)


def angular_velocity(directions: Float) -> Float:
    """Return the angular velocity (n, 3), in rad/s, of the smallest rotations between successive ``directions``.

    ``directions`` are n + 1 unit vectors of gravity at the base rate. A wearable that turns with ``w`` sees gravity
    change by ``dg/dt = -w x g``; ``w = -g x dg/dt`` is the part of ``w`` that is orthogonal to gravity.
    """
    return np.asarray(-np.cross(directions[:-1], directions[1:]) * BASE_RATE_HZ, np.float64)
