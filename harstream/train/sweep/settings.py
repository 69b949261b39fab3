"""``--set``, ``--sweep`` and ``--variant``: texts to a signal and a way of training."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harstream.core.spec import BODY_ACC, CHANNELS, GYRO, TOTAL_ACC, SignalSpec
from harstream.errors import ConfigError
from harstream.train.fitting.recipe import FitConfig

#: The fields of the signal that a setting may change; all others are FitConfig's or the architecture's.
SIGNAL = ("sample_rate_hz", "window_samples", "stride_samples", "channels", "noise_filter", "gravity_filter")
TRIADS = {"total_acc": TOTAL_ACC, "body_acc": BODY_ACC, "gyro": GYRO}


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of an experiment: what it changes, and what it is called."""

    name: str
    overrides: Mapping[str, Any]


def value_of(text: str) -> Any:
    """JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def setting_of(text: str, option: str = "--set") -> tuple[str, Any]:
    """``NAME=VALUE``. Raises ConfigError."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"{option}: {text!r} is not NAME=VALUE")
    return name, value_of(value)


def variant_of(text: str) -> Variant:
    """``NAME=VALUE NAME=VALUE ...``; ``name=...`` among them names the row. Raises ConfigError."""
    overrides = dict(setting_of(part, "--variant") for part in text.split())
    name = overrides.pop("name", None)
    return Variant(str(name) if name is not None else _name(overrides), overrides)


def variants_of(sweeps: Sequence[str], variants: Sequence[str]) -> list[Variant]:
    """The rows of an experiment: the product of all ``NAME=A,B,C`` of ``sweeps``, then ``variants`` one by one.

    Raises ConfigError for a text that is neither, or two rows of one name.
    """
    rows = []
    if sweeps:
        axes = [_axis(text) for text in sweeps]
        names = [name for name, _ in axes]
        if len(set(names)) < len(names):
            raise ConfigError(f"--sweep: {', '.join(names)}: one is named twice")
        for values in itertools.product(*(values for _, values in axes)):
            overrides = dict(zip(names, values, strict=True))
            rows.append(Variant(_name(overrides), overrides))
    rows += [variant_of(text) for text in variants]
    for first, second in itertools.combinations(rows, 2):
        if first.name == second.name:
            raise ConfigError(f"two rows are called {first.name!r}: give one another name=...")
    return rows


def settle(settings: Mapping[str, Any], spec: SignalSpec, config: FitConfig) -> tuple[SignalSpec, FitConfig]:
    """``spec`` and ``config`` with ``settings`` applied, wherever each of them belongs.

    ``arch`` begins a new configuration, of which only ``config``'s seed stays. Where ``window_samples`` is given and
    ``stride_samples`` is not, the stride keeps its share of the window. Raises ConfigError for an
    unknown name or an impossible value.
    """
    rest = dict(settings)
    if "seed" in rest:
        raise ConfigError("seed: it is not a setting: give the first one with --seed, and how many with --repeats")
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
        signal["channels"] = channels_of(signal["channels"])
    if isinstance(signal.get("noise_filter"), str):
        signal["noise_filter"] = {"type": signal["noise_filter"]}
    if isinstance(signal.get("gravity_filter"), str):
        signal["gravity_filter"] = {**spec.gravity_filter.to_dict(), "type": signal["gravity_filter"]}
    return SignalSpec.from_dict({**fields, **signal}), config


def channels_of(chosen: str | Sequence[str]) -> list[str]:
    """Channels by name or triad (``total_acc``, ``body_acc``, ``gyro``), in a text joined by ``,`` or ``+``.

    Raises ConfigError for a name that is neither.
    """
    names = chosen.replace("+", ",").split(",") if isinstance(chosen, str) else chosen
    found: list[str] = []
    for name in names:
        if name not in TRIADS and name not in CHANNELS:
            raise ConfigError(f"channels: {name!r} is not one of {', '.join([*TRIADS, *CHANNELS])}")
        found += TRIADS.get(name, (name,))
    return found


def _axis(text: str) -> tuple[str, list[Any]]:
    """``NAME=A,B,C``; a comma inside brackets or quotes belongs to a value."""
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
        raise ConfigError(f"--sweep: {text!r} is not NAME=A,B,C")
    return name, [value_of(part) for part in parts]


def _name(overrides: Mapping[str, Any]) -> str:
    """``cnn, filters=8``: what a row changes; the architecture needs no name."""

    def text(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))

    parts = [text(overrides["arch"])] if "arch" in overrides else []
    parts += [f"{name}={text(value)}" for name, value in overrides.items() if name != "arch"]
    return ", ".join(parts) or "as it is"
