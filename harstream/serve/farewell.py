"""Devices whose source is not configured any more: what is published about their end."""

from __future__ import annotations

from dataclasses import dataclass, field

from harstream.serve.durable.durability import Restored
from harstream.serve.label_state import LabelState
from harstream.wire import labels
from harstream.wire.topics import TopicTemplate


@dataclass(slots=True)
class Farewell:
    """Messages about devices whose activities end at the start of a daemon, each a topic and a payload."""

    events: list[tuple[str, bytes]] = field(default_factory=list)
    clearing: list[tuple[str, bytes]] = field(default_factory=list)  # empty ones, which clear retained labels


def say_farewell(restored: Restored) -> Farewell:
    """Return the events that end the activities of a source in a checkpoint, and what clears its labels."""
    facts = restored.facts
    state = LabelState.read(facts, restored.arrays)
    devices = [str(entry[0]) for entry in state.last_labels]
    farewell = Farewell()
    if facts["events_topic"] is not None:
        topic = TopicTemplate(facts["events_topic"]).topic
        for event in state.smoother.evict(devices):
            farewell.events.append((topic(event.device), labels.encode_event(event, state.outputs, state.model)))
    topic = TopicTemplate(facts["labels_topic"]).topic
    farewell.clearing += [(topic(device), b"") for device in dict.fromkeys([*devices, *state.to_clear])]
    return farewell
