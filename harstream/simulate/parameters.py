"""Fitted parameters of the simulator: ``research.simulator.fit`` writes ``parameters.json``, the synthesis reads it.

Everything in the file is a statistic over all real subjects of the recordings it was fitted to: means, covariances,
principal components, quantiles. The file contains no samples of a recording.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from importlib import resources
from typing import Any, TypeVar, get_type_hints

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]
Int = npt.NDArray[np.int64]

GAITS = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS")
POSTURES = ("SITTING", "STANDING", "LAYING")
#: All activities. A label of the simulator is an index into this tuple.
ACTIVITIES = (*GAITS, *POSTURES)
#: Stances: a direction of gravity is drawn for each. A subject who sat down from standing leans back further than one
#: who sat up from lying, so each posture has two stances: ``1`` after standing, ``2`` after the other posture
#: (STANDING: ``2`` after sitting).
STANCES = ("stand1", "stand2", "sit1", "sit2", "lay1", "lay2", *GAITS)

#: Motion is synthesised at this rate, that of the recordings, and resampled to any other rate.
BASE_RATE_HZ = 50.0
#: Number of harmonics of the stride frequency (half the step frequency): up to about 15 Hz.
HARMONICS = 16
#: Residual noise is synthesised from FFT frames of SEGMENT samples that overlap by half.
SEGMENT = 256
HOP = SEGMENT // 2
#: Lower edges, in Hz, of the bands whose noise power varies independently: sway, movement, tremor, sensor noise.
BANDS_HZ = (0.1, 1.1, 5.0, 11.0)
#: Number of noise levels: the log power of each channel in each band, ordered by channel, then by band.
N_LEVELS = 6 * len(BANDS_HZ)
#: Probabilities of the stored quantiles of marginal distributions. No value beyond the first and the last is drawn.
QUANTILES = (0.02, 0.07, 0.16, 0.3, 0.5, 0.7, 0.84, 0.93, 0.98)

#: Time constant, in s, of the slow drift of gravity within a posture.
WANDER_S = 25.0

#: Noise above this frequency, in Hz, comes in bursts (steps, jerks) of about BURST_SAMPLES samples.
BURST_HZ = BANDS_HZ[2]
BURST_SAMPLES = 9

#: First FFT bin of each group of bins that share one cross-spectral density; bin 0 is not used. No group crosses the
#: edge of a band.
GROUPS = (1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 16, 19, 22, 26, 30, 35, 40, 46, 51, 57, 65, 75, 86, 98, 112)


@dataclass(frozen=True, slots=True)
class Noise:
    """Residual noise of one activity: what neither posture nor gait cycle explains (sway, fidgeting, sensor noise).

    A gait's noise is in the frame whose x axis points against gravity, a posture's in the axes of the wearable.
    """

    factors: Complex  # (len(GROUPS), 6, 6) lower Cholesky factors of the cross-spectral density at unit level
    moment: Float  # (N_LEVELS, N_LEVELS) Cholesky factor of the log levels' covariance within a subject
    bout_share: float  # share of that variance that is constant within a bout
    persistence: float  # correlation of the other share from one hop of HOP samples to the next
    quantiles: Float  # (N_LEVELS, len(QUANTILES)) of the deviation from the subject's own log level
    bursts: float  # standard deviation of the log amplitude, sample by sample, above BURST_HZ
    ceiling: Float  # (N_LEVELS,) upper bound of the log levels, the same for all subjects


@dataclass(frozen=True, slots=True)
class Turns:
    """Turns on the landings of a staircase, in pairs. Each field is (median, standard deviation of the logarithm)."""

    angle_rad: Float  # (2,) signed; the standard deviation is of the angle itself
    width_s: Float  # (2,) standard deviation of the Gaussian bump of angular velocity
    first_s: Float  # (2,) from the start of the stairs to the first turn
    gap_s: Float  # (2,) between the two turns of a pair


@dataclass(frozen=True, slots=True)
class Gait:
    """One gait (level, upstairs or downstairs), in the frame whose x axis points against gravity.

    A cycle is given by Fourier coefficients over the phase of the stride.
    """

    shape: Complex  # (6, HARMONICS + 1) mean cycle over subjects; acc and gyro each scaled to power 1
    shape_spread: Float  # (6, HARMONICS + 1) standard deviation that shape_components do not explain
    components: Complex  # (n_components, 6, HARMONICS + 1) principal components of a stride's deviation, g and rad/s
    component_std: Float  # (n_components,) standard deviation of each component's score
    component_bout: Float  # (n_components,) share of the variance that is constant within a bout
    component_persistence: Float  # (n_components,) correlation of the other share from one stride to the next
    pace_std: float  # standard deviation of the log stride frequency within a subject
    pace_bout: float  # share of that variance that is constant within a bout
    pace_persistence: float  # correlation of the other share from one stride to the next
    envelope: Complex  # (6, n) Fourier series, over the phase, of the residual noise's log amplitude


@dataclass(frozen=True, slots=True)
class SubjectDistribution:
    """Joint distribution of the personal values over real subjects: a Gaussian copula with a factor model.

    ``person.value_names`` lists the values; one draw from the distribution is one simulated subject.
    """

    names: tuple[str, ...]
    quantiles: Float  # (n_names, len(QUANTILES)) quantiles of each value's marginal distribution
    factors: Float  # (n_names, n_factors) factor loadings of the normal scores
    specific: Float  # (n_names,) standard deviation that the factors do not explain


@dataclass(frozen=True, slots=True)
class Parameters:
    """Content of ``parameters.json``."""

    source: str  # data set and number of subjects of the fit
    gain: Float  # (3,) the accelerometer reads gain * true acceleration + offset, in g
    offset: Float  # (3,) g
    pole_upright: Float  # (3,) unit vector: origin of the chart of the upright stances (see posture.to_chart)
    pole_lying: Float  # (3,) the same for lying
    transition_s: dict[str, Float]  # duration of "SITTING>STANDING" and so on: (2,) median in s, log standard deviation
    shape_components: (
        Complex  # (n_components, 3, 6, HARMONICS + 1) principal components of subjects' cycles, gaits jointly
    )
    gaits: dict[str, Gait]  # by activity
    turns: dict[str, Turns]  # by gait; gaits that go straight are absent
    noises: dict[str, Noise]  # by activity
    subjects: SubjectDistribution

    def __post_init__(self) -> None:
        # The rounded digits of the file leave the length slightly different from 1.
        object.__setattr__(self, "pole_upright", self.pole_upright / np.linalg.norm(self.pole_upright))
        object.__setattr__(self, "pole_lying", self.pole_lying / np.linalg.norm(self.pole_lying))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        if np.iscomplexobj(value):
            return {"re": _plain(value.real), "im": _plain(value.imag)}
        digits = 4 if value.ndim < 2 else 3
        return np.vectorize(lambda entry: float(f"{entry:.{digits}g}"), otypes=[float])(value).tolist()
    if isinstance(value, float | np.floating):
        return float(f"{value:.4g}")
    return list(value) if isinstance(value, tuple) else value


_T = TypeVar("_T")


def _build(kind: type[_T], data: Any) -> _T:
    built: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        value = data[name]
        if hint == Complex:
            value = np.array(value["re"], np.float64) + 1j * np.array(value["im"], np.float64)
        elif hint == Float:
            value = np.array(value, np.float64)
        elif isinstance(hint, type) and is_dataclass(hint):
            value = _build(hint, value)
        elif isinstance(value, Mapping):
            inner = hint.__args__[1]
            if isinstance(inner, type) and is_dataclass(inner):
                value = {key: _build(inner, entry) for key, entry in value.items()}
            elif inner == Float:
                value = {key: np.array(entry, np.float64) for key, entry in value.items()}
        elif isinstance(value, list):
            value = tuple(value)
        built[name] = value
    return kind(**built)


def dumps(parameters: Parameters) -> str:
    """Return the parameters as JSON, with three significant digits in tables and four elsewhere."""
    return json.dumps(_plain(parameters), separators=(",", ":")) + "\n"


def loads(text: str) -> Parameters:
    """Return the parameters that ``dumps`` wrote.

    Raises:
        KeyError: A field is missing.

    """
    return _build(Parameters, json.loads(text))


@cache
def default() -> Parameters:
    """Return the parameters shipped in the package; they are read once."""
    return loads(resources.files("harstream.simulate").joinpath("parameters.json").read_text("utf-8"))
