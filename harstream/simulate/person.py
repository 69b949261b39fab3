"""One subject: everything personal, drawn from the joint distribution over subjects."""

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
    Subjects,
)
from harstream.simulate.posture import from_chart, to_chart

#: Stances charted about lying; the others are charted about standing.
LYING = ("lay1", "lay2")
#: Each stance is kept as its difference from another, so that "sitting leans 20 degrees further back
#: than standing did" is one number, not the difference of two.
RELATIVE_TO = {
    "stand1": "stand2",
    "sit1": "stand1",
    "sit2": "stand2",
    "lay2": "lay1",
    "WALKING": "stand2",
    "WALKING_UPSTAIRS": "WALKING",
    "WALKING_DOWNSTAIRS": "WALKING",
}
_ORDER = ("stand2", "lay1", "stand1", "sit1", "sit2", "lay2", *GAITS)


@dataclass(frozen=True, slots=True)
class Person:
    """What does not change while one subject wears one device."""

    gravity: dict[str, Float]  # stance -> (3,) unit direction
    stride_hz: dict[str, float]  # gait -> stride frequency
    cycle: dict[str, Complex]  # gait -> (6, HARMONICS + 1) in the frame of gravity, g and rad/s
    unsteadiness: dict[str, float]  # gait -> factor on the deviations of strides
    wander: dict[str, float]  # posture -> spread of gravity's slow wander, rad
    gyro_offset: Float  # (3,) rad/s the gyroscope reads at rest
    levels: dict[str, Float]  # activity -> (N_LEVELS,) log power of the rough part


def names(n_shape: int) -> tuple[str, ...]:
    """What ``Subjects`` describes, in order, for so many shape components."""
    return (
        *(f"chart/{stance}/{i}" for stance in STANCES for i in range(2)),
        *(f"{what}/{gait}" for what in ("log_hz", "log_acc", "log_gyro", "log_unsteady") for gait in GAITS),
        *(f"gyro_offset/{i}" for i in range(3)),
        *(f"log_wander/{posture}" for posture in POSTURES),
        *(f"turn/{gait}/{i}" for gait in GAITS for i in range(3)),
        *(f"shape/{i}" for i in range(n_shape)),
        *(f"level/{activity}/{i}" for activity in ACTIVITIES for i in range(N_LEVELS)),
    )


def chart(gravity: dict[str, Float], upright: Float, lying: Float) -> dict[str, float]:
    """Directions of all stances -> the ``chart/...`` values of ``Subjects``."""
    at = {stance: to_chart(gravity[stance], lying if stance in LYING else upright) for stance in STANCES}
    out: dict[str, float] = {}
    for stance in STANCES:
        relative = at[stance] - (at[RELATIVE_TO[stance]] if stance in RELATIVE_TO else 0.0)
        out |= {f"chart/{stance}/{i}": float(relative[i]) for i in range(2)}
    return out


def unchart(values: dict[str, float], upright: Float, lying: Float) -> dict[str, Float]:
    """The inverse of ``chart``."""
    at: dict[str, Float] = {}
    for stance in _ORDER:
        relative = np.array([values[f"chart/{stance}/{i}"] for i in range(2)])
        at[stance] = relative + at[RELATIVE_TO[stance]] if stance in RELATIVE_TO else relative
    return {stance: from_chart(at[stance], lying if stance in LYING else upright) for stance in STANCES}


def draw_values(subjects: Subjects, rng: np.random.Generator) -> dict[str, float]:
    """One draw from the joint distribution over subjects, by name."""
    common = subjects.factors @ rng.standard_normal(subjects.factors.shape[1])
    score = common + subjects.specific * rng.standard_normal(len(subjects.names))
    return dict(zip(subjects.names, from_scores(score, subjects.quantiles).tolist(), strict=True))


def draw(parameters: Parameters, rng: np.random.Generator) -> Person:
    """A new subject."""
    values = draw_values(parameters.subjects, rng)
    shapes = np.array([values[f"shape/{i}"] for i in range(len(parameters.shape_components))])
    personal = np.tensordot(shapes, parameters.shape_components, 1)  # (3, 6, HARMONICS + 1)
    cycle = {}
    for index, gait in enumerate(GAITS):
        fitted = parameters.gaits[gait]
        loose = rng.standard_normal((6, HARMONICS + 1, 2)).view(np.complex128)[..., 0] * fitted.shape_spread
        whole = unit(fitted.shape + personal[index] + _gathered(loose, fitted.envelope))
        size = np.repeat([np.exp(values[f"log_acc/{gait}"]), np.exp(values[f"log_gyro/{gait}"])], 3)
        whole *= size[:, None]
        whole[3:, 0] = [values[f"turn/{gait}/{i}"] for i in range(3)]
        cycle[gait] = whole
    return Person(
        gravity=unchart(values, parameters.pole_upright, parameters.pole_lying),
        stride_hz={gait: float(np.exp(values[f"log_hz/{gait}"])) for gait in GAITS},
        cycle=cycle,
        unsteadiness={gait: float(np.exp(values[f"log_unsteady/{gait}"])) for gait in GAITS},
        wander={posture: float(np.exp(values[f"log_wander/{posture}"])) for posture in POSTURES},
        gyro_offset=np.array([values[f"gyro_offset/{i}"] for i in range(3)]),
        levels={a: np.array([values[f"level/{a}/{i}"] for i in range(N_LEVELS)]) for a in ACTIVITIES},
    )


def _gathered(loose: Complex, series: Complex) -> Complex:
    """Random (6, HARMONICS + 1) -> the same power per channel, gathered about the heel strikes as the rough part is."""
    phase = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    wave = (loose @ np.exp(1j * np.arange(HARMONICS + 1)[:, None] * phase)).real
    size = envelope(series, phase).T
    wave *= size / np.sqrt((size**2).mean(1, keepdims=True))
    return np.asarray(np.fft.rfft(wave, axis=1)[:, : HARMONICS + 1] / 32, np.complex128)


def envelope(series: Complex, phase: Float) -> Float:
    """(6, n) Fourier series of a log amplitude and (m,) rad -> (m, 6) amplitudes."""
    turn = np.exp(1j * phase[:, None] * np.arange(series.shape[1]))
    return np.asarray(np.exp(turn.real @ series.real.T - turn.imag @ series.imag.T), np.float64)


def power(cycle: Complex) -> Float:
    """(6, HARMONICS + 1) -> (2,) root mean square of acc and of gyro over a stride, the mean left out."""
    each = (np.abs(cycle[:, 1:]) ** 2).sum(1) / 2
    return np.asarray(np.sqrt([each[:3].sum(), each[3:].sum()]), np.float64)


def unit(cycle: Complex) -> Complex:
    """The same cycle without its mean, acc and gyro each of power 1."""
    scaled = cycle / np.repeat(power(cycle), 3)[:, None]
    scaled[:, 0] = 0.0
    return np.asarray(scaled, np.complex128)
