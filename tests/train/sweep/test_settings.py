"""The texts of --set, --sweep and --variant become settings of signal, architecture and recipe."""

from __future__ import annotations

import pytest

pytest.importorskip("tensorflow")

from harstream.core.spec import GYRO, TOTAL_ACC, SignalSpec
from harstream.errors import ConfigError
from harstream.train.fitting.recipe import FitConfig
from harstream.train.sweep import settings


def test_a_sweep_is_a_row_for_each_value_and_several_are_their_product() -> None:
    rows = settings.parse_variants(["arch=cnn,rescnn", "epochs=5,10"], [])
    assert [row.name for row in rows] == [
        "cnn, epochs=5",
        "cnn, epochs=10",
        "rescnn, epochs=5",
        "rescnn, epochs=10",
    ]
    assert rows[1].overrides == {"arch": "cnn", "epochs": 10}


def test_variants_are_rows_of_their_own_and_may_have_names() -> None:
    rows = settings.parse_variants(
        ["arch=cnn"], ["arch=cnn channels=total_acc+gyro", "name=still tilt_deg=0", "name=base"]
    )
    assert [(row.name, dict(row.overrides)) for row in rows] == [
        ("cnn", {"arch": "cnn"}),
        ("cnn, channels=total_acc+gyro", {"arch": "cnn", "channels": "total_acc+gyro"}),
        ("still", {"tilt_deg": 0}),
        ("base", {}),
    ]


def test_a_value_nested_too_deeply_for_json_is_a_text() -> None:
    text = "[" * 100_000
    assert settings.parse_setting(f"arch={text}") == ("arch", text)


def test_a_comma_within_json_does_not_part_values() -> None:
    rows = settings.parse_variants(['noise_filter=none,{"type":"median","size":5}', "widths=[8,16],[8,8]"], [])
    assert [row.overrides["noise_filter"] for row in rows[::2]] == ["none", {"type": "median", "size": 5}]
    assert [row.overrides["widths"] for row in rows[:2]] == [[8, 16], [8, 8]]


def test_each_setting_goes_where_it_belongs() -> None:
    chosen = {"arch": "cnn", "filters": 8, "epochs": 3, "window_samples": 64, "channels": "total_acc,gyro_x"}
    spec, config = settings.apply_settings(chosen, SignalSpec(), FitConfig(seed=7))
    assert (config.arch, config.epochs, config.seed) == ("cnn", 3, 7)
    assert config.to_dict()["arch_settings"]["filters"] == 8
    assert (spec.window_samples, spec.channels) == (64, (*TOTAL_ACC, GYRO[0]))


@pytest.mark.parametrize(
    ("chosen", "stride"),
    [({"window_samples": 256}, 128), ({"window_samples": 256, "stride_samples": 32}, 32), ({}, 64)],
)
def test_the_stride_keeps_its_share_of_the_window_unless_it_is_given(chosen: dict[str, int], stride: int) -> None:
    assert settings.apply_settings(chosen, SignalSpec(), FitConfig())[0].stride_samples == stride


def test_filters_are_chosen_by_their_type() -> None:
    spec, _ = settings.apply_settings(
        {"noise_filter": "none", "gravity_filter": "butterworth"}, SignalSpec(), FitConfig()
    )
    assert spec.noise_filter.type == "none"
    assert spec.gravity_filter == SignalSpec().gravity_filter


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"filterz": 8}, "filterz"),
        ({"arch": "transformer"}, "transformer"),
        ({"channels": "magnetometer"}, "magnetometer"),
        ({"window_samples": 1.5}, "window_samples"),
        ({"noise_filter": "fourier"}, "fourier"),
        ({"seed": 4}, "--seed"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(chosen: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings.apply_settings(chosen, SignalSpec(), FitConfig())


@pytest.mark.parametrize(
    ("sweeps", "variants"),
    [
        (["epochs"], []),
        (["epochs=1,,2"], []),
        (["=1,2"], []),
        (["epochs=1", "epochs=2"], []),
        ([], ["epochs"]),
        (["epochs=1"], ["epochs=1"]),
    ],
)
def test_a_sweep_that_says_nothing_or_the_same_twice_is_refused(sweeps: list[str], variants: list[str]) -> None:
    with pytest.raises(ConfigError):
        settings.parse_variants(sweeps, variants)
