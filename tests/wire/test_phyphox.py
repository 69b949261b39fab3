"""phyphox: messages of its network connections, and answers of its remote interface."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harstream.wire.reject import RejectError

from . import shapes
from .payload_checks import ROWS, T_NS, check_rejected, decoder, encoded, read, read_all, sent

ACC = {"accX": [0.0, 0.0], "accY": [0.0, 9.80665], "accZ": [9.80665, 0.0]}


def test_buffers_of_both_sensors_with_the_time_of_the_start():
    content = shapes.phyphox(T_NS, 100.0, ROWS, "0ad1f1c3c5e2")
    samples = read("phyphox", content)
    assert samples.device == "0ad1f1c3c5e2"
    assert np.abs(samples.acc_t_ns - shapes.times_of(T_NS, 100.0, len(ROWS))).max() <= 1000
    assert np.abs(samples.gyro_t_ns - samples.acc_t_ns - 1_000_000).max() <= 1000
    np.testing.assert_allclose(samples.acc, ROWS[:, :3], atol=1e-6)
    np.testing.assert_allclose(samples.gyro, ROWS[:, 3:], atol=1e-6)
    batch, rejections = decoder("phyphox").decode(sent(content))
    assert (batch.devices, batch.counts.tolist(), rejections) == (["0ad1f1c3c5e2"], [10], [])


def test_without_the_time_of_the_start_times_count_from_it():
    samples = read("phyphox", {**ACC, "acc_time": [12.01, 12.02]}, names_device=False)
    assert samples.acc_t_ns.tolist() == [12_010_000_000, 12_020_000_000]
    np.testing.assert_allclose(samples.acc, [[0, 0, 1], [0, 1, 0]], rtol=1e-6)
    assert samples.gyro is None


def test_each_time_counts_from_the_last_start_before_it():
    """An experiment that was paused goes on with its time, and later since 1970."""
    starts = [(0.0, 1_763_668_800.0), (5.0, 1_763_668_900.0)]
    events = [{"event": "START", "experimentTime": t, "systemTime": at} for t, at in reversed(starts)]
    events.insert(1, {"event": "PAUSE", "experimentTime": 5.0, "systemTime": 1_763_668_805.0})
    events.append({"event": "START", "experimentTime": True, "systemTime": 1.0})
    message = {**ACC, "acc_time": [4.99, 5.01], "time": {"now": 1_763_668_901.0, "events": events}}
    times = read("phyphox", message, names_device=False).acc_t_ns
    assert times.tolist() == [1_763_668_804_990_000_000, 1_763_668_900_010_000_000]


def test_without_times_that_of_arrival_counts():
    samples = read("phyphox", ACC, names_device=False)
    assert (samples.t_ns, samples.acc_t_ns, samples.n_samples) == (None, None, 2)


def test_an_answer_of_the_remote_interface():
    """Read the example of https://phyphox.org/wiki, Remote-interface communication."""
    wrapped = {name: {"size": 0, "updateMode": "partial", "buffer": values} for name, values in ACC.items()}
    wrapped["acc_time"] = {"size": 0, "updateMode": "partial", "buffer": [1.5, 1.51]}
    answer = {"buffer": wrapped, "status": {"session": "4f2b", "measuring": True, "timedRun": False, "countDown": 0}}
    samples = read("phyphox", answer, names_device=False)
    assert samples.acc_t_ns.tolist() == [1_500_000_000, 1_510_000_000]
    assert samples.n_samples == 2


def test_a_sample_with_null_is_left_out():
    message = {**ACC, "accX": [0.0, None], "acc_time": [1, 2]}
    assert read("phyphox", message, names_device=False).acc_t_ns.tolist() == [10**9]


def test_a_buffer_that_sends_its_last_number_only():
    message = {"accX": 0.0, "accY": 0.0, "accZ": 9.80665, "acc_time": 5.5, "gyrX": 1.0, "gyrY": 2.0, "gyrZ": 3.0}
    samples = read("phyphox", message, names_device=False)
    assert (samples.acc_t_ns.tolist(), samples.gyro.tolist()) == ([5_500_000_000], [[1, 2, 3]])


