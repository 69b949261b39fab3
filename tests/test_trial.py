"""A bundle whose model ends, exhausts or never leaves the process that computes it is refused by the others."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from harstream import trial
from harstream.bundle import INT8, LITERT
from harstream.errors import BundleError, ConfigError

from .damaged_models import crashing, without_output
from .servers import DEADLINE_S, Process
from .test_bundle import edit, replace_file


@pytest.fixture(params=["copy", "new process"])
def apart(request, monkeypatch):
    """Try bundles in each kind of process; the copy lacks TensorFlow's threads, which no test here uses in it."""
    if request.param == "copy":
        monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    return {"has_threads": request.param != "copy"}


@pytest.mark.parametrize("backend", ["litert", "int8"])
def test_a_sound_bundle_passes(random_bundle, apart, backend):
    assert trial.load(random_bundle, backend, **apart).backend == backend


def test_a_sound_bundle_of_tensorflow_passes_within_the_limits(random_bundle):
    assert trial.load(random_bundle, "tensorflow").backend == "tensorflow"  # in a new process, as this one has it


def test_a_model_that_ends_its_process_is_refused(own_bundle, apart):
    replace_file(own_bundle, LITERT, crashing((own_bundle / LITERT).read_bytes()))
    with pytest.raises(BundleError, match=r"own: its model ended the process that verified it by SIGSEGV; restore"):
        trial.load(own_bundle, "litert", **apart)
    assert trial.load(own_bundle, "int8", **apart).backend == "int8"  # its other model is sound


def test_errors_of_the_trial_are_those_of_loading(own_bundle, monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    with pytest.raises(ConfigError, match="backend 'fpga' is not one of auto, litert, int8, tensorflow"):
        trial.load(own_bundle, "fpga")
    replace_file(own_bundle, INT8, without_output((own_bundle / INT8).read_bytes()))
    with pytest.raises(BundleError, match=r"int8.tflite: the int8 backend cannot load it: .*; restore"):
        trial.load(own_bundle, "int8")
    edit(own_bundle, lambda data: data["labels"].reverse())
    with pytest.raises(BundleError, match=r"labels is .*, but it was sealed with"):
        trial.load(own_bundle)
    with pytest.raises(BundleError, match=r"neither a folder with a bundle\.json nor a shipped model"):
        trial.load(own_bundle / "nothing")


def test_a_model_that_never_ends_is_refused(random_bundle, monkeypatch):
    monkeypatch.setattr(trial, "TIMEOUT_S", 1)
    monkeypatch.setattr(trial, "_verify", lambda *_: time.sleep(2 * DEADLINE_S))
    with pytest.raises(BundleError, match="random: its model was not verified within 1 s; restore"):
        trial._try_in_copy(random_bundle, "litert")


def test_a_model_that_takes_all_memory_is_refused(random_bundle, monkeypatch):
    monkeypatch.setattr(trial, "_verify", lambda *_: bytearray(2**32))
    with pytest.raises(BundleError, match="random: it needs too much memory; restore"):
        trial._try_in_copy(random_bundle, "litert")


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (lambda: os._exit(7), "ended with exit code 7"),
        (lambda: os.kill(os.getpid(), signal.SIGABRT), "ended the process that verified it by SIGABRT"),
        (lambda: os.kill(os.getpid(), signal.SIGRTMIN + 3), r"by signal \d+"),
        (lambda: dict[str, int]()["shape"], "random: KeyError: 'shape'; restore"),
    ],
)
def test_however_a_trial_ends_the_error_tells_it(random_bundle, monkeypatch, end, message):
    monkeypatch.setattr(trial, "_verify", lambda *_: end())
    with pytest.raises(BundleError, match=message) as caught:
        trial._try_in_copy(random_bundle, "litert")
    assert "\n" not in str(caught.value)


def test_a_model_that_changes_after_its_trial_is_refused(own_bundle, monkeypatch):
    def try_and_change(path: Path, *_: object) -> dict[str, str]:
        report = trial._try_in_copy(path, "litert")
        replace_file(path, LITERT, b"something else")
        return report

    monkeypatch.setattr(trial, "_try_in_new_process", try_and_change)
    with pytest.raises(BundleError, match=r"model\.tflite: it changed after it was verified; try again"):
        trial.load(own_bundle, "litert", has_threads=True)


def test_a_trial_that_is_cancelled_ends_at_once(own_bundle, monkeypatch):
    monkeypatch.setattr(trial, "_PROGRAM", f"import time; time.sleep({2 * DEADLINE_S})")
    with pytest.raises(BundleError, match="by SIGKILL"):
        trial.load(own_bundle, has_threads=True, cancelled=lambda: True)


def test_without_a_process_for_the_trial_the_bundle_is_refused(own_bundle, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(BundleError, match="no process can be started that verifies it: No such file"):
        trial.load(own_bundle, has_threads=True)


@pytest.mark.parametrize("command", ["run", "config check", "evaluate"])
def test_commands_refuse_such_a_model_in_one_line(tmp_path, own_bundle, command):
    replace_file(own_bundle, LITERT, crashing((own_bundle / LITERT).read_bytes()))
    options = ["--data", "csv:nothing"] if command == "evaluate" else ["--http", "off"]
    arguments = [*command.split(), "--model", str(own_bundle), *options]
    with Process(*arguments, folder=tmp_path) as process:
        assert process.exit_code() == 3
        assert process.err == (
            f"harstream: {own_bundle}: its model ended the process that verified it by SIGSEGV; "
            "restore the bundle's files, or train it again\n"
        )


def test_a_program_that_ignores_the_end_of_its_processes_verifies_all_the_same(random_bundle):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert trial._try_in_copy(random_bundle, "litert")["backend"] == "litert"
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_trial_leaves_no_open_file(random_bundle):
    files = set(Path("/proc/self/fd").iterdir())
    for _ in range(3):
        trial._try_in_copy(random_bundle, "litert")
    assert set(Path("/proc/self/fd").iterdir()) == files
