"""The fast path reads nothing differently from the general path, and accepts nothing that it would reject."""

from __future__ import annotations

import doctest
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harstream.wire import fast_path
from harstream.wire.canonical import encode_json
from harstream.wire.fast_path import PACKED_PREFIX, JsonReader, read_packed
from harstream.wire.packed import encode_packed
from harstream.wire.payloads import decode
from harstream.wire.reject import RejectError
from harstream.wire.samples import Samples, Units

from .test_payloads import BAD, packed, wild_json

ROWS = (np.arange(18).reshape(3, 6) / 7).astype(np.float32)
#: Message that tells everything; %b is for fields that nobody asked for.
WHOLE = b'{"t": 1763668800.5, %b, "rate_hz": 50, "acc": [[1, 2, 3]], "gyro": [[4, 5, 6]]}'


def read_fast(payload: bytes, reader: JsonReader) -> tuple[int | None, float, np.ndarray, np.ndarray | None] | None:
    """Return time, rate, acc and gyro (n_samples, 3) in float64; None if the message is left to the general path."""
    if payload.startswith(b"HS"):
        read = read_packed([payload]) if payload.startswith(PACKED_PREFIX) and len(payload) >= 20 else None
        if read is None or not read.counts[0]:
            return None
        rows = read.samples.astype(np.float64)
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


def read_generally(payload: bytes) -> tuple[Samples | None, str]:
    """Return the samples, or None and the reason of the rejection."""
    try:
        return decode(payload, Units()), ""
    except RejectError as error:
        return None, error.reason


def check(payload: bytes, reader: JsonReader) -> bool:
    """Assert that both paths agree if the fast path reads the payload. Return whether it does.

    The fast path may read numbers that are not finite or out of range: the decoder looks for them later.
    """
    content = read_fast(payload, reader)
    if content is None:
        return False
    samples, reason = read_generally(payload)
    if samples is None:
        assert reason in ("not_finite", "range")
        return True
    assert not samples.ignored  # else there would be a note
    t_ns, rate_hz, acc, gyro = content
    assert (t_ns, rate_hz, len(acc)) == (samples.t_ns, samples.rate_hz, samples.n_samples)
    assert (gyro is None) is (samples.gyro is None)
    np.testing.assert_array_equal(acc.astype(np.float32), samples.acc)
    if gyro is not None:
        np.testing.assert_array_equal(gyro.astype(np.float32), samples.gyro)
    return True


def test_the_examples_of_the_docstring_are_right():
    results = doctest.testmod(fast_path)
    assert results.attempted > 8
    assert results.failed == 0


@pytest.mark.parametrize(
    "payload",
    [
        encode_json(10**18, 50.0, ROWS),
        encode_json(10**18, 50.0, ROWS[:, :3]),
        encode_packed(10**18, 50.0, ROWS),
        b'{"acc": [[1, 2.5, -3e-2]]}',
        b' { "gyro" : [ [ 1,2,3 ] ], "acc":[[4,5,6]] , "t_ns":1763668800123456789}\n',
        b'{"t_ms":1763668800123,"rate_hz":50,"acc":[[0.1,0.2,0.3],[1E2,2e+2,3]]}',
        b'{"t_ms":1763668800123.456,"acc":[[1,2,3]]}',
        b'{"t_us":1.7636688e15,"acc":[[1,2,3]]}',
        b'{"t_ns":1.5,"acc":[[1,2,3]]}',
        WHOLE % b'"battery": 3, "seq": 12345',
        WHOLE % b'"device": "watch-1", "firmware": "v1.2 beta", "charging": true, "wifi": false, "error": null',
        WHOLE % b'"mag": [[1, 2, 3], [4, 5, 6]], "temp1": 21.5, "temp2": -3e-1, "timestamp": 5, "fs": 7, "steps": []',
    ],
)
def test_common_payloads_use_the_fast_path(payload):
    assert check(payload, JsonReader())


@pytest.mark.parametrize(
    "payload",
    [
        b'{"ax": 1, "ay": 2, "az": 3}',
        b'{"acc": [[1, 2, 3]], "units": {"acc": "g"}}',
        b'{"acc": [[1, 2, 3]], "battery": 3}',  # a rate or a time could have another name
        b'{"t": 1763668800, "acc": [[1, 2, 3]], "gyro": [[1, 2, 3]], "fs": 50}',
        b'{"t": 1763668800, "rate_hz": 50, "acc": [[1, 2, 3]], "gyr": [[1, 2, 3]]}',
        WHOLE % b'"accUnit": "g"',
        WHOLE % b'"units": {"acc": "m/s2"}',
        WHOLE % b'"ax": 1',
        WHOLE % b'"position": {"lat": 1}',
        WHOLE % (b'"deep": ' + b"[1," * 600 + b"1" + b"]" * 600),
        WHOLE % (b'"long": [' + b"1," * 5000 + b"1]"),
        WHOLE % b'"name": "a \\" quoted one"',
        b'{"acc": [[1, 2, 3]], "acc": [[4, 5, 6]]}',  # the general path decides which of the two counts
        b'{"acc": [[1, 2, 3]], "a1cc": [[4, 5, 6]]}',
        b'{"acc": [[1, 2], [3, 4, 5, 6]]}',
        b'{"ac c": [[1, 2, 3]]}',
        b'{"rat_hz": 50, "acc": [[1, 2, 3]]}',
        b'{"acc": [[1, 2, 3]], "gyro": [[1, 2, 3], [1, 2, 3]]}',
        encode_packed(10**18, 50.0, ROWS[:, :3]),
        packed([[1, 2, 3, 4, 5, 6]], flags=3, scales=(1, 1), form="<i2"),
    ],
)
def test_other_payloads_are_left_to_the_general_path(payload):
    assert read_fast(payload, JsonReader()) is None


