"""Published labels and events have exactly the documented keys, types and values."""

from __future__ import annotations

import json

import numpy as np

from harstream.classifier import to_predictions
from harstream.core.batches import WindowBatch
from harstream.core.events import ENTER, EXIT, ActivityEvent
from harstream.core.problems import Problem
from harstream.core.smoothing import SmoothedLabels
from harstream.wire import labels

NAMES = ("WALKING", "SITTING", "LAYING")
PUBLISHED = (*NAMES, "UNKNOWN")


def encoded(logits, start_ns, end_ns, smoothed=None, problems=None):
    n = len(logits)
    windows = WindowBatch(
        [f"w{i}" for i in range(n)],
        np.zeros((n, 128, 9), np.float32),
        np.array(start_ns, np.int64),
        np.array(end_ns, np.int64),
        np.zeros(n),
        np.zeros(n, np.int64) if problems is None else np.array(problems, np.int64),
    )
    predictions = to_predictions(np.array(logits, np.float32), 1.0)
    smoothed = smoothed or SmoothedLabels(predictions.label, predictions.confidence)
    return labels.encode(windows, predictions, smoothed, PUBLISHED, "waist@1.0.0")


def test_a_label_has_the_documented_keys_types_and_values():
    (payload,) = encoded([[0, 5, 1]], [1_763_668_800_020_000_000], [1_763_668_802_580_000_000])
    message = json.loads(payload)
    assert list(message) == ["t", "label", "confidence", "probabilities", "window", "model"]
    assert message["t"] == 1763668802.58
    assert message["window"] == [1763668800.02, 1763668802.58]
    assert message["label"] == "SITTING"
    assert message["model"] == "waist@1.0.0"
    assert list(message["probabilities"]) == list(NAMES)
    odds = np.exp([0, 5, 1])
    np.testing.assert_allclose(list(message["probabilities"].values()), odds / odds.sum(), atol=1e-4)
    assert message["confidence"] == message["probabilities"]["SITTING"]


def test_a_label_names_the_most_severe_problem_of_its_device_and_only_if_there_is_one():
    problems = [0, int(Problem.CLOCK), int(Problem.CLOCK | Problem.GRAVITY)]
    payloads = encoded([[0, 5, 1]] * 3, [0] * 3, [1] * 3, problems=problems)
    assert [json.loads(payload).get("problem") for payload in payloads] == [None, "clock", "gravity"]
    assert "problem" not in json.loads(payloads[0])


def test_states_have_no_probability_in_a_label_and_their_name_in_an_event():
    (payload,) = encoded([[0, 5, 1, 4, 2]], [0], [1])
    message = json.loads(payload)
    assert list(message["probabilities"]) == list(NAMES)
    odds = np.exp([0, 5, 1, 4, 2])
    np.testing.assert_allclose(list(message["probabilities"].values()), (odds / odds.sum())[:3], atol=1e-4)
    enter = ActivityEvent("w0", ENTER, 3, 0, 0.5)
    event = json.loads(labels.encode_event(enter, (*NAMES, "SIT_TO_LIE", "LIE_TO_SIT"), "waist@2.0.0"))
    assert (event["event"], event["label"]) == ("enter", "SIT_TO_LIE")


def test_every_window_gets_its_own_message_in_order():
    payloads = encoded([[9, 0, 0], [0, 9, 0], [0, 0, 9]], [0, 1, 2], [3, 4, 5])
    assert [json.loads(payload)["label"] for payload in payloads] == list(NAMES)


def test_times_are_whole_microseconds_over_the_whole_range():
    end = 7_258_118_400_000_000_000
    (payload,) = encoded([[0, 0, 1]], [1_999], [end])
    assert json.loads(payload)["window"] == [0.000002, 7258118400.0]


def test_extreme_logits_are_still_numbers():
    for payload in encoded([[1e4, -1e4, 0], [0, 0, 0]], [0, 0], [1, 1]):
        probabilities = list(json.loads(payload)["probabilities"].values())
        assert all(0 <= p <= 1 for p in probabilities)
        assert abs(sum(probabilities) - 1) < 1e-3


def test_label_and_confidence_are_the_smoothed_ones_and_probabilities_the_networks():
    smoothed = SmoothedLabels(np.array([0, -1]), np.array([0.625, 0.5], np.float32))
    payloads = encoded([[0, 5, 1], [1, 1, 0]], [0, 1], [2, 3], smoothed)
    first, second = map(json.loads, payloads)
    assert (first["label"], first["confidence"]) == ("WALKING", 0.625)
    assert first["probabilities"]["SITTING"] > 0.9
    assert (second["label"], second["confidence"]) == ("UNKNOWN", 0.5)
    assert list(second["probabilities"]) == list(NAMES)  # UNKNOWN has none


def test_events_have_the_documented_keys_and_only_an_exit_a_duration():
    enter = ActivityEvent("w0", ENTER, 1, 1_763_668_800_020_000_499, 0.87654321)
    assert json.loads(labels.encode_event(enter, PUBLISHED, "waist@1.0.0")) == {
        "t": 1763668800.02,
        "event": "enter",
        "label": "SITTING",
        "confidence": 0.8765,
        "model": "waist@1.0.0",
    }
    leave = ActivityEvent("w0", EXIT, 0, 1_763_668_802_580_000_000, 0.5, 62_720_000_000)
    assert json.loads(labels.encode_event(leave, PUBLISHED, "waist@1.0.0")) == {
        "t": 1763668802.58,
        "event": "exit",
        "label": "WALKING",
        "confidence": 0.5,
        "model": "waist@1.0.0",
        "duration_s": 62.72,
    }