def test_ids_of_an_own_experiment_are_configured():
    message = {"ux": [1], "uy": [2], "uz": [3], "when": [4], "who": "anna"}
    samples = read("phyphox", message, {"acc": ["ux", "uy", "uz"], "t": "when", "device": "who"})
    assert (samples.device, samples.acc_t_ns.tolist()) == ("anna", [4 * 10**9])
    np.testing.assert_allclose(samples.acc * shapes.G, [[1, 2, 3]], rtol=1e-6)


def test_a_gyroscope_alone_keeps_its_times():
    (samples,) = read_all("phyphox", {"gyrX": [1], "gyrY": [2], "gyrZ": [3], "gyr_time": [4], "device": "w"})
    assert (len(samples.acc), samples.gyro_t_ns.tolist()) == (0, [4 * 10**9])
    assert (
        decoder("phyphox").decode(sent(b'{"gyrX":[1],"gyrY":[2],"gyrZ":[3],"gyr_time":[4],"device":"w"}'))[1][0].reason
        == "empty"
    )


@pytest.mark.parametrize(
    ("reason", "detail", "message"),
    [
        ("shape", "the message is a list of 0, expected an object of buffers", []),
        ("shape", "no buffers accX, accY and accZ, but an object with pressure", {"pressure": [1]}),
        ("shape", "buffers of different length: 2 in accX, 1 in accY", {**ACC, "accY": [1]}),
        ("shape", "2 in accZ, 3 in acc_time", {**ACC, "acc_time": [1, 2, 3]}),
        ("shape", "the buffer accY is the text 'x', expected numbers", {**ACC, "accY": "x"}),
        ("shape", "the buffer accY is a list of 2, expected numbers", {**ACC, "accY": [1, "x"]}),
        (
            "shape",
            "2 samples in acc, 1 in gyro, and no gyr_time",
            {**ACC, "acc_time": [1, 2], "gyrX": [1], "gyrY": [1], "gyrZ": [1]},
        ),
        ("shape", "2 samples in acc, 1 in gyro, and no acc_time", {**ACC, "gyrX": [1], "gyrY": [1], "gyrZ": [1]}),
        ("empty", "no sample", {"accX": [], "accY": [], "accZ": []}),
        ("not_finite", "null in accX, accY, accZ, and no time such as acc_time", {**ACC, "accX": [1, None]}),
        ("time", "acc_time: t is -1", {**ACC, "acc_time": [1, -1]}),
        ("device", "neither topic nor message names the device", ACC),
        ("device", "the device is called 'a+b'", {**ACC, "uniqueID": "a+b"}),
        ("range", "a sample is", {**ACC, "accX": [1e6, 0]}),
    ],
)
def test_a_malformed_message_is_rejected_with_what_was_found(reason, detail, message):
    check_rejected(reason, detail, "phyphox", message, names_device=reason == "device")


buffers = st.lists(st.floats(-50, 50) | st.none() | st.sampled_from(["x", True, 10**400]), max_size=4)
events = st.fixed_dictionaries(
    {"event": st.just("START")}, optional={"systemTime": st.floats() | st.none(), "experimentTime": st.just(0)}
)
contents = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ["accX", "accY", "accZ", "acc_time", "gyrX", "gyrY", "gyrZ", "gyr_time"], buffers | st.floats(0, 9)
        ),
        "time": st.fixed_dictionaries({"events": st.lists(events, max_size=2)}),
        "device": st.text(max_size=3) | st.integers(),
    },
)


@given(contents)
def test_whatever_buffers_hold_they_are_samples_or_rejected(message):
    batch, rejections = decoder("phyphox").decode(sent(encoded(message)))
    assert "internal" not in {rejection.reason for rejection in rejections}
    assert np.isfinite(batch.samples).all()
    try:
        read_all("phyphox", message)
    except RejectError as error:
        assert error.detail.isprintable()  # noqa: PT017
