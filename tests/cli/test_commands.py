"""Properties of every command: help without heavy imports, one line for an error, the right exit code."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from harstream import __version__
from harstream.cli import EXIT_CODES, main
from harstream.errors import BrokerError, BundleError, ConfigError, DatasetError, HarstreamError

from ..constants import UNREACHABLE
from ..test_bundle import edit

HEAVY = ("tensorflow", "keras", "matplotlib", "rich", "iotcore", "ai_edge_litert", "scipy")
COMMANDS = sorted(main.commands)

LOADED = """
import json, sys
sys.argv = ["harstream", *sys.argv[1:]]
try:
    from harstream.cli import main
    main()
finally:
    print(json.dumps(sorted(name for name in sys.modules if "." not in name)), file=sys.stderr)
"""


def invoke(*arguments: str):
    return CliRunner().invoke(main, arguments)


def test_the_commands_that_are_public_are_there():
    assert {"run", "demo", "simulate", "replay", "train", "evaluate", "export", "models", "watch"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_each_option(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    for parameter in main.commands[command].params:
        for option in parameter.opts if isinstance(parameter, click.Option) else [parameter.metavar or parameter.name]:
            assert option in result.output
    assert main.commands[command].help


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["demo", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    done = subprocess.run([sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stderr.splitlines()[-1])
    heavy = {"tensorflow", "keras", "matplotlib", "ai_edge_litert"} if "run" in arguments else set(HEAVY)
    assert heavy.isdisjoint(loaded)


def test_the_package_and_its_version_pull_in_nothing_heavy():
    code = "import sys, harstream; print(harstream.__version__, {'numpy', 'paho', 'click'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{__version__} set()\n"
    assert invoke("--version").output == f"harstream, version {__version__}\n"


@pytest.mark.parametrize(
    ("error", "code"), [(ConfigError, 2), (DatasetError, 2), (BundleError, 3), (BrokerError, 4), (HarstreamError, 1)]
)
def test_an_error_of_ours_is_one_line_and_its_exit_code(error, code, monkeypatch):
    def fail(_, read_config):
        raise error("field: 1 is not 2")

    monkeypatch.setattr("harstream.serve.app.run", fail)
    monkeypatch.setattr("harstream.logs.set_up", lambda level, log_format: None)
    result = invoke("run")
    assert (result.exit_code, result.output) == (code, "harstream: field: 1 is not 2\n")


def test_every_error_of_ours_has_an_exit_code():
    assert set(EXIT_CODES) == set(HarstreamError.__subclasses__())


def test_an_unknown_command_or_option_is_exit_2():
    assert invoke("dance").exit_code == 2
    assert invoke("simulate", "--broker", "x", "--dance").exit_code == 2
    assert invoke("simulate").exit_code == 2
    assert "--broker" in invoke("simulate").output


@pytest.mark.parametrize("command", ["simulate", "replay", "watch"])
def test_an_unreachable_broker_is_exit_4_naming_it(command, tmp_path):
    extra = {"replay": ["--data", f"hapt:{tmp_path}"]}.get(command, [])
    result = invoke(command, "--broker", UNREACHABLE, *extra)
    if command == "replay":  # the recordings are read first
        assert result.exit_code == 2
        assert str(tmp_path) in result.output
    else:
        assert result.exit_code == 4
        assert UNREACHABLE in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    ("data", "message"), [("hapt:/none", "/none"), ("hapt", "KIND:PATH"), ("dance:/tmp", "hapt"), (":/tmp", "KIND")]
)
@pytest.mark.parametrize("command", [["replay", "--broker", "x"], ["evaluate"]])
def test_data_that_is_not_there_is_exit_2_naming_it(command, data, message, random_bundle):
    model = ["--model", str(random_bundle)] if command == ["evaluate"] else []
    result = invoke(*command, *model, "--data", data)
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert message in result.output


def test_models_lists_what_is_shipped(random_bundle, monkeypatch):
    monkeypatch.setattr("harstream.shipped.folders", lambda: [random_bundle])
    result = invoke("models")
    assert result.exit_code == 0
    for part in ("random@0.0.1", "50 Hz", "128 samples every 64", "9 channels", "WALKING_UPSTAIRS", str(random_bundle)):
        assert part in result.output


def test_models_lists_what_a_device_must_have_and_the_states(states_bundle, tmp_path, monkeypatch):
    folder = shutil.copytree(states_bundle, tmp_path / "mine")
    edit(folder, lambda data: data.update(placement="a phone at the waist", orientation="any"))
    monkeypatch.setattr("harstream.shipped.folders", lambda: [folder])
    lines = [line.strip() for line in invoke("models").output.splitlines()]
    assert lines[1:] == [
        "sensors: acc, gyro; orientation: any",
        "placement: a phone at the waist",
        "labels: WALKING, SITTING, STANDING, LAYING",
        "states between them: SIT_TO_STAND, STAND_TO_SIT",
        str(folder),
    ]


def test_options_read_variables_named_after_the_command():
    result = CliRunner().invoke(main, ["simulate"], env={"HARSTREAM_SIMULATE_BROKER": UNREACHABLE})
    assert result.exit_code == 4


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "run"])
def test_the_variable_of_an_option_has_the_name_of_the_option(command):
    for option in main.commands[command].params:
        if isinstance(option, click.Option):
            name = option.opts[0].lstrip("-").replace("-", "_").upper()
            assert f"HARSTREAM_{command.upper()}_{name}" in (option.envvar or ())


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "harstream: out/fold.npz: No space left on device: make room; finished work is kept"),
        (errno.EROFS, "harstream: out/fold.npz: Read-only file system: choose another place"),
    ],
)
def test_an_error_of_the_file_system_that_can_be_mended_is_one_line(
    monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def fail(_: object) -> None:
        raise OSError(number, os.strerror(number), "out/fold.npz")

    monkeypatch.setattr("harstream.datasets.load", fail)
    done = CliRunner().invoke(main, ["data", "inspect", "csv:."])
    assert done.exit_code == 2
    assert done.output.startswith(message)
    assert done.output.count("\n") == 1


def test_an_interruption_anywhere_has_the_exit_code_that_shells_expect(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harstream.datasets.load", stop)
    done = CliRunner().invoke(main, ["data", "inspect", "csv:."])
    assert done.exit_code == 130
    assert done.output == "\nharstream: interrupted\n"
