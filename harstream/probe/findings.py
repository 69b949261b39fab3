"""Findings: all that messages show, from their groups to settings that were tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from harstream.config import RunConfig
from harstream.core.batches import SampleBatch
from harstream.core.spec import SignalSpec
from harstream.errors import ConfigError
from harstream.probe import pairs, trial
from harstream.probe.candidates import ENOUGH, Choice, Evidence, choose
from harstream.probe.groups import Group, group
from harstream.probe.naming import Template, find_templates
from harstream.probe.obstacles import obstacle
from harstream.probe.settings import SourceSettings
from harstream.probe.trial import Trial
from harstream.wire.decoder import Message
from harstream.wire.topics import TopicTemplate

#: Topic of labels where the default one is among those of samples.
_LABELS_TOPIC = "harstream/{device}/activity"
#: Sources of one group; a level of topics that is no device makes more.
_MAX_TEMPLATES = 20
_MAX_NAMED = 3  # devices
#: What is said of a source without the gyroscope that the model needs, and of a gyroscope that goes with no source.
_NO_GYRO = (
    "the model needs a gyroscope, and none was heard, in these messages or beside them: let it send while probing, or "
    "take --model phone, which needs none"
)
_UNLIKE = (
    "a gyroscope that seems to belong to {}, but no settings decode both: send both in one form, with device and time "
    "under the same names"
)
_ANOTHER = "a gyroscope of devices that send another one too, which the source of {} takes"


@dataclass(frozen=True, slots=True)
class Gyroscope:
    """Messages of the gyroscopes of a source's devices, where they have messages of their own."""

    template: str  # of their topics; that of the accelerometer if both have the same
    group: Group
    evidence: Evidence
    batch: SampleBatch  # their samples

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics, sorted."""
        return tuple(self.group.topics)


@dataclass(frozen=True, slots=True)
class Source:
    """Messages that one source can serve."""

    settings: SourceSettings
    group: Group
    choice: Choice
    topics: tuple[str, ...]
    doubts: tuple[str, ...]
    trial: Trial
    gyro: Gyroscope | None = None
    error: str = ""  # that `harstream run` would end with

    @property
    def evidence(self) -> Evidence:
        """Result of the search of the documents."""
        return self.choice.evidence

    @property
    def shows_gravity(self) -> bool:
        """Tell whether any device shows gravity, unless no sample could be decoded for the model."""
        return not self.trial.devices or any(one.unit for one in self.trial.devices)

    @property
    def works(self) -> bool:
        """Tell whether nearly all messages were accepted, with gravity, and no device has a problem."""
        devices = self.trial.devices
        if self.error or not devices or self.trial.share < ENOUGH:
            return False
        return all(one.unit and not one.untrusted and not one.missing for one in devices)

    @property
    def messages(self) -> list[Message]:
        """Messages on its topics, in order of arrival, without those of gyroscopes with messages of their own."""
        topics = set(self.topics)
        return [message for message in self.group.messages if message.topic in topics]


@dataclass(frozen=True, slots=True)
class Other:
    """Messages that no source can serve."""

    group: Group
    topics: tuple[str, ...]
    reason: str  # one line: what is missing
    evidence: Evidence | None


@dataclass(slots=True, eq=False)
class _Unserved:
    """Messages that no source has."""

    group: Group
    choice: Choice
    reason: str = ""  # if it is known before the end


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that was found."""

    messages: int  # without retained ones
    topics: int
    seconds: float  # from the first message to the last one
    sources: list[Source] = field(default_factory=list)
    others: list[Other] = field(default_factory=list)
    retained: Counter[str] = field(default_factory=Counter)  # topic to messages
    own: Counter[str] = field(default_factory=Counter)  # the same of labels, events and status of a daemon
    passed_over: int = 0  # messages of more shapes than are looked at


