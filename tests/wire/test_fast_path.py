"""The quick way reads nothing otherwise than the careful one, and takes nothing that it would reject."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harstream.wire import fast_path as ordinary
from harstream.wire.fast_path import PACKED, Reader, read_packed
from harstream.wire.payloads import Samples, Units, decode, encode_json, encode_packed
from harstream.wire.reject import Reject

from .test_payloads import BAD, packed, wild_json

ROWS = (np.arange(18).reshape(3, 6) / 7).astype(np.float32)


def quickly(payload: bytes, reader: Reader) -> tuple[int | None, float, np.ndarray, np.ndarray | None] | None:
    """Time, rate, acc and gyro as float64, (n_samples, 3) each."""
    if payload.startswith(b"HS"):
        read = read_packed([payload]) if payload.startswith(PACKED) and len(payload) >= 20 else None
        if read is None or not read.counts[0]:
            return None
        rows = read.rows.astype(np.float64)
        assert len(rows) == read.counts[0]
        return int(read.t_ns[0]) or None, float(read.rate_hz[0]), rows[:, :3], rows[:, 3:]
    content = reader.read(payload)
    if content is None:
        return None
    acc, gyro = (
        None if part is None else np.frombuffer(bytes(part), np.float64).reshape(-1, 3)
        for part in (content.acc, content.gyro)
    )
    assert acc is not None
    assert len(acc) == content.n_samples
    return content.t_ns, content.rate_hz, acc, gyro


def careful(payload: bytes) -> tuple[Samples | None, str]:
    """The samples, or why there are none."""
    try:
        return decode(payload, Units()), ""
    except Reject as reject:
        return None, reject.reason


def check(payload: bytes, reader: Reader) -> bool:
    """What is read quickly is what is read carefully, but for numbers that are looked at later; whether it was read."""
    content = quickly(payload, reader)
    if content is None:
        return False
    samples, reason = careful(payload)
    if samples is None:
        assert reason in ("not_finite", "range")
        return True
    t_ns, rate_hz, acc, gyro = content
    assert (t_ns, rate_hz, len(acc)) == (samples.t_ns, samples.rate_hz, samples.n_samples)
    assert (gyro is None) is (samples.gyro is None)
    np.testing.assert_array_equal(acc.astype(np.float32), samples.acc)
    if gyro is not None:
        np.testing.assert_array_equal(gyro.astype(np.float32), samples.gyro)
    return True


@pytest.mark.parametrize(
    "payload",
    [
        encode_json(10**18, 50.0, ROWS),
        encode_json(10**18, 50.0, ROWS[:, :3]),
        encode_packed(10**18, 50.0, ROWS),
        b'{"acc": [[1, 2.5, -3e-2]]}',
        b' { "gyro" : [ [ 1,2,3 ] ], "acc":[[4,5,6]] , "t_ns":1763668800123456789}\n',
        b'{"t_ms":1763668800123,"rate_hz":50,"acc":[[0.1,0.2,0.3],[1E2,2e+2,3]]}',
    ],
)
def test_the_ordinary_is_read_quickly(payload):
    assert check(payload, Reader())


@pytest.mark.parametrize(
    "payload",
    [
        b'{"ax": 1, "ay": 2, "az": 3}',
        b'{"acc": [[1, 2, 3]], "units": {"acc": "g"}}',
        b'{"acc": [[1, 2, 3]], "battery": 3}',
        b'{"acc": [[1, 2, 3]], "acc": [[4, 5, 6]]}',  # which of the two is meant, the careful way decides
        b'{"acc": [[1, 2, 3]], "a1cc": [[4, 5, 6]]}',
        b'{"acc": [[1, 2], [3, 4, 5, 6]]}',
        b'{"ac c": [[1, 2, 3]]}',
        b'{"rat_hz": 50, "acc": [[1, 2, 3]]}',
        b'{"t_ns": 1.5, "acc": [[1, 2, 3]]}',
        b'{"acc": [[1, 2, 3]], "gyro": [[1, 2, 3], [1, 2, 3]]}',
        encode_packed(10**18, 50.0, ROWS[:, :3]),
        packed([[1, 2, 3, 4, 5, 6]], flags=3, scales=(1, 1), form="<i2"),
    ],
)
def test_what_is_out_of_the_ordinary_is_left_to_the_careful_way(payload):
    assert quickly(payload, Reader()) is None


def test_a_broken_message_does_not_spoil_the_next():
    reader, good = Reader(), encode_json(10**18, 50.0, ROWS)
    for broken in (b'{"acc":[[1,2,3 4]]}', b'{"t":,"acc":[[1,2,3]]}', b'{"t":1e400,"acc":[[1,2,3]]}', b"{", good[:-1]):
        assert reader.read(broken) is None
        assert check(good, reader)


def test_structures_without_number_do_not_pile_up():
    reader = Reader()
    for number in range(3 * ordinary._MAX_STRUCTURES):
        reader.read(b'{"' + b"x" * number + b'":1}')
    assert len(reader._structures) <= ordinary._MAX_STRUCTURES
    assert check(encode_json(10**18, 50.0, ROWS), reader)


READER = Reader()


@pytest.mark.parametrize(("reason", "payload"), BAD, ids=lambda value: repr(value)[:60])
def test_nothing_malformed_is_taken(reason, payload):
    payload = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    for reader in (READER, Reader()):
        if check(payload, reader):
            assert reason in ("not_finite", "range")


@given(wild_json())
def test_arbitrary_json_is_read_alike(payload):
    check(payload, READER)


@given(st.binary(max_size=80), st.integers(0, 90), st.sampled_from(["json", "packed"]))
def test_a_damaged_payload_is_read_alike(noise, at, form):
    payload = (encode_json if form == "json" else encode_packed)(10**18, 50.0, ROWS)
    check(payload[:at] + noise + payload[at + len(noise) :], READER)
    check(payload[:at], READER)


digits = st.text("0123456789+-.eE ,[]", max_size=6)


@given(st.lists(digits, min_size=1, max_size=4), digits)
def test_numbers_that_are_none_are_read_alike(numbers, t):
    rows = ",".join(f"[{x},2,3]" for x in numbers)
    check(f'{{"t":{t},"acc":[{rows}]}}'.encode(), READER)
