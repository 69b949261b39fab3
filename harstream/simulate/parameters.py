"""The fitted parameters: what ``fit.py`` writes to ``parameters.json`` and the synthesis reads.

Everything in the file is a statistic over all subjects of the recordings it was fitted to: means,
covariances, principal components, quantiles. None of it is a stretch of a recording.
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
#: Every activity; a label is an index into this.
ACTIVITIES = (*GAITS, *POSTURES)
#: A place where gravity rests. Someone who sat down leans back further than someone who sat up from
#: lying, and so on, so most postures have two: ``1`` as first taken, ``2`` after the other posture.
STANCES = ("stand1", "stand2", "sit1", "sit2", "lay1", "lay2", *GAITS)

#: All motion is made at this rate, that of the recordings, and resampled where another is asked for.
BASE_RATE_HZ = 50.0
#: Harmonics of the stride frequency (half the step frequency): up to about 15 Hz.
HARMONICS = 16
#: The rough part is made from half-overlapping segments of this many samples.
SEGMENT = 256
HOP = SEGMENT // 2
#: Lower edges of the bands in which its power varies on its own: sway, movement, tremor, the sensor.
BANDS_HZ = (0.1, 1.1, 5.0, 11.0)
#: Levels: the power of each channel in each band, channel by channel.
N_LEVELS = 6 * len(BANDS_HZ)
#: Probabilities at which marginal distributions are kept; the ends also bound what is drawn.
QUANTILES = (0.02, 0.07, 0.16, 0.3, 0.5, 0.7, 0.84, 0.93, 0.98)

#: Gravity's slow wander in a posture fades over this time, s.
WANDER_S = 25.0

#: What is faster comes in bursts (steps, jerks) of about BURST_SAMPLES.
BURST_HZ = BANDS_HZ[2]
BURST_SAMPLES = 9

#: First FFT bin of each group of bins that shares a cross-spectral density (bin 0 is not used). No group
#: lies across the edge of a band.
GROUPS = (1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 16, 19, 22, 26, 30, 35, 40, 46, 51, 57, 65, 75, 86, 98, 112)


@dataclass(frozen=True, slots=True)
class Noise:
    """The rough part of one activity: a gait's where x points against gravity, a posture's in the wearable's axes."""

    factors: Complex  # (len(GROUPS), 6, 6) lower Cholesky factors of the density, each level's power 1
    moment: Float  # (N_LEVELS, N_LEVELS) Cholesky factor of the log levels' covariance within a subject
    bout_share: float  # share of that variance that lasts for a bout
    persistence: float  # correlation of the rest from one hop to the next
    quantiles: Float  # (N_LEVELS, len(QUANTILES)) the marginals of the deviation from the subject's own level
    bursts: float  # spread of the log amplitude, from instant to instant, of what lies above BURST_HZ
    ceiling: Float  # (N_LEVELS,) what no level exceeds: rare and strong does not happen to the strong only


@dataclass(frozen=True, slots=True)
class Turns:
    """The turns on a staircase's landings, two and two: each median and (log) standard deviation."""

    angle_rad: Float  # (2,) signed, not logarithmic
    width_s: Float  # (2,) standard deviation of the Gaussian bump of angular velocity
    first_s: Float  # (2,) from the bottom (or top) to the first turn
    gap_s: Float  # (2,) between the two turns of a pair


@dataclass(frozen=True, slots=True)
class Gait:
    """One way of walking, in the frame whose x axis points against gravity."""

    shape: Complex  # (6, HARMONICS + 1) mean cycle over subjects, power 1 each for acc and gyro
    shape_spread: Float  # (6, HARMONICS + 1) standard deviation left by the components, per part
    components: Complex  # (n_components, 6, HARMONICS + 1) of the deviation of a stride, g and rad/s
    component_std: Float  # (n_components,)
    component_bout: Float  # (n_components,) share of the variance that lasts for a bout
    component_persistence: Float  # (n_components,) of the rest, from one stride to the next
    pace_std: float  # of the log stride frequency within a subject
    pace_bout: float  # share of that variance that lasts for a bout
    pace_persistence: float  # of the rest, from one stride to the next
    envelope: Complex  # (6, n) Fourier series over the phase of the rough part's log amplitude


@dataclass(frozen=True, slots=True)
class Subjects:
    """The joint distribution over subjects of everything personal: a Gaussian copula with factors."""

    names: tuple[str, ...]
    quantiles: Float  # (n_names, len(QUANTILES)) the marginals
    factors: Float  # (n_names, n_factors) loadings of the normal scores
    specific: Float  # (n_names,) standard deviation of what the factors leave


@dataclass(frozen=True, slots=True)
class Parameters:
    """All of ``parameters.json``."""

    source: str
    gain: Float  # (3,) the accelerometer reads gain * true + offset, in g
    offset: Float  # (3,)
    pole_upright: Float  # (3,) unit vector about which upright stances are charted
    pole_lying: Float  # (3,)
    transition_s: dict[str, Float]  # "SITTING>STANDING" -> (2,) median and log standard deviation
    shape_components: Complex  # (n_components, 3, 6, HARMONICS + 1) of the personal deviation of cycles
    gaits: dict[str, Gait]
    turns: dict[str, Turns]  # of the gaits that turn
    noises: dict[str, Noise]
    subjects: Subjects

    def __post_init__(self) -> None:
        # The file's digits leave them a little off length 1.
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
    """As JSON, three significant digits in tables, four elsewhere."""
    return json.dumps(_plain(parameters), separators=(",", ":")) + "\n"


def loads(text: str) -> Parameters:
    """The inverse of ``dumps``. Raises KeyError where a field is missing."""
    return _build(Parameters, json.loads(text))


@cache
def default() -> Parameters:
    """The parameters in the package, read once."""
    return loads(resources.files("harstream.simulate").joinpath("parameters.json").read_text("utf-8"))
