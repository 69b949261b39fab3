"""Candidates: the ways in which the messages of a group may be decoded, and the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harstream.probe import trial
from harstream.probe.clocks import Arrival, Clock, find_clock, find_rate
from harstream.probe.groups import Group
from harstream.probe.naming import find_device, named_in, recur
from harstream.probe.places import Place
from harstream.probe.sensors import Scale, Sensors, find_sensors, rotation_of
from harstream.probe.settings import SourceSettings
from harstream.probe.trial import DeviceFinding, Trial
from harstream.wire.decoder import Message
from harstream.wire.fields import UNUSED, Fields
from harstream.wire.payloads import AUTO_PAYLOAD
from harstream.wire.sensor_logger import is_sensor_logger
from harstream.wire.times import AUTO_UNIT

#: Topics of the messages while candidates are compared.
_TOPIC, _TEMPLATE = "probe", "probe/{device}"
#: Factor of a gyroscope whose unit is not known yet, so that counts are no impossible rotations.
SMALL = 1e-6
#: Share of the messages that settings must accept.
ENOUGH = 0.9
#: Devices by whose gyroscopes the unit is told.
_MAX_ROTATIONS = 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to decode messages."""

    payload: str
    fields: Fields = field(default_factory=Fields)
    acc_unit: str = "auto"
    gyro_unit: str = "rad/s"
    names: dict[str, set[str]] = field(default_factory=dict)  # devices that payloads name, by topic
    doubts: tuple[str, ...] = ()

    def settings(self, topic: str) -> SourceSettings:
        """Return the settings of a source with this topic template."""
        fields = replace(self.fields, device="") if "{device}" in topic.split("/") else self.fields
        return SourceSettings(topic, self.payload, fields, self.acc_unit, self.gyro_unit)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Result of a search of documents, apart from how they are decoded."""

    sensors: Sensors
    clock: Clock | None
    rate: Place | None
    device: str  # path
    gyro_scale: Scale | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The best candidate, with what a search found."""

    candidate: Candidate | None  # None: no messages can be decoded
    evidence: Evidence
    format: str  # name of a known format for people; "" if the search counts
    searched: Candidate | None  # that the search made


def choose(group: Group, max_bytes: int) -> Choice:
    """Return how the messages of a group are decoded best."""
    messages = group.searched
    arrivals = [
        Arrival(document, message.topic, message.arrival_s)
        for document, message in zip(group.documents, messages, strict=False)
    ]
    evidence = _search(group, arrivals)
    known = _known_format(group)
    if not known and evidence.sensors.acc is None and group.sensor not in ("", "acc"):
        return Choice(None, evidence, "", None)  # x, y and z of another sensor would be taken for an accelerometer
    searched = None
    candidates = [_named_by_decoder(Candidate(AUTO_PAYLOAD), messages, max_bytes)]
    if group.form in ("json", "cbor", "msgpack") and not known:
        candidates.append(_named_by_decoder(Candidate("phyphox"), messages, max_bytes))
    if evidence.sensors.acc is not None and not known:
        searched = _by_columns(group, evidence) if group.form == "lines" else _by_paths(group, evidence)
        searched, evidence = _measured(group, searched, evidence, max_bytes)
        candidates.append(searched)
    best, best_quality = None, (False, False, False, False)
    for candidate in candidates:
        quality = _quality(candidate, messages, max_bytes)
        if quality[0] and (best is None or quality > best_quality):
            best, best_quality = candidate, quality
    if group.sensor == "gyro" and not best_quality[3]:
        best = None  # packed samples do not tell what they are; the topic does
    if best is not None and best.payload == AUTO_PAYLOAD and known != "Sensor Logger":
        best = _with_unit(best, messages, max_bytes)
    name = "phyphox" if best is not None and best.payload == "phyphox" else known
    return Choice(best, evidence, name, searched)


def _search(group: Group, arrivals: Sequence[Arrival]) -> Evidence:
    """Search places for sensors, device and time."""
    held = group.held
    sensors = find_sensors(held, group.sensor)
    device = find_device(held, arrivals)
    named = [arrival._replace(device=f"{arrival.device} {named_in(arrival.document, device)}") for arrival in arrivals]
    main = sensors.acc or sensors.gyro
    clock = find_clock(held, named, main.samples if main else "", main.counts if main else ())
    return Evidence(sensors, clock, None, device)


def _known_format(group: Group) -> str:
    """Return the name of a format that is recognised by itself, "" for none."""
    if group.form == "packed":
        return "packed"
    documents = [content.document for content in group.contents]
    if documents and all(is_sensor_logger(document) for document in documents):
        return "Sensor Logger"
    if documents and all(_is_senml(document) for document in documents):
        return "SenML"
    return ""