def examine(
    messages: Sequence[Message],
    spec: SignalSpec,
    *,
    model: str = "",
    filters: Sequence[str] = (),
    max_payload_bytes: int = 256 * 1024,
) -> Findings:
    """Return what messages show, and settings by which they are labelled.

    Args:
        messages: Messages of any topics, in order of arrival.
        spec: Signal of the model for which settings are tried.
        model: Name of this model for the settings; "": the default.
        filters: Topic filters that the messages come from.
        max_payload_bytes: Largest payload that a daemon accepts.

    """
    grouped = group(messages, max_payload_bytes)
    live = [message for message in messages if not message.retained]
    seconds = live[-1].arrival_s - live[0].arrival_s if live else 0.0
    findings = Findings(
        len(live),
        len({one.topic for one in live}),
        seconds,
        retained=grouped.retained,
        own=grouped.own,
        passed_over=grouped.passed_over,
    )
    unserved: list[_Unserved] = []
    for part in grouped.groups:
        choice = choose(part, max_payload_bytes)
        if choice.candidate is None or part.told_by:
            unserved.append(_Unserved(part, choice))
            continue
        templates = find_templates(part.topics, filters, choice.candidate.names)[:_MAX_TEMPLATES]
        found = [_source(template, part, choice, spec, max_payload_bytes) for template in templates]
        found = [source for source in found if source.shows_gravity]
        findings.sources.extend(found)
        if not found:
            unserved.append(_Unserved(part, choice))
    _merge(findings.sources, spec, max_payload_bytes)
    clashes = _separate(findings.sources)
    _pair(findings.sources, unserved, spec, max_payload_bytes)
    groups = [one.group for one in unserved]
    for one in unserved:
        reason = one.reason or obstacle(one.group, one.choice, groups)
        findings.others.append(Other(one.group, tuple(one.group.topics), reason, one.choice.evidence))
    for source, clash in clashes:
        reason = (
            f"the topics of {clash.settings.topic} bring messages of another shape too, and a source has one: "
            "let these devices publish on topics with another level, or send as the others do"
        )
        findings.others.append(Other(source.group, source.topics, reason, source.evidence))
    findings.sources[:] = [
        _checked(source, f"source{number}", model) for number, source in enumerate(findings.sources, 1)
    ]
    return findings


def _checked(source: Source, name: str, model: str) -> Source:
    """Return a source with name and model, and with topics for labels that `harstream run` accepts."""
    settings = replace(source.settings, name=name, model=model)
    error = _error(settings)
    if error:  # its topics may be those of labels too
        other = replace(settings, labels_topic=_LABELS_TOPIC, events_topic=f"{_LABELS_TOPIC}/event")
        if not _error(other):
            return replace(source, settings=other)
    return replace(source, settings=settings, error=error)


def _error(settings: SourceSettings) -> str:
    """Return the error with which `harstream run` refuses settings; "" if it accepts them."""
    try:
        RunConfig(broker="localhost", source=(settings.table(),))
    except ConfigError as error:
        return str(error)
    return ""


def _source(template: Template, one: Group, choice: Choice, spec: SignalSpec, max_bytes: int) -> Source:
    assert choice.candidate is not None
    settings = choice.candidate.settings(template.text)
    topics = set(template.topics)
    messages = [message for message in one.messages if message.topic in topics]
    doubts = [template.doubt] if template.doubt else []
    doubts += choice.candidate.doubts
    tried = trial.run(settings, messages, spec, max_bytes)
    return Source(settings, one, choice, template.topics, tuple(doubts), tried)


def _merge(sources: list[Source], spec: SignalSpec, max_bytes: int) -> None:
    """Make one source of those with the same settings, whose messages differ in shape or form."""
    merged: dict[SourceSettings, Source] = {}
    for source in sources:
        known = merged.get(source.settings)
        if known is None:
            merged[source.settings] = source
            continue
        topics = {*known.topics, *source.topics}
        messages = _in_order(known.messages, source.messages)
        whole = replace(known.group, messages=messages)
        tried = trial.run(source.settings, messages, spec, max_bytes)
        doubts = tuple(dict.fromkeys((*known.doubts, *source.doubts)))
        merged[source.settings] = replace(known, group=whole, topics=tuple(sorted(topics)), doubts=doubts, trial=tried)
    sources[:] = merged.values()


def _pair(sources: list[Source], unserved: list[_Unserved], spec: SignalSpec, max_bytes: int) -> None:
    """Put gyroscopes that have messages of their own to the accelerometers of the same devices.

    Args:
        sources: All sources; those of such accelerometers become sources of both.
        unserved: Messages that no source has; those of such gyroscopes are taken out.
        spec: Signal of the model.
        max_bytes: Largest payload to accept.

    """
    for number, source in enumerate(sources):
        if any(one.has_gyro for one in source.trial.devices):
            continue
        others = [TopicTemplate(one.settings.topic, may_omit_device=True) for one in sources if one is not source]
        found = None
        for template, parts in _gyroscopes(source, unserved).items():
            if any(TopicTemplate(template, may_omit_device=True).overlaps(other) for other in others):
                continue
            reason = _ANOTHER if found else _UNLIKE
            found = found or _paired(source, template, parts, spec, max_bytes)
            if found is not None and found.gyro is not None and found.gyro.template == template:
                sources[number] = found
                _take(unserved, parts, found)
            else:
                for one, group in parts:
                    if _share_a_device(source, template, group):
                        one.reason = reason.format(source.settings.topic)
    for number, source in enumerate(sources):
        is_lacking = spec.uses_gyro and source.gyro is None and set(source.trial.rejected) == {"gyroscope"}
        if is_lacking and not any(one.reason for one in unserved):
            sources[number] = replace(source, doubts=(*source.doubts, _NO_GYRO))


