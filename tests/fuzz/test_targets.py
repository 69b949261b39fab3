"""Examples of every fuzz target: its seeds, their mutations, random bytes, and inputs that once failed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import cbor2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harstream import bundle as bundles
from harstream.core.batches import SampleBatch
from harstream.wire import payloads
from harstream.wire.reject import Rejected

from . import mutation
from .targets import SEPARATOR, TARGETS, base, core

ROOT = Path(__file__).parent.parent.parent

#: The name of a member in a detail, with a control character, or of any length.
_NAMES = {
    form: [
        encode({"device": "w1", "acc": [[0, 0, 1]] * 2, name: [[1, 2, 3]], "o" * 3000: {"gyr" + "_" * 3000: 1}})
        for name in ("gyr\x7f", "gyr" + "_" * 3000)
    ]
    for form, encode in (("cbor", cbor2.dumps), ("msgpack", msgspec.msgpack.encode), ("auto", msgspec.json.encode))
}
#: The place of a number that is too large, as long as it lies deep; spaces before it, so that every decoder has one.
_DEEP = [b" " * n + b'{"deviceId":' + b"[" * 800 + b"1e999" for n in range(8)]

#: Inputs that fuzzing has found, by target; what was wrong.
FOUND = {
    # RecursionError, while the fields of the message were read again for other names.
    "other_names": [b'{"a":' + b"[" * depth for depth in range(900, 1000, 3)],
    # A detail as long as the unit, up to 256 kB in the log's memory.
    "units": [b"x" * 5000],
    # UnicodeEncodeError and RecursionError when a bundle that has been read was written again.
    "bundle": [
        TARGETS["bundle"].seeds[0][:-1] + b', "training": %s}' % value
        for value in (b'{"note": "\\ud800"}', b'{"note": ' + b"[" * 500 + b"]" * 500 + b"}")
    ],
    **{
        f"payload_{name}": _NAMES.get(name, []) + _DEEP
        for name in ("fields", "sensor_logger", "phyphox", "senml", "cbor", "msgpack", "auto")
    },
    # SystemError of NumPy: no character.
    "golden": [part.replace(b"A\0\0\0B\0\0\0", b"A\0\0\0\xff\xff\xff\xff") for part in TARGETS["golden"].seeds],
}


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_what_was_found(name):
    for data in (*TARGETS[name].seeds, *FOUND.get(name, ())):
        TARGETS[name].run(data)


@pytest.mark.parametrize("name", TARGETS)
@given(st.data())
def test_mutations(name, data):
    """One seed with JSON changed where it is some, or with bytes replaced, or random bytes alone."""
    content = data.draw(st.sampled_from(TARGETS[name].seeds))
    rng = data.draw(st.randoms(use_true_random=False))
    content = mutation.mutate(content, rng)
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(content)))
        content = content[:at] + data.draw(st.binary(max_size=8)) + content[at + data.draw(st.integers(0, 8)) :]
    TARGETS[name].run(content)


@pytest.mark.parametrize("name", TARGETS)
@given(st.binary(max_size=200))
def test_random_bytes(name, content):
    TARGETS[name].run(content)


def test_the_seeds_of_bundles_are_accepted():
    """Otherwise mutations would only reach the first check."""
    for seed in TARGETS["bundle"].seeds:
        assert bundles._parse(Path("folder"), seed).name
    parts = TARGETS["golden"].seeds[0].split(SEPARATOR)
    assert len(parts) == 8


def test_the_seeds_of_the_probe_are_sources():
    """Otherwise no settings would be tried. The third has no gyroscope, the last three have it apart."""
    found = [core.probe(seed, base.SPEC).sources for seed in TARGETS["probe"].seeds]
    assert [len(sources) for sources in found] == [1] * 8
    assert [source.works for (source,) in found] == [True, True, False, *[True] * 5]
    assert [source.settings.is_paired for (source,) in found] == [False] * 5 + [True] * 3


@pytest.mark.parametrize("name", [name for name in TARGETS if name.startswith("payload_")])
def test_the_good_messages_around_an_input_are_read(name):
    """Otherwise the target could not see that the input changes them."""
    for cell in TARGETS[name].run.__closure__ or ():
        if isinstance(cell.cell_contents, list) and isinstance(cell.cell_contents[0], SampleBatch):
            assert all(len(batch) for batch in cell.cell_contents)
            break
    else:
        pytest.fail("the target compares nothing")


def test_an_input_that_changes_the_messages_around_it_fails(monkeypatch):
    """Find an input that makes the decoder fail, which rejects a message as internal."""
    decode = payloads._OneByOne.decode

    def shift(self, messages):
        """Lose the message behind an input that begins with ?."""
        results = decode(self, messages)
        return [
            Rejected("json", "x") if number and messages[number - 1][:1] == b"?" else result
            for number, result in enumerate(results)
        ]

    monkeypatch.setattr(payloads._OneByOne, "decode", shift)
    inputs = [number.to_bytes(2) for number in range(100)]
    for content in inputs:
        TARGETS["payload_cbor"].run(b"!" + content)
    failed = 0
    for content in inputs:
        try:
            TARGETS["payload_cbor"].run(b"?" + content)
        except AssertionError:
            failed += 1
    assert 10 < failed < 50


@pytest.mark.parametrize("name", ["json", "bundle", "messages", "payload_senml"])
@given(st.integers(0, 2**64))
def test_mutations_of_json_are_json(name, number):
    seed, rng = TARGETS[name].seeds[1 if name == "json" else 0], random.Random(number)
    mutations = [mutation.mutate(seed, rng) for _ in range(20)]
    assert len({*mutations, seed}) > 5
    for changed in mutations:
        before, after = (content.split(SEPARATOR) for content in (seed, changed))
        for old, new in zip(before, after, strict=True):
            begin = next((at for at in (0, 1, 2) if old[at : at + 1] in (b"{", b"[")), None)
            if begin is None:
                assert new == old
                continue
            assert new[:begin] == old[:begin]
            text = new[begin:].decode("utf-8", "surrogatepass")
            try:
                json.loads(text)
            except RecursionError:
                assert text.count("[") > 500


def test_the_command_runs_a_target_on_a_file_and_names_what_is_missing(tmp_path):
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.fuzz", *arguments, f"--artifacts={tmp_path}"]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    (tmp_path / "input").write_bytes(b"nonsense")
    assert run("json", "--input", str(tmp_path / "input")).returncode == 0
    done = run("json", "--runs", "100")
    assert "--- json: 100 of 100 executions\n" in done.stdout
    if "atheris is not installed" in done.stderr:
        assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "failed: json")
    else:
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "failed: none"), done.stderr
        assert "stat::number_of_executed_units: 100\n" in done.stderr
