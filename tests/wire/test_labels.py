"""Labels out, exactly as subscribers were promised."""

from __future__ import annotations

import json

import numpy as np

from harstream.classifier import to_predictions
from harstream.core.batches import WindowBatch
from harstream.wire import labels

NAMES = ("WALKING", "SITTING", "LAYING")


def encoded(logits, start_ns, end_ns):
    n = len(logits)
    windows = WindowBatch(
        [f"w{i}" for i in range(n)],
        np.zeros((n, 128, 9), np.float32),
        np.array(start_ns, np.int64),
        np.array(end_ns, np.int64),
        np.zeros(n),
    )
    return list(labels.encode(windows, to_predictions(np.array(logits, np.float32), 1.0), NAMES, "waist@1.0.0"))


def test_a_label_has_the_promised_keys_types_and_values():
    ((device, label, payload),) = encoded([[0, 5, 1]], [1_763_668_800_020_000_000], [1_763_668_802_580_000_000])
    message = json.loads(payload)
    assert (device, label) == ("w0", "SITTING")
    assert list(message) == ["t", "label", "confidence", "probabilities", "window", "model"]
    assert message["t"] == 1763668802.58
    assert message["window"] == [1763668800.02, 1763668802.58]
    assert message["label"] == "SITTING"
    assert message["model"] == "waist@1.0.0"
    assert list(message["probabilities"]) == list(NAMES)
    odds = np.exp([0, 5, 1])
    np.testing.assert_allclose(list(message["probabilities"].values()), odds / odds.sum(), atol=1e-4)
    assert message["confidence"] == message["probabilities"]["SITTING"]


def test_every_window_gets_its_own_message_in_order():
    said = encoded([[9, 0, 0], [0, 9, 0], [0, 0, 9]], [0, 1, 2], [3, 4, 5])
    assert [(device, label) for device, label, _ in said] == [("w0", "WALKING"), ("w1", "SITTING"), ("w2", "LAYING")]
    assert [json.loads(payload)["label"] for _, _, payload in said] == list(NAMES)


def test_times_are_whole_microseconds_over_the_whole_range():
    end = 7_258_118_400_000_000_000
    ((_, _, payload),) = encoded([[0, 0, 1]], [1_999], [end])
    assert json.loads(payload)["window"] == [0.000002, 7258118400.0]


def test_extreme_logits_are_still_numbers():
    for _, _, payload in encoded([[1e4, -1e4, 0], [0, 0, 0]], [0, 0], [1, 1]):
        probabilities = list(json.loads(payload)["probabilities"].values())
        assert all(0 <= p <= 1 for p in probabilities)
        assert abs(sum(probabilities) - 1) < 1e-3
