"""SignalSpec: valid and invalid values, and the round trip through JSON."""

import json

import numpy as np
import pytest

from harstream.core.spec import CHANNELS, GravityFilter, NoiseFilter, Normalisation, SignalSpec
from harstream.errors import ConfigError

SPECS = [
    SignalSpec(),
    SignalSpec(sample_rate_hz=31.25, window_samples=100, stride_samples=10, channels=("total_acc_z",), max_gap_s=0.0),
    SignalSpec(
        channels=("gyro_y", "body_acc_x"),
        noise_filter=NoiseFilter("none"),
        gravity_filter=GravityFilter(order=1, cutoff_hz=0.5),
        normalisation=Normalisation((0.5, -1.0), (2.0, 0.25)),
    ),
    SignalSpec(noise_filter=NoiseFilter(size=5), channels=CHANNELS),
    SignalSpec(gravity_filter=GravityFilter("complementary", 2, 0.2), channels=("body_acc_x",)),
]


@pytest.mark.parametrize("spec", SPECS, ids=range(len(SPECS)))
def test_a_spec_comes_back_from_json_as_it_went(spec):
    again = SignalSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again.to_dict() == spec.to_dict()
    assert again == spec
    assert again.norm == spec.norm


def test_what_is_left_out_has_the_documented_defaults():
    spec = SignalSpec.from_dict({})
    assert (spec.sample_rate_hz, spec.window_samples, spec.stride_samples) == (50.0, 128, 64)
    assert spec.n_channels == 9
    assert spec.gravity_filter == GravityFilter("butterworth", 3, 0.3)
    assert spec.noise_filter == NoiseFilter("median", 3)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"sample_rate_hz": 0}, "sample_rate_hz"),
        ({"sample_rate_hz": -50}, "sample_rate_hz"),
        ({"sample_rate_hz": 1e5}, "sample_rate_hz"),
        ({"sample_rate_hz": float("nan")}, "sample_rate_hz"),
        ({"sample_rate_hz": float("inf")}, "sample_rate_hz"),
        ({"sample_rate_hz": "50"}, "sample_rate_hz"),
        ({"sample_rate_hz": True}, "sample_rate_hz"),
        ({"sample_rate_hz": None}, "sample_rate_hz"),
        ({"window_samples": 7}, "window_samples"),
        ({"window_samples": 5000}, "window_samples"),
        ({"window_samples": 128.0}, "window_samples"),
        ({"stride_samples": 0}, "stride_samples"),
        ({"stride_samples": 129}, "stride_samples"),
        ({"stride_samples": True}, "stride_samples"),
        ({"channels": []}, "channels"),
        ({"channels": "total_acc_x"}, "channels"),
        ({"channels": ["acc_x"]}, "channels"),
        ({"channels": ["gyro_x", "gyro_x"]}, "channels"),
        ({"channels": None}, "channels"),
        ({"channels": [["gyro_x"]]}, "channels"),
        ({"units": {"acc": "m/s2", "gyro": "rad/s"}}, "units"),
        ({"units": {"acc": "g"}}, "units"),
        ({"max_gap_s": -0.1}, "max_gap_s"),
        ({"max_gap_s": 61}, "max_gap_s"),
        ({"max_gap_s": float("nan")}, "max_gap_s"),
        ({"noise_filter": {"type": "kalman"}}, "noise_filter.type"),
        ({"noise_filter": {"type": "median", "size": 4}}, "noise_filter.size"),
        ({"noise_filter": {"type": "median", "size": 1}}, "noise_filter.size"),
        ({"noise_filter": {"type": "median", "size": 17}}, "noise_filter.size"),
        ({"noise_filter": {"type": "none", "size": 3}}, "noise_filter.*size"),
        ({"noise_filter": {"size": 3}}, "noise_filter.*type"),
        ({"noise_filter": "median"}, "noise_filter"),
        ({"gravity_filter": {"type": "bessel", "order": 3, "cutoff_hz": 0.3}}, "gravity_filter.type"),
        ({"gravity_filter": {"type": "butterworth", "order": 0, "cutoff_hz": 0.3}}, "gravity_filter.order"),
        ({"gravity_filter": {"type": "butterworth", "order": 2.5, "cutoff_hz": 0.3}}, "gravity_filter.order"),
        ({"gravity_filter": {"type": "butterworth", "order": 3, "cutoff_hz": 0}}, "gravity_filter.cutoff_hz"),
        ({"gravity_filter": {"type": "butterworth", "order": 3}}, "gravity_filter.*cutoff_hz"),
        ({"gravity_filter": {"type": "complementary", "order": 9, "cutoff_hz": 0.3}}, "gravity_filter.order"),
        ({"gravity_filter": {"type": "complementary", "order": 3, "cutoff_hz": 11}}, "gravity_filter.cutoff_hz"),
        ({"gravity_filter": {"type": "complementary", "cutoff_hz": 0.3}}, "gravity_filter.*order"),
        ({"gravity_filter": {"type": "complementary", "order": 3, "cutoff_hz": 0.3, "gain": 1}}, "gain"),
        (
            {"sample_rate_hz": 4, "gravity_filter": {"type": "butterworth", "order": 3, "cutoff_hz": 2}},
            "gravity_filter.cutoff_hz",
        ),
        ({"normalisation": {"mean": [0] * 9, "std": [1] * 8}}, "normalisation.std"),
        ({"normalisation": {"mean": [0] * 8, "std": [1] * 9}}, "normalisation.mean"),
        ({"normalisation": {"mean": [0] * 9, "std": [1] * 8 + [0]}}, "normalisation.std"),
        ({"normalisation": {"mean": [0] * 8 + ["x"], "std": [1] * 9}}, "normalisation.mean"),
        ({"normalisation": {"mean": 0, "std": [1] * 9}}, "normalisation.mean"),
        ({"normalisation": {"mean": [0] * 9}}, "normalisation.*std"),
        ({"window": 128}, "window"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_field(change, named):
    with pytest.raises(ConfigError, match=named):
        SignalSpec.from_dict(SignalSpec().to_dict() | change)


@pytest.mark.parametrize("data", [None, [], "spec", 5])
def test_what_is_no_object_is_refused(data):
    with pytest.raises(ConfigError, match="signal"):
        SignalSpec.from_dict(data)


def test_a_spec_cannot_be_changed():
    with pytest.raises(AttributeError):
        setattr(SignalSpec(), "window_samples", 64)  # noqa: B010 (as an assignment it does not pass mypy)


def test_normalisation_subtracts_the_mean_and_divides_by_the_deviation_in_float32():
    windows = np.arange(12, dtype=np.float32).reshape(1, 6, 2)
    got = Normalisation((1.0, -2.0), (2.0, 0.5)).apply(windows)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[0, :, 0], (windows[0, :, 0] - 1) / 2)
    np.testing.assert_allclose(got[0, :, 1], (windows[0, :, 1] + 2) / 0.5)


def test_a_gyroscope_channel_or_the_gravity_filter_uses_the_gyroscope():
    assert SignalSpec().uses_gyro
    assert not SignalSpec(channels=("total_acc_x", "body_acc_x")).uses_gyro
    assert SignalSpec(channels=("body_acc_x",), gravity_filter=GravityFilter("complementary")).uses_gyro