def test_a_broken_message_does_not_spoil_the_next():
    reader, good = JsonReader(), encode_json(10**18, 50.0, ROWS)
    for broken in (b'{"acc":[[1,2,3 4]]}', b'{"t":,"acc":[[1,2,3]]}', b'{"t":1e400,"acc":[[1,2,3]]}', b"{", good[:-1]):
        assert reader.read(broken) is None
        assert check(good, reader)


def test_ever_new_skeletons_do_not_pile_up():
    reader = JsonReader()
    for number in range(3 * fast_path._MAX_SKELETONS):
        reader.read(b'{"' + b"x" * number + b'":1}')
    assert len(reader._structures) <= fast_path._MAX_SKELETONS
    assert check(encode_json(10**18, 50.0, ROWS), reader)


def test_what_is_remembered_of_skeletons_is_bounded_in_bytes():
    reader = JsonReader()
    for number in range(300):
        name = bytes(b"fghijklmno"[int(digit)] for digit in f"{number:04}")
        for size in (200, 20_000, 256 * 1024):
            reader.read(b'{"' + name + b'":"' + b"x" * size + b'"}')
            assert sum(map(len, reader._structures)) <= fast_path._MAX_BYTES
    assert max(map(len, reader._structures)) <= fast_path._MAX_LENGTH
    assert check(encode_json(10**18, 50.0, ROWS), reader)


def test_messages_with_many_samples_are_read_though_their_skeleton_is_not_remembered():
    reader = JsonReader()
    many = encode_json(10**18, 50.0, np.tile(ROWS, (3000, 1)))
    assert check(many, reader)
    assert reader._structures == {}


READER = JsonReader()


@pytest.mark.parametrize(("reason", "payload"), BAD, ids=lambda value: repr(value)[:60])
def test_nothing_malformed_is_accepted(reason, payload):
    payload = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    for reader in (READER, JsonReader()):
        if check(payload, reader):
            assert reason in ("not_finite", "range")


@given(wild_json())
def test_both_paths_read_arbitrary_json_alike(payload):
    check(payload, READER)


names = st.sampled_from(
    ["battery", "seq", "unit", "accUnits", "ts", "time", "fs", "ax", "gyr", "t", "te", "a1cc", "", "é"]
)
values = st.sampled_from(
    [
        "1",
        "-2e3",
        "true",
        "false",
        "null",
        '"text"',
        '"1.5e"',
        '"\\u00e9"',
        '"\\""',
        "[1,[2,3]]",
        "[[]",
        "{}",
        "truee",
        "1.2.3",
        "1e400",
    ]
)


@given(st.lists(st.tuples(names, values), min_size=1, max_size=4), st.integers(0, 40))
def test_both_paths_read_other_fields_alike(fields, before):
    """They stand between the known fields, all of which are there, or one of which is missing."""
    others = [f'"{name}":{value}' for name, value in fields]
    known = ['"t":1763668800.5', '"rate_hz":50', '"acc":[[1,2,3]]', '"gyro":[[4,5,6]]']
    if before % 5 < 4:
        del known[before % 5]
    at = before % len(known)
    check(("{" + ",".join([*known[:at], *others, *known[at:]]) + "}").encode(), READER)


times = st.floats() | st.integers(0, 2**64) | st.floats(0, 1e19) | st.integers(10**9, 7_258_118_400 * 10**9)


@given(st.sampled_from(["t", "t_ms", "t_us", "t_ns"]), times)
def test_both_paths_read_times_alike(field, value):
    check(json.dumps({field: value, "acc": [[1, 2, 3]]}).encode(), READER)


@given(st.binary(max_size=80), st.integers(0, 90), st.sampled_from(["json", "packed"]))
def test_both_paths_read_a_damaged_payload_alike(noise, at, form):
    payload = (encode_json if form == "json" else encode_packed)(10**18, 50.0, ROWS)
    check(payload[:at] + noise + payload[at + len(noise) :], READER)
    check(payload[:at], READER)


digits = st.text("0123456789+-.eE ,[]", max_size=6)


@given(st.lists(digits, min_size=1, max_size=4), digits)
def test_both_paths_read_malformed_numbers_alike(numbers, t):
    rows = ",".join(f"[{x},2,3]" for x in numbers)
    check(f'{{"t":{t},"acc":[{rows}]}}'.encode(), READER)
