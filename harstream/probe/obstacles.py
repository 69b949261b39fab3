"""Obstacles: why messages cannot be labelled, and what would mend it, in one line."""

from __future__ import annotations

from collections.abc import Sequence

from harstream.probe.candidates import Choice
from harstream.probe.groups import Group
from harstream.probe.places import MAX_PLACES
from harstream.probe.words import AXES

_TOGETHER = "send x, y and z in one message"


def obstacle(group: Group, choice: Choice, others: Sequence[Group]) -> str:
    """Return why the messages of a group cannot be labelled.

    Args:
        group: The messages.
        choice: What was found in them.
        others: All groups that cannot be labelled.

    """
    shown = group.contents[0].shown
    if group.form == "empty":
        return "the messages are empty"
    if group.form == "binary":
        return f"neither text, CBOR nor MessagePack, and not harstream's packed format: {shown}"
    if group.form == "text":
        if shown.lstrip("'").startswith(("{", "[")):
            return f"it looks like JSON, but is malformed, or several documents in one message: {shown}"
        return f"text that holds no columns of numbers: {shown}"
    if group.form == "json" and not isinstance(group.documents[0], dict | list):
        if _is_of_one_axis(group, others):
            return f"each axis comes in messages of its own, {shown} for example: {_TOGETHER}"
        return f"each message is a single value, {shown} for example"
    if group.told_by:
        return (
            f"{group.told_by} = {group.value!r} tells these messages from others of the topic, which a source cannot: "
            "send both sensors in one message, or each on a topic of its own"
        )
    return _of_document(group, choice)


def _of_document(group: Group, choice: Choice) -> str:
    sensors = choice.evidence.sensors
    named = {triple.named for triple in sensors.triples} | {group.sensor}
    if sensors.acc is not None:
        detail = "not all messages have it"
        if choice.candidate is not None or sensors.acc_scale is None:
            detail = f"its length, {sensors.acc.norm:.3g}, is that of gravity in no unit"
        return f"{sensors.acc.text} looks like an accelerometer, but {detail}"
    if "linear" in named and "gravity" in named:
        return "acceleration without gravity, and gravity, come apart: send their sum"
    if "linear" in named:
        return "acceleration without gravity: send it with gravity, which every model needs"
    if sensors.gyro is not None:
        return "a gyroscope alone: no accelerometer of the same devices was heard"
    if "other" in named and sensors.triples:
        return "values of another sensor, and no accelerometer"
    if isinstance(group.documents[0] if group.documents else None, list):
        return "a list at the top of the message: send an object that holds the list under a name, such as samples"
    if len(group.held) >= MAX_PLACES:
        return f"no accelerometer among the first {MAX_PLACES} values of a message"
    return "no accelerometer: no three values x, y and z whose length is near 1 g"


def _is_of_one_axis(group: Group, others: Sequence[Group]) -> bool:
    """Return whether the last letters of topics are x, y and z."""
    topics = {topic.lower() for one in (group, *others) for topic in one.topics}
    return any(
        topic[:-1] + axis in topics
        for topic in (one.lower() for one in group.topics)
        for axis in AXES
        if axis != topic[-1]
    ) and any(topic[-1:].lower() in AXES for topic in group.topics)
