"""Report: findings as text for a terminal, and as figures for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harstream import tables
from harstream.core.batches import SampleBatch
from harstream.probe.candidates import Evidence
from harstream.probe.findings import Findings, Other, Source
from harstream.probe.groups import Group
from harstream.probe.places import Held, Place
from harstream.probe.sensors import Triple
from harstream.probe.trial import DeviceFinding, StreamFinding, Trial, in_g
from harstream.wire.fields import toml_value
from harstream.wire.topics import escape_unprintable

MAX_SOURCES, MAX_ROWS, MAX_PLACES, MAX_TOPICS = 30, 20, 24, 3
_MAX_EXAMPLE = 34  # characters
_AXES = "xyz"
_UNPAIRED = 0.1  # share of the samples without a gyroscope from which on it is said
_AXIS_SHARE = 0.9  # of gravity on one axis, below which the device lies at a slant
_MAX_DRIFT_S = 5.0  # difference to the time of arrival from which on a clock is said to be wrong


def describe(findings: Findings, model: str) -> str:
    """Return all findings as text, without the settings.

    Args:
        findings: What was found.
        model: Name of the model for which settings were tried.

    """
    n_devices = sum(len({one.device for one in source.trial.devices}) for source in findings.sources)
    lines = [
        f"{_count(findings.messages, 'message')} on {_count(findings.topics, 'topic')} in {findings.seconds:.1f} s; "
        f"{_count(n_devices, 'device')} with an accelerometer"
    ]
    for source in findings.sources[:MAX_SOURCES]:
        lines += ["", *_source(source, model)]
    if len(findings.sources) > MAX_SOURCES:
        lines += ["", f"and {len(findings.sources) - MAX_SOURCES} more sources"]
    if findings.others:
        lines += ["", "not usable"]
        for other in findings.others[:MAX_SOURCES]:
            lines += _other(other)
    passed_over = [
        (sum(findings.own.values()), "labels, events and status messages of harstream"),
        (sum(findings.retained.values()), "retained messages, which are old"),
        (findings.passed_over, "messages, because there are too many shapes"),
    ]
    if any(number for number, _ in passed_over):
        lines += ["", "passed over", *(f"  {number:,} {what}" for number, what in passed_over if number)]
    return "\n".join(escape_unprintable(line) for line in lines)


def settings(findings: Findings, broker: str = "", user: str = "") -> str:
    """Return the settings of all sources as TOML, with the broker's address, and the user there, if they are given."""
    top = [f"{name} = {toml_value(value)}" for name, value in (("broker", broker), ("user", user)) if value]
    parts = ["\n".join(top)] if top else []
    for source in findings.sources:
        notes = [*source.doubts, *([f"error: {source.error}"] if source.error else [])]
        parts.append("\n".join([*(f"# {escape_unprintable(note)}" for note in notes), _commented(source)]))
    return "\n\n".join(parts) + "\n"


def _commented(source: Source) -> str:
    """Return the table of a source, with the meaning of scales behind them."""
    evidence, lines = source.evidence, source.settings.to_toml().splitlines()
    gyro = evidence if source.gyro is None else source.gyro.evidence
    scales = {"acc_scale": evidence.sensors.acc_scale, "gyro_scale": gyro.gyro_scale}
    return "\n".join(
        f"{line}  # {scale.words}" if (scale := scales.get(line.partition(" ")[0])) and scale.words else line
        for line in lines
    )


# --- sources ------------------------------------------------------------------------------------------


def _source(source: Source, model: str) -> Iterator[str]:
    evidence, group = source.evidence, source.group
    shape = source.choice.format or group.name
    yield f"{source.settings.name}: {_heading(source.settings.topic, source.topics, shape, source.trial.acc)}"
    is_searched = source.choice.format in ("", "phyphox")
    if is_searched:
        yield from _places(group, evidence)
    if source.gyro is not None:
        gyro = source.gyro
        shape = source.choice.format or gyro.group.name
        yield f"  gyroscope: {_heading(gyro.template, gyro.topics, shape, gyro.batch)}"
        if is_searched:
            yield from _places(gyro.group, gyro.evidence)
    yield from _indented(_devices(source.trial))
    for doubt in source.doubts:
        yield f"  note: {doubt}"
    yield f"  tried: {_outcome(source, model)}"
    if source.error:
        yield f"  error: {source.error}"
    yield from _problems(source.trial)


def _problems(trial: Trial) -> Iterator[str]:
    """Yield a line for each problem, with the devices that have it and what is wrong with the first one."""
    devices: dict[str, list[str]] = {}
    details: dict[str, str] = {}
    for device in trial.devices:
        for name, _, detail in (problem.partition(": ") for problem in device.problems):
            devices.setdefault(name, []).append(device.device)
            details.setdefault(name, detail)
    for name, of in devices.items():
        more = f" and {len(of) - MAX_TOPICS} more" if len(of) > MAX_TOPICS else ""
        yield f"  problem {name} of {', '.join(of[:MAX_TOPICS])}{more}: {details[name]}"