def _is_senml(document: Any) -> bool:
    return (
        isinstance(document, list)
        and bool(document)
        and all(isinstance(record, dict) and not {"n", "bn", 0, -2}.isdisjoint(record) for record in document[:8])
    )


def _named_by_decoder(candidate: Candidate, messages: Sequence[Message], max_bytes: int) -> Candidate:
    """Return a candidate with the devices that the payloads name by themselves."""
    names: dict[str, set[str]] = {}
    settings = candidate.settings(_TOPIC)
    for topic in dict.fromkeys(message.topic for message in messages):
        own = [message._replace(topic=_TOPIC) for message in messages if message.topic == topic][:50]
        tried = trial.decode(settings, own, needs_gyro=False, max_bytes=max_bytes)
        if tried.accepted and recur(tried.batch.devices):
            names[topic] = set(tried.batch.devices)
        if len(names) > 20:  # as many topics tell whether payloads name devices
            break
    return replace(candidate, names=names)


# --- candidates of a search ---------------------------------------------------------------------------


def _by_paths(group: Group, evidence: Evidence) -> Candidate:
    """Return the candidate ``fields`` that a search makes."""
    sensors, clock = evidence.sensors, evidence.clock
    assert sensors.acc is not None
    fields = Fields(
        device=evidence.device,
        t=clock.place.path if clock else "",
        t_unit=clock.t_unit if clock else AUTO_UNIT,
        acc=sensors.acc.paths,
        gyro=sensors.gyro.paths if sensors.gyro else (),
        samples=sensors.acc.samples,
    )
    return _with_scale(Candidate("fields", fields, names=_named(group, evidence.device)), evidence)


def _by_columns(group: Group, evidence: Evidence) -> Candidate:
    """Return the candidate ``csv`` that a search makes."""
    sensors, clock = evidence.sensors, evidence.clock
    names = dict.fromkeys(group.columns, UNUSED)
    for triple, axes in ((sensors.acc, ("ax", "ay", "az")), (sensors.gyro, ("gx", "gy", "gz"))):
        if triple is not None:
            names |= {place.path: axis for place, axis in zip(triple.places, axes, strict=True)}
    if clock is not None and names[clock.place.path] == UNUSED:
        names[clock.place.path] = "t"
    device = _device_column(group, names)
    if device:
        names[device] = "device"
    fields = Fields(t_unit=clock.t_unit if clock else AUTO_UNIT, columns=tuple(names[one] for one in group.columns))
    return _with_scale(Candidate("csv", fields, names=_named_by_column(group, device)), evidence)


def _device_column(group: Group, names: dict[str, str]) -> str:
    """Return the column of texts that name the device: not others in each line."""
    for place, values in group.held.items():
        texts = [value for message in values for value in message]
        if (
            names.get(place.path.partition(".")[0]) == UNUSED
            and place.kind == "text"
            and 2 * len(set(texts)) <= len(texts)
        ):
            return place.path.partition(".")[0]
    return ""


def _named_by_column(group: Group, device: str) -> dict[str, set[str]]:
    names: dict[str, set[str]] = {}
    for message, document in zip(group.searched, group.documents, strict=True):
        if device and document:
            names.setdefault(message.topic, set()).update(document[device])
    return names


def _named(group: Group, path: str) -> dict[str, set[str]]:
    names: dict[str, set[str]] = {}
    for message, document in zip(group.searched, group.documents, strict=True):
        device = named_in(document, path)
        if device:
            names.setdefault(message.topic, set()).add(device)
    return names


def _with_scale(candidate: Candidate, evidence: Evidence) -> Candidate:
    scale, doubts = evidence.sensors.acc_scale, list(evidence.sensors.doubts)
    if scale is not None and scale.doubt:
        doubts.append(f"unit of the accelerometer: {scale.doubt}")
    if evidence.clock is not None and evidence.clock.doubt:
        doubts.append(f"time {evidence.clock.place.text}: {evidence.clock.doubt}")
    unit, factor = ("g", scale.factor) if scale is not None and scale.factor != 1 else ("auto", 1.0)
    fields = replace(candidate.fields, acc_scale=factor)
    return replace(candidate, fields=fields, acc_unit=unit, doubts=tuple(doubts))


