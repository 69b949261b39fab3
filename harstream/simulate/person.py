"""Personal parameters of a simulated subject, drawn from the joint distribution over real subjects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harstream.simulate.noise import from_scores
from harstream.simulate.parameters import (
    ACTIVITIES,
    GAITS,
    HARMONICS,
    N_LEVELS,
    POSTURES,
    STANCES,
    Complex,
    Float,
    Parameters,
    SubjectDistribution,
)
from harstream.simulate.posture import from_chart, to_chart

#: Stances whose directions are charted about ``pole_lying``; the others are charted about ``pole_upright``.
LYING = ("lay1", "lay2")
#: Stance -> the stance that its chart coordinates are relative to. So "sitting leans 20 degrees further back than
#: standing" is one value with its own distribution, not the difference of two values.
RELATIVE_TO = {
    "stand1": "stand2",
    "sit1": "stand1",
    "sit2": "stand2",
    "lay2": "lay1",
    "WALKING": "stand2",
    "WALKING_UPSTAIRS": "WALKING",
    "WALKING_DOWNSTAIRS": "WALKING",
}
#: Each stance comes after the one that it is relative to.
_ORDER = ("stand2", "lay1", "stand1", "sit1", "sit2", "lay2", *GAITS)


@dataclass(frozen=True, slots=True)
class Person:
    """Everything about a simulated subject that is constant while this subject wears one wearable."""

    gravity: dict[str, Float]  # stance -> (3,) unit vector, in the axes of the wearable
    stride_hz: dict[str, float]  # gait -> stride frequency, Hz
    cycle: dict[str, Complex]  # gait -> (6, HARMONICS + 1) Fourier coefficients, x axis against gravity, g and rad/s
    unsteadiness: dict[str, float]  # gait -> factor on the deviation of each stride from the cycle
    wander: dict[str, float]  # posture -> standard deviation of the slow drift of gravity, rad
    gyro_offset: Float  # (3,) reading of the gyroscope at rest, rad/s
    levels: dict[str, Float]  # activity -> (N_LEVELS,) log power of the residual noise


def value_names(n_shape: int) -> tuple[str, ...]:
    """Return the names of the personal values, in the order of ``SubjectDistribution``, for ``n_shape`` components."""
    return (
        *(f"chart/{stance}/{i}" for stance in STANCES for i in range(2)),
        *(f"{value}/{gait}" for value in ("log_hz", "log_acc", "log_gyro", "log_unsteady") for gait in GAITS),
        *(f"gyro_offset/{i}" for i in range(3)),
        *(f"log_wander/{posture}" for posture in POSTURES),
        *(f"turn/{gait}/{i}" for gait in GAITS for i in range(3)),
        *(f"shape/{i}" for i in range(n_shape)),
        *(f"level/{activity}/{i}" for activity in ACTIVITIES for i in range(N_LEVELS)),
    )


def chart_values(gravity: dict[str, Float], upright: Float, lying: Float) -> dict[str, float]:
    """Return the ``chart/...`` values of the directions of all stances; ``upright`` and ``lying`` are the poles."""
    at = {stance: to_chart(gravity[stance], lying if stance in LYING else upright) for stance in STANCES}
    out: dict[str, float] = {}
    for stance in STANCES:
        relative = at[stance] - (at[RELATIVE_TO[stance]] if stance in RELATIVE_TO else 0.0)
        out |= {f"chart/{stance}/{i}": float(relative[i]) for i in range(2)}
    return out


def stance_directions(values: dict[str, float], upright: Float, lying: Float) -> dict[str, Float]:
    """Return the directions of all stances from their ``chart/...`` values; inverse of ``chart_values``."""
    at: dict[str, Float] = {}
    for stance in _ORDER:
        relative = np.array([values[f"chart/{stance}/{i}"] for i in range(2)])
        at[stance] = relative + at[RELATIVE_TO[stance]] if stance in RELATIVE_TO else relative
    return {stance: from_chart(at[stance], lying if stance in LYING else upright) for stance in STANCES}


def draw_values(distribution: SubjectDistribution, rng: np.random.Generator) -> dict[str, float]:
    """Draw the personal values of one subject, by name."""
    common = distribution.factors @ rng.standard_normal(distribution.factors.shape[1])
    score = common + distribution.specific * rng.standard_normal(len(distribution.names))
    return dict(zip(distribution.names, from_scores(score, distribution.quantiles).tolist(), strict=True))


def draw(parameters: Parameters, rng: np.random.Generator) -> Person:
    """Draw a simulated subject."""
    values = draw_values(parameters.subjects, rng)
    shapes = np.array([values[f"shape/{i}"] for i in range(len(parameters.shape_components))])
    personal = np.tensordot(shapes, parameters.shape_components, 1)  # (3, 6, HARMONICS + 1)
    cycle = {}
    for index, gait in enumerate(GAITS):
        fitted = parameters.gaits[gait]
        unexplained = rng.standard_normal((6, HARMONICS + 1, 2)).view(np.complex128)[..., 0] * fitted.shape_spread
        scaled = unit_power(fitted.shape + personal[index] + _concentrate(unexplained, fitted.envelope))
        size = np.repeat([np.exp(values[f"log_acc/{gait}"]), np.exp(values[f"log_gyro/{gait}"])], 3)
        scaled *= size[:, None]
        scaled[3:, 0] = [values[f"turn/{gait}/{i}"] for i in range(3)]
        cycle[gait] = scaled
    return Person(
        gravity=stance_directions(values, parameters.pole_upright, parameters.pole_lying),
        stride_hz={gait: float(np.exp(values[f"log_hz/{gait}"])) for gait in GAITS},
        cycle=cycle,
        unsteadiness={gait: float(np.exp(values[f"log_unsteady/{gait}"])) for gait in GAITS},
        wander={posture: float(np.exp(values[f"log_wander/{posture}"])) for posture in POSTURES},
        gyro_offset=np.array([values[f"gyro_offset/{i}"] for i in range(3)]),
        levels={a: np.array([values[f"level/{a}/{i}"] for i in range(N_LEVELS)]) for a in ACTIVITIES},
    )


def _concentrate(deviation: Complex, series: Complex) -> Complex:
    """Concentrate a random deviation (6, HARMONICS + 1) about the heel strikes, at the same power per channel.

    ``series`` is the envelope of the gait's residual noise, which has the same concentration.
    """
    phase = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    wave = (deviation @ np.exp(1j * np.arange(HARMONICS + 1)[:, None] * phase)).real
    size = envelope(series, phase).T
    wave *= size / np.sqrt((size**2).mean(1, keepdims=True))
    return np.asarray(np.fft.rfft(wave, axis=1)[:, : HARMONICS + 1] / 32, np.complex128)


def envelope(series: Complex, phase: Float) -> Float:
    """Return amplitudes (m, 6) at the phases (m,), in rad, from the Fourier series (6, n) of their logarithm."""
    turn = np.exp(1j * phase[:, None] * np.arange(series.shape[1]))
    return np.asarray(np.exp(turn.real @ series.real.T - turn.imag @ series.imag.T), np.float64)


def power(cycle: Complex) -> Float:
    """Return the root mean square (2,) of acc and of gyro over a stride of ``cycle``, without its mean."""
    each = (np.abs(cycle[:, 1:]) ** 2).sum(1) / 2
    return np.asarray(np.sqrt([each[:3].sum(), each[3:].sum()]), np.float64)


def unit_power(cycle: Complex) -> Complex:
    """Return the cycle without its mean, acc and gyro each scaled to power 1."""
    scaled = cycle / np.repeat(power(cycle), 3)[:, None]
    scaled[:, 0] = 0.0
    return np.asarray(scaled, np.complex128)