def _heading(template: str, topics: Sequence[str], shape: str, batch: SampleBatch) -> str:
    """Return topics, form and size of messages."""
    of = f" ({_count(len(topics), 'topic')})" if len(topics) > 1 else ""
    return f"{template}{of}, {shape}{_samples_a_message(batch)}"


def _samples_a_message(batch: SampleBatch) -> str:
    if not len(batch):
        return ""
    per_message = len(batch.samples) / len(batch)
    return ", one sample a message" if per_message == 1 else f", {per_message:.3g} samples a message"


def _devices(trial: Trial) -> str:
    """Return a table of devices, with a line of its own for a gyroscope that has messages of its own."""
    head = ["device", "messages", "samples/s", "jitter", "clock", "|acc|", "up", "gyroscope", "gaps"]
    rows = []
    for device in trial.devices[:MAX_ROWS]:
        has_gyro = "yes" if device.has_gyro else "no" if device.gyro is None else "apart"
        rows.append(_row(device.device, device, _acceleration(device), _up(device), has_gyro))
        if device.gyro is not None:
            rows.append(_row("  its gyroscope", device.gyro))
    text = tables.plain(head, rows, right=(1, 2, 3))
    more = len(trial.devices) - MAX_ROWS
    return text + (f"\nand {more} more devices" if more > 0 else "")


def _row(name: str, stream: StreamFinding, acceleration: str = "", up: str = "", gyroscope: str = "") -> list[str]:
    return [
        name,
        str(stream.messages),
        f"{stream.rate_hz:.1f}" if stream.rate_hz else "?",
        f"{stream.jitter_ms:.1f} ms",
        _clock(stream),
        acceleration,
        up,
        gyroscope,
        f"{stream.gaps}, up to {stream.longest_gap_s:.2f} s" if stream.gaps else "0" if stream.stamped else "?",
    ]


def _clock(device: StreamFinding) -> str:
    if not device.stamped:
        return "none: arrival counts"
    if not device.since_1970:
        return "since its start"
    if abs(device.clock_s) > _MAX_DRIFT_S:
        return f"{_duration(abs(device.clock_s))} {'slow' if device.clock_s > 0 else 'fast'}"
    return f"right ({1000 * device.clock_s:+.0f} ms)"


def _acceleration(device: DeviceFinding) -> str:
    if not device.unit:
        return f"{device.norm:.3g}, no gravity"
    return f"{in_g(device):.2f} g" + ("" if device.unit == "g" else f" ({device.norm:.4g} {device.unit})")


def _up(device: DeviceFinding) -> str:
    if not device.up:
        return "?"
    return device.up if device.up_share > _AXIS_SHARE else f"about {device.up}"


def _outcome(source: Source, model: str) -> str:
    trial = source.trial
    n_windows, untrusted = (sum(getattr(one, name) for one in trial.devices) for name in ("windows", "untrusted"))
    n_rejected = sum(trial.rejected.values())
    parts = [f"{_count(trial.accepted, 'message')} accepted, {n_rejected} rejected"]
    if source.settings.is_paired:
        parts.append(
            f"{len(trial.acc.samples):,} samples of the accelerometer, {len(trial.gyro.samples):,} of the gyroscope"
        )
        parts += _unpaired(trial)
    else:
        parts.append(f"{len(trial.batch.samples):,} samples")
    parts.append(f"{_count(n_windows, 'window')} for the model {model}")
    parts += [f"{untrusted} of them with a problem, so that they are UNKNOWN"] if untrusted else []
    parts += [] if n_windows or not trial.accepted else ["listen longer (--seconds) to see a window"]
    reasons = [f"rejected as {reason}: {trial.examples[reason]}" for reason in trial.rejected]
    return "; ".join([", ".join(parts), *reasons])


def _unpaired(trial: Trial) -> list[str]:
    """Return what to say if many samples of the accelerometer found none of the gyroscope."""
    n = trial.pairing.no_gyroscope + trial.pairing.late_accelerometer if trial.pairing else 0
    return [f"{n:,} without the gyroscope at their time"] if n > _UNPAIRED * len(trial.acc.samples) else []


# --- places -------------------------------------------------------------------------------------------


def _places(group: Group, evidence: Evidence) -> Iterator[str]:
    """Yield a table of the places in messages, with examples and what they are taken for."""
    roles = _roles(evidence, group.held)
    rows = []
    for place, values in group.held.items():
        if not place.hidden and not _is_below(place, roles, group.held):
            rows.append(
                [place.text, _kind(place, values, group.form == "lines"), _example(values), roles.get(place, "")]
            )
    if not rows:
        return
    more = len(rows) - MAX_PLACES
    width = max(len(row[0]) for row in rows[:MAX_PLACES])
    kind = max(len(row[1]) for row in rows[:MAX_PLACES])
    for name, what, example, role in rows[:MAX_PLACES]:
        line = f"    {name.ljust(width)}  {what.ljust(kind)}  {example.ljust(_MAX_EXAMPLE) if role else example}"
        yield f"{line}  {role}".rstrip()
    if more > 0:
        yield f"    and {more} more"