def _share_a_device(source: Source, template: str, group: Group) -> bool:
    """Return whether topics of a gyroscope, and topics of a source, name the same device, or none at all."""
    of_gyro, of_acc = (
        {TopicTemplate(text, may_omit_device=True).device(topic) for topic in topics}
        for text, topics in ((template, group.topics), (source.settings.topic, source.topics))
    )
    return not of_gyro.isdisjoint(of_acc)


def _gyroscopes(source: Source, unserved: Sequence[_Unserved]) -> dict[str, list[tuple[_Unserved, Group]]]:
    """Return messages that may be those of the gyroscopes of a source's devices, by the template of their topics."""
    found: dict[str, list[tuple[_Unserved, Group]]] = {}
    for one in unserved:
        group = one.group
        if group.told_by or not (group.is_gyro or group.sensor == "gyro" or one.choice.evidence.sensors.gyro):
            continue
        for template, topics in pairs.partners(source.settings.topic, group.topics).items():
            messages = [message for message in group.messages if message.topic in topics]
            found.setdefault(template, []).append((one, replace(group, messages=messages)))
    return found


def _paired(
    source: Source, template: str, parts: Sequence[tuple[_Unserved, Group]], spec: SignalSpec, max_bytes: int
) -> Source | None:
    """Return a source with the gyroscope of its devices; None if no settings decode both.

    Args:
        source: The source of the accelerometer.
        template: Template of the gyroscope's topics.
        parts: Messages on these that may be its.
        spec: Signal of the model.
        max_bytes: Largest payload to accept.

    """
    acc, searched = source.messages, source.choice.searched
    for first, chosen in parts:
        evidence = _evidence(source, first.choice.evidence)
        found = pairs.find_pair(
            source.settings, searched, acc, chosen.messages, template, evidence.sensors.gyro, max_bytes
        )
        if found is not None:
            break
    else:
        return None
    alike = [one for _, one in parts if one is chosen or pairs.decodes(found.settings, one.messages, max_bytes)]
    messages = _in_order(*(one.messages for one in alike))
    if spec.uses_gyro:
        settings, doubts = found.settings, found.doubts
        tried = trial.run(settings, _in_order(acc, messages), spec, max_bytes)
        batch = tried.gyro
    else:
        settings, tried = source.settings, source.trial
        doubts = (f"the gyroscope on {template} is left out, because the model needs none",)
        batch = trial.decode(found.settings, messages, needs_gyro=True, max_bytes=max_bytes).gyro
        trial.describe_gyro(tried, batch)
    alone = sorted({*batch.devices} - {*tried.acc.devices})
    if alone:
        doubts += (f"of {_named(alone)} only the gyroscope was heard, and no accelerometer",)
    gyro = Gyroscope(template, replace(chosen, messages=messages), replace(evidence, gyro_scale=found.scale), batch)
    return replace(source, settings=settings, doubts=(*source.doubts, *doubts), trial=tried, gyro=gyro)


def _evidence(source: Source, evidence: Evidence) -> Evidence:
    """Return what was found in messages of a gyroscope, which is where the accelerometer is in its own, if anything is.

    In ``[t, x, y, z]`` names do not tell which three of the four are a gyroscope.
    """
    acc, sensors = source.evidence.sensors.acc, evidence.sensors
    same = [one for one in sensors.triples if acc and one.paths == acc.paths and one.samples == acc.samples]
    return replace(evidence, sensors=replace(sensors, gyro=same[0])) if same else evidence


def _take(unserved: list[_Unserved], parts: Sequence[tuple[_Unserved, Group]], source: Source) -> None:
    """Take the messages of the gyroscopes of a source out of those that no source has."""
    assert source.gyro is not None
    taken = set(map(id, source.gyro.group.messages))
    for one, _ in parts:
        one.group = replace(one.group, messages=[m for m in one.group.messages if id(m) not in taken])
        if not one.group.messages:
            unserved.remove(one)


def _in_order(*streams: Sequence[Message]) -> list[Message]:
    """Return the messages of several streams in order of arrival."""
    return sorted((message for stream in streams for message in stream), key=lambda message: message.arrival_s)


def _named(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _separate(sources: list[Source]) -> list[tuple[Source, Source]]:
    """Take out sources whose topics overlap those of an earlier one, and return each with that one."""
    kept: list[Source] = []
    taken: list[tuple[Source, Source]] = []
    for source in sources:
        template = TopicTemplate(source.settings.topic, may_omit_device=True)
        clash = next(
            (one for one in kept if template.overlaps(TopicTemplate(one.settings.topic, may_omit_device=True))), None
        )
        if clash is None:
            kept.append(source)
        else:
            taken.append((source, clash))
    sources[:] = kept
    return taken