def _measured(group: Group, candidate: Candidate, evidence: Evidence, max_bytes: int) -> tuple[Candidate, Evidence]:
    """Add what the decoded samples show: the place of the rate, and the unit of the gyroscope."""
    gyro, messages, doubts = evidence.sensors.gyro, group.searched, list(candidate.doubts)
    fields = replace(candidate.fields, gyro_scale=1.0 if gyro is None else SMALL)
    tried = _try(replace(candidate, fields=fields), messages, needs_gyro=gyro is not None, max_bytes=max_bytes)
    fields = candidate.fields
    if candidate.payload == "fields":
        rates = [finding.rate_hz for finding in _describe(tried) if finding.rate_hz]
        rate, doubt = find_rate(group.held, float(np.median(rates)) if rates else 0.0)
        doubts += [doubt] if doubt else []
        if rate is not None:
            evidence, fields = replace(evidence, rate=rate), replace(fields, rate_hz=rate.path)
    if gyro is None:
        return replace(candidate, fields=fields, doubts=tuple(doubts)), evidence
    scale = _rotation(tried, 1 / SMALL, gyro.text)
    doubts += [f"unit of the gyroscope: {scale.doubt}"] if scale.doubt else []
    fields = replace(fields, gyro_scale=scale.factor)
    candidate = replace(candidate, fields=fields, gyro_unit=scale.unit, doubts=tuple(doubts))
    return candidate, replace(evidence, gyro_scale=scale)


def _rotation(tried: Trial, factor: float, name: str) -> Scale:
    """Return the unit of the gyroscopes of several devices.

    Args:
        tried: The samples.
        factor: What makes of decoded numbers those that were sent.
        name: Name of the gyroscope in messages.

    """
    scales = []
    for rows in list(trial.by_device(tried.batch).values())[:_MAX_ROTATIONS]:
        finding = trial.describe("", tried.batch, rows, has_gyro=True)
        samples = tried.batch.samples[rows.samples].astype(np.float64)
        scales.append(rotation_of(samples[:, :3], samples[:, 3:] * factor, finding.rate_hz, name))
    certain = [scale for scale in scales if not scale.doubt]
    units = {(scale.unit, scale.factor) for scale in certain}
    if len(units) > 1:
        return replace(certain[0], doubt="devices differ: " + ", ".join(sorted({scale.unit for scale in certain})))
    return (certain or scales or [Scale("rad/s")])[0]


# --- comparison ---------------------------------------------------------------------------------------


def _try(candidate: Candidate, messages: Sequence[Message], *, needs_gyro: bool, max_bytes: int) -> Trial:
    """Decode messages of any topics, each topic a device unless payloads name the devices."""
    names_device = _payloads_name_devices(candidate)
    numbers = {topic: str(number) for number, topic in enumerate(dict.fromkeys(one.topic for one in messages))}
    moved = [
        message._replace(topic=_TOPIC if names_device else _TEMPLATE.replace("{device}", numbers[message.topic]))
        for message in messages
    ]
    settings = candidate.settings(_TOPIC if names_device else _TEMPLATE)
    return trial.decode(settings, moved, needs_gyro=needs_gyro, max_bytes=max_bytes)


def _payloads_name_devices(candidate: Candidate) -> bool:
    """Return whether a topic has messages of several devices, which only the payloads tell apart."""
    return any(len(names) > 1 for names in candidate.names.values())


def _describe(tried: Trial) -> list[DeviceFinding]:
    devices = list(trial.by_device(tried.batch).items())[: trial.MAX_DEVICES]
    return [trial.describe(device, tried.batch, rows, has_gyro=False) for device, rows in devices]


def _quality(candidate: Candidate, messages: Sequence[Message], max_bytes: int) -> tuple[bool, bool, bool, bool]:
    """Return what speaks for a candidate, what counts most first."""
    tried = _try(candidate, messages, needs_gyro=False, max_bytes=max_bytes)
    findings = _describe(tried)
    if not findings or tried.share < ENOUGH:
        return False, False, False, False
    both = _try(candidate, messages, needs_gyro=True, max_bytes=max_bytes)
    has_gyro = both.share >= ENOUGH and bool(both.batch.samples[:, 3:].any())
    has_gravity = 2 * sum(bool(finding.unit) for finding in findings) > len(findings)
    stamped = all(finding.keeps_time for finding in findings)
    return True, has_gravity, stamped, has_gyro


def _with_unit(candidate: Candidate, messages: Sequence[Message], max_bytes: int) -> Candidate:
    """Return a candidate of a format whose fields are known, with the unit of its gyroscope."""
    tried = _try(candidate, messages, needs_gyro=True, max_bytes=max_bytes)
    if tried.share < ENOUGH or not len(tried.batch):
        return candidate
    scale = _rotation(tried, 1.0, "")
    if not scale.doubt and scale.factor == 1:
        return replace(candidate, gyro_unit=scale.unit)
    what = scale.doubt or f"its numbers seem to be {scale.words}"
    return replace(candidate, doubts=(*candidate.doubts, f"unit of the gyroscope: {what}"))