def _roles(evidence: Evidence, held: Held) -> dict[Place, str]:
    """Return what places are taken for."""
    roles: dict[Place, str] = {}
    sensors = evidence.sensors
    for triple, name, scale in (
        (sensors.acc, "accelerometer", sensors.acc_scale),
        (sensors.gyro, "gyroscope", evidence.gyro_scale),
    ):
        if triple is not None:
            unit = f", {scale.words or scale.unit}" if scale else ""
            roles |= _roles_of(triple, name, unit, held)
    if evidence.clock is not None:
        roles[evidence.clock.place] = f"time, {evidence.clock.words}"
    if evidence.rate is not None:
        roles[evidence.rate] = "sample rate"
    for place in held:
        if place.path == evidence.device and not place.samples and place not in roles:
            roles[place] = "device"
    return roles


def _roles_of(triple: Triple, name: str, unit: str, held: Held) -> dict[Place, str]:
    roles = {place: f"{name} {axis}{unit}" for place, axis in zip(triple.places, _AXES, strict=False)}
    if len(triple.places) == 1:
        return dict.fromkeys(triple.places, f"{name}{unit}")
    for place in held:  # the list that holds the three
        if place.kind == "column" and {place.path} == {one.path.rpartition(".")[0] for one in triple.places}:
            roles[place] = f"{name}{unit}"
    return roles


def _is_below(place: Place, roles: Mapping[Place, str], held: Held) -> bool:
    """Return whether a place is an element of a list that is shown itself."""
    parent, _, last = place.path.rpartition(".")
    return last.isdecimal() and place._replace(path=parent, kind="column") in held


def _kind(place: Place, values: Sequence[Sequence[Any]], by_line: bool) -> str:
    if place.kind == "column" and by_line:
        return "column"
    if place.kind == "column":
        return f"list of {_range(values)}"
    if place.kind == "vectors":
        return f"list of {_range(values)} x 3"
    if place.kind == "number" and all(isinstance(one, int) for message in values[:20] for one in message):
        return "whole number"
    return {"truth": "true or false", "empty": "empty list"}.get(place.kind, place.kind)


def _range(values: Sequence[Sequence[Any]]) -> str:
    lengths = {len(message) for message in values}
    return f"{min(lengths)} to {max(lengths)}" if len(lengths) > 1 else str(min(lengths))


def _example(values: Sequence[Sequence[Any]]) -> str:
    first = values[0][0] if values and values[0] else None
    if isinstance(first, list | tuple):
        first = list(first)
    text = "" if first is None else str(first)
    return text if len(text) <= _MAX_EXAMPLE else f"{text[: _MAX_EXAMPLE - 3]}..."


# --- others -------------------------------------------------------------------------------------------


def _other(other: Other) -> Iterator[str]:
    topics = ", ".join(other.topics[:MAX_TOPICS])
    more = len(other.topics) - MAX_TOPICS
    topics += f" and {more} more" if more > 0 else ""
    yield f"  {topics}: {_count(len(other.group.messages), 'message')}, {other.group.name}"
    if other.evidence is not None:
        yield from _places(other.group, other.evidence)
    yield f"    {other.reason}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _duration(seconds: float) -> str:
    for size, name in ((86_400 * 365.25, "years"), (86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.1f} s"


def _indented(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield f"  {line}"


# --- figures ------------------------------------------------------------------------------------------


def figures(findings: Findings) -> dict[str, Any]:
    """Return the findings as values of JSON."""
    return {
        "messages": findings.messages,
        "topics": findings.topics,
        "seconds": round(findings.seconds, 3),
        "sources": [_source_figures(source) for source in findings.sources],
        "others": [
            {
                "topics": list(other.topics),
                "messages": len(other.group.messages),
                "form": other.group.name,
                "reason": other.reason,
                "places": _place_figures(other.group, other.evidence),
            }
            for other in findings.others
        ],
        "retained": dict(findings.retained),
        "own": dict(findings.own),
        "passed_over": findings.passed_over,
    }


def _source_figures(source: Source) -> dict[str, Any]:
    return {
        "settings": source.settings.table(),
        "topics": list(source.topics),
        "gyro_topics": list(source.gyro.topics) if source.gyro else [],
        "form": source.choice.format or source.group.name,
        "works": source.works,
        "error": source.error,
        "notes": list(source.doubts),
        "places": _place_figures(source.group, source.evidence),
        "gyro_places": _place_figures(source.gyro.group, source.gyro.evidence) if source.gyro else [],
        "accepted": source.trial.accepted,
        "rejected": {
            reason: {"messages": number, "example": source.trial.examples[reason]}
            for reason, number in source.trial.rejected.items()
        },
        "devices": [dataclasses.asdict(device) for device in source.trial.devices],
    }


def _place_figures(group: Group, evidence: Evidence | None) -> list[dict[str, str]]:
    roles = _roles(evidence, group.held) if evidence else {}
    return [
        {
            "path": place.text,
            "kind": _kind(place, values, group.form == "lines"),
            "example": _example(values),
            "role": roles.get(place, ""),
        }
        for place, values in group.held.items()
        if not place.hidden
    ]
