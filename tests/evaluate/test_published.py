"""What the daemon would publish of a recording: labels for every due window, and the events between them."""

from __future__ import annotations

import json

import numpy as np

from harstream.core.batches import SampleBatch
from harstream.core.engine import Engine
from harstream.core.events import ENTER, EXIT
from harstream.core.labels import UNKNOWN_INDEX
from harstream.core.smoothing import Smoothing
from harstream.evaluate import published

SMOOTHING = Smoothing("hmm", 0.6, dwell_s=5.0, fixed_lag_windows=2)


def test_every_due_window_is_there_with_what_network_and_smoother_say(classifier, subjects):
    said = published.label_recording(subjects[0], classifier, smoothing=SMOOTHING)
    engine = Engine(classifier.bundle.spec)
    due = engine.feed(SampleBatch.from_message("x", subjects[0].samples, t_ns=0, rate_hz=50.0))
    np.testing.assert_array_equal(said.windows.windows, due.windows)
    made = classifier.predict(due.windows)
    np.testing.assert_array_equal(said.predictions.probabilities, made.probabilities)
    smoother = classifier.bundle.smoother(SMOOTHING)
    beliefs, events = smoother.feed(due.devices, made.probabilities, due.start_ns, due.end_ns)
    np.testing.assert_array_equal(said.smoothed.label, beliefs.label)
    np.testing.assert_array_equal(said.smoothed.confidence, beliefs.confidence)
    assert [event.t_ns for event in said.events[: len(events)]] == [event.t_ns for event in events]


def test_the_last_event_is_the_exit_at_the_end_of_the_last_window(classifier, subjects):
    for subject in subjects:
        said = published.label_recording(subject, classifier, 5_000_000_000)
        assert said.events[0].kind == ENTER
        assert said.events[-1].kind == EXIT
        assert said.events[-1].t_ns == said.windows.end_ns[-1]
        assert {event.device for event in said.events} == {subject.name}


def test_a_bundle_that_does_not_say_publishes_every_windows_own_label(classifier, subjects):
    unknown = 0
    for subject in subjects:
        said = published.label_recording(subject, classifier)
        np.testing.assert_array_equal(said.smoothed.label, said.predictions.label)
        np.testing.assert_array_equal(said.smoothed.confidence, said.predictions.confidence)
        smoothed = published.label_recording(subject, classifier, smoothing=SMOOTHING)
        unknown += (smoothed.smoothed.label == UNKNOWN_INDEX).sum()
    assert unknown > 0


def test_messages_are_those_of_every_recording_in_turn(classifier, subjects):
    made = list(published.label_messages(subjects[:2], classifier))
    names = [device for device, _ in made]
    assert names == sorted(names)
    for subject in subjects[:2]:
        said = published.label_recording(subject, classifier)
        heard = [json.loads(payload) for device, payload in made if device == subject.name]
        assert [message["label"] for message in heard] == [classifier.bundle.labels[i] for i in said.smoothed.label]
        np.testing.assert_allclose([message["t"] for message in heard], said.windows.end_ns / 1e9, atol=1e-6)
