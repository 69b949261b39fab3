"""Second implementation of the engine, as simple as possible: one device at a time, with scipy and slicing only.

It imports nothing of ``harstream``. Samples are identified by *slots*: slot ``k`` is the ``k``-th sample of a device
since it was switched on, whether or not it arrived. The oracle knows the true slots; the engine must find them from the
stamps.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from scipy.signal import butter, kaiser_beta, kaiserord, medfilt, sosfilt, sosfilt_zi
from scipy.spatial.transform import Rotation
from scipy.special import i0


@dataclass
class Piece:
    """Consecutive samples between two restarts."""

    first_slot: int
    samples: list = field(default_factory=list)  # of (6,) arrays, one per slot


@dataclass
class Accepted:
    """Samples that must be accepted of the messages of a device, and the counts of its mishaps."""

    pieces: list[Piece]
    late: int = 0
    gaps: int = 0
    restarts: int = 0


def follow(arrivals: list[tuple[int, np.ndarray]], rate_hz: float, max_gap_s: float) -> Accepted:
    """Return what is accepted of messages (slot of the first sample, samples), given in order of arrival."""
    accepted = Accepted([])
    for first, samples in arrivals:
        for slot, sample in enumerate(samples.astype(np.float64), first):
            if not accepted.pieces:
                accepted.pieces.append(Piece(slot))
            piece = accepted.pieces[-1]
            due = piece.first_slot + len(piece.samples)
            if slot < due:
                accepted.late += 1
                continue
            if missing := slot - due:
                accepted.gaps += 1
                if missing / rate_hz > max_gap_s + 1e-9:
                    accepted.restarts += 1
                    piece = Piece(slot)
                    accepted.pieces.append(piece)
                else:
                    line = np.linspace(piece.samples[-1], sample, missing + 2)[1:-1]
                    piece.samples.extend(line.astype(np.float32).astype(np.float64))
            piece.samples.append(sample)
    return accepted


def resample(samples: np.ndarray, rate_hz: float, grid_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Resample onto the grid by a Kaiser-windowed sinc of 60 dB between 0.7 and 1.0 of the lower Nyquist frequency.

    Returns the outputs that have all inputs of the kernel, and their positions, counted in input samples.
    """
    if rate_hz == grid_hz:
        return samples, np.arange(len(samples), dtype=float)
    step = 1 / Fraction(grid_hz / rate_hz).limit_denominator(64)
    nyquist = min(1.0, grid_hz / rate_hz) / 2  # in cycles per input sample
    taps, _ = kaiserord(60, 2 * 0.3 * nyquist)
    half = (taps + 1) // 2
    beta = kaiser_beta(60)
    out, where = [], []
    position = Fraction(half - 1)
    while math.floor(position) + half < len(samples):
        near = np.arange(math.floor(position) - half + 1, math.floor(position) + half + 1)
        distance = near - float(position)
        kernel = np.sinc(2 * 0.85 * nyquist * distance) * i0(beta * np.sqrt(np.clip(1 - (distance / half) ** 2, 0, 1)))
        out.append(kernel / kernel.sum() @ samples[near])
        where.append(float(position))
        position += step
    return np.array(out).reshape(-1, samples.shape[1]), np.array(where)


def causal_median(signal: np.ndarray, size: int) -> np.ndarray:
    """Return the median of the last ``size`` samples (n,). Before the first sample come copies of it."""
    padded = np.concatenate([np.full(size - 1, signal[0]), signal])
    return medfilt(padded, size)[size // 2 : size // 2 + len(signal)]


def body_of(total: np.ndarray, window: int, grid_hz: float, order: int, cutoff_hz: float) -> np.ndarray:
    """Return total minus its low-pass (n,). The filter starts in its steady state for the mean of the first window."""
    sos = butter(order, cutoff_hz, fs=grid_hz, output="sos")
    gravity, _ = sosfilt(sos, total, zi=sosfilt_zi(sos) * total[:window].mean())
    return total - gravity


def frames_of(gyro: np.ndarray, grid_hz: float) -> list[Rotation]:
    """Return the rotations from the device's frame at each sample of ``gyro`` (n, 3) to its frame at the first."""
    frames = [Rotation.identity()]
    for before, after in itertools.pairwise(gyro):
        frames.append(frames[-1] * Rotation.from_rotvec((before + after) / 2 / grid_hz))
    return frames


def aided_body_of(
    total: np.ndarray, gyro: np.ndarray, window: int, grid_hz: float, order: int, cutoff_hz: float
) -> np.ndarray:
    """Return total minus gravity (n, 3); gravity is low-passed in the frame of the first sample and rotated back."""
    frames = frames_of(gyro, grid_hz)
    fixed = np.stack([frame.apply(vector) for frame, vector in zip(frames, total, strict=True)])
    gravity = fixed - np.stack([body_of(axis, window, grid_hz, order, cutoff_hz) for axis in fixed.T], axis=1)
    return total - np.stack([frame.inv().apply(vector) for frame, vector in zip(frames, gravity, strict=True)])


def orientation_free_of(total: np.ndarray, body: np.ndarray, grid_hz: float) -> np.ndarray:
    """Return vertical and horizontal body acceleration, length of the total, and speed of gravity's direction (n, 4).

    The speed is by the chord; at the first sample it is 0.
    """
    columns = []
    before = None
    for sample, part in zip(total, body, strict=True):
        up = (sample - part) / np.linalg.norm(sample - part)
        before = up if before is None else before
        across = np.linalg.norm(np.cross(part, up))
        columns.append([part @ up, across, np.linalg.norm(sample), np.linalg.norm(up - before) * grid_hz])
        before = up
    return np.array(columns).reshape(-1, 4)


NAMES = [
    *(f"{kind}_{axis}" for kind in ("total_acc", "gyro", "body_acc") for axis in "xyz"),
    *("vertical_acc", "horizontal_acc", "total_acc_norm", "gravity_turn"),
]


def windows(
    piece: Piece,
    rate_hz: float,
    *,
    grid_hz: float = 50.0,
    window: int = 128,
    stride: int = 64,
    channels: tuple[str, ...],
    median: int | None = 3,
    order: int = 3,
    cutoff_hz: float = 0.3,
    aided: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the windows of a piece (n_windows, window, n_channels), and the slot (a fraction) at which each begins."""
    grid, where = resample(np.array(piece.samples), rate_hz, grid_hz)
    if len(grid) < window:
        return np.zeros((0, window, len(channels))), np.zeros(0)
    clean = np.stack([causal_median(signal, median) if median else signal for signal in grid.T], axis=1)
    if aided:
        body = aided_body_of(clean[:, :3], clean[:, 3:], window, grid_hz, order, cutoff_hz)
    else:
        body = np.stack([body_of(signal, window, grid_hz, order, cutoff_hz) for signal in clean[:, :3].T], axis=1)
    free = orientation_free_of(clean[:, :3], body, grid_hz)
    every = np.concatenate([clean, body, free], axis=1)[:, [NAMES.index(name) for name in channels]]
    starts = range(0, len(grid) - window + 1, stride)
    return np.stack([every[start : start + window] for start in starts]), piece.first_slot + where[list(starts)]


def expected(accepted: Accepted, rate_hz: float, **how) -> tuple[np.ndarray, np.ndarray]:
    """Return the windows of all pieces, and the slot at which each begins."""
    parts = [windows(piece, rate_hz, **how) for piece in accepted.pieces]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
