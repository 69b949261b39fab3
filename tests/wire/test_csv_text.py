"""Lines of text with configured columns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harstream.wire.reject import RejectError
from harstream.wire.samples import Units

from . import shapes
from .payload_checks import ROWS, T_NS, check_rejected, decoder, f32, read, read_all, sent

T_AND_ACC = {"t_unit": "ms", "columns": ["t", "ax", "ay", "az"]}
ACC = {"columns": ["ax", "ay", "az"]}
DEVICE_AND_ACC = {"columns": ["device", "ax", "ay", "az"]}


def test_lines_with_a_header_times_and_both_sensors():
    content = shapes.csv(T_NS, 50.0, ROWS, "w1")
    samples = read("csv", content, shapes.CSV_FIELDS, names_device=False)
    np.testing.assert_array_equal(samples.acc_t_ns, shapes.times_of(T_NS, 50.0, len(ROWS)))
    np.testing.assert_allclose(samples.acc, ROWS[:, :3], atol=1e-6)
    np.testing.assert_allclose(samples.gyro, ROWS[:, 3:], atol=1e-6)
    batch, rejections = decoder("csv", shapes.CSV_FIELDS, topic="w/{device}").decode(sent(content, topic="w/w1"))
    assert (batch.devices, batch.counts.tolist(), batch.t_ns.tolist(), rejections) == (["w1"], [10], [T_NS], [])


@pytest.mark.parametrize(
    "content",
    [
        b"0.1,-0.2,0.97\n",
        b"0.1, -0.2, 0.97\r\n\r\n",
        b"0.1;-0.2;0.97",
        b"0,1;-0,2;0,97",
        b"0.1\t-0.2\t0.97",
        b"  0.1   -0.2 0.97",
        b'"0.1","-0.2","0.97"',
        b"\xef\xbb\xbfx,y,z\n0.1,-0.2,0.97",
        b"1e-1,-2E-1,+.97",
    ],
)
def test_the_first_line_tells_the_separator(content):
    samples = read("csv", content, ACC, names_device=False)
    assert samples.t_ns is None
    np.testing.assert_array_equal(samples.acc, f32([[0.1, -0.2, 0.97]]))


def test_columns_that_are_not_used_and_a_single_time():
    where = {"t_unit": "us", "columns": ["-", "t", "az", "-", "ay", "ax"], "acc_scale": 0.5}
    samples = read("csv", b"no,1763668800123456,3,what,2,1", where, Units("mg"), names_device=False)
    assert (samples.t_ns, samples.acc_t_ns) == (1763668800123456000, None)
    np.testing.assert_allclose(samples.acc * 2000, [[1, 2, 3]], rtol=1e-6)


def test_a_column_names_the_device():
    where = {"columns": ["device", "ax", "ay", "az"]}
    content = b"w1,0,0,1\nw2,0,1,0\nw1,1,0,0\n"
    found = read_all("csv", content, where)
    assert [(one.device, one.acc.tolist()) for one in found] == [("w1", [[0, 0, 1], [1, 0, 0]]), ("w2", [[0, 1, 0]])]
    batch, _ = decoder("csv", where, needs_gyro=False).decode(sent(content, content))
    assert batch.devices == ["w1", "w2", "w1", "w2"]


@pytest.mark.parametrize(
    ("reason", "line"),
    [("range", "w2,0,1,30000"), ("csv", "w2,0,x,1"), ("not_finite", "w2,0,1,nan"), ("device", "a/b,0,0,1")],
)
def test_a_device_with_malformed_lines_hides_no_other_device(reason, line):
    content = f"w1,0,0,1\n{line}\nw3,1,0,0".encode()
    batch, (rejection,) = decoder("csv", DEVICE_AND_ACC, needs_gyro=False).decode(sent(content))
    assert (batch.devices, rejection.reason) == (["w1", "w3"], reason)
    assert rejection.device == ("" if reason == "device" else "w2")


def test_too_many_devices_in_one_message_are_rejected():
    lines = "\n".join(f"w{i},0,0,1" for i in range(65)).encode()
    check_rejected("device", "65 devices in one message", "csv", lines, {"columns": ["device", "ax", "ay", "az"]})


@pytest.mark.parametrize(
    ("reason", "detail", "content", "where"),
    [
        ("csv", "a line with 2 columns between commas, expected 3 (ax, ay, az): 0.1,0.2", b"0.1,0.2", ACC),
        ("csv", "a line with 4 columns between commas, expected 3 (ax, ay, az): 1,2,3,4", b"1,2,3\n1,2,3,4", ACC),
        ("csv", "a line with 1 columns between semicolons, expected 3 (ax, ay, az): 1,2,3", b"1;2;3\n1,2,3", ACC),
        ("csv", "a line with 6 columns between commas, expected 3", b"x,y,z\n0,1,0,2,0,9", ACC),
        ("csv", "the column ay holds 'x', expected a number", b"1,2,3\n1,x,3", ACC),
        ("csv", "the column az holds '', expected a number", b"1;2;", ACC),
        ("empty", "no line with samples", b"x,y,z\n", ACC),
        ("device", "lines of 2 devices, but the topic names one", b"w1,0,0,1\nw2,0,1,0", DEVICE_AND_ACC),
        ("csv", "not UTF-8 text", b"\xff\xfe1,2,3", ACC),
        ("csv", "a line with 2 columns between spaces, expected 3 (ax, ay, az): {", b'{"acc": [[1]]}', ACC),
        ("not_finite", "", b"1,nan,3", ACC),
        ("range", "", b"1,2,30000", ACC),
        ("empty", "no line with samples", b"\n\n", ACC),
        ("empty", "no payload", b"", ACC),
        ("time", "t is 'x'", b"x,1,2,3", T_AND_ACC),
        ("time", "t is ''", b"1,1,2,3\n,1,2,3", T_AND_ACC),
        ("device", "the device is called ''", b",1,2,3", {"columns": ["device", "ax", "ay", "az"]}),
    ],
)
def test_malformed_lines_are_rejected_with_what_was_found(reason, detail, content, where):
    check_rejected(reason, detail, "csv", content, where, names_device="called" in detail)


@pytest.mark.parametrize(
    ("line", "device"),
    [
        (b"w,1;0,5;-0,2;0,9", "w,1"),
        (b'"w,1","0.5",-0.2,0.9', "w,1"),
        (b'"w;1" ;0,5;-0,2;0,9', "w;1"),
        (b'"w ""1""", 0.5, -0.2, 0.9', 'w "1"'),
        (b"w,1\t0.5\t-0.2\t0.9", None),
    ],
)
def test_signs_in_the_name_of_a_device_stay_and_quotes_hide_separators(line, device):
    if device is None:  # a comma comes before a tab, so that this line has no tabs to separate by
        check_rejected("csv", "a line with 2 columns between commas", "csv", line, DEVICE_AND_ACC)
        return
    samples = read("csv", line, DEVICE_AND_ACC)
    assert samples.device == device
    np.testing.assert_allclose(samples.acc, [[0.5, -0.2, 0.9]], rtol=1e-6)


def test_lines_of_one_device_may_name_it_although_the_topic_does():
    assert read("csv", b"w1,0,0,1\nw1,0,0,1", DEVICE_AND_ACC, names_device=False).n_samples == 2


cells = st.sampled_from(["1", "-0.5", "x", "", "nan", "1e999", "1763668800123", " ", "t"])
lines = st.lists(st.lists(cells, min_size=1, max_size=5), max_size=6)


def check_lines(content: bytes) -> None:
    for where in (ACC, T_AND_ACC, {"columns": ["t", "device", "ax", "ay", "az"]}):
        try:
            for samples in read_all("csv", content, where, names_device="device" in where["columns"]):
                assert np.isfinite(samples.acc).all()
        except RejectError as error:
            assert error.detail.isprintable()  # noqa: PT017


@given(lines, st.sampled_from([",", ";", " ", "\t"]))
def test_whatever_lines_hold_they_are_samples_or_rejected(rows, separator):
    check_lines("\n".join(separator.join(row) for row in rows).encode())


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_samples_or_rejected(content):
    check_lines(content)
