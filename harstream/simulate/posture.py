"""Directions of gravity: charts on the sphere, rotations, and the gyroscope that goes with them.

A direction is the unit vector an ideal accelerometer at rest reads, in the wearable's axes.
"""

from __future__ import annotations

import numpy as np

from harstream.simulate.parameters import BASE_RATE_HZ, Float


def _basis(pole: Float) -> Float:
    """(3,) unit -> (2, 3): two unit vectors at right angles to it and each other."""
    away = np.eye(3)[np.argmin(np.abs(pole))]
    first = away - pole * float(away @ pole)
    first /= np.linalg.norm(first)
    return np.array([first, np.cross(pole, first)])


def to_chart(direction: Float, pole: Float) -> Float:
    """(..., 3) unit vectors -> (..., 2) rad: distance and bearing from the pole (logarithmic map)."""
    along = np.clip(direction @ pole, -1.0, 1.0)
    across = direction @ _basis(pole).T
    length = np.linalg.norm(across, axis=-1)
    scale = np.where(length > 1e-12, np.arccos(along) / np.maximum(length, 1e-12), 1.0)
    return np.asarray(across * scale[..., None], np.float64)


def from_chart(chart: Float, pole: Float) -> Float:
    """The inverse of ``to_chart``: (..., 2) rad -> (..., 3) unit vectors."""
    angle = np.linalg.norm(chart, axis=-1)[..., None]
    return np.asarray(np.cos(angle) * pole + np.sinc(angle / np.pi) * (chart @ _basis(pole)), np.float64)


def tilt(direction: Float) -> Float:
    """(3,) -> (3, 3): the least rotation that takes the x axis to this direction (Rodrigues).

    Rows times its transpose go from the frame of gravity to the wearable's.
    """
    cosine = float(direction[0])
    axis = np.array([0.0, -direction[2], direction[1]])  # e_x x direction
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.asarray(np.eye(3) + cross + cross @ cross / max(1.0 + cosine, 1e-6), np.float64)


def between(start: Float, stop: Float, share: Float) -> Float:
    """(n, 3), (n, 3) unit vectors and (n,) in 0 to 1 -> (n, 3) on the great circle between them."""
    angle = np.arccos(np.clip((start * stop).sum(1), -1.0, 1.0))
    safe = np.maximum(np.sin(angle), 1e-9)
    blend = (np.sin((1 - share) * angle) / safe)[:, None] * start + (np.sin(share * angle) / safe)[:, None] * stop
    straight = (1 - share)[:, None] * start + share[:, None] * stop
    mixed = np.where((angle > 1e-4)[:, None], blend, straight)
    return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), np.float64)


def angular_velocity(directions: Float) -> Float:
    """(n + 1, 3) unit vectors at the base rate -> (n, 3) rad/s of the least rotation that moves them.

    A wearable turning with ``w`` sees gravity move by ``-w x g``; ``w = -g x dg/dt`` is its part at
    right angles to gravity.
    """
    return np.asarray(-np.cross(directions[:-1], directions[1:]) * BASE_RATE_HZ, np.float64)
