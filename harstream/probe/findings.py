"""Findings: all that messages show, from their groups to settings that were tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from harstream.config import RunConfig
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


@dataclass(frozen=True, slots=True)
class Source:
    """Messages that one source can serve."""

    settings: SourceSettings
    group: Group
    choice: Choice
    topics: tuple[str, ...]
    doubts: tuple[str, ...]
    trial: Trial
    gyro_topics: tuple[str, ...] = ()
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
        return all(one.unit and not one.untrusted for one in devices)


@dataclass(frozen=True, slots=True)
class Other:
    """Messages that no source can serve."""

    group: Group
    topics: tuple[str, ...]
    reason: str  # one line: what is missing
    evidence: Evidence | None


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
    unserved: list[tuple[Group, Choice]] = []
    for one in grouped.groups:
        choice = choose(one, max_payload_bytes)
        if choice.candidate is None or one.told_by:
            unserved.append((one, choice))
            continue
        templates = find_templates(one.topics, filters, choice.candidate.names)[:_MAX_TEMPLATES]
        found = [_source(template, one, choice, spec, max_payload_bytes) for template in templates]
        found = [source for source in found if source.shows_gravity]
        findings.sources.extend(found)
        if not found:
            unserved.append((one, choice))
    _merge(findings.sources, spec, max_payload_bytes)
    clashes = _separate(findings.sources)
    _pair(findings.sources, unserved, spec, max_payload_bytes)
    for one, choice in unserved:
        findings.others.append(
            Other(one, tuple(one.topics), obstacle(one, choice, [other for other, _ in unserved]), choice.evidence)
        )
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
        messages = [m for one in (known.group, source.group) for m in one.messages if m.topic in topics]
        messages.sort(key=lambda message: message.arrival_s)
        whole = replace(known.group, messages=messages)
        tried = trial.run(source.settings, messages, spec, max_bytes)
        doubts = tuple(dict.fromkeys((*known.doubts, *source.doubts)))
        merged[source.settings] = replace(known, group=whole, topics=tuple(sorted(topics)), doubts=doubts, trial=tried)
    sources[:] = merged.values()


def _pair(sources: list[Source], unserved: list[tuple[Group, Choice]], spec: SignalSpec, max_bytes: int) -> None:
    """Put gyroscopes whose messages come on topics of their own to the accelerometers of the same devices."""
    for one, choice in list(unserved):
        gyro = choice.evidence.sensors.gyro
        if gyro is None or one.told_by:
            continue
        for number, source in enumerate(sources):
            topic, searched = pairs.partner(source.settings.topic, one.topics), source.choice.searched
            if not topic or searched is None or searched.fields.gyro or searched.payload != "fields":
                continue
            unserved.remove((one, choice))
            settings, doubt = source.settings, f"the gyroscope on {topic} is left out, because the model needs none"
            tried = source.trial
            if spec.uses_gyro:
                messages = [message for message in source.group.messages if message.topic in source.topics]
                tried = trial.look(settings, messages, max_bytes)
                settings, doubt = pairs.pair(
                    settings, searched, source.group.messages, one.messages, topic, gyro, max_bytes
                )
            doubts = (*source.doubts, doubt) if doubt else source.doubts
            sources[number] = replace(
                source, settings=settings, doubts=doubts, trial=tried, gyro_topics=tuple(one.topics)
            )
            break


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
