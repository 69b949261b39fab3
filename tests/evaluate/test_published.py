"""Labels and events that the daemon would publish for a recording."""

from __future__ import annotations

import dataclasses
import json

import numpy as np

from harstream.core.batches import SampleBatch
from harstream.core.engine import Engine
from harstream.core.events import ENTER, EXIT
from harstream.core.labels import UNKNOWN_INDEX
from harstream.core.smoothing_section import Smoothing
from harstream.evaluate import published

SMOOTHING = Smoothing("hmm", 0.7, dwell_s=5.0, fixed_lag_windows=2)


def test_every_due_window_has_the_labels_of_network_and_smoother(classifier, subjects):
    result = published.label_recording(subjects[0], classifier, smoothing=SMOOTHING)
    engine = Engine(classifier.bundle.spec)
    due = engine.feed(SampleBatch.from_message("x", subjects[0].samples, t_ns=0, rate_hz=50.0))
    np.testing.assert_array_equal(result.windows.windows, due.windows)
    predictions = classifier.predict(due.windows)
    np.testing.assert_array_equal(result.predictions.probabilities, predictions.probabilities)
    smoother = classifier.bundle.smoother(SMOOTHING)
    smoothed, events = smoother.feed(due.devices, predictions.probabilities, due.start_ns, due.end_ns)
    np.testing.assert_array_equal(result.smoothed.label, smoothed.label)
    np.testing.assert_array_equal(result.smoothed.confidence, smoothed.confidence)
    assert [event.t_ns for event in result.events[: len(events)]] == [event.t_ns for event in events]


def test_the_last_event_is_the_exit_at_the_end_of_the_last_window(classifier, subjects):
    for subject in subjects:
        result = published.label_recording(subject, classifier, 5_000_000_000)
        assert result.events[0].kind == ENTER
        assert result.events[-1].kind == EXIT
        assert result.events[-1].t_ns == result.windows.end_ns[-1]
        assert {event.device for event in result.events} == {subject.name}


def test_a_bundle_without_smoothing_publishes_each_windows_own_label(classifier, subjects):
    unknown = 0
    for subject in subjects:
        result = published.label_recording(subject, classifier)
        np.testing.assert_array_equal(result.smoothed.label, result.predictions.label)
        np.testing.assert_array_equal(result.smoothed.confidence, result.predictions.confidence)
        smoothed = published.label_recording(subject, classifier, smoothing=SMOOTHING)
        unknown += (smoothed.smoothed.label == UNKNOWN_INDEX).sum()
    assert unknown > 0


def test_a_recording_whose_signal_cannot_be_trusted_has_no_label_and_no_event(classifier, subjects):
    in_ms2 = subjects[1].samples * np.array([9.80665] * 3 + [1] * 3, np.float32)
    wrong = dataclasses.replace(subjects[1], samples=in_ms2)
    result = published.label_recording(wrong, classifier)
    assert len(result.windows) > 5
    assert set(result.smoothed.label.tolist()) == {UNKNOWN_INDEX}
    assert result.events == ()
    messages = [json.loads(payload) for _, payload in published.label_messages([wrong], classifier)]
    assert {(message["label"], message["problem"]) for message in messages} == {("UNKNOWN", "gravity")}
    assert max(message["confidence"] for message in messages) < 0.17


def test_messages_are_those_of_every_recording_in_turn(classifier, subjects):
    messages = list(published.label_messages(subjects[:2], classifier))
    names = [device for device, _ in messages]
    assert names == sorted(names)
    for subject in subjects[:2]:
        result = published.label_recording(subject, classifier)
        received = [json.loads(payload) for device, payload in messages if device == subject.name]
        assert [message["label"] for message in received] == [
            classifier.bundle.labels[i] for i in result.smoothed.label
        ]
        np.testing.assert_allclose([message["t"] for message in received], result.windows.end_ns / 1e9, atol=1e-6)
