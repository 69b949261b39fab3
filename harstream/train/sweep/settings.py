"""Settings: the texts of ``--set``, ``--sweep`` and ``--variant``, and their application to signal and config."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harstream.core.spec import BODY_ACC, CHANNELS, GYRO, ORIENTATION_FREE, TOTAL_ACC, SignalSpec
from harstream.errors import ConfigError
from harstream.train.fitting.recipe import FitConfig

#: The settings that belong to the signal; the others belong to FitConfig or the architecture.
SIGNAL = ("sample_rate_hz", "window_samples", "stride_samples", "channels", "noise_filter", "gravity_filter")
TRIADS = {"total_acc": TOTAL_ACC, "body_acc": BODY_ACC, "gyro": GYRO, "orientation_free": ORIENTATION_FREE}


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of a sweep as the operator gives it."""

    name: str
    overrides: Mapping[str, Any]  # values by name of the setting


def _parse_value(text: str) -> Any:
    """Return the value of a text that is JSON, else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def parse_setting(text: str, option: str = "--set") -> tuple[str, Any]:
    """Parse ``NAME=VALUE``. Raise ConfigError if the text has another form."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"{option}: expected NAME=VALUE, got {text!r}")
    return name, _parse_value(value)


def _parse_variant(text: str) -> Variant:
    """Parse ``NAME=VALUE NAME=VALUE ...``, where ``name=...`` names the row. Raise ConfigError for another form."""
    overrides = dict(parse_setting(part, "--variant") for part in text.split())
    name = overrides.pop("name", None)
    return Variant(str(name) if name is not None else _name(overrides), overrides)


def parse_variants(sweeps: Sequence[str], variants: Sequence[str]) -> list[Variant]:
    """Return the rows of a sweep: the product of all ``NAME=A,B,C`` of ``sweeps``, then each of ``variants``.

    Raises:
        ConfigError: A text has another form, a setting is swept twice, or two rows have the same name.

    """
    rows = []
    if sweeps:
        axes = [_axis(text) for text in sweeps]
        names = [name for name, _ in axes]
        if len(set(names)) < len(names):
            raise ConfigError(f"--sweep: {', '.join(names)}: a setting may be swept only once")
        for values in itertools.product(*(values for _, values in axes)):
            overrides = dict(zip(names, values, strict=True))
            rows.append(Variant(_name(overrides), overrides))
    rows += [_parse_variant(text) for text in variants]
    for first, second in itertools.combinations(rows, 2):
        if first.name == second.name:
            raise ConfigError(f"two rows have the name {first.name!r}: give one of them another with name=...")
    return rows


def apply_settings(settings: Mapping[str, Any], spec: SignalSpec, config: FitConfig) -> tuple[SignalSpec, FitConfig]:
    """Apply settings to a signal and a config, each to the one it belongs to.

    ``arch`` starts from the default config, with the seed of ``config``. If ``window_samples`` is given without
    ``stride_samples``, the stride keeps its share of the window.

    Raises:
        ConfigError: There is no such setting, or its value is not possible.

    """
    rest = dict(settings)
    if "seed" in rest:
        raise ConfigError("seed: not a setting; choose the first seed with --seed and the number of seeds by --repeats")
    signal = {name: rest.pop(name) for name in SIGNAL if name in rest}
    if "arch" in rest:
        config = FitConfig(arch=str(rest.pop("arch")), seed=config.seed)
    config = config.with_settings(rest)
    if not signal:
        return spec, config
    fields = spec.to_dict()
    del fields["normalisation"]
    if "window_samples" in signal and isinstance(signal["window_samples"], int):
        share = spec.stride_samples / spec.window_samples
        fields["stride_samples"] = max(1, round(signal["window_samples"] * share))
    if "channels" in signal:
        signal["channels"] = _parse_channels(signal["channels"])
    if isinstance(signal.get("noise_filter"), str):
        signal["noise_filter"] = {"type": signal["noise_filter"]}
    if isinstance(signal.get("gravity_filter"), str):
        signal["gravity_filter"] = {**spec.gravity_filter.to_dict(), "type": signal["gravity_filter"]}
    return SignalSpec.from_dict({**fields, **signal}), config


def _parse_channels(chosen: str | Sequence[str]) -> list[str]:
    """Return the names of channels given by name or triad (``total_acc``, ``body_acc``, ``gyro``).

    A text separates them by ``,`` or ``+``.

    Raises:
        ConfigError: A name is neither a channel nor a triad.

    """
    names = chosen.replace("+", ",").split(",") if isinstance(chosen, str) else chosen
    channels: list[str] = []
    for name in names:
        if name not in TRIADS and name not in CHANNELS:
            raise ConfigError(f"channels: {name!r} is not one of {', '.join([*TRIADS, *CHANNELS])}")
        channels += TRIADS.get(name, (name,))
    return channels


def _axis(text: str) -> tuple[str, list[Any]]:
    """Parse ``NAME=A,B,C``; a comma inside brackets or quotes belongs to a value."""
    name, equals, values = text.partition("=")
    parts, depth, quoted = [""], 0, False
    for character in values:
        quoted ^= character == '"'
        depth += (character in "[{") - (character in "]}") if not quoted else 0
        if character == "," and not depth and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    if not equals or not name or not all(parts):
        raise ConfigError(f"--sweep: expected NAME=A,B,C, got {text!r}")
    return name, [_parse_value(part) for part in parts]


def _name(overrides: Mapping[str, Any]) -> str:
    """Return a name such as ``cnn, filters=8`` from what a row changes."""

    def text(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))

    parts = [text(overrides["arch"])] if "arch" in overrides else []
    parts += [f"{name}={text(value)}" for name, value in overrides.items() if name != "arch"]
    return ", ".join(parts) or "unchanged"
